"""What was promised: ratios to another system in the same run, or bounds of the
value itself."""
from figures import is_met, quartiles

NOISE = 1.05  # "as fast as" means within this

# series, a part of the system's name, compared with (None: the value), sign, bound
TARGETS = [
    ("W1 mount", "sluice erofs", "erofs", "<=", 1.5),
    ("W1 mount", "sluice fuse", "squashfuse", "<=", 1.0),
    ("W2 python, local", "sluice erofs", "erofs", "<=", 1.05),
    ("W2 python, local", "sluice fuse", "plain", "<=", 1.15),
    ("W2 python, empty cache", "sluice", "nydusd, rafs", "<=", 0.55),
    ("W3 walk, cold", "sluice fuse", "nydusd, rafs", "<=", 0.6),
    ("W3 walk, warm", "sluice fuse", "nydusd, rafs", "<=", 1.0),
    ("W4 sequential, local", "sluice erofs", "erofs", ">=", 1.0),
    ("W4 sequential, local", "sluice fuse", "erofs", ">=", 0.9),
    ("W4 sequential, empty cache", "sluice", "nydusd, rafs", ">=", 2.0),
    ("W5 random, 1 thread, local", "sluice erofs", "erofs", ">=", 0.95),
    ("W5 random, 4 threads, local", "sluice erofs", "erofs", ">=", 0.95),
    ("W5 random, 1 thread, local", "sluice fuse/uring", "nydusd, rafs", ">=", 1.6),
    ("W5 random, 4 threads, local", "sluice fuse/uring", "nydusd, rafs", ">=", 1.6),
    ("W5 random, 1 thread, local", "sluice fuse/uring", "bare fuse", ">=", 0.95),
    ("W5 random, 4 threads, local", "sluice fuse/uring", "bare fuse", ">=", 0.95),
    ("W5 random, 1 thread, daemon's file cached", "sluice fuse/uring", "bare fuse", ">=", 0.95),
    ("W5 random, 4 threads, daemon's file cached", "sluice fuse/uring", "bare fuse", ">=", 0.95),
    ("W5 random, 1 thread, empty cache", "sluice", "nydusd, rafs", ">=", 2.0),
    ("W6 tar, local", "sluice erofs", "erofs", "<=", 1.05),
    ("W6 tar, local", "sluice fuse", "nydusd, rafs", "<=", 0.85),
    ("W6 tar, empty cache", "sluice", "nydusd, rafs", "<=", 0.55),
    ("W7 first start, 50 ms 100 Mbit/s", "sluice", None, "<=", 4.0),
    ("W7 first start, 50 ms 100 Mbit/s", "recorded", None, "<=", 1.8),
    ("W7 first start, 1 ms 1000 Mbit/s", "sluice", None, "<=", 0.9),
    ("W7 first start, 1 ms 1000 Mbit/s", "recorded", None, "<=", 0.7),
    ("W8 small files, 64 readers, local", "sluice erofs", "erofs", "<=", 1.05),
    ("W8 small files, 64 readers, local", "sluice fuse", "nydusd, rafs", "<=", 0.7),
    ("W8 small files, 64 readers, empty cache", "sluice", "nydusd, rafs", "<=", 0.5),
    ("W9 daemon's own memory, local", "sluice", None, "<=", 12),
    ("W9 daemon's own memory, fetching", "sluice", None, "<=", 32),
    ("pull whole image", "sluice", "podman, zstd:chunked", "<=", 0.4),
]
BASELINES = ["plain", "erofs", "squashfuse", "bare fuse", "nydusd, rafs"]


def ratio(rows, bases):
    """Quartiles of the rounds' ratios; of all against the median where rounds
    are missing."""
    if not rows or not bases:
        return None
    values, other = [r["value"] for r in rows], [r["value"] for r in bases]
    if len(values) != len(other):
        other = [quartiles(other)["median"]] * len(values)
    return quartiles([v / b for v, b in zip(values, other) if b])


def judge(figures):
    """A verdict for each target and system that has figures."""
    out = []
    for series, part, base, sign, bound in TARGETS:
        for (s, key), rows in figures.items():
            if s != series or part not in key or ("recorded" in key) != ("recorded" in part):
                continue
            got = quartiles([r["value"] for r in rows]) if base is None else \
                ratio(rows, figures.get((series, base)))
            slack = bound if bound != 1.0 else (NOISE if sign == "<=" else 1 / NOISE)
            out.append({"series": series, "system": key, "baseline": base,
                        "target": f"{sign} {bound:g}", "got": got and round(got["median"], 3),
                        "met": is_met(got["median"], (sign, slack)) if got else None})
    return out
