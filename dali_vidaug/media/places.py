"""Whether a file can have a packet index: every packet is compared with the file's bytes, and clips are decoded both
ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dali_vidaug.errors import one_line
from dali_vidaug.media.bitstream import is_reference
from dali_vidaug.media.cut import READ_ERRORS, can_be_indexed, is_hidden, read_by_index
from dali_vidaug.media.decode import decode_frames
from dali_vidaug.media.index import (
    ANCHOR,
    DISCARD,
    FULL,
    KEY,
    NO_DTS,
    NON_REFERENCE,
    Index,
    Packets,
    checksum,
    pack_codec,
    pack_packets,
)
from dali_vidaug.media.indexed_file import IndexedFile
from dali_vidaug.media.prove import Frame, compare, digest_of
from dali_vidaug.media.references import UNKNOWN, References, spared
from dali_vidaug.media.storage import Source
from dali_vidaug.media.video import Video, bytes_of, frame_indices, frame_pts

_OTHER = "decoding from it gives other frames"
_HEADER_MAX = 256  # bytes that a container may put between the place that it tells and the packet
_GOP_COMPARED, _CUTS_COMPARED = 64, 4  # packets of a GOP of which so many cuts lack as many references as may be
_FRAMES_COMPARED = 5  # from the first, the second and the last key frame on


class Places:
    """Where the packets of a file lie. They are looked for at the places that the container tells.

    Args:
        source: the bytes of the file.
        stream: of it, of which nothing has been decoded yet.

    Attributes:
        problem: why the file can have no index, or None.
    """

    def __init__(self, source: Source, stream: Any):
        self.problem: str | None = None
        self._rows: list[tuple[int, ...]] = []
        self._codec = b""
        self._references = References(stream)
        self._source = source
        try:
            self._codec = pack_codec(stream)
        except ValueError as error:
            self.problem = f"PyAV does not tell what its decoder must know ({one_line(error)})"

    def add(self, packet: Any, stream: Any) -> None:
        """Look for the next packet."""
        if self.problem is not None:
            return
        data = bytes(packet)
        references, is_anchor = self._references.add(packet, stream)
        place = self._find(packet.pos, data)
        if packet.pts is None:
            self.problem = "a packet has no time stamp"
        elif place is None:
            self.problem = "its packets are not in one piece in the file"
        elif any(True for _ in packet.iter_sidedata()):
            self.problem = "its packets have side data"
        else:
            flags = KEY * packet.is_keyframe + DISCARD * is_hidden(packet) + NO_DTS * (packet.dts is None)
            flags += NON_REFERENCE * (not is_reference(packet, stream)) + ANCHOR * is_anchor
            flags += FULL * (packet.is_keyframe or not self._rows)
            dts = packet.pts if packet.dts is None else packet.dts
            self._rows.append((packet.pts, dts, place, len(data), flags, checksum(data, flags), references))

    def _find(self, told, data):
        """The place of the first such bytes at or soon after the place that the container tells, or None."""
        if told is None or told < 0:
            return None
        last = min(told + len(data) + _HEADER_MAX, self._source.size)
        if last < told + len(data):
            return None
        (there,) = self._source.read([(told, last)])
        at = bytes(there).find(data)
        return told + at if at >= 0 else None

    @property
    def packets(self) -> Packets:
        """What was found. References are told only where frames can do without some."""
        packets = Packets(*np.array(self._rows, np.int64).reshape(-1, len(Packets._fields)).T)
        useful = (packets.references != UNKNOWN).any() and any(spared(packets))
        return packets if useful else _without_references(packets)

    def pack(self, packets: Packets) -> Index:
        """The index of its packets."""
        return Index(self._codec, pack_packets(packets))


def prove_index(video: Video, places: Places, truth: Sequence[Frame] | None = None) -> tuple[Index | None, str | None]:
    """Make the index of a file if clips of it are the same by the index and by the container.

    Args:
        video: its row of the manifest.
        places: of all its packets.
        truth: all frames of a full decode, with digests: each is compared. None: a few frames at three places.

    Returns:
        The index or None, and why there is none.
    """
    if not can_be_indexed(video):
        return None, "its packets are not one frame each, with time stamps of their own and the settings of the first"
    if places.problem is not None:
        return None, places.problem
    packets = places.packets
    index = places.pack(packets)
    indexed = video._replace(packet_index=index)
    if not read_by_index(indexed):
        return None, "this PyAV cannot be told what its decoder must know"
    if not _has_all(indexed, packets):
        return None, "its time stamps do not tell each packet"
    keys = [0, *(key for key in video.keyframes.tolist() if key)]
    sampled = sorted({0, min(1, len(keys) - 1), len(keys) - 1})
    if any(_spares_too_much(video, indexed, packets, keys[i]) for i in sampled):
        index = places.pack(_without_references(packets))
        indexed = video._replace(packet_index=index)
    if truth is not None:
        gops = zip(keys, [*keys[1:], video.num_frames], strict=True)
        return (None, _OTHER) if any(compare(indexed, range(*gop), truth) for gop in gops) else (index, None)
    for i in sampled:
        frames = np.arange(keys[i], min(video.num_frames, keys[i] + _FRAMES_COMPARED))
        try:
            if _looks(video, frames) != _looks(indexed, frames):
                return None, _OTHER
        except READ_ERRORS as error:
            return None, f"decoding from it fails ({one_line(error)})"
    return index, None


def _without_references(packets: Packets) -> Packets:
    """The packets of which each may refer to all reference pictures before it."""
    return packets._replace(flags=packets.flags & ~ANCHOR, references=np.full(len(packets.references), UNKNOWN))


def _spares_too_much(video, indexed, packets, key):
    """Whether frames after a key frame are others, decoded without the references that they are said not to need."""
    frames = frame_indices(video, packets.pts)
    start = int(((frames == key) & (packets.flags & KEY != 0)).argmax())
    gop = packets.part(slice(start, start + _GOP_COMPARED))
    gop = gop.part(slice(1 + int(np.flatnonzero(np.append(gop.flags[1:] & KEY, KEY))[0])))
    lacking = dict(zip(frames[start : start + len(gop.pts)].tolist(), spared(gop), strict=True))
    lacking = {frame: lacks for frame, lacks in lacking.items() if frame >= key and lacks}
    chosen: list[int] = []
    while lacking and len(chosen) < _CUTS_COMPARED:  # each lacks the most that those before did not
        most = max(lacking, key=lambda frame: lacking[frame].bit_count())
        chosen, known = [*chosen, most], lacking[most]
        lacking = {frame: lacks & ~known for frame, lacks in lacking.items() if lacks & ~known}
    try:
        truth = _looks(video, np.array(chosen)) if chosen else {}
        return any(_looks(indexed, np.array([frame])) != {frame: truth[frame]} for frame in chosen)
    except READ_ERRORS:
        return True


def _looks(video, frames):
    """Everything of frames that clips depend on, by index."""
    wanted, looks = set(frames.tolist()), {}
    for frame, index in decode_frames(video, frames, {"read": 0.0}, least=True):
        if index in wanted:
            look = (frame.pts, frame.width, frame.height, frame.format.name, frame.color_range, frame.colorspace)
            looks[index] = (*look, digest_of(frame))
    return looks


def _has_all(video, packets):
    """Whether an index has these packets, those that are shown are the frames, and each key frame can be found."""
    with bytes_of(video) as source:
        file = IndexedFile(source, video.packet_index)
        blocks = list(file.packets_from(None))
        same = all(
            np.array_equal(np.concatenate(found), of)
            for found, of in zip(zip(*blocks, strict=True), packets, strict=True)
        )
        shown = np.sort(packets.pts[packets.flags & DISCARD == 0])
        same &= np.array_equal(frame_indices(video, shown), np.arange(video.num_frames))
        return same and all(
            _has_key(video, next(file.packets_from(frame_pts(video, key))), key) for key in video.keyframes.tolist()
        )


def _has_key(video, block, key):
    return bool(((frame_indices(video, block.pts) == key) & (block.flags & KEY != 0)).any())
