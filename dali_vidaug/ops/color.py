"""What the ops on colour and noise have in common: rows of values for each frame, and the kernel that applies them.

``run``, ``build``, ``check``, ``describe`` and ``applied`` are methods that the classes of such ops take over.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from dali_vidaug.kernels import launch
from dali_vidaug.ops.check import are_numbers, is_number
from dali_vidaug.ops.names import name_of
from dali_vidaug.ops.operator import check_frame_values, frames_of, structured
from dali_vidaug.ops.ramp import RAMPED_MAX, draw_ramps
from dali_vidaug.rng import Draws

MAX_OPS = 4
FRAME_BYTES = 16  # of struct ColorFrame
FACTOR_MAX = 1000.0  # of brightness, contrast and saturation, as options; so values fit into 32 bits
CODES = ("identity", "brightness", "contrast", "saturation", "hue", "grey", "noise")
_NEUTRAL = np.array([0, 1, 1, 1, 0, 0, 0], np.float32)
_HIGHEST = np.array([0, *[FACTOR_MAX + 1] * 3, 0.5, 1, 255], np.float32)
_LOWEST = np.array([0, 0, 0, 0, -0.5, 0, 0], np.float32)


@cache
def color_args(num_ops: int, frames: int) -> np.dtype:
    """The dtype of a row: ``num_ops`` ops, a value of each for ``frames`` frames. Zeros do not change the clip."""
    return np.dtype(
        [  # the same as struct ColorArgs
            ("op", "u1", MAX_OPS),  # positions in CODES, in order
            ("per_clip", "u1"),  # contrast turns about the mean of the whole clip, otherwise of each frame
            ("reserved", "u1", 3),
            ("key", "u4", 2),  # of the noise
            ("num_values", "i4"),
            ("value", "f4", (num_ops, frames)),  # factors; turns; 1 for grey; standard deviation of noise in levels
        ]
    )


def new_rows(num_clips: int, num_ops: int, frames: int) -> np.ndarray:
    """(B,) rows that change nothing."""
    rows = np.zeros(num_clips, color_args(num_ops, frames))
    rows["num_values"] = frames
    return rows


def color(clips: Sequence[Any], rows: Any, num_ops: int, num_threads: int | None = None) -> list[Any]:
    """Apply rows of the plan to clips.

    Args:
        clips: B arrays (F, H, W, 3) uint8, NumPy's or CuPy's.
        rows: (B,) of dtype ``color_args(num_ops, frames)``, or B arrays of their bytes, on the device of the clips.
            ``frames`` is at least the longest clip's F.
        num_ops: ops for each clip.
        num_threads: as in ``kernels.launch``.

    Returns:
        B arrays. On the CPU, clips that do not change are not copied: they are returned themselves.

    Raises:
        ValueError: a clip has more frames than its row has values.
    """
    if not len(clips):
        return []
    dtype = color_args(num_ops, frames_of("color", rows, partial(color_args, num_ops), clips))
    rows = structured(rows, dtype)
    neutral = is_neutral(rows).tolist() if isinstance(rows, np.ndarray) else []
    skip = [i for i, unchanged in enumerate(neutral) if unchanged]
    return launch(
        "color", clips, rows, dtype, entries=("color_measure", "color_mean", "color_pixels"), skip=skip,
        work_bytes=lambda frames, height, width: frames * FRAME_BYTES, num_threads=num_threads,
    )  # fmt: skip


def is_neutral(rows: np.ndarray) -> np.ndarray:
    """(B,) bool: the row does not change its clip."""
    ops = rows["op"][:, : rows["value"].shape[1]]
    return ((rows["value"] == _NEUTRAL[ops][..., None]).all(-1) | (ops == 0)).all(-1)


def as_range(value: Any, center: float) -> tuple[float, float]:
    """The range of an option that is a pair, or how far from ``center`` its values may be; factors are not below 0."""
    if isinstance(value, (tuple, list)):
        return float(value[0]), float(value[1])
    low = center - value
    return (max(low, 0.0) if center == 1 else low), center + value


def check_jitter(op: str, field: str, value: Any, low: float, high: float) -> None:
    """``value`` is a number in [0, high], how far from the value that changes nothing, or a pair in [low, high]."""
    pair = are_numbers(value, 2, low, high) and value[0] <= value[1]
    if not (pair or is_number(value, 0, high)):
        raise ValueError(
            f"{op}: {field} must be a number in [0, {high:g}], or (low, high) with "
            f"{low:g} <= low <= high <= {high:g}, got {value!r}"
        )


def draw_values(
    draws: Draws, ramp: str, values: np.ndarray, ranges: Sequence[tuple[float, float]], neutral: Sequence[float],
    frames: np.ndarray, num_frames: int,
) -> np.ndarray:  # fmt: skip
    """The values of each frame. What ramps is how far they are from where they change nothing.

    Args:
        draws: the batch's random numbers.
        ramp: of ``ramp.RAMPS``.
        values: (B, S) float, of S ops.
        ranges: of each op, (low, high). No ramp goes beyond the end that is farther from ``neutral``, on its side.
        neutral: of each op, the value that changes nothing. No ramp crosses it.
        frames: (B,) int, the clips' lengths.
        num_frames: of the result.

    Returns:
        (B, S, num_frames) float64.
    """
    low, high = np.array(ranges, np.float64).T
    center = np.array(neutral, np.float64)
    away = values - center
    span = np.where(away < 0, center - low, high - center)
    magnitude = RAMPED_MAX * np.abs(away) / np.where(span > 0, span, 1)
    ramps = draw_ramps(draws, ramp, magnitude, RAMPED_MAX, frames, num_frames)
    share = ramps / np.where(magnitude > 0, magnitude, 1)[..., None]
    return center[:, None] + away[..., None] * share


# Methods


def run(self: Any, clips: Sequence[Any], rows: Any, num_threads: int | None = None) -> list[Any]:
    """``color`` with the op's number of ops."""
    return color(clips, rows, self.NUM_OPS, num_threads)


def check(self: Any, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> None:
    """Refuse arguments, such as those of an edited plan, that the kernel cannot apply."""
    name, num_ops = name_of(self), self.NUM_OPS
    what = f"{num_ops} ops with values for"
    check_frame_values(name, "value", what, args, frames, partial(color_args, num_ops))
    for i, row in enumerate(args):
        codes = row["op"].tolist()
        if any(codes[num_ops:]) or max(codes) >= len(CODES) or codes.count(CODES.index("contrast")) > 1:
            raise ValueError(
                f"{name}: op of row {i} must be {num_ops} of [0, {len(CODES)}), contrast ({CODES.index('contrast')}) "
                f"once at most, and then 0, got {codes}"
            )
        for code, values in zip(codes, row["value"], strict=False):
            low, high = _LOWEST[code], _HIGHEST[code]
            if code and not ((values >= low) & (values <= high)).all():
                wrong = values[~((values >= low) & (values <= high))][0]
                raise ValueError(
                    f"{name}: {CODES[code]} of row {i} must be in [{low:g}, {high:g}] in every frame, got {wrong:g}"
                )


def describe(self: object, row: Any) -> list[str]:
    """A line for each op of a row: its name and value, frame by frame where it changes."""
    if is_neutral(row[None])[0]:
        return ["unchanged"]
    lines = []
    for code, values in zip(row["op"].tolist(), row["value"], strict=False):
        word = CODES[code]
        text = " ".join(f"{v:.4g}" for v in (values[:1] if (values == values[0]).all() else values))
        unit = {"hue": "turns", "noise": "levels"}.get(word, "times")
        about = f" about the mean of {'the clip' if row['per_clip'] else 'each frame'}" if word == "contrast" else ""
        if code:
            lines.append(word if word == "grey" else f"{word} {text} {unit}{about}")
    return lines


def applied(self: object, args: np.ndarray) -> np.ndarray:
    """(B,) bool: the clip is changed."""
    return ~is_neutral(args)
