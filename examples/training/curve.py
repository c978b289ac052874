"""The curves of one or several runs as a picture: loss, accuracy and learning rate over the steps.

python examples/training/curve.py run/log.csv [other/log.csv ...] curve.png
"""

import math
import sys
from pathlib import Path

from PIL import Image, ImageDraw

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from training.logs import is_validation, read_log

WIDTH, MARGIN, TITLE, AXIS, GAP, LINE = 900, 16, 28, 64, 14, 16  # pixels
INK, FAINT, GRID, PAPER = (32, 32, 36), (110, 110, 116), (226, 226, 230), (255, 255, 255)
COLOURS = ((214, 84, 36), (70, 110, 180), (90, 150, 90), (150, 90, 170), (200, 150, 30), (60, 160, 170))
PANELS = (  # title, height, column of steps, of validation
    ("loss; faint: of each step; line: their moving mean; dots: of validation", 240, "loss", "validation_loss"),
    (
        "accuracy of validation: top-1; faint: mean class accuracy",
        180,
        "validation_mean_class_accuracy",
        "validation_top1",
    ),
    ("learning rate", 100, "lr", None),
)
SMOOTH = 0.9  # share of the mean so far in the mean of the loss


def draw_curves(runs: dict[str, list[dict[str, float]]]) -> Image.Image:
    """Draw logs.

    Args:
        runs: rows of ``read_log`` by name, at least one row in all.
    """
    last = max([row["step"] for rows in runs.values() for row in rows], default=1)
    height = MARGIN + LINE * len(runs) + sum(TITLE + panel[1] + GAP for panel in PANELS) + LINE + MARGIN
    picture = Image.new("RGB", (WIDTH, height), PAPER)
    pen = ImageDraw.Draw(picture)
    y = MARGIN
    for (name, rows), colour in zip(runs.items(), _colours(), strict=False):
        pen.rectangle((MARGIN, y + 2, MARGIN + 9, y + 11), colour)
        pen.text((MARGIN + 16, y - 1), f"{name}: {_summary(rows)}", INK, font_size=12)
        y += LINE
    for title, tall, column, validation in PANELS:
        pen.text((MARGIN, y + 4), title, FAINT, font_size=12)
        y += TITLE
        lines = [
            (_points(rows, column), _points(rows, validation), colour)
            for rows, colour in zip(runs.values(), _colours(), strict=False)
        ]
        _panel(pen, y, tall, lines, last, column)
        y += tall + GAP
    for x, text in ((MARGIN + AXIS, "1"), (WIDTH - MARGIN, f"step {last}")):
        pen.text((x - pen.textlength(text, font_size=12) * (x > WIDTH // 2), y - GAP + 4), text, FAINT, font_size=12)
    return picture


def _colours():
    while True:
        yield from COLOURS


def _summary(rows):
    found = [row for row in rows if is_validation(row)]
    if not found:
        return f"{len(rows)} steps"
    best = max(found, key=lambda row: row["validation_top1"])
    end, top = (f"{row['validation_top1']:.1%} after epoch {row['epoch']}" for row in (found[-1], best))
    return f"{len(rows) - len(found)} steps, top-1 {end}, at best {top}"


def _points(rows, column):
    return [(row["step"], row[column]) for row in rows if column in row and math.isfinite(row[column])]


def _panel(pen, top, tall, lines, last, column):
    """A panel: its frame, its scale, and of each run two lines."""
    values = [value for points, others, _ in lines for _, value in points + others]
    low, high = (0.0, 1.0) if column.endswith("accuracy") else (0.0, max(values, default=1.0) or 1.0)
    left, right = MARGIN + AXIS, WIDTH - MARGIN

    def place(step, value):
        return left + (right - left) * (step - 1) / max(last - 1, 1), top + tall * (1 - (value - low) / (high - low))

    for share in (0, 0.25, 0.5, 0.75, 1):
        value = low + share * (high - low)
        y = place(1, value)[1]
        pen.line((left, y, right, y), GRID)
        text = f"{value:.0%}" if column.endswith("accuracy") else f"{value:.3g}"
        pen.text((left - 6 - pen.textlength(text, font_size=11), y - 7), text, FAINT, font_size=11)
    for points, others, colour in lines:
        pale = tuple((2 * 255 + c) // 3 for c in colour)
        _line(pen, [place(*point) for point in points], colour if column == "lr" else pale)
        if column == "loss":
            _line(pen, [place(*point) for point in _smoothed(points)], colour)
        _line(pen, [place(*point) for point in others], colour)
        for x, y in (place(*point) for point in others):
            pen.ellipse((x - 2.5, y - 2.5, x + 2.5, y + 2.5), colour)


def _line(pen, places, colour):
    if len(places) == 1:
        pen.point(places, colour)
    elif places:
        pen.line(places, colour)


def _smoothed(points):
    """The mean of the values so far, in which older ones count less, from the first one on."""
    mean, weight, found = 0.0, 0.0, []
    for step, value in points:
        mean, weight = SMOOTH * mean + (1 - SMOOTH) * value, SMOOTH * weight + 1 - SMOOTH
        found.append((step, mean / weight))
    return found


def main():
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    *logs, output = sys.argv[1:]
    try:
        if Path(output).suffix.lower() not in Image.registered_extensions():
            raise ValueError(f"{output}: the last name is that of the picture, such as curve.png")
        draw_curves({path: read_log(path) for path in logs}).save(output)
    except (OSError, ValueError) as error:
        print(f"curve.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
