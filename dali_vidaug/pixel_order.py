"""Packed RGB from channels, mirrored, or to channels first, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dali_vidaug.kernels import clip_memory, library, share


def mirror(clips: Sequence[np.ndarray], mirrored: np.ndarray, num_threads: int) -> list[np.ndarray]:
    """Swap left and right of some clips, on the CPU.

    Args:
        clips: B arrays (F, H, W, 3) uint8, C-contiguous; they stay as they are.
        mirrored: (B,), of which.
        num_threads: >= 1; they share the clips.

    Returns:
        B arrays; the others are returned themselves.
    """
    result, chosen = list(clips), np.flatnonzero(mirrored).tolist()
    if not all(clip.dtype == np.uint8 and clip.shape[3:] == (3,) and clip.flags.c_contiguous for clip in clips):
        raise ValueError("mirror: clips must be (F, H, W, 3) uint8, contiguous")

    def run(i):
        frames, height, width, _ = clips[i].shape
        result[i] = clip_memory.take(clips[i].shape, np.uint8)
        library().mirror(clips[i].ctypes.data, frames * height, width, result[i].ctypes.data)

    share(run, chosen, num_threads)
    return result


def mirror_frame(frame: np.ndarray) -> None:
    """Swap left and right of a frame (H, W, 3) uint8, C-contiguous, where it is; on the CPU."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.flags.c_contiguous:
        raise ValueError(f"mirror_frame: must be (H, W, 3) uint8, contiguous, got {frame.shape} {frame.dtype}")
    library().mirror(frame.ctypes.data, frame.shape[0], frame.shape[1], frame.ctypes.data)


def put_together(planes: np.ndarray) -> np.ndarray:
    """Channels as packed RGB, on the CPU.

    Args:
        planes: (3, F, H, W) uint8, C-contiguous.

    Returns:
        (F, H, W, 3), new.
    """
    channels, frames, height, width = planes.shape
    if channels != 3 or planes.dtype != np.uint8 or not planes.flags.c_contiguous:
        raise ValueError(f"put_together: planes must be (3, F, H, W) uint8, contiguous, got {planes.shape}")
    out, address, size = np.empty((frames, height, width, 3), np.uint8), planes.ctypes.data, planes[0].size
    library().interleave(address, address + size, address + 2 * size, width, out.ctypes.data, frames * height, width)
    return out


def take_apart(
    clips: Sequence[np.ndarray], table: np.ndarray, mirrored: np.ndarray, out: np.ndarray, num_threads: int
) -> None:
    """Take clips apart into channels and look each value up, on the CPU.

    Args:
        clips: B arrays (F, H, W, 3) uint8, C-contiguous, all of one shape.
        table: (3, 256), C-contiguous, of words of 1, 2 or 4 bytes: what becomes of each value of R, G and B.
        mirrored: (B,), whether left and right are swapped.
        out: (B, 3, F, H, W) of the dtype of ``table``, C-contiguous; written.
        num_threads: >= 1; they share the clips.

    Raises:
        ValueError: shapes or dtypes do not fit.
    """
    wanted = (*out.shape[2:], 3)
    good = all(clip.shape == wanted and clip.dtype == np.uint8 and clip.flags.c_contiguous for clip in clips)
    good &= table.shape == (3, 256) and table.dtype == out.dtype and table.itemsize in (1, 2, 4)
    good &= len(clips) == len(mirrored) == len(out) and out.shape[1] == 3
    if not (good and out.flags.c_contiguous and table.flags.c_contiguous):
        given = sorted({f"{clip.shape} {clip.dtype}" for clip in clips})
        raise ValueError(
            f"take_apart: {len(clips)} clips {', '.join(given)} and a table {table.shape} {table.dtype} do not make "
            f"{out.shape} {out.dtype}"
        )
    function = getattr(library(), f"take_apart_{table.itemsize}")

    def run(i):
        frames, height, width, _ = clips[i].shape
        function(clips[i].ctypes.data, frames * height, width, table.ctypes.data, bool(mirrored[i]), out[i].ctypes.data)

    share(run, range(len(clips)), num_threads)
