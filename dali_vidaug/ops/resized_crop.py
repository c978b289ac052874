"""RandomResizedCrop (Szegedy et al. 2015, as in torchvision), which may move; one box a clip."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dali_vidaug.ops.check import check_choice, check_range, check_size
from dali_vidaug.ops.crop import CROP, both_sides, build_plain_resize, build_resize, crop_matrices, crop_rows
from dali_vidaug.ops.shift import check_shift, describe_shift, shift_rows
from dali_vidaug.ops.warp import matrices as warp_matrices
from dali_vidaug.ops.warp import warp
from dali_vidaug.rng import Draws

_TRIES = 10


class _UnlessItMoves:
    """An attribute that a crop with ``shift`` does not have: the dtype of its rows depends on the number of frames."""

    def __init__(self, value):
        self._value = value

    def __get__(self, op, owner=None):
        if getattr(op, "shift", False):
            raise AttributeError("a crop that moves has no such attribute")
        return self._value


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crop a random box, the same in every frame, and scale it to ``size`` (bilinear).

    Ten boxes are drawn and the first that fits is used; when none fits, the largest centred box whose aspect ratio is
    in range. All ten are always drawn. Definition: torchvision's RandomResizedCrop.

    With ``shift`` (SlowFast's ``random_resized_crop_with_shift``) a second box is drawn in the same way, and the crop
    moves and grows evenly from the first box, in the clip's first frame, to the second, in its last. SlowFast rounds
    the box of each frame to pixels; here it is not rounded, so that it does not tremble. Such crops are bilinear
    without antialiasing, as SlowFast's, and are done after decoding.

    Attributes:
        size: height and width of the result: an int for a square, or (height, width).
        scale: area of the box as a fraction of the frame's, uniform in [low, high).
        ratio: width / height of the box, log-uniform in [low, high).
        shift: the box moves.
        antialias: whether scaling down averages. Without it, as in SlowFast and VideoMAE, it is done after decoding,
            which costs several times the time where the crop is the first op.

    Raises:
        ValueError: an option is out of range.
    """

    size: int | tuple[int, int] = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    shift: bool = False
    antialias: bool = True

    ARGS = _UnlessItMoves(CROP)

    def __post_init__(self):
        check_size("RandomResizedCrop", self.size, "an int or (height, width)")
        check_range("RandomResizedCrop", "scale", self.scale, highest=1)
        check_range("RandomResizedCrop", "ratio", self.ratio)
        check_choice("RandomResizedCrop", "shift", self.shift, (True, False))
        check_choice("RandomResizedCrop", "antialias", self.antialias, (True, False))

    @property
    def in_decoder(self) -> bool:
        """Whether PyAV can do it, which averages."""
        if self.shift:
            raise AttributeError("in_decoder")
        return self.antialias

    @property
    def build(self) -> Any:
        """DALI's resize of a box that stays."""
        if self.shift:
            raise AttributeError("build")
        return partial(build_resize, self) if self.antialias else build_plain_resize

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) CROP: a box for each clip of (B,) sizes; or if it moves, (B,) of dtype ``shift.shift_dtype``."""
        boxes = self._draw_boxes(draws, height, width)
        if not self.shift:
            return boxes
        last = self._draw_boxes(draws.named(f"{draws.prefix}.last"), height, width)
        return shift_rows(boxes, last, frames, both_sides(self.size))

    def _draw_boxes(self, draws, height, width):
        frame_height, frame_width = (np.asarray(x, np.int64)[:, None] for x in (height, width))
        area = draws.uniform("area", *self.scale, n=_TRIES) * frame_height * frame_width
        low, high = np.log(self.ratio)
        ratio = np.exp(draws.uniform("ratio", low, high, n=_TRIES))
        tries = np.stack([np.sqrt(area / ratio).round(), np.sqrt(area * ratio).round()], -1).astype(np.int64)
        fits: np.ndarray = (tries >= 1).all(-1) & (tries[..., 0] <= frame_height) & (tries[..., 1] <= frame_width)
        first = fits.argmax(1)
        centred = np.asarray(~fits.any(axis=1))
        box = np.where(centred[:, None], self._fallback(height, width), tries[np.arange(len(draws)), first])
        top = draws.integers("top", height - box[:, 0] + 1)
        left = draws.integers("left", width - box[:, 1] + 1)
        top = np.where(centred, (height - box[:, 0]) // 2, top)
        left = np.where(centred, (width - box[:, 1]) // 2, left)
        return crop_rows(top, left, box[:, 0], box[:, 1], *both_sides(self.size))

    def _fallback(self, height, width):
        """(B, 2): the largest box of each frame with a ratio in range."""
        low, high = self.ratio
        box_height = np.where(width / height < low, np.round(width / low), height)
        box_width = np.where(width / height > high, np.round(height * high), width)
        return np.stack([np.clip(box_height, 1, height), np.clip(box_width, 1, width)], -1).astype(np.int64)

    @property
    def run(self) -> Any:
        """The kernel of a box that moves."""
        if not self.shift:
            raise AttributeError("run")
        return partial(warp, size=both_sides(self.size))

    def check(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> None:
        """Refuse boxes that move out of the frame; those that stay are checked as all crops are."""
        if self.shift:
            check_shift(args, both_sides(self.size), frames, height, width)

    def matrices(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B, F, 3, 3) float64."""
        return (warp_matrices if self.shift else crop_matrices)(self, args, frames, height, width)

    @property
    def describe(self) -> Any:
        """What says in words where a box moves; one that stays has fields that say it."""
        if not self.shift:
            raise AttributeError("describe")
        return describe_shift
