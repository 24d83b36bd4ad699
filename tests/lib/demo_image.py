#!/usr/bin/python3
"""Make the demo's image: demo_image.py LAYOUT

A Debian root with python3 and numpy, from the machine's own package sources, as
three layers: the base, what the python packages brought, and a small
application layer that hides the documentation and adds a program.
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

PACKAGES = "python3,python3-numpy"
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


def python_files(root_tar):
    """What packages named python3*, libpython3* and numpy's libraries own."""
    owned = set()
    with tarfile.open(root_tar) as tar:
        for m in tar:
            name = os.path.basename(m.name)
            if "var/lib/dpkg/info/" in m.name and name.endswith(".list") and \
                    any(w in name for w in ("python3", "blas", "lapack", "gfortran")):
                text = tar.extractfile(m).read().decode()
                owned.update(line.lstrip("/") for line in text.splitlines())
    return owned


def split(root_tar, base_path, python_path):
    """Cut the root into the two lower layers."""
    owned = python_files(root_tar)
    placed = {}
    with tarfile.open(root_tar) as src, \
            tarfile.open(base_path, "w") as base, \
            tarfile.open(python_path, "w") as upper:
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


def main():
    layout = sys.argv[1]
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(layout))) as tmp:
        root, base, python, app = (os.path.join(tmp, n) for n in
                                   ("root.tar", "base.tar", "python.tar", "app.tar"))
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase",
                        "--include=" + PACKAGES, "bookworm", root, *sources()],
                       check=True, stdin=subprocess.DEVNULL)
        split(root, base, python)
        application(app)
        for path in (base, python, app):
            trim(path)
        Layout(layout).add_image("python", [base, python, app],
                                 ("/usr/bin/python3", "/app/hello.py"))


main()
