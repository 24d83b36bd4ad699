"""Plain layers: read whole once, from then on like any other."""
import errno
import glob
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile

import pytest

import tools
import trees
from conftest import ROOT, SAMPLES
from test_erofs import devices, erofs_mount, index_of, kernel  # noqa: F401

sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from ocilayout import CONFIG, LAYER, MANIFEST, Layout  # noqa: E402

CHUNK = 1 << 20


@pytest.fixture(scope="session")
def plain(registry, samples, tmp_path_factory):
    """The edge image in every plain encoding; gives name -> reference."""
    refs = {"gzip": samples["edge-gzip"]}
    tars = layers_of(f"{SAMPLES}/oci/edge-gzip")
    for name, kind, blobs in (("tar", "", tars), ("zstd", "+zstd", [zstd(t) for t in tars])):
        layout = make_layout(tmp_path_factory.mktemp("plain") / name, blobs,
                             [diff_id(t) for t in tars], LAYER + kind)
        refs[name] = f"{registry.host}/edge/plain-{name}:1"
        tools.skopeo_copy(f"oci:{layout}", f"docker://{refs[name]}")
    return refs


def layers_of(layout):
    """The layers of a layout's only image, unpacked."""
    def blob(d):
        with open(f"{layout}/blobs/{d.replace(':', '/')}", "rb") as f:
            return f.read()
    with open(f"{layout}/index.json", encoding="utf-8") as f:
        manifest = json.loads(blob(json.load(f)["manifests"][0]["digest"]))
    return [gzip.decompress(blob(x["digest"])) for x in manifest["layers"]]


def make_layout(path, blobs, diff_ids=None, media_type=LAYER):
    """An image of these layer blobs; gives the layout's path."""
    layout = Layout(str(path))
    layers = []
    for data in blobs:
        digest, size = layout.add_bytes(data)
        layers.append({"mediaType": media_type, "digest": digest, "size": size})
    digest, size = layout.add_bytes(json.dumps({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers",
                   "diff_ids": diff_ids or [x["digest"] for x in layers]}}).encode())
    layout.add_manifest("1", {
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest, "size": size}, "layers": layers})
    return str(path)


def diff_id(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def noisy_tar(files=8, size=CHUNK):
    """A tar whose data does not pack well; and name -> contents."""
    out, contents = io.BytesIO(), {}
    with tarfile.open(fileobj=out, mode="w") as tar:
        for i in range(files):
            data = bytearray(os.urandom(size // 2) + bytes(range(256)) * (size // 512))
            info = tarfile.TarInfo(f"data/file{i}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            contents[f"data/file{i}"] = bytes(data)
    return out.getvalue(), contents


def packed_image(path, tar, packed, kind):
    return make_layout(path, [packed], [diff_id(tar)], LAYER + kind)


def zstd(data, *args):
    return subprocess.run(["zstd", "-q", "-c", *args], input=data, check=True,
                          capture_output=True).stdout


def without_root(tree):
    return {k: v for k, v in tree.items() if k != b""}


def read_all(mnt, contents):
    for name, data in contents.items():
        with open(f"{mnt}/{name}", "rb") as f:
            assert f.read() == data


def evict(cache):
    """Cut every data file: what it held must be fetched again."""
    for path in glob.glob(f"{cache}/blobs/*/*/*/data"):
        os.truncate(path, 0)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "tar"])
def test_plain_image_equals_what_umoci_unpacks(kind, engine, plain, edge_truth, cache, mnt):
    tools.mount(cache, plain[kind], mnt, "-q", "--io-backend", engine)
    got = trees.scan(mnt)
    assert trees.differences(without_root(got), without_root(edge_truth)) == []
    s = tools.status(mnt)
    assert not s["read_errors"] and s["complete"] is True
    assert {b["format"] for b in s["blobs"]} == {"tar" if kind == "tar" else f"tar+{kind}"}
    # One zstd frame of 184 MiB has no places of entry, smaller ones have.
    assert [b["lazy"] for b in s["blobs"]] == [kind != "zstd", True, True]
    assert all(b["lazy"] == ("read whole once" in b["why"]) for b in s["blobs"])
    tools.umount(mnt)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "tar"])
def test_remount_fetches_nothing(kind, plain, cache, mnt):
    tools.mount(cache, plain[kind], mnt)
    before = trees.scan(mnt)
    digest = tools.status(mnt)["digest"]
    tools.umount(mnt)
    p = tools.mount(cache, plain[kind].rsplit(":", 1)[0] + "@" + digest, mnt)
    assert p.stderr == ""
    assert trees.differences(trees.scan(mnt), before) == []
    s = tools.status(mnt)
    assert s["bytes_fetched"] == 0 and s["requests_http"] == 0
    tools.umount(mnt)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "tar"])
def test_what_left_the_cache_is_fetched_again(kind, engine, plain, cache, mnt):
    tools.mount(cache, plain[kind], mnt)
    before = trees.scan(mnt)
    tools.umount(mnt)
    evict(cache)
    p = tools.mount(cache, plain[kind], mnt, "--io-backend", engine)
    # What has no places of entry is read whole again, before the mount.
    assert len(p.stderr.splitlines()) == (1 if kind == "zstd" else 0), p.stderr
    assert trees.differences(trees.scan(mnt), before) == []
    s = tools.status(mnt)
    assert s["read_errors"] == 0 and s["verify_failures"] == 0 and s["bytes_fetched"] > 0
    tools.umount(mnt)


def test_what_cannot_be_fetched_alone_is_an_io_error(plain, cache, mnt):
    tools.mount(cache, plain["zstd"], mnt)
    files = [n for n, e in trees.scan(mnt).items() if e.get("size", 0) > 0 and "sha256" in e]
    tools.umount(mnt)
    tools.mount(cache, plain["zstd"], mnt)
    evict(cache)
    failed = 0
    for name in files:
        try:
            trees.digest(os.path.join(os.fsencode(mnt), name))
        except OSError as e:
            assert e.errno == errno.EIO
            failed += 1
    assert failed > 0
    tools.umount(mnt)
    # The next mount mends it.
    tools.mount(cache, plain["zstd"], mnt)
    assert len(trees.scan(mnt)) > 300
    assert tools.status(mnt)["read_errors"] == 0
    tools.umount(mnt)


def test_other_image_finds_the_layer_known(plain, samples, cache, mnt, registry):
    tools.mount(cache, plain["gzip"], mnt)
    tools.umount(mnt)
    other = f"{registry.host}/edge/again:1"
    tools.skopeo_copy(f"docker://{plain['gzip']}", f"docker://{other}")
    for record in glob.glob(f"{cache}/images/*/*/image.json"):
        os.unlink(record)
    p = tools.mount(cache, other, mnt)
    assert p.stderr == ""
    # what came with the new tag, and nothing of a layer
    manifest, = glob.glob(f"{cache}/images/*/*/manifest")
    assert tools.status(mnt)["bytes_fetched"] == os.path.getsize(manifest)
    tools.umount(mnt)


def test_one_line_per_layer_unless_quiet(plain, tmp_path, mnt):
    for name, args, lines in (("a", [], 3), ("b", ["-q"], 0)):
        (tmp_path / name).mkdir(mode=0o700)
        p = tools.mount(tmp_path / name, plain["gzip"], mnt, *args)
        assert len(p.stderr.splitlines()) == lines
        assert all("reading layer" in x for x in p.stderr.splitlines())
        tools.umount(mnt)


def test_inspect_tells_before_and_after(plain, cache, mnt):
    def layers():
        out = tools.sluice("inspect", "--json", "--cache", cache, plain["gzip"]).stdout
        return json.loads(out)["layers"]
    before = layers()
    assert [x["lazy"] for x in before] == [False] * 3
    assert all("before its first mount" in x["why"] and x["entries"] is None for x in before)
    tools.mount(cache, plain["gzip"], mnt)
    tools.umount(mnt)
    after = layers()
    assert [x["lazy"] for x in after] == [True] * 3
    assert all("read whole once" in x["why"] and x["entries"] > 0 for x in after)


@pytest.mark.parametrize("sample,kind", [("edge-gzip", "gzip"), ("edge-gzip", "tar")])
def test_kernel_shows_our_index_over_the_tar(
        sample, kind, plain, cache, mnt, kernel, edge_truth):  # noqa: F811
    tools.mount(cache, plain[kind], mnt)
    tree = trees.scan(mnt)
    s = tools.status(mnt)
    tools.umount(mnt)
    erofs_mount(index_of(cache, s["digest"]), devices(cache, [b["digest"] for b in s["blobs"]]),
                kernel)
    shown = trees.scan(kernel)
    assert trees.differences(shown, tree) == []
    assert trees.differences(without_root(shown), without_root(edge_truth)) == []


# ---- packings that tools make ----

def members(tar):
    """gzip with many members, names in some headers, zeros behind."""
    out = b""
    for i in range(0, len(tar), 700_001):
        buf = io.BytesIO()
        with gzip.GzipFile(filename="part" if i else "", mode="wb", fileobj=buf) as f:
            f.write(tar[i:i + 700_001])
        out += buf.getvalue()
    return out + b"\0" * 512


PACKINGS = {
    "gzip": ("+gzip", gzip.compress),
    "members": ("+gzip", members),
    "frames": ("+zstd", lambda tar: b"".join(
        zstd(tar[i:i + 900_001]) for i in range(0, len(tar), 900_001))),
    "skippable": ("+zstd", lambda tar: zstd(tar[:CHUNK]) + b"\x50\x2a\x4d\x18\4\0\0\0abcd" +
                  zstd(tar[CHUNK:]) + b"\x5e\x2a\x4d\x18\0\0\0\0"),
    "one-frame": ("+zstd", lambda tar: zstd(tar, "--long=25")),
    "mislabelled": ("", gzip.compress),
}


@pytest.mark.parametrize("name", PACKINGS)
def test_every_packing_is_read_and_refetched(name, cache, mnt, tmp_path):
    kind, pack = PACKINGS[name]
    tar, contents = noisy_tar()
    ref = f"oci:{packed_image(tmp_path / 'image', tar, pack(tar), kind)}:1"
    tools.mount(cache, ref, mnt, "-q")
    read_all(mnt, contents)
    tools.umount(mnt)
    evict(cache)
    tools.mount(cache, ref, mnt, "-q")
    read_all(mnt, contents)
    assert tools.status(mnt)["verify_failures"] == 0
    tools.umount(mnt)


def test_docker_media_type_and_layers_of_both_kinds(cache, mnt, tmp_path):
    """One image, a tar.gz as Docker names it above a zstd:chunked layer."""
    layout = tools.copy_tree(f"{SAMPLES}/oci/edge-zstdchunked", tmp_path / "mixed")
    with open(layout / "index.json", encoding="utf-8") as f:
        index = json.load(f)
    def path(d):
        return layout / "blobs" / d.replace(":", "/")
    manifest = json.loads(path(index["manifests"][0]["digest"]).read_bytes())
    config = json.loads(path(manifest["config"]["digest"]).read_bytes())
    tar, contents = noisy_tar(2)
    new = Layout(str(tmp_path / "new"))
    for layer in manifest["layers"]:
        new.add_bytes(path(layer["digest"]).read_bytes())
    digest, size = new.add_bytes(gzip.compress(tar))
    manifest["layers"].append({
        "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "digest": digest, "size": size})
    config["rootfs"]["diff_ids"].append(diff_id(tar))
    digest, size = new.add_bytes(json.dumps(config).encode())
    manifest["config"] = {"mediaType": CONFIG, "digest": digest, "size": size}
    manifest["mediaType"] = MANIFEST
    new.add_manifest("1", manifest)
    tools.mount(cache, f"oci:{tmp_path / 'new'}:1", mnt, "-q")
    read_all(mnt, contents)
    s = tools.status(mnt)
    assert {b["format"] for b in s["blobs"]} == {"zstd:chunked", "tar+gzip"}
    assert len(trees.scan(mnt)) > 300
    assert tools.status(mnt)["read_errors"] == 0
    tools.umount(mnt)


def test_image_without_layers_is_an_empty_root(engine, cache, mnt, tmp_path):
    ref = f"oci:{make_layout(tmp_path / 'image', [])}:1"
    for _ in range(2):
        tools.mount(cache, ref, mnt, "--io-backend", engine)
        assert os.listdir(mnt) == [] and os.stat(mnt).st_mode == 0o40755
        s = tools.status(mnt)
        assert s["blobs"] == [] and s["complete"] is True and s["bytes_total"] == 0
        tools.umount(mnt)
    p = tools.sluice("inspect", "--json", "--cache", cache, ref)
    assert json.loads(p.stdout)["layers"] == []


# ---- what is refused ----

def refuse(image, cache, mnt, code=5):
    p = tools.sluice("mount", "-q", "--cache", cache, image, mnt, check=False)
    line = tools.one_sentence(p, code)
    assert not glob.glob(f"{cache}/blobs/*/*/*/data") and not glob.glob(f"{cache}/layers/*/*/*/*")
    assert not glob.glob(f"{cache}/tmp/*")
    return line


def test_wrong_diff_id_is_refused(cache, mnt, tmp_path):
    tar, _ = noisy_tar(2)
    blob = gzip.compress(tar)
    layout = make_layout(tmp_path / "i", [blob], [diff_id(b"other")], LAYER + "+gzip")
    line = refuse(f"oci:{layout}:1", cache, mnt)
    assert "DiffID" in line and diff_id(blob) in line


def test_wrong_diff_id_of_a_known_layer_is_refused(cache, mnt, tmp_path):
    tar, _ = noisy_tar(2)
    blob = gzip.compress(tar)
    good = make_layout(tmp_path / "good", [blob], [diff_id(tar)], LAYER + "+gzip")
    tools.mount(cache, f"oci:{good}:1", mnt, "-q")
    tools.umount(mnt)
    bad = make_layout(tmp_path / "bad", [blob], [diff_id(b"other")], LAYER + "+gzip")
    p = tools.sluice("mount", "-q", "--cache", cache, f"oci:{bad}:1", mnt, check=False)
    assert "DiffID" in tools.one_sentence(p, 5)


@pytest.mark.parametrize("change", ["byte", "crc", "cut", "tail"])
def test_wrong_bytes_are_refused(change, cache, mnt, tmp_path):
    tar, _ = noisy_tar(2)
    blob = bytearray(gzip.compress(tar))
    layout = make_layout(tmp_path / "i", [bytes(blob)], [diff_id(tar)], LAYER + "+gzip")
    name = glob.glob(f"{layout}/blobs/sha256/{hashlib.sha256(blob).hexdigest()}")[0]
    if change == "byte":
        blob[len(blob) // 2] ^= 1
    elif change == "tail":
        blob[-1] ^= 1
    with open(name, "wb") as f:
        f.write(blob)
    if change in ("byte", "tail"):
        assert "its digest" in refuse(f"oci:{layout}:1", cache, mnt)
        return
    # The same with a digest that is right: then the packing itself is wrong.
    if change == "crc":
        blob[-6] ^= 1
    else:
        del blob[len(blob) // 2:]
    layout = make_layout(tmp_path / "j", [bytes(blob)], [diff_id(tar)], LAYER + "+gzip")
    assert "gzip" in (line := refuse(f"oci:{layout}:1", cache, mnt)) or "cut short" in line


def test_tar_that_climbs_is_refused(cache, mnt, tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a/../../etc/passwd"))
    tar = out.getvalue()
    layout = make_layout(tmp_path / "i", [gzip.compress(tar)], [diff_id(tar)], LAYER + "+gzip")
    assert "'..'" in refuse(f"oci:{layout}:1", cache, mnt)
