"""A picture of what an op that mixes or erases does: the clips above, the result below."""

import numpy as np
from PIL import Image, ImageDraw

from dali_vidaug.ops.blend import blend, describe_blend, mixed_with
from dali_vidaug.ops.erase import CubeCutout, Cutout, FrameCutout, RandomErasing
from dali_vidaug.ops.mix import FAMILIES, Mix
from dali_vidaug.rng import Draws

_MARGIN, _LINE = 4, 14  # pixels


def mix_picture(op, clips, labels=None, *, seed=0, num_frames=8, height=112):
    """Draw what an op does to the first of some clips: the clip, its partner if it has one, the result.

    Args:
        op: ``Mix`` of any family, ``RandomErasing``, ``Cutout``, ``OneOf``.
        clips: two clips or more, (F, H, W, 3) uint8, of one size.
        labels: their names. Default: A, B, ...
        seed: of the draws.
        num_frames: shown at most, evenly chosen.
        height: of a frame in the picture, pixels.

    Returns:
        A PIL image. Under the result stand the op, the weights, the box, and the label of the result.
    """
    labels = labels or [chr(ord("A") + i) for i in range(len(clips))]
    name = getattr(op, "name", type(op).__name__)
    rows = op.draw(Draws(seed, 0, np.arange(len(clips)), prefix=name), *clips[0].shape[:3])
    result = blend([np.ascontiguousarray(clip) for clip in clips], rows)[0]
    partner, own = (int(mixed_with(rows)[0][0]), float(mixed_with(rows)[1][0]))

    mixed = partner != 0
    label = f"label {own:.3f} {labels[0]}" + (f" + {1 - own:.3f} {labels[partner]}" if mixed else "")
    what = [line.replace(f"clip {partner} of the batch", labels[partner]) for line in describe_blend(rows[0])]
    strips = [(clips[0], [labels[0]])] + ([(clips[partner], [labels[partner]])] if mixed else [])
    strips.append((result, [f"{name}: {', '.join(what)}", label]))
    return _stack(strips, num_frames, height)


def mix_pictures(name, clips, labels=None, *, seed=0):
    """Draw what the op called ``name`` does, or with "all" every op that mixes or erases, one below the other.

    Args:
        name: a family of ``Mix``, or ``RandomErasing``, ``Cutout``, ``FrameCutout``, ``CubeCutout``; or "all".
        clips, labels, seed: as in ``mix_picture``.

    Returns:
        A PIL image.

    Raises:
        ValueError: there is no such op.
    """
    makers = (RandomErasing, Cutout, FrameCutout, CubeCutout)
    erasing = {maker.__name__.lower(): maker(probability=1.0) for maker in makers}
    if name.lower() == "all":
        ops = [*(Mix(family) for family in FAMILIES), *erasing.values()]
    else:
        ops = [erasing[name.lower()] if name.lower() in erasing else Mix(name)]
    pictures = [mix_picture(op, clips, labels, seed=seed) for op in ops]
    stacked = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    top = 0
    for picture in pictures:
        stacked.paste(picture, (0, top))
        top += picture.height
    return stacked


def _stack(strips, num_frames, height):
    """Strips of frames, one under the other, each with its lines of text."""
    frames, clip_height, clip_width = strips[0][0].shape[:3]
    chosen = np.linspace(0, frames - 1, min(num_frames, frames)).round().astype(int)
    width = round(height * clip_width / clip_height)
    lines = sum(len(text) for _, text in strips)
    size = (
        _MARGIN + len(chosen) * (width + _MARGIN),
        _MARGIN + len(strips) * (height + 2 * _MARGIN) + lines * _LINE,
    )
    sheet = Image.new("RGB", size, "white")
    draw, top = ImageDraw.Draw(sheet), _MARGIN
    for clip, text in strips:
        for column, frame in enumerate(chosen):
            tile = Image.fromarray(clip[frame]).resize((width, height), Image.Resampling.BILINEAR)
            sheet.paste(tile, (_MARGIN + column * (width + _MARGIN), top))
        top += height + _MARGIN
        for line in text:
            draw.text((_MARGIN, top), line, fill="black")
            top += _LINE
        top += _MARGIN
    return sheet
