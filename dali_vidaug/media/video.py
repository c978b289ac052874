"""What a decoder must know of a video, and when its frames are shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.device.nvdec import Format
from dali_vidaug.media.index import Index
from dali_vidaug.media.objects import Stat
from dali_vidaug.media.orientation import is_transposed
from dali_vidaug.media.storage import Place, Source, open_bytes
from dali_vidaug.urls import is_url

IMAGES = "images"  # in place of a codec: the path is a folder, whose images are the frames


class Video(NamedTuple):
    """One row of a manifest, as the decoder needs it. Fields as in ``data.schema.SCHEMA``; paths are complete."""

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
    regular: bool | None  # None: only its header was read, see media/claims.py
    bytes: int | None = None  # size and time of change when it was scanned; None: not compared
    mtime_ns: int | None = None
    content_digest: int | None = None  # of its bytes at some places, see media/unchanged.py
    packet_index: Index | None = None  # of its packets; None: the container is opened
    colorspace: int | None = None  # matrix coefficients of its frames; None: not known
    shard: str | None = None  # the tar file that holds it, from byte ``shard_offset`` on; None: it is a file itself
    shard_offset: int | None = None
    etag: str | None = None  # what the server called the object when it was scanned; None: not compared
    source: Source | None = None  # its bytes, where they are open already

    @property
    def place(self) -> Place:
        """Where its bytes are."""
        if self.shard is None or self.shard_offset is None:
            return Place(self.path)
        return Place(self.shard, self.shard_offset, self.bytes, self.path)

    @property
    def shown_size(self) -> tuple[int, int]:
        """(height, width) of its frames as shown."""
        return (self.width, self.height) if is_transposed(self.orientation) else (self.height, self.width)

    @property
    def format(self) -> Format:
        """What a decoder must accept to decode it."""
        return Format(self.codec, self.pixel_format, self.width, self.height)


@contextmanager
def bytes_of(video: Video) -> Iterator[Source]:
    """The bytes of a video, opened if they are not open yet: a context manager that gives their ``Source``.

    Raises:
        OSError: they cannot be opened.
    """
    if video.source is not None:
        yield video.source
        return
    place, stat = video.place, None
    if is_url(place.path) and video.bytes is not None:
        stat = Stat(-1 if video.shard is not None else video.bytes, video.etag)
    with open_bytes(place, stat=stat, by_blocks=video.packet_index is None) as source:
        yield source


def frame_index(video: Video, pts: int | None) -> int:
    """The index of the frame shown at ``pts``, -1 if there is none."""
    if pts is None:
        return -1
    if video.pts is not None:
        at = int(np.searchsorted(video.pts, pts))
        return at if at < len(video.pts) and video.pts[at] == pts else -1
    if video.pts_first is None or video.pts_step is None:
        return -1
    position = (pts - video.pts_first) / video.pts_step
    at = round(position)
    return at if 0 <= at < video.num_frames and abs(position - at) <= 0.25 else -1


def frame_indices(video: Video, pts: np.ndarray) -> np.ndarray:
    """As ``frame_index``, for many time stamps: (P,) int64. The video is not counted."""
    if video.pts is not None:
        at = np.searchsorted(video.pts, pts).clip(max=len(video.pts) - 1)
        return np.where(video.pts[at] == pts, at, -1)
    positions = (pts - video.pts_first) / video.pts_step
    at = np.rint(positions).astype(np.int64)
    return np.where((at >= 0) & (at < video.num_frames) & (np.abs(positions - at) <= 0.25), at, -1)


def frame_pts(video: Video, index: int) -> int:
    """When a frame is shown: the time stamp of its packet or, on a regular grid, one within a quarter of a step."""
    return int(video.pts[index]) if video.pts is not None else round(video.pts_first + index * video.pts_step)  # type: ignore


def is_counted(video: Video) -> bool:
    """Whether the file's time stamps are useless, so that frames are found by counting from the start."""
    return video.pts is None and video.pts_step is None


def frame_times(row: Mapping[str, Any]) -> np.ndarray:
    """When each frame is shown: (num_frames,) float64, seconds after the first frame; NaN where that is not known.

    Args:
        row: the columns ``num_frames``, ``fps``, ``time_base``, ``pts_step`` and ``pts`` of a manifest. Images without
            a frame rate have numbers in place of time stamps, and no time base.
    """
    if row["pts"] is not None:
        pts = np.asarray(row["pts"], np.float64)
        return (pts - pts[0]) * row["time_base"]
    if row["pts_step"] is not None and row["time_base"] is not None:
        return np.arange(row["num_frames"]) * (row["pts_step"] * row["time_base"])
    return np.arange(row["num_frames"]) / (row["fps"] or np.nan)


def shown_for(times: np.ndarray, fps: float | None) -> np.ndarray:
    """How long each frame is shown: (F,) seconds. The last one is shown as long as the one before.

    Args:
        times: (F,) seconds, of ``frame_times``.
        fps: frames per second, or None.
    """
    if len(times) == 1:
        return np.array([1 / fps if fps else 0.0])
    shown = np.diff(times)
    return np.append(shown, shown[-1])
