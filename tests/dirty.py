"""Builders of small dirty videos: encoded here, then changed as packets or as bytes of their containers."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np

HEIGHT, WIDTH, FPS = 48, 64, 25
os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder says what it does, unless it is told to report errors alone
PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"}


def picture(index: int, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """A moving pattern without symmetry, different in every frame; (H, W, 3) uint8."""
    y, x = np.mgrid[:height, :width]
    phase = seed * 1.3 + index * 0.35
    red = 128 + 90 * np.sin(x / 5 + phase) * np.cos(y / 9 - phase / 2)
    green = 40 + 150 * (x / width) + 40 * np.sin(y / 4 + 2 * phase)
    blue = 30 + 190 * (y / height) * (0.6 + 0.4 * np.sin(phase))
    image = np.stack([red, green, blue], -1).clip(0, 255).astype(np.uint8)
    at = (7 * index + 11 * seed) % (width - 14)
    image[6:18, at : at + 12] = (255 - 5 * (index % 40), 20, 6 * (index % 40))
    return image


@dataclass(frozen=True)
class Encoding:
    """How to encode a base file: FFmpeg's encoder and options, and containers (extensions) that it goes into."""

    codec: str
    containers: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()
    pixel_format: str = "yuv420p"
    size: tuple[int, int] = (HEIGHT, WIDTH)
    frames: int = 40


def x264_options(**params):
    # without mbtree: x264 reads memory there that it has not written, so that files differed from run to run
    base = {"keyint": 10, "scenecut": 0, "bframes": 2, "mbtree": 0}
    text = ":".join(f"{k}={v}" for k, v in {**base, **params}.items())
    return (("x264-params", text.replace("_", "-")), ("preset", "veryfast"))


def x265_options(**params):
    base = {"keyint": 10, "min-keyint": 10, "scenecut": 0, "bframes": 2, "log-level": "none", "pools": 1}
    return (("x265-params", ":".join(f"{k.replace('_', '-')}={v}" for k, v in {**base, **params}.items())),)


_ANY, _MP = ("mp4", "mov", "mkv", "avi", "ts", "flv"), ("mp4", "mov", "mkv", "ts")
_AV1 = (("preset", "12"), ("g", "10"))
_GOP = (("g", "10"), ("b", "600k"))
ENCODINGS = {
    "h264": Encoding("libx264", _ANY, x264_options()),
    "h264_open": Encoding("libx264", _MP, x264_options(open_gop=1, bframes=3)),
    "h264_pyramid": Encoding("libx264", _MP, x264_options(bframes=5, b_pyramid="normal", ref=4)),
    "h264_no_b": Encoding("libx264", _ANY, x264_options(bframes=0)),
    "h264_one_key": Encoding("libx264", _MP, x264_options(keyint=300)),
    "h264_refresh": Encoding("libx264", _MP, x264_options(intra_refresh=1)),
    "h264_tff": Encoding("libx264", _MP, x264_options(tff=1)),
    "h264_bff": Encoding("libx264", _MP, x264_options(bff=1, bframes=0)),
    "h264_fake": Encoding("libx264", _MP, x264_options(fake_interlaced=1)),
    "h264_444": Encoding("libx264", ("mp4", "mkv", "ts"), x264_options(), "yuv444p"),
    "h264_10": Encoding("libx264", ("mp4", "mkv"), x264_options(), "yuv420p10le"),
    "hevc": Encoding("libx265", _MP, x265_options(open_gop=0)),
    "hevc_open": Encoding("libx265", _MP, x265_options(open_gop=1, bframes=3)),
    "hevc_layers": Encoding("libx265", ("mp4", "mkv"), x265_options(bframes=4, temporal_layers=2)),
    "mpeg4": Encoding("mpeg4", ("mp4", "mov", "mkv", "avi", "ts"), (("bf", "0"), *_GOP)),
    "mpeg4_b": Encoding("mpeg4", ("mp4", "mov", "mkv", "avi"), (("bf", "2"), *_GOP)),
    "mpeg2": Encoding("mpeg2video", ("mpg", "ts", "mkv", "mp4", "mxf"), (("bf", "2"), *_GOP)),
    "mpeg2_no_b": Encoding("mpeg2video", ("mpg", "ts", "mkv", "avi"), (("bf", "0"), *_GOP)),
    "vp8": Encoding("libvpx", ("webm", "mkv", "avi"), (("cpu-used", "8"), ("deadline", "realtime"), *_GOP)),
    "vp9": Encoding("libvpx-vp9", ("webm", "mkv", "mp4"), (("cpu-used", "8"), ("deadline", "realtime"), *_GOP)),
    "vp9_hidden": Encoding("libvpx-vp9", ("webm", "mkv", "mp4"), (("auto-alt-ref", "1"), ("lag-in-frames", "12"),
                                                                 ("cpu-used", "5"), *_GOP)),
    "av1": Encoding("libsvtav1", ("mp4", "mkv", "webm"), (*_AV1, ("svtav1-params", "lp=1:pred-struct=1")),
                    size=(64, 64)),
    "av1_hidden": Encoding("libsvtav1", ("mp4", "mkv"), (*_AV1, ("svtav1-params", "lp=1")), size=(64, 64)),
    "mjpeg": Encoding("mjpeg", ("avi", "mov", "mkv", "mp4"), (("q:v", "4"),), "yuvj420p"),
    "h263": Encoding("h263", ("avi", "mov"), _GOP, size=(96, 128)),
    "msmpeg4": Encoding("msmpeg4", ("avi", "asf", "mkv"), _GOP),
    "wmv2": Encoding("wmv2", ("asf", "avi"), _GOP),
    "flv1": Encoding("flv", ("flv", "avi"), _GOP),
    "prores": Encoding("prores_ks", ("mov", "mkv"), (), "yuv422p10le"),
    "ffv1": Encoding("ffv1", ("mkv", "avi"), (("g", "10"),)),
}  # fmt: skip


def encode(path: Path, encoding: Encoding, seed: int = 0) -> Path:
    """Write a base file; its extension says which container."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", **format_of(path)) as container:
        height, width = encoding.size
        stream = container.add_stream(encoding.codec, rate=FPS, width=width, height=height)
        stream.options, stream.pix_fmt = dict(encoding.options), encoding.pixel_format
        stream.thread_count = 1  # their number changes the bytes
        for i in range(encoding.frames):
            frame = av.VideoFrame.from_ndarray(picture(i, height, width, seed), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if hasattr(os, "sched_setscheduler"):  # the AV1 encoder makes its caller a real-time thread if it runs as root
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path


def format_of(path):
    """Arguments for opening a file to write it: its format, and no random identifiers: it is always the same."""
    return {"format": "mpegts" if path.suffix == ".ts" else None, "options": {"fflags": "+bitexact"}}


# ---- Packets


@dataclass(frozen=True)
class Coded:
    """A packet of a video: its bytes, time stamps in ``time_base``, and key flag."""

    data: bytes
    pts: int | None
    dts: int | None
    key: bool
    time_base: Any


def read_coded(path: Path) -> tuple[list[Coded], bytes]:
    """All packets of a file's video, and the codec's extradata."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [Coded(bytes(p), p.pts, p.dts, p.is_keyframe, p.time_base) for p in container.demux(stream) if p.size]
        extradata = bytes(stream.codec_context.extradata or b"")
    for i in range(len(packets) - 2, -1, -1):  # Matroska has no decoding times; FFmpeg does not guess the first ones
        if packets[i].dts is None and packets[i + 1].dts is not None:
            packets[i] = replace(packets[i], dts=packets[i + 1].dts - round(1 / FPS / packets[i].time_base))
    return packets, extradata


def write_coded(path: Path, template: Path, packets: Sequence[Coded], matrix: Sequence[int] | None = None) -> Path:
    """Mux packets into a container, with the stream's parameters taken from the file ``template``."""
    with av.open(str(template)) as source, av.open(str(path), "w", **format_of(path)) as output:
        stream = source.streams.video[0]
        if stream.codec_context.name == "libdav1d":
            context = stream.codec_context
            track = output.add_mux_stream("av1", rate=FPS, width=context.width, height=context.height)
        else:
            track = output.add_stream_from_template(stream)
        track.time_base = stream.time_base
        if matrix is not None:
            track.set_display_matrix(list(matrix))
        for coded in packets:
            packet = av.Packet(coded.data)
            packet.pts, packet.dts, packet.time_base = coded.pts, coded.dts, coded.time_base
            packet.duration = round(1 / FPS / coded.time_base)
            packet.is_keyframe, packet.stream = coded.key, track
            output.mux(packet)
    return path


def parameter_sets(extradata: bytes, codec: str) -> bytes:
    """What to put before a packet, so that it brings the settings that extradata has (MP4 and Matroska)."""
    if codec == "h264" and extradata[:1] == b"\1":
        at, units = 5, b""
        for mask in (31, 255):
            count, at = extradata[at] & mask, at + 1
            for _ in range(count):
                size = int.from_bytes(extradata[at : at + 2], "big")
                units, at = units + struct.pack(">I", size) + extradata[at + 2 : at + 2 + size], at + 2 + size
        return units
    if codec == "hevc" and extradata[:1] == b"\1":
        at, units = 23, b""
        for _ in range(extradata[22]):
            count, at = int.from_bytes(extradata[at + 1 : at + 3], "big"), at + 3
            for _ in range(count):
                size = int.from_bytes(extradata[at : at + 2], "big")
                units, at = units + struct.pack(">I", size) + extradata[at + 2 : at + 2 + size], at + 2 + size
        return units
    return extradata if codec == "mpeg4" else b""


def join(path: Path, first: Path, second: Path, codec: str) -> Path:
    """Put the packets of two files with one codec into one track; the second's settings come with its first packet."""
    a, _ = read_coded(first)
    b, extradata = read_coded(second)
    step = a[0].time_base
    length = round(len(a) / FPS / step)
    shift = a[0].dts + length - b[0].dts
    moved = [replace(p, pts=p.pts + shift, dts=p.dts + shift) for p in b]
    moved[0] = replace(moved[0], data=parameter_sets(extradata, codec) + moved[0].data)
    return write_coded(path, first, [*a, *moved])


def not_coded_vop(increment: int, bits: int = 5) -> bytes:
    """An MPEG-4 picture of which the header says that nothing is coded: decoders show the frame before again, or none.

    Args:
        increment: of the time, in ticks of the VOL.
        bits: for the increment, 5 at 25 frames a second.
    """
    text = f"0101{increment % FPS:0{bits}b}10"
    text += "0" + "1" * (-(len(text) + 1) % 8)
    return b"\0\0\1\xb6" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


# ---- MP4


def parse_boxes(data: bytes) -> list[list]:
    """The boxes of an MP4 as a tree: [type, bytes] or [type, boxes]."""
    found, at = [], 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        size = size or len(data) - at
        body = data[at + head : at + size]
        found.append([kind, parse_boxes(body) if kind in PARENTS else body])
        at += max(size, 8)
    return found


def join_boxes(boxes: list[list]) -> bytes:
    """The bytes of a tree of boxes."""
    parts = []
    for kind, body in boxes:
        body = join_boxes(body) if isinstance(body, list) else body
        parts.append(struct.pack(">I4s", len(body) + 8, kind) + body)
    return b"".join(parts)


def find_box(boxes: list[list], *path: bytes) -> list:
    """The first box at a path such as b"moov", b"trak", b"tkhd"; raises KeyError if there is none."""
    for box in boxes:
        if box[0] == path[0]:
            return box if len(path) == 1 else find_box(box[1], *path[1:])
    raise KeyError(path[0])


STBL = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


def edit_boxes(path: Path, change: Callable[[list[list]], None], target: Path | None = None) -> Path:
    """Change the tree of boxes of an MP4 whose index is at its end, so that places in the file stay."""
    boxes = parse_boxes(path.read_bytes())
    assert [box[0] for box in boxes].index(b"moov") == len(boxes) - 1
    change(boxes)
    target = target or path
    target.write_bytes(join_boxes(boxes))
    return target


def set_matrix(boxes: list[list], a: float, b: float, c: float, d: float) -> None:
    """Write a display matrix into a track's header: ISO/IEC 14496-12, 8.3.2; a, b, c, d as 16.16."""
    box = find_box(boxes, b"moov", b"trak", b"tkhd")
    at = 40 if box[1][0] == 0 else 52
    values = [round(v * 65536) for v in (a, b, 0, c, d, 0, 0, 0)]
    box[1] = box[1][:at] + struct.pack(">8iI", *values, 1 << 30) + box[1][at + 36 :]


def set_edits(boxes: list[list], edits: Sequence[tuple[int, int, float]]) -> None:
    """Give a track an edit list: (duration in movie ticks of 1/1000 s, start in ticks of the media or -1, rate)."""
    track = find_box(boxes, b"moov", b"trak")[1]
    track[:] = [box for box in track if box[0] != b"edts"]
    body = struct.pack(">II", 0, len(edits))
    for duration, start, rate in edits:
        body += struct.pack(">Iii", duration, start, round(rate * 65536))
    track.insert(1, [b"edts", [[b"elst", body]]])


def read_table(body: bytes, width: int) -> list[tuple[int, ...]]:
    """The rows of a full box that has a count and rows of ``width`` 32-bit numbers."""
    count = struct.unpack_from(">I", body, 4)[0]
    return [struct.unpack_from(f">{width}i", body, 8 + 4 * width * i) for i in range(count)]


def write_table(rows: Sequence[Sequence[int]], version: int = 0) -> bytes:
    """The body of such a box."""
    return struct.pack(">BxxxI", version, len(rows)) + b"".join(struct.pack(f">{len(r)}i", *r) for r in rows)


# ---- AVI


def edit_avi(path: Path, change: Callable[[list[tuple[bytes, bytes, int]]], list], target: Path | None = None) -> Path:
    """Change the chunks (name, bytes, flags in the index) of a small AVI and write its index anew; 16 flags a key."""
    data = path.read_bytes()
    movi, index = data.index(b"movi"), data.rindex(b"idx1")
    size = struct.unpack_from("<I", data, index + 4)[0]
    entries = [struct.unpack_from("<4sIII", data, index + 8 + 16 * i) for i in range(size // 16)]
    chunks = []
    for name, flags, place, length in entries:
        chunks.append((name, data[movi + place + 8 : movi + place + 8 + length], flags))
    body, table = b"movi", b""
    for name, content, flags in change(chunks):
        table += struct.pack("<4sIII", name, flags, len(body), len(content))
        body += name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    head = data[12 : movi - 8]
    rest = head + b"LIST" + struct.pack("<I", len(body)) + body + b"idx1" + struct.pack("<I", len(table)) + table
    target = target or path
    target.write_bytes(b"RIFF" + struct.pack("<I", len(rest) + 4) + b"AVI " + rest)
    return target
