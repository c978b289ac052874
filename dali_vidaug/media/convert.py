"""From decoded frames to RGB arrays: crop, scale and colour in one pass of libswscale."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av.filter
import numpy as np

from dali_vidaug.media.colors import matrix_name
from dali_vidaug.media.orientation import is_transposed, oriented, stored_box
from dali_vidaug.media.video import Video
from dali_vidaug.pixel_order import interleave, mirror_frame

_PLANAR = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p")  # converted to RGB in planes


class Converter:
    """Converts decoded frames to RGB arrays: crop, scale and colour in one pass of libswscale.

    Args:
        video: the row of the manifest; its size and orientation are used.
        crops, color: as in ``decode``.

    Attributes:
        shape: (H, W, 3) of the pictures.
    """

    def __init__(self, video: Video, crops: Sequence[np.void], color: str = "bt601"):
        self._video, self._color = video, color
        self._graphs: dict[tuple, Any] = {}  # by pixel format, range and matrix, which may change within a file
        height, width = video.shown_size
        self._filters: list[tuple[str, str]] = []  # with the matrix left open
        self._mirrored = any("top" not in (row.dtype.names or ()) and row["mirrored"] for row in crops)
        shrinks = []  # for each scaling, whether it leaves out a tenth of the stored rows or more
        for crop in crops:
            if "top" not in (crop.dtype.fields or ()):
                continue
            box = tuple(int(crop[n]) for n in ("top", "left", "bottom", "right"))
            if box != (0, 0, height, width):
                top, left, bottom, right = stored_box(box, height, width, video.orientation)
                # exact: odd offsets are kept for luma; chroma moves by at most half a pixel
                self._filters.append(("crop", f"{right - left}:{bottom - top}:{left}:{top}:exact=1"))
            height, width = int(crop["out_height"]), int(crop["out_width"])
            if (height, width) != (box[2] - box[0], box[3] - box[1]):
                from_size, to_size = (box[2] - box[0], box[3] - box[1]), (height, width)
                turned = is_transposed(video.orientation)
                self._filters.append(("scale", _scale(*(to_size[::-1] if turned else to_size))))
                shrinks.append(16 <= to_size[turned] <= 0.9 * from_size[turned])
        self.shape = (height, width, 3)
        if not shrinks:
            self._filters.append(("scale", _scale("ih", "iw")))
        self._shrinks = shrinks == [True]

    def _configure(self, frame, pixel_format, matrix):
        graph = av.filter.Graph()
        graph.threads = 1  # more cost several times the work at these sizes, and clips are decoded in parallel anyway
        last = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
        )
        for name, arguments in (*self._filters, ("format", pixel_format)):
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
        # libswscale has no vector code for packed RGB at full accuracy, but for planar RGB, which takes half the time.
        # The bytes are the same where it weighs three rows of pixels or more, so that neither takes a short cut.
        planar = self._shrinks and frame.format.name in _PLANAR
        key = (frame.format.name, frame.color_range, matrix_name(self._color, frame.colorspace))
        if key not in self._graphs:
            self._graphs[key] = self._configure(frame, "gbrp" if planar else "rgb24", key[-1])
        graph = self._graphs[key]
        graph.vpush(frame)
        rgb = graph.vpull()
        if planar:
            green, blue, red = rgb.planes
            turned = video.orientation != 1
            picture = np.empty((rgb.height, rgb.width, 3), np.uint8) if turned else out
            interleave(red, green, blue, picture)
        else:
            plane = rgb.planes[0]
            rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : rgb.width * 3]
            turned, picture = True, rows.reshape(rgb.height, rgb.width, 3)
        if turned:
            out[...] = oriented(picture, video.orientation)
        if self._mirrored:
            mirror_frame(out)


def _scale(height, width):
    # accurate_rnd and full_chroma_int cost a few percent; with them an unscaled frame equals that of DALI's decoder
    # the matrix of what comes out is given too: a first scaling of several leaves YUV
    matrices = "in_color_matrix={matrix}:out_color_matrix={matrix}"
    return f"{width}:{height}:flags=bilinear+accurate_rnd+full_chroma_int:{matrices}"
