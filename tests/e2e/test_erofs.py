"""The kernel's EROFS and fsck.erofs judge our indexes and our cache files."""
import ctypes
import glob
import json
import os
import subprocess

import pytest

import tools
import trees
from conftest import SAMPLES

MS_RDONLY = 1
libc = ctypes.CDLL(None, use_errno=True)


def erofs_mount(image, devices, mnt):
    """mount(2) with files as devices; mount(8) would make a loop device."""
    options = ",".join(f"device={d}" for d in devices)
    if libc.mount(os.fsencode(image), os.fsencode(str(mnt)), b"erofs", MS_RDONLY,
                  os.fsencode(options)) != 0:
        raise OSError(ctypes.get_errno(), f"mount {image}: {os.strerror(ctypes.get_errno())}")


@pytest.fixture
def kernel(tmp_path):
    path = tmp_path / "kernel"
    path.mkdir()
    yield path
    subprocess.run(["umount", "-l", path], capture_output=True, check=False)


def devices(cache, digests):
    """The cache files of these blobs, in slot order."""
    out = []
    for d in digests:
        found = glob.glob(f"{cache}/blobs/{d.replace(':', '/')}/*/data")
        assert len(found) == 1
        out.append(found[0])
    return out


def fsck(index, files):
    """fsck.erofs accepts the index over these devices."""
    p = subprocess.run(["fsck.erofs", *(f"--device={f}" for f in files), index],
                       capture_output=True, text=True, check=False)
    assert p.returncode == 0, p.stdout + p.stderr


def fill(cache, image, mnt, *args):
    """Mount, read everything, unmount; gives the tree and the blobs' digests."""
    tools.mount(cache, image, mnt, *args)
    tree = trees.scan(mnt)
    # What was read is stored beside the replies.
    tools.wait_for(lambda: tools.status(mnt)["complete"], "the cache is not filled")
    status = tools.status(mnt)
    tools.umount(mnt)
    return tree, [b["digest"] for b in status["blobs"]], status["digest"]


def index_of(cache, digest):
    return f"{cache}/images/{digest.replace(':', '/')}/index"


@pytest.mark.parametrize("sample", ["edge-zstdchunked", "edge-estargz"])
def test_kernel_shows_our_index_and_cache_files(sample, samples, cache, mnt, kernel):
    tree, digests, image = fill(cache, samples[sample], mnt)
    index = index_of(cache, image)
    fsck(index, devices(cache, digests))
    erofs_mount(index, devices(cache, digests), kernel)
    assert trees.differences(trees.scan(kernel), tree) == []


@pytest.mark.parametrize("sample", ["v6-zstd", "v6-lz4", "v6-none", "v6-zstd-64k", "v6-dict"])
def test_kernel_shows_the_original_bootstrap_over_our_cache_files(
        sample, rafs_truth, cache, mnt, kernel, tmp_path):
    bootstrap = f"{SAMPLES}/rafs/{sample}/bootstrap"
    tree, digests, image = fill(cache, bootstrap, mnt)
    index = index_of(cache, image)
    fsck(index, devices(cache, digests))
    erofs_mount(index, devices(cache, digests), kernel)
    assert trees.differences(trees.scan(kernel), tree) == []
    subprocess.run(["umount", kernel], check=True)
    erofs_mount(bootstrap, devices(cache, digests), kernel)

    def ignore(name, key, got, want):
        # The kernel takes RAFS' own device numbers and directory sizes as is.
        return name == b"" and key == "mtime"

    assert trees.differences(trees.scan(kernel), tree, ignore) == []


def test_index_is_deterministic(samples, tmp_path, mnt):
    seen = set()
    for name in ("a", "b"):
        cache = tmp_path / name
        cache.mkdir(mode=0o700)
        tools.mount(cache, samples["edge-zstdchunked"], mnt)
        digest = tools.status(mnt)["digest"]
        tools.umount(mnt)
        seen.add(open(index_of(cache, digest), "rb").read())
    assert len(seen) == 1
    assert json.dumps(digest)
