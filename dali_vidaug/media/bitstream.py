"""What the packets of a video stream say about themselves: which coded pictures others refer to, where decoding begins.

"Packet" and "stream" are PyAV's. A *coded picture* is what the codec decodes; a *frame* is what is shown. Usually they
are the same, but a coded picture may be hidden (VP9, AV1), or be one of the two fields of a frame.
"""

from __future__ import annotations

from typing import Any

from dali_vidaug.media.headers import Bits, av1_is_reference, av1_pictures, vp9_pictures

# ITU-T H.264, table 7-1 and annex D.2.8; ITU-T H.265, table 7-1. Numbers are types of NAL units.
_H264_SLICES, _H264_IDR, _H264_SEI, _RECOVERY_POINT = {1, 2, 5}, 5, 6, 6
_HEVC_SLICES = range(32)
_HEVC_FRESH = range(16, 21)  # BLA and IDR; leading pictures of 21, CRA, refer to what came before it
_HEVC_RANDOM_ACCESS = range(16, 22)
_INTRA = (2, 4, 7, 9)  # slice_type of I and SI slices
MPEG4_PICTURE = b"\0\0\1\xb6"  # ISO/IEC 14496-2: start code of a video object plane; the next two bits are I, P, B or S
MPEG2_PICTURE = b"\0\0\1\0"  # ISO/IEC 13818-2: ten bits of temporal reference follow, then three bits of type, 1 is I
MPEG2_SEQUENCE = b"\0\0\1\xb3"


def codec_of(stream: Any) -> str:
    """The codec's name as FFmpeg has it, whatever its decoder is called."""
    return stream.codec_context.codec.canonical_name


def is_whole(packet: Any, stream: Any) -> bool:
    """Whether the lengths of the NAL units of an H.264 or H.265 packet add up to its own."""
    size, data, at = length_size(stream), bytes(packet), 0
    while size and at + size <= len(data):
        at += size + int.from_bytes(data[at : at + size], "big")
    return not size or at == len(data)


def nal_units(packet: Any, stream: Any) -> list[bytes]:
    """The NAL units of an H.264 or H.265 packet."""
    data = bytes(packet)
    units = []
    size = length_size(stream)
    if size:
        at = 0
        while at + size < len(data):
            end = at + size + int.from_bytes(data[at : at + size], "big")
            units.append(data[at + size : end])
            at = end
        return [unit for unit in units if len(unit) > 1]
    return [unit for unit in data.split(b"\0\0\1")[1:] if len(unit) > 1]  # each unit after a start code


def length_size(stream: Any) -> int:
    """Bytes of the length before each NAL unit (MP4, Matroska); 0 if there is a start code instead (AVI, MPEG-TS)."""
    extradata = stream.codec_context.extradata or b""
    if extradata[:1] != b"\x01":
        return 0
    return (extradata[4 if stream.codec_context.name == "h264" else 21] & 3) + 1


def sets_in(extradata: bytes) -> list[bytes]:
    """The parameter sets of H.264 that a container keeps outside of the packets."""
    if extradata[:1] != b"\x01":
        return [unit for unit in extradata.split(b"\0\0\1")[1:] if len(unit) > 1]
    units, at = [], 5
    for mask in (31, 255):  # a byte with the number of SPS, of PPS
        for _ in range(extradata[at] & mask if at < len(extradata) else 0):
            length = int.from_bytes(extradata[at + 1 : at + 3], "big")
            units.append(extradata[at + 3 : at + 3 + length])
            at += 2 + length
        at += 1
    return [unit for unit in units if len(unit) > 4]


def hevc_sets_in(extradata: bytes) -> list[bytes]:
    """The parameter sets of H.265 that a container keeps outside of the packets (ISO/IEC 14496-15, 8.3.3.1)."""
    if extradata[:1] != b"\x01":
        return [unit for unit in extradata.split(b"\0\0\1")[1:] if len(unit) > 2]
    units, at = [], 23
    for _ in range(extradata[22] if len(extradata) > 22 else 0):
        number, at = int.from_bytes(extradata[at + 1 : at + 3], "big"), at + 3
        for _ in range(number if at < len(extradata) else 0):
            length = int.from_bytes(extradata[at : at + 2], "big")
            units.append(extradata[at + 2 : at + 2 + length])
            at += 2 + length
    return [unit for unit in units if len(unit) > 2]


def encoder_note(packet: Any, stream: Any) -> bytes:
    """The messages (SEI) of an H.264 packet, as bytes to put before another packet of the stream.

    Old versions of x264 encoded 4:4:4 with errors that decoders correct when they know the version; only the first
    packet of the stream names it.
    """
    size = length_size(stream)
    messages = [unit for unit in nal_units(packet, stream) if unit[0] & 31 == _H264_SEI]
    return b"".join((len(m).to_bytes(size, "big") if size else b"\0\0\1") + m for m in messages)


def is_reference(packet: Any, stream: Any) -> bool:
    """Whether other coded pictures may refer to this packet's; True wherever that is not known."""
    if packet.is_keyframe:
        return True
    codec = stream.codec_context.name
    if codec == "h264":
        first_bytes = [unit[0] for unit in nal_units(packet, stream) if unit[0] & 31 in _H264_SLICES]
        return not first_bytes or any(first >> 5 & 3 for first in first_bytes)
    if codec == "hevc":
        kinds = [(unit[0] >> 1 & 63, (unit[1] & 7) - 1) for unit in nal_units(packet, stream)]
        slices = [(kind, layer) for kind, layer in kinds if kind in _HEVC_SLICES]
        # Even types below 16 are not referred to in their own temporal layer: only those of the highest can be skipped.
        top = _hevc_layers(stream.codec_context.extradata) - 1
        return not slices or any(kind >= 16 or kind % 2 or layer != top for kind, layer in slices)
    if codec == "mpeg4":
        return mpeg4_picture(packet) != "B"
    if codec_of(stream) == "av1":
        return av1_is_reference(bytes(packet), stream.codec_context.extradata or b"")
    return True


def _hevc_layers(extradata):
    """Temporal layers of an H.265 stream in MP4 or Matroska, 0 where that is not known."""
    return extradata[21] >> 3 & 7 if extradata and extradata[0] == 1 else 0


def is_fresh_start(packet: Any, stream: Any) -> bool:
    """Whether nothing from before this key frame is needed, or left in the decoder."""
    codec = stream.codec_context.name
    if codec == "h264":
        return any(unit[0] & 31 == _H264_IDR for unit in nal_units(packet, stream))
    if codec == "hevc":
        return any(unit[0] >> 1 & 63 in _HEVC_FRESH for unit in nal_units(packet, stream))
    return packet.is_keyframe


def is_random_access(packet: Any, stream: Any) -> bool:
    """Whether decoding from this packet gives the frames of a full decode from there on, in presentation order.

    The container must mark it as a key frame and, where the codec is one that is read here, the packet must be one.
    """
    if not packet.is_keyframe:
        return False
    codec = codec_of(stream)
    if codec == "h264":
        return is_fresh_start(packet, stream) or _h264_recovers(nal_units(packet, stream))
    if codec == "hevc":
        return any(unit[0] >> 1 & 63 in _HEVC_RANDOM_ACCESS for unit in nal_units(packet, stream))
    if codec not in ("mpeg4", "mpeg1video", "mpeg2video", "vp8", "vp9", "av1"):
        return True
    data = bytes(packet)
    if codec == "mpeg4":
        pictures = data.split(MPEG4_PICTURE)[1:]
        return bool(pictures) and bool(pictures[0]) and pictures[0][0] >> 6 == 0
    if codec in ("mpeg1video", "mpeg2video"):
        pictures = data.split(MPEG2_PICTURE)[1:]
        ready = MPEG2_SEQUENCE in data or MPEG2_SEQUENCE in (stream.codec_context.extradata or b"")
        return ready and len(pictures) > 0 and len(pictures[0]) > 1 and pictures[0][1] >> 3 & 7 == 1
    if codec == "vp8":
        return data[0] & 1 == 0
    coded = vp9_pictures(data) if codec == "vp9" else av1_pictures(data)
    return bool(coded) and coded[0].key and coded[0].shown


def _h264_recovers(units):
    """Whether decoding may begin here although there is no IDR picture.

    Containers also mark points from which the picture is only gradually refreshed.
    """
    exact = any(unit[0] & 31 == _H264_SEI and _is_exact_recovery(unit[1:]) for unit in units)
    return exact and all(_slice_type(unit) in _INTRA for unit in units if unit[0] & 31 in _H264_SLICES)


def _slice_type(unit):
    """slice_type of an H.264 slice."""
    bits = Bits(unit[1:12])
    bits.unsigned()  # first_mb_in_slice
    return bits.unsigned()


def _is_exact_recovery(messages):
    """Whether SEI messages contain a recovery point with recovery_frame_cnt 0 and exact_match_flag 1."""
    at = 0
    while at + 2 < len(messages):
        header = []
        for _ in range(2):  # payload type, payload size: bytes of 255 and a last one
            value = 0
            while at < len(messages) and messages[at] == 255:
                value, at = value + 255, at + 1
            if at >= len(messages):
                return False
            header.append(value + messages[at])
            at += 1
        kind, size = header
        if kind == _RECOVERY_POINT and at < len(messages):
            return messages[at] & 0xC0 == 0xC0  # ue(0) is one bit, 1; the flag is the next
        at += size
    return False


def is_one_shown_picture(packet: Any, stream: Any, codec: str) -> bool:
    """Whether a packet has exactly one coded picture, which is a frame: no two fields, none hidden, none shown again.

    Args:
        packet, stream: as elsewhere.
        codec: its name in the manifest, because the decoder may have another name.
    """
    data = bytes(packet)
    if codec == "h264":  # the slice with the first macroblock occurs once in each coded picture or field
        return sum(unit[0] & 31 in _H264_SLICES and unit[1] >= 128 for unit in nal_units(packet, stream)) == 1
    if codec == "hevc":
        slices = [unit for unit in nal_units(packet, stream) if unit[0] >> 1 & 63 in _HEVC_SLICES and len(unit) > 2]
        return sum(unit[2] >= 128 for unit in slices) == 1
    if codec == "mpeg4":
        return data.count(MPEG4_PICTURE) == 1
    if codec == "vp8":
        return bool(data) and data[0] >> 4 & 1 == 1
    if codec == "vp9":
        return [picture[1:] for picture in vp9_pictures(data)] == [(True, False)]
    if codec == "av1":
        return [picture[1:] for picture in av1_pictures(data)] == [(True, False)]
    return codec == "mjpeg"


def presentation_order(packets: list, codec: str) -> list[int]:
    """For each packet, in decoding order, its rank in presentation order, where time stamps do not tell.

    In MPEG-4 part 2, B-pictures are shown at once, and each other picture when the next one comes that is not B. For
    all other codecs it is the decoding order. That is right for all but H.264 and H.265, and their decoders put frames
    in order by themselves, whatever the time stamps say.
    """
    if codec != "mpeg4":
        return list(range(len(packets)))
    shown, waiting = [], None
    for i, packet in enumerate(packets):
        if mpeg4_picture(packet) == "B":
            shown.append(i)
        else:
            shown += [] if waiting is None else [waiting]
            waiting = i
    shown += [] if waiting is None else [waiting]
    ranks = [0] * len(packets)
    for rank, i in enumerate(shown):
        ranks[i] = rank
    return ranks


def mpeg4_picture(packet: Any) -> str | None:
    """The type of a packet's only MPEG-4 picture: "I", "P", "B" or "S"; None if it has none, or several."""
    pictures = bytes(packet).split(MPEG4_PICTURE)[1:]
    return "IPBS"[pictures[0][0] >> 6] if len(pictures) == 1 and pictures[0] else None
