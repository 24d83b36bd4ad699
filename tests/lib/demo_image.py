#!/usr/bin/python3
"""Make a Debian image: demo_image.py LAYOUT [KIND]

A Debian root with some packages, from the machine's own package sources, as
three layers: the base, what the packages brought, and a small application layer
that hides the documentation and adds a program. KIND is "python" (python3 and
numpy: the demo's), "python-large" (30 000 entries and more) or "node".
"""
import glob
import io
import os
import subprocess
import sys
import tarfile
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ocilayout import Layout, trim  # noqa: E402

# packages; words that tell those whose files make the second layer; command
KINDS = {
    "python": ("python3,python3-numpy", ("python3", "blas", "lapack", "gfortran"), "python3"),
    "python-large": ("python3,python3-pip,python3-numpy,python3-scipy,python3-pandas,"
                     "python3-matplotlib,python3-sympy,python3-django",
                     ("python3", "blas", "lapack", "gfortran", "fonts", "matplotlib"), "python3"),
    "node": ("nodejs,npm", ("node", "npm", "libuv", "icu"), "node"),
}
PROGRAM = b"""import json, platform, sqlite3, ssl, asyncio
print(json.dumps({"python": platform.python_version(),
                  "sqlite": sqlite3.sqlite_version,
                  "ssl": ssl.OPENSSL_VERSION}))
"""


def sources():
    """The machine's own package sources."""
    files = glob.glob("/etc/apt/sources.list.d/*.sources") + \
        glob.glob("/etc/apt/sources.list.d/*.list")
    if os.path.exists("/etc/apt/sources.list") and \
            os.path.getsize("/etc/apt/sources.list"):
        files.append("/etc/apt/sources.list")
    return files


def files_of(root_tar, words):
    """What the packages with one of words in their names own."""
    owned = set()
    with tarfile.open(root_tar) as tar:
        for m in tar:
            name = os.path.basename(m.name)
            if "var/lib/dpkg/info/" in m.name and name.endswith(".list") and \
                    any(w in name for w in words):
                text = tar.extractfile(m).read().decode()
                owned.update(line.lstrip("/") for line in text.splitlines())
    return owned


def split(root_tar, base_path, upper_path, words):
    """Cut the root into the two lower layers."""
    owned = files_of(root_tar, words)
    placed = {}
    with tarfile.open(root_tar) as src, \
            tarfile.open(base_path, "w") as base, \
            tarfile.open(upper_path, "w") as upper:
        for m in src:
            name = m.name[2:] if m.name.startswith("./") else m.name
            if m.isdir():
                out = base
            elif m.islnk():
                # A hard link stays in the layer of its target.
                target = m.linkname[2:] if m.linkname.startswith("./") else m.linkname
                out = placed.get(target, base)
            else:
                out = upper if name in owned else base
            placed[name] = out
            out.addfile(m, src.extractfile(m) if m.isreg() else None)


def application(path):
    """The top layer: a program, and a whiteout over the documentation."""
    with tarfile.open(path, "w") as tar:
        for name, data in (("usr/share/.wh.doc", b""), ("app/hello.py", PROGRAM)):
            m = tarfile.TarInfo(name)
            m.size = len(data)
            m.mode = 0o644
            tar.addfile(m, io.BytesIO(data))


def make(layout, kind):
    """The image of that kind, in a new layout, under the tag kind."""
    packages, words, command = KINDS[kind]
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(layout))) as tmp:
        root, base, upper, app = (os.path.join(tmp, n) for n in
                                  ("root.tar", "base.tar", "upper.tar", "app.tar"))
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase",
                        "--include=" + packages, "bookworm", root, *sources()],
                       check=True, stdin=subprocess.DEVNULL)
        split(root, base, upper, words)
        application(app)
        for path in (base, upper, app):
            trim(path)
        Layout(layout).add_image(kind, [base, upper, app], ("/usr/bin/" + command, "/app/hello.py"))


if __name__ == "__main__":
    make(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "python")
