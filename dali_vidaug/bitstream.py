"""What the packets of a video stream say of themselves: which pictures others refer to, where decoding can begin."""

# ITU-T H.264, table 7-1 and annex D.2.8; ITU-T H.265, table 7-1. Numbers are types of NAL units.
_H264_SLICES, _H264_IDR, _H264_SEI, _RECOVERY_POINT = {1, 2, 5}, 5, 6, 6
_HEVC_SLICES = range(32)
_HEVC_FRESH = range(16, 21)  # BLA and IDR; 21, CRA, relies on what came before for its leading pictures


def nal_units(packet, stream):
    """The NAL units of an H.264 or H.265 packet, as a list of bytes."""
    data = bytes(packet)
    units = []
    size = _length_size(stream)
    if size:
        at = 0
        while at + size < len(data):
            end = at + size + int.from_bytes(data[at : at + size], "big")
            units.append(data[at + size : end])
            at = end
        return [unit for unit in units if len(unit) > 1]
    return [unit for unit in data.split(b"\0\0\1")[1:] if len(unit) > 1]  # each unit after a start code


def _length_size(stream):
    """Bytes of the length before each NAL unit (MP4, Matroska); 0 where a start code stands instead (AVI, MPEG-TS)."""
    extradata = stream.codec_context.extradata or b""
    if extradata[:1] != b"\x01":
        return 0
    return (extradata[4 if stream.codec_context.name == "h264" else 21] & 3) + 1


def encoder_note(packet, stream):
    """The messages (SEI) of an H.264 packet, as bytes to put before another packet of the stream.

    Old versions of x264 had faults in 4:4:4 that decoders mend when they read which version it was; only the stream's
    first packet says so.
    """
    size = _length_size(stream)
    messages = [unit for unit in nal_units(packet, stream) if unit[0] & 31 == _H264_SEI]
    return b"".join((len(m).to_bytes(size, "big") if size else b"\0\0\1") + m for m in messages)


def is_reference(packet, stream):
    """Whether other pictures may refer to this packet's; True wherever that is not known."""
    if packet.is_keyframe:
        return True
    name = stream.codec_context.name
    if name == "h264":
        slices = [unit[0] for unit in nal_units(packet, stream) if unit[0] & 31 in _H264_SLICES]
        return not slices or any(first >> 5 & 3 for first in slices)
    if name == "hevc":
        kinds = [(unit[0] >> 1 & 63, (unit[1] & 7) - 1) for unit in nal_units(packet, stream)]
        slices = [(kind, layer) for kind, layer in kinds if kind in _HEVC_SLICES]
        # even types below 16 are not referred to in their own temporal layer: only the highest can be left out
        top = _hevc_layers(stream.codec_context.extradata) - 1
        return not slices or any(kind >= 16 or kind % 2 or layer != top for kind, layer in slices)
    if name == "mpeg4":
        planes = bytes(packet).split(b"\0\0\1\xb6")[1:]  # video object planes; two bits tell I, P, B, S
        return len(planes) != 1 or not planes[0] or planes[0][0] >> 6 != 2
    return True


def _hevc_layers(extradata):
    """Temporal layers of an H.265 stream in MP4 or Matroska, 0 where that is not known."""
    return extradata[21] >> 3 & 7 if extradata and extradata[0] == 1 else 0


def is_fresh_start(packet, stream):
    """Whether nothing of what came before this key frame is needed or left over in the decoder."""
    name = stream.codec_context.name
    if name == "h264":
        return any(unit[0] & 31 == _H264_IDR for unit in nal_units(packet, stream))
    if name == "hevc":
        return any(unit[0] >> 1 & 63 in _HEVC_FRESH for unit in nal_units(packet, stream))
    return packet.is_keyframe


def is_random_access(packet, stream):
    """Whether decoding from this key frame on gives, from it on in presentation order, what a full decode gives."""
    if stream.codec_context.name != "h264" or is_fresh_start(packet, stream):
        return packet.is_keyframe
    # H.264 without IDR: containers also mark points from which the picture is only gradually refreshed
    return packet.is_keyframe and any(
        unit[0] & 31 == _H264_SEI and _is_exact_recovery(unit[1:]) for unit in nal_units(packet, stream)
    )


def _is_exact_recovery(messages):
    """Whether SEI messages hold a recovery point with recovery_frame_cnt 0 and exact_match_flag 1."""
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
