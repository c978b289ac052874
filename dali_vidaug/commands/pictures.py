"""Pictures of a batch, of RandAugment-T's ramps, of mixing and erasing: all are strips of frames with text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from dali_vidaug.boxes import Boxes
from dali_vidaug.description import changes_text, class_text, frames_span
from dali_vidaug.drawn_masks import masks_text
from dali_vidaug.errors import printable
from dali_vidaug.ops import CubeCutout, Cutout, FrameCutout, Mix, RandAugmentT, RandomErasing, name_of
from dali_vidaug.ops.blend import blend, describe_blend, own_share, partners_of
from dali_vidaug.ops.mix import FAMILIES
from dali_vidaug.ops.randaugment import SUITES, UNITS, randaugment
from dali_vidaug.rng import MAX_SEED, Draws

if TYPE_CHECKING:
    from dali_vidaug.batch import Batch

MARGIN, GAP, LINE, SIDE = 8, 3, 16, 150  # pixels: around strips, between frames, of a line of text, of the side panel
_INK, _PAPER, _AXIS, _CURVE = (32, 32, 36), (255, 255, 255), (200, 200, 204), (214, 84, 36)
_DRAWS = 50  # of an op; the one that shows best what it does is drawn
_COVER = (186, 188, 194)  # of masked tokens
_OUTLINES = ((255, 214, 10), (10, 200, 255), (255, 80, 160), (90, 220, 80), (255, 140, 0), (180, 130, 255))  # by class
_SEEDS = 20  # that are tried until one of its draws shows anything


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
    picture = Image.new("RGB", (left + columns * (width + GAP) - GAP + MARGIN, tops[-1]), _PAPER)
    pen = ImageDraw.Draw(picture)
    for strip, top in zip(strips, tops, strict=False):
        for line in strip.lines:
            pen.text((left, top), _fit(pen, line, picture.width - left - MARGIN), _INK, font_size=12)
            top += LINE
        _draw_side(pen, strip, top, height)
        shown = np.linspace(0, len(strip.frames) - 1, min(columns, len(strip.frames))).round().astype(int)
        for column, t in enumerate(shown):
            x = left + column * (width + GAP)
            if strip.captions:
                pen.text((x, top), strip.captions[t], _INK, font_size=12)
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
    pen.text((MARGIN, top), strip.title, _INK, font_size=16)
    pen.text((MARGIN, top + 20), strip.unit, _INK, font_size=12)
    if strip.values is None:
        return
    high_y, low_y = top + 44, top + height
    low, high = float(strip.values.min()), float(strip.values.max())
    share = (strip.values - low) / (high - low) if high > low else np.full(len(strip.values), 0.5)
    points = [
        (MARGIN + (SIDE - 24) * t / max(len(share) - 1, 1), low_y - (low_y - high_y) * float(s))
        for t, s in enumerate(share)
    ]
    pen.line([(MARGIN, low_y + 4), (MARGIN + SIDE - 24, low_y + 4)], _AXIS)
    pen.line(points if len(points) > 1 else points * 2, _CURVE, width=2)


def contact_sheet(batch: Batch, num_clips: int = 8, num_frames: int = 8, height: int = 112) -> Image.Image:
    """Draw clips of a batch, a strip each, with label, file, frames and what the ops did, boxes, and what masks leave.

    Normalisation is undone. Of several pathways the one with most frames is shown.

    Args:
        batch: of a ``VideoLoader``.
        num_clips, num_frames: shown at most.
        height: of a frame, pixels.
    """
    paths = batch.clips if isinstance(batch.clips, tuple) else (batch.clips,)
    most = max(paths, key=lambda clips: clips.shape[2])  # of several pathways, the one with most frames
    clips = most[:num_clips].float().cpu().numpy().transpose(0, 2, 3, 4, 1)  # (B, F, H, W, 3)
    for op in batch.plan.recipe.ops[-1:]:
        clips = op.undo(clips) if hasattr(op, "undo") else clips
    clips = (clips + 0.5).clip(0, 255).astype(np.uint8)
    strips, boxes = [], batch.boxes and Boxes(*(column.cpu().numpy() for column in batch.boxes))
    for i, clip in enumerate(clips):
        sample, manifest = int(batch.samples[i]), batch.manifest
        text = f"clip {i}   frames {frames_span(batch.plan.frames[i])}   sample {sample}"
        if manifest is not None:
            label = _label_text(manifest, sample, batch.targets[i].float().cpu().numpy())
            text = f"{label}   {printable(Path(manifest.path(sample)).name)}   {text}"
        names, own = manifest.box_classes if manifest is not None else (), boxes and boxes.of_clip(i)
        strips.append(Strip(clip, [text, changes_text(batch.plan, i)], boxes=own, box_names=names))
        lines = masks_text(batch.plan.recipe, batch.plan.masks, slice(i, i + 1))
        for mask, line in zip(batch.masks, lines, strict=True):
            strips.append(Strip(masked_frames(clip, mask[i].cpu().numpy()), [line]))
    return draw_strips(strips, height, num_frames)


def masked_frames(frames: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Frames (F, H, W, 3) uint8 of which masked tokens are covered; ``mask`` is (T', H', W') bool."""
    for axis, side in enumerate(frames.shape[:3]):
        mask = mask.take(np.arange(side) * mask.shape[axis] // side, axis)
    return np.where(mask[..., None], np.array(_COVER, np.uint8), frames)


def _label_text(manifest, sample, targets):
    """The class of a sample, and the label that it has after mixing: the largest parts of it."""
    own = manifest.targets([sample])[0]
    text = class_text(manifest, sample).removeprefix("class ")
    if (targets == own).all():
        return text
    parts = [f"{targets[k]:.3g} {manifest.classes[k]}" for k in np.argsort(-targets, kind="stable")[:3] if targets[k]]
    return f"{text}, label {' + '.join(parts) or 'none'}"


def ramp_picture(
    clip: np.ndarray,
    op: RandAugmentT | None = None,
    ops: Sequence[str] | None = None,
    *,
    seed: int = 0,
    num_frames: int = 8,
    height: int = 96,
) -> Image.Image:
    """Draw what each op of RandAugment-T does to a clip, with the value that each frame gets.

    Args:
        clip: (F, H, W, 3) uint8.
        op: its options (magnitude, ramp, suite, ...) are used. Of many draws, the one whose value changes most is
            shown.
        ops: names of the ops; default: all of the suite, without Identity.
        seed: of the draws.
        num_frames: shown at most.
        height: of a frame, pixels.
    """
    op = RandAugmentT(magnitude=6.0) if op is None else op
    fields = {name: getattr(op, name) for name in ("magnitude", "ramp", "suite", "statistics", "interpolation", "fill")}
    strips = []
    for name in ops or [name for name in SUITES[op.suite].ops if name != "Identity"]:
        single = RandAugmentT(num_ops=1, magnitude_std=0.0, ops=(name,), **fields)
        rows = single.draw(Draws(seed, 0, np.arange(_DRAWS), prefix=f"preview.{name}"), *clip.shape[:3])
        row = rows[np.ptp(rows["value"], axis=-1).argmax()][None]
        (frames,) = randaugment([clip], row, 1)
        if name in ("AutoContrast", "Equalize", "Invert"):  # they have no value
            strips.append(Strip(frames, captions=[""] * len(clip), title=name))
        else:
            values = row["value"][0, 0]
            captions = [f"{value:.3g}" for value in values]
            unit = UNITS.get(name.removesuffix("Abs"), "times")
            strips.append(Strip(frames, captions=captions, title=name, unit=unit, values=values))
    return draw_strips(strips, height, num_frames)


def mix_picture(
    ops: Sequence[Any],
    clips: Sequence[np.ndarray],
    labels: Sequence[str] | None = None,
    *,
    seed: int = 0,
    num_frames: int = 8,
    height: int = 112,
) -> Image.Image:
    """Draw clips, and what ops that mix or erase make of the first of them.

    Args:
        ops: ``Mix`` of any family, ``RandomErasing``, ``Cutout``, ``OneOf``. Of many draws of an op, the one is shown
            that keeps about 60 % of the clip, or as near to that as the op comes.
        clips: two clips or more, (F, H, W, 3) uint8, of one size.
        labels: their names. Default: A, B, ...
        seed: of the draws.
        num_frames: shown at most.
        height: of a frame, pixels.
    """
    labels = labels or [chr(ord("A") + i) for i in range(len(clips))]
    clips = [np.ascontiguousarray(clip) for clip in clips]
    results, used = [], {0}
    for op in ops:
        name = name_of(op)
        rows = _telling_rows(op, name, clips, seed)
        partner, own = (column[0] for column in partners_of(rows))
        used.add(int(partner))
        what = ", ".join(describe_blend(rows[0])).replace(f"clip {partner} of the batch", labels[partner])
        what += "" if _kept(rows) < 1 else f" in {_SEEDS * _DRAWS} draws"  # clips of so few frames or pixels
        label = f"label {own:.3f} {labels[0]}" + (f" + {1 - own:.3f} {labels[partner]}" if partner and own < 1 else "")
        results.append(Strip(blend(clips, rows)[0], [f"{name}: {what}", label]))
    return draw_strips([*(Strip(clips[i], [labels[i]]) for i in sorted(used)), *results], height, num_frames)


def _telling_rows(op, name, clips, seed):
    """Of many draws of an op the one that shows best what it does; with other seeds where none shows anything."""
    for other in range(_SEEDS):
        draws = [Draws((seed + other) % MAX_SEED, e, np.arange(len(clips)), prefix=name) for e in range(_DRAWS)]
        rows = min((op.draw(draw, *clips[0].shape[:3]) for draw in draws), key=_rank)
        kept = _kept(rows)
        if f"{kept:.3f}" not in ("0.000", "1.000"):
            break
    return rows


def _kept(rows):
    """How much the first clip keeps of itself; erased pixels count like those of a partner."""
    row = rows[:1].copy()
    row["partner"] = 0
    return own_share(row)[0]


def _rank(rows):
    """Lower for rows that show an op better: the first clip keeps about 0.6 of itself, and weights differ much."""
    return round(abs(_kept(rows) - 0.6), 1), -np.ptp([rows[name][:1] for name in ("inside", "outside")])


def mixing_ops(name: str) -> list[Any]:
    """The op called ``name`` that mixes or erases, or with "all" each of them.

    Raises:
        ValueError: there is no such op.
    """
    makers = (RandomErasing, Cutout, FrameCutout, CubeCutout)
    erasing = {maker.__name__.lower(): maker(probability=1.0) for maker in makers}
    if name.lower() == "all":
        return [*(Mix(family) for family in FAMILIES), *erasing.values()]
    try:
        return [erasing[name.lower()] if name.lower() in erasing else Mix(name)]
    except ValueError:
        known = ", ".join([*FAMILIES, *(maker.__name__ for maker in makers)])
        raise ValueError(f"--mix: must be all or one of {known}, got {name}") from None
