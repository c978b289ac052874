"""Damage that one packet shows by itself: headers of JPEG, checksums of FFV1, packets that are not whole."""

from __future__ import annotations

import zlib
from typing import Any

_JPEG_SCAN = b"\xda"
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def jpeg_header(data: bytes) -> bytes:
    """The segments of a JPEG picture up to its first scan; empty if they do not lead to one (ITU-T T.81, B.1.1)."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != _JPEG_SCAN:
        at += (
            1 if data[at + 1 : at + 2] == b"\xff" else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        )  # or a fill byte
    return data[:at] if data[at + 1 : at + 2] == _JPEG_SCAN else b""


def jpeg_frame(header: bytes) -> bytes:
    """The frame header (B.2.2 there) among the segments before a scan; empty if the tables (B.2.4) are not valid."""
    at, frame = 2, b""
    while at + 4 <= len(header):
        kind, size = header[at + 1], int.from_bytes(header[at + 2 : at + 4], "big")
        segment = header[at + 4 : at + 2 + size]
        if kind == 0xC4 and not _are_huffman_tables(segment):
            return b""
        if kind == 0xDB and any(segment[i] > 3 or 0 in segment[i + 1 : i + 65] for i in range(0, len(segment), 65)):
            return b""  # or its values have two bytes, which nobody needs for eight bits a sample
        if kind in (0xC0, 0xC1, 0xC2):
            if frame:
                return b""
            frame = segment
        at += 1 if kind == 0xFF else 2 + size
    return frame


def _are_huffman_tables(segment):
    """Whether a DHT segment has whole tables, with no more codes of each length than there can be."""
    while segment:
        counts, room = segment[1:17], 1
        if segment[0] >> 4 > 1 or segment[0] & 15 > 3 or len(segment) < 17 + sum(counts):
            return False
        for count in counts:
            room = 2 * room - count
            if room < 0:
                return False
        segment = segment[17 + sum(counts) :]
    return True


def damage_of(codec: str, packet: Any) -> str | None:
    """What is wrong with a packet although FFmpeg may decode it without an error, or None.

    Args:
        codec: FFmpeg's name.
        packet: an av.Packet, or None.
    """
    if packet is None:
        return None
    if packet.is_corrupt and packet.stream.container.format.name != "mpegts":
        return "its packet is not whole"  # a transport stream says so also where two recordings are joined
    if codec not in ("ffv1", "mjpeg"):
        return None
    data = bytes(packet)
    if codec == "mjpeg":  # without a scan FFmpeg gives what an earlier picture has left in its memory
        return None if b"\xff" + _JPEG_SCAN in data else "it has no picture"
    return None if _checksums_hold(data) else "a checksum does not hold"


def _checksums_hold(data: bytes) -> bool:
    """Whether the checksums of an FFV1 packet hold, where it has any (RFC 9043, 4.9).

    At the end of each slice stand its size, in three bytes, and, if there are checksums, a byte and four bytes that
    make the slice's remainder 0. FFmpeg says in its log alone that one does not hold.
    """
    slices, end = [], len(data)
    while end > 8:
        first = end - 8 - int.from_bytes(data[end - 8 : end - 5], "big")
        slices.append(data[max(first, 0) : end])
        end = first
    if end != 0:  # no such chain: without checksums
        return True
    # zlib takes the lowest bit of each byte first, FFV1 the highest; the argument undoes what zlib inverts
    return all(zlib.crc32(one.translate(_REVERSED), 0xFFFFFFFF) == 0xFFFFFFFF for one in slices)
