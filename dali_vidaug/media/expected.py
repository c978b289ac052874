"""What DALI should make of a clip: its frames by PyAV, and some of the frames beside them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dali_vidaug.differences import compared_rows
from dali_vidaug.errors import one_line
from dali_vidaug.media.cut import READ_ERRORS
from dali_vidaug.media.decode import decode
from dali_vidaug.media.remux import Remuxed
from dali_vidaug.media.video import Video, is_counted

_TAIL = 1 << 16  # bytes at the end of a small file, where an MP4 file says how it is coded
_PROFILES = {  # the box that says it, the byte in it, and which bits of that
    "h264": (b"avcC", 1, 0xFF), "hevc": (b"hvcC", 1, 0x1F), "vp9": (b"vpcC", 4, 0xFF), "av1": (b"av1C", 1, 0xE0),
}  # fmt: skip


class Expected(NamedTuple):
    """Frames by PyAV.

    Attributes:
        indices: (E,) int64, rising: those of the clip, and some beside them.
        pixels: (E, h, W, 3) uint8, as shown: the rows ``rows`` of each.
        size: (H, W) of whole frames.
        rows: (h,) int, which rows of a frame these are.
        problem: why there are none, or None.
    """

    indices: np.ndarray
    pixels: np.ndarray
    size: tuple[int, int]
    rows: np.ndarray
    problem: str | None = None


def expect(video: Video, frames: np.ndarray, colors: np.ndarray, part: float = 1.0) -> Expected:
    """Decode frames of a clip that DALI decodes, too.

    Args:
        video: its row of the manifest.
        frames: (F,) int, their indices.
        colors: (3, 3), what the graph multiplies RGB values by.
        part: of the frames, in (0, 1]: only so many of the first ones, two at least.
    """
    wanted = np.unique(frames).astype(np.int64)
    wanted = wanted[: max(2, round(part * len(wanted)))]
    indices = np.union1d(wanted, _beside(wanted, video.num_frames))
    rows = compared_rows(*video.shown_size, int(wanted[0]))
    size = video.shown_size
    try:
        whole = decode(video, indices).pixels
    except READ_ERRORS as error:
        return Expected(indices, np.empty((0, 0, 0, 3), np.uint8), size, rows, one_line(error))
    pixels = whole[:, rows]
    if (colors != np.eye(3)).any():
        pixels = np.rint(pixels @ np.float32(colors).T).clip(0, 255).astype(np.uint8)
    return Expected(indices, np.ascontiguousarray(pixels), size, rows)


def _beside(wanted, num_frames):
    """Frames beside some of the wanted ones, within the clip: of its first, middle and last ones."""
    count = len(wanted)
    if count == 1:
        beside = wanted + np.array([-1, 1])
        return beside[(beside >= 0) & (beside < num_frames)]
    return np.append(wanted[[0, (count - 1) // 2, count - 2]] + 1, wanted[[1, count // 2, count - 1]] - 1)


def coding_of(video: Video, file: Remuxed) -> str:
    """How a small file is coded, in a few words: clips of the same words go the same way through a decoder.

    Codec, profile, pixel format, size, and how the order of the frames is found: how late they are shown, or that they
    are counted because the original has no usable time stamps.
    """
    name, place, mask = _PROFILES.get(video.codec, (b"", 0, 0))
    tail = file.data[-_TAIL:].tobytes()
    at = tail.rfind(name) + len(name) + place if name and name in tail else len(tail)
    profile = f" profile {tail[at] & mask}" if at < len(tail) else ""
    order = "counted frames" if is_counted(video) else f"frames up to {file.delay} late"
    order = order if file.delay or is_counted(video) else "frames in order"
    return f"{video.codec}{profile} {video.pixel_format} {video.width}x{video.height}, {order}"
