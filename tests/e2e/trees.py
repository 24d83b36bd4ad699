"""Comparing file trees to the last bit."""
import errno
import hashlib
import os
import stat

# overlayfs' own marks, and what the security modules of a host add.
IGNORED_XATTRS = (b"security.selinux", b"user.overlay.", b"trusted.overlay.", b"user.rootlesscontainers")


def digest(path):
    """sha256 of a file's contents."""
    h = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY)
    try:
        while block := os.read(fd, 1 << 20):
            h.update(block)
    finally:
        os.close(fd)
    return h.hexdigest()


def xattrs(path):
    """All extended attributes but the ignored ones."""
    out = {}
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as e:
        if e.errno != errno.EOPNOTSUPP:  # a mount where nothing has any
            raise
        names = []
    for name in names:
        raw = os.fsencode(name)
        if not raw.startswith(IGNORED_XATTRS):
            out[raw] = os.getxattr(path, name, follow_symlinks=False)
    return out


def entry(path, contents=True):
    """Everything that one name shows."""
    st = os.lstat(path)
    e = {"mode": st.st_mode, "uid": st.st_uid, "gid": st.st_gid,
         "mtime": st.st_mtime_ns, "xattrs": xattrs(path), "ino": st.st_ino}
    if not stat.S_ISDIR(st.st_mode):
        e["nlink"] = st.st_nlink
        e["size"] = st.st_size
    if stat.S_ISLNK(st.st_mode):
        e["target"] = os.readlink(path)
    elif stat.S_ISREG(st.st_mode):
        if contents:
            e["sha256"] = digest(path)
    elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        e["rdev"] = st.st_rdev
    return e


def scan(root, contents=True):
    """Relative name -> entry, hard links as groups of names."""
    root = os.fsencode(root)
    tree, by_ino = {}, {}
    stack = [b""]
    while stack:
        rel = stack.pop()
        path = os.path.join(root, rel) if rel else root
        e = entry(path, contents)
        tree[rel] = e
        if e.get("nlink", 1) > 1:
            by_ino.setdefault(e["ino"], []).append(rel)
        if stat.S_ISDIR(e["mode"]):
            stack += [os.path.join(rel, n) for n in os.listdir(path)]
    for names in by_ino.values():
        for name in names:
            tree[name]["links"] = sorted(names)
    for e in tree.values():
        del e["ino"]
    return tree


def differences(got, want, ignore=None):
    """Lines that say what differs; ignore(name, key, got, want) may forgive."""
    out = []
    for name in sorted(set(got) | set(want)):
        if name not in got or name not in want:
            out.append(f"{name!r}: only in {'want' if name in want else 'got'}")
            continue
        g, w = got[name], want[name]
        for key in sorted(set(g) | set(w)):
            if g.get(key) != w.get(key) and not (
                    ignore and ignore(name, key, g.get(key), w.get(key))):
                out.append(f"{name!r}: {key}: got {g.get(key)!r}, want {w.get(key)!r}")
    return out


def with_toc_names(tree):
    """The truth as a TOC spells it: names that are not UTF-8 have U+FFFD."""
    def spell(name):
        return name.decode("utf-8", "replace").encode()
    out = {}
    for name, e in tree.items():
        e = dict(e)
        if "links" in e:
            e["links"] = sorted(map(spell, e["links"]))
        out[spell(name)] = e
    return out
