"""Videos whose frames show their own numbers: decoding one tells which frames came out."""

from __future__ import annotations

import os
from typing import Any

import av
import numpy as np

from dali_vidaug.media.encode import write_video

BLOCK, BITS = 16, 10
# Options of ``write_video`` for each codec: a key frame every 24 frames, B-frames where the codec has them. VP9 and AV1
# once without hidden pictures, and once as most files are: with pictures that others refer to but that are not shown.
ENCODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "h264": ("h264.mp4", dict(codec="libx264", options={"g": "24", "bf": "2", "crf": "20"})),
    "hevc": ("hevc.mp4", dict(codec="libx265", options={"x265-params": "keyint=24:bframes=2:log-level=none"})),
    "vp8": ("vp8.webm", dict(codec="libvpx", options={"g": "24", "b": "2M", "auto-alt-ref": "0", "cpu-used": "8"})),
    "vp9": (
        "vp9.webm",
        dict(codec="libvpx-vp9", options={"g": "24", "b": "2M", "auto-alt-ref": "0", "lag-in-frames": "0",
                                          "deadline": "realtime", "cpu-used": "8"}),
    ),
    "av1": (
        "av1.mp4",
        dict(codec="libsvtav1", options={"g": "24", "preset": "12", "svtav1-params": "lp=1:pred-struct=1"}),
    ),
    "mpeg4": ("mpeg4.avi", dict(codec="mpeg4", options={"g": "24", "bf": "2", "b": "2M"})),
    "mjpeg": ("mjpeg.avi", dict(codec="mjpeg", options={"q:v": "3"}, pixel_format="yuvj420p")),
    "vp9, hidden pictures": (
        "vp9_hidden.webm",
        dict(codec="libvpx-vp9", options={"g": "24", "b": "2M", "auto-alt-ref": "1", "lag-in-frames": "25",
                                          "deadline": "realtime", "cpu-used": "6"}),
    ),
    "av1, hidden pictures": (
        "av1_hidden.mp4",
        dict(codec="libsvtav1", options={"g": "24", "preset": "12", "svtav1-params": "lp=1"}),
    ),
}  # fmt: skip


def numbered_frame(index: int, height: int, width: int, detail: float = 0.0) -> np.ndarray:
    """A frame that shows its own number: ten black or white blocks in the top row, over a moving background.

    Args:
        index: the number, [0, 1024).
        height, width: of the frame; at least 16 and 160.
        detail: amplitude of a fine moving pattern, without colour.

    Returns:
        (height, width, 3) uint8.
    """
    rows, columns = np.mgrid[:height, :width]
    ground = 100 + 60 * np.sin((columns + 3 * index) / 9) * np.sin(rows / 7)
    fine = detail * np.sin((columns - 2 * index) / 1.7) * np.sin(rows / 2.3)
    frame = np.stack([ground, ground * 0.8, 255 - ground], -1) + fine[..., None]
    frame = frame.clip(0, 255).astype(np.uint8)
    for bit in range(BITS):
        frame[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (index >> bit & 1)
    return frame


def read_number(frame: np.ndarray) -> int:
    """The number that a numbered frame shows, (H, W, 3), at its original size."""
    blocks = frame[4 : BLOCK - 4, : BITS * BLOCK].reshape(BLOCK - 8, BITS, BLOCK, 3)[:, :, 4 : BLOCK - 4]
    bits = blocks.mean((0, 2, 3)) > 128
    return int((bits << np.arange(BITS)).sum())


def has_encoder(encoding: str) -> bool:
    """Whether this PyAV can write one of ``ENCODINGS``."""
    try:
        av.codec.Codec(ENCODINGS[encoding][1]["codec"], "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def write_encoding(
    path: str | os.PathLike[str], encoding: str, num_frames: int, height: int, width: int, first: int = 0
) -> None:
    """Write a video of numbered frames in one of ``ENCODINGS``; its first frame shows the number ``first``."""
    os.environ.setdefault("SVT_LOG", "1")  # otherwise SVT-AV1 prints its settings
    frames = (numbered_frame(first + i, height, width, detail=25.0) for i in range(num_frames))
    write_video(path, frames, **ENCODINGS[encoding][1])
