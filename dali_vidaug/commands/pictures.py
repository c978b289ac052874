"""Pictures of a batch, of RandAugment-T's ramps, of mixing and erasing: all are strips of frames with text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dali_vidaug.boxes import Boxes
from dali_vidaug.description import changes_text, class_text, frames_span
from dali_vidaug.drawn_masks import masks_text
from dali_vidaug.errors import printable
from dali_vidaug.ops import CubeCutout, Cutout, FrameCutout, Mix, RandAugmentT, RandomErasing, name_of
from dali_vidaug.ops.blend import blend, describe_blend, own_share, partners_of
from dali_vidaug.ops.mix import FAMILIES
from dali_vidaug.ops.randaugment import SUITES, UNITS, randaugment
from dali_vidaug.rng import MAX_SEED, Draws
from dali_vidaug.strips import Strip, draw_strips, shown_frames

if TYPE_CHECKING:
    from dali_vidaug.batch import Batch

_DRAWS = 50  # of an op; the one that shows best what it does is drawn
_COVER = (186, 188, 194)  # of masked tokens
_SEEDS = 20  # that are tried until one of its draws shows anything


def contact_sheet(batch: Batch, num_clips: int = 8, num_frames: int = 8, height: int = 112) -> Image.Image:
    """Draw clips of a batch, a strip each, with label, file, frames and what the ops did, boxes, and what masks leave.

    Normalisation is undone. Of several pathways the one with most frames is shown.

    Args:
        batch: of a ``VideoLoader``.
        num_clips, num_frames: shown at most.
        height: of a frame, pixels.
    """
    clips = shown_frames(batch, slice(num_clips))
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
