"""Draws the figures of benchmarks/cluster.py; of a file that it wrote:

python benchmarks/cluster_picture.py cluster.json cluster.png
"""

import json
import sys
from pathlib import Path

from cluster_figures import PERCENTILES, STAGES, who
from PIL import Image, ImageDraw

RANKS_MAX = 48  # with a row each; of more there is a row for each node
MARGIN, ROW, BAR, LABEL, LEFT, GAP, RIGHT = 16, 22, 14, 120, 360, 40, 300  # pixels
INK, PAPER, FAINT = (32, 32, 36), (255, 255, 255), (214, 214, 218)
LOOP = (("share_waiting_for_batches", "waits for batches", (214, 84, 36)), ("share_in_steps", "steps", (120, 170, 120)),
        ("share_waiting_for_ranks", "waits for other ranks", (240, 190, 70)))  # fmt: skip
COLORS = (70, 110, 180), (90, 160, 210), (150, 200, 225), (120, 170, 120), (150, 120, 190)
WORK = dict(zip(STAGES, COLORS, strict=True))
MARKS = dict(zip(PERCENTILES, (4, 7, 10), strict=True))  # half the height of a tick, pixels


def draw(summary):
    """A picture: a row for each rank, or node, with its loop's time, its waits for batches, and its work."""
    every = summary["all"]
    by_rank = every["ranks"] <= RANKS_MAX
    rows = summary["ranks"] if by_rank else summary["nodes"]
    name = "rank" if by_rank else "node"
    top = MARGIN + 5 * ROW
    width = MARGIN + LABEL + LEFT + GAP + LEFT + GAP + RIGHT + MARGIN
    picture = Image.new("RGB", (width, top + ROW * len(rows) + 2 * ROW + MARGIN), PAPER)
    pen = ImageDraw.Draw(picture)
    loop, waits, work = MARGIN + LABEL, MARGIN + LABEL + LEFT + GAP, MARGIN + LABEL + 2 * (LEFT + GAP)
    text(pen, (MARGIN, MARGIN), f"{who(every)}: {every['clips_per_second']:.1f} "
         f"clips per second together, rank 0 alone {every['alone']:.1f}: scaling efficiency {every['efficiency']:.2f}",
         size=16)  # fmt: skip
    text(pen, (MARGIN, MARGIN + ROW + 4), summary["command"][:180], FAINT)
    legend(pen, loop, top - 2 * ROW, "time of the training loop", [(label, color) for _, label, color in LOOP])
    legend(pen, work, top - 2 * ROW, "work of the loader", WORK.items())
    longest = max(row["waits"]["max"] for row in rows) or 1e-3
    text(pen, (waits, top - 2 * ROW), "seconds of waiting for a batch: p50, p95, p99, longest")
    for i, row in enumerate(rows):
        y = top + ROW * i
        label = f"{name} {row[name]}" + (f" (node {row['node']})" if by_rank and every["nodes"] > 1 else "")
        text(pen, (MARGIN, y), label)
        stack(pen, loop, y, LEFT, [(row[field], color) for field, _, color in LOOP])
        stack(pen, work, y, RIGHT, [(row["work"][stage], color) for stage, color in WORK.items()])
        pen.line([(waits, y + BAR / 2), (waits + LEFT, y + BAR / 2)], FAINT)
        for p, half in MARKS.items():
            x = waits + LEFT * row["waits"][f"p{p}"] / longest
            pen.rectangle((x - 1, y + BAR / 2 - half, x + 1, y + BAR / 2 + half), LOOP[0][2])
        x = waits + LEFT * row["waits"]["max"] / longest
        pen.ellipse((x - 3, y + BAR / 2 - 3, x + 3, y + BAR / 2 + 3), INK)
    y = top + ROW * len(rows) + 4
    for x, (low, high) in ((loop, ("0 %", "100 %")), (waits, ("0 s", f"{longest:.3g} s")), (work, ("0 %", "100 %"))):
        text(pen, (x, y), low)
        right = x + (RIGHT if x == work else LEFT)
        text(pen, (right - pen.textlength(high, font_size=12), y), high)
    return picture


def text(pen, place, words, color=INK, size=12):
    """Write a line."""
    pen.text(place, words, (110, 110, 116) if color is FAINT else color, font_size=size)


def legend(pen, x, y, title, entries):
    """A title, and below it what the colours mean."""
    text(pen, (x, y), title)
    for label, color in entries:
        pen.rectangle((x, y + 20, x + 9, y + 29), color)
        text(pen, (x + 13, y + 17), label)
        x += 28 + pen.textlength(label, font_size=12)


def stack(pen, x, y, width, parts):
    """A bar of parts, whose shares of ``width`` are given."""
    pen.rectangle((x, y, x + width, y + BAR), outline=FAINT)
    for share, color in parts:
        if share > 0:
            pen.rectangle((x, y, x + width * share, y + BAR), color)
        x += width * share


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    draw(json.loads(Path(sys.argv[1]).read_text())).save(sys.argv[2])
