"""Cuts: the packets that a clip needs of a file, and no more.

A *cut* is the packets from the key frame at or before a wanted frame to the last wanted frame that depends on it. Left
out are the leading pictures (shown before the key frame, decoded after it) and non-reference pictures that are not
wanted. PyAV decodes a cut as it is (decode.py); DALI gets it as a small file in memory (remux.py).

Frame i is always the i-th frame of a full decode, in presentation order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import av
import av.logging
import numpy as np

from dali_vidaug.media.bitstream import encoder_note, is_reference
from dali_vidaug.media.video import Video

SEEK_DISTANCE = 64  # frames; a key frame closer than this is reached by reading on
REORDER_MAX = 17  # packets; no codec delays a picture by more than 16 others
READ_ERRORS = (OSError, ValueError, EOFError, av.error.FFmpegError)  # what a bad file raises

# Before version 19, PyAV refuses files with tags that are not UTF-8, unless it gets this option; 19 does not have it.
ANY_TAGS: dict[str, Any] = {"metadata_errors": "ignore"} if hasattr(av.container.Container, "metadata_errors") else {}

av.logging.set_level(av.logging.PANIC)  # errors are exceptions here; FFmpeg's own lines name neither file nor frame


class Cut(NamedTuple):
    """Packets that can be decoded on their own.

    Attributes:
        packets: in decoding order; the first is a key frame, or the first of the stream.
        frames: for each packet the index of its frame, -1 when it has none (it is hidden).
    """

    packets: list
    frames: list[int]


@contextmanager
def open_video(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Any]]:
    """Open a file: a context manager that gives (container, first video stream).

    Raises:
        av.error.FFmpegError, OSError: the file cannot be opened.
        ValueError: it has no video.
    """
    with av.open(str(path), **ANY_TAGS) as container:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
            raise ValueError(f"no video stream, only {kinds}")
        if streams[0].codec_context is None:
            raise ValueError("no decoder for its codec")
        streams[0].codec_context.thread_count = 1
        streams[0].codec_context.thread_type = "NONE"  # clips are decoded in parallel, each by one thread
        yield container, streams[0]


def read_packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream up to its end, without the empty ones.

    Raises:
        av.error.FFmpegError: the file cannot be read.
        ValueError: PyAV fails on it.
    """
    packets, at_end = container.demux(stream), False
    while True:
        try:
            packet = next(packets, None)
        except IndexError as error:
            # Before version 19, PyAV raises this after the end of a file in which a stream, such as late sound, began
            # after the file was opened. The end is marked by an empty packet.
            if at_end:
                return
            raise ValueError("PyAV fails on its streams; PyAV 19 may read it") from error
        if packet is None:
            return
        at_end = not packet.size
        if packet.size:
            yield packet


def frame_index(video: Video, pts: int | None) -> int:
    """The index of the frame shown at ``pts``, -1 if there is none."""
    if pts is None:
        return -1
    if video.pts is not None:
        at = int(np.searchsorted(video.pts, pts))
        return at if at < len(video.pts) and video.pts[at] == pts else -1
    if video.pts_first is None or video.pts_step is None:
        return -1
    position = (pts - video.pts_first) / video.pts_step
    at = round(position)
    return at if 0 <= at < video.num_frames and abs(position - at) <= 0.25 else -1


def _frame_pts(video, index):
    return int(video.pts[index]) if video.pts is not None else round(video.pts_first + index * video.pts_step)


def is_counted(video: Video) -> bool:
    """Whether the file's time stamps are useless, so that frames are found by counting from the start."""
    return video.pts is None and video.pts_step is None


def read_cuts(container: Any, stream: Any, video: Video, frames: np.ndarray, *, one_cut: bool = False) -> list[Cut]:
    """Read what is needed to decode some frames.

    Args:
        container, stream: of an open file from which nothing has been read yet.
        video: its row of the manifest.
        frames: (F,) int, indices in [0, num_frames), in any order, repeats allowed.
        one_cut: read everything from the key frame at or before the first wanted frame, as one cut; otherwise there is
            a cut for each key frame that a wanted frame depends on.

    Returns:
        The cuts, in presentation order.

    Raises:
        EOFError: the file ends before a wanted frame.
        ValueError: an index is out of range.
        av.error.FFmpegError: the file cannot be read.
    """
    wanted = np.unique(frames)
    if not (wanted[0] >= 0 and wanted[-1] < video.num_frames):
        raise ValueError(f"frames {wanted[0]} to {wanted[-1]} are not all in [0, {video.num_frames})")
    packets = read_packets(container, stream)
    if is_counted(video):
        return [_read_counted(packets, int(wanted[-1]))]
    keys = video.keyframes[np.searchsorted(video.keyframes, wanted, "right") - 1]
    if one_cut:
        keys = np.broadcast_to(keys[0], keys.shape)
    cuts, position, note = [], 0, b""
    if video.codec == "h264" and "444" in video.pixel_format and keys[-1] > 0:
        first = next(packets)
        note = encoder_note(first, stream)
        packets = chain([first], packets)
    for key in np.unique(keys).tolist():
        group = {int(i) for i in wanted[keys == key]}
        near = key <= position + SEEK_DISTANCE
        cut = _read_cut(packets, video, stream, key, group) if near else None
        if cut is None:
            cut, packets = _seek_cut(container, stream, video, key, group)
        if note and key > 0:
            cut.packets[0] = _with_prefix(note, cut.packets[0])
        cuts.append(cut)
        position = max(group)
    return cuts


def _seek_cut(container, stream, video, key, wanted):
    """Seek key frame ``key`` and read its cut; returns the cut, and the packets that come after it.

    In some formats a seek lands one or two GOPs after its target: then an earlier key frame is the target.
    """
    position = int(np.searchsorted(video.keyframes, key))
    for target in (*(video.keyframes[max(0, position - n)] for n in (0, 1, 3)), 0):
        container.seek(_frame_pts(video, target), stream=stream)
        packets = read_packets(container, stream)
        cut = _read_cut(packets, video, stream, key, wanted)
        if cut is not None:
            return cut, packets
    raise EOFError(f"key frame {key} is not in the file")


def _with_prefix(prefix, packet):
    data = prefix + bytes(packet)
    longer = av.Packet(len(data))  # av.Packet(data) would lack the padding after the end, which decoders may read
    longer.update(data)
    longer.pts, longer.dts, longer.time_base, longer.stream = packet.pts, packet.dts, packet.time_base, packet.stream
    longer.is_keyframe = True
    return longer


def _read_counted(packets, last):
    """The packets from the start of the stream that the frames up to ``last`` may need."""
    chosen = []
    for packet in packets:
        chosen.append(packet)
        if len(chosen) > last + REORDER_MAX:
            break
    return Cut(chosen, [-1] * len(chosen))


def _read_cut(packets, video, stream, key, wanted):
    """The packets from key frame ``key`` on that the frames ``wanted`` need, or None if the key frame does not come."""
    chosen, frames, missing = [], [], set(wanted)
    started = key == 0
    for packet in packets:
        index = frame_index(video, packet.pts)
        if not started:
            if index > key and packet.is_keyframe:
                return None
            started = index == key and packet.is_keyframe
            if not started:
                continue
        elif 0 <= index < key:
            continue  # a leading picture
        if index in wanted or is_reference(packet, stream):
            chosen.append(packet)
            frames.append(index)
            missing.discard(index)
        if not missing:
            return Cut(chosen, frames)
    if not started:
        return None
    raise EOFError(f"the file ends before frame {min(missing)}; the manifest says {video.num_frames} frames")
