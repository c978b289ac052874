"""Takes the cropping out of H.264 and H.265, so that a decoder gives whole coded frames.

Coded frames are of whole blocks, such as 1920x1088; the sequence parameter set (SPS) says which part of them is shown.
DALI 2.4 looks for a decoder of NVDEC by the coded size, and keeps it by the size shown. Only where the two are the same
is a decoder used again, and none is taken for another. So the small files for NVDEC are not cropped, and the graph
slices the shown part out of the decoded frames.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import av
import av.bitstream
import numpy as np

from dali_vidaug.errors import NotForDaliError, one_line
from dali_vidaug.media.bitstream import hevc_sets_in, length_size, nal_units, sets_in
from dali_vidaug.media.decode import decoder_of
from dali_vidaug.media.h264 import read_sequence
from dali_vidaug.media.headers import Window
from dali_vidaug.media.hevc import read_hevc_sequence
from dali_vidaug.media.indexed_file import template
from dali_vidaug.media.video import Video

FILTERS = {"h264": "h264_metadata", "hevc": "hevc_metadata"}  # FFmpeg's bitstream filters
_SPS, _HEVC_VPS = {"h264": 7, "hevc": 33}, 32  # types of NAL units: table 7-1 of ITU-T H.264, of ITU-T H.265
_SETS_IN = {"h264": sets_in, "hevc": hevc_sets_in}
_PROVEN_MAX = 4096
_proven: dict[tuple, tuple[int, int]] = {}  # (left, top) of the shown part, by all that decides it


class Box(NamedTuple):
    """The part of a coded frame that is shown: from (left, top) on, ``width`` x ``height`` pixels."""

    left: int
    top: int
    width: int
    height: int


class Uncropped(NamedTuple):
    """What a small file is made of.

    Attributes:
        packets: the packets, in the same order.
        width, height: of the frames that decoding them gives, as coded.
        extradata: the parameter sets outside of the packets, in the container's form; None: unchanged.
        box: what is shown of the frames; None: all.
    """

    packets: list[Any]
    width: int
    height: int
    extradata: bytes | None = None
    box: Box | None = None


def uncrop(stream: Any, packets: list[Any], video: Video) -> Uncropped:
    """Take the cropping out of packets; time stamps stay.

    The parameter sets are rewritten by FFmpeg. That nothing else in them has changed is seen when the cropping is put
    back: the bytes must be those from before. That the shown part of a coded frame is the frame that PyAV gives is seen
    when the first packet is decoded both ways, once for each kind of parameter sets.

    Args:
        stream: of the packets, PyAV's ``Stream`` or an ``IndexedStream``.
        packets: of a cut; the first can be decoded on its own.
        video: its row of the manifest; H.264 or H.265.

    Raises:
        NotForDaliError: it cannot be proven that the frames are the same.
    """
    codec, extradata = video.codec, bytes(stream.codec_context.extradata or b"")
    units = [_SETS_IN[codec](extradata), *(nal_units(packet, stream) for packet in packets)]
    outside, *inside = (_of_kind(codec, some, _SPS[codec]) for some in units)
    sets = sorted({unit for some in (outside, *inside) for unit in some})
    window = _common_window(codec, sets)
    shown = video.width, video.height
    if not any(window[2:]) and shown == window[:2]:
        return Uncropped(packets, *shown)
    above = () if codec == "h264" else tuple(sorted({u for some in units for u in _of_kind(codec, some, _HEVC_VPS)}))
    new = {unit: _rewritten(codec, above, unit) for unit in sets} if any(window[2:]) else {}
    changed = [_changed(packet, some, new, length_size(stream)) for packet, some in zip(packets, inside, strict=True)]
    extradata = _replaced(extradata, new, 2 if extradata[:1] == b"\x01" else 0)
    left = [
        *_SETS_IN[codec](extradata),
        *(u for p, some in zip(changed, inside, strict=True) if some for u in nal_units(p, stream)),
    ]
    if new and not set(_of_kind(codec, left, _SPS[codec])) <= set(new.values()):
        raise NotForDaliError("the cropping in its parameter sets cannot be taken out")
    whole = Uncropped(changed, window.width, window.height, extradata)
    key = (codec, video.pixel_format, shown, extradata, tuple(sets))
    if key not in _proven:
        if len(_proven) >= _PROVEN_MAX:
            _proven.clear()
        _proven[key] = _find_shown(stream, packets[0], whole, window, video)
    return whole._replace(box=Box(*_proven[key], *shown))


def _of_kind(codec, units, kind):
    """The NAL units of a kind, without the zeros that may follow one."""
    kinds = [unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63 for unit in units]
    return [unit.rstrip(b"\0") for unit, found in zip(units, kinds, strict=True) if found == kind]


@lru_cache(maxsize=256)
def _window_of(codec, parameter_set):
    """The coded size and the cropping that a sequence parameter set says."""
    if codec == "h264":
        return read_sequence(parameter_set).window
    if parameter_set[0] & 1 or parameter_set[1] >> 3:  # nuh_layer_id
        raise NotForDaliError("its parameter sets are of several layers")
    sequence = read_hevc_sequence(parameter_set)
    if sequence.display_window is not False:
        raise NotForDaliError("its parameter sets may have a default display window")
    return sequence.window


def _common_window(codec, sets) -> Window:
    windows = {_window_of(codec, unit) for unit in sets}
    if len(windows) != 1:
        raise NotForDaliError(
            "its parameter sets say several sizes, or crop in several ways" if windows else "it has no parameter sets"
        )
    return windows.pop()


@lru_cache(maxsize=256)
def _rewritten(codec, above, parameter_set):
    """A sequence parameter set without cropping. Those ``above`` (VPS of H.265) are what the filter must know of it."""
    window = _window_of(codec, parameter_set)
    new = _filtered(codec, above, parameter_set, (0, 0, 0, 0))
    if _window_of(codec, new) != window._replace(left=0, right=0, top=0, bottom=0):
        raise NotForDaliError("the cropping in its parameter sets cannot be taken out")
    if _filtered(codec, above, new, window[2:]) != parameter_set:
        raise NotForDaliError("more than the cropping changes when its parameter sets are rewritten")
    return new


def _filtered(codec, above, parameter_set, crop):
    """A parameter set with another cropping (left, right, top, bottom), in pixels."""
    names = ("crop_left", "crop_right", "crop_top", "crop_bottom")
    options = ":".join(f"{name}={value}" for name, value in zip(names, crop, strict=True))
    data = b"".join(b"\0\0\0\1" + unit for unit in (*above, parameter_set))
    packet = av.Packet(len(data))
    packet.update(data)
    try:
        made = av.bitstream.BitStreamFilterContext(f"{FILTERS[codec]}={options}", template(codec)[1]).filter(packet)
    except (av.error.FFmpegError, ValueError) as error:
        raise NotForDaliError(f"its parameter sets cannot be rewritten: {one_line(error)}") from error
    units = [unit for one in made for unit in bytes(one).split(b"\0\0\1")[1:]]
    if len(units) != len(above) + 1:
        raise NotForDaliError("its parameter sets cannot be rewritten")
    return units[-1].rstrip(b"\0")


def _replaced(data: bytes, new: dict[bytes, bytes], size: int) -> bytes:
    """Put other NAL units in place of some, each after its length of ``size`` bytes or (0) a start code."""
    for before, after in new.items():
        old, fresh = ((len(u).to_bytes(size, "big") if size else b"\0\0\1") + u for u in (before, after))
        data = data.replace(old, fresh)
    return data


def _changed(packet, sets, new, size):
    """A packet with new parameter sets, where it has any."""
    if not (sets and new):
        return packet
    data = _replaced(bytes(packet), {unit: new[unit] for unit in sets}, size)
    other = av.Packet(len(data))  # av.Packet(data) would lack the padding after the end, which decoders may read
    other.update(data)
    other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
    other.is_keyframe = packet.is_keyframe
    return other


def _find_shown(stream, packet, whole, window, video):
    """Where the frame of a packet begins in the coded one: (left, top), proven by decoding both ways."""
    codec = av.CodecContext.create(stream.codec_context.name, "r")
    codec.extradata, codec.thread_count = whole.extradata or None, 1
    codec.width, codec.height = whole.width, whole.height
    try:
        frame, coded = _only_frame(decoder_of(stream), packet), _only_frame(codec, whole.packets[0])
    except (av.error.FFmpegError, ValueError) as error:
        raise NotForDaliError(f"its first frame cannot be decoded on its own: {one_line(error)}") from error
    sizes = (frame.width, frame.height), (coded.width, coded.height)
    if sizes != ((video.width, video.height), (whole.width, whole.height)):
        raise NotForDaliError(f"its frames are {sizes[0]} and {sizes[1]} in size where the headers say otherwise")
    if (frame.format.name, frame.color_range) != (coded.format.name, coded.color_range):
        raise NotForDaliError("its frames have another format without their cropping")
    lefts = {window.left & ~below for below in (0, 15, 31, 63)}  # FFmpeg keeps rows aligned, and crops less on the left
    found = [left for left in sorted(lefts) if _is_part(frame, coded, left, window.top)]
    if len(found) > 1:  # such as black ones; another clip may prove it
        raise NotForDaliError("its first frame is so even that it does not show where it lies in the coded one")
    if not found:
        raise NotForDaliError("its frames are not the part of the coded frames that its parameter sets say")
    return found[0], window.top


def _only_frame(codec, packet):
    frames = [*codec.decode(packet), *codec.decode(None)]
    codec.flush_buffers()
    if len(frames) != 1:
        raise ValueError(f"{len(frames)} frames come out")
    return frames[0]


def _is_part(frame, coded, left, top):
    size = -(-frame.format.components[0].bits // 8)
    for part, plane in zip(frame.planes, coded.planes, strict=True):
        across, down = round(coded.width / plane.width), round(coded.height / plane.height)
        rows = _rows(plane)[top // down :, left // across * size :]
        if not np.array_equal(rows[: part.height, : part.width * size], _rows(part)[:, : part.width * size]):
            return False
    return True


def _rows(plane):
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
