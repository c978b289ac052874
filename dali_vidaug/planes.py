"""The last step on the CPU: the clips of a batch as one tensor, channels first, normalised if the recipe ends so.

DALI's operator for this takes several times as long there. With a table, any op that turns each value of a channel into
a number costs the same, and any dtype is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dali_vidaug.pixel_order import take_apart
from dali_vidaug.recipe import Recipe
from dali_vidaug.recycled import Recycled
from dali_vidaug.settings import Settings


class Planes:
    """Makes a tensor of clips, in memory that is used again when the tensor is gone.

    Args:
        op: the last op of the recipe, which has ``lookup``; None: values stay uint8.
        dtype: of the tensor: "float32", "float16" or "bfloat16".
        num_threads: they share the clips.
        name: of the op whose clips these are.
    """

    def __init__(self, op: Any, dtype: str, num_threads: int, name: str):
        self._dtype = torch.uint8 if op is None else getattr(torch, dtype)
        values = np.arange(256)[None].repeat(3, 0) if op is None else np.asarray(op.lookup(), np.float64)
        # By way of float32, as for clips that DALI normalises.
        table = torch.from_numpy(values).to(torch.float32).to(self._dtype)
        self._table = table.view(torch.int16).numpy() if self._dtype == torch.bfloat16 else table.numpy()
        self._num_threads, self._name, self._memory = num_threads, name, Recycled()

    def __call__(self, clips: Sequence[np.ndarray], mirrored: np.ndarray) -> torch.Tensor:
        """The tensor, (B, 3, F, H, W).

        Args:
            clips: B arrays (F, H, W, 3), which the graph has made.
            mirrored: (B,), whether left and right are swapped.

        Raises:
            ValueError: the clips differ in size, or are not uint8.
        """
        for clip in clips:
            if clip.dtype != np.uint8:
                raise ValueError(f"{self._name}: build must return uint8, got {clip.dtype}")
        shapes = sorted({clip.shape[:3] for clip in clips})
        if len(shapes) > 1:
            raise ValueError(
                f"{self._name} leaves clips of different sizes (frames, height, width), which cannot be stacked: "
                f"{', '.join(map(str, shapes))}; add RandomCrop, CenterCrop or Resize((height, width))"
            )
        out = self._memory.take((len(clips), 3, *clips[0].shape[:3]), self._table.dtype)
        take_apart(clips, self._table, mirrored, out, self._num_threads)
        return torch.from_numpy(out).view(self._dtype)


def planes_of(recipe: Recipe, settings: Settings) -> Planes | None:
    """What makes a tensor of the clips that a recipe's graph makes; None where the graph does it itself."""
    names, last = recipe.names, recipe.pixel_ops[-1][1] if recipe.pixel_ops else None
    finished = hasattr(last, "lookup")
    if settings.device == "gpu" or (getattr(last, "channels_first", False) and not finished):
        return None
    before = names[: len(names) - finished]
    return Planes(last if finished else None, settings.dtype, settings.num_threads, before[-1] if before else "clips")
