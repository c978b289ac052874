"""What moves in decoded frames, by the motion vectors that FFmpeg's decoders export; and maps of it on clips.

A vector says where a block of a frame is in another picture, and whether that one is shown before or after the frame,
not which one it is. H.264 may refer to several: of those that a frame may refer to, the one is taken in which the block
looks most like it (kernels/vectors.cpp). The other codecs refer to the nearest one of each direction.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import repeat
from typing import Any, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer

from dali_vidaug import geometry
from dali_vidaug.kernels import library
from dali_vidaug.media.bitstream import is_reference, sets_in
from dali_vidaug.media.h264 import read_sequence
from dali_vidaug.media.orientation import to_stored
from dali_vidaug.media.video import Video

# Codecs whose decoders export motion vectors. FFmpeg's for H.265, VP8, VP9 and AV1 do not.
VECTOR_CODECS = (
    "h264", "mpeg4", "mpeg1video", "mpeg2video", "h263", "flv1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2",
)  # fmt: skip
_B_CODECS = ("h264", "mpeg1video", "mpeg2video")  # of B-frames of the others, FFmpeg says that nothing moves
_LATE = ("mpeg1video", "mpeg2video", "mpeg4")  # a frame has no vectors where it comes out because no more packets come
CELL = 16  # pixels of a clip: the side of a cell of its map
_BLOCK = 8  # pixels of a frame: BLOCK in kernels/vectors.cpp
_VECTOR = {"source": 0, "w": 4, "h": 5, "dst_x": 10, "dst_y": 12, "motion_x": 24, "motion_y": 28, "motion_scale": 32}
_VECTOR_BYTES = 40
_NUM_REFERENCES = 4  # of H.264, where the file does not say how many; x264's presets have 1 to 16, mostly 3
_NUM_LATER = 2  # of H.264: so many pictures that are decoded before a frame and shown after it are looked at
_B_PICTURE = 3  # AV_PICTURE_TYPE_B
_SPS = 7  # ITU-T H.264, table 7-1
_known: set[type] = set()  # classes of side data whose form was compared


class View(NamedTuple):
    """A clip that a map is made for.

    Attributes:
        matrices: (F, 3, 3) float64, from points of the clip to those of the frames of the video as shown.
        height, width: of the clip.
    """

    matrices: np.ndarray
    height: int
    width: int


class _Picture(ctypes.Structure):
    """As in kernels/vectors.cpp."""

    _fields_ = (("luma", ctypes.c_void_p), ("stride", ctypes.c_int64), ("ahead", ctypes.c_double))


@dataclass(eq=False)
class _Shown:
    """A decoded frame.

    Attributes:
        number: index of it; -1 if it is hidden.
        rank: in decoding order; None where it is not known.
        frame: an ``av.VideoFrame``.
    """

    number: int
    rank: int | None
    frame: Any

    @cached_property
    def form(self) -> tuple[int, int, str]:
        """Height, width, pixel format."""
        return self.frame.height, self.frame.width, self.frame.format.name

    @cached_property
    def luma(self) -> tuple[int, int]:
        """Where its luma is, and how many bytes from row to row."""
        plane = self.frame.planes[0]
        return plane.buffer_ptr, plane.line_size


class _Waiting(NamedTuple):
    """A frame that may refer to pictures that are shown after it and have not come out of the decoder yet."""

    shown: _Shown
    earlier: list[_Shown]
    later: list[_Shown]


class Vectors:
    """Finds what moves in some frames of a video while it is decoded.

    Args:
        video: its row of the manifest.
        frames: indices of those frames.
        views: the clips that maps will be made for; None: any.

    Attributes:
        found: for each of them, by its index, (rows, columns, 2) float32: how many pixels each block of 8 x 8 pixels of
            the stored frame moves to the right and down per frame, since or until the picture that it refers to; NaN
            where nothing is known, or no view shows it. A frame without vectors, such as a key frame, is not there.
    """

    def __init__(self, video: Video, frames: AbstractSet[int], views: Sequence[View] | None = None):
        self.found: dict[int, np.ndarray] = {}
        self._video, self._frames = video, frames
        self._is_h264 = video.codec == "h264"
        self._num_earlier, self._num_later = 1, 1
        self._region = _region(video, views)
        self._forget()

    def _forget(self):
        self._waiting: list[_Waiting] = []
        self._earlier: list[_Shown] = []  # reference pictures, the latest first
        self._ranks: dict[int, int] = {}  # in decoding order, by time stamp
        self._referred: set[int] = set()  # time stamps of pictures that others may refer to

    def needed(self) -> np.ndarray:
        """The frames, and others that are to be decoded so that these have vectors: (F,) int64, rising."""
        frames = np.array(sorted(self._frames), np.int64)
        if self._video.codec not in _LATE:
            return frames
        gops = np.searchsorted(self._video.keyframes, frames, "right")
        after = 1 + frames[np.append(np.diff(gops) > 0, True)]  # the last of each GOP is pushed out by what comes next
        return np.union1d(frames, after[after < self._video.num_frames])

    def begin(self, cut: Any) -> Any:
        """Look at what is decoded next, a ``Cut``; returns it, to be decoded."""
        self._forget()
        if not self._is_h264:
            return cut
        sets = [unit for unit in sets_in(cut.stream.codec_context.extradata or b"") if unit[0] & 31 == _SPS]
        said = max((read_sequence(unit).num_references for unit in sets), default=_NUM_REFERENCES)
        self._num_earlier, self._num_later = max(said, 1), _NUM_LATER
        if not isinstance(cut.packets, list):
            return cut._replace(packets=self._watched(cut.packets, cut.stream))
        for rank, (packet, number) in enumerate(zip(cut.packets, cut.frames or repeat(-1), strict=False)):
            # Of the packets that are not wanted, a cut has those alone that others refer to.
            self._look(packet, rank, number in self._frames or not cut.frames, cut.stream)
        return cut

    def _watched(self, packets: Iterable[Any], stream: Any) -> Iterator[Any]:
        for rank, packet in enumerate(packets):
            self._look(packet, rank, True, stream)
            yield packet

    def _look(self, packet, rank, unsure, stream):
        if packet.pts is not None:
            self._ranks[packet.pts] = rank
            if not unsure or is_reference(packet, stream):
                self._referred.add(packet.pts)

    def add(self, frame: Any, index: int) -> None:
        """Look at the next frame, in presentation order.

        Args:
            frame: as it is decoded.
            index: of it; -1 if it is hidden.
        """
        rank = self._ranks.get(frame.pts)
        is_b = frame.pict_type == _B_PICTURE
        is_referred = not is_b if rank is None else frame.pts in self._referred
        shown = _Shown(index, rank, frame)
        if is_referred:
            for one in self._waiting:
                one.later.append(shown)
            while self._waiting and len(self._waiting[0].later) >= self._num_later:
                self._find(self._waiting.pop(0))
        if index in self._frames:
            one = _Waiting(shown, list(self._earlier), [])
            if is_b:
                self._waiting.append(one)
            else:
                self._find(one)
        if is_referred:
            self._earlier = [shown, *self._earlier][: self._num_earlier + self._num_later]

    def end(self) -> None:
        """No more frames of the cut come."""
        for one in self._waiting:
            self._find(one)
        self._forget()  # frees the frames

    def _find(self, one):
        shown, frame = one.shown, one.shown.frame
        self.found.pop(shown.number, None)  # of a cut before that could not be decoded to its end
        # frame.side_data would refer to the frame and the frame to it, so that only the cyclic collector frees both
        side_data = SideDataContainer(frame).get("MOTION_VECTORS")  # type: ignore[call-arg]
        if side_data is None or frame.interlaced_frame:  # vectors of fields refer to fields, which have other times
            return
        if frame.pict_type == _B_PICTURE and self._video.codec not in _B_CODECS:
            return
        if type(side_data) not in _known:
            _check_form(side_data)
        earlier = [other for other in one.earlier if _is_before(other, shown)][: self._num_earlier]
        later = [other for other in one.later if _is_before(other, shown)]
        pictures = (_Picture * (1 + len(earlier) + len(later)))()
        for place, other in enumerate((shown, *earlier, *later)):
            if other.form != shown.form:
                return  # it changes within the file
            ahead = other.number - shown.number if other.number >= 0 else np.nan  # of a hidden frame it is not known
            pictures[place] = _Picture(*other.luma, ahead)
        height, width, name = shown.form
        found = np.empty((-(-height // _BLOCK), -(-width // _BLOCK), 2), np.float32)
        count, numbers = side_data.buffer_size // _VECTOR_BYTES, (len(earlier), len(later), _pixel_bytes(name))
        out = self._region, _address(found)
        _kernel("find_motion")(side_data.buffer_ptr, count, pictures, *numbers, height, width, *out)
        self.found[shown.number] = found

    def map(self, frames: np.ndarray, view: View) -> np.ndarray:
        """What moves in a clip, (2, F, h, w) float32: pixels of the clip to the right and down per frame.

        Args:
            frames: (F,) int, its frames.
            view: of the video, that the clip is.

        Returns:
            For each cell of 16 x 16 pixels of the clip (the last ones may be smaller) the mean of what is known of it,
            else NaN.
        """
        video, matrices = self._video, _matrices(self._video, view)
        alike = (view.matrices == view.matrices[:1]).all()  # mostly: then one inverse serves all frames
        inverses = np.repeat(geometry.inverse(matrices[:1]), len(matrices), 0) if alike else geometry.inverse(matrices)
        places = [self.found[i].ctypes.data if i in self.found else None for i in frames.tolist()]
        shape = 2, len(places), -(-view.height // CELL), -(-view.width // CELL)
        out = np.empty(shape, np.float32)
        pointers, sizes = (ctypes.c_void_p * len(places))(*places), (len(places), video.height, video.width)
        clip = view.height, view.width, CELL
        _kernel("map_motion")(pointers, *sizes, _address(matrices), _address(inverses), *clip, _address(out))
        return out


def _matrices(video, view):
    """(F, 3, 3): from points of a clip to those of the stored frames."""
    shown = np.eye(3)
    shown[:2] = to_stored(video.orientation, video.width, video.height)
    return np.ascontiguousarray(shown @ view.matrices)


def _region(video, views):
    """What views show of the stored frames, as find_motion takes it: left, top, right, bottom in pixels."""
    everything = 0, 0, video.width, video.height
    boxes = []
    for view in views or ():
        corners = np.array([(0, 0, 1), (view.width, 0, 1), (0, view.height, 1), (view.width, view.height, 1)])
        points = _matrices(video, view) @ corners.T  # (F, 3, 4)
        if not (points[:, 2] > 0).all():
            return (ctypes.c_int64 * 4)(*everything)  # partly behind the camera: what is seen is no quadrilateral
        points = points[:, :2] / points[:, 2:]
        boxes.append((*points.min((0, 2)), *points.max((0, 2))))
    least, most = np.array(boxes or [everything])[:, :2].min(0) - 1, np.array(boxes or [everything])[:, 2:].max(0) + 1
    box = np.clip([*np.floor(least), *np.ceil(most)], 0, [*everything[2:]] * 2)
    return (ctypes.c_int64 * 4)(*box.astype(np.int64).tolist())


@cache
def _pixel_bytes(name):
    """Bytes of a pixel of luma, in a pixel format."""
    return 1 + (av.VideoFormat(name).components[0].bits > 8)


def _check_form(side_data):
    """PyAV knows vectors as kernels/vectors.cpp has them. Making an array takes as long as reading it: done once."""
    dtype = side_data.to_ndarray().dtype
    if dtype.itemsize != _VECTOR_BYTES or any(dtype.fields[name][1] != at for name, at in _VECTOR.items()):
        raise RuntimeError(f"PyAV's motion vectors have another form than is known: {dtype}")
    _known.add(type(side_data))


def _is_before(other, shown):
    """Whether a picture is decoded before another, as far as is known."""
    return other.rank is None or shown.rank is None or other.rank < shown.rank


@cache
def _kernel(name):
    """A function of kernels/vectors.cpp: "a" is for an address, "n" for a number."""
    kinds = {"find_motion": "anannnnnaa", "map_motion": "annnaannna"}[name]
    function = getattr(library(), name)
    function.argtypes = [ctypes.c_void_p if kind == "a" else ctypes.c_int64 for kind in kinds]
    return function


def _address(array):
    return array.__array_interface__["data"][0]
