"""containerd with the stargz snapshotter, and the same zstd:chunked image.

Both services run for as long as a system is mounted. What has been fetched does
not outlive that, so nothing is said about a second mount.
"""
import os
import shutil
import subprocess
import time

from images import CHUNKED
from systems import Failed, System, call, umount_below

CONTAINERD = """version = 2
root = "{0}/root"
state = "{0}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{0}/containerd.sock"
[proxy_plugins.stargz]
  type = "snapshot"
  address = "{0}/stargz.sock"
"""
# Fetching in the background would go on beside what is measured next.
STARGZ = """no_background_fetch = true
[[resolver.host."{0}".mirrors]]
host = "{0}"
insecure = true
"""


PROGRAMS = ("containerd-stargz-grpc", "containerd", "ctr-remote")


class Services:
    """The two daemons: what they fetch below cache, what they say in folder."""

    def __init__(self, cache, folder, host, name):
        self.cache, self.folder, self.host = cache, folder, host
        # short: the path of a socket has an end
        self.base = os.path.join("/run/sluice-bench", name)
        self.running = []

    def ctr(self, *words):
        return call("ctr-remote", "--address", self.base + "/containerd.sock", *words)

    def start(self):
        self.empty()
        os.makedirs(self.base, exist_ok=True)
        os.makedirs(self.cache)
        self.config("containerd", CONTAINERD.format(self.base))
        self.config("stargz", STARGZ.format(self.host))
        self.service("stargz.sock", "containerd-stargz-grpc", "--root", self.cache + "/stargz",
                     "--address", self.base + "/stargz.sock", "--config",
                     self.base + "/stargz.toml", "--log-level", "error")
        self.service("containerd.sock", "containerd", "--config", self.base + "/containerd.toml",
                     "--root", self.cache + "/root", "--log-level", "error")

    def mount(self, ref, root):
        """"images mount" of containerd 1.6 asks another snapshotter than it is
        told, so the topmost snapshot is mounted."""
        snapshots = ["snapshots", "--snapshotter", "stargz"]
        self.ctr("images", "rpull", "--plain-http", ref)
        names, parents = set(), set()
        for line in self.ctr(*snapshots, "ls").splitlines()[1:]:
            words = line.split()
            names.add(words[0])
            parents.update(words[1:-1])
        call("sh", "-c", self.ctr(*snapshots, "view", "--target", root, "bench",
                                  *(names - parents)))

    def config(self, name, text):
        with open(f"{self.base}/{name}.toml", "w", encoding="utf-8") as f:
            f.write(text)

    def service(self, socket, *words):
        with open(os.path.join(self.folder, words[0] + ".log"), "wb") as log:
            p = subprocess.Popen(list(words), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.running.append(p)
        end = time.monotonic() + 20
        while not os.path.exists(f"{self.base}/{socket}"):
            if p.poll() is not None or time.monotonic() > end:
                raise Failed(f"{words[0]} does not start")
            time.sleep(0.01)

    def pids(self):
        return [p.pid for p in self.running]

    def stop(self, root):
        subprocess.run(["umount", root], stderr=subprocess.DEVNULL, check=False)
        for p in reversed(self.running):
            p.terminate()
            p.wait()
        self.running = []
        umount_below(self.cache)  # its layers
        shutil.rmtree(self.base, ignore_errors=True)

    def empty(self):
        shutil.rmtree(self.cache, ignore_errors=True)


class Stargz(System):
    name, image, lazy, keeps = "stargz", CHUNKED, True, False
    programs = PROGRAMS

    def __init__(self, *args):
        super().__init__(*args)
        self.services = Services(self.cache, self.folder, self.bench.host, self.place)

    def start(self):
        self.services.start()
        self.services.mount(self.bench.ref(CHUNKED, self.content), self.root)

    def pids(self):
        return self.services.pids()

    def stop(self):
        self.services.stop(self.root)

    def empty(self):
        self.services.empty()
