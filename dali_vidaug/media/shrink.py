"""Decoded frames to smaller ones of 8-bit 4:2:0, as they are shown, with the matrix and the range of their colours."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.filter
import numpy as np

from dali_vidaug.media.orientation import is_transposed, oriented
from dali_vidaug.media.video import Video

_UNSPECIFIED, _LIMITED, _FULL = 0, 1, 2  # color_range of FFmpeg
_BT601 = 6  # number of the matrix in ITU-T H.273


class Colors(NamedTuple):
    """What a stream says about its colours, as numbers of ITU-T H.273; ``range`` as FFmpeg numbers it."""

    matrix: int
    primaries: int
    transfer: int
    range: int


def planes_of(frame: Any) -> list[np.ndarray]:
    """The planes of an 8-bit frame, (H, W) uint8 each: views."""
    arrays = (np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size) for plane in frame.planes)
    return [array[: plane.height, : plane.width] for array, plane in zip(arrays, frame.planes, strict=True)]


def colors_of_frame(frame: Any) -> Colors:
    """What a decoded frame says about its colours; those of RGB are what it becomes: BT.601, limited range."""
    if frame.format.is_rgb or frame.format.has_palette:
        return Colors(_BT601, int(frame.color_primaries), int(frame.color_trc), _LIMITED)
    full = int(frame.color_range) == _FULL or (int(frame.color_range) == _UNSPECIFIED and _is_full(frame.format.name))
    stated = _FULL if full else int(frame.color_range)
    return Colors(int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc), stated)


def _is_full(name):
    return name.startswith(("yuvj", "gray", "ya"))  # as libswscale takes them


class Shrinker:
    """Scales the frames of a video, and turns them as they are shown.

    Luma and chroma are scaled apart from each other and keep their values: neither matrix nor range is converted, but
    for a frame whose range is another than that of the first one, and for RGB.

    Args:
        video: the row of the manifest; its size and orientation are used.
        size: (height, width) of what comes out.
    """

    def __init__(self, video: Video, size: tuple[int, int]):
        self._video, self._size = video, size
        self._graphs: dict[tuple, Any] = {}  # by pixel format and range, which may change within a file
        self.colors: Any = None  # Colors: of the first frame, and of what comes out

    def __call__(self, frame: Any) -> Any:
        """The smaller frame, an av.VideoFrame of its own without time stamp or side data.

        Raises:
            ValueError: the frame's size is not the video's, or the matrix of its colours is not that of the first.
        """
        video, colors = self._video, colors_of_frame(frame)
        if (frame.width, frame.height) != (video.width, video.height):
            raise ValueError(
                f"the frames change size, from {video.width}x{video.height} to {frame.width}x{frame.height}"
            )
        if self.colors is None:
            self.colors = colors
        if colors.matrix != self.colors.matrix:
            raise ValueError(f"its colour matrix changes, from number {self.colors.matrix} to {colors.matrix}")
        key = (frame.format.name, colors.range)
        if key not in self._graphs:
            self._graphs[key] = self._configure(frame, colors)
        graph = self._graphs[key]
        graph.vpush(frame)
        scaled = graph.vpull()
        height, width = self._size
        made = av.VideoFrame(width, height, "yuv420p")
        for to, plane in zip(planes_of(made), planes_of(scaled), strict=True):
            to[...] = oriented(plane, video.orientation)
        made.colorspace, made.color_range = self.colors.matrix, self.colors.range
        return made

    def _configure(self, frame, colors):
        height, width = self._size[::-1] if is_transposed(self._video.orientation) else self._size
        graph = av.filter.Graph()
        graph.threads = 1  # videos are encoded in parallel
        last = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
        )
        given, made = ("full" if each.range == _FULL else "limited" for each in (colors, self.colors))
        scale = f"{width}:{height}:flags=bicubic+accurate_rnd:in_color_matrix=bt601:out_color_matrix=bt601"
        if not (frame.format.is_rgb or frame.format.has_palette):
            scale += f":in_range={given}"
        steps = [("scale", f"{scale}:out_range={made}"), ("format", "yuv420p|yuvj420p")]
        for name, arguments in steps:
            following = graph.add(name, arguments)
            last.link_to(following)
            last = following
        last.link_to(graph.add("buffersink"))
        graph.configure()
        return graph


def grey_frame(size: tuple[int, int], colors: Colors) -> Any:
    """A frame without a picture, in the place of one that cannot be decoded."""
    made = av.VideoFrame(size[1], size[0], "yuv420p")
    for plane in planes_of(made):
        plane[...] = 128
    made.colorspace, made.color_range = colors.matrix, colors.range
    return made
