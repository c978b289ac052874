"""Label smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dali_vidaug.ops.check import is_number
from dali_vidaug.rng import Draws


@dataclass(frozen=True)
class LabelSmoothing:
    """Spread a part of each label over all classes (Szegedy et al. 2016); pixels stay as they are.

    A target t becomes (1 - amount) * t + amount * sum / K, where sum is that of the clip's K targets: 1 for one label,
    more for several, 0 for none. Mixing and smoothing may come in either order: the targets are the same.

    Attributes:
        amount: [0, 1); SlowFast and VideoMAE combine 0.1 with mixing.

    Raises:
        ValueError: amount is out of range.
    """

    amount: float = 0.1

    moves_pixels = False

    def __post_init__(self):
        if not (is_number(self.amount, 0, 1) and self.amount < 1):
            raise ValueError(f"LabelSmoothing: amount must be in [0, 1), got {self.amount!r}")

    @property
    def loss_option(self) -> str:
        """What does the same as an option of ``torch.nn.functional.cross_entropy``."""
        return f"label_smoothing={self.amount:g}"

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> None:
        """Nothing is drawn."""
        return

    def build(self, fn: Any, clips: Any, args: Any) -> Any:
        """The clips, unchanged."""
        return clips

    def run(self, clips: Sequence[Any], rows: None, num_threads: int | None = None) -> list[Any]:
        """The clips, unchanged."""
        return list(clips)

    def targets(self, args: None, targets: np.ndarray) -> np.ndarray:
        """(B, K) float32: the smoothed labels."""
        mean = targets.sum(1, keepdims=True) / max(targets.shape[1], 1)
        return ((1 - self.amount) * targets + self.amount * mean).astype(np.float32)
