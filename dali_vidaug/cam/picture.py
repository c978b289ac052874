"""Heat maps as pictures and as videos: on the frames of clips, and on those of their videos."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from dali_vidaug.cam.activation import Maps, check_clip
from dali_vidaug.cam.source import on_source, original_frames
from dali_vidaug.description import class_text, frames_span
from dali_vidaug.errors import printable
from dali_vidaug.media.encode import write_video as encode_video
from dali_vidaug.strips import AXIS, GAP, INK, LINE, MARGIN, PAPER, Strip, draw_strips, shown_frames

if TYPE_CHECKING:
    from dali_vidaug.batch import Batch

_HEAT = 0.55  # weight of the colour over the frame
_LINES = ((214, 84, 36), (40, 110, 170), (60, 150, 70), (150, 80, 170), (120, 120, 120))
_CHART = 150  # pixels


def heated(frames: np.ndarray, heat: ArrayLike, weight: ArrayLike = 1.0) -> np.ndarray:
    """Frames under a heat map, from blue (0) over green and yellow to red (1).

    Args:
        frames: (F, H, W, 3) uint8.
        heat: (F, H, W) in [0, 1].
        weight: (F, H, W) in [0, 1], or one number: 0 leaves a pixel as it is.

    Returns:
        (F, H, W, 3) uint8.
    """
    at = np.asarray(heat, np.float32)[..., None]
    colors = 255 * np.clip(1.5 - np.abs(4 * at - np.array([3, 2, 1], np.float32)), 0, 1)
    over = _HEAT * np.broadcast_to(np.asarray(weight, np.float32), at.shape[:-1])[..., None]
    return (frames * (1 - over) + colors * over + 0.5).astype(np.uint8)


def _panels(batch, maps, i, source, originals):
    """What is shown: for each video, or for the clip, the frames as they are, and under the heat of each class."""
    check_clip("cam", maps, i, len(batch.plan))
    classes = maps.classes[i].tolist()
    names = [_name(batch, k) for k in classes]
    scores = maps.scores[i].tolist()
    chosen = [n for n in range(len(classes)) if classes.index(classes[n]) == n]
    if not source:
        frames = shown_frames(batch, slice(i, i + 1))[0]
        heat = maps.on_clip(i, frames.shape[:3]).float().cpu().numpy()
        views = [(_clip_text(batch, i), frames, heat, np.ones(frames.shape[:3]))]
    else:
        views = []
        for found in on_source(batch, maps, i, *_sizes(batch, originals)):
            text = f"clip {found.clip}   frames {frames_span(found.frames)}"
            if batch.manifest is not None:
                file = printable(Path(batch.manifest.path(found.sample)).name)
                text = f"{class_text(batch.manifest, found.sample)}   {file}   {text}"
            views.append((text, original_frames(batch, found, originals), found.heat, found.weight))
    return [
        [Strip(frames, [text])]
        + [Strip(heated(frames, heat[n], weight), [f"{names[n]}: score {scores[n]:.3g}"]) for n in chosen]
        for text, frames, heat, weight in views
    ]


def _clip_text(batch, i):
    """Which clip it is, and its label as it is mixed: the largest parts of it."""
    if batch.manifest is None or batch.targets.ndim == 1:
        return f"clip {i}"
    targets = batch.targets[i].float().cpu().numpy()
    parts = [f"{targets[k]:.3g} {_name(batch, k)}" for k in np.argsort(-targets, kind="stable")[:3] if targets[k]]
    return f"clip {i}   label {' + '.join(parts) or 'none'}"


def _sizes(batch, originals):
    """Height and width of the frames of each of the videos: (B,) each; or None, where the manifest has them."""
    if originals is not None:
        return np.array([np.shape(one)[1:3] for one in originals]).T
    if batch.manifest is None:
        raise ValueError("cam: the batch has no manifest to decode frames of; give originals, the clips before augment")
    return None, None


def _name(batch, k):
    return batch.manifest.classes[k] if batch.manifest is not None else f"class {k}"


def draw(
    batch: Batch, maps: Maps, i: int, *, source: bool = False, originals: Sequence[np.ndarray] | None = None,
    num_frames: int = 8, height: int = 112, title: str = "",
) -> Image.Image:  # fmt: skip
    """Draw the maps of a clip: strips of frames, one for each class, and below them the activation sequences.

    Args:
        batch: of a ``VideoLoader``, or of ``augment`` with clips (B, 3, F, H, W).
        maps: of its clips, by ``activation``.
        i: position of the clip in the batch.
        source: on the frames of the video, and of the one that is mixed with it, instead of those of the clip; what the
            clip does not show of them stays as it is.
        originals: with ``source``, for a batch of ``augment``: the clips before it, (F, H, W, 3) each.
        num_frames: shown at most.
        height: of a frame, pixels.
        title: text above the first strip.

    Raises:
        ValueError: as ``on_source``; or there are no frames to draw on.
    """
    strips = _panels(batch, maps, i, source, originals)
    if title:
        strips[0][0] = strips[0][0]._replace(lines=[title, *strips[0][0].lines])
    pictures = [draw_strips(part, height, num_frames) for part in strips]
    curves = dict(zip((_name(batch, k) for k in maps.classes[i].tolist()),
                      maps.sequence(batch.plan.frames.shape[1])[i].cpu().numpy(), strict=True))  # fmt: skip
    pictures.append(draw_sequences(curves, width=max(320, pictures[0].width)))
    return _stacked(pictures)


def _stacked(pictures):
    """Pictures, one below the other."""
    whole = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), PAPER)
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    return whole


def draw_sequences(
    sequences: dict[str, np.ndarray], *, title: str = "activation sequences", width: int = 480
) -> Image.Image:
    """Draw values of frames as lines, all on one scale.

    Args:
        sequences: by name, (F,) each: a row of ``maps.sequence(num_frames)``, or weights.
        title: above them.
        width: of the picture, pixels.

    Raises:
        ValueError: there are none, or a value is not finite.
    """
    values = [np.asarray(one, np.float64) for one in sequences.values()]
    if not values or any(one.ndim != 1 or not len(one) or not np.isfinite(one).all() for one in values):
        raise ValueError("cam.draw_sequences: sequences must be (F,) finite numbers by name")
    low, high = min(one.min() for one in values), max(one.max() for one in values)
    span = high - low or 1.0
    left, top, bottom = MARGIN + 56, MARGIN + LINE * (1 + len(values)), MARGIN + LINE * (1 + len(values)) + _CHART
    picture = Image.new("RGB", (width, bottom + LINE + MARGIN), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((MARGIN, MARGIN), title, INK, font_size=12)
    for y, value in ((top, high), (bottom, low)):
        pen.line([(left, y), (width - MARGIN, y)], AXIS)
        pen.text((left - 6, y), f"{value:.3g}", INK, font_size=11, anchor="rm")
    if low < 0 < high:
        zero = bottom + low / span * (bottom - top)
        pen.line([(left, zero), (width - MARGIN, zero)], AXIS)
    for k, (name, one) in enumerate(zip(sequences, values, strict=True)):
        color, y = _LINES[k % len(_LINES)], MARGIN + LINE * (k + 1)
        pen.line([(left, y + 7), (left + 20, y + 7)], color, width=3)
        pen.text((left + 26, y), name, INK, font_size=12)
        across = left + (width - MARGIN - left) * (np.arange(len(one)) + 0.5) / len(one)
        points = list(zip(across.tolist(), (bottom - (one - low) / span * (bottom - top)).tolist(), strict=True))
        pen.line(points if len(points) > 1 else points * 2, color, width=2)
    frames = len(values[0])
    for t in {0, frames // 2, frames - 1}:
        x = left + (width - MARGIN - left) * (t + 0.5) / frames
        pen.text((x, bottom + 3), str(t), INK, font_size=11, anchor="ma")
    return picture


def write_video(
    path: str | os.PathLike[str], batch: Batch, maps: Maps, i: int, *, source: bool = False,
    originals: Sequence[np.ndarray] | None = None, height: int = 224, fps: int = 8,
) -> None:  # fmt: skip
    """Write the maps of a clip as a video (H.264): its frames, and beside them the same under the heat of each class.

    It has as many frames as the clip. With ``source`` there is a row for each of the videos.

    Args:
        path: ends in .mp4.
        batch, maps, i, source, originals: as in ``draw``.
        height: of a frame, pixels.
        fps: frames per second of the video that is written.

    Raises:
        ValueError: as ``draw``; or the path does not end in .mp4, or ``fps`` or ``height`` is not at least 1.
    """
    if Path(path).suffix.lower() != ".mp4":
        raise ValueError(f"cam.write_video: path must end in .mp4, got {path}")
    for name, value in (("fps", fps), ("height", height)):
        if not (isinstance(value, (int, np.integer)) and value >= 1):
            raise ValueError(f"cam.write_video: {name} must be a whole number >= 1, got {value!r}")
    rows = _panels(batch, maps, i, source, originals)
    count = len(rows[0][0].frames)
    encode_video(path, (_frame(rows, t, height) for t in range(count)), fps=fps)


def _frame(rows, t, height):
    """Frame ``t`` of all panels, with their text: (H, W, 3) uint8, of an even size, as H.264 wants it."""
    widths = [round(height * row[0].frames.shape[2] / row[0].frames.shape[1]) for row in rows]
    across = max(len(row) * (width + GAP) - GAP for row, width in zip(rows, widths, strict=True))
    size = across + across % 2, (len(rows) * (height + LINE) + 1) // 2 * 2
    picture = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(picture)
    for down, (row, width) in enumerate(zip(rows, widths, strict=True)):
        for column, strip in enumerate(row):
            x, y = column * (width + GAP), down * (height + LINE)
            pen.text((x, y), strip.lines[0] if len(row) == 1 else strip.lines[0][: width // 6], INK, font_size=12)
            frame = Image.fromarray(strip.frames[t]).resize((width, height), Image.Resampling.BILINEAR)
            picture.paste(frame, (x, y + LINE))
    return np.asarray(picture)
