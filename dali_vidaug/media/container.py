"""Opens the containers of videos with PyAV, and reads their packets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import av.logging

# Before version 19, PyAV refuses files with tags that are not UTF-8, unless it gets this option; 19 does not have it.
ANY_TAGS: dict[str, Any] = {"metadata_errors": "ignore"} if hasattr(av.container.Container, "metadata_errors") else {}

av.logging.set_level(av.logging.PANIC)  # errors are exceptions here; FFmpeg's own lines name neither file nor frame


@contextmanager
def open_video(file: Any, stream_index: int | None = None, looked_at: int | None = None) -> Iterator[tuple[Any, Any]]:
    """Open a file: a context manager that gives (container, video stream).

    Args:
        file: a path, or a binary file object that can seek: see ``Source.as_file``.
        stream_index: which stream of the file; default: the one that FFmpeg would play.
        looked_at: bytes of packets that FFmpeg may look at to tell what streams are; default: its own 5 MB.

    Raises:
        av.error.FFmpegError, OSError: the file cannot be opened.
        ValueError: it has no video, or no such stream.
    """
    file = os.fspath(file) if isinstance(file, os.PathLike) else file
    options = {} if looked_at is None else {"probesize": str(looked_at)}
    with av.open(file, container_options=options, **ANY_TAGS) as container:
        stream = container.streams.best("video") if stream_index is None else _stream(container, stream_index)
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            kinds = sorted({_kind(other) for other in container.streams})
            raise ValueError(f"no video stream, only {', '.join(kinds) or 'nothing'}")
        if stream.codec_context is None:
            raise ValueError("no decoder for its codec")
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "NONE"  # clips are decoded in parallel, each by one thread
        yield container, stream


def _stream(container, index):
    """Stream ``index`` of a file, which must be of video."""
    if not (index < len(container.streams) and container.streams[index].type == "video"):
        raise ValueError(f"stream {index} is not a video stream; there are {len(container.streams)} streams")
    return container.streams[index]


def _kind(stream):
    """What a stream is; a cover picture is a video stream for FFmpeg."""
    cover = stream.type == "video" and stream.disposition & av.stream.Disposition.attached_pic
    return "a cover picture" if cover else stream.type


def video_streams(container: Any) -> list[int]:
    """The indices of the video streams of a file, cover pictures left out."""
    return [s.index for s in container.streams if _kind(s) == "video"]


def read_packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream up to its end, without the empty ones.

    Raises:
        av.error.FFmpegError: the file cannot be read.
        ValueError: PyAV fails on it.
    """
    packets, at_end = container.demux(stream), False
    while True:
        try:
            packet = next(packets, None)
        except IndexError as error:
            # Before version 19, PyAV raises this after the end of a file in which a stream, such as late sound, began
            # after the file was opened. The end is marked by an empty packet.
            if at_end:
                return
            raise ValueError("PyAV fails on its streams; PyAV 19 may read it") from error
        if packet is None:
            return
        at_end = not packet.size
        if packet.size:
            yield packet
