"""Data files of the Nydus project (tests/texture), which are not ours to copy.

They are looked for in the folder that SLUICE_UPSTREAM_SAMPLES names; what they
hold was read out of them by other means.
"""
import os
import struct

import pytest

import tools

import rafs_hostile

FOLDER = os.environ.get("SLUICE_UPSTREAM_SAMPLES", "")
BOOTSTRAP = "rafs-v6-2.2.boot"
INLINE = "2fa78cad554b75ac91a4a125ed148d0ddeb25efa4aaa8bd80e5dc292690a4dca"
ZRAN = "233c72f2b6b698c07021c4da367cfe2dff4f049efbaa885ca0ff760ea297865a.blob.meta"

pytestmark = pytest.mark.skipif(not os.path.exists(os.path.join(FOLDER, ZRAN)),
                                reason="SLUICE_UPSTREAM_SAMPLES names no folder with them")


@pytest.mark.parametrize("name,files", [
    (BOOTSTRAP, {"lib.rs": 16931, "sync_io.rs": 13400}),
    (INLINE, {"error.rs": 2816, "lib.rs": 678, "logger.rs": 3115}),
])
def test_files_of_upstream_are_shown(name, files, cache, mnt):
    """Every read is checked against the digests in the bootstrap."""
    tools.mount(cache, os.path.join(FOLDER, name), mnt, "--blobs", FOLDER)
    assert {f: len((mnt / f).read_bytes()) for f in os.listdir(mnt)} == files
    if name == BOOTSTRAP:
        assert int(os.stat(mnt / "lib.rs").st_mtime) == 1676819553
    tools.umount(mnt)


def bootstrap_over(ci_len, chunks):
    """A bootstrap in a blob with that table of 163 chunks; a file of the first one."""
    B = rafs_hostile.B
    b = rafs_hostile.v6(0x5000001F, 2, 0, b"", ())
    e, file = B, B + 136 * 32
    b[e:e + 64] = b[1408:1472] = b"ab" * 32
    for at, v in ((1152 + 20, 1 << 20), (e + 68, 1 << 20), (e + 72, 163)):
        struct.pack_into("<I", b, at, v)
    for at, v in ((e + 96, 1 << 30), (e + 120, ci_len), (e + 128, ci_len),
                  (file + 8, chunks[0][1]), (1152 + 32, 80 * len(chunks))):
        struct.pack_into("<Q", b, at, v)
    for n, (off, size) in enumerate(chunks):
        at = 3 * B + 80 * n
        b[at:at + 80] = rafs_hostile.record(bytes(size), n, off)
    return bytes(b)


def test_zran_table_of_upstream_is_read(cache, mnt, tmp_path):
    with open(os.path.join(FOLDER, ZRAN), "rb") as f:
        meta = f.read()
    ci_len, = struct.unpack_from("<Q", meta, len(meta) - 4096 + 24)
    boot = bootstrap_over(ci_len, [(0, 1404), (4096, 287), (8192, 36575)])
    part = bytearray(512)
    part[:10], part[124:136], part[257:262] = b"image.boot", b"%011o\0" % len(boot), b"ustar"
    (tmp_path / "blob").write_bytes(meta[:ci_len] + meta[-4096:] + boot + part)
    with open(tmp_path / ("ab" * 32), "wb") as f:
        f.truncate(1 << 30)
    tools.mount(cache, tmp_path / "blob", mnt)
    path, = cache.rglob("map")
    tools.umount(mnt)
    m = path.read_bytes()
    group_count, chunk_count = struct.unpack_from("<II", m, 12)
    groups = [struct.unpack_from("<QI", m, 96 + 40 * g) for g in range(group_count)]
    chunks = [struct.unpack_from("<QIII", m, 96 + 40 * group_count + 56 * c)
              for c in range(chunk_count)]
    assert groups == [(10, 200380)]
    assert chunks == [(0, 1404, 0, 1024), (4096, 287, 0, 4096), (8192, 36575, 0, 5632)]
