"""What packets say about the order of frames, and about frames that are missing; compared with their time stamps."""

from __future__ import annotations

from typing import Any

from dali_vidaug.media.bitstream import MPEG2_PICTURE, MPEG4_PICTURE, hevc_sets_in, mpeg4_picture, nal_units, sets_in
from dali_vidaug.media.cut import REORDER_MAX
from dali_vidaug.media.h264 import Slice, read_sequence, read_slice
from dali_vidaug.media.headers import mpeg4_is_coded, mpeg4_time_bits
from dali_vidaug.media.hevc import read_hevc_order, read_hevc_picture_set, read_hevc_sequence
from dali_vidaug.media.oddities import LAYERS

REFERENCE_MISSING, FRAME_MISSING = "a frame that others refer to is missing", "a frame is missing"
_MPEG2_GOP = b"\0\0\1\xb8"
_HEVC_SLICES, _HEVC_IDR, _HEVC_AFRESH = range(10), (19, 20), range(16, 21)  # ITU-T H.265, table 7-1; the last with BLA
_HEVC_LEADING = (*range(0, 15, 2), *range(6, 10))  # not those that others are counted from (8.3.1): also RADL and RASL
_HEVC_SPS, _HEVC_PPS = 33, 34


class Order:
    """Places in presentation order, of which packets have the low bits alone, compared with time stamps.

    Attributes:
        contradicts: whether the two orders are not the same.
    """

    def __init__(self) -> None:
        self.contradicts = False
        self._latest = 0  # the place that others are counted from
        self._stamps: list[tuple[int, int]] = []  # place and time stamp of each frame

    def restart(self) -> None:
        """Count anew: what comes now is shown after all before."""
        self._latest, self._stamps = 0, []

    def add(self, low: int, size: int, pts: int | None, counts: bool) -> None:
        """Look at the next frame.

        Args:
            low: its place, modulo ``size``.
            size: a power of two.
            pts: its time stamp, or None.
            counts: the places of those after it are counted from it.
        """
        place = self._latest - ((self._latest - low + size // 2) % size - size // 2)
        if pts is not None:
            self._stamps = self._stamps[-REORDER_MAX:]
            self.contradicts |= any((place < other) != (pts < stamp) for other, stamp in self._stamps)
            self._stamps.append((place, pts))
        if counts:
            self._latest = place


class Numbers:
    """Follows the frame numbers of H.264, and compares the order of frames with that of their time stamps.

    Attributes:
        period: so many frames in a row may be missing without being noticed, fewer may not. 0 if numbers do not tell.
    """

    def __init__(self, stream: Any):
        self.period = 1 << 16
        units = [unit for unit in sets_in(stream.codec_context.extradata or b"") if unit[0] & 31 == 7]
        self._sequence = read_sequence(units[0]) if units else None
        self._previous: Slice | None = None  # the latest reference
        self._order = Order()

    def add(self, packet: Any, stream: Any) -> str | None:
        """Look at the next packet; returns what is odd about it, or None."""
        units = nal_units(packet, stream)
        for unit in units:
            if unit[0] & 31 == 7:
                self._sequence = read_sequence(unit)
        first = next((unit for unit in units if unit[0] & 31 in (1, 5)), None)
        now = read_slice(first, self._sequence) if first is not None and self._sequence is not None else None
        if now is None or now.is_field or self._sequence is None:
            self.period = 0
            return None
        self.period = 0 if self._sequence.gaps else min(self.period, 1 << self._sequence.frame_num_bits)
        return self._follow(now, packet.pts, self._sequence)

    @property
    def contradicts(self) -> bool:
        """Whether the order of time stamps is another."""
        return self._order.contradicts

    def _follow(self, now, pts, sequence):
        previous = self._previous
        if now.is_idr:
            self._order.restart()
            previous = None
        why = None
        if previous is not None and not sequence.gaps:
            step = (now.frame_num - previous.frame_num) % (1 << sequence.frame_num_bits)
            why = REFERENCE_MISSING if step not in (0, 1) else None
        if sequence.order_bits:
            self._order.add(now.order, 1 << sequence.order_bits, pts, now.is_reference)
        if now.is_reference:
            self._previous = now
        return why


class HevcNumbers:
    """Compares the order of frames of H.265 with that of their time stamps."""

    def __init__(self, stream: Any):
        self._sequence: Any = None
        self._picture_sets: dict = {}
        self._order = Order()
        self._read(hevc_sets_in(stream.codec_context.extradata or b""))

    @property
    def contradicts(self) -> bool:
        """Whether the order of time stamps is another."""
        return self._order.contradicts

    def _read(self, units):
        for unit in units:
            kind = unit[0] >> 1 & 63
            if kind == _HEVC_SPS:
                self._sequence = read_hevc_sequence(unit)
            elif kind == _HEVC_PPS:
                read = read_hevc_picture_set(unit)
                self._picture_sets[read.number] = read

    def add(self, packet: Any, stream: Any) -> str | None:
        """Look at the next packet."""
        units = [unit for unit in nal_units(packet, stream) if len(unit) > 2 and not unit[0] & 1 and not unit[1] >> 3]
        self._read(units)
        first = next((unit for unit in units if unit[0] >> 1 & 63 in (*_HEVC_SLICES, *range(16, 22))), None)
        if first is None or self._sequence is None:
            return None
        kind, low = first[0] >> 1 & 63, 0
        if kind in _HEVC_AFRESH:
            self._order.restart()
        if kind not in _HEVC_IDR:
            order = read_hevc_order(first, self._sequence, self._picture_sets)
            if order is None:
                return None
            low = order
        counts = first[1] & 7 == 1 and kind not in _HEVC_LEADING  # of temporal layer 0
        self._order.add(low, 1 << self._sequence.order_bits, packet.pts, counts)
        return None


class Layer:
    """Follows the pictures of MPEG-4 part 2, and compares the order in which they are shown with their time stamps.

    Attributes:
        contradicts: whether the two orders are not the same.
    """

    def __init__(self, stream: Any):
        self.contradicts = False
        self._time_bits: int | None = None
        self._waiting: int | None = None  # time stamp of the latest picture that is not B: shown when the next comes
        self._shown: int | None = None
        self._read(stream.codec_context.extradata or b"")

    def _read(self, data):
        for part in data.split(b"\0\0\1")[1:]:
            if part[:1] and part[0] in LAYERS:
                self._time_bits = mpeg4_time_bits(part[1:])

    def add(self, packet: Any, stream: Any) -> str | None:
        """Look at the next packet; returns what is odd about it, or None."""
        before, _, picture = bytes(packet).partition(MPEG4_PICTURE)
        self._read(before)
        if mpeg4_picture(packet) == "B":
            self._show(packet.pts)
        else:
            self._show(self._waiting)
            self._waiting = packet.pts
        coded = self._time_bits is None or mpeg4_is_coded(picture, self._time_bits)
        return None if coded else "a picture is not coded"

    def _show(self, pts):
        if pts is not None:
            self.contradicts |= self._shown is not None and pts <= self._shown
            self._shown = pts


class References:
    """Follows the temporal references of MPEG-1 and MPEG-2, which number the frames of each GOP.

    Attributes:
        contradicts: whether the order of time stamps is another.
    """

    def __init__(self, stream: Any):
        self.contradicts = False
        self._gop: dict[int, int | None] = {}  # time stamps by temporal reference

    def add(self, packet: Any, stream: Any) -> str | None:
        """Look at the next packet; returns what is odd about the GOP that it ends, or None."""
        data, why = bytes(packet), None
        if _MPEG2_GOP in data:
            why = None if set(self._gop) == set(range(len(self._gop))) else FRAME_MISSING
            self._gop = {}
        picture = data.partition(MPEG2_PICTURE)[2]
        if len(picture) > 1:
            number = picture[0] << 2 | picture[1] >> 6
            why = why or ("a frame comes twice" if number in self._gop else None)
            if packet.pts is not None:
                others = ((other, pts) for other, pts in self._gop.items() if pts is not None)
                self.contradicts |= any((number < other) != (packet.pts < pts) for other, pts in others)
            self._gop[number] = packet.pts
        return why
