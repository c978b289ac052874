"""What in a packet makes the container's claims unreliable: then a file is measured by decoding all of it.

A container says which packets are key frames, when each is shown, and that each is a frame. For the codecs that are
read here, most of that can be checked without decoding.
"""

from __future__ import annotations

import re
from typing import Any

from dali_vidaug.media.bitstream import (
    MPEG2_PICTURE,
    MPEG2_SEQUENCE,
    MPEG4_PICTURE,
    codec_of,
    is_one_shown_picture,
    is_whole,
    nal_units,
)
from dali_vidaug.media.h264 import read_sequence
from dali_vidaug.media.headers import (
    AV1_SEQUENCE,
    av1_pictures,
    av1_units,
    vp9_pictures,
)

# Codecs all of whose frames are key frames, each of them one packet.
INTRA_ONLY = frozenset("mjpeg prores dnxhd dvvideo jpeg2000 rawvideo huffyuv ffvhuff utvideo png v210 cfhd".split())
READABLE = frozenset(("h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video", "vp8", "vp9", "av1")) | INTRA_ONLY
TOO_SHORT = "a packet is too short for a coded picture"
HOLE, TWICE = "a packet has a hole of zeros", "a packet comes twice"
UNREADABLE = "a header in a packet cannot be read"
ENDS, SPLICED, DROPS = (
    "a sequence ends in the middle",
    "a recording was spliced",
    "frames are dropped before a key frame",
)
# What may mean that there are fewer frames than packets; if there are not, it was of no account.
UNEVEN = frozenset((HOLE, TWICE, UNREADABLE, ENDS, SPLICED, DROPS))
PACKED = "packets have two pictures, and others none"  # so does Xvid in AVI; those without are placeholders
_H264_SETS, _HEVC_SETS = {7: "SPS", 8: "PPS"}, {32: "VPS", 33: "SPS", 34: "PPS"}
_HEVC_ENDS, _HEVC_BLA, _HEVC_IRAP = {36, 37}, {16, 17, 18}, range(16, 24)  # end of sequence and of bitstream
_LEAST = {"mpeg4": 11, "mpeg1video": 16, "mpeg2video": 16, **dict.fromkeys(INTRA_ONLY, 32)}  # bytes of a coded picture
LAYERS = range(0x20, 0x30)  # ISO/IEC 14496-2, table 6-3: start codes of video object layers
_EXTENSION, _PICTURE_CODING, _FRAME = b"\0\0\1\xb5", 8, 3  # ISO/IEC 13818-2: picture_structure 3 is a whole frame
_ZEROS = bytes(64)  # only pictures of one colour, and stuffing, have as many zeros in a row
_HOLE = re.compile(rb"\0{64,}")


def oddity(packet: Any, stream: Any, first: bool) -> str | None:
    """Why a packet may not be one frame, or None.

    Args:
        packet, stream: of a file.
        first: whether it is the first of the stream.
    """
    codec = codec_of(stream)
    if codec not in READABLE:
        return f"the packets of {codec} are not read"
    if packet.is_corrupt:
        return "a packet is marked as damaged"
    if packet.size < _LEAST.get(codec, 0):
        return TOO_SHORT
    if codec in INTRA_ONLY and codec != "mjpeg":  # they are large: look at their beginnings, after a header
        return HOLE if codec != "rawvideo" and not any(memoryview(packet)[16:128]) else None
    data = bytes(packet)
    if _has_hole(data, codec):
        return HOLE
    if codec in ("h264", "hevc"):
        if not is_whole(packet, stream) or not is_one_shown_picture(packet, stream, codec):
            return "a packet has no picture, or several"
        if codec == "hevc" and not first and (why := _drops_frames(nal_units(packet, stream))):
            return why
        if any(
            unit[0] & 31 == 7 and read_sequence(unit).interlaced
            for unit in nal_units(packet, stream)
            if codec == "h264"
        ):
            return "its frames may be pairs of fields"
    if codec == "mpeg4" and data.count(MPEG4_PICTURE) > 1:
        return PACKED
    if codec == "mpeg4" and MPEG4_PICTURE not in data:
        return TOO_SHORT
    if codec in ("mpeg1video", "mpeg2video") and not _is_one_mpeg2_frame(data):
        return "a packet is not one frame"
    if codec == "vp8" and not data[0] >> 4 & 1:
        return "a picture is hidden"
    if codec == "vp8" and int.from_bytes(data[:3], "little") >> 5 > len(data):  # RFC 6386, 9.1: size of the first part
        return TOO_SHORT
    if codec in ("vp9", "av1"):
        pictures = vp9_pictures(data) if codec == "vp9" else av1_pictures(data)
        if sum(picture.shown for picture in pictures) != 1:
            return "a packet has no picture that is shown, or several"
    return None


def _has_hole(data, codec):
    """Whether zeros stand where a picture should be."""
    if _ZEROS not in data:  # much faster than the expression
        return not any(data[:64]) and not any(data)
    stuffing = codec in ("mpeg1video", "mpeg2video")  # before start codes, and at the end
    for hole in _HOLE.finditer(data):
        following = data[hole.end() : hole.end() + 1]
        if not (stuffing and following in (b"\1", b"")):
            return True
    return not any(data[:64]) and not any(data)


def _drops_frames(units):
    """Why a decoder drops frames at an H.265 packet in the middle of a stream, or None (ITU-T H.265, 8.1, C.5.2.2)."""
    kinds = {unit[0] >> 1 & 63 for unit in units}
    if kinds & _HEVC_ENDS:
        return ENDS
    if kinds & _HEVC_BLA:
        return SPLICED
    flagged = any(unit[0] >> 1 & 63 in _HEVC_IRAP and len(unit) > 2 and unit[2] & 0x40 for unit in units)
    return DROPS if flagged else None


def _is_one_mpeg2_frame(data):
    structures = [
        part[2] & 3 for part in data.split(_EXTENSION)[1:] if len(part) > 2 and part[0] >> 4 == _PICTURE_CODING
    ]
    return data.count(MPEG2_PICTURE) == 1 and all(structure == _FRAME for structure in structures)


def parameter_sets(packet: Any, stream: Any) -> dict[bytes, str]:
    """The parameter sets in a packet, which hold for all that follows: their kinds by their bytes."""
    codec = codec_of(stream)
    if codec in ("h264", "hevc"):
        kinds, shift, mask = (_H264_SETS, 0, 31) if codec == "h264" else (_HEVC_SETS, 1, 63)
        units = ((unit, unit[0] >> shift & mask) for unit in nal_units(packet, stream))
        return {unit.rstrip(b"\0"): kinds[kind] for unit, kind in units if kind in kinds}
    if codec in INTRA_ONLY:
        return {}
    data = bytes(packet)
    if codec == "av1":
        return {content: "sequence header" for kind, content in av1_units(data) if kind == AV1_SEQUENCE}
    if codec in ("mpeg1video", "mpeg2video"):
        return {part.split(b"\0\0\1")[0]: "sequence header" for part in data.split(MPEG2_SEQUENCE)[1:]}
    if codec == "mpeg4":
        parts = data.split(b"\0\0\1")[1:]
        return {part: "video object layer" for part in parts if part and part[0] in LAYERS}
    return {}


class Settings:
    """The parameter sets that are in force while the packets of a stream are read.

    Attributes:
        changed: whether they have changed since the first packet.
    """

    def __init__(self, stream: Any):
        self._extradata = stream.codec_context.extradata or b""
        self._first: dict[bytes, str] | None = None
        self._kinds: set[str] = set()
        self.changed = False

    def add(self, packet: Any, stream: Any) -> bool:
        """Look at the next packet; returns whether decoding can begin there as far as parameter sets are concerned."""
        sets = parameter_sets(packet, stream)
        if self._first is None:
            self._first = sets
        self._kinds |= set(sets.values())
        known = all(one in self._first or one in self._extradata for one in sets)
        self.changed |= not known or packet.has_sidedata("new_extradata")
        return not self.changed or (bool(sets) and set(sets.values()) == self._kinds)
