"""W7: from nothing to a program that has run, over a link with a round-trip time
and a bandwidth. A network namespace holds a registry; shaper.c is the wire."""
import os
import subprocess
import time

import images
from measure import Watch, drop_caches
from systems import Failed, Sluice, call
from workloads import python

NETNS = "sluice-bench"
THERE, HERE = "10.213.77.1", "10.213.77.2"
IF_THERE, IF_HERE = "slbench0", "slbench1"
LINKS = [(50, 100), (20, 200), (1, 1000)]  # round trip in ms, Mbit/s


class RegistryThere(images.Registry):
    """The same storage as the registry on loopback, at the other end."""

    def __init__(self, folder):
        super().__init__(folder)
        self.host = f"{THERE}:{self.port}"

    def command(self):
        # ip netns exec would also hold every mount that there is
        return ["nsenter", "--net=/run/netns/" + NETNS, *super().command()]

    def start(self):
        with open(f"{self.folder}/log", "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        end = time.monotonic() + 20
        while subprocess.run(["curl", "-sfo", "/dev/null", f"http://{self.host}/v2/"],
                             check=False).returncode:
            if time.monotonic() > end:
                raise RuntimeError("no registry behind the link")
            time.sleep(0.1)


class Link:
    """The namespace, the wire, and the registry behind it."""

    def __init__(self, bench, rtt, mbit):
        self.rtt, self.mbit = rtt, mbit
        self.bench = bench
        self.registry = RegistryThere(bench.images.path("registry"))
        self.shaper = None

    def __enter__(self):
        subprocess.run(["ip", "netns", "del", NETNS], stderr=subprocess.DEVNULL, check=False)
        call("ip", "netns", "add", NETNS)
        self.shaper = subprocess.Popen(
            [self.bench.tool("shaper"), NETNS, IF_THERE, IF_HERE, str(self.rtt), str(self.mbit)],
            stdout=subprocess.PIPE)
        self.shaper.stdout.readline()
        call("ip", "-n", NETNS, "addr", "add", THERE, "peer", HERE, "dev", IF_THERE)
        call("ip", "-n", NETNS, "link", "set", IF_THERE, "up", "txqueuelen", 2000)
        call("ip", "addr", "add", HERE, "peer", THERE, "dev", IF_HERE)
        call("ip", "link", "set", IF_HERE, "up", "txqueuelen", 2000)
        self.registry.start()
        return self

    def __exit__(self, *exc):
        self.registry.stop()
        if self.shaper:
            self.shaper.terminate()
            self.shaper.wait()
        subprocess.run(["ip", "netns", "del", NETNS], stderr=subprocess.DEVNULL, check=False)

    def received(self):
        """Bytes that have come over the wire, headers included."""
        with open(f"/sys/class/net/{IF_HERE}/statistics/rx_bytes", encoding="ascii") as f:
            return int(f.read())


def first_start(system, link):
    """Seconds from an empty cache to the end of the program, and the Watch."""
    system.umount()
    system.empty()
    drop_caches()
    before = link.received()
    try:
        with Watch([]) as w:
            system.mount()
            _, inner = python(system)
        w.megabytes = (link.received() - before) / 1e6
    finally:
        system.umount()
    w.anon, w.cpu = inner.anon, inner.cpu
    return w.seconds, w


def record(system, path):
    """The order of the first reads of that program, written to path."""
    system.more += ["--record", path]
    try:
        system.umount()
        system.empty()
        system.mount()
        python(system)
    finally:
        system.umount()
        system.more = system.more[:-2]
    return os.path.exists(path)


class Recorded(Sluice):
    """With the order of an earlier run, and nothing else of it."""

    def __init__(self, *args):
        super().__init__(*args)
        self.name += " recorded"
        self.order = os.path.join(self.folder, "order")

    def prepare(self):
        """False where this program records no order."""
        if os.path.exists(self.order):
            os.unlink(self.order)
        if not record(self, self.order):
            return False
        self.more = ["--prefetch", f"recorded:{self.order}"]
        return True


def systems_for(bench, makers):
    """Those that fetch, with python's image."""
    out = []
    for make in makers:
        s = make(bench, "python", "link")
        if s.lazy:
            out.append(s)
        if isinstance(s, Sluice):
            out.append(Recorded(s.driver, s.transport, s.image, bench, "python", "recorded"))
    return out


def has_order(bench, system):
    try:
        if system.prepare():
            return True
        why = "no order was written"
    except Failed as e:
        why = str(e)
    bench.note(f"{system.key}: left out: {why}")
    return False


def measure(bench, makers, links, rounds):
    """All of W7; figures go to bench.add()."""
    if subprocess.run(["ip", "netns", "list"], check=False, capture_output=True).returncode or \
            not os.path.exists("/dev/net/tun"):
        bench.note("W7: left out: no network namespaces or no TUN here")
        return
    for rtt, mbit in links:
        with Link(bench, rtt, mbit) as link:
            bench.host = link.registry.host
            systems = systems_for(bench, makers)
            for s in list(systems):
                if isinstance(s, Recorded) and not has_order(bench, s):
                    systems.remove(s)
            for i in range(rounds):
                for s in bench.rotated(systems, i):
                    figures = bench.guard(s, "W7", lambda s=s: first_start(s, link))
                    if figures:
                        bench.add(s, f"W7 first start, {rtt} ms {mbit} Mbit/s", *figures)
            bench.host = bench.images.registry.host
