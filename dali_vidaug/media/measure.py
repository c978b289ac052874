"""Measure one video: what a full decode would give, from its packets and from decoding its two ends."""

from __future__ import annotations

from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from dali_vidaug.errors import one_line
from dali_vidaug.media.bitstream import is_random_access
from dali_vidaug.media.cut import READ_ERRORS, open_video, read_packets


def measure(path: Path, deep: bool = False) -> dict[str, Any]:
    """Measure one video.

    Args:
        path: the file.
        deep: decode all of it.

    Returns:
        The measured columns of a manifest by name, or ``{"error": reason}``.
    """
    try:
        stat = path.stat()
        if stat.st_size == 0:
            return {"error": "the file is empty"}
        return {**_measure(path, deep), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    except FileNotFoundError:
        return {"error": "the file does not exist"}
    except READ_ERRORS as error:
        return {"error": one_line(error)}


def _measure(path, deep):
    with open_video(path) as (container, stream):
        packets = _Packets(container, stream)
        if not packets.pts:
            raise ValueError(f"no video packets{packets.note}")
        whole = deep or not packets.usable()
        if not whole:
            # Only decoding tells how many frames the ends of a stream give; the GOPs between them are not decoded.
            codec, parts = stream.codec_context, [packets.first_gop, packets.last_gop]
            results = [_decode(codec, part) for part in parts if part]
            lost = set()
            for part, result in zip(parts, results, strict=False):
                key = part[0].pts if part is packets.last_gop else None
                lost |= _lost(part, result, key)
            whole = not all(_rising(result.pts) and set(result.pts) <= packets.shown for result in results)
        info = _stream_facts(stream)
    if whole:
        with open_video(path) as (container, stream):
            results = [_decode(stream.codec_context, read_packets(container, stream))]
        frames = results[0].pts
        counted = not (packets.usable() and _rising(frames) and set(frames) <= packets.shown)
    else:
        frames, counted = sorted(packets.shown - lost), False
    if not frames or results[0].look is None:
        problem = next((r.problem for r in results if r.problem), None)
        raise ValueError(f"no frame can be decoded{f' ({problem})' if problem else packets.note}")
    index_of = {} if counted else {pts: i for i, pts in enumerate(frames)}
    starts = {0, *(index_of[pts] for pts in packets.random_access if pts in index_of)}
    return {
        **info,
        **results[0].look,
        **_timing(None if counted else frames, len(frames), info),
        "num_frames": len(frames),
        "keyframes": sorted(starts),
    }


class _Packets:
    """What demuxing gives: the time stamps of all packets, and the packets of the first and the last GOP."""

    def __init__(self, container, stream):
        self.pts, self.random_access, self.note = [], [], ""
        self.shown: set = set()
        self._num_shown = 0
        self.first_gop: list = []
        self.last_gop: list = []  # empty when there is only one
        try:
            for packet in read_packets(container, stream):
                self._add(packet, stream)
        except (av.error.FFmpegError, OSError) as error:  # truncated: what came before still counts
            self.note = f" ({one_line(error)})"

    def _add(self, packet, stream):
        if self.pts and is_random_access(packet, stream) and packet.pts is not None:
            self.last_gop = [packet]
        elif self.last_gop:
            self.last_gop.append(packet)
        else:
            self.first_gop.append(packet)
        if is_random_access(packet, stream):
            self.random_access.append(packet.pts)
        self.pts.append(packet.pts)
        if not packet.is_discard:
            self.shown.add(packet.pts)
            self._num_shown += 1

    def usable(self):
        """Whether every packet has a time stamp of its own."""
        return None not in self.pts and len(self.shown) == self._num_shown


class _Decoded(NamedTuple):
    pts: list  # of the frames that came out, in that order
    look: dict | None  # size, rotation and pixel format of the first frame
    problem: str | None  # the first error


def _decode(codec, packets):
    """Decode packets; skip those that cannot be decoded."""
    pts, look, problem = [], None, None
    for packet in chain(packets, [None]):
        try:
            frames = codec.decode(packet)
        except av.error.FFmpegError as error:
            problem = problem or one_line(error)
            continue
        for frame in frames:
            pts.append(frame.pts)
            if look is None:
                look = {
                    "width": frame.width,
                    "height": frame.height,
                    "rotation": round(-frame.rotation) % 360,
                    "pixel_format": frame.format.name,
                }
    codec.flush_buffers()
    return _Decoded(pts, look, problem)


def _lost(part, decoded, key):
    """Time stamps of packets that gave no frame. Those before ``key``, of leading pictures, are not counted."""
    expected = {packet.pts for packet in part if not packet.is_discard and (key is None or packet.pts >= key)}
    return expected - set(decoded.pts)


def _rising(values):
    return None not in values and all(a < b for a, b in pairwise(values))


def _stream_facts(stream):
    rate = stream.average_rate or stream.guessed_rate
    return {
        "fps": float(rate) if rate else None,
        "codec": stream.codec_context.codec.canonical_name,
        "time_base": float(stream.time_base),
    }


def _timing(pts, num_frames, facts):
    """The columns on time: a regular grid if the frames are on one, else each frame's time stamp, else nothing."""
    row = {"pts_first": None, "pts_step": None, "pts": None}
    fps = facts["fps"]
    if pts is None:
        return {**row, "fps": fps, "duration_seconds": num_frames / fps if fps else None}
    times = np.array(pts, np.int64)
    step = (times[-1] - times[0]) / (num_frames - 1) if num_frames > 1 else 1.0
    seconds = num_frames * step * facts["time_base"] if num_frames > 1 else (1 / fps if fps else None)
    row["fps"], row["duration_seconds"] = (num_frames / seconds if num_frames > 1 else fps), seconds
    # frame_index accepts a quarter of a step; the smaller limit here leaves room for rounding
    if np.abs(times - (times[0] + np.arange(num_frames) * step)).max() < 0.2 * step:
        return {**row, "pts_first": pts[0], "pts_step": float(step)}
    return {**row, "pts": pts}
