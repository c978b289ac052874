"""The oracle of the tests of dirty files: every frame of a file, as PyAV alone gives it from the first packet.

Nothing of the package is used here, and nothing seeks. A packet that cannot be decoded is skipped, as the ffmpeg
program does, and the track is the one that FFmpeg takes for the best. Frame i is the i-th frame that comes out.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.filter
import av.logging
import numpy as np

ANY_TAGS: dict[str, Any] = {"metadata_errors": "ignore"} if hasattr(av.container.Container, "metadata_errors") else {}
UNIT = 65536  # 1 in a display matrix, which is 16.16 fixed-point


class Full(NamedTuple):
    """A whole video.

    Attributes:
        frames: RGB as stored, (H, W, 3) uint8 each; empty where only flags were asked for.
        matrix: a, b, c, d of the display matrix of the first frame, (1, 0, 0, 1) where there is none.
        keys: the indices of frames that are key frames for the decoder.
        flags: (index of the next frame that comes out, reason), whenever the decoder reported anything.
        num_frames: how many frames came out.
        pts: their time stamps, None where there is none.
    """

    frames: list[np.ndarray]
    matrix: tuple[float, ...]
    keys: list[int]
    flags: list[tuple[int, str]]
    num_frames: int
    pts: list[int | None]

    def shown(self, index: int) -> np.ndarray:
        """A frame as it is shown: turned by the matrix if that is one of the eight orientations."""
        return orient(self.frames[index], self.matrix)


class ToRgb:
    """Converts frames to RGB by BT.601 with libswscale, each by its own size, format and range."""

    def __init__(self) -> None:
        self._graphs: dict[Any, Any] = {}

    def __call__(self, frame: Any) -> np.ndarray:
        key = (frame.width, frame.height, frame.format.name, int(frame.color_range))
        if key not in self._graphs:
            graph = av.filter.Graph()
            graph.threads = 1
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
            )
            flags = "flags=bilinear+accurate_rnd+full_chroma_int:in_color_matrix=bt601"
            scale, to_rgb = graph.add("scale", f"iw:ih:{flags}"), graph.add("format", "rgb24")
            source.link_to(scale)
            scale.link_to(to_rgb)
            to_rgb.link_to(graph.add("buffersink"))
            graph.configure()
            self._graphs[key] = graph
        graph = self._graphs[key]
        graph.vpush(frame)
        return graph.vpull().to_ndarray(format="rgb24")


def orient(picture: np.ndarray, matrix: tuple[float, ...]) -> np.ndarray:
    """Turn a picture by a display matrix (ISO/IEC 14496-12, 6.2.2); as it is unless that is one of eight orientations.

    A pixel (x, y) is shown at (a x + c y + tx, b x + d y + ty). Where a and d are 0 the axes are exchanged.
    """
    a, b, c, d = matrix
    if (abs(a), b, c, abs(d)) == (1, 0, 0, 1):
        return picture[:: int(d), :: int(a)]
    if (a, abs(b), abs(c), d) == (0, 1, 1, 0):
        return picture.swapaxes(0, 1)[:: int(b), :: int(c)]
    return picture


def _matrix(frame):
    for side in frame.side_data:
        if side.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(side), np.int32)[:5]
            return tuple(round(int(v) / UNIT, 3) for v in (a, b, c, d))
    return (1, 0, 0, 1)


def full_decode(path: Any, *, pixels: bool = True, explode: bool = False, decoder: str | None = None) -> Full:
    """Decode a whole file.

    Args:
        path: a file, or a file object.
        pixels: keep the frames.
        decoder: FFmpeg's name of one; default: the one that it takes by itself.
        explode: the decoder's option ``err_detect=explode``: it gives up on errors that it would conceal otherwise.

    Raises:
        av.error.FFmpegError, OSError: the file cannot be opened. An error later on ends the video there.
    """
    frames: list = []
    keys: list = []
    flags: list = []
    pts: list = []
    matrix, count, to_rgb = (1, 0, 0, 1), 0, ToRgb()
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture():  # what it says while it looks for streams is said again when they are decoded
            container = av.open(path if hasattr(path, "read") else str(path), **ANY_TAGS)
        with container:
            stream = container.streams.best("video")
            if stream is None or stream.codec_context is None:
                return Full([], matrix, [], [(0, "no video")], 0, [])
            stream.codec_context.thread_count, stream.codec_context.thread_type = 1, "NONE"
            if explode:
                stream.codec_context.options = {"err_detect": "explode"}
            codec = stream.codec_context
            if decoder:
                codec = av.CodecContext.create(decoder, "r")
                codec.extradata, codec.thread_count = stream.codec_context.extradata, 1
            for reason, found in _decoded(container, stream, codec):
                flags += [(count, reason)] if reason else []
                for frame in found:
                    if count == 0:
                        matrix = _matrix(frame)
                    keys += [count] if frame.key_frame else []
                    flags += [(count, "the frame is marked as corrupt")] if frame.is_corrupt else []
                    if pixels:
                        frames.append(to_rgb(frame))
                    pts.append(frame.pts)
                    count += 1
    finally:
        av.logging.set_level(level)
    return Full(frames, matrix, keys, flags, count, pts)


def _decoded(container, stream, codec):
    """(what was reported or None, frames) for each packet and for the end."""
    packets = container.demux(stream)
    while True:
        reason, found, packet = None, [], None
        with av.logging.Capture() as lines:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError, IndexError) as error:
                reason = f"reading: {error}"
            if packet is None or packet.size:
                try:
                    found = codec.decode(packet)
                except av.error.EOFError:
                    pass
                except (av.error.FFmpegError, OSError, ValueError) as error:
                    reason = f"decoding: {error}"
        if reason is None and packet is not None and packet.is_corrupt:
            reason = "the packet is marked as corrupt"
        if reason is None and lines:
            reason = f"FFmpeg: {lines[0][2].strip()}"
        yield reason, found
        if packet is None:
            return
