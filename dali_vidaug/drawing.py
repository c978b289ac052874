"""From a recipe and a batch's samples to its plan. Needs only NumPy."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dali_vidaug.drawn_masks import draw_masks
from dali_vidaug.errors import naming
from dali_vidaug.ops import name_of
from dali_vidaug.ops.sizes import sizes_after, sizes_text
from dali_vidaug.plan import Plan
from dali_vidaug.recipe import Recipe
from dali_vidaug.repeats import clip_column, join_parts, parts_of
from dali_vidaug.rng import MAX_REPEAT, MAX_SAMPLE, Draws, whole_numbers
from dali_vidaug.sampling import Videos
from dali_vidaug.timing import check_positions, draw_time

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from dali_vidaug.data.manifest import Manifest


class DrawnOps(NamedTuple):
    """What ``draw_ops`` returns.

    Attributes:
        args: the arguments of each op by name: a (B,) structured array, or None.
        frames, height, width: (B,) int64, the sizes of the clips after the last op.
    """

    args: dict[str, Any]
    frames: np.ndarray
    height: np.ndarray
    width: np.ndarray


def draw_ops(recipe: Recipe, draws: Draws, frames: ArrayLike, height: ArrayLike, width: ArrayLike) -> DrawnOps:
    """Draw every op of a recipe, except those on time, which ``timing.draw_time`` draws.

    An op sees the clips as the ops before it leave them: one that changes their size says so in the fields
    ``out_frames``, or ``out_height`` and ``out_width``, of its arguments.

    Args:
        recipe: its ops draw, its sampler does not.
        draws: the batch's random numbers.
        frames, height, width: (B,) int, the sizes of the clips before the first op.

    Returns:
        The arguments, and the sizes of the clips after the last op.

    Raises:
        TypeError: an op returns something that is not arguments.
        ValueError: they contradict each other or the clips; an ``OpError`` when ``draw`` of an op failed.
    """
    sides = [np.broadcast_to(np.asarray(side, np.int64), len(draws)) for side in (frames, height, width)]
    sizes, args = np.stack(sides, 1), {}
    for name, op in recipe.pixel_ops:
        with naming(name, op, "draw", partial(_purpose, draws, sizes)):
            args[name] = op.draw(draws.named(name), *sizes.T)
        sizes = sizes_after(name, op, args[name], sizes)
    return DrawnOps(args, *sizes.T)


def _purpose(draws, sizes):
    return f"for {draws}; {sizes_text(sizes)}"


def draw_frames(recipe: Recipe, draws: Draws, videos: Videos) -> np.ndarray:
    """Draw the frames of each clip, as they are before ops on time.

    Args:
        recipe: its sampler draws.
        draws: the batch's random numbers.
        videos: what is known of each clip's video.

    Returns:
        (B, F) int32, or float64.

    Raises:
        TypeError, ValueError: the sampler returns something else, or a position outside [first, last) of a video.
    """
    name = name_of(recipe.sampling)
    with naming(name, recipe.sampling, "draw", lambda: f"for {draws}"):
        drawn = recipe.sampling.draw(draws.named(name), videos)
    return check_positions(f"{name}.draw", drawn, draws, videos)


def draw_plan(
    manifest: Manifest,
    recipe: Recipe,
    samples: ArrayLike,
    seed: int = 0,
    epoch: int = 0,
    views: ArrayLike = 0,
    batch: ArrayLike = 0,
    repeat_index: ArrayLike = 0,
    step: int = 0,
) -> Plan:
    """Decide what the clips of some samples are and what is done to them.

    A clip's plan depends on (seed, epoch, sample, view, repeat) alone, its frames not even on the repeat: not on other
    clips, device or decoder. Only ops that mix clips also depend on those of the same group and repeat.

    Args:
        manifest: has the videos' sizes and lengths.
        recipe: what to draw.
        samples: (B,) int, manifest rows; a sample may occur more than once.
        seed: [0, 2**64).
        epoch: [0, 2**24).
        views: (B,) int, or one number for all, [0, 256): which of several clips of its sample each clip is.
        batch: the group that each clip is mixed in, (B,) int or one number for all, [0, 2**32): that of a loader's
            batch, or as many as ``mix_group`` makes of it.
        repeat_index: as ``views``: which of several clips of the same frames each clip is.
        step: number of the training step, [0, 2**32), in a loader the place of its first sample in the order of the
            epoch; only what masks have in common in a step depends on it.

    Returns:
        The plan.

    Raises:
        ValueError: a number is out of range, or the recipe does not suit a video.
    """
    if not hasattr(manifest, "frame_sizes"):
        raise ValueError(f"draw_plan: manifest must be a Manifest (dv.Manifest.read, dv.scan), got {manifest!r}")
    samples = whole_numbers("samples", samples)
    everything = Draws(seed, epoch, samples, views, step=step)
    batch = clip_column("batch", batch, len(samples), MAX_SAMPLE)
    repeat_index = clip_column("repeat_index", repeat_index, len(samples), MAX_REPEAT)
    parts, found, sizes = [], [], np.empty((len(samples), 3), np.int64)
    for group, at in parts_of(batch):
        draws = Draws(seed, epoch, samples[at], everything.views[at], batch=group)
        frames, args, sizes[at] = _draw_group(manifest, recipe, draws, repeat_index[at])
        parts.append((at, args))
        found.append(frames)
    if len({frames.shape[1:] for frames in found}) > 1:
        raise ValueError(f"draw_plan: clips have {' or '.join(str(frames.shape[1]) for frames in found)} frames")
    frames = np.empty((len(samples), *found[0].shape[1:]), np.result_type(*found))
    for (at, _), some in zip(parts, found, strict=True):
        frames[at] = some
    args = join_parts(recipe, parts)
    views, masks = everything.views, draw_masks(recipe, everything, repeat_index, sizes)
    return Plan(recipe, seed, epoch, batch, samples, views, frames, args, manifest, repeat_index, masks, step)


def _draw_group(manifest, recipe, draws, repeat_index):
    """The frames, arguments and sizes of clips that may be mixed with each other.

    Repeat 0 decides the frames of all. Sizes are (F, H, W) after the last op.
    """
    (height, width), videos = manifest.frame_sizes(draws.samples), manifest.videos(draws.samples)
    frames, args = draw_time(recipe, draws, draw_frames(recipe, draws, videos), videos)
    parts, sizes = [], np.empty((len(draws), 3), np.int64)
    for repeat, at in parts_of(repeat_index):
        some = Draws(draws.seed, draws.epoch, draws.samples[at], draws.views[at], batch=draws.batch, repeat=repeat)
        drawn = draw_ops(recipe, some, np.full(len(at), frames.shape[1]), height[at], width[at])
        sizes[at] = np.stack(drawn[1:], 1)
        parts.append((at, drawn.args))
    return frames, {**args, **join_parts(recipe, parts)}, sizes
