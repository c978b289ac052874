"""Write videos: for the demo, the checks and the tests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import av
import numpy as np


@contextmanager
def as_before() -> Iterator[None]:
    """Leave this thread's priority as it was: SVT-AV1 makes its caller a real-time thread if it runs as root."""
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, priority)


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    fps: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
) -> None:
    """Encode (H, W, 3) uint8 frames; by default H.264 with a key frame every 24 frames and two B-frames in a row.

    Args:
        path: its extension chooses the container.
        frames: at least one, all of one size.
        fps: frames per second.
        codec, options: FFmpeg's encoder, and options for it.
        pixel_format: FFmpeg's name.
    """
    options = {"g": "24", "bf": "2", "crf": "20"} if options is None else options
    with as_before(), av.open(str(path), "w") as container:
        stream: Any = None
        for frame in frames:
            if stream is None:
                height, width = frame.shape[:2]
                stream = container.add_stream(codec, rate=fps, width=width, height=height, options=options)
                stream.pix_fmt = pixel_format
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
