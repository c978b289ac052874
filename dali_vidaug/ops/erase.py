"""Erasing boxes of a clip: RandomErasing and the Cutout family, in space and time. Labels stay as they are."""

from dataclasses import dataclass

import numpy as np

from dali_vidaug.ops.blend import BLEND, build_blend, check_probability, describe_blend, new_rows

FILLS = ("pixel", "channel", "constant")
_TRIES = 10


@dataclass(frozen=True)
class RandomErasing:
    """Cover a box, the same in every frame, with noise or a colour (Zhong et al., AAAI 2020; as timm and SlowFast).

    Ten boxes are drawn and the first that is smaller than the frame is taken; when none is, nothing is erased.
    timm and SlowFast erase after normalisation, with N(0, 1). Here it is done before: (mean + std * noise) * 255,
    rounded and cut off at 0 and 255. The noise is the sum of uniform numbers, nearly normal, at most 3.5 standard
    deviations away from the mean.

    Attributes:
        probability: of a clip to be erased.
        area: of the box as a share of the frame's, uniform in [low, high).
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

    def __post_init__(self):
        check_probability("RandomErasing", self.probability)
        if not (len(self.area) == 2 and 0 < self.area[0] <= self.area[1] <= 1):
            raise ValueError(f"RandomErasing: area must be 0 < low <= high <= 1, got {self.area}")
        if not (len(self.ratio) == 2 and 0 < self.ratio[0] <= self.ratio[1] < float("inf")):
            raise ValueError(f"RandomErasing: ratio must be 0 < low <= high, got {self.ratio}")
        if self.fill not in FILLS:
            raise ValueError(f"RandomErasing: fill must be one of {', '.join(map(repr, FILLS))}, got {self.fill!r}")
        for field in ("mean", "std"):
            _check_color("RandomErasing", field, getattr(self, field))

    def draw(self, draws, frames, height, width):
        """(B,) BLEND."""
        rows = new_rows(len(draws), frames, height, width)
        frame_height, frame_width = (rows[name].astype(np.int64)[:, None] for name in ("height", "width"))
        area = draws.uniform("area", *self.area, n=_TRIES) * frame_height * frame_width
        ratio = np.exp(draws.uniform("ratio", *np.log(self.ratio), n=_TRIES))
        box_height, box_width = (np.round(np.sqrt(x)).astype(np.int64) for x in (area * ratio, area / ratio))
        fits = (box_height < frame_height) & (box_width < frame_width)
        tried = np.arange(len(draws)), fits.argmax(1)
        for low, high, length, frame_length in (
            ("top", "bottom", box_height[tried], frame_height[:, 0]),
            ("left", "right", box_width[tried], frame_width[:, 0]),
        ):
            # Where no box fits the row is made neutral below; until then the numbers need only be defined.
            start = draws.integers(low, np.maximum(frame_length - length + 1, 1))
            rows[low], rows[high] = start[:, None], (start + length)[:, None]
        erased = (draws.uniform("apply") < self.probability) & fits.any(1)
        noise = draws.uniform("color", n=36).reshape(-1, 3, 12).sum(-1) - 6  # nearly normal
        mean, std = (255 * np.array(x) for x in (self.mean, self.std))
        rows["color"] = np.clip(mean + std * noise, 0, 255) if self.fill == "channel" else mean
        rows["spread"] = std if self.fill == "pixel" else 0
        rows["key"] = draws.words("key", 2)
        return _erase(rows, erased)

    def build(self, fn, clips, args):
        return build_blend(fn, clips, args)

    def describe(self, row):
        """A row as lines of text."""
        return describe_blend(row)


@dataclass(frozen=True)
class Cutout:
    """Cover a box of a clip with a colour. ``FrameCutout`` and ``CubeCutout`` are Cutouts with a box in time.

    DeVries and Taylor (2017); in time Kim et al. (2020), whose code for it was not released. The box is uniform among
    those that lie inside the clip.

    Attributes:
        side: sides of the box as a share of the frame's, rounded down to pixels; (0, 1].
        span: length of the box as a share of the clip's, rounded down to frames; (0, 1].
        probability: of a clip to be cut.
        color: R, G, B in [0, 1]. The default is the mean of ``Normalize``'s defaults: 0 after it.

    Raises:
        ValueError: an option is out of range.
    """

    side: float = 0.5
    span: float = 1.0
    probability: float = 1.0
    color: tuple[float, float, float] = (0.45, 0.45, 0.45)

    ARGS = BLEND

    def __post_init__(self):
        check_probability(self.name, self.probability)
        for field in ("side", "span"):
            if not 0 < getattr(self, field) <= 1:
                raise ValueError(f"{self.name}: {field} must be in (0, 1], got {getattr(self, field)}")
        _check_color(self.name, "color", self.color)

    @property
    def name(self):
        """What the op is called in a recipe: by which sides of the clip the box is smaller."""
        if self.span == 1:
            return "Cutout"
        return "FrameCutout" if self.side == 1 else "CubeCutout"

    def draw(self, draws, frames, height, width):
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

    def build(self, fn, clips, args):
        return build_blend(fn, clips, args)

    def describe(self, row):
        """A row as lines of text."""
        return describe_blend(row)


def FrameCutout(span=0.5, probability=1.0, color=(0.45, 0.45, 0.45)):
    """Cover a run of whole frames: a ``Cutout`` with ``side=1``."""
    return Cutout(1.0, span, probability, color)


def CubeCutout(side=0.5, span=0.5, probability=1.0, color=(0.45, 0.45, 0.45)):
    """Cover a box of a run of frames: a ``Cutout`` with a ``span``."""
    return Cutout(side, span, probability, color)


def _erase(rows, erased):
    rows["partner"] = -1
    rows["inside"] = erased[:, None]
    return rows


def _check_color(op, field, color):
    if not (len(color) == 3 and all(0 <= c <= 1 for c in color)):
        raise ValueError(f"{op}: {field} must be three numbers in [0, 1], got {color}")
