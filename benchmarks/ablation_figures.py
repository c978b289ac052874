"""What the runs of benchmarks/ablation.py say: differences in pairs, confidence intervals, a table and a picture.

Accuracies of folds are not independent: their training sets overlap. The variance of a mean of n differences is
therefore taken as s^2 (1/n + test/train), with Student's t of n - 1 degrees of freedom: the corrected resampled t-test
(Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003). As many arms are compared,
p-values are adjusted by Holm's method.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

BASE, LEVEL = "none", 0.95
COLUMNS = ("augmentation", "top-1, %", "difference from none, points", "95 % interval", "p", "p, Holm", "training loss")
MARGIN, ROW, NAME, PLOT = 16, 22, 200, 420  # pixels
EDGE = 0.01  # of accuracy: how far the axis goes beyond what it shows
INK, PAPER, FAINT, BETTER, WORSE = (32, 32, 36), (255, 255, 255), (214, 214, 218), (40, 120, 60), (200, 70, 40)


def student(t, n):
    """The distribution function of Student's t with n degrees of freedom."""
    angle = math.atan(t / math.sqrt(n))
    cosine, sine = math.cos(angle), math.sin(angle)
    term, total = (cosine, cosine) if n % 2 else (1.0, 1.0)
    for k in range(2 + n % 2, n, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    if n == 1:
        return 0.5 + angle / math.pi
    return 0.5 + ((angle + sine * total) / math.pi if n % 2 else sine * total / 2)


def quantile(p, n):
    """The value below which Student's t lies with probability p in [0.5, 1)."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if student(middle, n) < p else (low, middle)
    return low


def compare(ours, base, folds):
    """Of accuracies in pairs: the mean difference, half its confidence interval, and the p-value of none."""
    difference = np.asarray(ours) - np.asarray(base)
    n, mean = len(difference), float(difference.mean())
    if n < 2:
        return mean, math.nan, math.nan
    error = math.sqrt(difference.var(ddof=1) * (1 / n + 1 / (folds - 1)))
    if error == 0:
        return mean, 0.0, float(mean == 0)
    return mean, quantile(0.5 + LEVEL / 2, n - 1) * error, 2 * (1 - student(abs(mean) / error, n - 1))


def holm(values):
    """p-values, adjusted for being several; NaN stays."""
    adjusted, highest = list(values), 0.0
    order = sorted((p, i) for i, p in enumerate(values) if p == p)
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[i] = highest
    return adjusted


def summarise(runs, folds):
    """For each set, for each arm that has all its runs: mean accuracy, difference from "none", interval, p."""
    found = {}
    for name in dict.fromkeys(run["set"] for run in runs):
        of_set = [run for run in runs if run["set"] == name]
        pairs = {}
        for run in of_set:
            pairs.setdefault(run["arm"], {})[run["fold"], run["seed"]] = run
        base, rows = pairs.pop(BASE), []
        rows.append({"arm": BASE, "top1": mean_of(base, "top1"), "loss": mean_of(base, "loss"), "runs": len(base)})
        for arm, own in pairs.items():
            common = sorted(own.keys() & base.keys())
            accuracies = ([by[pair]["top1"] for pair in common] for by in (own, base))
            mean, half, p = compare(*accuracies, folds)
            rows.append({"arm": arm, "top1": mean_of(own, "top1"), "loss": mean_of(own, "loss"), "runs": len(own),
                         "difference": mean, "half": half, "p": p})  # fmt: skip
        for row, p in zip(rows[1:], holm([row["p"] for row in rows[1:]]), strict=True):
            row["holm"] = p
        found[name] = rows
    return found


def mean_of(runs, name):
    """The mean over runs."""
    return float(np.mean([run[name] for run in runs.values()]))


def table(summary):
    """The summary in Markdown."""
    lines = []
    for name, rows in summary.items():
        lines += [f"\n**{name}**\n", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        for row in rows:
            first = f"| {row['arm']} | {100 * row['top1']:.1f} |"
            if "difference" not in row:
                lines.append(f"{first} | | | | {row['loss']:.2f} |")
                continue
            low, high = (100 * (row["difference"] + sign * row["half"]) for sign in (-1, 1))
            lines.append(f"{first} {100 * row['difference']:+.1f} | {low:+.1f} to {high:+.1f} | {row['p']:.3f} | "
                         f"{row['holm']:.3f} | {row['loss']:.2f} |")  # fmt: skip
    return "\n".join(lines)


def draw(summary):
    """A picture: the difference of each arm from "none", with its interval, a panel for each set."""
    rows = max(len(rows) for rows in summary.values())
    width = MARGIN + NAME + (PLOT + MARGIN) * len(summary)
    picture = Image.new("RGB", (width, MARGIN * 2 + ROW * (rows + 2)), PAPER)
    pen = ImageDraw.Draw(picture)
    halves = [0 if math.isnan(row["half"]) else row["half"] for rows in summary.values() for row in rows[1:]]
    middles = [row["difference"] for rows in summary.values() for row in rows[1:]]
    low = min(0, *(middle - half for middle, half in zip(middles, halves, strict=True))) - EDGE
    high = max(0, *(middle + half for middle, half in zip(middles, halves, strict=True))) + EDGE
    scale = PLOT / (high - low)
    for panel, (name, rows) in enumerate(summary.items()):
        left = MARGIN + NAME + panel * (PLOT + MARGIN)
        zero = left - low * scale
        pen.text((left, MARGIN), f"{name}: none {100 * rows[0]['top1']:.1f} %, difference in points", INK, font_size=13)
        bottom = MARGIN + ROW * (len(rows) + 1)
        for points in range(-100, 101, 5 if (high - low) < 0.5 else 10):
            x = zero + points / 100 * scale
            if left <= x <= left + PLOT:
                pen.line([(x, MARGIN + ROW), (x, bottom - ROW / 2)], INK if not points else FAINT)
                pen.text((x, bottom - ROW / 2), f"{points:+d}" if points else "0", INK, font_size=11, anchor="ma")
        for i, row in enumerate(rows[1:], 1):
            y = MARGIN + ROW * i + ROW / 2
            if not panel:
                pen.text((MARGIN, y - 8), row["arm"], INK, font_size=13)
            middle, half = zero + row["difference"] * scale, row["half"] * scale if row["half"] == row["half"] else 0
            colour = (
                BETTER if row["difference"] - row["half"] > 0 else WORSE if row["difference"] + row["half"] < 0 else INK
            )
            pen.line([(middle - half, y), (middle + half, y)], colour, 2)
            pen.ellipse((middle - 4, y - 4, middle + 4, y + 4), colour)
    return picture
