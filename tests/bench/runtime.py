"""Benchmarks of the runtime and of decoding: measured
by bench_runtime, bench_decode and fio."""
import json
import os
import shutil
import statistics
import subprocess
import sys

from figures import is_met, quartiles

CHUNKS = 5  # so often fio has its turn

# id, what it is, series, unit, baseline series, sign and target of the ratio
# (of the value where there is no baseline)
ROWS = [
    ("cached.pread", "pread", "cached.pread.cpu_ns", "ns CPU/op", None, None),
    ("cached.nowait", "preadv2(RWF_NOWAIT)", "cached.nowait.cpu_ns", "ns CPU/op", None, None),
    ("cached.hit_uring", "rt_file_try_read, uring", "cached.hit_uring.cpu_ns", "ns CPU/op",
     "cached.nowait.cpu_ns", ("<=", 1.10)),
    ("cached.hit_threads", "rt_file_try_read, threads", "cached.hit_threads.cpu_ns", "ns CPU/op",
     "cached.nowait.cpu_ns", ("<=", 1.10)),
    ("cached.uring32", "uring, depth 32", "cached.uring32.cpu_ns", "ns CPU/op",
     "cached.pread.cpu_ns", ("<=", 1.25)),
    ("cached.threads32", "threads, depth 32", "cached.threads32.cpu_ns", "ns CPU/op",
     "cached.pread.cpu_ns", None),
    ("cached.fio32", "fio io_uring, depth 32", "cached.fio32.cpu_ns", "ns CPU/op",
     "cached.pread.cpu_ns", None),
    ("uncached.pread.iops", "pread", "uncached.pread.iops", "IOPS", None, None),
    ("uncached.uring32.iops", "uring, depth 32", "uncached.uring32.iops", "IOPS",
     "uncached.pread.iops", (">", 1.0)),
    ("uncached.threads32.iops", "threads, depth 32", "uncached.threads32.iops", "IOPS",
     "uncached.pread.iops", (">", 1.0)),
    ("uncached.fio32.iops", "fio io_uring, depth 32", "uncached.fio32.iops", "IOPS",
     "uncached.pread.iops", None),
    ("uncached.pread.per_cpu", "pread", "uncached.pread.per_cpu", "IOPS per CPU", None, None),
    ("uncached.threads32.per_cpu", "threads, depth 32", "uncached.threads32.per_cpu",
     "IOPS per CPU", "uncached.pread.per_cpu", None),
    ("uncached.uring32.per_cpu", "uring, depth 32", "uncached.uring32.per_cpu", "IOPS per CPU",
     "uncached.threads32.per_cpu", (">=", 1.5)),
    ("uncached.fio32.per_cpu", "fio io_uring, depth 32", "uncached.fio32.per_cpu",
     "IOPS per CPU", "uncached.threads32.per_cpu", None),
    ("fairness.wait_jain", "4 workers, waiting: Jain index", "fairness.wait_jain", "", None,
     (">=", 0.95)),
    ("fairness.spin_jain", "4 workers, computing: Jain index", "fairness.spin_jain", "", None,
     (">=", 0.95)),
    ("fairness.wait_slowed", "one slowed 10x, waiting: of the ideal", "fairness.wait_slowed", "",
     None, (">=", 0.90)),
    ("fairness.spin_slowed", "one slowed 10x, computing: of the ideal", "fairness.spin_slowed",
     "", None, (">=", 0.90)),
    ("fairness.spin_idle", "idle while demand is queued", "fairness.spin_idle", "%", None,
     ("<=", 1.0)),
    ("demand.fetch_alone", "fetch and decode: p99 alone", "demand.fetch_alone_p99_us", "us",
     None, None),
    ("demand.fetch_flood", "fetch and decode: p99 in a flood", "demand.fetch_flood_p99_us", "us",
     "demand.fetch_alone_p99_us", ("<=", 2.0)),
    ("demand.fetch_prefetched", "fetch and decode: the flood itself", "demand.fetch_prefetched",
     "1/s", None, None),
    ("demand.read_alone", "disk read: p99 alone", "demand.read_alone_p99_us", "us", None, None),
    ("demand.read_flood", "disk read: p99 in a flood", "demand.read_flood_p99_us", "us",
     "demand.read_alone_p99_us", ("<=", 2.0)),
    ("demand.read_prefetched", "disk read: the flood itself", "demand.read_prefetched", "1/s",
     None, None),
]
for SIZE in ("4k", "64k", "1m", "4m"):
    ROWS += [(f"decode.{what}_{SIZE}", f"{SIZE}: {label}", f"decode.{what}_{SIZE}", "MB/s",
              base and f"decode.{base}_{SIZE}", None)
             for what, label, base in [
                 ("zlib", "zlib, a gzip member", None),
                 ("libdeflate", "libdeflate", "zlib"),
                 ("gzip", "ours", "zlib"),
                 ("gzip_more", "ours, a member that goes on", "zlib"),
                 ("zstd_new", "zstd, a new context each time", None),
                 ("zstd_reused", "zstd, one context", "zstd_new"),
                 ("zstd", "ours", "zstd_new"),
                 ("sha256", "sha256 (libcrypto)", None),
                 ("blake3", "blake3", "sha256")]]
NAMES = ["cached", "uncached", "fairness", "demand", "decode"]


class Bench:
    """One run: what was measured, by series."""

    def __init__(self, args, build):
        self.args = args
        self.build = build
        self.rounds = args.n or (2 if args.short else 30)
        self.series = {}
        self.fio = shutil.which("fio")

    def note(self, name, value):
        self.series.setdefault(name, []).append(value)

    def tool(self, name):
        return os.path.join(self.build, "tests", "bench", name)

    def program(self, name, *words):
        out = subprocess.run([self.tool(name), *map(str, words)], check=True,
                             stdout=subprocess.PIPE, text=True)
        for line in out.stdout.splitlines():
            name, value = line.split()
            self.note(name, float(value))
            if name.endswith(".cpu_ns"):
                self.note(name.removesuffix("cpu_ns") + "per_cpu", 1e9 / float(value))

    def make(self, path):
        size = "64" if self.args.short else "1024"
        subprocess.run([self.tool("bench_runtime"), "make", path, size], check=True)

    def run_fio(self, name, path, ops, *more):
        out = subprocess.run(
            [self.fio, "--name=bench", "--filename=" + path, "--rw=randread", "--bs=4k",
             "--ioengine=io_uring", "--iodepth=32", "--direct=0", "--gtod_reduce=1",
             "--fadvise_hint=1", f"--io_size={ops * 4096}", "--output-format=json", *more],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if out.returncode:
            print("no figures from fio:", out.stderr.strip(), file=sys.stderr)
            self.fio = None
            return
        job = json.loads(out.stdout[out.stdout.index("{"):])["jobs"][0]
        cpu = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] * 1e6
        done = job["read"]["total_ios"]
        if cpu > 0:
            self.note(name + ".cpu_ns", cpu / done)
            self.note(name + ".per_cpu", done * 1e9 / cpu)
        self.note(name + ".iops", job["read"]["iops"])

    def measure(self, name, path):
        if name == "decode":
            self.program("bench_decode", self.rounds)
            return
        short = self.args.short
        reads = name in ("cached", "uncached")
        chunks = min(CHUNKS, self.rounds) if reads else 1
        for i in range(chunks):
            rounds = self.rounds // chunks + (i < self.rounds % chunks)
            self.program("bench_runtime", name, path, rounds, *([100] if short else []))
            if not self.fio or not reads:
                continue
            if name == "cached":
                self.run_fio("cached.fio32", path, 50000 if short else 200000, "--invalidate=0",
                             "--norandommap", "--size=" + ("8m" if short else "128m"))
            else:
                self.run_fio("uncached.fio32", path, 4000 if short else 20000, "--invalidate=1")


def make_row(series, row):
    name, label, key, unit, base, target = row
    values = series.get(key, [])
    bases = series.get(base, [])
    result = {"id": name, "what": label, "unit": unit, "value": quartiles(values),
              "baseline": base, "ratio": None,
              "target": f"{target[0]} {target[1]:g}" if target else None, "met": None}
    if base and values and bases:
        if len(values) == len(bases):
            ratios = [v / b for v, b in zip(values, bases)]
        else:  # fio has rounds of its own
            ratios = [v / statistics.median(bases) for v in values]
        result["ratio"] = quartiles(ratios)
    judged = result["ratio"] if base else result["value"]
    if target and judged:
        result["met"] = is_met(judged["median"], target)
    return result


def text(q, digits):
    if not q:
        return "not measured"
    return " ".join((f"{q['median']:.{digits}f}", f"({q['q1']:.{digits}f}-{q['q3']:.{digits}f})"))


def digits_of(q):
    if not q or abs(q["median"]) >= 100:
        return 0
    return 1 if abs(q["median"]) >= 10 else 3


def print_table(rows):
    print(f"{'':40} {'median (quartiles)':30} {'ratio to baseline':48} target")
    group = None
    for r in rows:
        if r["id"].split(".")[0] != group:
            group = r["id"].split(".")[0]
            print(group)
        ratio = ""
        if r["ratio"]:
            ratio = f"{text(r['ratio'], 2)} of {r['baseline'].split('.', 1)[1]}"
        target = ""
        if r["target"]:
            met = {True: "met", False: "MISSED", None: "not measured"}[r["met"]]
            target = f"{r['target']} {met}"
        value = text(r["value"], digits_of(r["value"]))
        if r["value"]:
            value += " " + r["unit"]
        print(f"  {r['what']:38} {value:30} {ratio:48} {target}".rstrip())


def measure(args, build, tmp):
    """The wanted of NAMES, with a file of 1 GiB in tmp; gives rounds and rows."""
    bench = Bench(args, build)
    if not bench.fio:
        print("fio is not installed: no figures of it", file=sys.stderr)
    path = os.path.join(tmp, "data")
    bench.make(path)
    for name in NAMES:
        if name in args.names:
            bench.measure(name, path)
    return {"rounds": bench.rounds,
            "rows": [make_row(bench.series, r) for r in ROWS if r[0].split(".")[0] in args.names]}
