"""What is measured: each system shows the same tree, each in its own way.

A system mounts, unmounts, and can empty its own cache; pids() are the processes
that work for it.
"""
import functools
import json
import os
import shutil
import subprocess
import sys
import time

from images import CHUNKED, RAFS

MARK = "etc/os-release"
NYDUSD = {
    "device": {"backend": {"type": "registry", "config": {"scheme": "http", "skip_verify": True}},
               "cache": {"type": "blobcache", "config": {}}},
    "mode": "direct", "digest_validate": False, "iostats_files": False, "enable_xattr": True,
    "fs_prefetch": {"enable": False},
}


class Failed(Exception):
    """A system does not do it; the sentence says why."""


def call(*words, **kw):
    done = subprocess.run(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False, **kw)
    if done.returncode:
        raise Failed(done.stderr.strip().splitlines()[-1] if done.stderr.strip()
                     else f"{words[0]}: exit code {done.returncode}")
    return done.stdout


def umount_below(folder):
    """Whatever is mounted there goes."""
    with open("/proc/self/mounts", encoding="utf-8") as f:
        points = [line.split()[1] for line in f]
    for p in reversed(points):
        if p.startswith(folder + "/"):
            subprocess.run(["umount", "-l", p], stderr=subprocess.DEVNULL, check=False)


class System:
    """The tree itself; others mount something."""
    name, image = "plain", "directory"
    lazy = False        # has a cache that can be empty
    keeps = True        # what it fetched is there at the next mount
    programs = ()       # that it needs
    has_data = True     # files have their bytes

    def __init__(self, bench, content="image", place="local"):
        self.bench = bench
        self.content = content  # which of the trees
        self.place = place      # those of other places share nothing with it
        self.folder = bench.folder_for(self)
        self.root = os.path.join(self.folder, "mnt")
        self.cache = os.path.join(self.folder, "cache")
        os.makedirs(self.root, exist_ok=True)
        self.process = None

    @property
    def key(self):
        return f"{self.name}, {self.image}" if self.lazy else self.name

    def start(self):
        """Begin the mount; may return before it is there."""

    def stop(self):
        """End it."""

    def pids(self):
        return [self.process.pid] if self.process else []

    def empty(self):
        """Forget what has been fetched."""

    def take_all(self):
        """All data into the cache."""
        # tar reads nothing where it sees that it writes to /dev/null
        subprocess.run(["sh", "-c", 'tar cf - -C "$0" . | cat >/dev/null', self.root], check=True)

    def mount(self):
        self.start()
        end = time.monotonic() + 60
        while not os.path.exists(os.path.join(self.root, MARK)):
            if self.process and self.process.poll() is not None:
                raise Failed(f"{self.name} ended with code {self.process.returncode}")
            if time.monotonic() > end:
                raise Failed(f"{self.name} does not mount")
            time.sleep(0.001)

    def umount(self):
        self.stop()
        # after an error half way, too
        for _ in range(50):
            if not os.path.ismount(self.root):
                break
            subprocess.run(["umount", "-l", self.root], stderr=subprocess.DEVNULL, check=False)
            time.sleep(0.05)
        if self.process:
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


class Plain(System):
    def __init__(self, *args):
        super().__init__(*args)
        self.root = self.bench.images.tree


class Erofs(System):
    name, image = "erofs", "erofs"
    programs = ("mkfs.erofs",)

    def start(self):
        call(self.bench.tool("mount_file"), "erofs", self.bench.images.erofs, self.root)

    def stop(self):
        subprocess.run(["umount", self.root], stderr=subprocess.DEVNULL, check=False)


class Daemon(System):
    """A daemon in the foreground, that ends when its mount does."""

    def command(self):
        raise NotImplementedError

    def start(self):
        with open(os.path.join(self.folder, "log"), "wb") as log:
            self.process = subprocess.Popen(list(map(str, self.command())), stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)

    def stop(self):
        subprocess.run(["umount", self.root], stderr=subprocess.DEVNULL, check=False)


class Squashfuse(Daemon):
    name, image = "squashfuse", "squashfs"
    programs = ("mksquashfs", "squashfuse_ll")

    def command(self):
        return ["squashfuse_ll", "-f", self.bench.images.squashfs, self.root]


class Bare(Daemon):
    name, image = "bare fuse", "none"
    has_data = False

    def command(self):
        return [self.bench.tool("bare_fuse"), self.bench.images.tree, self.root,
                min(4, os.cpu_count())]


class Nydusd(Daemon):
    name, image, lazy = "nydusd", RAFS, True
    programs = ("nydus-image", "nydusd")

    def command(self):
        config = json.loads(json.dumps(NYDUSD))
        config["device"]["backend"]["config"] |= {
            "host": self.bench.host, "repo": "bench/" + self.content}
        os.makedirs(self.cache, exist_ok=True)
        config["device"]["cache"]["config"]["work_dir"] = self.cache
        path = os.path.join(self.folder, "config.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f)
        return ["nydusd", "--rlimit-nofile", 0, "-M", self.root, "-B",
                self.bench.images.bootstrap(self.content), "-C", path,
                "--fuse-threads", 4, "--log-level", "error"]

    def stop(self):
        if self.process:
            self.process.terminate()

    def empty(self):
        shutil.rmtree(self.cache, ignore_errors=True)


class Sluice(System):
    lazy = True

    def __init__(self, driver, transport, kind, *args):
        self.driver, self.transport, self.more = driver, transport, []
        self.name = f"sluice {driver}" + (f"/{transport}" if driver == "fuse" else "")
        self.image = kind
        self.daemons = []
        self.digest = None  # mounted by it instead of the tag
        super().__init__(*args)
        if self.place == "local":  # shared by all ways of one image
            self.cache = self.bench.path(f"cache-{kind}-{self.content}")

    def start(self):
        self.daemons = None  # asked when it is wanted, which takes time
        ref = self.bench.ref(self.image, self.content)
        if self.digest:
            ref = ref.rsplit(":", 1)[0] + "@" + self.digest
        call(self.bench.sluice, "mount", "-q", "--plain-http", "--cache", self.cache,
             "--driver", self.driver,
             *(["--transport", self.transport] if self.driver == "fuse" else []), *self.more,
             ref, self.root, env=self.bench.env)

    def stop(self):
        self.daemons = []
        if os.path.ismount(self.root):
            try:
                call(self.bench.sluice, "umount", self.root, env=self.bench.env)
            except Failed as e:
                # a namespace of somebody else may hold it; umount() looks
                print(f"umount: {e}", file=sys.stderr)

    def take_all(self):
        try:
            call(self.bench.sluice, "fetch", "-q", "--wait", self.root, env=self.bench.env)
        except Failed:
            super().take_all()

    def status(self):
        return json.loads(call(self.bench.sluice, "status", "--json", self.root,
                               env=self.bench.env))

    def pids(self):
        if self.daemons is None:
            pid = self.status().get("pid")
            self.daemons = [pid] if pid else []
        return self.daemons

    def empty(self):
        shutil.rmtree(self.cache, ignore_errors=True)


def probe(system):
    """Whether the system mounts here; the reason if not."""
    try:
        system.mount()
        if isinstance(system, Sluice):
            got = system.status()
            if got["driver"] != system.driver or \
                    system.driver == "fuse" and got["transport"] != system.transport:
                return f"it took {got['driver']}, {got['transport']}"
        return None
    except (Failed, OSError) as e:
        return str(e)
    finally:
        try:
            system.umount()
        except Failed:
            pass
