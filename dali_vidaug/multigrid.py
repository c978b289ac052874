"""Stages by rule: multigrid training, progressive resizing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from itertools import pairwise
from typing import Any

from dali_vidaug.ops.check import is_number
from dali_vidaug.ops.crop import both_sides
from dali_vidaug.ops.random_crop import ShortSideScale
from dali_vidaug.recipe import Recipe
from dali_vidaug.sampling import ClipSampling, MultiClip, VJEPA2Sampling
from dali_vidaug.stages import Stage, Stages

LONG_CYCLE = ((0.25, 0.5**0.5), (0.5, 0.5**0.5), (0.5, 1.0), (1.0, 1.0))
SHORT_CYCLE = (0.5, 0.5**0.5)


def multigrid(
    recipe: Recipe, epochs: int, lr_epochs: Sequence[int] = (), *, epoch_factor: float = 1.5,
    long_cycle: Sequence[tuple[float, float]] = LONG_CYCLE, short_cycle: Sequence[float] = SHORT_CYCLE,
) -> Stages:  # fmt: skip
    """Multigrid training: large batches of short, small clips first, full clips last.

    After Wu et al., "A Multigrid Method for Efficiently Training Video Models" (CVPR 2020, arXiv 1912.00998), with the
    rules of SlowFast's code. A long cycle changes frames and size every few epochs, a short cycle the size at every
    step. Batches are larger as clips are smaller, rounded to a whole factor. Each shape of the long cycle takes as many
    steps as another.

    Args:
        recipe: of the full clips. Its sampler has ``num_frames``. Its crops and scalings are made smaller with the
            clip, but ``ShortSideScale`` only at its low end, as in SlowFast. Clips of fewer frames have a larger
            stride, up to the span of the full clip: ``ClipSampling`` draws it for each clip, as SlowFast does; samplers
            with a fixed stride have the largest.
        epochs: of the ordinary training, which the schedule replaces.
        lr_epochs: the epochs of the ordinary training at which its learning rate falls. There is a long cycle before
            each, and after the last one a stage of full clips. Default: a single long cycle.
        epoch_factor: epochs of the schedule, compared with ``epochs``.
        long_cycle: (frames, size) of each of its shapes, as parts of the full clip's, (0, 1]; (): none.
        short_cycle: sizes that the first steps have in turn, as parts of the full clip's, before that of the long
            cycle; (): none.

    Returns:
        The stages, in epochs. ``stages[len(long_cycle) * k]`` begins the k-th long cycle.

    Raises:
        ValueError: an option is out of range, the recipe has nothing that can be made smaller, or there are too few
            epochs for so many stages.
    """
    numbers = [0, *lr_epochs, epochs]
    whole = all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
    if not (whole and all(one < other for one, other in pairwise(numbers))):
        raise ValueError(
            f"multigrid: lr_epochs must be whole numbers that rise between 0 and epochs={epochs!r}, got {lr_epochs!r}"
        )
    if not is_number(epoch_factor, 1e-3, 1e3):
        raise ValueError(f"multigrid: epoch_factor must be a number > 0, got {epoch_factor!r}")
    shapes = [tuple(shape) for shape in long_cycle] or [(1.0, 1.0)]
    for name, parts in (("long_cycle", [part for shape in shapes for part in shape]), ("short_cycle", short_cycle)):
        if not all(is_number(part, 1e-3, 1) for part in parts):
            raise ValueError(f"multigrid: {name} must be parts of the full clip in (0, 1], got {parts!r}")
    made: dict[tuple[int, int], Recipe] = {}
    cycles = []
    for frames, side in shapes:
        found = [_smaller("multigrid", recipe, frames, part, made) for part in (*short_cycle, side)]
        cycles.append((tuple(one for one, _ in found), tuple(scale for _, scale in found)))
    average = [sum(scales) / len(scales) for _, scales in cycles]
    shares = [part / sum(average) for part in average]
    lengths = [(number, share * (other - one)) for one, other in pairwise(numbers[:-1] if lr_epochs else [0, epochs])
               for number, share in enumerate(shares)]  # fmt: skip
    if lr_epochs:  # full clips, with as many steps less as in the long cycles
        lengths.append((len(shapes) - 1, (epochs - lr_epochs[-1]) * len(shapes) * shares[-1]))
    stretch = epochs * epoch_factor / sum(length for _, length in lengths)
    ends = [round(stretch * sum(length for _, length in lengths[: i + 1])) for i in range(len(lengths))]
    starts = [0, *ends[:-1]]
    if any(one >= other for one, other in pairwise([*starts, ends[-1]])):
        raise ValueError(f"multigrid: {epochs} epochs are too few for {len(starts)} stages: some would have none")
    return Stages([Stage(start, *cycles[number]) for start, (number, _) in zip(starts, lengths, strict=True)])


def progressive_resize(
    recipe: Recipe, sizes: Sequence[tuple[int, int]], *, unit: str = "epoch", scale_batch: bool = True
) -> Stages:
    """Progressive resizing: small clips first, larger ones later.

    Args:
        recipe: of the full clips. The sizes of its crops and scalings, ``ShortSideScale`` included, change in
            proportion.
        sizes: (start, size) of each stage: the epoch or step from which on it lasts, the first one 0; and the height of
            its clips in pixels.
        unit: of the starts, "epoch" or "step".
        scale_batch: batches are larger as clips are smaller, by the area rounded to a whole factor; or all of
            ``batch_size``.

    Raises:
        ValueError: an option is out of range, or the recipe sets no size.

    >>> import dali_vidaug as dv
    >>> recipe = dv.Recipe(dv.ClipSampling(16), (dv.RandomResizedCrop(224), dv.Normalize()))
    >>> stages = dv.progressive_resize(recipe, ((0, 112), (10, 160), (20, 224)))
    >>> [(stage.start, stage.recipe.ops[0].size, stage.batch_scale) for stage in stages.stages]
    [(0, 112, 4), (10, 160, 2), (20, 224, 1)]
    """
    (full, _), stages = _full_size("progressive_resize", recipe), []
    for item in sizes:
        pair = isinstance(item, (tuple, list)) and len(item) == 2
        if not (pair and isinstance(item[1], int) and 1 <= item[1] <= 16384):
            raise ValueError(f"progressive_resize: sizes must be (start, size in pixels), got {item!r}")
        one, scale = _smaller("progressive_resize", recipe, 1.0, item[1] / full, {}, both_ends=True)
        stages.append(Stage(item[0], one, scale if scale_batch else 1))
    return Stages(stages, unit)


def _has_size(op: Any) -> bool:
    return is_dataclass(op) and hasattr(op, "size")


def _full_size(caller: str, recipe: Any) -> tuple[int, int]:
    """Height and width of the clips, by the last op that has a size."""
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{caller}: recipe must be a Recipe, got {recipe!r}")
    found: list[Any] = [op for op in recipe.ops if _has_size(op)]
    if not found:
        raise ValueError(f"{caller}: the recipe has no op with a size, such as RandomResizedCrop: none can be changed")
    return both_sides(found[-1].size)


def _smaller(caller, recipe, frames, part, made, both_ends=False):
    """A recipe for other clips, and the size of their batches compared with those of full clips.

    Args:
        recipe: of full clips.
        frames, part: of its frames, and of its height and width.
        made: recipes that were made before, by height and frames: equal ones are one object.
        both_ends: whether ``ShortSideScale`` changes at its high end too.
    """
    full_height, full_width = _full_size(caller, recipe)
    height = round(full_height * part)
    side = height / full_height
    sampling, count = recipe.sampling, getattr(recipe.sampling, "num_frames", 1)
    if frames != 1:
        sampling = _fewer_frames(caller, sampling, frames)
    fewer = getattr(sampling, "num_frames", 1)
    if (height, fewer) not in made:
        ops = tuple(_resized(op, side, both_ends) for op in recipe.ops)
        made[height, fewer] = replace(recipe, sampling=sampling, ops=ops)
    larger = count * full_height * full_width / (fewer * height * round(full_width * side))
    return made[height, fewer], round(larger) if larger >= 1 else 1 / round(1 / larger)


def _resized(op, side, both_ends):
    if isinstance(op, ShortSideScale):
        return replace(op, low=round(op.low * side), high=round(op.high * side) if both_ends else op.high)
    if not _has_size(op):
        return op
    size = tuple(round(length * side) for length in both_sides(op.size))
    return replace(op, size=size if isinstance(op.size, tuple) else size[0])


def _fewer_frames(caller, sampling, part):
    """A sampler of a part of the frames, which span up to as much time."""
    if isinstance(sampling, MultiClip):
        return replace(sampling, clip=_fewer_frames(caller, sampling.clip, part))
    if "num_frames" not in getattr(sampling, "__dataclass_fields__", ()):
        raise ValueError(f"{caller}: sampling must have num_frames, to take fewer, got {sampling!r}")
    count = sampling.num_frames
    fewer = round(count * part)
    if fewer < 1:
        raise ValueError(f"{caller}: {part:g} of {count} frames are none: take a sampler of more frames")
    stride, times = getattr(sampling, "stride", None), count // fewer
    if isinstance(sampling, VJEPA2Sampling) and sampling.fps:
        if sampling.fps % times:
            raise ValueError(f"{caller}: fps {sampling.fps} of {sampling!r} cannot be divided by {times}")
        return replace(sampling, num_frames=fewer, fps=sampling.fps // times)
    if stride is None:  # frames of the whole video
        return replace(sampling, num_frames=fewer)
    if isinstance(sampling, ClipSampling):
        low, high = stride if isinstance(stride, tuple) else (stride, stride)
        return replace(sampling, num_frames=fewer, stride=(low, high * times))
    return replace(sampling, num_frames=fewer, stride=stride * times)
