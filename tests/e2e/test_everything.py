"""One image with everything: ten layers, each packed in another way, equal to what
umoci unpacks of the same layers as gzip. The eStargz layer is self-made, the
zstd:chunked one is skopeo's."""
import gzip
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile

import pytest

import tools
import trees
from conftest import ROOT
from test_tar import evict, without_root, zstd

sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
import estargz  # noqa: E402
from ocilayout import CONFIG, LAYER, MANIFEST, Layout, trim  # noqa: E402
from test_tar import diff_id  # noqa: E402

WHOLE = 1_700_000_000
FRACTION = 1_600_000_000.25
XATTR = "SCHILY.xattr."


class Tar:
    """A layer being written; attributes by name."""

    def __init__(self, mtime=FRACTION):
        self.out = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.out, mode="w", format=tarfile.PAX_FORMAT)
        self.mtime = mtime

    def add(self, name, kind, data=None, mode=0o644, xattrs=None, **kw):
        m = tarfile.TarInfo(name)
        m.type, m.mode, m.mtime = kind, mode, self.mtime
        for key, value in kw.items():
            setattr(m, key, value)
        if xattrs:
            m.pax_headers = {XATTR + k: v for k, v in xattrs.items()}
        if data is not None:
            m.size = len(data)
        self.tar.addfile(m, io.BytesIO(data) if data is not None else None)

    def file(self, name, data=b"", **kw):
        self.add(name, tarfile.REGTYPE, data, **kw)

    def dir(self, name, **kw):
        self.add(name, tarfile.DIRTYPE, mode=kw.pop("mode", 0o755), **kw)

    def link(self, name, to):
        self.add(name, tarfile.LNKTYPE, linkname=to)

    def symlink(self, name, to):
        self.add(name, tarfile.SYMTYPE, linkname=to, mode=0o777)

    def whiteout(self, path):
        head, name = os.path.split(path)
        self.file(os.path.join(head, ".wh." + name))

    def opaque(self, path):
        self.file(path + "/.wh..wh..opq")

    def finish(self):
        self.tar.close()
        return self.out.getvalue()


def noise(n, seed):
    """n bytes that pack a little."""
    out = bytearray()
    state = seed
    while len(out) < n:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out += (state >> 33).to_bytes(4, "little") + b"abcd"
    return bytes(out[:n])


def with_gnu_sparse(tar):
    """The tar with a file of holes behind its entries, as GNU tar writes it."""
    folder = os.path.join("/tmp", f"sparse-{os.getpid()}")
    os.mkdir(folder)
    try:
        with open(f"{folder}/holes", "wb") as f:
            for at in (0, 1 << 20, 5 << 20):
                f.seek(at)
                f.write(noise(8192, at + 1))
            f.truncate(9 << 20)
        os.utime(f"{folder}/holes", (WHOLE, WHOLE))
        more = subprocess.run(["tar", "--sparse", "--format=posix", "--owner=0", "--group=0",
                               "--numeric-owner", "--pax-option=delete=atime,delete=ctime",
                               "-cf-", "-C", folder, "holes"],
                              check=True, capture_output=True).stdout
    finally:
        shutil.rmtree(folder)
    with tarfile.open(fileobj=io.BytesIO(tar)) as t:
        end = max(m.offset_data + (m.size + 511) // 512 * 512 if m.isreg() else m.offset_data
                  for m in t)
    return tar[:end] + more


LONG = "n" * 255
DEEP = "/".join(["deep" * 20] * 5)


def base():
    t = Tar()
    for d in ("bin", "etc", "gone", "hidden", "hidden/sub", "kept", "types", "types/dir",
              "types/dir/in", "links", "dev"):
        t.dir(d)
    t.file("bin/tool", noise(3 << 20, 1), mode=0o4755)
    t.file("etc/conf", b"one\n", uid=1000, gid=3_000_000)
    t.file("gone/a", b"a")
    t.file("gone/b", b"b")
    t.file("hidden/old", b"old")
    t.file("hidden/sub/older", b"older")
    t.file("kept/x", b"", xattrs={"user.note": "hello", "user.long": "v" * 3000})
    t.file("types/file", b"a file")
    t.file("types/dir/in/it", b"deep")
    t.symlink("types/link", "file")
    t.file("links/target", noise(70000, 2))
    t.link("links/second", "links/target")
    t.add("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    t.add("dev/loop9", tarfile.BLKTYPE, devmajor=7, devminor=9, mode=0o660)
    t.add("dev/pipe", tarfile.FIFOTYPE, mode=0o600)
    t.file(DEEP + "/" + LONG, b"long")
    t.symlink("links/far", "x" * 4000)
    return t.finish()


def hides():
    t = Tar()
    t.whiteout("gone/a")
    t.dir("hidden")
    t.opaque("hidden")
    t.file("hidden/new", noise(100_000, 3))
    t.whiteout("bin/no-such-thing")
    return t.finish()


def types():
    t = Tar(WHOLE)
    t.dir("types")
    t.dir("types/file")
    t.file("types/file/now", b"a directory")
    t.file("types/dir", b"was a directory")
    t.dir("types/link")
    t.file("types/link/was", noise(2_000_000, 4))
    return t.finish()


def across():
    t = Tar()
    t.link("links/third", "links/target")
    t.file("bin/other", noise(5 << 20, 5))
    t.link("bin/same", "bin/other")
    return t.finish()


def attributes():
    t = Tar()
    t.dir("kept", mode=0o1777, uid=5, gid=6, xattrs={"user.dir": "d"})
    t.file("kept/x", b"now with data", xattrs={"user.other": "o"})
    t.file("seek/able", noise(6 << 20, 6))
    return t.finish()


def chunked():
    t = Tar()
    t.dir("lazy")
    t.file("lazy/big", noise(2 << 20, 7))
    t.file("lazy/empty")
    t.link("lazy/hard", "lazy/big")
    t.symlink("lazy/soft", "../etc/conf")
    t.whiteout("links/second")
    t.file("lazy/attr", b"z", xattrs={"user.z": "zz"}, mode=0o2711)
    t.file("etc/conf", b"two\n")
    return t.finish()


def stargz():
    t = Tar(WHOLE)
    t.dir("star", mode=0o700)
    t.file("star/big", noise(300_000, 8), uid=7)
    t.file("star/small", b"s", xattrs={"user.s": "ss"})
    t.link("star/hard", "star/big")
    t.symlink("star/soft", "big")
    t.add("star/null", tarfile.CHRTYPE, devmajor=1, devminor=3)
    t.whiteout("gone")
    t.dir("hidden")
    t.opaque("hidden")
    t.file("hidden/newest", b"n")
    return t.finish()


def nothing():
    return Tar().finish()


def last():
    t = Tar()
    t.dir("gone", mode=0o711)
    t.file("gone/back", b"again")
    t.link("gone/linked", "star/big")
    t.whiteout("lazy/soft")
    return with_gnu_sparse(t.finish()) + bytes(10240)


def seekable(tar, frame=1 << 20):
    """zstd's seekable format: frames, and their sizes in a skippable one."""
    frames = [zstd(tar[i:i + frame]) for i in range(0, len(tar), frame)]
    table = b"".join(len(f).to_bytes(4, "little") +
                     len(tar[i * frame:(i + 1) * frame]).to_bytes(4, "little")
                     for i, f in enumerate(frames))
    table += len(frames).to_bytes(4, "little") + b"\0" + (0x8F92EAB1).to_bytes(4, "little")
    return b"".join(frames) + b"\x5e\x2a\x4d\x18" + len(table).to_bytes(4, "little") + table


def frames(tar):
    return b"".join(zstd(tar[i:i + 1_500_001]) for i in range(0, len(tar), 1_500_001))


class Packed:
    """A layer as it lies in the image: blob, media type, annotations, its tar."""

    def __init__(self, tar, kind="", pack=lambda t: t, annotations=None):
        self.tar, self.blob = tar, pack(tar)
        self.media_type, self.annotations = LAYER + kind, annotations


def by_skopeo(folder, tar):
    """The zstd:chunked layer that skopeo makes of it."""
    os.makedirs(folder)
    path = os.path.join(folder, "layer.tar")
    with open(path, "wb") as f:
        f.write(tar)
    trim(path)
    with open(path, "rb") as f:
        tar = f.read()
    Layout(f"{folder}/in").add_image("1", [path])
    subprocess.run(["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-compress-format",
                    "zstd:chunked", f"oci:{folder}/in:1", f"oci:{folder}/out:1"], check=True)

    def blob(d):
        with open(f"{folder}/out/blobs/{d.replace(':', '/')}", "rb") as f:
            return f.read()
    with open(f"{folder}/out/index.json", encoding="utf-8") as f:
        layer = json.loads(blob(json.load(f)["manifests"][0]["digest"]))["layers"][0]
    p = Packed(tar, "+zstd", lambda _: blob(layer["digest"]), layer["annotations"])
    assert any("zstd-chunked" in k for k in p.annotations)
    return p


def by_estargz(tar):
    blob, tar, toc = estargz.convert(tar)
    return Packed(tar, "+gzip", lambda _: blob, {estargz.TOC_DIGEST: toc})


def write_image(path, layers, media_type=None):
    """The image of these layers; its layout's path."""
    layout, descs = Layout(str(path)), []
    for p in layers:
        digest, size = layout.add_bytes(p.blob)
        descs.append({"mediaType": p.media_type, "digest": digest, "size": size})
        if p.annotations:
            descs[-1]["annotations"] = p.annotations
    digest, size = layout.add_bytes(json.dumps({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id(p.tar) for p in layers]}}).encode())
    layout.add_manifest("1", {
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest, "size": size}, "layers": descs})
    return str(path)


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("everything")
    gz = Packed(hides(), "+gzip", gzip.compress)
    return [
        Packed(base()),
        gz,
        Packed(types(), "+zstd", lambda t: zstd(t, "--long=25")),
        Packed(across(), "+zstd", frames),
        Packed(attributes(), "+zstd", seekable),
        by_skopeo(f"{folder}/chunked", chunked()),
        by_estargz(stargz()),
        Packed(nothing(), "+gzip", gzip.compress),
        gz,
        Packed(last(), "+gzip", gzip.compress),
    ]


@pytest.fixture(scope="module")
def truth(layers, tmp_path_factory):
    """What umoci unpacks of the same tars, each as gzip."""
    folder = tmp_path_factory.mktemp("truth")
    plain = [Packed(p.tar, "+gzip", gzip.compress) for p in layers]
    layout = write_image(folder / "image", plain)
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:1", str(folder / "b")],
                   check=True, capture_output=True)
    tree = trees.scan(folder / "b" / "rootfs")
    shutil.rmtree(folder)
    return tree


@pytest.fixture(scope="module")
def ref(layers, registry, tmp_path_factory):
    layout = write_image(tmp_path_factory.mktemp("image") / "image", layers)
    name = f"{registry.host}/everything:1"
    tools.skopeo_copy(f"oci:{layout}", f"docker://{name}")
    return name


def differences(got, want):
    """Without what eStargz carries for itself. Directories that no layer has get
    from umoci the time of unpacking."""
    def ignore(_name, key, g, w):
        return key == "mtime" and g == 0 and w > (WHOLE + 10**7) * 10**9
    ours = (estargz.LANDMARK.encode(), estargz.TOC_NAME.encode())
    return trees.differences(without_root(got), {k: v for k, v in without_root(want).items()
                                                 if k not in ours}, ignore)


FORMATS = {"tar", "tar+gzip", "tar+zstd", "zstd:chunked", "estargz"}


def test_the_image_has_what_it_says(truth):
    """The judge judges something: umoci's tree is the one meant here."""
    assert b"gone/a" not in truth and b"hidden/old" not in truth
    assert stat.S_ISREG(truth[b"types/dir"]["mode"]) and b"types/link/was" in truth
    assert truth[b"links/third"]["nlink"] == 2
    assert truth[b"holes"]["size"] == 9 << 20 and len(truth) > 45


def test_ten_layers_equal_what_umoci_unpacks(engine, ref, truth, cache, mnt):
    tools.mount(cache, ref, mnt, "-q", "--io-backend", engine)
    assert differences(trees.scan(mnt), truth) == []
    s = tools.status(mnt)
    assert {b["format"] for b in s["blobs"]} == FORMATS
    # ten layers, one of them twice, one empty
    assert len(s["blobs"]) == 8 and not s["read_errors"] and not s["verify_failures"]
    tools.umount(mnt)
    # from the cache, and after it was lost
    for lose in (False, True):
        if lose:
            evict(cache)
        tools.mount(cache, ref, mnt, "-q", "--io-backend", engine)
        assert differences(trees.scan(mnt), truth) == []
        assert lose or (tools.status(mnt)["bytes_fetched"] or 0) < 10_000
        tools.umount(mnt)


@pytest.mark.parametrize("order", ["reversed", "rotated"])
def test_layers_in_other_orders_too(order, layers, cache, mnt, tmp_path):
    """What stands above what is another image; umoci still agrees."""
    mixed = layers[::-1] if order == "reversed" else layers[5:] + layers[:5]
    # links to what is not there yet are no image
    mixed = [p for p in mixed if p is not layers[3] and p is not layers[9]]
    layout = write_image(tmp_path / "image", mixed)
    plain = write_image(tmp_path / "plain", [Packed(p.tar, "+gzip", gzip.compress)
                                             for p in mixed])
    subprocess.run(["umoci", "unpack", "--image", f"{plain}:1", str(tmp_path / "b")],
                   check=True, capture_output=True)
    tools.mount(cache, f"oci:{layout}:1", mnt, "-q")
    assert differences(trees.scan(mnt), trees.scan(tmp_path / "b" / "rootfs")) == []
    tools.umount(mnt)
