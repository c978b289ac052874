"""Crop and resize: RandomResizedCrop (Szegedy et al. 2015, as in torchvision), Resize, CenterCrop; one box a clip."""

from dataclasses import dataclass

import numpy as np

CROP = np.dtype(
    [  # the box [top, bottom) x [left, right) of the frame, in pixels, is scaled to out_height x out_width
        ("top", "i4"),
        ("left", "i4"),
        ("bottom", "i4"),
        ("right", "i4"),
        ("out_height", "i4"),
        ("out_width", "i4"),
    ]
)
_TRIES = 10


def _boxes(top, left, height, width, out_height, out_width):
    args = np.zeros(len(top), CROP)
    args["top"], args["left"] = top, left
    args["bottom"], args["right"] = top + height, left + width
    args["out_height"], args["out_width"] = out_height, out_width
    return args


def _check_size(op, size, forms):
    sides = size if isinstance(size, tuple) else (size,)
    if not (len(sides) <= 2 and all(isinstance(side, int) and 1 <= side <= 16384 for side in sides)):
        raise ValueError(f"{op}: size must be {forms}, sides in [1, 16384], got {size!r}")


def _both(size):
    return size if isinstance(size, tuple) else (size, size)


def _build_resize(fn, clips, args):
    return fn.resize(
        clips,
        roi_start=args["top", "left"],
        roi_end=args["bottom", "right"],
        size=args["out_height", "out_width"],
        antialias=True,
    )


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crop a random box, the same in every frame, and scale it to ``size`` (bilinear, antialiased).

    Ten boxes are drawn and the first that fits is taken; when none fits, the largest centred box whose aspect ratio
    is in range. All ten are always drawn. Definition: torchvision's RandomResizedCrop.

    Attributes:
        size: height and width of the result: an int for a square, or (height, width).
        scale: area of the box as a fraction of the frame's, uniform in [low, high).
        ratio: width / height of the box, log-uniform in [low, high).

    Raises:
        ValueError: an option is out of range.
    """

    size: int | tuple[int, int] = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    ARGS = CROP

    def __post_init__(self):
        _check_size("RandomResizedCrop", self.size, "an int or (height, width)")
        if not (len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] <= 1):
            raise ValueError(f"RandomResizedCrop: scale must be 0 < low <= high <= 1, got {self.scale}")
        if not (len(self.ratio) == 2 and 0 < self.ratio[0] <= self.ratio[1] < float("inf")):
            raise ValueError(f"RandomResizedCrop: ratio must be 0 < low <= high, got {self.ratio}")

    def draw(self, draws, frames, height, width):
        """(B,) CROP: a box for each clip of (B,) sizes."""
        frame_height, frame_width = (np.asarray(x, np.int64)[:, None] for x in (height, width))
        area = draws.uniform("area", *self.scale, n=_TRIES) * frame_height * frame_width
        ratio = np.exp(draws.uniform("ratio", *np.log(self.ratio), n=_TRIES))
        tries = np.stack([np.sqrt(area / ratio).round(), np.sqrt(area * ratio).round()], -1).astype(np.int64)
        fits: np.ndarray = (tries >= 1).all(-1) & (tries[..., 0] <= frame_height) & (tries[..., 1] <= frame_width)
        first = fits.argmax(1)
        centred = np.asarray(~fits.any(axis=1))
        box = np.where(centred[:, None], self._fallback(height, width), tries[np.arange(len(draws)), first])
        top = draws.integers("top", height - box[:, 0] + 1)
        left = draws.integers("left", width - box[:, 1] + 1)
        top = np.where(centred, (height - box[:, 0]) // 2, top)
        left = np.where(centred, (width - box[:, 1]) // 2, left)
        return _boxes(top, left, box[:, 0], box[:, 1], *_both(self.size))

    def _fallback(self, height, width):
        """(B, 2): the largest box of each frame with a ratio in range."""
        low, high = self.ratio
        box_height = np.where(width / height < low, np.round(width / low), height)
        box_width = np.where(width / height > high, np.round(height * high), width)
        return np.stack([np.clip(box_height, 1, height), np.clip(box_width, 1, width)], -1).astype(np.int64)

    def build(self, fn, clips, args):
        return _build_resize(fn, clips, args)


@dataclass(frozen=True)
class Resize:
    """Scale every frame (bilinear, antialiased).

    Attributes:
        size: an int scales the short side to it and keeps the aspect ratio (the long side is rounded half to even);
            (height, width) is exact.

    Raises:
        ValueError: size is out of range.
    """

    size: int | tuple[int, int] = 256

    ARGS = CROP

    def __post_init__(self):
        _check_size("Resize", self.size, "an int (short side) or (height, width)")

    def draw(self, draws, frames, height, width):
        """(B,) CROP: the whole of each frame."""
        if isinstance(self.size, tuple):
            out_height, out_width = self.size
        else:
            short = np.minimum(height, width)
            out_height = np.round(height * self.size / short)
            out_width = np.round(width * self.size / short)
        zero = np.zeros(len(draws), np.int64)
        return _boxes(zero, zero, height, width, out_height, out_width)

    def build(self, fn, clips, args):
        return _build_resize(fn, clips, args)


@dataclass(frozen=True)
class CenterCrop:
    """Cut the middle out of every frame.

    Attributes:
        size: height and width of the result: an int for a square, or (height, width).

    Raises:
        ValueError: size is out of range, or (when it is drawn) larger than a frame.
    """

    size: int | tuple[int, int] = 224

    ARGS = CROP

    def __post_init__(self):
        _check_size("CenterCrop", self.size, "an int or (height, width)")

    def draw(self, draws, frames, height, width):
        """(B,) CROP: the middle of each frame, not scaled. For odd margins the left or top one is the smaller."""
        out_height, out_width = _both(self.size)
        short = (height < out_height) | (width < out_width)
        if short.any():
            i = int(short.argmax())
            raise ValueError(
                f"CenterCrop: size {out_height}x{out_width} is larger than the {height[i]}x{width[i]} frames "
                f"(height x width) of sample {draws.samples[i]}; put Resize before it"
            )
        return _boxes(
            (height - out_height) // 2, (width - out_width) // 2, out_height, out_width, out_height, out_width
        )

    def build(self, fn, clips, args):
        return fn.slice(
            clips,
            args["top", "left"],
            args["out_height", "out_width"],
            axis_names="HW",
            normalized_anchor=False,
            normalized_shape=False,
        )
