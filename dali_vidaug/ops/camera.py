"""CameraMotion: the frames as an unsteady camera would have taken them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dali_vidaug import geometry
from dali_vidaug.ops import warp
from dali_vidaug.ops.check import are_numbers, check_choice, check_color, check_probability, is_number, make_plain
from dali_vidaug.ops.ramp import position
from dali_vidaug.rng import Draws

_WAVES = 3
_MOTIONS = ("x", "y", "zoom", "rotation")


@dataclass(frozen=True)
class CameraMotion:
    """Pan, zoom and turn along a smooth random path over the frames.

    Each of the four motions (along x, along y, zoom, rotation) has a strength s ~ U[0, limit) and follows s * p(t),
    where p is the weighted mean of three sine waves, so that |p| <= 1: with weights uniform on the simplex, frequencies
    U[0, 2 * ``speed``) per clip, and phases uniform. The frame is turned and zoomed about its centre and then moved.

    Attributes:
        pan: (x, y), limits of the way as fractions of the width and height, or one number for both; in [0, 0.45].
        zoom: limit of the logarithm of the scale, to base 2: 0.1 is from 0.93 to 1.07 times; in [0, 2].
        rotation: limit of the angle, degrees; in [0, 180].
        speed: waves per clip, on average; in (0, 100].
        cover: the clip is zoomed in, by the same factor in all frames, as little as is needed so that nothing from
            outside the frame is seen. Otherwise that has the colour ``fill``.
        probability: that a clip is changed.
        interpolation: "bilinear" or "nearest".
        fill: R, G, B in [0, 255].

    Raises:
        ValueError: an option is out of range.
    """

    pan: float | tuple[float, float] = 0.05
    zoom: float = 0.1
    rotation: float = 3.0
    speed: float = 1.0
    cover: bool = True
    probability: float = 1.0
    interpolation: str = "bilinear"
    fill: tuple[int, int, int] = (0, 0, 0)

    run, check, matrices, describe, applied = warp.run, warp.check, warp.matrices, warp.describe, warp.applied

    def __post_init__(self):
        make_plain(self, "pan", "zoom", "rotation", "speed", "probability", "fill")
        if not (is_number(self.pan, 0, 0.45) or are_numbers(self.pan, 2, 0, 0.45)):
            raise ValueError(f"CameraMotion: pan must be a number or (x, y) in [0, 0.45], got {self.pan!r}")
        for field, highest in (("zoom", 2), ("rotation", 180), ("speed", 100)):
            if not is_number(getattr(self, field), 0, highest):
                raise ValueError(f"CameraMotion: {field} must be in [0, {highest}], got {getattr(self, field)!r}")
        if not self.speed:
            raise ValueError(f"CameraMotion: speed must be in (0, 100], got {self.speed!r}")
        check_choice("CameraMotion", "cover", self.cover, (True, False))
        check_probability("CameraMotion", self.probability)
        check_choice("CameraMotion", "interpolation", self.interpolation, warp.INTERPOLATIONS)
        check_color("CameraMotion", "fill", self.fill, highest=255)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) of dtype ``warp.warp_dtype``, with a matrix for each frame."""
        frames, height, width = (np.broadcast_to(np.asarray(n, np.int64), len(draws)) for n in (frames, height, width))
        path = self._path(draws, frames)
        pan = self.pan if isinstance(self.pan, (tuple, list)) else (self.pan, self.pan)
        move_x, move_y = (path[:, i] * pan[i] * length[:, None] for i, length in ((0, width), (1, height)))
        scale, angle = 2.0 ** (path[:, 2] * self.zoom), path[:, 3] * self.rotation
        if self.cover:
            scale = scale * _covering(angle, scale, move_x, move_y, height, width)[:, None]
        none = np.zeros_like(angle)
        sizes: Any = height[:, None], width[:, None]
        matrices = geometry.affine(-angle, move_x, move_y, scale, none, none, *sizes)
        applied = draws.uniform("apply") < self.probability
        matrices = np.where(applied[:, None, None, None], matrices, np.eye(3))
        return warp.warp_rows(matrices, height, width, self.fill, self.interpolation)

    def _path(self, draws, frames):
        """(B, 4, F) in (-1, 1): where the camera is, as a share of each motion's limit."""
        n, shape = len(_MOTIONS) * _WAVES, (len(draws), len(_MOTIONS), _WAVES, 1)
        strength = draws.uniform("strength", n=len(_MOTIONS))
        frequency = draws.uniform("frequency", 0, 2 * self.speed, n=n).reshape(shape)
        phase = draws.uniform("phase", n=n).reshape(shape)
        # The gaps between sorted uniform numbers are uniform on the simplex.
        cuts = np.sort(draws.uniform("weight", n=len(_MOTIONS) * (_WAVES - 1)).reshape(*shape[:2], _WAVES - 1))
        weights = np.diff(cuts, prepend=0.0, append=1.0)[..., None]
        turns = frequency * position(frames, int(frames.max()))[:, None, None] + phase
        waves = geometry.cos_sin(2 * np.pi * (turns % 1 - 0.5))[1]
        return strength[..., None] * (weights * waves).sum(2)


def _covering(angle, scale, move_x, move_y, height, width):
    """(B,) the least factor, at least 1, by which frames are zoomed in so that all their pixels come from inside.

    The input's position of a corner is, from the centre, the corner moved back, turned back and divided by the scale
    and by the factor: each of its coordinates must be at most half a side.
    """
    cosine, sine = geometry.cos_sin(geometry.wrapped(angle) * geometry.DEGREE)
    half_x, half_y = width[:, None] / 2, height[:, None] / 2
    factor = np.ones(len(angle))
    for sign_x, sign_y in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
        x, y = sign_x * half_x - move_x, sign_y * half_y - move_y
        from_x, from_y = (cosine * x - sine * y) / scale, (sine * x + cosine * y) / scale
        needed = np.maximum(np.abs(from_x) / half_x, np.abs(from_y) / half_y)
        factor = np.maximum(factor, needed.max(1))
    return factor
