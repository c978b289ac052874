"""From a file and frame indices to RGB frames, with PyAV: crop, scale and colour in one pass."""

import time
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.filter
import numpy as np

from dali_vidaug.cut import frame_index, is_counted, open_video, read_cuts


class Clip(NamedTuple):
    """Decoded frames, and what they cost.

    Attributes:
        pixels: (F, H, W, 3) uint8.
        num_decoded: frames that were decoded for it.
        seconds: processor time of this thread in reading, decoding and converting.
    """

    pixels: np.ndarray
    num_decoded: int
    seconds: dict[str, float]


def decode(video, frames, steps=()):
    """Decode frames of a video to RGB.

    Args:
        video: its row.
        frames: (F,) int, frame indices in any order, repeats allowed.
        steps: crops and scalings, done together with the conversion to RGB: ``CROP`` rows that apply in turn to the
            frames as shown. Scaling is libswscale's bilinear, which averages when it makes smaller.

    Returns:
        A ``Clip``. Colours are converted by BT.601 whatever the file says, as DALI does; full and limited range are
        honoured; frames are turned as the file's rotation says.

    Raises:
        EOFError, ValueError, av.error.FFmpegError: a frame cannot be read or decoded whole.
    """
    clock = time.thread_time
    seconds = {"read": 0.0, "decode": 0.0, "convert": 0.0}
    started = clock()
    frames = np.asarray(frames)
    wanted = set(frames.tolist())
    convert = Converter(video, steps)
    pixels: Any = None
    num_decoded = 0
    with open_video(video.path) as (container, stream):
        cuts = read_cuts(container, stream, video, frames)
        seconds["read"] = clock() - started
        for cut in cuts:
            if not wanted:  # the cut before had its key frame too, as pictures shown before it refer to it
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
                for place in np.flatnonzero(frames == index):
                    pixels[place] = picture
                wanted.discard(index)
                seconds["convert"] += clock() - before
                if not wanted:
                    break
    if wanted:
        raise ValueError(f"frame {min(wanted)} did not come out of the decoder")
    seconds["decode"] = clock() - started - seconds["read"] - seconds["convert"]
    return Clip(pixels, num_decoded, seconds)


def decode_cut(codec, cut, video, last=None):
    """Decode a cut: yields (av.VideoFrame, index of the frame or -1) in presentation order.

    Args:
        codec: the stream's codec context; ready for another cut afterwards.
        cut: what to decode.
        video: its row.
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
    """Turns decoded frames into RGB arrays: crop, scale and colour in one pass of libswscale.

    Args:
        video: the row whose frames come; its size and rotation count.
        steps: as in ``decode``.
    """

    def __init__(self, video, steps):
        self._video = video
        self._graph: Any = None
        turned = video.rotation in (90, 270)
        height, width = (video.width, video.height) if turned else (video.height, video.width)
        self._filters = []
        for step in steps:
            box = tuple(int(step[n]) for n in ("top", "left", "bottom", "right"))
            if box != (0, 0, height, width):
                top, left, bottom, right = _stored_box(box, height, width, video.rotation)
                # exact: odd offsets are honoured for luma; chroma moves by at most half a pixel
                self._filters.append(("crop", f"{right - left}:{bottom - top}:{left}:{top}:exact=1"))
            height, width = int(step["out_height"]), int(step["out_width"])
            if (height, width) != (box[2] - box[0], box[3] - box[1]):
                self._filters.append(("scale", _scale(*((width, height) if turned else (height, width)))))
        if not any(name == "scale" for name, _ in self._filters):
            self._filters.append(("scale", _scale("ih", "iw")))
        self._filters.append(("format", "rgb24"))

    def _configure(self, frame):
        graph = av.filter.Graph()
        graph.threads = 1  # more cost several times the work at these sizes, and clips run side by side anyway
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

    def __call__(self, frame):
        """The frame as (H, W, 3) uint8, as shown. A view that is valid until the next call.

        Raises:
            ValueError: the frame's size is not the video's.
        """
        if (frame.width, frame.height) != (self._video.width, self._video.height):
            raise ValueError(
                f"the picture changes size, from {self._video.width}x{self._video.height} to "
                f"{frame.width}x{frame.height}"
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
    # accurate_rnd and full_chroma_int cost a few per cent; with them an unscaled frame is what DALI's decoder gives
    return f"{width}:{height}:flags=bilinear+accurate_rnd+full_chroma_int:in_color_matrix=bt601"


def _stored_box(box, height, width, rotation):
    """The box (top, left, bottom, right) of a shown height x width picture, in the picture as it is stored."""
    top, left, bottom, right = box
    if rotation == 90:
        return width - right, top, width - left, bottom
    if rotation == 180:
        return height - bottom, width - right, height - top, width - left
    if rotation == 270:
        return left, height - bottom, right, height - top
    return box
