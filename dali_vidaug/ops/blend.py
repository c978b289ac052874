"""What mixing and erasing have in common: a clip blended with another clip, a colour or noise, and its label.

``run``, ``targets``, ``mixed_with``, ``partner_share``, ``describe`` and ``applied`` are methods that the classes of
such ops take over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dali_vidaug.kernels import launch
from dali_vidaug.ops.operator import structured

_WHOLE = 32768  # weights are multiples of 1 / _WHOLE, so that pixels and labels are exact
_FRAMES_MAX = 32768
# A row. The overlay, which is clip `partner` of the batch, or where that is -1 color and noise, is blended over the
# clip with the weight `inside` in the box and `outside` around it. The box is [first, last) x [top, bottom) x [left,
# right), in frames and pixels. Of two values, the first holds in the clip's first frame and the second in its last;
# between them they change evenly. A row of zeros changes nothing.
BLEND = np.dtype(
    [
        ("partner", "i4"),  # position in the batch
        ("frames", "i4"),  # size of the clip
        ("height", "i4"),
        ("width", "i4"),
        ("first", "i4"),
        ("last", "i4"),
        ("top", "i4", 2),
        ("bottom", "i4", 2),
        ("left", "i4", 2),
        ("right", "i4", 2),
        ("inside", "f4", 2),  # in [0, 1]
        ("outside", "f4", 2),
        ("color", "f4", 3),  # R, G, B in [0, 255]: mean
        ("spread", "f4", 3),  # and standard deviation of the noise; 0: a plain colour
        ("key", "u4", 2),  # of the noise
    ]
)


def new_rows(num_clips: int, frames: ArrayLike, height: ArrayLike, width: ArrayLike) -> np.ndarray:
    """(B,) BLEND that change nothing, for clips of these sizes. The box is the whole clip."""
    rows = np.zeros(num_clips, BLEND)
    rows["frames"], rows["height"], rows["width"] = frames, height, width
    if num_clips and rows["frames"].max() > _FRAMES_MAX:
        raise ValueError(f"clips may have {_FRAMES_MAX} frames at most, got {rows['frames'].max()}")
    rows["last"] = rows["frames"]
    rows["bottom"], rows["right"] = rows["height"][:, None], rows["width"][:, None]
    return rows


def exact(weight: ArrayLike) -> np.ndarray:
    """The multiple of 1 / 32768 nearest to a weight."""
    return np.floor(np.asarray(weight) * _WHOLE + 0.5) / _WHOLE


def blend(clips: Sequence[Any], rows: Any, num_threads: int | None = None) -> list[Any]:
    """Blend each clip with the overlay of its row.

    Args:
        clips: B arrays (F, H, W, 3) uint8, NumPy's or CuPy's. Where rows have partners, all of one size.
        rows: (B,) BLEND, or B arrays of their bytes, on the device of the clips.
        num_threads: as in ``kernels.launch``.

    Returns:
        B arrays. On the CPU, clips that do not change are not copied: they are returned themselves.

    Raises:
        ValueError: a row is for another size than its clip's, or its partner is not in the batch, or of another size
            than its clip. Rows on the GPU are not checked: there such a partner counts as none.
    """
    skip: list[int] = []
    rows = structured(rows, BLEND)
    if isinstance(rows, np.ndarray):
        sizes = np.array([clip.shape[:3] for clip in clips], np.int64).reshape(-1, 3)
        _check_sizes(rows, sizes)
        skip = np.flatnonzero(is_neutral(rows)).tolist()
    return launch("blend", clips, rows, BLEND, skip=skip, num_threads=num_threads)


def _check_sizes(rows, sizes):
    """The rows (B,) BLEND are for clips of ``sizes``, (B, 3), or change nothing; and their partners exist."""
    planned = np.stack([rows["frames"], rows["height"], rows["width"]], 1)
    others = (planned != sizes).any(1) & ~is_neutral(rows)
    if others.any():
        i = int(others.argmax())
        raise ValueError(f"blend: clip {i} is {_size(sizes[i])}, but its arguments are for {_size(planned[i])}")
    for i, partner in enumerate(rows["partner"].tolist()):
        if partner >= len(sizes):
            raise ValueError(f"blend: clip {i} has partner {partner}, but there are {len(sizes)} clips")
        if partner >= 0 and (sizes[partner] != sizes[i]).any():
            raise ValueError(f"blend: clip {i} is {_size(sizes[i])}, its partner {_size(sizes[partner])}")


def _size(size):
    return "x".join(map(str, size.tolist()))


def is_neutral(rows: np.ndarray) -> np.ndarray:
    """(B,) bool: the row does not change its clip."""
    box = rows["first"] < rows["last"]
    for low, high in (("top", "bottom"), ("left", "right")):
        box = box & (rows[low] < rows[high]).any(1)
    return ~rows["outside"].any(1) & ~(box & rows["inside"].any(1))


def own_share(rows: np.ndarray) -> np.ndarray:
    """How much of each clip is its own: 1 - the mean weight of the partner over all voxels, counted exactly.

    Args:
        rows: (B,) BLEND. Those with partners are of clips of one size.

    Returns:
        (B,) float64 in [0, 1]; 1 where there is no partner: what is erased does not belong to another clip.
    """
    frames = rows["frames"].astype(np.int64)[:, None]
    frame = np.arange(frames.max(initial=1))[None]
    height, width = (rows[name].astype(np.int64)[:, None] for name in ("height", "width"))
    (top, bottom, left, right), inside, outside = _ramped_rows(rows[:, None], frame)
    area = _overlap(top, bottom, 0, height) * _overlap(left, right, 0, width)
    area = area * ((rows["first"][:, None] <= frame) & (frame < rows["last"][:, None]))
    whole = height * width
    others = (area * inside + (whole - area) * outside).sum(1)
    return np.where(rows["partner"] < 0, 1.0, 1 - others / np.maximum(frames * whole * _WHOLE, 1)[:, 0])


def _ramped_rows(rows, frame):
    """In frames (...,) of rows (...,): top, bottom, left and right of the box; inside and outside, in 1 / _WHOLE."""
    frames = rows["frames"].astype(np.int64)
    steps = np.maximum(frames - 1, 1)

    def ramped(ends):
        first, last = np.moveaxis(np.asarray(ends, np.int64), -1, 0)
        return (2 * (first * (steps - frame) + last * frame) + steps) // (2 * steps)

    box = [ramped(rows[name]) for name in ("top", "bottom", "left", "right")]
    weights = [ramped(np.floor(rows[name] * np.float32(_WHOLE) + 0.5)) for name in ("inside", "outside")]
    return box, *weights


def _overlap(low, high, first, last):
    """The length that [low, high) and [first, last) have in common."""
    return np.maximum(np.minimum(high, last) - np.maximum(low, first), 0)


def overlay_share(rows: np.ndarray, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which share of some boxes shows the overlay: the mean of its weight over the area of each box.

    Args:
        rows: (N,) BLEND, for each box that of its clip.
        frame: (N,) int, of each box.
        boxes: (N, 4) float, x1, y1, x2, y2 in pixels, with an area.

    Returns:
        (N,) float64 in [0, 1].
    """
    (top, bottom, left, right), inside, outside = _ramped_rows(rows, frame)
    x1, y1, x2, y2 = np.asarray(boxes, np.float64).T
    covered = _overlap(left, right, x1, x2) / (x2 - x1) * (_overlap(top, bottom, y1, y2) / (y2 - y1))
    covered = covered * ((rows["first"] <= frame) & (frame < rows["last"]))
    return (covered * inside + (1 - covered) * outside) / _WHOLE


def partners_of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The partner of each clip: position in the batch (B,) int64, its own when it has none; own share (B,) float64."""
    return np.where(rows["partner"] < 0, np.arange(len(rows)), rows["partner"]), own_share(rows)


def mix_targets(rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Labels of mixed clips: own share * own label + rest * partner's label.

    Args:
        rows: (B,) BLEND.
        targets: (B, K) float, of the clips before they are mixed; one label or several for each clip.

    Returns:
        (B, K) float32.
    """
    partner, own = partners_of(rows)
    own = own[:, None]
    return (own * targets + (1 - own) * targets[partner]).astype(np.float32)


def describe_blend(row: Any) -> list[str]:
    """What a row of BLEND does, as lines of text."""
    if is_neutral(row[None])[0]:
        return ["unchanged"]

    def ends(name):
        first, last = row[name].reshape(-1)[[0, -1]].tolist()
        return f"{first:.4g}" if first == last else f"{first:.4g} to {last:.4g}"

    box = []
    for word, low, high, length in (
        ("frames", "first", "last", row["frames"]),
        ("rows", "top", "bottom", row["height"]),
        ("columns", "left", "right", row["width"]),
    ):
        if row[low].any() or (row[high] != length).any():
            box.append(f"{word} [{ends(low)}, {ends(high)})")
    if row["partner"] < 0:
        what = f"colour {', '.join(f'{v:.4g}' for v in row['color'])}"
        what += f", noise +- {', '.join(f'{v:.4g}' for v in row['spread'])}" if row["spread"].any() else ""
    else:
        what = f"clip {row['partner']} of the batch, own share {own_share(row[None])[0]:.4g}"
    if not box or (row["inside"] == row["outside"]).all():
        return [what, f"weight {ends('outside' if box else 'inside')}"]
    around = f", {ends('outside')} around it" if row["outside"].any() else ""
    return [what, f"weight {ends('inside')} in {', '.join(box)}{around}"]


# Methods


def run(self: object, clips: Sequence[Any], rows: Any, num_threads: int | None = None) -> list[Any]:
    """``blend``."""
    return blend(clips, rows, num_threads)


def check(self: object, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> None:
    """Refuse arguments, such as those of an edited plan, that are not for clips of these sizes."""
    _check_sizes(args, np.stack([frames, height, width], 1))
    for name in ("inside", "outside"):
        if not ((args[name] >= 0) & (args[name] <= 1)).all():
            raise ValueError(f"blend: {name} must be in [0, 1], got {args[name].min()} to {args[name].max()}")
    if not (np.isfinite(args["color"]).all() and np.isfinite(args["spread"]).all()):
        raise ValueError("blend: color and spread must be finite")


def targets(self: object, args: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(B, K) float32: the labels of the mixed clips, from those before."""
    return mix_targets(args, targets)


def mixed_with(self: object, args: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each clip its partner, (B,) int64, and its own share, (B,) float64."""
    return partners_of(args)


def partner_share(self: object, args: np.ndarray, clip: np.ndarray, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(N,) float64: which share of each box (N, 4) in frame ``frame`` of clip ``clip`` shows the partner."""
    return overlay_share(args[clip], frame, boxes)


def describe(self: object, row: Any) -> list[str]:
    """A row as lines of text."""
    return describe_blend(row)


def applied(self: object, args: np.ndarray) -> np.ndarray:
    """(B,) bool: the clip is changed."""
    return ~is_neutral(args)
