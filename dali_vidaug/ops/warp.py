"""Frames under matrices: what rotations, affine and perspective ops have in common.

``build``, ``check``, ``matrices``, ``describe`` and ``applied`` are methods that the classes of such ops take over.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from dali_vidaug.geometry import inverse, map_points
from dali_vidaug.kernels import launch
from dali_vidaug.ops.operator import structured

INTERPOLATIONS = ("nearest", "bilinear")
AT_THE_EDGE = 2


@cache
def warp_dtype(num_matrices: int) -> np.dtype:
    """The dtype of a row with as many matrices: one for all frames of a clip, or one for each."""
    return np.dtype(
        [  # the same as struct WarpArgs
            ("fill", "u1", 3),  # R, G, B, of what comes in from outside the frame
            ("bilinear", "u1"),  # 0: nearest; AT_THE_EDGE: neighbours outside are the pixels at the edge, not `fill`
            ("num_matrices", "i4"),  # the last one holds for all further frames
            ("height", "i4"),  # of the clip
            ("width", "i4"),
            ("matrix", "f8", (num_matrices, 3, 3)),  # from output to input pixels (geometry.py)
        ]
    )


def warp_rows(
    matrices: np.ndarray, height: Any, width: Any, fill: tuple[int, int, int], interpolation: str
) -> np.ndarray:
    """(B,) rows for matrices (B, M, 3, 3), M being 1 or the number of frames, and clips of these sizes."""
    rows = np.zeros(len(matrices), warp_dtype(matrices.shape[1]))
    rows["matrix"], rows["num_matrices"] = matrices, matrices.shape[1]
    rows["height"], rows["width"] = height, width
    rows["fill"], rows["bilinear"] = fill, interpolation == "bilinear"
    return rows


def warp(
    clips: Sequence[Any], rows: Any, num_threads: int | None = None, size: tuple[int, int] | None = None
) -> list[Any]:
    """Move each frame of each clip as its matrix says.

    Bilinear: a neighbour outside the frame has the colour ``fill``, so that edges are smooth. Nearest: the pixel in
    which the position of an output pixel's centre lies, or ``fill``.

    Args:
        clips: B arrays (F, H, W, 3) uint8, NumPy's or CuPy's.
        rows: (B,) of dtype ``warp_dtype(M)``, or B arrays of their bytes, on the device of the clips. M is 1, or at
            least the longest clip's F.
        num_threads: as in ``kernels.launch``.
        size: height and width of the results; None: those of the clips. With a size nothing is checked.

    Returns:
        B arrays. On the CPU, clips that do not change are not copied: they are returned themselves.

    Raises:
        ValueError: a row is for another size than its clip's. Rows on the GPU are not checked; no other memory is read.
    """
    if not len(clips):
        return []
    empty = warp_dtype(0).itemsize
    dtype = warp_dtype((rows[0].nbytes - empty) // (warp_dtype(1).itemsize - empty))
    rows, skip = structured(rows, dtype), []
    if isinstance(rows, np.ndarray) and size is None:
        _check_sizes(rows, np.array([clip.shape[:3] for clip in clips], np.int64))
        skip = np.flatnonzero(~is_warped(rows)).tolist()
    return launch("warp", clips, rows, dtype, skip=skip, out_size=size, num_threads=num_threads)


def _check_sizes(rows, sizes):
    """The rows are for clips of ``sizes``, (B, 3): frames, height, width."""
    num = rows["matrix"].shape[1]
    for i, (row, size) in enumerate(zip(rows, sizes.tolist(), strict=True)):
        if row["num_matrices"] != num or not (num == 1 or num >= size[0]):
            raise ValueError(
                f"warp: row {i} must have num_matrices {num}, 1 or at least the clip's {size[0]} frames, got "
                f"{row['num_matrices']}"
            )
        if [row["height"], row["width"]] != size[1:]:
            planned = f"{row['height']}x{row['width']}"
            raise ValueError(f"warp: frames of clip {i} are {size[1]}x{size[2]}, but its arguments are for {planned}")


def is_warped(rows: np.ndarray) -> np.ndarray:
    """(B,) bool: some matrix of the row is not the identity."""
    return (rows["matrix"] != np.eye(3)).any((1, 2, 3))


def _summary(matrix, height, width):
    """What a matrix does to a frame, as numbers with names: measured at the centre, to where the output shows it."""
    centre = np.array([width / 2, height / 2])
    around = centre + np.array([[0, 0], [0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
    at, right, left, below, above = map_points(inverse(matrix), around)
    (across_x, across_y), (down_x, down_y) = right - left, below - above
    with np.errstate(invalid="ignore", divide="ignore"):
        area = across_x * down_y - across_y * down_x
        length = np.hypot(across_x, across_y)
        return {
            "rotation": -np.degrees(np.arctan2(across_y, across_x)),
            "scale x": length,
            "scale y": area / length,
            "shear": (across_x * down_x + across_y * down_y) / area,
            "moved right": at[0] - centre[0],
            "moved down": at[1] - centre[1],
        }


_UNITS = {"rotation": "degrees", "moved right": "px", "moved down": "px"}
_NEUTRAL = {"scale x": 1.0, "scale y": 1.0}


def describe_warp(row: np.void) -> list[str]:
    """A row as lines of text: what happens at the centre of the first frame and of the last."""
    ends = [_summary(row["matrix"][i], row["height"], row["width"]) for i in (0, -1)]
    words = []
    for name in ends[0]:
        first, last = (f"{end[name] + 0.0:.4g}" for end in ends)
        if any(abs(end[name] - _NEUTRAL.get(name, 0.0)) > 1e-9 or end[name] != end[name] for end in ends):
            number = first if first == last else f"{first} to {last}"
            words.append(f"{name} {number} {_UNITS.get(name, '')}".rstrip())
    if (row["matrix"][:, 2] != [0, 0, 1]).any():
        words.append("perspective")
    if not words:
        return ["not changed" if (row["matrix"] == np.eye(3)).all() else "changed between the first and last frame"]
    outside = f"{'bilinear' if row['bilinear'] else 'nearest'}, outside {', '.join(map(str, row['fill'].tolist()))}"
    return [", ".join(words), outside]


# Methods


def run(self: object, clips: Sequence[Any], rows: Any, num_threads: int | None = None) -> list[Any]:
    """``warp``."""
    return warp(clips, rows, num_threads=num_threads)


def check(self: object, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> None:
    """Refuse arguments, such as those of an edited plan, that are not for clips of these sizes."""
    names = args.dtype.names or ()
    if "matrix" not in names or args.dtype != warp_dtype(args["matrix"].shape[1]):
        raise ValueError(f"warp: arguments must be of dtype warp_dtype(M), got {args.dtype}")
    _check_sizes(args, np.stack([frames, height, width], 1))
    if not np.isfinite(args["matrix"]).all():
        raise ValueError("warp: matrices must be finite")


def matrices(self: object, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
    """(B, F, 3, 3) float64."""
    count = int(np.max(frames, initial=1))
    return args["matrix"][:, np.minimum(np.arange(count), args["matrix"].shape[1] - 1)]


def describe(self: object, row: np.void) -> list[str]:
    """A row as lines of text."""
    return describe_warp(row)


def applied(self: object, args: np.ndarray) -> np.ndarray:
    """(B,) bool: the clip is changed."""
    return is_warped(args)
