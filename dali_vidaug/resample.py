"""Frames of planar YUV to packed RGB of another size, on the CPU: crop, scale and colours in one pass."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from dali_vidaug.kernels import library

SHIFTS = {  # of the pixel formats that can be resampled: by how many bits rows and columns of chroma are fewer
    "yuv420p": (1, 1),
    "yuvj420p": (1, 1),
    "yuv422p": (0, 1),
    "yuvj422p": (0, 1),
    "yuv444p": (0, 0),
    "yuvj444p": (0, 0),
}
_BITS = 13  # of the matrix, as kernels/resample.cpp has it
_Box = tuple[int, int, int, int]


class Resampler:
    """Scales a part of frames, and converts it to RGB.

    Each plane is scaled with a triangle filter, its samples being where they lie: one of chroma in the middle of the
    pixels that share it. Samples outside the part are as those at its edge. Colours are rounded once, at the end.

    Args:
        box: (top, left, bottom, right) in pixels of the frame, half open.
        full: (height, width) that it is scaled to.
        view: (top, left, bottom, right) of the scaled part: what is made of it.
        pixel_format: of ``SHIFTS``.
        mirrored: left and right are swapped in the end.

    Attributes:
        shape: (H, W, 3) of the pictures.
    """

    def __init__(self, box: _Box, full: tuple[int, int], view: _Box, pixel_format: str, mirrored: bool):
        self._box, self._pixel_format = box, pixel_format
        self.shape = view[2] - view[0], view[3] - view[1], 3
        shifts = (ctypes.c_int32 * 2)(*SHIFTS[pixel_format])
        numbers = [(ctypes.c_int64 * len(part))(*part) for part in (box, full, view)]
        self._made = ctypes.c_void_p()
        library().make_resampler(*numbers, shifts, int(mirrored), ctypes.byref(self._made))
        finalizer = weakref.finalize(self, library().free_resampler, self._made)
        finalizer.atexit = False  # threads that decode may be in it while the program ends

    def __call__(self, frame: Any, weights: tuple[float, float], full_range: bool, out: np.ndarray) -> None:
        """Convert a frame.

        Args:
            frame: an ``av.VideoFrame`` that has the box.
            weights: of red and blue in luma, which say what the matrix is.
            full_range: whether black is 0 and white 255, rather than 16 and 235.
            out: (H, W, 3) uint8, C-contiguous; written.

        Raises:
            ValueError: the frame has another pixel format or is too small, or ``out`` another shape.
        """
        if frame.format.name != self._pixel_format or frame.height < self._box[2] or frame.width < self._box[3]:
            raise ValueError(
                f"resample: {self._box} of {self._pixel_format} is not in a frame {frame.width}x{frame.height} of "
                f"{frame.format.name}"
            )
        if out.shape != self.shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise ValueError(f"resample: out must be {self.shape} uint8, contiguous, got {out.shape} {out.dtype}")
        planes = frame.planes
        places = (ctypes.c_void_p * 3)(*(plane.buffer_ptr for plane in planes))
        strides = (ctypes.c_int64 * 3)(*(plane.line_size for plane in planes))
        matrix = _matrix(weights, full_range)
        library().resample(self._made, places, strides, matrix, ctypes.c_void_p(out.ctypes.data))


@lru_cache
def _matrix(weights: Sequence[float], full_range: bool) -> Any:
    """What kernels/resample.cpp multiplies with (ITU-T H.273, 8.3), and black."""
    red, blue = weights
    green = 1 - red - blue
    luma, chroma = (1.0, 1.0) if full_range else (255 / 219, 255 / 224)
    cb, cr = 2 * (1 - blue) * chroma, 2 * (1 - red) * chroma
    factors = luma, cr, -cb * blue / green, -cr * red / green, cb
    numbers = [round(factor * (1 << _BITS)) for factor in factors]
    return (ctypes.c_int32 * 6)(*numbers, 0 if full_range else 16 << 6)
