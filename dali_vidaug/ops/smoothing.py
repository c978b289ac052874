"""Label smoothing."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelSmoothing:
    """Spread a part of each label over all classes (Szegedy et al. 2016); pixels stay as they are.

    A target t becomes (1 - amount) * t + amount * sum / K, with sum that of the clip's K targets: 1 for one label, more
    for several, 0 for none. Mixing and smoothing may come in either order: the targets are the same.

    Attributes:
        amount: [0, 1); 0.1 is what SlowFast and VideoMAE use beside mixing.

    Raises:
        ValueError: amount is out of range.
    """

    amount: float = 0.1

    def __post_init__(self):
        if not 0 <= self.amount < 1:
            raise ValueError(f"LabelSmoothing: amount must be in [0, 1), got {self.amount}")

    def draw(self, draws, frames, height, width):
        """Nothing is drawn."""
        return

    def build(self, fn, clips, args):
        return clips

    def mix_targets(self, args, targets):
        """(B, K) float32."""
        mean = targets.sum(1, keepdims=True) / max(targets.shape[1], 1)
        return ((1 - self.amount) * targets + self.amount * mean).astype(np.float32)
