"""The frames of clips: those that a sampler draws, and those that ops on time make of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.errors import naming
from dali_vidaug.recipe import Recipe
from dali_vidaug.rng import Draws
from dali_vidaug.sampling import Videos


class DrawnTime(NamedTuple):
    """What ``draw_time`` returns.

    Attributes:
        frames: (B, F) int32, or float64 where positions may lie between two frames.
        args: what each op on time drew, by name: a (B,) structured array, or None.
    """

    frames: np.ndarray
    args: dict[str, Any]


def check_positions(method: str, drawn: Any, draws: Draws, videos: Videos) -> np.ndarray:
    """The frames that a sampler or an op on time returned, if they are frames of the videos.

    Args:
        method: what returned them, as "ClipSampling.draw".
        drawn: what was returned.
        draws: of the batch.
        videos: what is known of each clip's video.

    Returns:
        (B, F) int32, or float64 if ``drawn`` are floats.

    Raises:
        TypeError: they are something else.
        ValueError: a position is outside [first, last) of its video.
    """
    try:
        frames = np.asarray(drawn)
    except ValueError as error:
        raise TypeError(f"{method} must return as many frames for each clip: {error}") from error
    if frames.ndim != 2 or len(frames) != len(draws) or not frames.shape[1] or frames.dtype.kind not in "iuf":
        raise TypeError(
            f"{method} must return the frames of {len(draws)} clips, (B, F) integers or float64, "
            f"got {frames.dtype} {frames.shape}"
        )
    first, last = videos.first[:, None], videos.last[:, None]
    outside = ~((first <= frames) & (frames <= last - 1))  # NaN is outside, too
    if outside.any():
        i, j = np.argwhere(outside)[0].tolist()
        raise ValueError(
            f"{method.rpartition('.')[0]}: frame {frames[i, j]:g} of sample {draws.samples[i]} is outside "
            f"[{first[i, 0]}, {last[i, 0]})"
        )
    return frames.astype(np.float64 if frames.dtype.kind == "f" else np.int32)


def draw_time(recipe: Recipe, draws: Draws, frames: np.ndarray, videos: Videos) -> DrawnTime:
    """Draw the ops on time of a recipe, one after the other.

    Args:
        recipe: its ops on time draw.
        draws: the batch's random numbers.
        frames: (B, F), what the sampler drew. Not changed.
        videos: what is known of each clip's video.

    Returns:
        The frames, and what each op drew.

    Raises:
        TypeError, ValueError: an op returns something else, or a position outside its video.
    """
    args: dict[str, Any] = {}
    for name, op in recipe.time_ops:
        with naming(name, op, "retime", f"for {draws}; clips of {frames.shape[1]} frames"):
            result = op.retime(draws.named(name), frames.copy(), videos)
        if not (isinstance(result, tuple) and len(result) == 2 and _are_rows(result[1], len(draws))):
            raise TypeError(f"{name}.retime must return frames, and None or a structured array of {len(draws)} rows")
        frames, args[name] = check_positions(f"{name}.retime", result[0], draws, videos), result[1]
    return DrawnTime(frames, args)


def _are_rows(args, count):
    if args is None:
        return True
    return isinstance(args, np.ndarray) and bool(args.dtype.names) and args.shape == (count,)
