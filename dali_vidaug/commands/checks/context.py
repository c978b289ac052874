"""What checks run on, and how they compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

MB = 1e6


class Lacking(Exception):
    """The machine lacks what a check needs."""


@dataclass(frozen=True)
class Context:
    """What a check runs on.

    Attributes:
        device: "gpu" or "cpu", which is compared with the CPU.
        folder: for the videos that the checks write.
        small: fewer and smaller clips, as for tests.
    """

    device: str
    folder: Path
    small: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the videos; NVDEC accepts HEVC from 144x144 on."""
        return (144, 176) if self.small else (240, 320)


class Difference(NamedTuple):
    """The largest and the mean difference of two arrays."""

    most: float
    mean: float

    def __str__(self) -> str:
        return f"mean difference {self.mean:.3g}, at most {self.most:.3g}" if self.most else "equal bit for bit"


def agree(
    what: str,
    actual: np.ndarray,
    expected: np.ndarray,
    within: float = 0.0,
    share: float = 1.0,
    mean: float = float("inf"),
) -> Difference:
    """Compare two arrays: at least ``share`` of their values differ by at most ``within``, all by ``mean`` on average.

    Raises:
        AssertionError: they differ by more; the message says where.
    """
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise AssertionError(f"{what}: {actual.shape} {actual.dtype}, expected {expected.shape} {expected.dtype}")
    if actual.tobytes() == expected.tobytes():
        return Difference(0.0, 0.0)
    diff = np.abs(actual.astype(np.float64) - expected)
    found, worst = (diff <= within).mean(), tuple(map(int, np.unravel_index(diff.argmax(), diff.shape)))
    if not (found >= share and diff.mean() <= mean):
        raise AssertionError(
            f"{what}: {found:.3%} of the values within {within:g}, {share:.1%} expected; mean difference "
            f"{diff.mean():.3g}; worst at {worst}: {actual[worst]}, expected {expected[worst]}"
        )
    return Difference(float(diff.max()), float(diff.mean()))
