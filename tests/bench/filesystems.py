"""The workloads over all systems, interleaved: in each round every system does
each workload once, another one first each time."""
import fcntl
import functools
import hashlib
import os
import shutil
import sys

import content
import link
import pull
import systems
from images import Images
from stargz import Stargz
from workloads import HEAVY, WORKLOADS, unit_of

URING = "/sys/module/fuse/parameters/enable_uring"
NAMES = [*sorted([*WORKLOADS, "W7"]), "pull"]
FIELDS = ("cpu", "client", "anon", "rss", "peak", "per_gb", "p50_us", "p99_us", "megabytes",
          "extents")


WAYS = [("fuse", "dev"), ("fuse", "uring"), ("erofs", None)]
OTHERS = [systems.Plain, systems.Erofs, systems.Squashfuse, systems.Bare, systems.Nydusd, Stargz]


def makers(bench):
    """What makes systems, all that this machine has; what it has not goes to
    the notes."""
    out = []
    for cls in OTHERS:
        missing = [p for p in cls.programs if not shutil.which(p)]
        if missing:
            bench.note(f"{cls.name}: left out: {', '.join(missing)} not on PATH")
        else:
            out.append(cls)
    for kind in bench.images.kinds:
        out += [functools.partial(systems.Sluice, *way, kind) for way in WAYS]
    return [make for make in out if bench.wants(make) and works(bench, make)]


def works(bench, make):
    """Whether it mounts here; else the notes say why not."""
    system = make(bench)
    system = make(bench, "python" if system.lazy else "image", "probe")
    why = systems.probe(system) if system.name != "plain" else None
    if why:
        bench.note(f"{system.key}: left out: {why}")
    return not why


class UringOn:
    """FUSE over io_uring allowed for the time of the run, then as it was."""

    def __enter__(self):
        self.old = None
        try:
            with open(URING, "r+", encoding="ascii") as f:
                old = f.read().strip()
                f.seek(0)
                f.write("Y")
            self.old = old
        except OSError:
            pass  # an older kernel

    def __exit__(self, *exc):
        if self.old:
            with open(URING, "w", encoding="ascii") as f:
                f.write(self.old)


class FileBench:
    """One run: programs, images, and what was measured."""

    def __init__(self, args, build):
        self.args = args
        self.build = build
        self.sluice = os.environ.get("SLUICE_BIN", os.path.join(build, "loader", "sluice"))
        self.size = content.SHORT if args.short else content.FULL
        self.folder = os.path.join(args.dir, "short" if args.short else "full")
        self.notes = []
        self.figures = {}  # (series, key) -> [{"value": ...}]
        self.broken = set()
        self.env = {**os.environ, "XDG_RUNTIME_DIR": os.path.join(self.folder, "run")}
        os.makedirs(self.env["XDG_RUNTIME_DIR"], exist_ok=True)
        self.alone()
        content.make(os.path.join(self.folder, "trees"), self.size)
        self.images = Images(self.folder, self.notes)
        self.host = None
        self.lists = {}

    def tool(self, name):
        return os.path.join(self.build, "tests", "bench", name)

    def path(self, name):
        return os.path.join(self.folder, "work", name)

    def ref(self, kind, name):
        return self.images.ref(kind, name).replace(self.images.registry.host, self.host, 1)

    def folder_for(self, system):
        name = f"{system.name}-{system.image}-{system.content}-{system.place}"
        path = self.path(name.replace("/", "-").replace(" ", "-"))
        os.makedirs(path, exist_ok=True)
        return path

    def list_for(self, system):
        """The small files below the system's root, in one shuffled order."""
        if system.root not in self.lists:
            path = os.path.join(self.folder_for(system), "small.list")
            names = [os.path.join(f, n) for f, _, ns in
                     os.walk(os.path.join(self.images.tree, "small")) for n in ns]
            names.sort()
            content.random.Random(8).shuffle(names)
            with open(path, "w", encoding="utf-8") as f:
                f.writelines(n.replace(self.images.tree, system.root, 1) + "\n" for n in names)
            self.lists[system.root] = path
        return self.lists[system.root]

    def note(self, text):
        self.notes.append(text)
        print("note:", text, file=sys.stderr)

    def guard(self, system, name, do):
        """do(); a system that fails once is left out of that workload."""
        if (system.key, name) in self.broken:
            return None
        try:
            return do()
        except (systems.Failed, RuntimeError, OSError) as e:
            self.broken.add((system.key, name))
            self.note(f"{name}: {system.key}: {e}")
            return None

    def add(self, system, series, value, watch):
        row = {"value": value}
        row |= {k: round(getattr(watch, k), 4) for k in FIELDS if hasattr(watch, k)}
        self.figures.setdefault((series, system.key), []).append(row)
        print(f"{series:36} {system.key:32} {value:10.4g} {unit_of(series)}", file=sys.stderr)

    def keep(self, rows):
        """The figures of an earlier run, but of what is measured now."""
        for row in rows:
            if row["series"].split()[0] not in self.args.names:
                self.figures[row["series"], row["system"]] = row["figures"]

    def rotated(self, items, i):
        i %= max(len(items), 1)
        return items[i:] + items[:i]

    def fill(self, system):
        """All data into the system's cache, then a fresh mount of it. Caches
        stay for later runs of the same programs."""
        stamp, wanted = system.cache + ".filled", self.program_id(system)
        if not system.lazy or not system.keeps or content.text_of(stamp) != wanted:
            system.empty()
            if os.path.exists(stamp):
                os.unlink(stamp)
        system.mount()
        if system.lazy and not os.path.exists(stamp):
            system.take_all()
            if system.keeps:
                with open(stamp, "w", encoding="utf-8") as f:
                    f.write(wanted)
                system.umount()
                system.mount()

    def program_id(self, system):
        program = self.sluice if isinstance(system, systems.Sluice) else shutil.which(system.name)
        with open(program or os.devnull, "rb") as f:
            return hashlib.sha256(f.read()).hexdigest()

    def alone(self):
        """Nobody else in this folder, and nothing mounted by who was there."""
        self.lock = open(os.path.join(self.folder, "lock"), "w", encoding="ascii")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"another run uses '{self.folder}', take another --dir")
        systems.umount_below(self.folder)

    def run(self):
        with UringOn(), self.images.registry:
            self.images.make()
            self.host = self.images.registry.host
            usable = makers(self)
            if set(self.args.names) & set(WORKLOADS):
                self.run_workloads(usable)
            if "W7" in self.args.names:
                links = link.LINKS[1:] if self.args.short else link.LINKS
                link.measure(self, usable, links, self.args.n)
            if "pull" in self.args.names:
                pull.measure(self, (self.args.n + 1) // 2)

    def wants(self, make):
        only = self.args.systems
        return not only or any(w in make(self).key.split(", ") for w in only)

    def run_workloads(self, makers):
        local = [m(self) for m in makers]
        try:
            for s in local:
                if self.guard(s, "fill", lambda s=s: self.fill(s) or True) is None:
                    self.broken |= {(s.key, n) for n in WORKLOADS}
            for i in range(self.args.n):
                for name, ways in WORKLOADS.items():
                    if name not in self.args.names or \
                            name in HEAVY and i >= (self.args.n + 1) // 2:
                        continue
                    for s in self.rotated(local if ways[0] else [], i):
                        self.one(s, name, ways[0])
                    self.one_empty(makers, i, name, ways[1])
        finally:
            for s in local:
                self.guard(s, "umount", s.umount)

    def one(self, system, name, way):
        def do():
            for figures in way(system, self):
                self.add(system, *figures)
        self.guard(system, name, do)

    def one_empty(self, makers, i, name, way):
        """From an empty cache, at places and with caches of their own."""
        if not way:
            return
        for make in self.rotated(makers, i):
            s = make(self, "image", "empty")
            if s.lazy:
                try:
                    self.one(s, name + " empty", way)
                finally:
                    self.guard(s, name, s.umount)
