"""Cuts: the packets that a clip needs of a file, and no more.

A *cut* is the packets from the key frame at or before a wanted frame to the last wanted frame that depends on it. Left
out are the leading pictures (shown before the key frame, decoded after it) and non-reference pictures that are not
wanted. PyAV decodes a cut as it is (decode.py); DALI gets it as a small file in memory (remux.py).

Frame i is always the i-th frame of a full decode, in presentation order.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, NamedTuple

import av
import av.logging
import numpy as np

from dali_vidaug.media.bitstream import encoder_note, is_reference
from dali_vidaug.media.video import Video

SEEK_DISTANCE = 64  # frames; a key frame closer than this is reached by reading on
FROM_START = -1  # in place of a key frame: from the first packet of the stream
REORDER_MAX = 17  # packets; no codec delays a picture by more than 16 others
READ_ERRORS = (OSError, ValueError, EOFError, av.error.FFmpegError)  # what a bad file raises

# Before version 19, PyAV refuses files with tags that are not UTF-8, unless it gets this option; 19 does not have it.
ANY_TAGS: dict[str, Any] = {"metadata_errors": "ignore"} if hasattr(av.container.Container, "metadata_errors") else {}

av.logging.set_level(av.logging.PANIC)  # errors are exceptions here; FFmpeg's own lines name neither file nor frame


class Cut(NamedTuple):
    """Packets that can be decoded on their own.

    Attributes:
        packets: in decoding order; the first is a key frame, or the first of the stream. A list or, for a video that is
            not regular, an iterator that reads the file on.
        frames: for each packet of a list the index of its frame, -1 when it has none (it is hidden).
    """

    packets: Iterable[Any]
    frames: list[int]


@contextmanager
def open_video(path: str | os.PathLike[str], stream_index: int | None = None) -> Iterator[tuple[Any, Any]]:
    """Open a file: a context manager that gives (container, video stream).

    Args:
        path: the file.
        stream_index: which stream of the file; default: the one that FFmpeg would play.

    Raises:
        av.error.FFmpegError, OSError: the file cannot be opened.
        ValueError: it has no video, or no such stream.
    """
    with av.open(str(path), **ANY_TAGS) as container:
        stream = container.streams.best("video") if stream_index is None else _stream(container, stream_index)
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            kinds = sorted({_kind(other) for other in container.streams})
            raise ValueError(f"no video stream, only {', '.join(kinds) or 'nothing'}")
        if stream.codec_context is None:
            raise ValueError("no decoder for its codec")
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "NONE"  # clips are decoded in parallel, each by one thread
        yield container, stream


def _stream(container, index):
    """Stream ``index`` of a file, which must be of video."""
    if not (index < len(container.streams) and container.streams[index].type == "video"):
        raise ValueError(f"stream {index} is not a video stream; there are {len(container.streams)} streams")
    return container.streams[index]


def _kind(stream):
    """What a stream is; a cover picture is a video stream for FFmpeg."""
    cover = stream.type == "video" and stream.disposition & av.stream.Disposition.attached_pic
    return "a cover picture" if cover else stream.type


def video_streams(container: Any) -> list[int]:
    """The indices of the video streams of a file, cover pictures left out."""
    return [s.index for s in container.streams if _kind(s) == "video"]


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
        The cuts, in presentation order. Of a video that is not regular, one cut without an end: its packets are read
        until whoever decodes them has all frames.

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
        return [Cut(packets if not video.regular else _read_counted(packets, int(wanted[-1])), [])]
    before = np.searchsorted(video.keyframes, wanted, "right") - 1
    keys = np.where(before < 0, FROM_START, video.keyframes[before] if len(video.keyframes) else FROM_START)
    if not video.regular:
        return [_seek_cut(container, stream, video, int(keys[0]), None)[0]]
    if one_cut:
        keys = np.broadcast_to(keys[0], keys.shape)
    cuts, position, note = [], -1, b""
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
            cut = cut._replace(packets=[_with_prefix(note, cut.packets[0]), *cut.packets[1:]])
        cuts.append(cut)
        position = max(group)
    return cuts


def _seek_cut(container, stream, video, key, wanted):
    """Seek key frame ``key`` and read its cut; returns the cut, and the packets that come after it.

    In some formats a seek lands one or two GOPs after its target: then an earlier key frame is the target. Where no
    seek succeeds, the file is read from its start.
    """
    position = int(np.searchsorted(video.keyframes, key))
    targets = [int(video.keyframes[max(0, position - n)]) for n in (0, 1, 3)] if key > 0 else []
    for target in dict.fromkeys(targets):
        try:
            container.seek(_frame_pts(video, target), stream=stream)
            packets = read_packets(container, stream)
            cut = _read_cut(packets, video, stream, key, wanted)
        except (av.error.FFmpegError, OSError):  # there may be no index, or nothing to seek
            continue
        if cut is not None:
            return cut, packets
    packets = _packets_from_start(video)
    cut = _read_cut(packets, video, stream, key, wanted)
    if cut is None:
        raise EOFError(f"key frame {key} is not in the file")
    return cut, packets


def _packets_from_start(video):
    with open_video(video.path, video.stream) as (container, stream):
        yield from read_packets(container, stream)


def _with_prefix(prefix, packet):
    data = prefix + bytes(packet)
    longer = av.Packet(len(data))  # av.Packet(data) would lack the padding after the end, which decoders may read
    longer.update(data)
    longer.pts, longer.dts, longer.time_base, longer.stream = packet.pts, packet.dts, packet.time_base, packet.stream
    longer.is_keyframe = True
    return longer


def _read_counted(packets, last):
    """The packets from the start of the stream that the frames up to ``last`` may need, each packet being a frame."""
    return list(islice(packets, last + 1 + REORDER_MAX))


def _read_cut(packets, video, stream, key, wanted):
    """The packets from key frame ``key`` on that the frames ``wanted`` need, or None if the key frame does not come.

    ``wanted`` is None for a video that is not regular: then the packets have no end, and none of them is left out.
    """
    chosen, frames, missing = [], [], set(wanted or ())
    started = key == FROM_START
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
        if wanted is None:
            return Cut(chain([packet], _without_leading(packets, video, key)), [])
        if index in wanted or is_reference(packet, stream):
            chosen.append(packet)
            frames.append(index)
            missing.discard(index)
        if not missing:
            return Cut(chosen, frames)
    if not started:
        return None
    raise EOFError(f"the file ends before frame {min(missing)}; the manifest says {video.num_frames} frames")


def _without_leading(packets, video, key):
    """The packets that follow key frame ``key``, without those of frames before it: a packet each, or one a field."""
    leading = False
    for packet in packets:
        index = frame_index(video, packet.pts)
        leading = 0 <= index < key or (leading and index < 0)  # a second field has no frame of its own
        if not leading:
            yield packet
