"""Write an eStargz blob from a tar (stargz-snapshotter: docs/estargz.md)."""
import base64
import datetime
import gzip
import hashlib
import io
import itertools
import json
import tarfile

LANDMARK = ".no.prefetch.landmark"
TOC_NAME = "stargz.index.json"
TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
TYPES = {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hardlink",
         tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo"}


def member(data):
    """One gzip member."""
    return gzip.compress(data, 6, mtime=0)


def footer(toc_offset):
    """An empty member whose extra field says where the TOC's member begins."""
    extra = b"SG" + (22).to_bytes(2, "little") + b"%016xSTARGZ" % toc_offset
    return (b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + len(extra).to_bytes(2, "little") + extra +
            b"\x01\0\0\xff\xff" + bytes(8))


def toc_entry(m):
    """What the TOC says of a tar entry, without its contents."""
    when = datetime.datetime.fromtimestamp(int(m.mtime), datetime.timezone.utc)
    e = {"name": m.name + ("/" if m.isdir() else ""), "type": TYPES.get(m.type, "reg"),
         "modtime": when.strftime("%Y-%m-%dT%H:%M:%SZ"), "mode": m.mode, "uid": m.uid,
         "gid": m.gid, "NumLink": 0}
    if m.linkname:
        e["linkName"] = m.linkname
    if m.isdev() and not m.isfifo():
        e["devMajor"], e["devMinor"] = m.devmajor, m.devminor
    xattrs = {k.removeprefix("SCHILY.xattr."): base64.b64encode(
        v.encode("utf-8", "surrogateescape")).decode()
        for k, v in m.pax_headers.items() if k.startswith("SCHILY.xattr.")}
    if xattrs:
        e["xattrs"] = xattrs
    return e


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def chunks(data, chunk_size):
    return [data[i:i + chunk_size] for i in range(0, len(data), chunk_size)]


class Blob:
    """The blob on its way into a file: members; what they unpack to is hashed."""

    def __init__(self, out):
        self.out, self.tar = out, hashlib.sha256()

    def add(self, data):
        offset = self.out.tell()
        self.out.write(member(data))
        self.tar.update(data)
        return offset


def add_file(blob, entry, m, head, data, chunk_size):
    """The header, then each chunk in a member of its own; gives TOC entries."""
    blob.add(head)
    out = [entry]
    entry |= {"size": len(data), "digest": digest(data)}
    at = 0
    for i, chunk in enumerate(chunks(data, chunk_size)):
        last = at + len(chunk) == len(data)
        e = entry if i == 0 else {"name": m.name, "type": "chunk"}
        e |= {"offset": blob.add(chunk), "chunkDigest": digest(chunk)}
        if at:
            e["chunkOffset"] = at
        if not last or at:
            e["chunkSize"] = len(chunk)
        if i:
            out.append(e)
        at += len(chunk)
    if len(data) % 512:
        blob.add(bytes(512 - len(data) % 512))
    return out


def convert_file(tar, out, chunk_size=4 << 20):
    """From one open file to another; gives the DiffID and the digest of the TOC."""
    blob, entries = Blob(out), []
    mark = tarfile.TarInfo(LANDMARK)
    mark.size, mark.mode = 1, 0o644
    with tarfile.open(fileobj=tar) as src:
        for m in itertools.chain([mark], src):
            data = b"\x0f" if m is mark else src.extractfile(m).read() if m.isreg() else b""
            head = m.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            if data:
                entries += add_file(blob, toc_entry(m), m, head, data, chunk_size)
            else:
                blob.add(head)
                entries.append(toc_entry(m))
    toc = json.dumps({"version": 1, "entries": entries}).encode()
    m = tarfile.TarInfo(TOC_NAME)
    m.size = len(toc)
    where = blob.add(m.tobuf(tarfile.PAX_FORMAT) + toc + bytes(-len(toc) % 512) + bytes(1024))
    out.write(footer(where))
    return "sha256:" + blob.tar.hexdigest(), digest(toc)


def convert(tar, chunk_size=1 << 16):
    """The blob of tar, what it unpacks to, and the digest of its TOC."""
    out = io.BytesIO()
    diff_id, toc = convert_file(io.BytesIO(tar), out, chunk_size)
    unpacked = gzip.decompress(out.getvalue())
    assert digest(unpacked) == diff_id
    return out.getvalue(), unpacked, toc
