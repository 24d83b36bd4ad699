"""Write OCI layouts (image spec: image-layout.md) from layer tars."""
import hashlib
import json
import os
import shutil
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def trim(path):
    """Cut the padding behind the archive's end to the two blocks that end it.

    tarfile fills up to 10240 bytes; skopeo's zstd:chunked writer stops reading
    at the end of the archive and takes the rest for a short write.
    """
    with tarfile.open(path) as tar:
        end = max(m.offset_data + (m.size + 511) // 512 * 512 if m.isreg()
                  else m.offset_data for m in tar)
    os.truncate(path, end + 1024)


class Layout:
    """A layout at path; files go in by content."""

    def __init__(self, path):
        self.path = path
        self.manifests = []
        os.makedirs(os.path.join(path, "blobs", "sha256"), exist_ok=True)

    def add_bytes(self, data):
        """Store data; give (digest, size)."""
        name = hashlib.sha256(data).hexdigest()
        with open(os.path.join(self.path, "blobs", "sha256", name), "wb") as f:
            f.write(data)
        return "sha256:" + name, len(data)

    def add_file(self, path):
        """Move a file in; give (digest, size)."""
        h = hashlib.sha256()
        with open(path, "rb") as f:
            while block := f.read(1 << 20):
                h.update(block)
        name = h.hexdigest()
        size = os.path.getsize(path)
        shutil.move(path, os.path.join(self.path, "blobs", "sha256", name))
        return "sha256:" + name, size

    def add_image(self, tag, layer_tars, command=("/bin/sh",)):
        """An image of uncompressed layers, which are moved in."""
        layers, diff_ids = [], []
        for tar in layer_tars:
            digest, size = self.add_file(tar)
            layers.append({"mediaType": LAYER, "digest": digest, "size": size})
            diff_ids.append(digest)
        config = json.dumps({
            "architecture": "amd64", "os": "linux",
            "config": {"Cmd": list(command)},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }).encode()
        digest, size = self.add_bytes(config)
        return self.add_manifest(tag, {
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest, "size": size},
            "layers": layers,
        })

    def add_manifest(self, tag, manifest):
        """Store a manifest and name it; give its digest."""
        digest, size = self.add_bytes(json.dumps(manifest).encode())
        self.manifests.append({
            "mediaType": manifest["mediaType"], "digest": digest, "size": size,
            "annotations": {"org.opencontainers.image.ref.name": tag},
        })
        self.write_index()
        return digest

    def write_index(self):
        with open(os.path.join(self.path, "oci-layout"), "w") as f:
            json.dump({"imageLayoutVersion": "1.0.0"}, f)
        with open(os.path.join(self.path, "index.json"), "w") as f:
            json.dump({"schemaVersion": 2, "manifests": self.manifests}, f)
