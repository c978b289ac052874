"""Cuts: the packets that a clip needs of a file, and no more.

A *cut* is the packets from the key frame at or before a wanted frame to the last wanted frame that depends on it. Left
out are the leading pictures (shown before the key frame, decoded after it), non-reference pictures that are not wanted
and, where the packet index tells (references.py), reference pictures that no wanted frame refers to. PyAV decodes a cut
as it is (decode.py); DALI gets it as a small file in memory (remux.py), with all its reference pictures.

Frame i is always the i-th frame of a full decode, in presentation order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, NamedTuple

import av
import av.logging
import numpy as np

from dali_vidaug.media.bitstream import encoder_note, is_fresh_start, is_reference
from dali_vidaug.media.container import open_video, read_packets
from dali_vidaug.media.index import DamagedIndexError
from dali_vidaug.media.indexed_file import HIDDEN, IndexedFile, can_decode
from dali_vidaug.media.needed import FROM_START, by_key_frame, needed_packets, needs_note
from dali_vidaug.media.unchanged import check_stamp, kept_open
from dali_vidaug.media.video import Video, bytes_of, frame_index, frame_pts, is_counted

SEEK_DISTANCE = 64  # frames; a key frame closer than this is reached by reading on
REORDER_MAX = 17  # packets; no codec delays a picture by more than 16 others
READ_ERRORS = (OSError, ValueError, EOFError, av.error.FFmpegError)  # what a bad file raises


class Cut(NamedTuple):
    """Packets that can be decoded on their own.

    Attributes:
        packets: in decoding order; the first is a key frame, or the first of the stream. A list or, for a video that is
            not regular, an iterator that reads the file on.
        frames: for each packet of a list the index of its frame, -1 when it has none (it is hidden).
        stream: where they are from, PyAV's ``Stream`` or an ``IndexedStream``.
        lacks_references: reference pictures are left out, because no wanted frame refers to them.
    """

    packets: Iterable[Any]
    frames: list[int]
    stream: Any
    lacks_references: bool = False


def can_be_indexed(video: Video) -> bool:
    """Whether its packets can be told from each other by their time stamps, and are a frame each."""
    return bool(video.regular) and not is_counted(video)


def read_by_index(video: Video) -> bool:
    """Whether clips of a video are read by its packet index."""
    return video.packet_index is not None and can_be_indexed(video) and can_decode(video.packet_index.codec)


@contextmanager
def open_source(video: Video) -> Iterator[tuple[Any, Any]]:
    """Open what the packets of clips are read from: a context manager that gives (source, stream) for ``read_cuts``.

    With a packet index that is the bare file, otherwise its container.

    Raises:
        OSError, ValueError, av.error.FFmpegError: it cannot be opened, or is not the file that was scanned.
    """
    if video.regular is None:  # what its header says of frames is not proven: see claims.py
        raise ValueError("only its header was scanned; scan it without headers=True (--headers)")
    if video.packet_index is not None and read_by_index(video):
        with bytes_of(video) as source:
            check_stamp(source, video)
            file = IndexedFile(source, video.packet_index)
            yield file, file.stream
        return
    with kept_open(video) as (source, check), open_video(source.as_file(), video.stream) as opened:
        check()  # what was opened by the name is the file that was compared
        yield opened
        check()  # and is as it was


def is_hidden(packet: Any) -> bool:
    """Whether an edit list hides a packet: it is decoded, and not shown."""
    return packet.is_discard or packet.opaque is HIDDEN


def read_cuts(
    source: Any,
    stream: Any,
    video: Video,
    frames: np.ndarray,
    *,
    all_references: bool = False,
    one_cut: bool = False,
) -> list[Cut]:
    """Read what is needed to decode some frames.

    Args:
        source, stream: from ``open_source``, or from ``open_video``; nothing has been read from it yet.
        video: its row of the manifest.
        frames: (F,) int, indices in [0, num_frames), in any order, repeats allowed.
        all_references: keep those pictures too that no wanted frame refers to, but others may.
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
    if is_counted(video):
        packets = read_packets(source, stream)
        return [Cut(packets if not video.regular else _read_counted(packets, int(wanted[-1])), [], stream)]
    groups = by_key_frame(video, wanted, one_cut)
    if not video.regular:
        return [_seek_cut(source, stream, video, next(iter(groups)), None)[0]]
    if isinstance(source, IndexedFile):
        first, cuts = _read_by_place(source, stream, video, groups, all_references)
    else:
        first, cuts = _read_in_order(source, stream, video, groups)
    note = encoder_note(first, stream) if first is not None else b""
    return [
        cut._replace(packets=[_with_prefix(note, cut.packets[0]), *cut.packets[1:]]) if note and key > 0 else cut
        for key, cut in zip(groups, cuts, strict=True)
    ]


def _read_in_order(container, stream, video, groups):
    """Read a cut for each key frame of ``groups``, rising, with the frames that are wanted of it, from a container.

    Returns:
        The first packet of the file if the encoder's note in it is needed, else None; and the cuts.
    """
    packets, first = read_packets(container, stream), None
    if needs_note(video) and max(groups) > 0:
        first = next(packets)
        packets = chain([first], packets)
    cuts, position = [], -1
    for key, group in groups.items():
        near = key <= position + SEEK_DISTANCE
        cut = _read_cut(packets, video, stream, key, group) if near else None
        if cut is None:
            cut, packets = _seek_cut(container, stream, video, key, group)
        cuts.append(cut)
        position = max(group)
    return first, cuts


def _read_by_place(file, stream, video, groups, all_references):
    """As ``_read_in_order``, of a file with a packet index: all cuts in one read, where they are not far apart."""
    parts, lacking = needed_packets(file, video, groups, all_references)
    noted = len(parts) > len(groups)
    read = file.read(parts)
    first = read.pop()[0] if noted else None
    cuts = [
        _read_cut(part, video, stream, key, group, chosen_before=True)
        for part, (key, group) in zip(read, groups.items(), strict=True)
    ]
    if None in cuts:
        raise DamagedIndexError("a key frame is not where it should be")
    return first, [cut._replace(lacks_references=lacks) for cut, lacks in zip(cuts, lacking, strict=True)]


def _seek_cut(container, stream, video, key, wanted):
    """Seek key frame ``key`` and read its cut; returns the cut, and the packets that come after it.

    In some formats a seek lands one or two GOPs after its target: then an earlier key frame is the target. Where no
    seek succeeds, the file is read from its start.
    """
    position = int(np.searchsorted(video.keyframes, key))
    targets = [int(video.keyframes[max(0, position - n)]) for n in (0, 1, 3)] if key > 0 else []
    for target in dict.fromkeys(targets):
        try:
            container.seek(frame_pts(video, target), stream=stream)
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
    with bytes_of(video) as source, open_video(source.as_file(), video.stream) as (container, stream):
        yield from read_packets(container, stream)


def _with_prefix(prefix, packet):
    data = prefix + bytes(packet)
    longer = av.Packet(len(data))  # av.Packet(data) would lack the padding after the end, which decoders may read
    longer.update(data)
    longer.pts, longer.dts, longer.time_base = packet.pts, packet.dts, packet.time_base
    longer.is_keyframe = True
    return longer


def _read_counted(packets, last):
    """The packets from the start of the stream that the frames up to ``last`` may need, each packet being a frame."""
    return list(islice(packets, last + 1 + REORDER_MAX))


def _read_cut(packets, video, stream, key, wanted, chosen_before=False):
    """The packets from key frame ``key`` on that the frames ``wanted`` need, or None if the key frame does not come.

    ``wanted`` is None for a video that is not regular: then the packets have no end, and none of them is left out.
    ``chosen_before``: non-reference pictures that are not wanted are left out already.
    """
    chosen: list = []
    frames, missing, opening = [], set(wanted or ()), -math.inf
    started = key == FROM_START
    for packet in packets:
        index = frame_index(video, packet.pts)
        if not started:
            if index > key and packet.is_keyframe:
                return None
            started = index == key and packet.is_keyframe
            if not started:
                continue
        elif 0 <= index < key or (index < 0 and packet.pts is not None and packet.pts < opening):
            continue  # a leading picture, or a hidden one that cannot be decoded from here
        if not chosen and packet.pts is not None and not is_fresh_start(packet, stream):
            opening = packet.pts
        if wanted is None:
            return Cut(chain([packet], _without_leading(packets, video, key)), [], stream)
        if index in wanted or chosen_before or is_reference(packet, stream):
            chosen.append(packet)
            frames.append(index)
            missing.discard(index)
        if not missing:
            return Cut(chosen, frames, stream)
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
