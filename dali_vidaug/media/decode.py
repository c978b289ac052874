"""From a file and frame indices to RGB frames, with PyAV: crop, scale and colour in one pass."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.filter
import numpy as np

from dali_vidaug.media.cut import Cut, frame_index, is_counted, open_video, read_cuts
from dali_vidaug.media.video import Video


class Clip(NamedTuple):
    """Decoded frames, and what they cost.

    Attributes:
        pixels: (F, H, W, 3) uint8.
        num_decoded: frames that were decoded for them.
        seconds: processor time of this thread: "read", "decode" and "convert".
    """

    pixels: np.ndarray
    num_decoded: int
    seconds: dict[str, float]


def decode(video: Video, frames: np.ndarray, crops: Sequence[np.void] = ()) -> Clip:
    """Decode frames of a video to RGB.

    Args:
        video: its row of the manifest.
        frames: (F,) int, frame indices in any order, repeats allowed.
        crops: crops and scalings, done together with the conversion to RGB: rows of ``ops.CROP`` that apply one after
            the other to the frames as shown. Scaling is libswscale's bilinear, which averages when it scales down.

    Returns:
        The frames. Colours are converted by BT.601 whatever the file says, as DALI does; full and limited range are
        honoured; frames are rotated as the file says.

    Raises:
        EOFError, ValueError, av.error.FFmpegError: a frame cannot be read, or not decoded without damage.
    """
    clock = time.thread_time
    seconds = {"read": 0.0, "decode": 0.0, "convert": 0.0}
    started = clock()
    frames = np.asarray(frames)
    wanted = set(frames.tolist())
    convert = Converter(video, crops)
    pixels: Any = None
    num_decoded = 0
    with open_video(video.path) as (container, stream):
        cuts = read_cuts(container, stream, video, frames)
        seconds["read"] = clock() - started
        for cut in cuts:
            if not wanted:  # the cut before had this one's key frame too, because frames shown before it refer to it
                break
            for frame, index in decode_cut(stream.codec_context, cut, video, last=max(wanted)):
                num_decoded += 1
                if index not in wanted:
                    continue
                if frame.is_corrupt:
                    raise ValueError(f"frame {index} is damaged")
                before = clock()
                picture = convert(frame)
                if pixels is None:
                    pixels = np.empty((len(frames), *picture.shape), np.uint8)
                for position in np.flatnonzero(frames == index):
                    pixels[position] = picture
                wanted.discard(index)
                seconds["convert"] += clock() - before
                if not wanted:
                    break
    if wanted:
        raise ValueError(f"frame {min(wanted)} did not come out of the decoder")
    seconds["decode"] = clock() - started - seconds["read"] - seconds["convert"]
    return Clip(pixels, num_decoded, seconds)


def decode_cut(codec: Any, cut: Cut, video: Video, last: int | None = None) -> Iterator[tuple[Any, int]]:
    """Decode a cut: yields (av.VideoFrame, index of the frame or -1) in presentation order.

    Args:
        codec: the stream's codec context; ready for another cut afterwards.
        cut: what to decode.
        video: its row of the manifest.
        last: where frames are counted, the index to stop after.
    """
    counted = is_counted(video)
    number = 0
    for packet in (*cut.packets, None):
        for frame in codec.decode(packet):
            yield frame, number if counted else frame_index(video, frame.pts)
            number += 1
            if counted and last is not None and number > last:
                return
    codec.flush_buffers()


class Converter:
    """Converts decoded frames to RGB arrays: crop, scale and colour in one pass of libswscale.

    Args:
        video: the row of the manifest; its size and rotation are used.
        crops: as in ``decode``.
    """

    def __init__(self, video: Video, crops: Sequence[np.void]):
        self._video = video
        self._graph: Any = None
        sideways = video.rotation in (90, 270)
        height, width = (video.width, video.height) if sideways else (video.height, video.width)
        self._filters: list[tuple[str, str]] = []
        for crop in crops:
            box = tuple(int(crop[n]) for n in ("top", "left", "bottom", "right"))
            if box != (0, 0, height, width):
                top, left, bottom, right = _stored_box(box, height, width, video.rotation)
                # exact: odd offsets are kept for luma; chroma moves by at most half a pixel
                self._filters.append(("crop", f"{right - left}:{bottom - top}:{left}:{top}:exact=1"))
            height, width = int(crop["out_height"]), int(crop["out_width"])
            if (height, width) != (box[2] - box[0], box[3] - box[1]):
                self._filters.append(("scale", _scale(*((width, height) if sideways else (height, width)))))
        if not any(name == "scale" for name, _ in self._filters):
            self._filters.append(("scale", _scale("ih", "iw")))
        self._filters.append(("format", "rgb24"))

    def _configure(self, frame):
        graph = av.filter.Graph()
        graph.threads = 1  # more cost several times the work at these sizes, and clips are decoded in parallel anyway
        last = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
        )
        for name, arguments in self._filters:
            following = graph.add(name, arguments)
            last.link_to(following)
            last = following
        last.link_to(graph.add("buffersink"))
        graph.configure()
        self._graph = graph

    def __call__(self, frame: Any) -> np.ndarray:
        """The frame as (H, W, 3) uint8, as shown. A view that is valid until the next call.

        Raises:
            ValueError: the frame's size is not the video's.
        """
        if (frame.width, frame.height) != (self._video.width, self._video.height):
            raise ValueError(
                f"the frames change size, from {self._video.width}x{self._video.height} to {frame.width}x{frame.height}"
            )
        if self._graph is None:
            self._configure(frame)
        self._graph.vpush(frame)
        rgb = self._graph.vpull()
        plane = rgb.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(rgb.height, plane.line_size)
        picture = rows[:, : rgb.width * 3].reshape(rgb.height, rgb.width, 3)
        return np.rot90(picture, -self._video.rotation // 90) if self._video.rotation else picture


def _scale(height, width):
    # accurate_rnd and full_chroma_int cost a few percent; with them an unscaled frame equals that of DALI's decoder
    return f"{width}:{height}:flags=bilinear+accurate_rnd+full_chroma_int:in_color_matrix=bt601"


def _stored_box(box, height, width, rotation):
    """The box (top, left, bottom, right) of a height x width frame as shown, in the frame as it is stored."""
    top, left, bottom, right = box
    if rotation == 90:
        return width - right, top, width - left, bottom
    if rotation == 180:
        return height - bottom, width - right, height - top, width - left
    if rotation == 270:
        return left, height - bottom, right, height - top
    return box
