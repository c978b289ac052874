"""A crop that moves along the clip: rows of warps (``warp.py``) with another size."""

from __future__ import annotations

from functools import cache

import numpy as np

from dali_vidaug.geometry import crop, map_points
from dali_vidaug.ops.ramp import position
from dali_vidaug.ops.warp import AT_THE_EDGE

_BOX = ("top", "left", "bottom", "right")


@cache
def shift_dtype(frames: int) -> np.dtype:
    """The dtype of a row: ``warp.warp_dtype``, byte for byte, with the size of the result in place of the clip's."""
    return np.dtype(
        [
            ("fill", "u1", 3),
            ("bilinear", "u1"),
            ("num_matrices", "i4"),
            ("out_height", "i4"),
            ("out_width", "i4"),
            ("matrix", "f8", (frames, 3, 3)),
        ]
    )


def shift_rows(first: np.ndarray, last: np.ndarray, frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(B,) rows for boxes (B,) CROP of the first frame and of the last; between them the sides move evenly."""
    count = int(np.max(frames, initial=1))
    share = position(np.broadcast_to(np.asarray(frames, np.int64), len(first)), count)
    top, left, bottom, right = (
        first[name][:, None] + (last[name].astype(float) - first[name])[:, None] * share for name in _BOX
    )
    rows = np.zeros(len(first), shift_dtype(count))
    rows["matrix"] = crop(top, left, bottom, right, *size)
    rows["num_matrices"], rows["bilinear"] = count, AT_THE_EDGE
    rows["out_height"], rows["out_width"] = size
    return rows


def _boxes(rows):
    """(..., 4): left, top, right and bottom of the boxes of rows (...,), in each frame."""
    corners = np.stack([np.zeros((*rows.shape, 2)), np.stack([rows["out_width"], rows["out_height"]], -1)], -2)
    return map_points(rows["matrix"], corners[..., None, :, :]).reshape(*rows["matrix"].shape[:-2], 4)


def check_shift(
    rows: np.ndarray, size: tuple[int, int], frames: np.ndarray, height: np.ndarray, width: np.ndarray
) -> None:
    """Refuse rows, such as those of an edited plan, that are not for clips of these sizes."""
    names = rows.dtype.names or ()
    if "matrix" not in names or rows.dtype != shift_dtype(rows["matrix"].shape[1]):
        raise ValueError(f"RandomResizedCrop: arguments must be of dtype shift_dtype(F), got {rows.dtype}")
    count, most = rows["matrix"].shape[1], int(np.max(frames, initial=0))
    if count < most or (rows["num_matrices"] != count).any():
        got = rows["num_matrices"].tolist()
        raise ValueError(f"RandomResizedCrop: num_matrices must be {count}, at least {most} frames, got {got}")
    if (rows["out_height"] != size[0]).any() or (rows["out_width"] != size[1]).any():
        raise ValueError(f"RandomResizedCrop: out_height and out_width must be {size[0]} and {size[1]}, as in the op")
    boxes, limit = _boxes(rows), np.stack([width, height, width, height], -1)[:, None]
    inside = ((boxes > -1e-6) & (boxes < limit + 1e-6)).all((1, 2))  # NaN is not
    if not inside.all():
        i = int(inside.argmin())
        raise ValueError(
            f"RandomResizedCrop: the box of clip {i} leaves its {height[i]}x{width[i]} frames (height x width): left, "
            f"top, right, bottom {boxes[i, 0].round(2).tolist()} to {boxes[i, -1].round(2).tolist()}"
        )


def describe_shift(row: np.void) -> list[str]:
    """A row as lines of text."""
    rows = np.array([row], row.dtype)
    ends = [_boxes(rows)[0, i] for i in (0, -1)]
    boxes = [f"rows [{y1:.4g}, {y2:.4g}) and columns [{x1:.4g}, {x2:.4g})" for x1, y1, x2, y2 in ends]
    return [f"from {boxes[0]}", f"to {boxes[1]}, each scaled to {row['out_height']}x{row['out_width']}"]
