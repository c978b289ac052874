"""Strips of frames with text: what all pictures of clips are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from dali_vidaug.boxes import Boxes

if TYPE_CHECKING:
    from dali_vidaug.batch import Batch

MARGIN, GAP, LINE, SIDE = 8, 3, 16, 150  # pixels: around strips, between frames, of a line of text, of the side panel
INK, PAPER, AXIS, CURVE = (32, 32, 36), (255, 255, 255), (200, 200, 204), (214, 84, 36)
_OUTLINES = ((255, 214, 10), (10, 200, 255), (255, 80, 160), (90, 220, 80), (255, 140, 0), (180, 130, 255))  # by class


class Strip(NamedTuple):
    """Frames of a clip side by side, with text.

    Attributes:
        frames: (F, H, W, 3) uint8.
        lines: text above the frames.
        captions: text above each frame, one for each of the F; or none.
        title, unit: text at the left.
        values: (F,) a curve at the left; or None.
        boxes: to draw on the frames, NumPy arrays; or None.
        box_names: of their labels.
    """

    frames: np.ndarray
    lines: Sequence[str] = ()
    captions: Sequence[str] = ()
    title: str = ""
    unit: str = ""
    values: np.ndarray | None = None
    boxes: Boxes | None = None
    box_names: Sequence[str] = ()


def draw_strips(strips: Sequence[Strip], height: int, num_frames: int) -> Image.Image:
    """Draw strips, one below the other.

    Args:
        strips: at least one. Frames are scaled to one size, the shape of the first strip's.
        height: of a frame in the picture, pixels.
        num_frames: frames shown of each strip at most, evenly chosen.
    """
    width = round(height * strips[0].frames.shape[2] / strips[0].frames.shape[1])
    left = MARGIN + (SIDE if any(strip.title for strip in strips) else 0)
    tops = [MARGIN]
    for strip in strips:
        tops.append(tops[-1] + LINE * (len(strip.lines) + bool(strip.captions)) + height + MARGIN)
    columns = min(num_frames, max(len(strip.frames) for strip in strips))
    picture = Image.new("RGB", (left + columns * (width + GAP) - GAP + MARGIN, tops[-1]), PAPER)
    pen = ImageDraw.Draw(picture)
    for strip, top in zip(strips, tops, strict=False):
        for line in strip.lines:
            pen.text((left, top), _fit(pen, line, picture.width - left - MARGIN), INK, font_size=12)
            top += LINE
        _draw_side(pen, strip, top, height)
        shown = np.linspace(0, len(strip.frames) - 1, min(columns, len(strip.frames))).round().astype(int)
        for column, t in enumerate(shown):
            x = left + column * (width + GAP)
            if strip.captions:
                pen.text((x, top), strip.captions[t], INK, font_size=12)
            frame = Image.fromarray(strip.frames[t]).resize((width, height), Image.Resampling.BILINEAR)
            if strip.boxes is not None:
                _draw_boxes(frame, strip, t)
            picture.paste(frame, (x, top + LINE * bool(strip.captions)))
    return picture


def _draw_boxes(frame, strip, t):
    """Outline the boxes of frame ``t`` of a strip on its scaled picture; with class, and weight where it is not 1."""
    pen, scale = ImageDraw.Draw(frame), np.divide(frame.size, strip.frames.shape[2:0:-1])
    shown = strip.boxes.rows(strip.boxes.frame == t)
    for xyxy, label, weight in zip(shown.xyxy, shown.label.tolist(), shown.weight.tolist(), strict=True):
        (x1, y1), (x2, y2) = np.round(xyxy.reshape(2, 2) * scale).tolist()
        color = tuple(round(c * (0.4 + 0.6 * weight)) for c in _OUTLINES[label % len(_OUTLINES)])
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=color)
        name = strip.box_names[label] if 0 <= label < len(strip.box_names) else ""
        text = f"{weight:.2g} {name}".rstrip() if weight < 1 else name
        pen.text((x1 + 2, y1 + 1), text, color, font_size=10, stroke_width=1, stroke_fill=(0, 0, 0))


def _fit(pen, line, width):
    """As much of a line as fits into a width, pixels."""
    if pen.textlength(line, font_size=12) <= width:
        return line
    while line and pen.textlength(f"{line} ...", font_size=12) > width:
        line = line[:-1]
    return f"{line} ..."


def _draw_side(pen, strip, top, height):
    pen.text((MARGIN, top), strip.title, INK, font_size=16)
    pen.text((MARGIN, top + 20), strip.unit, INK, font_size=12)
    if strip.values is None:
        return
    high_y, low_y = top + 44, top + height
    low, high = float(strip.values.min()), float(strip.values.max())
    share = (strip.values - low) / (high - low) if high > low else np.full(len(strip.values), 0.5)
    points = [
        (MARGIN + (SIDE - 24) * t / max(len(share) - 1, 1), low_y - (low_y - high_y) * float(s))
        for t, s in enumerate(share)
    ]
    pen.line([(MARGIN, low_y + 4), (MARGIN + SIDE - 24, low_y + 4)], AXIS)
    pen.line(points if len(points) > 1 else points * 2, CURVE, width=2)


def shown_frames(batch: Batch, part: slice) -> np.ndarray:
    """The pixels of some clips of a batch, without normalisation: (N, F, H, W, 3) uint8.

    Args:
        batch: of a ``VideoLoader``; its clips are (B, 3, F, H, W). Of several pathways that with most frames is shown.
        part: which of its clips.
    """
    paths = batch.clips if isinstance(batch.clips, tuple) else (batch.clips,)
    clips = max(paths, key=lambda one: one.shape[2])[part].float().cpu().numpy().transpose(0, 2, 3, 4, 1)
    for op in batch.plan.recipe.ops[-1:]:
        clips = op.undo(clips) if hasattr(op, "undo") else clips
    return (clips + 0.5).clip(0, 255).astype(np.uint8)
