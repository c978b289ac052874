"""Which packets a clip needs of a GOP: its frames, and all that they refer to, directly or not.

That is the *reference-closed set* of the wanted frames, the least that a decoder can decode which goes by headers.
H.265 says with each picture which ones it may refer to. Nothing else is needed: the decoder finds them by their places
in presentation order, whatever was left out between them, and reports one that is missing. In other codecs a picture
may refer to all reference pictures before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from dali_vidaug.media.bitstream import hevc_sets_in, nal_units
from dali_vidaug.media.hevc import HevcSequence, read_hevc_picture_set, read_hevc_sequence, read_hevc_slice
from dali_vidaug.media.index import ANCHOR, KEY, NON_REFERENCE, Packets

UNKNOWN = -1  # in place of the references of a packet: it may refer to every reference picture before it
_DISTANCE_MAX = 62  # packets between a picture and one that it refers to; farther ones are not known
_SPS, _PPS = 33, 34  # ITU-T H.265, table 7-1
_SLICES, _AFRESH = (*range(10), *range(16, 22)), range(16, 21)
_UNCOUNTED = (*range(0, 15, 2), *range(6, 10))  # those that places are not counted from (8.3.1): also RADL and RASL


def reference_closure(packets: Packets, wanted: np.ndarray) -> np.ndarray:
    """The packets that some need.

    Args:
        packets: (P,) in decoding order, the first a key frame.
        wanted: (P,) bool, the last is.

    Returns:
        (P,) bool: those that are wanted, the first, all that these refer to, and ``ANCHOR``s.
    """
    needed, references = wanted.copy(), packets.references.tolist()
    anchors = (packets.flags & ANCHOR != 0).tolist()
    pending = 0  # bit 0: the packet at hand is referred to; bit 1: the one before it
    for at in range(len(references) - 1, -1, -1):
        if pending & 1 or anchors[at] or needed[at]:
            needed[at] = True
            if references[at] == UNKNOWN:
                needed[:at] |= packets.flags[:at] & NON_REFERENCE == 0
                break
            pending |= references[at] << 1
        pending >>= 1
    needed[0] = True
    return needed


def spared(packets: Packets) -> Iterator[int]:
    """Tell for each packet which reference packets it can do without, of those since the latest key frame.

    Args:
        packets: (P,) in decoding order.

    Yields:
        A sum of 2 ** i over the packets i after its key frame (or the first packet).
    """
    closures: deque[int] = deque(maxlen=_DISTANCE_MAX)
    required, before, key = 0, 0, 0
    for at, (flags, references) in enumerate(zip(packets.flags.tolist(), packets.references.tolist(), strict=True)):
        if flags & KEY or at == 0:
            required, before, key = 0, 0, at
            closures.clear()
        closure = required | 1 << (at - key) | (before if references == UNKNOWN else 0)
        while references > 0:
            distance = references.bit_length()
            references ^= 1 << (distance - 1)
            closure |= closures[-distance] if distance <= len(closures) else 0
        closures.append(closure)
        required |= closure if flags & ANCHOR or at == key else 0
        before |= 0 if flags & NON_REFERENCE else 1 << (at - key)
        yield before & ~closure


class References:
    """Tells of each packet of a stream, one after the other, which packets before it are referred to.

    Args:
        stream: PyAV's.
    """

    def __init__(self, stream: Any):
        self._is_hevc = stream.codec_context.name == "hevc"
        self._sequence: HevcSequence | None = None
        self._sequences: set[bytes] = set()
        self._picture_sets: dict = {}
        self._numbers: dict[int, int] = {}  # of the packets that are still in the decoder, by place
        self._number, self._latest = -1, 0  # of this packet; the place that others are counted from
        self._counted: list[int] = []  # since the latest anchor, the places that others are counted from
        if self._is_hevc:
            self._read(hevc_sets_in(stream.codec_context.extradata or b""))

    def _read(self, units):
        for unit in units:
            kind = unit[0] >> 1 & 63
            if kind == _SPS:
                self._sequences.add(unit)
                self._sequence = read_hevc_sequence(unit) if len(self._sequences) == 1 else None  # which is in force?
            elif kind == _PPS:
                read = read_hevc_picture_set(unit)
                self._picture_sets[read.number] = read

    def add(self, packet: Any, stream: Any) -> tuple[int, bool]:
        """Look at the next packet.

        Returns:
            A sum of 2 ** (d - 1) over the packets d before it, in decoding order, that it may refer to, or ``UNKNOWN``;
            and whether it is an ``ANCHOR``.
        """
        self._number += 1
        if not self._is_hevc:
            return UNKNOWN, False
        units = [unit for unit in nal_units(packet, stream) if len(unit) > 2 and not unit[0] & 1 and not unit[1] >> 3]
        self._read(units)
        slices = [unit for unit in units if unit[0] >> 1 & 63 in _SLICES]
        read = read_hevc_slice(slices[0], self._sequence, self._picture_sets) if slices and self._sequence else None
        if read is None or self._sequence is None:
            self._numbers, self._counted = {}, []
            return UNKNOWN, True
        kind, size = slices[0][0] >> 1 & 63, 1 << self._sequence.order_bits
        place = self._latest - ((self._latest - read.order + size // 2) % size - size // 2)
        if kind in _AFRESH or self._number == 0:
            place, self._numbers, self._counted = read.order, {}, []
        missing = self._number - _DISTANCE_MAX - 1
        distances = [self._number - self._numbers.get(place + step, missing) for step in read.referred]
        self._numbers = {place + d: self._numbers[place + d] for d in read.kept if place + d in self._numbers}
        self._numbers[place] = self._number
        counts = slices[0][1] & 7 == 1 and kind not in _UNCOUNTED  # of temporal layer 0
        self._latest = place if counts else self._latest
        is_safe, is_anchor = self._count(place, counts, size)
        known = is_safe and all(distance <= _DISTANCE_MAX for distance in distances)
        return sum(1 << (distance - 1) for distance in distances) if known else UNKNOWN, is_anchor

    def _count(self, place, counts, size):
        """Whether a decoder that has the latest anchor gets this place right; and whether it is to be the next anchor.

        Only the low bits of places are coded, and each is within half their range of the one that it is counted from.
        """
        is_safe = all(abs(place - other) < size // 2 for other in self._counted)
        is_anchor = counts and not (self._counted and abs(place - self._counted[0]) < size // 4)
        if is_anchor:
            self._counted = [place]
        elif counts:
            seen = [*self._counted[1:], place]
            self._counted = [self._counted[0], min(seen), max(seen)]
        return is_safe, is_anchor
