"""Boxes around what is in the frames of clips."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Boxes(NamedTuple):
    """Boxes of a batch, a row for each box in each frame; clips may have any number of them, also none.

    Rows are ordered by clip, then by frame. NumPy arrays on the way; tensors, on the device of the clips, in a batch.

    Attributes:
        clip: (N,) int64, position of the clip in the batch.
        frame: (N,) int64, position of the frame in the clip.
        xyxy: (N, 4) float32, x1, y1, x2, y2 in pixels of the frame, half open: a box covers [x1, x2) x [y1, y2).
        label: (N,) int64, index of the box's class, -1 for none.
        track: (N,) int64, the same for the same thing in all frames of a video, -1 for none.
        weight: (N,) float32, (0, 1]: which share of the box shows this clip after mixing.
    """

    clip: Any
    frame: Any
    xyxy: Any
    label: Any
    track: Any
    weight: Any

    def rows(self, chosen: Any) -> Boxes:
        """Some of the rows: a mask (N,) bool, integers, or a slice."""
        return Boxes(*(column[chosen] for column in self))

    def of_clip(self, i: int) -> Boxes:
        """The boxes of clip ``i`` of the batch."""
        return self.rows(self.clip == i)


def no_boxes() -> Boxes:
    """Not one."""
    whole, real = np.zeros(0, np.int64), np.zeros(0, np.float32)
    return Boxes(whole, whole, np.zeros((0, 4), np.float32), whole, whole, real)
