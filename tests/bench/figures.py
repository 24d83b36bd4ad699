"""Medians, ratios and how they are written."""
import statistics


def quartiles(values):
    """Median and quartiles; None without values."""
    if not values:
        return None
    q = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"q1": q[0], "median": q[1], "q3": q[2], "n": len(values)}


def is_met(value, target):
    sign, bound = target
    return {"<=": value <= bound, ">=": value >= bound, ">": value > bound}[sign]


def short(value):
    """Three digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def markdown(head, lines):
    """A table; the first column to the left."""
    out = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return "\n".join(out + ["| " + " | ".join(x) + " |" for x in lines])
