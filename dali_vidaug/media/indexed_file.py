"""A file that is read by its packet index: bytes at known places, and a decoder without a container."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

import av
import numpy as np

from dali_vidaug.media.index import (
    BLOCK,
    DISCARD,
    FACTS,
    KEY,
    NO_DTS,
    DamagedIndexError,
    Index,
    Packets,
    checksum,
    read_block,
    read_codec,
)
from dali_vidaug.media.storage import Source

HIDDEN = "hidden by an edit list"  # the ``opaque`` of such packets, whose flag cannot be set
_ANY_UNIT = b"\0\0\0\1\x46\1\x50" + bytes(9)  # something that begins as a NAL unit does
GAP_MAX = 1 << 17  # bytes between packets that are read along rather than read apart


@dataclass
class IndexedStream:
    """What cutting and decoding use of PyAV's ``Stream``.

    Attributes:
        codec_context: a decoder that is not open.
        metadata: "alpha_mode", where the container has it.
        time_base: seconds of a tick.
    """

    codec_context: Any
    metadata: dict[str, str]
    time_base: Fraction


@lru_cache(maxsize=1024)
def can_decode(codec: bytes) -> bool:
    """Whether this PyAV has the decoder of an index's ``codec``, and can be told all that it must know."""
    facts = read_codec(codec)
    reordered = facts.get("reorder_depth", 0) > 0 and facts["decoder"] == "h264"
    return facts["decoder"] in av.codecs_available and (not reordered or hasattr(_new(facts), "reorder_depth"))


def _new(facts):
    return av.CodecContext.create(facts["decoder"], "r")


def make_stream(index: Index) -> IndexedStream:
    """A stream with a new decoder, which has one thread: clips are decoded in parallel."""
    facts = read_codec(index.codec)
    codec = _new(facts)
    codec.extradata = facts["extradata"] or None
    for name in FACTS:
        if name in facts:
            setattr(codec, name, facts[name])
    codec.thread_count, codec.thread_type = 1, "NONE"
    return IndexedStream(codec, {k: facts[k] for k in ("alpha_mode",) if k in facts}, facts["time_base"])


def copy_facts(codec: Any, other: Any) -> None:
    """Let another codec context have the size, colours and extradata of one."""
    for name in ("width", "height", "pix_fmt", "color_range", "color_primaries", "color_trc", "colorspace"):
        if value := getattr(codec, name):
            setattr(other, name, value)
    other.extradata = codec.extradata


@lru_cache(maxsize=64)
def template(codec: str) -> tuple[Any, Any]:
    """(container, stream) of a file in memory with a stream of a codec: PyAV copies streams, and makes none without."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="nut") as output:
        track = output.add_mux_stream(codec, rate=30, width=16, height=16)
        packet = av.Packet(len(_ANY_UNIT))
        packet.update(_ANY_UNIT)
        packet.pts = packet.dts = 0
        packet.stream, packet.time_base, packet.is_keyframe = track, Fraction(1, 30), True
        output.mux(packet)
    container = av.open(io.BytesIO(buffer.getvalue()), "r")
    return container, container.streams.video[0]


def ranges_of(parts: list[Packets]) -> tuple[np.ndarray, np.ndarray]:
    """The ranges [first, last) of a file that hold packets: two (R,) arrays, rising. What is near is one range.

    Raises:
        DamagedIndexError: one is before the file.
    """
    places = np.concatenate([part.places for part in parts])
    ends = places + np.concatenate([part.sizes for part in parts])
    order = np.argsort(places, kind="stable")
    latest = np.maximum.accumulate(ends[order])
    breaks = np.flatnonzero(places[order][1:] > latest[:-1] + GAP_MAX) + 1
    firsts = places[order][np.append(0, breaks)]
    if firsts[0] < 0:
        raise DamagedIndexError("a place before the file")
    return firsts, latest[np.append(breaks - 1, len(order) - 1)]


class IndexedFile:
    """A file that is read by its index.

    Args:
        source: its bytes; None: nothing is read.
        index: of it.

    Raises:
        DamagedIndexError: the index contradicts itself.
    """

    def __init__(self, source: Source | None, index: Index):
        self._index = index
        data = memoryview(index.packets)
        count = int.from_bytes(data[:4], "little")
        if len(data) < 4 + count * BLOCK.size or not count:
            raise DamagedIndexError("it is cut off")
        directory = list(BLOCK.iter_unpack(data[4 : 4 + count * BLOCK.size]))
        self._first_pts = np.array([pts for pts, _ in directory], np.int64)
        ends = 4 + count * BLOCK.size + np.cumsum([0, *(length for _, length in directory)])
        self._blocks = [data[a:b] for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
        self._known: dict[int, Packets] = {}
        self._source = source

    @cached_property
    def stream(self) -> IndexedStream:
        """What cutting and decoding use of a stream; made when it is first asked for."""
        return make_stream(self._index)

    def block(self, number: int) -> Packets:
        """The packets of a block."""
        if number not in self._known:
            self._known[number] = read_block(self._blocks[number])
        return self._known[number]

    def packets_from(self, pts: int | None) -> Iterator[Packets]:
        """The packets of the block that has the key frame of a time stamp (None: of the first one), and later ones."""
        first = 0 if pts is None else max(0, int(np.searchsorted(self._first_pts, pts, "right")) - 1)
        for number in range(first, len(self._blocks)):
            yield self.block(number)

    def read(self, parts: list[Packets]) -> list[list[Any]]:
        """Read packets, in as few reads as there are ranges of the file far apart.

        Args:
            parts: which.

        Returns:
            For each part a list of ``av.Packet``.

        Raises:
            OSError: they cannot be read.
            EOFError: the file ends before them.
            ValueError: the file was changed.
        """
        firsts, lasts = ranges_of(parts)
        ranges = list(zip(firsts.tolist(), lasts.tolist(), strict=True))
        spans = [memoryview(data) for data in self._source.read(ranges)]  # type: ignore[union-attr]
        return [self._cut_out(part, firsts, spans) for part in parts]

    def _cut_out(self, part, firsts, spans):
        span_of = (np.searchsorted(firsts, part.places, "right") - 1).tolist()
        packets = []
        for span, first, pts, dts, place, size, flags, check, _ in zip(
            span_of, firsts[span_of].tolist(), *(column.tolist() for column in part), strict=True
        ):
            data = spans[span][place - first : place - first + size]
            if checksum(data, flags) != check:
                raise ValueError(f"changed since it was scanned: at byte {place} is another packet; scan again")
            packet = av.Packet(size)  # av.Packet(data) would lack the padding after the end, which decoders may read
            packet.update(data)
            packet.pts, packet.dts, packet.time_base = pts, None if flags & NO_DTS else dts, self.stream.time_base
            packet.is_keyframe = bool(flags & KEY)
            if flags & DISCARD:
                packet.opaque = HIDDEN
            packets.append(packet)
        return packets
