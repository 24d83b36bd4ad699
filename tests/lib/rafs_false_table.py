#!/usr/bin/env python3
"""Make the batch table of a RAFS bundle false: rafs_false_table.py BUNDLE.

What it says still agrees with the bootstrap, but each batch begins some bytes
behind its place.
"""
import os
import struct
import subprocess
import sys

BATCH = 4


def spoil(bundle):
    """The blob keeps its name, its length and the places in it."""
    name, = os.listdir(os.path.join(bundle, "blobs"))
    path = os.path.join(bundle, "blobs", name)
    with open(os.path.join(bundle, "bootstrap"), "rb") as f:
        boot = f.read()
    with open(path, "rb") as f:
        blob = bytearray(f.read())
    entry = struct.unpack_from("<Q", boot, 1152 + 8)[0]
    count = struct.unpack_from("<I", boot, entry + 72)[0]
    off, size, _ = struct.unpack_from("<QQQ", boot, entry + 112)
    table = bytearray(zstd(bytes(blob[off:off + size]), "-dcq"))
    for at in range(0, 24 * count, 24):
        flags, place = struct.unpack_from("<QQ", table, at)
        if flags >> 56 & BATCH:
            struct.pack_into("<Q", table, at + 8, place + 7)
    packed = zstd(bytes(table), "-19cq")
    rest = size - len(packed) - 8
    assert rest >= 0
    blob[off:off + size] = packed + struct.pack("<II", 0x184D2A50, rest) + bytes(rest)
    with open(path, "wb") as f:
        f.write(blob)


def zstd(data, option):
    return subprocess.run(["zstd", option], input=data, stdout=subprocess.PIPE, check=True).stdout


if __name__ == "__main__":
    spoil(sys.argv[1])
