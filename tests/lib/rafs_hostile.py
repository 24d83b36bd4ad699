#!/usr/bin/env python3
"""Write the hostile RAFS inputs: rafs_hostile.py DIRECTORY.

Each is a bootstrap of one file, whole or broken in one place; behind "BLOB" and
the bootstrap's length also the bytes that its blobs have. The name says the
error; the tests give a blob of tables the digest of these bytes, unless the
name says that the digest is the error.
"""
import hashlib
import struct
import sys

B = 4096
MAGIC = 0xB10BB10B
TEXT = b"one file, three chunks. " * 1000


def u32(b, at, v):
    struct.pack_into("<I", b, at, v)


def u64(b, at, v):
    struct.pack_into("<Q", b, at, v)


def record(data, index, off, flags=1, src=(0, 0), file_off=0):
    return hashlib.sha256(data).digest() + struct.pack(
        "<IIIIQQQII", 0, flags, src[1], len(data), src[0], off, file_off, index, 0)


def chunks():
    """Offsets on the device and bytes of three chunks of a file."""
    return [(i * B, TEXT[i * B:(i + 1) * B]) for i in range(3)]


def v6(features, compressor, ci_off, ci, known=(0, 1, 2)):
    """Superblocks, blob table, inodes, chunk table: a block each."""
    b = bytearray(5 * B)
    s, x, e = 1024, 1152, B
    u32(b, s, 0xE0F5E1E2)
    u32(b, s + 8, 0x40000000)
    b[s + 12] = 12
    struct.pack_into("<H", b, s + 14, 128)
    u64(b, s + 16, 2)
    u32(b, s + 40, 1)
    u32(b, s + 80, 0xC)
    struct.pack_into("<HH", b, s + 86, 1, 11)
    u64(b, x, 0x01000000 | 0x10 | 0x8 | 0x40)
    u64(b, x + 8, B)
    u32(b, x + 16, 256)
    u32(b, x + 20, B)
    u64(b, x + 24, 3 * B)
    u64(b, x + 32, 80 * len(known))
    b[1408:1472] = b"a" * 63 + b"b"
    b[e:e + 64] = b"a" * 63 + b"b"
    for at, v in ((68, B), (72, 3), (76, compressor), (80, 1), (84, features), (108, 0)):
        u32(b, e + at, v)
    for at, v in ((88, 4096), (96, 3 * B), (112, ci_off), (120, len(ci)), (128, len(ci))):
        u64(b, e + at, v)
    # the root with its entries behind it, the file with its addresses
    names = [(b".", 128), (b"..", 128), (b"file", 136)]
    d = bytearray()
    at = 12 * len(names)
    for name, nid in names:
        d += struct.pack("<QHBB", nid, at, 1 if name == b"file" else 2, 0)
        at += len(name)
    d += b"".join(n for n, _ in names)
    for nid, layout, mode, size in ((128, 5, 0o40755, len(d)), (136, 9, 0o100644, 3 * B)):
        i = B + nid * 32
        struct.pack_into("<HHHHQ", b, i, layout, 0, mode, 0, size)
        u32(b, i + 44, 1)
    b[B + 128 * 32 + 64:B + 128 * 32 + 64 + len(d)] = d
    a = B + 136 * 32 + 64
    for k in range(3):
        struct.pack_into("<HHI", b, a + 8 * k, k, 1, k)
    for n, k in enumerate(known):
        off, data = chunks()[k]
        b[3 * B + 80 * n:3 * B + 80 * n + 80] = record(data, k, off, 1, (k * 100, 100))
    return b


def entry(flags, off, size, src, src_len, ctx, ctx_off):
    return struct.pack("<QQQ", flags << 56 | (size - 1) << 32 | off >> 12,
                       src_len << 40 | src, ctx << 32 | ctx_off)


def header(ci_off, ci, contexts, ctx_len):
    h = bytearray(B)
    for at, v in ((0, MAGIC), (12, 3), (56, contexts), (B - 4, MAGIC)):
        u32(h, at, v)
    for at, v in ((16, ci_off), (24, len(ci)), (32, len(ci)), (40, 72), (48, ctx_len)):
        u64(h, at, v)
    return h


def pack(boot, blob):
    return b"BLOB" + struct.pack("<I", len(boot)) + bytes(boot) + bytes(blob)


def batch(ctx=None, entries=None, edit=None):
    """Chunks 0 and 1 in one batch, chunk 2 alone."""
    ctx = ctx or [(2000, 2 * B)]
    c = chunks()
    rows = entries or [entry(5, 0, B, 0, 0, 0, 0), entry(5, B, B, 0, 0, 0, B),
                       entry(1, 2 * B, B, 200, 100, 0, 0)]
    ci = b"".join(rows) + b"".join(struct.pack("<II32x", *x) for x in ctx)
    boot = v6(0x85 | 0x40000000, 3, 512, ci)
    h = header(512, ci, len(ctx), 40 * len(ctx))
    blob = bytearray(bytes(512) + ci + h)
    if edit:
        edit(boot, blob)
    assert len(c) == 3
    return pack(boot, blob)


def zran(span=None, edit=None, known=(0, 1, 2), digests=False):
    """All chunks in one span with a dictionary of four bytes."""
    span = span or struct.pack("<QQQIIIBB2x", 10, 0, 0, 2000, 3 * B, 4, 0, 0)
    ci = b"".join(entry(3, k * B, B, 0, 0, 0, k * B) for k in range(3)) + span + b"dict"
    boot = v6(0x7000003D, 2, 0, ci, known)
    blob = bytearray(ci + header(0, ci, 1, 44))
    if digests:
        d = b"".join(hashlib.sha256(x).digest() for _, x in chunks())
        at = len(blob)
        toc = struct.pack("<II16s", 1, 0, b"blob.digest") + hashlib.sha256(d).digest()
        toc += struct.pack("<QQQ", at, len(d), len(d)) + bytes(48)
        tail = bytearray(512)
        tail[0:13] = b"rafs.blob.toc"
        tail[124:136] = b"%011o\0" % len(toc)
        tail[257:262] = b"ustar"
        blob += d + toc + tail
    if edit:
        edit(boot, blob)
    return pack(boot, blob)


def zran_twice():
    """Two spans that name the same four bytes as their dictionary."""
    span = struct.pack("<QQQIIIBB2x", 10, 0, 0, 2000, 3 * B, 4, 0, 0)
    ci = b"".join(entry(3, k * B, B, 0, 0, k // 2, k * B) for k in range(3)) + 2 * span + b"dict"
    return pack(v6(0x7000003D, 2, 0, ci), ci + header(0, ci, 2, 84))


def v5(edit=None):
    """A root and a file of three chunks, the third the first again."""
    b = bytearray(8192 + 64)
    for at, v in ((0, 0x52414653), (4, 0x500), (8, 8192), (12, B), (56, 2), (64, 72), (68, 1)):
        u32(b, at, v)
    for at, v in ((16, 0x80 | 0x8 | 0x10), (24, 2), (32, 8192), (48, 8200), (72, 8272)):
        u64(b, at, v)
    b += bytes(8272 + 64 - len(b))
    b[8208:8272] = b"a" * 63 + b"b"
    u32(b, 8272, 2)
    for k, (mode, size, index, count, name) in enumerate(
            ((0o40755, 0, 2, 1, b"/"), (0o100644, 3 * B, 0, 3, b"file"))):
        at = len(b)
        u32(b, 8192 + 4 * k, at >> 3)
        i = bytearray(128)
        u64(i, 40, k + 1)
        u32(i, 60, mode)
        u64(i, 64, size)
        for where, v in ((88, 1), (92, index), (96, count)):
            u32(i, where, v)
        struct.pack_into("<H", i, 100, len(name))
        b += i + name + bytes(-len(name) % 8)
    for k in range(3):
        _, data = chunks()[k % 2]
        b += record(data, k % 2, 0, 1, (k % 2 * 100, 100), k * B)
    if edit:
        edit(b)
    return bytes(b)


FILE5 = 8336 + 136  # the file's inode in a v5 bootstrap
REC5 = FILE5 + 136  # its chunk records


def set32(at, v):
    return lambda b, *_: u32(b, at, v)


def set64(at, v):
    return lambda b, *_: u64(b, at, v)


def in_blob(at, v, fmt="<I"):
    return lambda _, blob: struct.pack_into(fmt, blob, at, v)


CI = 512        # of the batch blob
HEAD = 512 + 112
ZHEAD = 72 + 44

def plain(compressor, edit=None):
    """Chunks that the bootstrap alone places."""
    b = v6(0, compressor, 0, b"")
    if edit:
        edit(b)
    return bytes(b)


ROOT6 = B + 128 * 32        # the root's inode in a v6 bootstrap
DIR6 = ROOT6 + 64           # its entries: ., .., file
FILE6 = B + 136 * 32        # the file's inode
ADDR6 = FILE6 + 64          # its chunk addresses
REC6 = 3 * B                # the chunk table


def set16(at, v):
    return lambda b: struct.pack_into("<H", b, at, v)


def set_bytes(at, v):
    return lambda b: b.__setitem__(slice(at, at + len(v)), v)


def tree6(*edits):
    """The plain bootstrap with changes."""
    def edit(b):
        for change in edits:
            change(b)
    return plain(3, edit)


SAMPLES = {
    "v6-plain.ok": tree6(),
    "v6-entry-beyond-the-file.EPROTO": tree6(set64(DIR6 + 24, 1 << 40)),
    "v6-entry-number-max.EPROTO": tree6(set64(DIR6 + 24, 2**64 - 1)),
    "v6-entry-is-the-root.EPROTO": tree6(set64(DIR6 + 24, 128), set_bytes(DIR6 + 34, b"\2")),
    "v6-name-beyond-the-block.EPROTO": tree6(set16(DIR6 + 32, 4000)),
    "v6-name-before-the-entries.EPROTO": tree6(set16(DIR6 + 32, 3)),
    "v6-first-name-absurd.EPROTO": tree6(set16(DIR6 + 8, 65535)),
    "v6-name-with-slash.EPROTO": tree6(set_bytes(DIR6 + 39, b"a/b.")),
    "v6-name-empty.EPROTO": tree6(set_bytes(DIR6 + 39, b"\0abc")),
    "v6-name-twice.EPROTO": tree6(
        set64(ROOT6 + 8, 59), set_bytes(DIR6, b"".join(
            struct.pack("<QHBB", nid, at, kind, 0) for nid, at, kind in
            ((128, 48, 2), (128, 49, 2), (136, 51, 1), (136, 55, 1))) + b"...filefile")),
    "v6-directory-larger-than-the-file.EPROTO": tree6(set64(ROOT6 + 8, 1 << 40)),
    "v6-root-is-a-file.EPROTO": tree6(set16(ROOT6 + 4, 0o100644)),
    "v6-type-0.EPROTO": tree6(set16(FILE6 + 4, 0o644)),
    "v6-layout-unknown.EPROTO": tree6(set16(FILE6, 15)),
    "v6-file-size-max.EPROTO": tree6(set64(FILE6 + 8, 2**64 - 1)),
    "v6-file-of-8-eib.EPROTO": tree6(set64(FILE6 + 8, 2**63 - 1)),
    "v6-xattrs-max.EPROTO": tree6(set16(FILE6 + 2, 65535)),
    "v6-address-of-no-blob.EPROTO": tree6(set16(ADDR6 + 2, 2)),
    "v6-address-of-no-chunk.EOPNOTSUPP": tree6(set16(ADDR6, 9)),
    "v6-address-of-another-block.EPROTO": tree6(set32(ADDR6 + 4, 2)),
    "v6-chunks-overlap.EPROTO": tree6(set64(REC6 + 80 + 56, 100)),
    "v6-chunk-behind-the-device.EPROTO": tree6(set64(REC6 + 160 + 56, 1 << 43)),
    "v6-chunk-offset-max.EPROTO": tree6(set64(REC6 + 56, 2**64 - 1)),
    "v6-source-range-wraps.EPROTO": tree6(set64(REC6 + 48, 2**64 - 1)),
    "v6-source-length-absurd.E2BIG": tree6(set32(REC6 + 40, 2**32 - 1)),
    "v6-chunk-longer-than-chunks.EPROTO": tree6(set32(REC6 + 44, 2 * B)),
    "v6-chunk-of-nothing.EPROTO": tree6(set32(REC6 + 44, 0)),
    "v6-chunk-number-twice.EPROTO": tree6(set32(REC6 + 80 + 72, 0)),
    "v6-chunk-of-no-blob.EPROTO": tree6(set32(REC6 + 32, 1)),
    "v6-blobs-65535.EPROTO": tree6(set16(1024 + 86, 65535)),
    "v6-blob-table-beyond.EPROTO": tree6(set64(1152 + 8, 2**64 - 4096)),
    "v6-chunk-table-beyond.EPROTO": tree6(set64(1152 + 32, 80 << 40)),
    "v6-inodes-beyond.EPROTO": tree6(set32(1024 + 40, 2**32 - 1)),
    "v6-chunk-size-no-power.EPROTO": tree6(set32(1152 + 20, 5000)),
    "v6-blob-of-2-to-the-45.EPROTO": tree6(set64(B + 96, 1 << 45)),
    "v6-chunk-count-max.EPROTO": tree6(set32(B + 72, 2**32 - 1)),
    "v6-gzip.ok": plain(2),
    "v6-compressor-4.EPROTO": plain(4),
    "v6-packed-in-unpacked.EPROTO": plain(0),
    "v5-gzip.ok": v5(set64(16, 0x58)),
    "v5-packed-in-unpacked.EPROTO": v5(set64(16, 0x19)),
    "v6-batch.ok": batch(),
    "v6-batch-header-magic.EPROTO": batch(edit=in_blob(HEAD, 0)),
    "v6-batch-header-of-another.EPROTO": batch(edit=in_blob(HEAD + 16, 0, "<Q")),
    "v6-batch-contexts-beyond.EPROTO": batch(edit=in_blob(HEAD + 56, 2)),
    "v6-batch-context-count-max.EPROTO": batch(edit=in_blob(HEAD + 56, 0xFFFFFFFF)),
    "v6-batch-no-such-context.EPROTO": batch(edit=in_blob(CI + 20, 1)),
    "v6-batch-chunk-beyond-batch.EPROTO": batch(edit=in_blob(CI + 24 + 16, B + 1)),
    "v6-batch-larger-than-a-chunk-may-be.EPROTO": batch(ctx=[(2000, (16 << 20) + 1)]),
    "v6-batch-of-nothing.EPROTO": batch(ctx=[(0, 2 * B)]),
    "v6-batch-size-of-chunk-differs.EPROTO": batch(edit=in_blob(CI + 4, 5 << 24 | B - 2)),
    "v6-batch-place-of-chunk-differs.EPROTO": batch(edit=in_blob(CI, 7)),
    "v6-batch-encrypted-chunk.EOPNOTSUPP": batch(edit=in_blob(CI + 7, 13, "<B")),
    "v6-batch-cut.EPROTO": batch()[:-1],
    "v6-batch-table-beyond-blob.EPROTO": batch(edit=set64(B + 112, 1 << 39)),
    "v6-batch-table-at-the-end-of-time.EPROTO": batch(edit=set64(B + 112, 2**64 - 1)),
    "v6-batch-table-of-a-gigabyte.E2BIG": batch(edit=set64(B + 128, 1 << 30)),
    "v6-batch-table-for-fewer-chunks.EPROTO": batch(edit=set64(B + 128, 71)),
    "v6-batch-more-chunks-than-said.EPROTO": batch(edit=set32(B + 72, 2)),
    "v6-batch-compressor-unknown.EPROTO": batch(edit=set32(B + 108, 9)),
    "v6-batch-and-zran.EPROTO": batch(edit=set32(B + 84, 0x9D)),
    "v6-zran.ok": zran(),
    "v6-zran-digest.EBADMSG": zran(edit=set32(B + 168, 1)),
    "v6-zran-chunk-without-digest.EOPNOTSUPP": zran(known=(0, 2)),
    "v6-zran-digest-from-the-array.ok": zran(known=(0, 2), digests=True),
    "v6-zran-dictionary-beyond.EPROTO": zran(
        struct.pack("<QQQIIIBB2x", 10, 0, 1, 2000, 3 * B, 4, 0, 0)),
    "v6-zran-dictionary-too-long.EPROTO": zran(
        struct.pack("<QQQIIIBB2x", 10, 0, 0, 2000, 3 * B, 32769, 0, 0)),
    "v6-zran-dictionary-offset-max.EPROTO": zran(
        struct.pack("<QQQIIIBB2x", 10, 0, 2**64 - 1, 2000, 3 * B, 4, 0, 0)),
    "v6-zran-dictionaries-overlap.EPROTO": zran_twice(),
    "v6-zran-tables-beside-bootstrap.ok": zran(edit=lambda b, _: b.__setitem__(
        slice(B + 168, B + 200), bytes(32))),
    "v6-zran-span-of-nothing.EPROTO": zran(
        struct.pack("<QQQIIIBB2x", 10, 0, 0, 0, 3 * B, 4, 0, 0)),
    "v6-zran-span-too-short.EPROTO": zran(
        struct.pack("<QQQIIIBB2x", 10, 0, 0, 2000, 3 * B - 1, 4, 0, 0)),
    "v6-zran-span-too-long.E2BIG": zran(
        struct.pack("<QQQIIIBB2x", 10, 0, 0, 2**32 - 1, 3 * B, 4, 0, 0)),
    "v6-zran-table-beyond-blob.EPROTO": zran(edit=in_blob(ZHEAD + 24, 0, "<Q")),
    "v6-zran-tables-in-the-layer.EOPNOTSUPP": zran(edit=set32(B + 84, 0x7000002D)),
    "v6-zran-encrypted.EOPNOTSUPP": zran(edit=set32(B + 84, 0x7000013D)),
    "v5.ok": v5(),
    "v5-cut.EPROTO": v5()[:-1],
    "v5-only-superblock.EPROTO": v5()[:8192],
    "v5-encrypted.EOPNOTSUPP": v5(set64(16, 0x02000098)),
    "v5-two-compressors.EPROTO": v5(set64(16, 0xDA)),
    "v5-no-digests.EPROTO": v5(set64(16, 0x90)),
    "v5-block-size-3.EPROTO": v5(set32(12, 3)),
    "v5-inode-table-beyond.EPROTO": v5(set32(56, 1 << 30)),
    "v5-blob-table-beyond.EPROTO": v5(set32(64, 1 << 30)),
    "v5-blob-id-no-hex.EPROTO": v5(lambda b: b.__setitem__(8208, 0x7A)),
    "v5-two-blob-tables-differ.EPROTO": v5(set32(68, 2)),
    "v5-features-of-v6.EOPNOTSUPP": v5(set32(8276, 8)),
    "v5-root-is-a-file.EPROTO": v5(set32(8336 + 60, 0o100644)),
    "v5-children-are-the-root.EPROTO": v5(set32(8336 + 92, 1)),
    "v5-children-beyond-table.EPROTO": v5(set32(8336 + 96, 2)),
    "v5-children-count-max.EPROTO": v5(set32(8336 + 96, 0xFFFFFFFF)),
    "v5-inode-beyond-file.EPROTO": v5(set32(8196, 0xFFFFFFFF)),
    "v5-inode-number-0.EPROTO": v5(set64(FILE5 + 40, 0)),
    "v5-inode-number-beyond.EPROTO": v5(set64(FILE5 + 40, 3)),
    "v5-inode-number-of-the-root.EPROTO": v5(set64(FILE5 + 40, 1)),
    "v5-name-with-slash.EPROTO": v5(lambda b: b.__setitem__(FILE5 + 129, 0x2F)),
    "v5-name-empty.EPROTO": v5(lambda b: struct.pack_into("<H", b, FILE5 + 100, 0)),
    "v5-chunk-count-max.EPROTO": v5(set32(FILE5 + 96, 0xFFFFFFFF)),
    "v5-chunks-do-not-reach-the-end.EPROTO": v5(set64(FILE5 + 64, 4 * B)),
    "v5-chunk-beyond-the-end.EPROTO": v5(set64(FILE5 + 64, 2 * B)),
    "v5-chunk-of-no-blob.EPROTO": v5(set32(REC5 + 32, 1)),
    "v5-chunk-of-nothing.EPROTO": v5(set32(REC5 + 44, 0)),
    "v5-chunk-too-long.EPROTO": v5(set32(REC5 + 44, 2 * B)),
    "v5-chunk-encrypted.EOPNOTSUPP": v5(set32(REC5 + 36, 5)),
    "v5-chunk-overlaps.EPROTO": v5(set64(REC5 + 80 + 64, 0)),
    "v5-chunk-leaves-a-gap.EPROTO": v5(set64(REC5 + 80 + 64, 2 * B)),
    "v5-one-place-two-digests.EPROTO": v5(lambda b: b.__setitem__(REC5, b[REC5] ^ 1)),
    "v5-source-range-overflows.EPROTO": v5(set64(REC5 + 80 + 48, 2**64 - 1)),
    "v5-type-0.EPROTO": v5(set32(FILE5 + 60, 0o644)),
}


def main(folder):
    for name, data in SAMPLES.items():
        with open(f"{folder}/{name}", "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main(sys.argv[1])
