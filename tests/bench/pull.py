"""The whole image into the cache, beside what podman does with it."""
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


def once(puller):
    puller.empty()
    drop_caches()
    with Watch([]) as w:
        puller.run()
    return w.seconds, w


def measure(bench, rounds):
    """Figures go to bench.add()."""
    pullers = [Fetch(bench, kind) for kind in bench.images.kinds]
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
