"""What was measured, for people (markdown) and programs (JSON)."""
from figures import markdown, quartiles, short
from targets import BASELINES, judge, ratio
from workloads import unit_of


def ordered(items):
    return list(dict.fromkeys(items))


def rows_of(figures):
    """One row per series and system, with its ratio to each baseline."""
    out = []
    for (series, key), found in figures.items():
        values = [f["value"] for f in found]
        row = {"series": series, "system": key, "unit": unit_of(series),
               **quartiles(values), "min": min(values), "max": max(values), "ratio": {}, "figures": found}
        for field in ordered(k for f in found for k in f if k != "value"):
            row[field] = quartiles([f[field] for f in found if field in f])["median"]
        for base in BASELINES:
            got = ratio(found, figures.get((series, base)))
            if got:
                row["ratio"][base] = round(got["median"], 4)
        out.append(row)
    return out


def table(rows):
    """Medians and spread: a line per series, a column per system."""
    series = ordered(r["series"] for r in rows)
    systems = sorted({r["system"] for r in rows},
                     key=lambda k: (BASELINES.index(k) if k in BASELINES else len(BASELINES), k))
    cell = {(r["series"], r["system"]): r for r in rows}
    lines = []
    for s in sorted(series, key=lambda s: s[:2]):
        unit = next(r["unit"] for r in rows if r["series"] == s)
        line = [f"{s}, {unit}"]
        for k in systems:
            r = cell.get((s, k))
            line.append("" if not r else short(r["median"]) if r["n"] == 1 else
                        f"{short(r['median'])} ({short(r['min'])}-{short(r['max'])})")
        lines.append(line)
    return markdown(["median (least-most)", *systems], lines)


def ratios(rows):
    lines = [[r["series"], r["system"], *(f"{r['ratio'][b]:.2f}" if b in r["ratio"] else ""
                                          for b in BASELINES)]
             for r in sorted(rows, key=lambda r: r["series"])
             if r["system"].startswith("sluice") and r["ratio"]]
    return markdown(["ratio to", "system", *BASELINES], lines)


def costs(rows):
    lines = [[r["series"], r["system"], short(r["cpu"]),
              short(r["per_gb"]) if "per_gb" in r else "", short(r["anon"]), short(r["rss"]),
              short(r["peak"])]
             for r in sorted(rows, key=lambda r: r["series"])
             if r["system"] not in ("plain", "erofs") and r["series"][:2] in ("W4", "W6", "W8")]
    return markdown(["the daemon", "system", "CPU s", "CPU s/GB", "own memory MiB", "RSS MiB",
                     "peak RSS MiB"], lines)


def verdicts(judged):
    lines = [[j["series"], j["system"], j["baseline"] or "itself", j["target"],
              "" if j["got"] is None else short(j["got"]),
              {True: "met", False: "MISSED", None: "not measured"}[j["met"]]] for j in judged]
    return markdown(["target", "system", "against", "bound", "got", ""], lines)


def build(bench):
    """The JSON object."""
    rows = rows_of(bench.figures)
    return {"size": bench.size, "notes": bench.notes, "rows": rows,
            "targets": judge(bench.figures)}


def show(result):
    """The markdown text."""
    parts = [table(result["rows"]), ratios(result["rows"]), costs(result["rows"]),
             verdicts(result["targets"])]
    parts += ["\n".join("* " + n for n in result["notes"])] if result["notes"] else []
    return "\n\n".join(parts)
