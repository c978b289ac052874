"""Boxes around what is in the frames of clips."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

_ROUNDING = 1e-3  # pixels by which a box may leave its frame: of float32


class Boxes(NamedTuple):
    """Boxes of a batch, a row for each box in each frame; clips may have any number of them, also none.

    Rows are ordered by clip, then by frame. NumPy arrays on the way; tensors, on the device of the clips, in a batch.

    Attributes:
        clip: (N,) int64, position of the clip in the batch.
        frame: (N,) int64, position of the frame in the clip.
        xyxy: (N, 4) float32, x1, y1, x2, y2 in pixels of the frame, half open: a box covers [x1, x2) x [y1, y2).
        label: (N,) int64, index of the box's class, -1 for none. For ``augment`` it may be None: no box has one.
        track: (N,) int64, the same for the same thing in all frames of a video, -1 for none. The same holds for None.
        weight: (N,) float32, (0, 1]: which share of the box shows this clip after mixing. None: 1.
    """

    clip: Any
    frame: Any
    xyxy: Any
    label: Any = None
    track: Any = None
    weight: Any = None

    def rows(self, chosen: Any) -> Boxes:
        """Some of the rows: a mask (N,) bool, integers, or a slice."""
        return Boxes(*(None if column is None else column[chosen] for column in self))

    def of_clip(self, i: int) -> Boxes:
        """The boxes of clip ``i`` of the batch."""
        return self.rows(self.clip == i)


@dataclass(frozen=True)
class BoxRules:
    """Which boxes stay in a batch: those of which enough is in the frame after all ops.

    ``min_size`` and ``min_area`` are those of torchvision's SanitizeBoundingBoxes, defaults included. A box of which
    nothing is in the frame is always dropped.

    Attributes:
        min_visible: least share of the box, as annotated, that no op has moved out of the frame, [0, 1]. What is erased
            or covered by another clip counts as visible.
        min_size: least width and least height in the clip, in pixels, >= 0.
        min_area: least area in the clip, in pixels, >= 0.
        min_weight: least weight, [0, 1]: share of the box that shows its clip after mixing.

    Raises:
        ValueError: an option is out of range.
    """

    min_visible: float = 0.0
    min_size: float = 1.0
    min_area: float = 1.0
    min_weight: float = 0.0

    def __post_init__(self):
        for name in ("min_visible", "min_size", "min_area", "min_weight"):
            value, highest = getattr(self, name), 1 if name in ("min_visible", "min_weight") else math.inf
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number and 0 <= value <= highest and math.isfinite(value)):
                limits = ">= 0" if highest == math.inf else f"in [0, {highest}]"
                raise ValueError(f"BoxRules: {name} must be a number {limits}, got {value!r}")


def no_boxes() -> Boxes:
    """Not one."""
    whole, real = np.zeros(0, np.int64), np.zeros(0, np.float32)
    return Boxes(whole, whole, np.zeros((0, 4), np.float32), whole, whole, real)


def check_boxes(caller: str, boxes: Any, sizes: np.ndarray) -> Boxes:
    """Boxes that a user gave, with all columns, in order.

    Args:
        caller: named in errors.
        boxes: a ``Boxes`` of NumPy arrays or lists; ``label``, ``track`` and ``weight`` may be None.
        sizes: (B, 3) int, frames, height and width of the clips.

    Returns:
        As documented in ``Boxes``, of NumPy arrays.

    Raises:
        ValueError: a column is of another kind or length than documented; a box is of a clip or a frame that is not
            there, leaves its frame, is not finite or ends before it begins; or a track has two boxes in one frame.
    """
    if not isinstance(boxes, Boxes):
        raise ValueError(f"{caller}: boxes must be dv.Boxes(clip, frame, xyxy, ...), got {type(boxes).__name__}")
    size = len(boxes.clip) if np.ndim(boxes.clip) else -1
    given = boxes._replace(
        label=np.full(max(size, 0), -1) if boxes.label is None else boxes.label,
        track=np.full(max(size, 0), -1) if boxes.track is None else boxes.track,
        weight=np.ones(max(size, 0)) if boxes.weight is None else boxes.weight,
    )
    columns = {name: _column(caller, name, column, size) for name, column in given._asdict().items()}
    ordered = Boxes(**columns)
    ordered = ordered.rows(np.lexsort([ordered.frame, ordered.clip]))
    _check_values(caller, Boxes(**columns), np.asarray(sizes, np.int64))
    _check_tracks(caller, ordered)
    return ordered


def _column(caller, name, column, size):
    """A column of a ``Boxes`` as an array of its dtype."""
    shape = (size, 4) if name == "xyxy" else (size,)
    real = name in ("xyxy", "weight")
    kinds, what = ("iuf", "numbers") if real else ("iu", "integers")
    dtype = np.dtype(np.float32 if real else np.int64)
    try:
        array = np.asarray(column)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{caller}: boxes.{name} must be {shape} {what}: {error}") from error
    if size == 0 and not array.size:
        return np.zeros(shape, dtype)
    if array.shape != shape or array.dtype.kind not in kinds:
        wanted = str(shape).replace("-1", "N")
        raise ValueError(f"{caller}: boxes.{name} must be {wanted} {what}, got {array.shape} {array.dtype}")
    return array.astype(dtype)


def _check_values(caller, boxes, sizes):
    """Boxes are of frames that are there, and inside them."""

    def refuse(good, what):
        if not good.all():
            i = int(good.argmin())
            raise ValueError(f"{caller}: boxes: row {i} {what(i)}")

    refuse((boxes.clip >= 0) & (boxes.clip < len(sizes)),
           lambda i: f"has clip {boxes.clip[i]}; there are {len(sizes)}, counted from 0")  # fmt: skip
    frames, height, width = sizes[boxes.clip].T
    refuse((boxes.frame >= 0) & (boxes.frame < frames),
           lambda i: f"has frame {boxes.frame[i]}; clip {boxes.clip[i]} has {frames[i]}, counted from 0")  # fmt: skip
    refuse(np.isfinite(boxes.xyxy).all(1), lambda i: f"must be finite, got {boxes.xyxy[i].tolist()}")
    x1, y1, x2, y2 = boxes.xyxy.T
    refuse((x1 <= x2) & (y1 <= y2),
           lambda i: f"must be x1, y1, x2, y2 with x1 <= x2 and y1 <= y2, got {boxes.xyxy[i].tolist()}")  # fmt: skip
    low, (right, bottom) = -_ROUNDING, (width + _ROUNDING, height + _ROUNDING)
    refuse((x1 >= low) & (y1 >= low) & (x2 <= right) & (y2 <= bottom),
           lambda i: f"leaves the {height[i]}x{width[i]} frames (height x width) of clip {boxes.clip[i]}: got "
                     f"{boxes.xyxy[i].tolist()}; geometry.clip_boxes cuts boxes off at the edges")  # fmt: skip
    refuse((boxes.label >= -1) & (boxes.track >= -1),
           lambda i: f"must have a label and a track >= -1, got {boxes.label[i]} and {boxes.track[i]}")  # fmt: skip
    refuse((boxes.weight > 0) & (boxes.weight <= 1), lambda i: f"must have a weight in (0, 1], got {boxes.weight[i]}")


def _check_tracks(caller, boxes):
    """No two boxes of a frame have the same track and label: between frames it could not be told which is which."""
    tracked = boxes.rows(boxes.track >= 0)
    found, count = np.unique(np.stack([*tracked[:2], tracked.track, tracked.label], 1), axis=0, return_counts=True)
    if (count > 1).any():
        clip, frame, track, label = found[count.argmax()].tolist()
        raise ValueError(
            f"{caller}: boxes: track {track} (label {label}) has {count.max()} boxes in frame {frame} of clip {clip}; "
            "different things have different tracks, or -1"
        )


def at_positions(boxes: Boxes, frames: np.ndarray) -> Boxes:
    """The boxes of clips whose frames are taken in another order, or between two frames.

    Between two frames, a box that both have (the same track and label) lies evenly between its places in them. Another
    one is that of the nearer frame, of the later one in the middle.

    Args:
        boxes: of NumPy arrays, ordered, of the clips before.
        frames: (B, F), for each frame of the clips its position in the clip before; int, or float.

    Returns:
        The boxes of the clips after, ordered.
    """
    shape, positions = frames.shape, frames.reshape(-1)
    before = np.floor(positions).astype(np.int64)
    share = positions - before
    place, row = _rows_of(boxes, shape, before)
    taken = boxes.rows(row)
    if not share.any():
        return taken._replace(clip=place // shape[1], frame=place % shape[1])
    later_place, later_row = _rows_of(boxes, shape, np.ceil(positions).astype(np.int64))
    later = boxes.rows(later_row)
    thing = np.unique(np.stack([boxes.track, boxes.label], 1), axis=0, return_inverse=True)[1].reshape(-1)
    keys, later_keys = (at * len(boxes.clip) + thing[of] for at, of in ((place, row), (later_place, later_row)))
    _, mine, others = np.intersect1d(
        np.where(taken.track >= 0, keys, -1), np.where(later.track >= 0, later_keys, -2), return_indices=True
    )
    xyxy = taken.xyxy.copy()
    xyxy[mine] += share[place[mine]].astype(np.float32)[:, None] * (later.xyxy[others] - taken.xyxy[mine])
    keep, keep_later = share[place] < 0.5, share[later_place] >= 0.5
    keep[mine], keep_later[others] = True, False
    both = (taken._replace(xyxy=xyxy).rows(keep), later.rows(keep_later))
    places = np.concatenate([place[keep], later_place[keep_later]])
    order = np.argsort(places, kind="stable")
    joined = Boxes(*(np.concatenate(columns)[order] for columns in zip(*both, strict=True)))
    return joined._replace(clip=places[order] // shape[1], frame=places[order] % shape[1])


def _rows_of(boxes, shape, frame):
    """The rows of the frames ``frame`` (B * F,) of the clips, and for each the place in (B * F,) of its frame."""
    length = max(int(frame.max(initial=0)), int(boxes.frame.max(initial=0))) + 1
    keys, wanted = boxes.clip * length + boxes.frame, np.arange(len(frame)) // shape[1] * length + frame
    return equal_rows(keys, wanted)


def equal_rows(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where keys (N,), rising, are equal to numbers that are wanted, (M,), of which several may be the same.

    Returns:
        (P,) positions in ``wanted``, rising, and (P,) positions in ``keys``: all pairs that are equal.
    """
    first, last = (np.searchsorted(keys, wanted, side) for side in ("left", "right"))
    place = np.repeat(np.arange(len(wanted)), last - first)
    return place, np.arange(len(place)) - np.repeat(np.cumsum(last - first) - last, last - first)
