"""From decoded frames to RGB arrays: crop, scale and colour in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av.filter
import numpy as np

from dali_vidaug.media.colors import matrix_name, matrix_weights
from dali_vidaug.media.orientation import is_transposed, oriented, stored_box
from dali_vidaug.media.video import Video
from dali_vidaug.pixel_order import mirror_frame
from dali_vidaug.resample import SHIFTS, Resampler

_FULL_RANGE = 2  # of ``frame.color_range``: AVCOL_RANGE_JPEG


class Converter:
    """Converts decoded frames to RGB arrays: crop, scale and colour in one pass.

    Frames of planar YUV, 8 bits, that are scaled once: by a kernel (resample.py). All others: by libswscale.

    Args:
        video: the row of the manifest; its size and orientation are used.
        crops, color: as in ``decode``.

    Attributes:
        shape: (H, W, 3) of the pictures.
    """

    def __init__(self, video: Video, crops: Sequence[np.void], color: str = "bt601"):
        self._video, self._color = video, color
        self._graphs: dict[tuple, Any] = {}  # by pixel format, range and matrix, which may change within a file
        self._resamplers: dict[str, Resampler] = {}  # by pixel format
        self._mirrored = any("top" not in (row.dtype.names or ()) and row["mirrored"] for row in crops)
        height, width = video.shown_size
        steps: list[tuple[str, tuple[int, ...]]] = []  # of stored frames
        for crop in crops:
            if "top" not in (crop.dtype.fields or ()):
                continue
            box = tuple(int(crop[n]) for n in ("top", "left", "bottom", "right"))
            if box != (0, 0, height, width):
                steps.append(("crop", stored_box(box, height, width, video.orientation)))
            height, width = int(crop["out_height"]), int(crop["out_width"])
            if (height, width) != (box[2] - box[0], box[3] - box[1]):
                turned = is_transposed(video.orientation)
                steps.append(("scale", (width, height) if turned else (height, width)))
        self.shape = (height, width, 3)
        self._filters = [_filter(name, numbers) for name, numbers in steps]  # with the matrix left open
        if not any(name == "scale" for name, _ in steps):
            self._filters.append(("scale", _scale("ih", "iw")))
        self._resampling: Any = _one_scaling(steps, (0, 0, video.height, video.width))

    def _configure(self, frame, matrix):
        graph = av.filter.Graph()
        graph.threads = 1  # more cost several times the work at these sizes, and clips are decoded in parallel anyway
        last = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
        )
        for name, arguments in (*self._filters, ("format", "rgb24")):
            following = graph.add(name, arguments.format(matrix=matrix))
            last.link_to(following)
            last = following
        last.link_to(graph.add("buffersink"))
        graph.configure()
        return graph

    def __call__(self, frame: Any, out: np.ndarray) -> None:
        """Convert a frame.

        Args:
            frame: as it is decoded.
            out: (H, W, 3) uint8, C-contiguous; the frame as shown is written there.

        Raises:
            ValueError: the frame's size is not the video's, or its matrix is not known.
        """
        video = self._video
        if (frame.width, frame.height) != (video.width, video.height):
            raise ValueError(
                f"the frames change size, from {video.width}x{video.height} to {frame.width}x{frame.height}"
            )
        if self._resampling and frame.format.name in SHIFTS:
            picture = self._resample(frame, out)
        else:
            picture = self._convert(frame)
        if picture is not out:
            out[...] = oriented(picture, video.orientation)
            if self._mirrored:
                mirror_frame(out)

    def _resample(self, frame, out):
        """A stored frame by the kernel; ``out`` itself, mirrored if asked, where frames are shown as stored."""
        name, turned = frame.format.name, self._video.orientation != 1
        if name not in self._resamplers:
            box, full, view = self._resampling
            self._resamplers[name] = Resampler(box, full, view, name, self._mirrored and not turned)
        picture = np.empty(self._resamplers[name].shape, np.uint8) if turned else out
        full_range = frame.color_range == _FULL_RANGE or name.startswith("yuvj")
        self._resamplers[name](frame, matrix_weights(self._color, frame.colorspace), full_range, picture)
        return picture

    def _convert(self, frame):
        """A stored frame by libswscale."""
        key = (frame.format.name, frame.color_range, matrix_name(self._color, frame.colorspace))
        if key not in self._graphs:
            self._graphs[key] = self._configure(frame, key[-1])
        graph = self._graphs[key]
        graph.vpush(frame)
        rgb = graph.vpull()
        plane = rgb.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : rgb.width * 3]
        return rows.reshape(rgb.height, rgb.width, 3)


def _one_scaling(steps, whole):
    """The box that is scaled, the size that it is scaled to, and the part of it that is taken; None: other steps."""
    names = [name for name, _ in steps]
    if names not in (["scale"], ["crop", "scale"], ["scale", "crop"], ["crop", "scale", "crop"]):
        return None
    at = names.index("scale")
    full = steps[at][1]
    return steps[0][1] if at else whole, full, steps[-1][1] if names[-1] == "crop" else (0, 0, *full)


def _filter(name, numbers):
    if name == "scale":
        return name, _scale(*numbers)
    top, left, bottom, right = numbers
    # exact: odd offsets are kept for luma; chroma moves by at most half a pixel
    return name, f"{right - left}:{bottom - top}:{left}:{top}:exact=1"


def _scale(height, width):
    # accurate_rnd and full_chroma_int cost a few percent; with them an unscaled frame equals that of DALI's decoder
    # the matrix of what comes out is given too: a first scaling of several leaves YUV
    matrices = "in_color_matrix={matrix}:out_color_matrix={matrix}"
    return f"{width}:{height}:flags=bilinear+accurate_rnd+full_chroma_int:{matrices}"
