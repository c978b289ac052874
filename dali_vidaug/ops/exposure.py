"""Brightness that changes during a clip, evenly or from frame to frame, and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dali_vidaug.ops import color
from dali_vidaug.ops.check import check_choice, check_probability, check_share, make_plain
from dali_vidaug.ops.color import CODES, FACTOR_MAX, as_range, check_jitter, new_rows
from dali_vidaug.ops.ramp import RAMPS, draw_strengths, position
from dali_vidaug.rng import Draws

_BRIGHTNESS, _NOISE = CODES.index("brightness"), CODES.index("noise")
_CURVES = ("linear", "smooth")


@dataclass(frozen=True)
class ExposureRamp:
    """Change brightness evenly from a factor in the first frame to another in the last, as cameras adapt to light.

    Unlike the ramps of ``ColorJitter`` it may go from darker to brighter: the two factors are drawn independently.

    Attributes:
        brightness: a number v, for factors uniform in [max(0, 1 - v), 1 + v), or their range (low, high).
        curve: of the factors between the two: "linear", or "smooth", which begins and ends without a change.
        probability: that a clip is changed.

    Raises:
        ValueError: an option is out of range.
    """

    brightness: float | tuple[float, float] = 0.4
    curve: str = "linear"
    probability: float = 1.0

    NUM_OPS = 1
    run, check = color.run, color.check
    describe, applied = color.describe, color.applied
    moves_pixels = False

    def __post_init__(self):
        make_plain(self, "brightness", "probability")
        check_jitter("ExposureRamp", "brightness", self.brightness, 0, FACTOR_MAX)
        check_choice("ExposureRamp", "curve", self.curve, _CURVES)
        check_probability("ExposureRamp", self.probability)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) of dtype ``color.color_args(1, F)``, F the longest clip's."""
        frames = np.broadcast_to(np.asarray(frames, np.int64), len(draws))
        limits, num_frames = as_range(self.brightness, 1), int(frames.max(initial=1))
        first, last = (draws.uniform(end, *limits)[:, None] for end in ("first", "last"))
        at = position(frames, num_frames)
        at = at if self.curve == "linear" else at * at * (3 - 2 * at)
        return _rows(draws, self.probability, _BRIGHTNESS, first + (last - first) * at)


@dataclass(frozen=True)
class Flicker:
    """Give each frame a small brightness factor of its own, as lamps on mains current, old film and webcams do.

    Differences between frames are what a network on video feeds on: with flicker it learns not to take a change of
    brightness for motion.

    Attributes:
        strength: factors are uniform in [1 - s, 1 + s), s being the strength, or uniform in its range (low, high) for
            each clip; [0, 1].
        probability: that a clip flickers.
        ramp: how the strength changes during the clip: "constant" or another of ``ramp.draw_ramps``.

    Raises:
        ValueError: an option is out of range.
    """

    strength: float | tuple[float, float] = (0.0, 0.1)
    probability: float = 1.0
    ramp: str = "constant"

    NUM_OPS = 1
    run, check = color.run, color.check
    describe, applied = color.describe, color.applied
    moves_pixels = False

    def __post_init__(self):
        make_plain(self, "strength", "probability")
        check_share("Flicker", "strength", self.strength)
        check_probability("Flicker", self.probability)
        check_choice("Flicker", "ramp", self.ramp, RAMPS)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) of dtype ``color.color_args(1, F)``, F the longest clip's."""
        strength = draw_strengths(draws, "strength", self.strength, self.ramp, frames)
        return _rows(
            draws, self.probability, _BRIGHTNESS, 1 + strength * draws.uniform("frame", -1, 1, n=strength.shape[1])
        )


@dataclass(frozen=True)
class GaussianNoise:
    """Add nearly normal noise to each value of each frame, as the sensor of a camera does.

    The noise is the sum of uniform numbers, at most 3.5 standard deviations from 0, and is rounded and clamped with the
    value. A plan has its key, so that the same plan gives the same noise on all devices.

    Attributes:
        std: standard deviation as a share of the range of values, so that 0.1 is 25.5 levels; or the range (low, high)
            in which it is uniform; [0, 1].
        probability: that a clip is changed.
        ramp: how ``std`` changes during the clip: "constant" or another of ``ramp.draw_ramps``.

    Raises:
        ValueError: an option is out of range.
    """

    std: float | tuple[float, float] = (0.0, 0.1)
    probability: float = 1.0
    ramp: str = "constant"

    NUM_OPS = 1
    run, check = color.run, color.check
    describe, applied = color.describe, color.applied
    moves_pixels = False

    def __post_init__(self):
        make_plain(self, "std", "probability")
        check_share("GaussianNoise", "std", self.std)
        check_probability("GaussianNoise", self.probability)
        check_choice("GaussianNoise", "ramp", self.ramp, RAMPS)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) of dtype ``color.color_args(1, F)``, F the longest clip's."""
        levels = 255 * draw_strengths(draws, "std", self.std, self.ramp, frames)
        rows = _rows(draws, self.probability, _NOISE, levels)
        rows["key"] = draws.words("key", 2)
        return rows


def _rows(draws, probability, code, values):
    """(B,) rows of one op with values for each frame, (B, F), for a share of the clips."""
    rows = new_rows(len(draws), 1, values.shape[1])
    changed = draws.uniform("apply") < probability
    rows["op"][:, 0] = np.where(changed, code, 0)
    rows["value"][:, 0] = np.where(changed[:, None], values, 0)
    return rows
