"""The packet index of a file: where each packet lies, so that a clip is one read of one range and a bare decoder.

An index is made and proven by a scan (places.py). It has two parts: what a decoder must know (codec, extradata, size),
which is the same for many files, and the packets in blocks of whole GOPs: time stamps as differences, positions as the
gap to the packet before, sizes, flags, which packets each refers to, and each packet's CRC-32: all of it for key frames
and the first packet, one of which is in every cut, 16 bits for the others. A block is compressed, with a checksum. A
packet that is read is compared with its CRC: what is not the packet of the scan is an error.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

KEY, DISCARD, NON_REFERENCE, NO_DTS, FULL, ANCHOR = 1, 2, 4, 8, 16, 32  # flags of a packet
BLOCK_MIN = 1024  # packets; a block ends before the next key frame

# What a decoder takes from its container, by the names of PyAV's attributes.
FACTS = ("width", "height", "pix_fmt", "codec_tag", "bits_per_coded_sample", "color_range", "color_primaries",
          "color_trc", "colorspace", "reorder_depth")  # fmt: skip
BLOCK = struct.Struct("<qI")  # time stamp of a block's first packet, length in bytes
_COLUMN = struct.Struct("<qB")  # first value, bytes of each difference


class Index(NamedTuple):
    """The packet index of a file.

    Attributes:
        codec: from ``pack_codec``.
        packets: from ``pack_packets``; bytes, or a buffer in a file that is mapped to memory.
    """

    codec: bytes
    packets: Any


class Packets(NamedTuple):
    """Packets of a file, in decoding order: arrays (P,).

    Attributes:
        pts, dts: int64, time stamps; dts counts only without the flag ``NO_DTS``.
        places, sizes: int64, bytes.
        flags: int64, a sum of ``KEY``, ``DISCARD``, ``NON_REFERENCE``, ``NO_DTS``, ``FULL`` and ``ANCHOR``: a packet
            that is never left out of a cut that goes on after it.
        checks: int64, the CRC-32 of their bytes with the flag ``FULL``, else its last 16 bits.
        references: int64, which packets each may refer to: bit d for the one d + 1 before it; -1: not known.
    """

    pts: np.ndarray
    dts: np.ndarray
    places: np.ndarray
    sizes: np.ndarray
    flags: np.ndarray
    checks: np.ndarray
    references: np.ndarray

    def part(self, which: Any) -> Packets:
        """Some of the packets."""
        return Packets(*(column[which] for column in self))


class DamagedIndexError(ValueError):
    """An index contradicts itself."""

    def __init__(self, what: str):
        super().__init__(f"its packet index is damaged ({what}); scan again, or delete the manifest's packet index")


def pack_codec(stream: Any) -> bytes:
    """What a decoder must know of a stream of which nothing has been decoded yet, as bytes.

    Raises:
        ValueError: PyAV cannot tell it.
    """
    codec = stream.codec_context
    facts = {name: getattr(codec, name, None) for name in FACTS}
    # named by the decoder that FFmpeg takes
    facts |= {"decoder": codec.name, "extradata": base64.b64encode(codec.extradata or b"").decode()}
    facts["time_base"] = [stream.time_base.numerator, stream.time_base.denominator]
    facts |= {name: stream.metadata[name] for name in ("alpha_mode",) if name in stream.metadata}
    data = json.dumps({k: v for k, v in facts.items() if v}, sort_keys=True).encode()
    return zlib.crc32(data).to_bytes(4, "little") + data


@lru_cache(maxsize=1024)
def read_codec(packed: bytes) -> dict[str, Any]:
    """The facts of ``pack_codec`` by name, with the name of the decoder.

    Raises:
        DamagedIndexError: they are not what was packed.
    """
    if zlib.crc32(packed[4:]) != int.from_bytes(packed[:4], "little"):
        raise DamagedIndexError("its codec")
    facts = json.loads(packed[4:])
    facts["extradata"] = base64.b64decode(facts.get("extradata", ""))
    facts["time_base"] = Fraction(*facts["time_base"])
    return facts


def checksum(data: Any, flags: int) -> int:
    """The CRC-32 of a packet's bytes with the flag ``FULL``, else its last 16 bits."""
    return zlib.crc32(data) & (0xFFFFFFFF if flags & FULL else 0xFFFF)


def pack_packets(packets: Packets) -> bytes:
    """All packets of a file as bytes. A block begins at a key frame that is shown after all packets before it."""
    latest = np.maximum.accumulate(packets.pts)
    fresh = np.flatnonzero(((packets.flags & KEY) != 0) & (packets.pts > np.append(packets.pts[0] - 1, latest[:-1])))
    starts = [0]
    starts += [start for start in fresh.tolist() if start >= BLOCK_MIN]
    kept: list[int] = []
    for start in starts:
        if not kept or start - kept[-1] >= BLOCK_MIN:
            kept.append(start)
    parts = [packets.part(slice(a, b)) for a, b in zip(kept, [*kept[1:], None], strict=True)]
    blocks = [_pack_block(part) for part in parts]
    directory = b"".join(BLOCK.pack(int(p.pts[0]), len(b)) for p, b in zip(parts, blocks, strict=True))
    return len(blocks).to_bytes(4, "little") + directory + b"".join(blocks)


def _pack_block(packets):
    gaps = packets.places - np.append(0, packets.places[:-1] + packets.sizes[:-1])
    columns = [(packets.pts, True), (packets.dts, True), (gaps, False), (packets.sizes, False),
               (packets.flags, False), (packets.checks & 0xFFFF, False),
               (packets.references, False)]  # fmt: skip
    full = packets.checks[packets.flags & FULL != 0]
    columns += [(full >> 16, False)] if len(full) else []
    data = len(gaps).to_bytes(4, "little") + b"".join(_pack_column(*column) for column in columns)
    return zlib.compress(data, 9)


def _pack_column(values, differences):
    """A first value, then the others (or their differences) in as few bytes as hold the largest, bytes apart."""
    rest = np.diff(values) if differences else values[1:]
    largest = int(np.abs(rest).max(initial=0))
    width = next(w for w in (1, 2, 4, 8) if largest < 1 << (8 * w - 1))
    planes = rest.astype(f"<i{width}").view(np.uint8).reshape(-1, width).T
    return _COLUMN.pack(int(values[0]), width) + planes.tobytes()


def read_block(data: Any) -> Packets:
    """The packets of a block.

    Raises:
        DamagedIndexError: they are not what was packed.
    """
    try:
        columns = _read_columns(zlib.decompress(data))
    except (zlib.error, struct.error, ValueError) as error:
        raise DamagedIndexError(str(error)) from error
    pts, dts, gaps, sizes, flags, checks, references = columns
    places = np.cumsum(gaps) + np.append(0, np.cumsum(sizes)[:-1])
    return Packets(pts, dts, places, sizes, flags, checks, references)


def _read_columns(data):
    count, at, columns = int.from_bytes(data[:4], "little"), 4, []
    for differences in (True, True, False, False, False, False, False):
        values, at = _read_column(data, at, count)
        columns.append(values.cumsum() if differences else values)
    flags, checks = columns[4:6]
    full = (flags & FULL).nonzero()[0]
    if len(full):
        checks[full] |= _read_column(data, at, len(full))[0] << 16
    return columns


def _read_column(data, at, count):
    """The values that begin at a byte, without adding differences up, and where they end."""
    first, width = _COLUMN.unpack_from(data, at)
    at += _COLUMN.size
    planes = np.frombuffer(data, np.uint8, (count - 1) * width, at).reshape(width, -1)
    values = np.empty(count, np.int64)
    values[0], values[1:] = first, np.ascontiguousarray(planes.T).view(f"<i{width}")[:, 0] if count > 1 else ()
    return values, at + (count - 1) * width
