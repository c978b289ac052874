"""Frames at positions between two frames of a video: blended, the nearest, or what a module makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from dali_vidaug.kernels import launch
from dali_vidaug.ops.check import check_choice
from dali_vidaug.ops.operator import structured
from dali_vidaug.ops.registry import check_module_name, fingerprint_of
from dali_vidaug.rng import Draws
from dali_vidaug.sampling.videos import Videos

_WHOLE = 32768  # weights are multiples of 1 / _WHOLE


def interpolate_args(num_frames: int) -> np.dtype:
    """The dtype of a row, for clips of F frames.

    ``frames`` is how many frames are decoded; ``at`` says for each frame of the clip which of them is before it, and
    the weight of the next one, a whole number in [0, 32768].
    """
    return np.dtype([("frames", "i4"), ("at", "i4", (num_frames, 2))])


def between_frames(frames: np.ndarray) -> bool:
    """Whether positions (B, F) or (F,) may lie between two frames, which are then blended: whether they are floats."""
    return frames.dtype.kind == "f"


def decoded_frames(positions: np.ndarray) -> np.ndarray:
    """The frames of a video that are decoded for a clip.

    Args:
        positions: (F,) of one clip.

    Returns:
        Integers as they are, (F,); of floats each neighbour of a position once, rising: (U,) int32.
    """
    if not between_frames(positions):
        return positions
    return np.unique(np.concatenate([np.floor(positions), np.ceil(positions)])).astype(np.int32)


def interpolate_rows(frames: np.ndarray) -> np.ndarray:
    """What the kernel does for clips whose ``decoded_frames`` it gets: (B,) ``interpolate_args``.

    Args:
        frames: (B, F) float64, positions.
    """
    rows = np.zeros(len(frames), interpolate_args(frames.shape[1]))
    before = np.floor(frames)
    rows["at"][..., 1] = np.floor((frames - before) * _WHOLE + 0.5)
    for row, positions, floors in zip(rows, frames, before, strict=True):
        decoded = decoded_frames(positions)
        row["frames"], row["at"][:, 0] = len(decoded), np.searchsorted(decoded, floors)
    return rows


def interpolate(clips: Sequence[Any], rows: Any, num_frames: int, num_threads: int | None = None) -> list[Any]:
    """Blend the frames before and after each position.

    Args:
        clips: B arrays (U, H, W, 3) uint8, NumPy's or CuPy's: the ``decoded_frames`` of each clip.
        rows: (B,) ``interpolate_args(num_frames)``, or B arrays of their bytes, on the device of the clips.
        num_frames: F, of the result.
        num_threads: as in ``kernels.launch``.

    Returns:
        B arrays (F, H, W, 3).

    Raises:
        ValueError: a row is for another number of frames than its clip has, or a position is outside of it. Rows on the
            GPU are not checked: there the nearest frame is taken.
    """
    args = interpolate_args(num_frames)
    rows = structured(rows, args)
    if isinstance(rows, np.ndarray):
        for i, (clip, row) in enumerate(zip(clips, rows, strict=True)):
            before, weight = row["at"].T
            inside = (0 <= before) & (before < len(clip)) & (0 <= weight) & (weight <= _WHOLE)
            if row["frames"] != len(clip) or not inside.all():
                raise ValueError(f"interpolate: clip {i} has {len(clip)} frames; its row is for others, {row}")
    return launch("interpolate", clips, rows, args, out_frames=[num_frames] * len(clips), num_threads=num_threads)


@dataclass(frozen=True)
class Interpolation:
    """Frames between two frames as a step of the graph, which no recipe names.

    Attributes:
        num_frames: F, of the result.
        module: the name of the registered module that makes them; None: they are blended.
    """

    num_frames: int
    module: str | None = None
    in_decoder: ClassVar[bool] = True  # as far as sizes of frames are concerned, which stay

    def run(self, clips: Sequence[Any], rows: Any, num_threads: int | None = None) -> list[Any]:
        """``interpolate``, or by the module: B arrays (F, H, W, 3)."""
        if self.module is None:
            return interpolate(clips, rows, self.num_frames, num_threads)
        from dali_vidaug.ops.module_call import interpolate_by

        return interpolate_by(self._called, clips, rows, interpolate_args(self.num_frames), _WHOLE, num_threads or 1)

    @cached_property
    def _called(self):
        from dali_vidaug.ops.module_call import Module

        return Module("FrameInterpolation", str(self.module))


@dataclass(frozen=True)
class FrameInterpolation:
    """What is shown at positions between two frames, as of ``SpeedRamp`` or a sampler with ``fractional=True``.

    Attributes:
        method: "linear" blends the frames before and after, weighted by how near each is, which is also what happens
            without this op; "nearest" shows the nearer one, and the later one in the middle, as ops on time after this
            one see, too; "module" lets a registered module make it.
        module: with method "module", its name (``register_module``). It is called without gradients, where the clips
            are, as ``module(first, last, times)``: two frames (1, 3, H, W) float32 in [0, 1] that follow each other,
            and (T,) float32 times in (0, 1), rising, 0 being that of ``first`` and 1 that of ``last``. It returns
            (T, 3, H, W).

    Raises:
        ValueError: method is something else, or module is not given just with "module".
    """

    method: str = "linear"
    module: str | None = None

    def __post_init__(self):
        check_choice("FrameInterpolation", "method", self.method, ("linear", "nearest", "module"))
        if self.method == "module":
            check_module_name("FrameInterpolation", "module", self.module)
        elif self.module is not None:
            raise ValueError(
                f"FrameInterpolation: module {self.module!r} is for method 'module', got method {self.method!r}"
            )

    @property
    def frame_module(self) -> str | None:
        """The module that makes frames between two others; None: they are blended."""
        return self.module

    def fingerprint(self) -> str:
        """The module and its weights, as text; a ``ValueError`` where the module is not registered."""
        return "" if self.module is None else fingerprint_of("FrameInterpolation", self.module)

    def retime(self, draws: Draws, frames: np.ndarray, videos: Videos) -> tuple[np.ndarray, None]:
        """The frames as float64, or rounded half up to int32; nothing is drawn."""
        if self.method == "nearest":
            return np.floor(frames + 0.5).astype(np.int32), None
        return frames.astype(np.float64), None
