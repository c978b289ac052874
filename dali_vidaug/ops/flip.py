"""Mirror a clip left to right, or turn it upside down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dali_vidaug import geometry
from dali_vidaug.ops.check import check_probability, repr_without
from dali_vidaug.ops.label_map import LabelMap, make_label_map
from dali_vidaug.rng import Draws

FLIP = np.dtype([("mirrored", "i4")])  # 1: left and right are swapped in every frame; 0: not
VERTICAL_FLIP = np.dtype([("flipped", "i4")])  # 1: top and bottom are swapped in every frame; 0: not


@dataclass(frozen=True, repr=False)
class RandomHorizontalFlip:
    """Mirror all frames of a clip with probability ``probability``.

    Attributes:
        probability: that a clip is mirrored.
        label_map: classes that a mirror makes of each other, such as ``{"moving left": "moving right"}``: they trade
            places in the labels of mirrored clips. By name, or by index (in the order of ``manifest.classes``); kept as
            pairs. None: labels stay, which is wrong where left and right are labels.

    Raises:
        ValueError: probability is not in [0, 1], or the map has no pairs of classes. What labels there are is known to
            the loader, which refuses classes that it does not have.
    """

    probability: float = 0.5
    label_map: Mapping[str, str] | Mapping[int, int] | LabelMap | None = None

    ARGS = FLIP
    mirrors = True

    def __post_init__(self):
        check_probability("RandomHorizontalFlip", self.probability)
        make_label_map(self)

    def __repr__(self) -> str:
        return repr_without(self, "label_map")

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) FLIP."""
        args = np.zeros(len(draws), FLIP)
        args["mirrored"] = draws.uniform("apply") < self.probability
        return args

    def build(self, fn: Any, clips: Any, args: Any) -> Any:
        """A flip in DALI's graph."""
        return fn.flip(clips, horizontal=args["mirrored"], vertical=0)

    def applied(self, args: np.ndarray) -> np.ndarray:
        """(B,) bool: the clip is mirrored."""
        return args["mirrored"] != 0

    def matrices(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B, F, 3, 3) float64: x from W - x."""
        mirrored = args["mirrored"] != 0
        one = geometry.matrix_of(np.where(mirrored, -1, 1), 0, np.where(mirrored, width, 0), 0, 1, 0)
        return np.repeat(one[:, None], int(np.max(frames, initial=1)), 1)


@dataclass(frozen=True)
class RandomVerticalFlip:
    """Turn all frames of a clip upside down, as a mirror does, with probability ``probability``.

    Raises:
        ValueError: probability is not in [0, 1].
    """

    probability: float = 0.5

    ARGS = VERTICAL_FLIP

    def __post_init__(self):
        check_probability("RandomVerticalFlip", self.probability)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) VERTICAL_FLIP."""
        args = np.zeros(len(draws), VERTICAL_FLIP)
        args["flipped"] = draws.uniform("apply") < self.probability
        return args

    def build(self, fn: Any, clips: Any, args: Any) -> Any:
        """A flip in DALI's graph."""
        return fn.flip(clips, horizontal=0, vertical=args["flipped"])

    def applied(self, args: np.ndarray) -> np.ndarray:
        """(B,) bool: the clip is upside down."""
        return args["flipped"] != 0

    def matrices(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B, F, 3, 3) float64: y from H - y."""
        flipped = args["flipped"] != 0
        one = geometry.matrix_of(1, 0, 0, 0, np.where(flipped, -1, 1), np.where(flipped, height, 0))
        return np.repeat(one[:, None], int(np.max(frames, initial=1)), 1)
