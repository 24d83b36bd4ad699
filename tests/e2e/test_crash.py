# SPDX-License-Identifier: Apache-2.0
"""Processes that end at any moment: the daemon by SIGKILL, the registry while it
is being read from. What the cache says it has is compared with the truth."""
import glob
import hashlib
import os
import random
import shutil
import struct
import subprocess
import threading
import time

import pytest

import tools
import trees

# tests/run soak has hundreds.
ROUNDS = int(os.environ.get("SLUICE_CRASH_ROUNDS", "20"))
IMAGES = ["edge-zstdchunked", "edge-estargz", "edge-gzip"]


def regular(truth):
    # Where a TOC cannot spell a name, the mount shows another one.
    return [n for n, e in sorted(truth.items()) if "sha256" in e and b"raw" not in n]


def chunks_of(path):
    """(device offset, length, sha256 or None) of a map (blobcache/README.md)."""
    with open(path, "rb") as f:
        m = f.read()
    groups, chunks = struct.unpack_from("<II", m, 12)
    for i in range(chunks):
        at = 96 + 40 * groups + 56 * i
        off, length, _, _, algo = struct.unpack_from("<QIIIB", m, at)
        yield off, length, m[at + 24:at + 56] if algo == 1 else None


def check_cache(cache):
    """Every chunk whose bit is set has its digest; how many there were."""
    seen = 0
    for folder in glob.glob(f"{cache}/blobs/*/*/*"):
        if not os.path.exists(f"{folder}/ready"):
            continue
        with open(f"{folder}/ready", "rb") as r, open(f"{folder}/data", "rb") as d:
            bits = r.read()[4096:]
            for i, (off, length, want) in enumerate(chunks_of(f"{folder}/map")):
                if not want or not bits[i // 8] >> i % 8 & 1:
                    continue
                d.seek(off)
                assert hashlib.sha256(d.read(length)).digest() == want, (folder, i)
                seen += 1
    return seen


def read_randomly(mnt, names, rng, stop):
    """Reads until something fails, as everything does when the daemon ends."""
    while not stop.is_set():
        try:
            with open(os.path.join(os.fsencode(mnt), rng.choice(names)), "rb") as f:
                f.read()
        except OSError:
            time.sleep(0.005)


def one_round(cache, image, mnt, names, rng):
    p = subprocess.Popen([tools.BIN, "mount", "-f", "-q", "--cache", cache, image, mnt],
                         stderr=subprocess.PIPE)
    stop = threading.Event()
    readers = [threading.Thread(target=read_randomly,
                                args=(mnt, names, random.Random(rng.random()), stop))
               for _ in range(3)]
    for t in readers:
        t.start()
    time.sleep(rng.random() ** 2 * 0.7)
    p.kill()
    p.communicate()
    stop.set()
    subprocess.run(["umount", "-l", mnt], stderr=subprocess.DEVNULL, check=False)
    for t in readers:
        t.join(20)
        assert not t.is_alive(), "a reader hangs on a dead daemon"


def test_killed_at_random_moments_the_cache_tells_the_truth(samples, edge_truth, cache, mnt):
    seed = int(os.environ.get("SLUICE_SEED") or time.time())
    print("SLUICE_SEED =", seed)
    rng = random.Random(seed)
    names = regular(edge_truth)
    seen = 0
    for i in range(ROUNDS):
        image = samples[rng.choice(IMAGES)]
        one_round(cache, image, mnt, names, rng)
        seen += check_cache(cache)
        if i % 7 == 6 or i == ROUNDS - 1:
            tools.mount(cache, image, mnt)
            for n in names:
                path = os.path.join(os.fsencode(mnt), n)
                assert trees.digest(path) == edge_truth[n]["sha256"], n
            tools.umount(mnt)
            check_cache(cache)
            shutil.rmtree(cache)
    print(f"counted: {ROUNDS} kills, {seen} chunks compared")
    assert seen > 0


@pytest.mark.parametrize("kill", [False, True])
def test_registry_restarted_under_load(kill, own, edge_truth, cache, mnt):
    rng = random.Random(7)
    names = regular(edge_truth)
    wrong = []

    def read_all(order):
        for n in order:
            got = trees.digest(os.path.join(os.fsencode(mnt), n))
            if got != edge_truth[n]["sha256"]:
                wrong.append(n)

    tools.mount(cache, own.ref, mnt, "--prefetch", "none")
    readers = [threading.Thread(target=read_all, args=(rng.sample(names, len(names)),))
               for _ in range(8)]
    if kill:
        own.stop()
    for t in readers:
        t.start()
    for _ in range(5):
        time.sleep(rng.random() * 0.2)
        if own.process and kill:
            own.process.kill()
            own.process.wait()
            own.process = None
        own.stop()
        time.sleep(rng.random() * 0.5)
        own.start()
    for t in readers:
        t.join(90)
        assert not t.is_alive(), "a read hangs though the registry is back"
    assert not wrong
    assert tools.status(mnt)["read_errors"] == 0
    tools.umount(mnt)
    check_cache(cache)
