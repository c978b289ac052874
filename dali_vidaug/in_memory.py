"""The ops of a recipe for clips that are in memory already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from dali_vidaug.batch import Batch, as_tensor, make_batch
from dali_vidaug.boxes import Boxes, BoxRules, at_positions, check_boxes
from dali_vidaug.drawing import draw_ops
from dali_vidaug.drawn_masks import draw_masks
from dali_vidaug.graph import Graph
from dali_vidaug.moved_boxes import move_boxes
from dali_vidaug.ops.interpolate import decoded_frames
from dali_vidaug.ops.names import op_names
from dali_vidaug.plan import Plan
from dali_vidaug.recipe import Recipe
from dali_vidaug.rng import Draws, whole_numbers
from dali_vidaug.sampling import MultiClip
from dali_vidaug.sampling.videos import Videos
from dali_vidaug.settings import make_settings
from dali_vidaug.targets import check_index_targets
from dali_vidaug.timing import draw_time

# The axes of a clip in the order of its layout: where frames, height, width and channels are.
_AXES = {"CFHW": (1, 2, 3, 0), "FCHW": (0, 2, 3, 1), "FHWC": (0, 1, 2, 3)}
_LAYOUTS = "'CFHW', 'FCHW' or 'FHWC'"


def augment(
    clips: Sequence[np.ndarray] | Sequence[torch.Tensor] | np.ndarray | torch.Tensor,
    ops: Iterable[Any],
    targets: ArrayLike | torch.Tensor | None = None,
    *,
    layout: str | None = None,
    samples: ArrayLike | None = None,
    seed: int = 0,
    epoch: int = 0,
    batch: int = 0,
    views: ArrayLike = 0,
    device: torch.device | str = "auto",
    dtype: torch.dtype | str = "float32",
    boxes: Boxes | None = None,
    box_rules: BoxRules | None = None,
    masks: Iterable[Any] = (),
) -> Batch:
    """Apply ops to clips in memory: the same draws and the same graph as in a ``VideoLoader``.

    Args:
        clips: B arrays or tensors of uint8, one a clip, whose heights and widths may differ; or one array of all
            (B, ...). An array of four axes is one clip, B = 1. RGB, in one of three layouts: (3, F, H, W), as a loader
            gives; (F, 3, H, W), as torchvision and TorchCodec; (F, H, W, 3), as NumPy and FFmpeg.
        ops: the ops of a recipe, in order. Ops on time need clips of as many frames each.
        targets: (B, K) float, soft labels; or (B,) int, class numbers, -1 for none: as ``VideoLoader(targets="index")``
            has them; or None.
        layout: "CFHW", "FCHW" or "FHWC": the axes of a clip. Default: the one in which an axis that can be channels has
            3 values; where the shapes fit several, it must be given.
        samples: (B,) int: clip i draws what sample ``samples[i]`` draws in a loader. Default: 0, ..., B - 1.
        seed, epoch, batch: of the draws; ``batch`` matters for ops that mix clips.
        views: (B,) int, or one for all: which of several clips of its sample each clip is. Such clips are drawn apart;
            ops such as ``ThreeCrop`` choose their crop by it.
        device, dtype, box_rules: as in ``VideoLoader``.
        boxes: in the frames of the clips, of arrays, lists or tensors, in any order; the ops move them.
        masks: of a recipe, drawn for each clip: ``batch.masks``.

    Returns:
        A batch whose ``clips`` have the layout of those given, (B, ...): uint8, or floats after ``Normalize``.
        ``targets`` is (B, 0) when none were given.

    Raises:
        ValueError: a clip is not uint8 in one of the layouts, its layout cannot be told, results differ in size, or
            clips in length where there are ops on time; a box is no box of a frame; boxes cannot follow an op; or a
            mask does not suit the clips.
    """
    settings = make_settings(device=device, dtype=dtype, box_rules=box_rules, caller="augment")
    arrays = _arrays(clips)
    layout = _find_layout(arrays, layout)
    arrays = [np.ascontiguousarray(clip.transpose(_AXES[layout])) for clip in arrays]
    size = len(arrays)
    samples = np.arange(size) if samples is None else whole_numbers("augment: samples", samples)
    if samples.shape != (size,):
        raise ValueError(f"augment: samples must be ({size},), one for each clip, got {samples.shape}")
    recipe = replace(_as_recipe(ops), masks=masks)
    labels = _labels(targets, size, recipe)
    plan = _draw(arrays, recipe, Draws(seed, epoch, samples, views, batch=batch))
    moved = None if boxes is None else _moved_boxes(boxes, arrays, plan, settings.box_rules)
    graph = Graph(plan, settings, size)
    result = as_tensor(graph.run(plan, taken_frames(arrays, plan), settings.stream()), settings.dtype)
    axes = [1 + "CFHW".index(axis) for axis in layout]
    return make_batch(result.permute(0, *axes).contiguous(), labels, plan, 0, boxes=moved)


def _arrays(clips):
    """The clips as NumPy arrays, as they are given; one clip alone is a batch of one."""
    if isinstance(clips, (str, bytes)) or not isinstance(clips, Iterable):
        raise ValueError(f"augment: clips must be arrays or tensors of decoded frames, got {clips!r}")
    if isinstance(clips, (np.ndarray, torch.Tensor)) and clips.ndim == 4:
        clips = clips[None]
    return [clip.cpu().numpy() if isinstance(clip, torch.Tensor) else np.asarray(clip) for clip in clips]


def _as_recipe(ops):
    if isinstance(ops, Recipe) or not isinstance(ops, Iterable):
        hint = "recipe.ops" if isinstance(ops, Recipe) else "(op,) for one"
        raise ValueError(
            f"augment: ops must be several, such as (dv.RandAugmentT(), dv.Normalize()), or {hint}; got {ops!r}"
        )
    return recipe_of(tuple(ops))


def recipe_of(ops: tuple[Any, ...]) -> Recipe:
    """A recipe of ops for clips in memory: its sampler, which draws nothing, has as many crops as one of them wants."""
    crops = next((op.num_crops for op in ops if hasattr(op, "num_crops")), 1)
    return Recipe(MultiClip(num_clips=crops, num_crops=crops), ops) if crops > 1 else Recipe(ops=ops)


def taken_frames(clips: Sequence[np.ndarray], plan: Plan) -> Sequence[np.ndarray]:
    """What the graph is fed for clips (F, H, W, 3): themselves, or the frames that ops on time choose of each."""
    if not plan.recipe.time_ops:
        return clips
    return [clip[decoded_frames(frames)] for clip, frames in zip(clips, plan.frames, strict=True)]


def _find_layout(arrays: list[np.ndarray], layout: str | None) -> str:
    """The layout of all clips, as it is given or as their shapes tell.

    A shape of which an axis has 1 or 4 values may also be that of grey or RGBA clips in another layout, which must not
    be taken for RGB: three grey frames (3, 1, H, W) look like one frame with its channels first.
    """
    if layout not in (None, *_AXES):
        raise ValueError(f"augment: layout must be {_LAYOUTS}, the axes of one clip, got {layout!r}")
    if not arrays:
        raise ValueError("augment: no clips")
    fits = [layout] if layout else list(_AXES)
    for i, clip in enumerate(arrays):
        found = [name for name in fits if clip.ndim == 4 and clip.shape[name.index("C")] == 3]
        if clip.dtype != np.uint8 or not found or 0 in clip.shape:
            wanted = [f"({', '.join(name).replace('C', '3')})" for name in fits]
            hint = "; frames become one clip by np.stack or torch.stack" if clip.ndim == 3 and len(arrays) > 1 else ""
            before = " as the clips before" if not layout and len(fits) < len(_AXES) else ""
            raise ValueError(
                f"augment: clip {i} must be {' or '.join(wanted)} uint8{before}, got {clip.shape} {clip.dtype}{hint}"
            )
        fits = found
    if layout or fits == ["FHWC"]:
        return fits[0]
    other = [name for name in _AXES if all(clip.shape[name.index("C")] in (1, 3, 4) for clip in arrays)]
    if len(other) > 1:
        raise ValueError(
            f"augment: clips of shape {arrays[0].shape} may be {' or '.join(other)} (with 1, 3 or 4 channels); layout= "
            f"says which: {_LAYOUTS}"
        )
    return fits[0]


def _draw(arrays: list[np.ndarray], recipe: Recipe, draws: Draws) -> Plan:
    sizes = np.array([clip.shape[:3] for clip in arrays])
    longest = int(sizes[:, 0].max())  # the frames of a shorter clip end with its last
    frames, moved = np.minimum(np.arange(longest), sizes[:, :1] - 1).astype(np.int32), dict[str, Any]()
    if recipe.time_ops:
        if (sizes[:, 0] != longest).any():
            raise ValueError(
                f"augment: {recipe.time_ops[0][0]} needs clips of as many frames each, got clips of "
                f"{sizes[:, 0].min()} to {longest} frames"
            )
        nothing = np.full(len(sizes), np.nan)
        videos = Videos(np.zeros(len(sizes), np.int64), sizes[:, 0], nothing, lambda i: nothing[:1].repeat(longest))
        frames, moved = draw_time(recipe, draws, frames, videos)
        sizes[:, 0] = frames.shape[1]
    drawn = draw_ops(recipe, draws, *sizes.T)
    results = np.stack(np.broadcast_arrays(drawn.frames, drawn.height, drawn.width), 1)
    shapes = sorted(set(map(tuple, results.tolist())))
    if len(shapes) > 1:
        raise ValueError(f"augment: results of different sizes (F, H, W) cannot be stacked: {shapes}")
    args, masked = {**moved, **drawn.args}, draw_masks(recipe, draws, np.zeros(len(draws), np.int64), results)
    later = [name for name, mask in zip(op_names(recipe.masks), masked, strict=True) if mask is None]
    if later:
        raise ValueError(f"augment: {later[0]} is drawn while videos are decoded, and these clips are in memory")
    where = draws.seed, draws.epoch, draws.batch, draws.samples, draws.views
    return Plan(recipe, *where, frames, args, masks=masked)


def _moved_boxes(boxes, arrays, plan, rules):
    """The boxes of the batch, NumPy arrays, of those that were given."""
    sizes = np.array([clip.shape[:3] for clip in arrays])
    if isinstance(boxes, Boxes):
        boxes = Boxes(*(c.detach().cpu().numpy() if isinstance(c, torch.Tensor) else c for c in boxes))
    taken = at_positions(check_boxes("augment", boxes, sizes), plan.frames)
    return move_boxes("augment", taken, plan, sizes[:, 1], sizes[:, 2], rules).boxes


def _labels(targets, size, recipe) -> np.ndarray:
    """(B, K) float32, or (B,) int64, as they are given; the recipe can do with them what it does."""
    if targets is None:
        return np.zeros((size, 0), np.float32)
    try:
        given = torch.as_tensor(targets).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"augment: targets must be ({size}, K) or ({size},) numbers, got {targets!r}") from error
    whole = not given.is_floating_point() and given.dtype != torch.bool
    if given.shape == (size,) and whole:
        if (given < -1).any():
            raise ValueError(f"augment: targets must be class numbers, or -1 for none, got {given.min()}")
        check_index_targets("augment", recipe)
        return given.to(torch.int64).numpy().copy()
    if given.ndim != 2 or len(given) != size:
        raise ValueError(
            f"augment: targets must be ({size}, K), or ({size},) class numbers, got {tuple(given.shape)} {given.dtype}"
        )
    return given.to(torch.float32).numpy().copy()
