"""Time, processor and memory of what a system does."""
import os
import resource
import subprocess
import threading
import time

HZ = os.sysconf("SC_CLK_TCK")


def drop_caches():
    """Nothing of any file in memory."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3\n")


def cpu_of(pids):
    """Seconds that these processes have computed."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / HZ
        except OSError:
            pass
    return total


def memory_of(pids, key):
    """A line of /proc/PID/status in MiB, summed up."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
                total += sum(int(x.split()[1]) for x in f if x.startswith(key + ":"))
        except OSError:
            pass
    return total / 1024


class Watch:
    """Seconds, the daemon's processor time and most memory of a block."""

    def __init__(self, pids):
        self.pids = pids
        self.anon = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.sample)

    def sample(self):
        while not self.done.is_set():
            self.anon = max(self.anon, memory_of(self.pids, "RssAnon"))
            self.done.wait(0.05)

    def __enter__(self):
        self.before = cpu_of(self.pids)
        if self.pids:
            self.thread.start()
        self.start = time.perf_counter()
        return self

    def __exit__(self, *exc):
        self.seconds = time.perf_counter() - self.start
        self.done.set()
        if self.pids:
            self.thread.join()
            self.anon = max(self.anon, memory_of(self.pids, "RssAnon"))
        self.cpu = cpu_of(self.pids) - self.before
        self.rss = memory_of(self.pids, "VmRSS")
        self.peak = memory_of(self.pids, "VmHWM")


def timed(pids, *words, shell=False):
    """Run a client; gives its Watch, with .out, and .client: its CPU seconds."""
    r0 = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Watch(pids) as w:
        done = subprocess.run(words[0] if shell else list(map(str, words)), shell=shell,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              errors="replace", check=False)
    r1 = resource.getrusage(resource.RUSAGE_CHILDREN)
    w.client = r1.ru_utime + r1.ru_stime - r0.ru_utime - r0.ru_stime
    w.out = done.stdout
    if done.returncode:
        raise RuntimeError(f"{words[0]}: {done.stderr.strip()[-300:]}")
    return w
