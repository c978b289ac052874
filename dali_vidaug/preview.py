"""Pictures of what the ops do: one strip of frames each, with the value that each frame gets."""

import numpy as np
from PIL import Image, ImageDraw

from dali_vidaug.ops.randaugment import SUITES, UNITS, RandAugmentT, randaugment
from dali_vidaug.rng import Draws

_MARGIN, _LABEL, _GAP = 12, 20, 3
_DRAWS = 50
_INK, _PAPER, _LINE = (32, 32, 36), (255, 255, 255), (214, 84, 36)


def draw_ramps(clip, path=None, op=None, ops=None, columns=8, height=96, seed=0):
    """Draw each op's strip: the clip's frames with a ramp of that op, its name and values above.

    Args:
        clip: (F, H, W, 3) uint8.
        path: where to write the picture (its ending says the format), or None.
        op: a RandAugmentT whose options (magnitude, ramp, suite, ...) the strips are drawn with. Each shows that one
            of many draws which changes most.
        ops: names of the ops; all of the suite, without Identity, by default.
        columns: frames in a strip, evenly over the clip.
        height: of a frame in the picture, pixels.
        seed: of the ramps.

    Returns:
        The picture, a PIL.Image.
    """
    op = RandAugmentT(magnitude=6.0) if op is None else op
    names = [name for name in ops or SUITES[op.suite].ops if name != "Identity"]
    shown = np.linspace(0, len(clip) - 1, columns).round().astype(int)
    rows = [_strip_row(op, name, seed, clip.shape) for name in names]
    width = round(height * clip.shape[2] / clip.shape[1])
    per_strip = height + _LABEL + _MARGIN
    left = _MARGIN + 150
    picture = Image.new("RGB", (left + columns * (width + _GAP) + _MARGIN, len(names) * per_strip + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(picture)
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        (frames,) = randaugment([clip], row, 1)
        top = _MARGIN + i * per_strip
        values = row["value"][0, 0]
        pen.text((_MARGIN, top), name, _INK, font_size=16)
        changes = name not in ("AutoContrast", "Equalize", "Invert")
        if changes:
            pen.text((_MARGIN, top + _LABEL), UNITS.get(name.removesuffix("Abs"), "times"), _INK, font_size=12)
            _curve(pen, values, (_MARGIN, top + _LABEL + 24, _MARGIN + 126, top + _LABEL + height - 8))
        for k, t in enumerate(shown):
            x = left + k * (width + _GAP)
            if changes:
                pen.text((x, top + 3), f"{values[t]:.3g}", _INK, font_size=12)
            frame = Image.fromarray(frames[t]).resize((width, height), Image.Resampling.BILINEAR)
            picture.paste(frame, (x, top + _LABEL))
    if path is not None:
        picture.save(path)
    return picture


def _strip_row(op, name, seed, shape):
    """A row of the plan with this op alone."""
    fields = ("magnitude", "ramp", "suite", "statistics", "interpolation", "fill")
    single = RandAugmentT(num_ops=1, magnitude_std=0.0, ops=(name,), **{field: getattr(op, field) for field in fields})
    rows = single.draw(Draws(seed, 0, np.arange(_DRAWS), prefix=f"preview.{name}"), *shape[:3])
    i = int(np.ptp(rows["value"], axis=-1).argmax())
    return rows[i : i + 1]


def _curve(pen, values, box):
    """The values over the frames, with the least at the bottom of the box."""
    left, top, right, bottom = box
    low, high = float(values.min()), float(values.max())
    share = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    points = [
        (left + (right - left) * t / max(len(values) - 1, 1), bottom - (bottom - top) * float(s))
        for t, s in enumerate(share)
    ]
    pen.line([(left, bottom + 4), (right, bottom + 4)], (200, 200, 204))
    pen.line(points if len(points) > 1 else points * 2, _LINE, width=2)
