"""Pictures of time: which frames of a video each view takes, and what ops on time make of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import dali_vidaug as dv
from dali_vidaug.errors import printable
from dali_vidaug.media.decode import decode
from dali_vidaug.ops.interpolate import decoded_frames, interpolate, interpolate_rows
from dali_vidaug.sampling.videos import Videos
from dali_vidaug.strips import MARGIN, Strip, draw_strips
from dali_vidaug.timing import draw_time

_WIDTH, _SIDE, _ROW, _THUMB, _LINE = 1100, 150, 16, 64, 16  # pixels: time line, text beside it, a view, frames, text
_INK, _PAPER, _AXIS, _KEY = (32, 32, 36), (255, 255, 255), (200, 200, 204), (120, 120, 200)
_COLOURS = ((214, 84, 36), (40, 110, 170))  # of views, in turn
_DRAWS = 50  # of an op; the one that shows best what it does is drawn
_BYTES_MAX = 1 << 27  # of pixels in a picture; more could not be looked at


def timeline_picture(
    manifest: dv.Manifest, sampler: Any, samples: Sequence[int], *, seed: int = 0, epoch: int = 0, num_views: int = 30
) -> Image.Image:
    """Draw videos along their time, and below each a row for each view, with a mark for each of its frames.

    Key frames are marks on the axis. A frame that is taken more than once has a higher mark.

    Args:
        manifest: has the videos.
        sampler: what chooses the frames.
        samples: rows of the manifest.
        seed, epoch: of the draws.
        num_views: drawn of each video at most.

    Raises:
        ValueError: the sampler refuses a video, or the picture would be too large.
    """
    recipe = dv.Recipe(sampler, ())
    views = np.arange(min(recipe.num_clips, num_views))
    height = MARGIN + len(samples) * (2 * _LINE + _THUMB + _ROW * (len(views) + 1) + 2 * MARGIN)
    if 3 * height * (_WIDTH + _SIDE) > _BYTES_MAX:
        raise ValueError(f"{len(samples)} videos with {len(views)} views each are too many for a picture")
    picture = Image.new("RGB", (_SIDE + _WIDTH + 2 * MARGIN, height), _PAPER)
    top = MARGIN
    for sample in samples:
        plan = dv.draw_plan(manifest, recipe, [sample] * len(views), seed, epoch, views)
        top = _draw_video(picture, manifest, plan, sample, top)
    return picture


def _draw_video(picture, manifest, plan, sample, top):
    """One video with its views, from a row of pixels on; returns the row after it."""
    pen, videos = ImageDraw.Draw(picture), manifest.videos([sample])
    first, last, times, unit = int(videos.first[0]), int(videos.last[0]), videos.times(0), "s"
    if not np.isfinite(times).all():
        times, unit = np.arange(len(times), dtype=float), ""
    end = times[last] if last < len(times) else 2 * times[-1] - times[-2] if len(times) > 1 else times[-1] + 1
    begin, left = times[first], MARGIN + _SIDE

    def x_of(seconds):
        return left + (seconds - begin) / max(end - begin, 1e-9) * _WIDTH

    name = printable(Path(manifest.path(sample)).name)
    pen.text((left, top), f"{name}   sample {sample}   frames {first} to {last - 1}", _INK, font_size=12)
    top += _LINE
    top = _draw_thumbs(picture, manifest, sample, times, (begin, end), left, top)
    pen.line([(left, top), (left + _WIDTH, top)], _AXIS)
    for key in videos.keyframes(0).tolist():
        pen.line([(x_of(times[key]), top - 6), (x_of(times[key]), top)], _KEY, width=2)
    for share in np.linspace(0, 1, 11):
        x = left + share * _WIDTH
        pen.line([(x, top), (x, top + 3)], _INK)
        pen.text((x, top + 4), f"{begin + share * (end - begin):.2f}{unit}", _INK, font_size=10, anchor="ma")
    top += _ROW + MARGIN // 2
    for view, positions in zip(plan.views.tolist(), plan.frames.astype(np.float64), strict=True):
        seconds = np.interp(positions, np.arange(len(times)), times)
        low, high = seconds.min(), seconds.max()
        text = f"view {view}   {low:.2f} - {high:.2f}{unit}"
        pen.text((MARGIN, top + 2), text, _INK, font_size=11)
        pen.line([(left, top + _ROW - 2), (left + _WIDTH, top + _ROW - 2)], _AXIS)
        found, counts = np.unique(seconds, return_counts=True)
        for second, count in zip(found.tolist(), counts.tolist(), strict=True):
            up = _ROW - 3 if count > 1 else _ROW // 2
            pen.line([(x_of(second), top + _ROW - 2 - up), (x_of(second), top + _ROW - 2)], _COLOURS[view % 2], width=2)
        top += _ROW
    return top + MARGIN


def _draw_thumbs(picture, manifest, sample, times, span, left, top):
    """Frames of the video side by side, each where it is shown; returns the row of pixels below them."""
    video, (begin, end) = manifest.video(sample), span
    height, width = video.shown_size
    width = max(1, round(_THUMB * width / height))
    count = max(1, min(_WIDTH // (width + 2), 40))
    wanted = begin + (np.arange(count) + 0.5) / count * (end - begin)
    first, last = (int(manifest.rows(name, [sample])[0]) for name in ("first_frame", "last_frame"))
    frames = np.clip(np.searchsorted(times, wanted, side="right") - 1, first, last - 1)
    pixels = decode(video, frames.astype(np.int32), ()).pixels
    for i, frame in enumerate(pixels):
        shown = Image.fromarray(frame).resize((width, _THUMB), Image.Resampling.BILINEAR)
        picture.paste(shown, (int(left + (i + 0.5) / count * _WIDTH - width / 2), top))
    return top + _THUMB + MARGIN // 2


def time_picture(
    ops: Sequence[Any], video: np.ndarray, *, seed: int = 0, num_frames: int = 8, height: int = 96
) -> Image.Image:
    """Draw a clip, and what ops on time make of it, with the position of each frame in the video.

    Args:
        ops: ops on time. Of many draws of an op the one is shown that changes about half of the frames.
        video: (F, H, W, 3) uint8. The clip is as many of its frames as are shown, at equal distances.
        seed: of the draws.
        num_frames: shown at most.
        height: of a frame, pixels.
    """
    count = min(num_frames, len(video))
    clip = max((len(video) - 1) // max(count - 1, 1), 1) * np.arange(count)
    of_video = Videos(np.zeros(1, int), np.array([len(video)]), np.array([25.0]), lambda _: np.arange(len(video)) / 25)
    strips = [Strip(video[clip], captions=[str(frame) for frame in clip], title="the clip")]
    for op in ops:
        recipe, draws = dv.Recipe(ops=(op,)), [dv.Draws(seed, epoch, [0]) for epoch in range(_DRAWS)]
        drawn = [draw_time(recipe, draw, clip[None], of_video).frames.astype(np.float64) for draw in draws]
        frames = min(drawn, key=lambda frames: abs(2 * (frames != clip).sum() - count))
        (shown,) = interpolate([video[decoded_frames(frames[0])]], interpolate_rows(frames), count)
        strips.append(Strip(shown, captions=[f"{frame:.3g}" for frame in frames[0]], title=recipe.names[0]))
    return draw_strips(strips, height, count)


def time_ops(name: str) -> list[Any]:
    """The op on time called ``name``, so that it is always applied, or with "all" each of them.

    Raises:
        ValueError: there is no such op.
    """
    ops = (dv.Reverse(1.0), dv.SpeedRamp(), dv.TemporalJitter(), dv.FrameJitter(), dv.FrameDrop(), dv.HalfCopy(1.0))
    known = {type(op).__name__: op for op in ops}
    found = [op for title, op in known.items() if name.lower() in ("all", title.lower())]
    if not found:
        raise ValueError(f"--time: must be all or one of {', '.join(known)}, got {name}")
    return found
