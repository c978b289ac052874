"""Erasing boxes of a clip: RandomErasing and the Cutout family, in space and time. Labels stay as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dali_vidaug.ops import blend
from dali_vidaug.ops.blend import BLEND, new_rows
from dali_vidaug.ops.check import check_choice, check_color, check_probability, check_range, is_number
from dali_vidaug.rng import Draws

FILLS = ("pixel", "channel", "constant")
_TRIES = 10


@dataclass(frozen=True)
class RandomErasing:
    """Cover a box, the same in every frame, with noise or a colour (Zhong et al., AAAI 2020; as timm and SlowFast).

    Ten boxes are drawn and the first that is smaller than the frame is used; when none is, nothing is erased. timm and
    SlowFast erase after normalisation, with N(0, 1). Here it is done before: (mean + std * noise) * 255, rounded and
    clamped to [0, 255]. The noise is the sum of uniform numbers, nearly normal, at most 3.5 standard deviations from
    the mean.

    Attributes:
        probability: that a clip is erased.
        area: of the box as a fraction of the frame's, uniform in [low, high).
        ratio: height / width of the box, log-uniform in [low, high).
        fill: "pixel": noise for each value of each frame; "channel": one random colour; "constant": ``mean``.
        mean, std: of R, G and B, for values in [0, 1]; give those of ``Normalize``.

    Raises:
        ValueError: an option is out of range.
    """

    probability: float = 0.25
    area: tuple[float, float] = (0.02, 1 / 3)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)
    fill: str = "pixel"
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)

    ARGS = BLEND
    blends = True
    run, check, describe, applied = blend.run, blend.check, blend.describe, blend.applied
    moves_pixels = False

    def __post_init__(self):
        check_probability("RandomErasing", self.probability)
        check_range("RandomErasing", "area", self.area, highest=1)
        check_range("RandomErasing", "ratio", self.ratio)
        check_choice("RandomErasing", "fill", self.fill, FILLS)
        for field in ("mean", "std"):
            check_color("RandomErasing", field, getattr(self, field))

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) BLEND."""
        rows = new_rows(len(draws), frames, height, width)
        frame_height, frame_width = (rows[name].astype(np.int64)[:, None] for name in ("height", "width"))
        area = draws.uniform("area", *self.area, n=_TRIES) * frame_height * frame_width
        lowest, highest = np.log(self.ratio)
        ratio = np.exp(draws.uniform("ratio", lowest, highest, n=_TRIES))
        box_height, box_width = (np.round(np.sqrt(x)).astype(np.int64) for x in (area * ratio, area / ratio))
        fits = (box_height < frame_height) & (box_width < frame_width)
        tried = np.arange(len(draws)), fits.argmax(1)
        for low, high, length, frame_length in (
            ("top", "bottom", box_height[tried], frame_height[:, 0]),
            ("left", "right", box_width[tried], frame_width[:, 0]),
        ):
            # Where no box fits, the row is made neutral below; here the numbers only have to be valid.
            start = draws.integers(low, np.maximum(frame_length - length + 1, 1))
            rows[low], rows[high] = start[:, None], (start + length)[:, None]
        erased = (draws.uniform("apply") < self.probability) & fits.any(1)
        noise = draws.uniform("color", n=36).reshape(-1, 3, 12).sum(-1) - 6  # nearly normal
        mean, std = (255 * np.array(x) for x in (self.mean, self.std))
        rows["color"] = np.clip(mean + std * noise, 0, 255) if self.fill == "channel" else mean
        rows["spread"] = std if self.fill == "pixel" else 0
        rows["key"] = draws.words("key", 2)
        return _erase(rows, erased)


@dataclass(frozen=True)
class Cutout:
    """Cover a box of a clip with a colour. ``FrameCutout`` and ``CubeCutout`` are Cutouts whose box is shorter in time.

    DeVries and Taylor (2017); in time Kim et al. (2020), whose code for it was not released. The box is uniform among
    those that lie inside the clip.

    Attributes:
        side: sides of the box as a fraction of the frame's, rounded down to pixels; (0, 1].
        span: length of the box as a fraction of the clip's, rounded down to frames; (0, 1].
        probability: that a clip is covered.
        color: R, G, B in [0, 1]. The default is the default mean of ``Normalize``, which becomes 0.

    Raises:
        ValueError: an option is out of range.
    """

    side: float = 0.5
    span: float = 1.0
    probability: float = 1.0
    color: tuple[float, float, float] = (0.45, 0.45, 0.45)

    ARGS = BLEND
    blends = True
    run, check, describe, applied = blend.run, blend.check, blend.describe, blend.applied
    moves_pixels = False

    def __post_init__(self):
        for field in ("side", "span"):
            if not (is_number(getattr(self, field), 0, 1) and getattr(self, field) > 0):
                plain = all(isinstance(side, (int, float)) for side in (self.side, self.span))
                name = self.name if plain else "Cutout"
                raise ValueError(f"{name}: {field} must be in (0, 1], got {getattr(self, field)!r}")
        check_probability(self.name, self.probability)
        check_color(self.name, "color", self.color)

    @property
    def name(self) -> str:
        """What the op is called in a recipe, which depends on the sides in which the box is smaller than the clip."""
        if self.span == 1:
            return "Cutout"
        return "FrameCutout" if self.side == 1 else "CubeCutout"

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) BLEND."""
        rows = new_rows(len(draws), frames, height, width)
        for purpose, length, share, low, high in (
            ("frame", "frames", self.span, "first", "last"),
            ("row", "height", self.side, "top", "bottom"),
            ("column", "width", self.side, "left", "right"),
        ):
            whole = rows[length].astype(np.int64)
            side = (whole * share).astype(np.int64)
            start = draws.integers(purpose, whole - side + 1)
            if rows[low].ndim == 2:
                start, side = start[:, None], side[:, None]
            rows[low], rows[high] = start, start + side
        rows["color"] = 255 * np.array(self.color)
        return _erase(rows, draws.uniform("apply") < self.probability)


def FrameCutout(
    span: float = 0.5, probability: float = 1.0, color: tuple[float, float, float] = (0.45, 0.45, 0.45)
) -> Cutout:
    """Cover consecutive whole frames: a ``Cutout`` with ``side=1``."""
    return Cutout(1.0, span, probability, color)


def CubeCutout(
    side: float = 0.5,
    span: float = 0.5,
    probability: float = 1.0,
    color: tuple[float, float, float] = (0.45, 0.45, 0.45),
) -> Cutout:
    """Cover a box in consecutive frames: a ``Cutout`` with a ``span``."""
    return Cutout(side, span, probability, color)


def _erase(rows, erased):
    rows["partner"] = -1
    rows["inside"] = erased[:, None]
    return rows
