"""The end of a recipe: uint8 frames become normalised floats, channels first."""

from __future__ import annotations

from dataclasses import dataclass
from sys import float_info
from typing import Any

import numpy as np

from dali_vidaug.ops.check import are_numbers, check_color
from dali_vidaug.rng import Draws


@dataclass(frozen=True)
class Normalize:
    """(F, H, W, 3) uint8 to (3, F, H, W) float: (value / 255 - mean) / std. Comes last.

    Attributes:
        mean, std: of R, G and B, for values in [0, 1]. The defaults are those of SlowFast's Kinetics models;
            ImageNet's are (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225).

    Raises:
        ValueError: an option is out of range.
    """

    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)

    mirrors_first = True
    channels_first = True
    moves_pixels = False

    def __post_init__(self):
        check_color("Normalize", "mean", self.mean)
        if not (are_numbers(self.std, 3, 0, float_info.max) and min(self.std) > 0):
            raise ValueError(f"Normalize: std must be three numbers > 0, got {self.std!r}")

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> None:
        """Nothing is drawn."""
        return

    def build(self, fn: Any, clips: Any, args: Any) -> Any:
        """One pass over the pixels, which also does the flip of the op before, if there is one."""
        return fn.crop_mirror_normalize(
            clips,
            dtype=args.dtype,
            output_layout="CFHW",
            mean=[255 * m for m in self.mean],
            std=[255 * s for s in self.std],
            mirror=args["mirrored"] if "mirrored" in args else 0,
        )

    def lookup(self) -> np.ndarray:
        """(3, 256) float64: what becomes of each value of R, G and B."""
        mean, std = (np.array(numbers)[:, None] for numbers in (self.mean, self.std))
        return (np.arange(256) / 255 - mean) / std

    def undo(self, clips: np.ndarray) -> np.ndarray:
        """Normalised clips (..., 3) as values in [0, 255], not rounded: for showing them."""
        return 255 * (clips * np.array(self.std, np.float32) + np.array(self.mean, np.float32))
