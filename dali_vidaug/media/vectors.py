"""What moves in decoded frames, by the motion vectors that FFmpeg's decoders export; and maps of it on clips.

A vector says where a block of a frame is in another picture, and whether that one is shown before or after the frame,
not which one it is. H.264 may refer to several: of those that a frame may refer to, the one is taken in which the block
looks most like it (kernels/vectors.cpp). The other codecs refer to the nearest one of each direction.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import repeat
from typing import Any, NamedTuple

import av
import numpy as np
from av.sidedata.motionvectors import MotionVectors
from av.sidedata.sidedata import SideDataContainer
from av.video.plane import VideoPlane

from dali_vidaug.kernels import library
from dali_vidaug.media.coded_order import CodedOrder, num_references
from dali_vidaug.media.orientation import to_stored
from dali_vidaug.media.video import Video, is_counted

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
_NUM_LATER = 2  # of H.264: so many pictures that are decoded before a frame and shown after it are looked at
_picture = struct.Struct("Qqq").pack  # Picture of kernels/vectors.cpp
_B_PICTURE = 3  # AV_PICTURE_TYPE_B
_known: list[np.dtype] = []  # the form of vectors, when it was compared


class View(NamedTuple):
    """A clip that a map is made for.

    Attributes:
        matrices: (F, 3, 3) float64, from points of the clip to those of the frames of the video as shown.
        height, width: of the clip.
        every: how far apart the frames of the clip are that are looked at; the first is. Of others nothing is known.
    """

    matrices: np.ndarray
    height: int
    width: int
    every: int = 1


class _Shown(NamedTuple):
    """A frame.

    Attributes:
        number: index of it; -1 if it is hidden.
        rank: in decoding order; -1 where it is not known.
        until: index of the last frame that may refer to it, of those that are shown after it.
        frame: an ``av.VideoFrame``.
    """

    number: int
    rank: int
    until: float
    frame: Any


@dataclass(slots=True)
class _Waiting:
    """A frame that may refer to pictures that are shown after it and have not come out of the decoder yet.

    Attributes:
        shown: the frame.
        earlier, later: pictures that it may refer to.
        missing: how many more are known to come of those that are decoded before it and shown after it; -1: not known.
        places: how many more pictures are looked at.
    """

    shown: _Shown
    earlier: list[_Shown]
    later: list[_Shown]
    missing: int
    places: int


class Vectors:
    """Finds what moves in some frames of a video while it is decoded.

    Args:
        video: its row of the manifest.
        frames: indices of those frames.
        decoded: indices of all frames that are wanted, for pixels too.
        views: the clips that maps will be made for; None: any.

    Attributes:
        found: for each of them, by its index, (rows, columns, 2) float32: how many pixels each block of 8 x 8 pixels of
            the stored frame, of the part that views show, moves to the right and down per frame, since or until the
            picture that it refers to; NaN where nothing is known. Frames without vectors (key frames) are not there.
    """

    def __init__(
        self, video: Video, frames: AbstractSet[int], decoded: AbstractSet[int], views: Sequence[View] | None = None
    ):
        self.found: dict[int, np.ndarray] = {}
        self._decoded, self._video, self._size = decoded, video, (video.height, video.width)
        self._is_h264, self._is_counted = video.codec == "h264", is_counted(video)
        self._num_earlier, self._num_later = 1, 1
        self._to_stored = _to_stored(video.orientation, video.width, video.height)
        self._region = self._seen(views)
        left, top, right, bottom = self._region
        blocks = -(-bottom // _BLOCK) - top // _BLOCK, -(-right // _BLOCK) - left // _BLOCK
        room = np.empty((len(frames), *blocks, 2), np.float32)  # for what is found
        self._frames = {index: (_address(room) + i * room.strides[0], room[i]) for i, index in enumerate(frames)}
        self._find_motion = _kernel("find_motion")
        self._forget()

    def _seen(self, views):
        """What views show of the stored frames: left, top, right, bottom in pixels."""
        height, width = self._size
        region = (ctypes.c_int64 * 4)(*((width, height, 0, 0) if views else (0, 0, width, height)))
        for view in views or ():
            matrices = np.ascontiguousarray(view.matrices, np.float64)
            clip = len(matrices), self._to_stored, view.height, view.width
            _kernel("widen_region")(_address(matrices), *clip, height, width, region)
        return region

    def _forget(self):
        self._waiting: list[_Waiting] = []
        self._earlier: list[_Shown] = []  # reference pictures, the latest first
        self._until: dict[int, int] | None = None  # of each, by its time stamp; None: not known
        self._order = CodedOrder()

    def needed(self) -> np.ndarray:
        """The wanted frames, and others that are to be decoded so that these have vectors: (F,) int64, rising."""
        decoded, frames = (np.array(sorted(some), np.int64) for some in (self._decoded, self._frames))
        if self._video.codec not in _LATE:
            return decoded
        gops = np.searchsorted(self._video.keyframes, frames, "right")
        after = 1 + frames[np.append(np.diff(gops) > 0, True)]  # the last of each GOP is pushed out by what comes next
        return np.union1d(decoded, after[after < self._video.num_frames])

    def begin(self, cut: Any) -> Any:
        """Look at what is decoded next, a ``Cut``; returns it, to be decoded."""
        self._forget()
        if not self._is_h264:
            return cut
        said = num_references(cut.stream.codec_context.extradata or b"")
        self._num_earlier, self._num_later = max(said, 1), _NUM_LATER
        if not isinstance(cut.packets, list):
            return cut._replace(packets=self._watched(cut.packets, cut.stream))
        wanted = {}
        for rank, (packet, number) in enumerate(zip(cut.packets, cut.frames or repeat(-1), strict=False)):
            if number in self._frames:
                wanted[packet.pts] = number
            # Of the packets that are not wanted, a cut has those alone that others refer to.
            self._order.look(packet, rank, cut.stream, unsure=number in self._decoded or not cut.frames)
        if cut.frames:
            self._until = self._order.last_uses(dict(sorted(wanted.items())), self._num_earlier)
        return cut

    def _watched(self, packets: Iterable[Any], stream: Any) -> Iterator[Any]:
        for rank, packet in enumerate(packets):
            self._order.look(packet, rank, stream, unsure=True)
            yield packet

    def add(self, frame: Any, index: int) -> None:
        """Look at the next frame, in presentation order.

        Args:
            frame: as it is decoded.
            index: of it; -1 if it is hidden.
        """
        is_b, is_wanted = frame.pict_type == _B_PICTURE, index in self._frames
        rank, is_referred = self._order.pictures.get(frame.pts) or (-1, not is_b)
        rank = -1 if is_b and self._is_counted else rank  # time stamps in AVI do not tell what is decoded before it
        if not (is_wanted or is_referred):
            return
        until = math.inf if self._until is None or rank < 0 else self._until.get(frame.pts, -1)
        shown = _Shown(index, rank, until, frame)
        if is_referred and self._waiting:
            self._offer(shown)
        if is_wanted:
            missing = 0 if not is_b else self._order.num_later(frame.pts, rank) if rank >= 0 else -1
            earlier = [one for one in self._earlier if one.rank < rank or rank < 0]  # what is decoded before it
            if missing:
                self._waiting.append(_Waiting(shown, earlier[: self._num_earlier], [], missing, self._num_later))
            else:
                self._find(shown, earlier[: self._num_earlier], [])
            self._earlier = [one for one in self._earlier if one.until > index]  # others are in the caches' way
        if is_referred and until > index:
            self._earlier.insert(0, shown)
            if until == math.inf:
                del self._earlier[self._num_earlier + self._num_later :]

    def _offer(self, shown):
        """Frames that wait for pictures look at one; those that need no more are done."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.places -= 1
            if one.shown.rank < 0 or shown.rank < one.shown.rank:
                one.later.append(shown)
                one.missing -= shown.rank >= 0  # others are not counted there
            if one.missing and one.places:
                self._waiting.append(one)
            else:
                self._find(one.shown, one.earlier, one.later)

    def end(self) -> None:
        """No more frames of the cut come."""
        for one in self._waiting:
            self._find(one.shown, one.earlier, one.later)
        self._forget()  # frees the frames

    def _find(self, shown, earlier, later):
        number, _, _, frame = shown
        self.found.pop(number, None)  # of a cut before that could not be decoded to its end
        # frame.side_data would refer to the frame and the frame to it, so that only the cyclic collector frees both
        side_data = [one for one in SideDataContainer(frame) if type(one) is MotionVectors]  # type: ignore[call-arg]
        if not side_data or frame.interlaced_frame:  # vectors of fields refer to fields, which have other times
            return
        if frame.pict_type == _B_PICTURE and self._video.codec not in _B_CODECS:
            return
        name, packed = frame.format.name, []
        for index, _, _, other in (shown, *earlier, *later):
            if (other.height, other.width) != self._size or other.format.name != name:
                return  # it changes within the file
            plane = VideoPlane(other, 0)  # other.planes would make three
            packed.append(_picture(plane.buffer_ptr, plane.line_size, index))
        _check_form(side_data[0])
        vectors, count = side_data[0].buffer_ptr, side_data[0].buffer_size // _VECTOR_BYTES
        pictures = b"".join(packed), len(earlier), len(later), _pixel_bytes(name)
        place, found = self._frames[number]
        self._find_motion(vectors, count, *pictures, *self._size, self._region, place)
        self.found[number] = found

    def map(self, frames: np.ndarray, view: View) -> np.ndarray:
        """What moves in a clip, (2, F, h, w) float32: pixels of the clip to the right and down per frame.

        Args:
            frames: (F,) int, its frames.
            view: of the video, that the clip is.

        Returns:
            For each cell of 16 x 16 pixels of the clip (the last ones may be smaller) the mean of what is known of it,
            else NaN.
        """
        matrices = np.ascontiguousarray(view.matrices, np.float64)
        looked_at = [i if at % view.every == 0 else -1 for at, i in enumerate(frames.tolist())]
        places = [self._frames[i][0] if i in self.found else 0 for i in looked_at]
        out = np.empty((2, len(places), -(-view.height // CELL), -(-view.width // CELL)), np.float32)
        found = struct.pack(f"{len(places)}P", *places), len(places), *self._size, self._region
        clip = _address(matrices), self._to_stored, view.height, view.width, CELL
        _kernel("map_motion")(*found, *clip, _address(out))
        return out


@lru_cache
def _to_stored(*of):
    """(3, 3) float64 as bytes, else as ``to_stored``."""
    return np.concatenate([to_stored(*of), [[0.0, 0.0, 1.0]]]).tobytes()


@cache
def _pixel_bytes(name):
    """Bytes of a pixel of luma, in a pixel format."""
    return 1 + (av.VideoFormat(name).components[0].bits > 8)


def _check_form(side_data):
    """PyAV knows vectors as kernels/vectors.cpp has them. Making an array takes as long as reading it: done once."""
    if _known:
        return
    dtype = side_data.to_ndarray().dtype
    if dtype.itemsize != _VECTOR_BYTES or any(dtype.fields[name][1] != at for name, at in _VECTOR.items()):
        raise RuntimeError(f"PyAV's motion vectors have another form than is known: {dtype}")
    _known.append(dtype)


@cache
def _kernel(name):
    """A function of kernels/vectors.cpp: "a" is for an address, "n" for a number."""
    kinds = {"find_motion": "anannnnnaa", "map_motion": "annnaaannna", "widen_region": "anannnna"}[name]
    function = getattr(library(), name)
    function.argtypes = [ctypes.c_void_p if kind == "a" else ctypes.c_int64 for kind in kinds]
    return function


def _address(array):
    return array.__array_interface__["data"][0]
