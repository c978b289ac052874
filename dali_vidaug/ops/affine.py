"""Random rotations, affine and perspective maps, the same in every frame or growing and shrinking along the clip.

Draws and meanings are those of torchvision.transforms.v2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dali_vidaug import geometry
from dali_vidaug.ops import warp
from dali_vidaug.ops.check import (
    are_numbers,
    check_choice,
    check_color,
    check_probability,
    check_range,
    is_number,
    make_plain,
)
from dali_vidaug.ops.ramp import RAMPS, draw_ramps
from dali_vidaug.rng import Draws

_STRONGEST = 2.0  # of a ramp: times what was drawn


def _check_common(op, name):
    make_plain(op, *(field for field in ("degrees", "translate", "scale", "shear", "fill") if hasattr(op, field)))
    check_choice(name, "interpolation", op.interpolation, warp.INTERPOLATIONS)
    check_color(name, "fill", op.fill, highest=255)
    if any(isinstance(value, float) and value % 1 for value in op.fill):
        raise ValueError(f"{name}: fill must be three whole numbers, got {op.fill!r}")
    check_choice(name, "ramp", op.ramp, RAMPS)


def _symmetric(op, name, field, highest):
    """A number x as (-x, x); or a pair, which stays as it is."""
    value = getattr(op, field)
    if is_number(value, 0, highest):
        return -value, value
    if are_numbers(value, 2, -highest, highest) and value[0] <= value[1]:
        return tuple(value)
    raise ValueError(
        f"{name}: {field} must be a number in [0, {highest}] or (low, high) in [-{highest}, {highest}], got {value!r}"
    )


def strengths(draws: Draws, ramp: str, frames: np.ndarray) -> np.ndarray:
    """(B, F) float64: by what the drawn numbers are multiplied in each frame; (B, 1) ones for "constant"."""
    if ramp == "constant":
        return np.ones((len(draws), 1))
    lengths = np.broadcast_to(np.asarray(frames, np.int64), len(draws))
    return draw_ramps(draws, ramp, np.ones((len(draws), 1)), _STRONGEST, lengths, int(lengths.max()))[:, 0]


@dataclass(frozen=True)
class RandomRotation:
    """Turn the frames about their centre. Definition: torchvision's RandomRotation without ``expand`` and ``center``.

    Attributes:
        degrees: counter-clockwise, uniform in [low, high); a number x means (-x, x). In [-180, 180].
        interpolation: "bilinear" or "nearest".
        fill: R, G, B in [0, 255], for pixels that come in from outside the frame.
        ramp: "constant": the same in all frames. With the others (``ramp.draw_ramps``) the angle is multiplied by a
            strength that changes along the clip: "temporal" from U[0.1, 1) to 1, "temporal+" from 1 - d to 1 + d or
            back, d ~ U[0, 1/2), "mix" either constant or "temporal+", "fourier" sine waves in [0, 2].

    Raises:
        ValueError: an option is out of range.
    """

    degrees: float | tuple[float, float] = 15.0
    interpolation: str = "bilinear"
    fill: tuple[int, int, int] = (0, 0, 0)
    ramp: str = "constant"

    run, check, matrices, describe, applied = warp.run, warp.check, warp.matrices, warp.describe, warp.applied

    def __post_init__(self):
        _symmetric(self, "RandomRotation", "degrees", 180)
        _check_common(self, "RandomRotation")

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) of dtype ``warp.warp_dtype``."""
        angle = draws.uniform("angle", *_symmetric(self, "RandomRotation", "degrees", 180))
        angle = angle[:, None] * strengths(draws, self.ramp, frames)
        height, width = (np.broadcast_to(np.asarray(n), len(draws))[:, None] for n in (height, width))
        matrices = geometry.rotation(geometry.wrapped(angle), height, width)
        return warp.warp_rows(matrices, height[:, 0], width[:, 0], self.fill, self.interpolation)


@dataclass(frozen=True)
class RandomAffine:
    """Turn, move, scale and shear the frames about their centre. Definition: torchvision's RandomAffine.

    Attributes:
        degrees: clockwise (as torchvision has it here), uniform in [low, high); a number x means (-x, x).
        translate: (x, y): moved by up to these fractions of the width and height, to whole pixels; in [0, 1]. None:
            not moved.
        scale: (low, high), uniform. None: not scaled.
        shear: degrees along x: a number x means (-x, x), or (low, high); or (low x, high x, low y, high y). In (-90,
            90). None: not sheared.
        interpolation: "bilinear" or "nearest".
        fill: R, G, B in [0, 255], for pixels that come in from outside the frame.
        ramp: as in ``RandomRotation``: angles, the way and the logarithm of the scale are multiplied by the strength.

    Raises:
        ValueError: an option is out of range.
    """

    degrees: float | tuple[float, float] = 15.0
    translate: tuple[float, float] | None = None
    scale: tuple[float, float] | None = None
    shear: float | tuple[float, ...] | None = None
    interpolation: str = "bilinear"
    fill: tuple[int, int, int] = (0, 0, 0)
    ramp: str = "constant"

    run, check, matrices, describe, applied = warp.run, warp.check, warp.matrices, warp.describe, warp.applied

    def __post_init__(self):
        _symmetric(self, "RandomAffine", "degrees", 180)
        if self.translate is not None and not are_numbers(self.translate, 2, 0, 1):
            raise ValueError(f"RandomAffine: translate must be (x, y), each in [0, 1], got {self.translate!r}")
        if self.scale is not None:
            check_range("RandomAffine", "scale", self.scale, highest=1000)
        self._shears()
        _check_common(self, "RandomAffine")

    def _shears(self):
        """Low and high, along x and along y."""
        if self.shear is None:
            return (0, 0), (0, 0)
        if isinstance(self.shear, (tuple, list)) and len(self.shear) == 4:
            x, y = self.shear[:2], self.shear[2:]
            if all(are_numbers(pair, 2, -89, 89) and pair[0] <= pair[1] for pair in (x, y)):
                return x, y
            raise ValueError(
                f"RandomAffine: shear must be (low x, high x, low y, high y) in [-89, 89], got {self.shear!r}"
            )
        return _symmetric(self, "RandomAffine", "shear", 89), (0, 0)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) of dtype ``warp.warp_dtype``."""
        height, width = (np.broadcast_to(np.asarray(n, np.int64), len(draws)) for n in (height, width))
        angle = draws.uniform("angle", *_symmetric(self, "RandomAffine", "degrees", 180))
        far_x, far_y = (length * limit for length, limit in zip((width, height), self.translate or (0, 0), strict=True))
        moved = [np.round(draws.uniform(word, -far, far)) for word, far in (("x", far_x), ("y", far_y))]
        scale = draws.uniform("scale", *(self.scale or (1.0, 1.0)))
        shear = [draws.uniform(f"shear {word}", *limits) for word, limits in zip("xy", self._shears(), strict=True)]
        strength = strengths(draws, self.ramp, frames)
        values: list[Any] = [value[:, None] * strength for value in (angle, *moved, *shear)]
        scale = scale[:, None] if self.ramp == "constant" else scale[:, None] ** strength
        turn, x, y, shear_x, shear_y = values
        matrices = geometry.affine(
            turn, x, y, scale, np.clip(shear_x, -89, 89), np.clip(shear_y, -89, 89), height[:, None], width[:, None]
        )
        return warp.warp_rows(matrices, height, width, self.fill, self.interpolation)


@dataclass(frozen=True)
class RandomPerspective:
    """Show the frames as if from another side: each corner moves inwards. Definition: torchvision's RandomPerspective.

    Each corner moves by a whole number of pixels along x and along y, uniform in [0, distortion_scale * half the side].
    Frames whose corners would not make a convex shape (those of a few pixels) are not changed.

    Attributes:
        distortion_scale: in [0, 1].
        probability: that a clip is changed.
        interpolation: "bilinear" or "nearest".
        fill: R, G, B in [0, 255], for pixels that come in from outside the frame.
        ramp: as in ``RandomRotation``: the ways of the corners are multiplied by the strength, at most by 1 /
            ``distortion_scale``.

    Raises:
        ValueError: an option is out of range.
    """

    distortion_scale: float = 0.5
    probability: float = 0.5
    interpolation: str = "bilinear"
    fill: tuple[int, int, int] = (0, 0, 0)
    ramp: str = "constant"

    run, check, matrices, describe, applied = warp.run, warp.check, warp.matrices, warp.describe, warp.applied

    def __post_init__(self):
        if not is_number(self.distortion_scale, 0, 1):
            raise ValueError(f"RandomPerspective: distortion_scale must be in [0, 1], got {self.distortion_scale!r}")
        check_probability("RandomPerspective", self.probability)
        _check_common(self, "RandomPerspective")

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) of dtype ``warp.warp_dtype``."""
        height, width = (np.broadcast_to(np.asarray(n, np.int64), len(draws)) for n in (height, width))
        inwards = [[1, 1], [-1, 1], [-1, -1], [1, -1]]  # of the corners top left, top right, bottom right, bottom left
        most = [(length // 2 * self.distortion_scale).astype(np.int64) for length in (width, height)]
        moved = np.stack([draws.integers(word, far + 1, n=4) for word, far in zip("xy", most, strict=True)], -1)
        last = np.stack([width - 1, height - 1], -1).astype(np.float64)  # torchvision's corners: (0, 0) to (w-1, h-1)
        start = last[:, None] * [[0, 0], [1, 0], [1, 1], [0, 1]]
        strength = strengths(draws, self.ramp, frames)
        strength = np.minimum(strength, 1 / max(self.distortion_scale, 1e-9)) if self.ramp != "constant" else strength
        end = start[:, None] + (moved * inwards)[:, None] * strength[..., None, None]
        applied = draws.uniform("apply") < self.probability
        applied &= geometry.is_convex(end).all(1) & (last > 0).all(1)
        size = np.where(last > 0, last, 1)[:, None]
        matrices = geometry.from_quad(end, size[..., 0], size[..., 1])
        matrices = np.where((applied & (moved != 0).any((1, 2)))[:, None, None, None], matrices, np.eye(3))
        return warp.warp_rows(matrices, height, width, self.fill, self.interpolation)
