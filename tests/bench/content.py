"""The trees that are measured, the same bytes in every run of a machine.

  image/  a root with the machine's python (copied), a tree of very many entries
          (many/), small files (small/) and two big ones (data/)
  python/ the python part alone
"""
import json
import os
import random
import shutil
import subprocess

PYTHON = "/usr/bin/python3"
IMPORTS = "import json,ssl,asyncio,sqlite3"
EPOCH = 1700000000  # every mtime
VERSION = 1  # of what is made here; another one makes all anew

FULL = {"entries": 100_000, "small": 20_000, "sequential": 500_000_000,
        "random": 512 << 20, "python": "all", "pool": 32 << 20}
SHORT = {"entries": 300, "small": 60, "sequential": 3_000_000,
         "random": 4 << 20, "python": "needed", "pool": 1 << 20}


class Pool:
    """Bytes that compress about as programs and their data do (2.5 : 1)."""

    def __init__(self, size):
        self.rng = random.Random(20)
        words = ["".join(self.rng.choices("etaoinshrdlucmfwypvbgkjqxz_", k=self.rng.randint(2, 11)))
                 for _ in range(6000)]
        parts, have = [], 0
        while have < size:
            text = " ".join(self.rng.choices(words, k=900)).encode()
            noise = self.rng.randbytes(len(text) // 5)
            parts += [text, noise]
            have += len(text) + len(noise)
        self.data = b"".join(parts)

    def write(self, path, size):
        with open(path, "wb") as f:
            while size > 0:
                n = min(size, self.rng.randint(64 << 10, 1 << 20), len(self.data) // 2)
                at = self.rng.randrange(len(self.data) - n)
                f.write(self.data[at:at + n])
                size -= n


def make_many(top, entries, pool):
    """Directories of about 40 entries each, three deep."""
    per, made, folder = 40, 0, None
    while made < entries:
        if made % per == 0 or not folder:
            n = made // per
            folder = os.path.join(top, f"part{n % 16:02}", f"set{n // 16 % 16:02}", f"group{n:05}")
            os.makedirs(folder)
            made += 1
        name = os.path.join(folder, f"entry-{made:06}.txt")
        if made % 33 == 0:
            os.symlink(f"entry-{made - 1:06}.txt", name)
        else:
            pool.write(name, pool.rng.randrange(3000))
        made += 1


def make_small(top, count, pool):
    """Files between 200 bytes and 128 KiB, evenly over the magnitudes."""
    for i in range(count):
        folder = os.path.join(top, f"{i // 200:03}")
        if i % 200 == 0:
            os.makedirs(folder)
        pool.write(os.path.join(folder, f"file-{i:05}"), int(200 * 655 ** pool.rng.random()))


def libraries(files):
    """What the dynamic linker loads for these."""
    out = subprocess.run(["ldd", *files], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         text=True, check=False).stdout
    return {w for line in out.splitlines() for w in line.split() if w.startswith("/")
            and not w.endswith(":")}


def python_files(which):
    """Files of the interpreter: all that it has, or what the imports need."""
    code = f"""{IMPORTS}
import sys, sysconfig, json
loaded = [m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)]
caches = [m.__cached__ for m in list(sys.modules.values()) if getattr(m, '__cached__', None)]
print(json.dumps([sys.executable, sysconfig.get_path('stdlib'), loaded + caches]))"""
    env = {"PATH": "/usr/bin:/bin"}
    out = subprocess.run([PYTHON, "-c", code], stdout=subprocess.PIPE, env=env, check=True).stdout
    exe, stdlib, loaded = json.loads(out)
    files = {os.path.realpath(exe)} | {f for f in loaded if os.path.exists(f)}
    if which == "all":
        for top in (stdlib, "/usr/lib/python3"):
            for folder, _, names in os.walk(top):
                files |= {os.path.join(folder, n) for n in names}
    native = [f for f in files if f.endswith(".so") or f == os.path.realpath(exe)]
    return {f for f in files | libraries(native) if os.path.isfile(f)}, os.path.realpath(exe)


def make_python(top, which):
    """A root in which chroot can start python3."""
    for name in ("bin", "lib", "lib64", "sbin"):
        os.makedirs(os.path.join(top, "usr", name))
        os.symlink("usr/" + name, os.path.join(top, name))
    for name in ("dev", "etc", "proc", "sys", "tmp"):
        os.makedirs(os.path.join(top, name))
    files, exe = python_files(which)
    for f in sorted(files):
        # through the links of the root: /lib64/x lands in usr/lib64
        folder = os.path.join(top, os.path.dirname(f).lstrip("/"))
        os.makedirs(folder, exist_ok=True)
        shutil.copy2(f, os.path.join(folder, os.path.basename(f)))
    link = os.path.join(top, "usr/bin/python3")
    if not os.path.exists(link):
        os.symlink(os.path.basename(exe), link)
    with open(os.path.join(top, "etc/os-release"), "w", encoding="utf-8") as f:
        f.write("ID=bench\n")


def set_times(top):
    """One mtime for all but python's files, whose caches name theirs."""
    for folder, dirs, names in os.walk(top, topdown=False):
        for n in names:
            path = os.path.join(folder, n)
            if os.path.islink(path) or "/usr/" not in path:
                os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
        for n in dirs + ["."]:
            os.utime(os.path.join(folder, n), (EPOCH, EPOCH), follow_symlinks=False)


def text_of(path):
    """What a file says; "" where there is none."""
    try:
        with open(path, encoding="utf-8") as f:
            return f.read()
    except FileNotFoundError:
        return ""


def make(folder, size):
    """Both trees below folder; nothing is done where they are there already."""
    stamp = os.path.join(folder, "content.json")
    want = json.dumps({"version": VERSION, **size})
    if text_of(stamp) == want:
        return
    shutil.rmtree(folder, ignore_errors=True)
    image, python = os.path.join(folder, "image"), os.path.join(folder, "python")
    os.makedirs(image)
    make_python(image, size["python"])
    set_times(image)
    subprocess.run(["cp", "-a", image, python], check=True)
    pool = Pool(size["pool"])
    os.mkdir(os.path.join(image, "data"))
    pool.write(os.path.join(image, "data/sequential"), size["sequential"])
    pool.write(os.path.join(image, "data/random"), size["random"])
    make_many(os.path.join(image, "many"), size["entries"], pool)
    make_small(os.path.join(image, "small"), size["small"], pool)
    set_times(image)
    with open(stamp, "w", encoding="utf-8") as f:
        f.write(want)
