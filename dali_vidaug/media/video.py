"""What a decoder must know of a video, and when its frames are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.device.nvdec import Format
from dali_vidaug.media.orientation import is_transposed


class Video(NamedTuple):
    """One row of a manifest, as the decoder needs it. Fields as in ``data.manifest.SCHEMA``; ``path`` is complete."""

    path: str
    stream: int
    num_frames: int
    width: int
    height: int
    orientation: int
    codec: str
    pixel_format: str
    keyframes: np.ndarray
    pts_first: int | None
    pts_step: float | None
    pts: np.ndarray | None
    regular: bool

    @property
    def shown_size(self) -> tuple[int, int]:
        """(height, width) of its frames as shown."""
        return (self.width, self.height) if is_transposed(self.orientation) else (self.height, self.width)

    @property
    def format(self) -> Format:
        """What a decoder must accept to decode it."""
        return Format(self.codec, self.pixel_format, self.width, self.height)


def frame_times(row: Mapping[str, Any]) -> np.ndarray:
    """When each frame is shown: (num_frames,) float64, seconds after the first frame; NaN where that is not known.

    Args:
        row: the columns ``num_frames``, ``fps``, ``time_base``, ``pts_step`` and ``pts`` of a manifest.
    """
    if row["pts"] is not None:
        pts = np.asarray(row["pts"], np.float64)
        return (pts - pts[0]) * row["time_base"]
    if row["pts_step"] is not None:
        return np.arange(row["num_frames"]) * (row["pts_step"] * row["time_base"])
    return np.arange(row["num_frames"]) / (row["fps"] or np.nan)
