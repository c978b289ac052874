"""ColorJitter and RandomGrayscale, as those of torchvision's transforms.v2, the same in every frame or with ramps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dali_vidaug.ops import color
from dali_vidaug.ops.check import check_choice, check_probability, make_plain
from dali_vidaug.ops.color import CODES, FACTOR_MAX, as_range, check_jitter, draw_values, new_rows
from dali_vidaug.ops.ramp import RAMPS
from dali_vidaug.rng import Draws

_FIELDS = ("brightness", "contrast", "saturation", "hue")
_NEUTRAL = (1.0, 1.0, 1.0, 0.0)
_LIMITS = ((0.0, FACTOR_MAX),) * 3 + ((-0.5, 0.5),)
_GREY = CODES.index("grey")


@dataclass(frozen=True)
class ColorJitter:
    """Change brightness, contrast, saturation and hue, in an order drawn for each clip (torchvision's ColorJitter).

    Each is a number v, for factors uniform in [max(0, 1 - v), 1 + v), or the range (low, high) of the factors. Hue is
    in turns of the colour circle, [-v, v) or a range within [-0.5, 0.5], and turned in HSV. What is 0, the default,
    does not change. After each of the four the result is clamped and cut off to whole levels. With
    ``statistics="frame"`` and ``ramp="constant"`` clips equal those of torchvision's v2 on uint8 tensors.

    Attributes:
        brightness, contrast, saturation, hue: see above.
        probability: that a clip is changed.
        statistics: whether contrast turns about the mean grey of the "clip", so that nothing flickers, or of each
            "frame", as torchvision's does.
        ramp: how strengths change during the clip: "constant" or another of ``ramp.draw_ramps``. What ramps is the
            distance of a factor from 1, and of hue from 0; it keeps its sign.

    Raises:
        ValueError: an option is out of range.
    """

    brightness: float | tuple[float, float] = 0.0
    contrast: float | tuple[float, float] = 0.0
    saturation: float | tuple[float, float] = 0.0
    hue: float | tuple[float, float] = 0.0
    probability: float = 1.0
    statistics: str = "clip"
    ramp: str = "constant"

    NUM_OPS = 4
    run, check = color.run, color.check
    describe, applied = color.describe, color.applied
    moves_pixels = False

    def __post_init__(self):
        make_plain(self, *_FIELDS, "probability")
        for field, limits in zip(_FIELDS, _LIMITS, strict=True):
            check_jitter("ColorJitter", field, getattr(self, field), *limits)
        check_probability("ColorJitter", self.probability)
        check_choice("ColorJitter", "statistics", self.statistics, ("clip", "frame"))
        check_choice("ColorJitter", "ramp", self.ramp, RAMPS)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) of dtype ``color.color_args(4, F)``, F the longest clip's. A clip's ramps end at its own last frame."""
        frames = np.broadcast_to(np.asarray(frames, np.int64), len(draws))
        num_frames = int(frames.max(initial=1))
        ranges = [as_range(getattr(self, field), center) for field, center in zip(_FIELDS, _NEUTRAL, strict=True)]
        drawn = np.stack([draws.uniform(f, *limits) for f, limits in zip(_FIELDS, ranges, strict=True)], 1)
        values = draw_values(draws, self.ramp, drawn, ranges, _NEUTRAL, frames, num_frames)
        order = draws.uniform("order", n=4).argsort(1, kind="stable")
        jittered = draws.uniform("apply") < self.probability

        rows = new_rows(len(draws), 4, num_frames)
        used = np.array([limits != (center, center) for limits, center in zip(ranges, _NEUTRAL, strict=True)])
        rows["op"] = np.where(used[order] & jittered[:, None], order + 1, 0)
        rows["value"] = np.where(rows["op"][..., None] > 0, np.take_along_axis(values, order[..., None], 1), 0)
        rows["per_clip"] = self.statistics == "clip"
        return rows


@dataclass(frozen=True)
class RandomGrayscale:
    """Take the colour out of a clip, as torchvision's RandomGrayscale: 0.2989 R + 0.587 G + 0.114 B, cut off.

    Attributes:
        probability: that all frames of a clip are grey.

    Raises:
        ValueError: probability is not in [0, 1].
    """

    probability: float = 0.1

    NUM_OPS = 1
    run, check = color.run, color.check
    describe, applied = color.describe, color.applied
    moves_pixels = False

    def __post_init__(self):
        make_plain(self, "probability")
        check_probability("RandomGrayscale", self.probability)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) of dtype ``color.color_args(1, F)``, F the longest clip's."""
        rows = new_rows(len(draws), 1, int(np.max(frames, initial=1)))
        is_grey = draws.uniform("apply") < self.probability
        rows["op"][:, 0] = np.where(is_grey, _GREY, 0)
        rows["value"] = is_grey[:, None, None]
        return rows
