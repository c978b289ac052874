"""The ops of a recipe for clips that are in memory already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from dali_vidaug.batch import Batch, as_tensor, make_batch
from dali_vidaug.graph import Graph
from dali_vidaug.plan import Plan, draw_ops
from dali_vidaug.recipe import Recipe
from dali_vidaug.rng import Draws, whole_numbers
from dali_vidaug.settings import make_settings


def augment(
    clips: Sequence[np.ndarray] | Sequence[torch.Tensor] | np.ndarray | torch.Tensor,
    ops: Iterable[Any],
    targets: ArrayLike | torch.Tensor | None = None,
    *,
    samples: ArrayLike | None = None,
    seed: int = 0,
    epoch: int = 0,
    batch: int = 0,
    device: torch.device | str = "auto",
    dtype: torch.dtype | str = "float32",
) -> Batch:
    """Apply ops to clips in memory: the same draws and the same graph as in a ``VideoLoader``.

    Args:
        clips: B arrays or tensors (F, H, W, 3) uint8, or one (B, F, H, W, 3); heights and widths may differ.
        ops: the ops of a recipe, in order.
        targets: (B, K) float, soft labels, or None.
        samples: (B,) int, which samples the clips are: clip i draws what sample ``samples[i]`` draws in a loader.
            Default: 0, ..., B - 1.
        seed, epoch, batch: of the draws; ``batch`` matters for ops that mix clips.
        device, dtype: as in ``VideoLoader``.

    Returns:
        A batch; ``targets`` is (B, 0) when none were given.

    Raises:
        ValueError: a clip is not (F, H, W, 3) uint8, or the results differ in size.
    """
    settings = make_settings(device=device, dtype=dtype, caller="augment")
    arrays = [np.ascontiguousarray(c.cpu().numpy() if isinstance(c, torch.Tensor) else c) for c in clips]
    if not arrays:
        raise ValueError("augment: no clips")
    for i, clip in enumerate(arrays):
        if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[3] != 3 or 0 in clip.shape:
            raise ValueError(f"augment: clip {i} must be (F, H, W, 3) uint8, got {clip.shape} {clip.dtype}")
    size = len(arrays)
    samples = np.arange(size) if samples is None else whole_numbers("augment: samples", samples)
    if samples.shape != (size,):
        raise ValueError(f"augment: samples must be ({size},), one for each clip, got {samples.shape}")
    soft = _soft_labels(targets, size)
    plan = _draw(arrays, Recipe(ops=tuple(ops)), Draws(seed, epoch, samples, batch=batch))
    graph = Graph(plan, settings, size)
    result = as_tensor(graph.run(plan, arrays, settings.stream()), settings.dtype)
    return make_batch(result, soft, plan, 0)


def _draw(arrays: list[np.ndarray], recipe: Recipe, draws: Draws) -> Plan:
    sizes = np.array([clip.shape[:3] for clip in arrays])
    drawn = draw_ops(recipe, draws, *sizes.T)
    results = np.stack(np.broadcast_arrays(drawn.frames, drawn.height, drawn.width), 1)
    shapes = sorted(set(map(tuple, results.tolist())))
    if len(shapes) > 1:
        raise ValueError(f"augment: results of different sizes (F, H, W) cannot be stacked: {shapes}")
    longest = int(sizes[:, 0].max())  # the frames of a shorter clip end with its last
    frames = np.minimum(np.arange(longest, dtype=np.int32), sizes[:, :1] - 1)
    return Plan(recipe, draws.seed, draws.epoch, draws.batch, draws.samples, draws.views, frames, drawn.args)


def _soft_labels(targets, size) -> np.ndarray:
    if targets is None:
        return np.zeros((size, 0), np.float32)
    soft = torch.as_tensor(targets, dtype=torch.float32).cpu().numpy()
    if soft.ndim != 2 or len(soft) != size:
        raise ValueError(f"augment: targets must be ({size}, K), got {soft.shape}")
    return soft.copy()
