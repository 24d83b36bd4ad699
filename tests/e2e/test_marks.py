"""Index and map of a large tree, and a manifest, are hashed once a boot: what
becomes of a mount when they change, and of the next one."""
import glob
import io
import os
import tarfile

import pytest

import tools
import trees

FILES = 6000  # makes both larger than what is hashed each time


@pytest.fixture(scope="module")
def large(registry, tmp_path_factory):
    """A zstd:chunked image of many small files."""
    from ocilayout import Layout, trim
    folder = tmp_path_factory.mktemp("large")
    with tarfile.open(folder / "layer.tar", "w") as tar:
        for k in range(FILES):
            m = tarfile.TarInfo(f"d{k % 20}/file-{k}")
            data = f"{k} {k * 7919}\n".encode() * 20
            m.size = len(data)
            tar.addfile(m, io.BytesIO(data))
    trim(folder / "layer.tar")
    Layout(folder / "oci").add_image("1", [folder / "layer.tar"])
    ref = f"{registry.host}/marks/large:1"
    tools.push_chunked(folder / "oci", ref)
    return ref


def only(cache, name):
    found = glob.glob(f"{cache}/images/*/*/{name}" if name.startswith(("index", "manifest"))
                      else f"{cache}/blobs/*/*/*/{name}")
    assert len(found) == 1, found
    return found[0]


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 0x40]))


def filled(cache, image, mnt):
    """All of it in the cache; gives the tree."""
    tools.mount(cache, image, mnt)
    tree = trees.scan(mnt)
    tools.sluice("fetch", "-q", "--wait", mnt)
    tools.umount(mnt)
    return tree


def test_marks_lie_beside_what_is_large(large, driver, cache, mnt):
    tree = filled(cache, large, mnt)
    marks = {name: os.stat(only(cache, name + ".seen")) for name in ("index", "map")}
    tools.mount(cache, large, mnt)
    assert trees.differences(trees.scan(mnt), tree) == []
    tools.umount(mnt)
    assert os.path.exists(only(cache, "manifest.seen"))
    for name, before in marks.items():
        now = os.stat(only(cache, name + ".seen"))
        assert (now.st_ino, now.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


@pytest.mark.parametrize("name", ["index", "map", "manifest"])
def test_a_flipped_bit_is_found_by_the_next_mount(large, name, driver, cache, mnt):
    tree = filled(cache, large, mnt)
    path = only(cache, name)
    flip(path, os.path.getsize(path) // 2)
    tools.mount(cache, large, mnt)
    assert trees.differences(trees.scan(mnt), tree) == []
    tools.umount(mnt)
    assert tools.sluice("check", "--cache", cache, large, check=False).returncode == 0


@pytest.mark.parametrize("name", ["index", "map"])
def test_a_forged_mark_hides_nothing_from_a_check(large, name, cache, mnt):
    filled(cache, large, mnt)
    path = only(cache, name)
    flip(path, os.path.getsize(path) // 2)
    with open(path + ".seen", "r+b") as f:
        f.truncate(100)
    assert tools.sluice("cache", "verify", "--cache", cache, check=False).returncode != 0


def test_a_map_that_is_cut_short_is_an_io_error(large, cache, mnt):
    tree = filled(cache, large, mnt)
    tools.mount(cache, large, mnt)
    pid = tools.pid_of(mnt)
    os.truncate(only(cache, "map"), 4096)
    with pytest.raises(OSError):
        for k in range(FILES):
            with open(f"{mnt}/d{k % 20}/file-{k}", "rb") as f:
                f.read()
    assert os.path.isdir(f"{mnt}/d7") and tools.pid_of(mnt) == pid
    tools.umount(mnt)
    tools.mount(cache, large, mnt)
    assert trees.differences(trees.scan(mnt), tree) == []
    tools.umount(mnt)
