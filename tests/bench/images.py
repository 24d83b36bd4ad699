"""The trees as images: files for the kernel and squashfuse, and what a registry
has: RAFS v6 (zstd, 1 MiB chunks) as Nydus makes it, and zstd:chunked."""
import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path += [os.path.join(os.path.dirname(HERE), "e2e"), os.path.join(os.path.dirname(HERE), "lib")]
import tools  # noqa: E402
from ocilayout import Layout, MANIFEST, CONFIG  # noqa: E402

NYDUS = "containerd.io/snapshot/nydus-"
RAFS, CHUNKED = "rafs", "zstd:chunked"


def run(*words, **kw):
    subprocess.run(list(map(str, words)), check=True, stdout=subprocess.DEVNULL, **kw)


def once(path, make):
    """make(a temporary name) unless path is there."""
    if not os.path.exists(path):
        print("making", path, file=sys.stderr)
        part = path + ".part"
        shutil.rmtree(part, ignore_errors=True)
        make(part)
        os.rename(part, path)
    return path


class Registry(tools.Registry):
    """docker-registry that writes no line for a request."""

    def command(self):
        words = super().command()
        with open(words[-1], "r+", encoding="utf-8") as f:
            text = f.read().replace("{level: info}", "{level: error, accesslog: {disabled: true}}")
            f.seek(0)
            f.write(text)
        return words


class Images:
    """All that is made of the trees in folder."""

    def __init__(self, folder, notes):
        self.folder = folder
        self.notes = notes
        self.tree = os.path.join(folder, "trees", "image")
        self.registry = Registry(os.path.join(folder, "registry"))
        self.kinds = [CHUNKED]

    def path(self, name):
        return os.path.join(self.folder, name)

    def ref(self, kind, name="image"):
        return f"{self.registry.host}/bench/{name}:{kind.split(':')[-1]}"

    def bootstrap(self, name="image"):
        return self.path(f"{name}.rafs/boot")

    def make(self):
        """Everything that the tools of this machine can make."""
        if shutil.which("mkfs.erofs"):
            self.erofs = once(self.path("tree.erofs"),
                              lambda p: run("mkfs.erofs", p, self.tree,
                                            stderr=subprocess.DEVNULL))
        if shutil.which("mksquashfs"):
            self.squashfs = once(self.path("image.squashfs"),
                                 lambda p: run("mksquashfs", self.tree, p, "-comp", "zstd",
                                               "-Xcompression-level", "3",
                                               "-no-progress"))
        if shutil.which("nydus-image"):
            self.kinds.insert(0, RAFS)
        else:
            self.notes.append("rafs: left out: nydus-image not on PATH")
        for name in ("image", "python"):
            once(self.path(name + ".chunked"), lambda p, n=name: self.make_chunked(n, p))
            if RAFS in self.kinds:
                once(self.path(name + ".rafs"), lambda p, n=name: self.make_rafs(n, p))
                once(self.path(name + ".rafs.pushed"), lambda p, n=name: self.push_rafs(n, p))

    def make_chunked(self, name, mark):
        """One layer of the whole tree, compressed and pushed by skopeo."""
        layout, tar = self.path("layout.tmp"), self.path("layer.tmp")
        shutil.rmtree(layout, ignore_errors=True)
        # blocks of 512: skopeo stops reading at the archive's end
        run("tar", "-c", "-b1", "--sort=name", "--format=gnu", "--numeric-owner", "-f", tar,
            "-C", self.path("trees/" + name), ".")
        Layout(layout).add_image("1", [tar])
        run("skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false",
            "--dest-compress", "--dest-compress-format", "zstd:chunked",
            f"oci:{layout}:1", "docker://" + self.ref(CHUNKED, name))
        shutil.rmtree(layout)
        os.mkdir(mark)

    def make_rafs(self, name, out):
        os.makedirs(out + "/blobs")
        run("nydus-image", "create", "-B", out + "/boot", "-D", out + "/blobs",
            "--chunk-size", "0x100000", "--compressor", "zstd", "--log-level", "error",
            self.path("trees/" + name))

    def push_rafs(self, name, mark):
        """The blob that nydusd reads, and what makes it an image: the bootstrap
        as the last layer (Nydus, docs/nydus-image.md)."""
        repo, folder = "bench/" + name, self.path(name + ".rafs")
        layers = []
        for blob in sorted(os.listdir(folder + "/blobs")):
            path = os.path.join(folder, "blobs", blob)
            self.push(repo, "sha256:" + blob, path)
            layers.append({"mediaType": "application/vnd.oci.image.layer.nydus.blob.v1",
                           "digest": "sha256:" + blob, "size": os.path.getsize(path),
                           "annotations": {NYDUS + "blob": "true"}})
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as t:
            t.add(folder + "/boot", "image/image.boot")
        layers.append(self.push_bytes(
            repo, gzip.compress(tar.getvalue(), mtime=0),
            mediaType="application/vnd.oci.image.layer.v1.tar+gzip",
            annotations={NYDUS + "bootstrap": "true", NYDUS + "fs-version": "6"}))
        config = json.dumps({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [x["digest"] for x in layers]}}).encode()
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST,
                    "config": self.push_bytes(repo, config, mediaType=CONFIG), "layers": layers}
        self.request("PUT", f"/v2/{repo}/manifests/{RAFS}", json.dumps(manifest).encode(),
                     {"Content-Type": MANIFEST})
        os.mkdir(mark)

    def push_bytes(self, repo, data, **more):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.push(repo, digest, io.BytesIO(data), len(data))
        return {"digest": digest, "size": len(data), **more}

    def push(self, repo, digest, body, size=None):
        """One blob in one upload; body is a path or a file."""
        if isinstance(body, str):
            with open(body, "rb") as f:
                self.push(repo, digest, f, os.path.getsize(body))
            return
        to = urllib.parse.urlsplit(self.request("POST", f"/v2/{repo}/blobs/uploads/", b"", {}))
        query = to.query + ("&" if to.query else "") + "digest=" + digest
        self.request("PUT", f"{to.path}?{query}", body,
                     {"Content-Length": str(size), "Content-Type": "application/octet-stream"})

    def request(self, method, path, body, headers):
        """Gives the Location of the answer."""
        c = http.client.HTTPConnection(self.registry.host, timeout=300)
        c.request(method, path, body, headers)
        answer = c.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"registry: {method} {path}: {answer.status} {text[:200]!r}")
        c.close()
        return answer.getheader("Location")
