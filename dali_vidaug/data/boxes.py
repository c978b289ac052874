"""Boxes of a manifest's rows: the column that holds them, and those in the frames of clips.

The column has a list for each row: its boxes at key frames, ordered by track, label and frame. A box is in the frames
[frame, end). It stands still or, if it ``moves``, each corner goes linearly to that of the next box of the list, which
is of the same track and label and begins at ``end``; that one may be in no frame. Null: the row has not been
annotated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from dali_vidaug.boxes import Boxes, no_boxes
from dali_vidaug.data.schema import BOXES

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from dali_vidaug.data.manifest import Manifest

_ROWS_TOGETHER = 1 << 16  # in a piece of the column that is built; a piece has less than 2**31 boxes


class KeyBoxes(NamedTuple):
    """Boxes of a video at its key frames, ordered as in the column: arrays (K,), with the fields of ``BOXES``."""

    frame: np.ndarray
    end: np.ndarray
    x1: np.ndarray
    y1: np.ndarray
    x2: np.ndarray
    y2: np.ndarray
    label: np.ndarray
    track: np.ndarray
    moves: np.ndarray

    def rows(self, chosen: np.ndarray | slice) -> KeyBoxes:
        """Some of them."""
        return KeyBoxes(*(column[chosen] for column in self))

    def between(self, first: int, last: int) -> KeyBoxes:
        """Those that the frames [first, last) need."""
        shown = np.flatnonzero((self.frame < last) & (self.end > np.maximum(self.frame, first)))
        return self.rows(np.union1d(shown, shown[self.moves[shown] > 0] + 1))


class BoxColumn:
    """The boxes of each row of a manifest: views of the column's memory, of which only that row is read."""

    def __init__(self, column: pa.ChunkedArray):
        self._pieces = column.chunks
        self._firsts = np.cumsum([0, *(len(piece) for piece in self._pieces)])
        self._arrays: dict[int, tuple[np.ndarray, KeyBoxes]] = {}

    def __getitem__(self, row: int) -> KeyBoxes:
        number = int(np.searchsorted(self._firsts, row, "right")) - 1
        piece, at = self._pieces[number], row - int(self._firsts[number])
        if number not in self._arrays:
            boxes = KeyBoxes(*(piece.values.field(name).to_numpy() for name in KeyBoxes._fields))
            self._arrays[number] = piece.offsets.to_numpy(), boxes
        offsets, boxes = self._arrays[number]
        first, last = offsets[at : at + 2].tolist()
        return boxes.rows(slice(first, last if piece[at].is_valid else first))


def boxes_at(manifest: Manifest, samples: ArrayLike, frames: ArrayLike) -> Boxes:
    """The boxes in the frames of clips before any op: in pixels of the whole frame as it is shown, with weight 1.

    A position between two frames has the boxes of tracks that both have, where they are at that time, and those that
    stand still in both.

    Args:
        manifest: has the samples.
        samples: (B,) int, its rows.
        frames: (B, F) int or float, positions in the samples' files, as in ``Plan.frames``.

    Returns:
        Ordered by clip, frame, track and label. Not one if the manifest has no boxes.
    """
    rows, positions = np.asarray(samples, np.int64).tolist(), np.asarray(frames, np.float64)
    if manifest.boxes is None or not positions.size:
        return no_boxes()
    parts = [_in_clip(manifest.boxes[row], of_clip) for row, of_clip in zip(rows, positions, strict=True)]
    clip = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    frame, xyxy, label, track = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Boxes(clip, frame, xyxy, label, track, np.ones(len(clip), np.float32))


def _in_clip(boxes: KeyBoxes, positions: np.ndarray) -> tuple[np.ndarray, ...]:
    """frame, xyxy, label and track of a clip's boxes, as ``Boxes`` has them; ``positions`` (F,) float64."""
    order = np.argsort(positions, kind="stable")
    times = positions[order]
    near = np.flatnonzero((boxes.frame <= times[-1]) & (boxes.end > times[0]))
    low = np.searchsorted(times, boxes.frame[near])
    seen = times[low] < boxes.end[near]
    near, low = near[seen], low[seen]
    moves = boxes.moves[near] > 0
    frame, end, label, track = (column[near] for column in (boxes.frame, boxes.end, boxes.label, boxes.track))
    on = moves & (boxes.end[near + moves] > end)  # to a box that is in frame ``end``
    high = np.where(on, np.searchsorted(times, end), np.searchsorted(times, end - 1, "right"))
    counts = high - low  # positions in which each box is: times[low:high]
    key = np.repeat(np.arange(len(near)), counts)
    place = np.arange(len(key)) + (low + counts - np.cumsum(counts))[key]
    share = np.where(moves[key], (times[place] - frame[key]) / (end - frame)[key], 0.0)
    here, there = (np.stack([side[rows] for side in boxes[2:6]], 1).astype(np.float64) for rows in (near, near + moves))
    xyxy = here[key] + share[:, None] * (there - here)[key]
    frames = order[place]
    by_frame = np.argsort(frames, kind="stable")
    key = key[by_frame]
    return frames[by_frame], xyxy[by_frame].astype(np.float32), label[key].astype(np.int64), track[key]


def pack(rows: Sequence[KeyBoxes | None]) -> pa.ChunkedArray:
    """The column: the boxes of each row, or None for null."""
    fields = list(BOXES.type.value_type)
    none = KeyBoxes(*(np.zeros(0, field.type.to_pandas_dtype()) for field in fields))
    pieces = []
    for first in range(0, len(rows), _ROWS_TOGETHER):
        some = [none if row is None else row for row in rows[first : first + _ROWS_TOGETHER]]
        columns = [
            pa.array(np.concatenate(parts), field.type)
            for parts, field in zip(zip(*some, strict=True), fields, strict=True)
        ]
        ends = np.cumsum([0, *(len(row.frame) for row in some)])
        unknown = np.array([row is None for row in rows[first : first + _ROWS_TOGETHER]])
        pieces.append(
            pa.ListArray.from_arrays(
                pa.array(ends, pa.int32()), pa.StructArray.from_arrays(columns, fields=fields), BOXES.type,
                mask=pa.array(unknown),
            )
        )  # fmt: skip
    return pa.chunked_array(pieces, BOXES.type)
