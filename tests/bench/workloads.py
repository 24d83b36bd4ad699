"""The workloads. Each gives figures: (series, value, Watch or None).

  W1  mount until the first byte of a file     W5  4 KiB reads at random
  W2  start of python with four modules        W6  tar of all but the big files
  W3  walk of the whole tree                   W8  many readers of small files
  W4  a big file from begin to end             W9  memory, after W3 and W6
  fill  W4 once more, after the cache was filled in order, and at random

State "local": all data in the system's cache, page caches dropped. "empty": its
cache emptied, all data in the registry.
"""
import os
import shlex
import subprocess

from content import IMPORTS
from measure import Watch, drop_caches, memory_of, timed
from systems import MARK, Failed, Sluice

UNITS = {"W1": "ms", "W2": "ms", "W3": "s", "W4": "MB/s", "W5": "IOPS", "W6": "s", "W7": "s",
         "W8": "s", "W9": "MiB", "fill": "MB/s", "pull": "s"}
HEAVY = {"W3", "W6", "W8", "W9", "fill"}  # half as many rounds
CHROOT = ["env", "-i", "PATH=/usr/bin:/bin:/usr/sbin", "PYTHONDONTWRITEBYTECODE=1", "chroot"]


def fresh(system):
    """The same system, with nothing in its cache and no page in memory."""
    system.umount()
    system.empty()
    drop_caches()
    system.mount()
    drop_caches()


def python(system):
    w = timed(system.pids(), *CHROOT, system.root, "/usr/bin/python3", "-c", IMPORTS)
    return w.seconds * 1000, w


def first_byte(system):
    system.umount()
    drop_caches()
    with Watch([]) as w:
        system.mount()
        with open(os.path.join(system.root, MARK), "rb") as f:
            f.read()
    return w.seconds * 1000, w


def w1_local(system, bench):
    if system.name in ("plain", "bare fuse") or not system.keeps:
        return
    # others have a file that says all, and ask nobody; so does a digest
    asks = isinstance(system, Sluice)
    if asks:
        system.digest = system.status()["digest"]
    yield "W1 mount", *first_byte(system)
    if asks:
        system.digest = None
        yield "W1 mount, by tag", *first_byte(system)


def w2_local(system, bench):
    if system.has_data:
        drop_caches()
        yield "W2 python, local", *python(system)
        yield "W2 python, warm", *python(system)


def w2_empty(system, bench):
    fresh(system)
    yield "W2 python, empty cache", *python(system)


def walk(system, bench):
    w = timed(system.pids(), f"find {shlex.quote(system.root)} -xdev "
              r"-printf '%s %m %u %n %T@ %p\n' | wc -l", shell=True)
    if int(w.out) < bench.size["entries"]:
        raise Failed(f"the walk found only {int(w.out)} entries")
    return w.seconds, w


def w3_local(system, bench):
    drop_caches()
    yield "W3 walk, cold", *walk(system, bench)
    yield "W3 walk, warm", *walk(system, bench)


def sequential(system, bench):
    path = os.path.join(system.root, "data/sequential")
    w = timed(system.pids(), "dd", "if=" + path, "of=/dev/null", "bs=1M")
    w.per_gb = w.cpu / (bench.size["sequential"] / 1e9)
    return bench.size["sequential"] / 1e6 / w.seconds, w


def w4_local(system, bench):
    drop_caches()
    yield "W4 sequential, local", *sequential(system, bench)
    yield "W4 sequential, warm", *sequential(system, bench)


def w4_empty(system, bench):
    fresh(system)
    yield "W4 sequential, empty cache", *sequential(system, bench)


def readers(system, bench, *words):
    w = timed(system.pids(), bench.tool("readers"), *words)
    count, _, seconds, errors, w.p50_us, w.p99_us = map(float, w.out.split())
    if errors:
        raise Failed(f"{errors:.0f} of {count:.0f} reads failed")
    return count, seconds, w


def at_random(system, bench, threads, ops):
    """No longer than 4 seconds, which some need for a few thousand."""
    path = os.path.join(system.root, "data/random")
    count, seconds, w = readers(system, bench, "random", path, threads, ops, 4)
    w.count = int(count)
    return count / seconds, w


def w5_local(system, bench):
    for threads in (1, 4):
        drop_caches()
        name = f"W5 random, {threads} thread{'s' * (threads > 1)}"
        value, w = at_random(system, bench, threads, 20000 * threads)
        yield name + ", local", value, w
        if system.name not in ("plain", "erofs"):  # the same blocks, now in its memory
            yield (name + ", daemon's file cached", *at_random(system, bench, threads, w.count))


def w5_empty(system, bench):
    fresh(system)
    yield "W5 random, 1 thread, empty cache", *at_random(system, bench, 1, 400)


def archive(system, bench):
    w = timed(system.pids(), "tar cf - --one-file-system --exclude=./data "
              f"-C {shlex.quote(system.root)} . | wc -c", shell=True)
    w.per_gb = w.cpu / (int(w.out) / 1e9)
    return w.seconds, w


def w6_local(system, bench):
    drop_caches()
    yield "W6 tar, local", *archive(system, bench)


def w6_empty(system, bench):
    fresh(system)
    yield "W6 tar, empty cache", *archive(system, bench)


def small_files(system, bench, threads):
    count, seconds, w = readers(system, bench, "files", bench.list_for(system), threads)
    if count < bench.size["small"]:
        raise Failed(f"only {count:.0f} files")
    return seconds, w


def w8_local(system, bench):
    for threads in (1, 8, 64):
        drop_caches()
        yield (f"W8 small files, {threads} reader{'s' * (threads > 1)}, local",
               *small_files(system, bench, threads))


def w8_empty(system, bench):
    for threads in (8, 64):
        fresh(system)
        yield (f"W8 small files, {threads} readers, empty cache",
               *small_files(system, bench, threads))


def w9_local(system, bench):
    """A fresh daemon, after a walk and a tar."""
    if system.name in ("plain", "erofs"):
        return
    system.umount()
    system.mount()
    walk(system, bench)
    w = archive(system, bench)[1]
    yield "W9 daemon's own memory, local", memory_of(system.pids(), "RssAnon"), w


def w9_empty(system, bench):
    """The most while it fetches the big file."""
    fresh(system)
    w = sequential(system, bench)[1]
    yield "W9 daemon's own memory, fetching", w.anon, w


def extents(folder):
    """Of the largest file below folder, as filefrag counts them."""
    files = [os.path.join(f, n) for f, _, ns in os.walk(folder) for n in ns]
    largest = max(files, key=lambda p: os.stat(p).st_blocks)
    out = subprocess.run(["filefrag", largest], stdout=subprocess.PIPE, text=True,
                         check=False).stdout
    return int(out.rsplit(":", 1)[1].split()[0]) if ":" in out else 0


def fill_empty(system, bench):
    """Whether the order in which data came in costs those who read it later."""
    if not system.keeps:
        return
    for order, threads in (("in order", 0), ("at random", 4)):
        fresh(system)
        if threads:
            readers(system, bench, "random", os.path.join(system.root, "data/sequential"),
                    threads, bench.size["sequential"] // 8192)
        sequential(system, bench)
        system.umount()
        drop_caches()
        system.mount()
        drop_caches()
        value, w = sequential(system, bench)
        w.extents = extents(system.cache)
        yield f"fill {order}, read back", value, w


def unit_of(series):
    return UNITS[series.split()[0]]


WORKLOADS = {
    "W1": (w1_local, None), "W2": (w2_local, w2_empty), "W3": (w3_local, None),
    "W4": (w4_local, w4_empty), "W5": (w5_local, w5_empty), "W6": (w6_local, w6_empty),
    "W8": (w8_local, w8_empty), "W9": (w9_local, w9_empty),
    "fill": (None, fill_empty),
}
