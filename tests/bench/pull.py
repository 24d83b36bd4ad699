"""The whole image into the cache, beside what podman does with it, and beside
what nobody can do without: the bytes copied to the disk, and decompressed."""
import os
import shutil

from images import CHUNKED
from measure import Watch, drop_caches
from systems import call, umount_below

SERIES = "pull whole image"


class Fetch:
    """sluice fetch."""

    def __init__(self, bench, kind):
        self.bench, self.kind = bench, kind
        self.key = f"sluice fetch, {kind}"
        self.cache = bench.path("pull-cache")

    def run(self):
        call(self.bench.sluice, "fetch", "-q", "--plain-http", "--cache", self.cache,
             self.bench.ref(self.kind, "image"), env=self.bench.env)

    def empty(self):
        shutil.rmtree(self.cache, ignore_errors=True)


class Podman:
    """podman pull, into a storage of its own."""

    def __init__(self, bench):
        self.bench = bench
        self.key = "podman, " + CHUNKED
        self.storage = bench.path("pull-podman")

    def podman(self, *words):
        call("podman", "--root", self.storage + "/root", "--runroot", self.storage + "/run",
             *words)

    def run(self):
        self.podman("pull", "--quiet", "--tls-verify=false",
                    self.bench.ref(CHUNKED, "image"))

    def empty(self):
        if os.path.exists(self.storage):
            umount_below(self.storage)  # it stays mounted
            shutil.rmtree(self.storage, ignore_errors=True)


class Copy:
    """skopeo's copy of the layers, and zstd's of what is in them."""
    # a digest is the name of all that it copies; what is large is a layer
    COMMAND = "find copy -type f -size +64k -exec zstd -dqc '{}' ';' >unpacked"

    def __init__(self, bench):
        self.bench = bench
        self.key = "skopeo and zstd, " + CHUNKED
        self.folder = bench.path("pull-copy")

    def run(self):
        os.makedirs(self.folder)
        call("skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false",
             "docker://" + self.bench.ref(CHUNKED, "image"), f"dir:{self.folder}/copy")
        call("sh", "-c", self.COMMAND, cwd=self.folder)

    def empty(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def once(puller):
    puller.empty()
    drop_caches()
    with Watch([]) as w:
        puller.run()
    return w.seconds, w


def measure(bench, rounds):
    """Figures go to bench.add()."""
    pullers = [Fetch(bench, kind) for kind in bench.images.kinds]
    if shutil.which("zstd"):
        pullers.append(Copy(bench))
    else:
        bench.note("skopeo and zstd: left out: no zstd on PATH")
    if shutil.which("podman"):
        pullers.append(Podman(bench))
    else:
        bench.note("podman: left out: not on PATH")
    for i in range(rounds):
        for p in bench.rotated(pullers, i):
            figures = bench.guard(p, "pull", lambda p=p: once(p))
            if figures:
                bench.add(p, SERIES, *figures)
    for p in pullers:
        p.empty()
