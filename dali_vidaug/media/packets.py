"""What demuxing tells of a file, without decoding it: time stamps, key frames, and what is odd."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any, Protocol

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

from dali_vidaug.errors import one_line
from dali_vidaug.media.bitstream import MPEG4_PICTURE, codec_of, is_random_access
from dali_vidaug.media.container import read_packets
from dali_vidaug.media.numbers import HevcNumbers, Layer, Numbers, References
from dali_vidaug.media.oddities import INTRA_ONLY, PACKED, TOO_SHORT, TWICE, UNEVEN, UNREADABLE, Settings, oddity
from dali_vidaug.media.single import jpeg_frame, jpeg_header

_REPEATED_MIN = 64  # bytes; shorter packets may be equal, where nothing moves
_REGULAR_SHARE, _GAP = 0.8, 1.5  # of the steps between time stamps that are as usual; a step that is not, by the usual
# FFmpeg's filters that read all headers, to change some: without options they change none.
_READERS = {
    "h264": "h264_metadata",
    "hevc": "hevc_metadata",
    "mpeg2video": "mpeg2_metadata",
    "vp9": "vp9_metadata",
    "av1": "av1_metadata",
}
_NUMBERS: dict[str, Any] = {
    "h264": Numbers,
    "hevc": HevcNumbers,
    "mpeg4": Layer,
    "mpeg1video": References,
    "mpeg2video": References,
}
_SECOND_GOP_PACKETS = 4  # of which the first frames are decoded, to see whether decoding may begin at a key frame


def largest_gap(pts: np.ndarray) -> float:
    """Of time stamps, rising, on a regular grid of which some places are empty: the longest step, by the usual one.

    0 if no place is empty, or there is no grid: of a variable frame rate that cannot be known.
    """
    steps = np.diff(pts)
    if not len(steps):
        return 0.0
    usual = np.median(steps)
    regular = np.abs(steps - usual) <= min(max(1, usual / 10), usual / 4)  # a tick: stamps are rounded
    if not _REGULAR_SHARE <= regular.mean() < 1 or steps.max() < _GAP * usual:
        return 0.0
    return float(steps.max() / usual)


class Headers:
    """Reads the headers in the packets of a stream, also those of slices, where FFmpeg has a reader for them."""

    def __init__(self, stream: Any):
        name = _READERS.get(codec_of(stream))
        self._reader = BitStreamFilterContext(name, stream) if name else None
        self._is_jpeg, self._header, self._frame = codec_of(stream) == "mjpeg", b"", b""

    def are_valid(self, packet: Any) -> bool:
        """Whether those of the next packet can be read; a decoder gives no frame of a packet where they cannot."""
        if self._is_jpeg:
            header = jpeg_header(bytes(packet))
            if header != self._header:  # most are the same
                frame, self._header = jpeg_frame(header), header
                self._frame = self._frame or frame
                if not frame or frame != self._frame:
                    self._header = b""
                    return False
        try:
            if self._reader is not None:
                self._reader.filter(av.Packet(bytes(packet)))  # a copy: it takes its input
        except (av.error.FFmpegError, ValueError):
            return False
        return True


class Listener(Protocol):
    """Something that is told of each packet."""

    def add(self, packet: Any, stream: Any) -> None:
        """Take the next packet."""


class Packets:
    """The packets of a stream, looked at one by one.

    Args:
        container, stream: of a file from which nothing has been read yet.
        listener: is told of each packet.

    Attributes:
        pts: of all packets, in decoding order; None where there is none.
        random_access: time stamps of the packets where decoding can begin as far as is known without decoding.
        odd_packets: why some of them may not be one frame each, or be other than they seem; or None.
        uneven: why there may be more or fewer frames than packets although none of them is odd, or None.
        num_pictures: coded pictures in all packets, where none of them is odd.
        odd_stamps: why time stamps do not tell which frame a packet is, or None.
        note: how the file ends, if it ends with an error; otherwise empty.
        first_gop, last_gop: packets; the last is empty when there is only one.
        second_gop: the first packets of the second GOP.
    """

    def __init__(self, container: Any, stream: Any, listener: Listener | None = None):
        self.pts: list[int | None] = []
        self.random_access: list[int] = []
        self.odd_packets: str | None = None
        self.odd_stamps: str | None = None
        self.uneven: str | None = None
        self._pair_is_open = False  # the last picture of a file that ends so is never shown
        self.num_pictures = 0
        self.note = ""
        self.first_gop: list = []
        self.second_gop: list = []
        self.last_gop: list = []
        self._hidden: list[int] = []
        self._settings = Settings(stream)
        self._headers = Headers(stream)
        codec = codec_of(stream)
        self._numbers = _NUMBERS[codec](stream) if codec in _NUMBERS else None
        self._num_gops = 0
        self._previous = b""
        self._latest, self._latest_before = float("-inf"), float("-inf")  # stamps, of this GOP and of those before it
        try:
            for packet in read_packets(container, stream):
                self._add(packet, stream)
                if listener is not None:
                    listener.add(packet, stream)
        except (av.error.FFmpegError, OSError) as error:  # truncated: what came before still counts
            self.note = f" ({one_line(error)})"
        self.num_pictures -= self._pair_is_open
        self._look_at_stamps()

    def _add(self, packet, stream):
        ready = self._settings.add(packet, stream)
        begins = ready and packet.pts is not None and is_random_access(packet, stream)
        if not self.pts and not (ready and is_random_access(packet, stream)):
            self.odd_packets = "it does not begin with a key frame"
        if begins:
            self._num_gops += 1
            self._latest_before = self._latest
            self.random_access.append(packet.pts)
        if begins and self.pts:
            self.last_gop = [packet]
        elif self.last_gop:
            self.last_gop.append(packet)
        else:
            self.first_gop.append(packet)
        if self._num_gops == 2 and len(self.second_gop) < _SECOND_GOP_PACKETS:
            self.second_gop.append(packet)
        if packet.pts is not None:
            if packet.pts <= self._latest_before:
                self.odd_stamps = "time stamps do not rise from GOP to GOP"
            self._latest = max(self._latest, packet.pts)
            if packet.dts is not None and packet.pts < packet.dts:
                self.odd_stamps = "a packet is shown before it is decoded"
        if self.odd_packets is None:
            self._add_oddity(oddity(packet, stream, not self.pts) or self._contradiction(packet, stream), packet)
        self.pts.append(packet.pts)
        if packet.is_discard and packet.pts is not None:
            self._hidden.append(packet.pts)

    def _add_oddity(self, why, packet):
        """Take why a packet is odd, or None. In a pair of packets, one has two pictures, the other is a placeholder."""
        if why == PACKED:
            self.uneven, self._pair_is_open = why, True
            self.num_pictures += bytes(packet).count(MPEG4_PICTURE)
        elif self.uneven == PACKED and why == TOO_SHORT:
            self._pair_is_open = False
        elif why in UNEVEN:
            self.uneven = self.uneven or why
            self.num_pictures += 1
        else:
            self.odd_packets = why
            self.num_pictures += 1

    def _contradiction(self, packet, stream):
        """What is odd about a packet after those before it, or None."""
        if codec_of(stream) in INTRA_ONLY:
            return None if self._headers.are_valid(packet) else UNREADABLE
        previous, self._previous = self._previous, bytes(packet)
        if self._settings.changed:
            return "parameter sets change"
        if len(previous) >= _REPEATED_MIN and self._previous == previous:
            return TWICE
        why = self._numbers.add(packet, stream) if self._numbers else None
        return why or (None if self._headers.are_valid(packet) else UNREADABLE)

    def _look_at_stamps(self):
        if self._numbers and self._numbers.contradicts:
            self.odd_stamps = "time stamps contradict the order of frames"
        if self.pts and not self.has_stamps():
            self.odd_stamps = "some packets have no time stamp of their own"
        elif self._hidden and (shown := self.shown):
            first, last = min(shown), max(shown)
            if any(first < pts < last for pts in self._hidden):
                self.odd_stamps = "an edit list hides frames in the middle"
        gap = 0.0 if self.oddity else largest_gap(np.sort([pts for pts in self.pts if pts is not None]))
        if gap and not (isinstance(self._numbers, Numbers) and gap < self._numbers.period):
            self.uneven = "frames are missing in the middle, by their time stamps"

    @property
    def oddity(self) -> str | None:
        """Why all frames must be decoded to be counted, or None."""
        return self.odd_packets or self.odd_stamps or self.uneven

    @property
    def shown(self) -> set[int]:
        """Time stamps of the packets that an edit list does not hide."""
        return {pts for pts in self.pts if pts is not None} - set(self._hidden)

    @property
    def num_hidden(self) -> int:
        """How many packets an edit list hides."""
        return len(self._hidden)

    def has_stamps(self) -> bool:
        """Whether every packet has a time stamp of its own."""
        return None not in self.pts and len(set(self.pts)) == len(self.pts)

    def name_frames(self, pts: list[int | None]) -> bool:
        """Whether these, of frames in presentation order, rise, and each is the time stamp of one packet."""
        counts = Counter(self.pts)
        stamps = [one for one in pts if one is not None and counts[one] == 1]
        return len(stamps) == len(pts) and all(a < b for a, b in pairwise(stamps))
