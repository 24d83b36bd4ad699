#!/usr/bin/env python3
"""Pack a RAFS bundle's chunks with gzip: rafs_gzip.py BUNDLE OUT [KIND...].

BUNDLE is of nydus-image, one blob, chunks uncompressed or zstd. Its builder
writes no gzip, but its reader knows it. Each chunk becomes a member of its own;
of KIND, in turn: 'gzip', 'zlib' (a zlib stream), 'more' (other bytes follow in
the same member, as in blobs that come from stargz).
"""
import hashlib
import os
import struct
import subprocess
import sys
import zlib

V6_SUPER = 1152
V6_SLOT = 1408


def u32(b, at):
    return struct.unpack_from("<I", b, at)[0]


def u64(b, at):
    return struct.unpack_from("<Q", b, at)[0]


def v6_records(b):
    off, size = u64(b, V6_SUPER + 24), u64(b, V6_SUPER + 32)
    return list(range(off, off + size, 80))


def v5_records(b):
    """Where the chunk records are, behind their files' inodes."""
    at, table, count = [], u64(b, 32), u32(b, 56)
    for off in sorted({u32(b, table + 4 * i) * 8 for i in range(count)} - {0}):
        mode, flags, chunks = u32(b, off + 60), u64(b, off + 80), u32(b, off + 96)
        names = struct.unpack_from("<HH", b, off + 100)
        if mode & 0o170000 != 0o100000:
            continue
        p = off + 128 + (names[0] + 7) // 8 * 8
        if flags & 1:
            p += (names[1] + 7) // 8 * 8
        if flags & 4:
            p += (8 + u64(b, p) + 7) // 8 * 8
        at += range(p, p + 80 * chunks, 80)
    return at


def unpack(blob, off, size, is_packed):
    data = blob[off:off + size]
    if not is_packed:
        return data
    return subprocess.run(["zstd", "-dcq"], input=data, stdout=subprocess.PIPE, check=True).stdout


def pack(data, kind):
    c = zlib.compressobj(6, zlib.DEFLATED, 15 if kind == "zlib" else 31)
    return c.compress(data) + (c.compress(b"header of another file" * 30) if kind == "more"
                               else b"") + c.flush()


def convert(src, out, kinds=("gzip",)):
    with open(os.path.join(src, "bootstrap"), "rb") as f:
        boot = bytearray(f.read())
    name, = os.listdir(os.path.join(src, "blobs"))
    with open(os.path.join(src, "blobs", name), "rb") as f:
        old = f.read()
    is_v5 = u32(boot, 0) == 0x52414653
    places, new = {}, bytearray()
    for n, r in enumerate(v5_records(boot) if is_v5 else v6_records(boot)):
        off, size = u64(boot, r + 48), u32(boot, r + 40)
        if off not in places:
            flags = u32(boot, r + 36)
            packed = pack(unpack(old, off, size, flags & 1), kinds[n % len(kinds)])
            places[off] = (len(new), len(packed), flags | 1)
            new += packed
        off, size, flags = places[off]
        struct.pack_into("<II", boot, r + 36, flags, size)
        struct.pack_into("<Q", boot, r + 48, off)
    sha = hashlib.sha256(new).hexdigest()
    flags_at = 16 if is_v5 else V6_SUPER
    struct.pack_into("<Q", boot, flags_at, u64(boot, flags_at) & ~0xc3 | 0x40)
    if is_v5:
        table, ext = u64(boot, 48), u64(boot, 72)
        boot[table + 8:table + 72] = sha.encode()
        struct.pack_into("<Q", boot, ext + 16, len(new))
    else:
        table = u64(boot, V6_SUPER + 8)
        boot[table:table + 64] = boot[V6_SLOT:V6_SLOT + 64] = sha.encode()
        struct.pack_into("<I", boot, table + 76, 2)
        struct.pack_into("<Q", boot, table + 88, len(new))
    os.makedirs(os.path.join(out, "blobs"))
    with open(os.path.join(out, "bootstrap"), "wb") as f:
        f.write(boot)
    with open(os.path.join(out, "blobs", sha), "wb") as f:
        f.write(new)


if __name__ == "__main__":
    convert(sys.argv[1], sys.argv[2], sys.argv[3:] or ("gzip",))
