"""Cuts: what a clip needs of a file, and no more.

A *cut* is the packets from the key frame at or before a wanted frame to the last wanted frame that hangs on it, without
the leading pictures (shown before the key frame, decoded after it) and without the non-reference pictures that nobody
wants. PyAV decodes a cut as it is (decode.py); DALI gets it as a small file in memory.

Frame i always is the i-th frame that a full decode gives, in presentation order.
"""

import io
import time
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from typing import NamedTuple

import av
import av.logging
import numpy as np

from dali_vidaug.bitstream import (
    MPEG4_PICTURE,
    encoder_note,
    is_fresh_start,
    is_one_shown_picture,
    is_reference,
    presentation_order,
)

SEEK_DISTANCE = 64  # frames; a key frame nearer than this is reached by reading on
REORDER_MAX = 17  # packets; no codec delays a picture longer than 16 others

NVDEC_DELAY_MAX = 7  # packets; DALI 2.4 puts the pictures of a GPU in order among 8

av.logging.set_level(av.logging.PANIC)  # errors come as exceptions; FFmpeg's own lines name neither file nor frame


class NotForNvdecError(ValueError):
    """What a clip needs of its file is nothing that DALI decodes rightly on a GPU; on the CPU it is decoded."""


class Cut(NamedTuple):
    """Packets that can be decoded on their own.

    Attributes:
        packets: in decoding order; the first is a key frame, or the first of the stream.
        frames: for each packet the index of its frame, -1 when it has none (its frame is not shown).
    """

    packets: list
    frames: list


def reason(error):
    """An exception as one line, without the path and the error number."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


@contextmanager
def open_video(path):
    """Open a file: a context manager that gives (container, first video stream).

    Raises:
        av.error.FFmpegError, OSError: the file cannot be opened.
        ValueError: it has no video.
    """
    with av.open(str(path), metadata_errors="ignore") as container:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
            raise ValueError(f"no video stream, only {kinds}")
        if streams[0].codec_context is None:
            raise ValueError("no decoder for its codec")
        streams[0].codec_context.thread_count = 1
        streams[0].codec_context.thread_type = "NONE"  # clips are decoded side by side, each by one thread
        yield container, streams[0]


def frame_index(video, pts):
    """The index of the frame shown at ``pts``, -1 if there is none."""
    if pts is None:
        return -1
    if video.pts is not None:
        at = int(np.searchsorted(video.pts, pts))
        return at if at < len(video.pts) and video.pts[at] == pts else -1
    place = (pts - video.pts_first) / video.pts_step
    at = round(place)
    return at if 0 <= at < video.num_frames and abs(place - at) <= 0.25 else -1


def _frame_pts(video, index):
    return int(video.pts[index]) if video.pts is not None else round(video.pts_first + index * video.pts_step)


def is_counted(video):
    """Whether the file's time stamps say nothing, so that frames are found by counting from the start."""
    return video.pts is None and video.pts_step is None


def read_cuts(container, stream, video, frames):
    """Read what is needed to decode some frames.

    Args:
        container, stream: of an open file, nothing read from it yet.
        video: its row.
        frames: (F,) int, indices in [0, num_frames), in any order, repeats allowed.

    Returns:
        A list of ``Cut``, in presentation order.

    Raises:
        EOFError: the file ends before a wanted frame.
        ValueError: an index is out of range.
        av.error.FFmpegError: the file cannot be read.
    """
    wanted = np.unique(frames)
    if not (wanted[0] >= 0 and wanted[-1] < video.num_frames):
        raise ValueError(f"frames {wanted[0]} to {wanted[-1]} are not all in [0, {video.num_frames})")
    packets = container.demux(stream)
    if is_counted(video):
        return [_read_counted(packets, int(wanted[-1]))]
    keys = video.keyframes[np.searchsorted(video.keyframes, wanted, "right") - 1]
    cuts, position, note = [], 0, b""
    if video.codec == "h264" and "444" in video.pixel_format and keys[-1] > 0:
        first = next(packets)
        note = encoder_note(first, stream)
        packets = chain([first], packets)
    for key in np.unique(keys):
        group = {int(i) for i in wanted[keys == key]}
        place = int(np.searchsorted(video.keyframes, key))
        far = key > position + SEEK_DISTANCE
        # Some formats land behind what was sought, by a group of pictures or two: then seek one that comes earlier.
        for target in ([None] if not far else []) + [video.keyframes[max(0, place - n)] for n in (0, 1, 3)] + [0]:
            if target is not None:
                container.seek(_frame_pts(video, target), stream=stream)
                packets = container.demux(stream)
            cut = _read_cut(packets, video, stream, int(key), group)
            if cut is not None:
                break
        else:
            raise EOFError(f"key frame {key} is not in the file")
        if note and key > 0:
            cut.packets[0] = _with_prefix(note, cut.packets[0])
        cuts.append(cut)
        position = max(group)
    return cuts


def _with_prefix(prefix, packet):
    longer = av.Packet(prefix + bytes(packet))
    longer.pts, longer.dts, longer.time_base, longer.stream = packet.pts, packet.dts, packet.time_base, packet.stream
    longer.is_keyframe = True
    return longer


def _read_counted(packets, last):
    """The packets from the start of the stream that the frames up to ``last`` may need."""
    chosen = []
    for packet in packets:
        if packet.size:
            chosen.append(packet)
        if len(chosen) > last + REORDER_MAX:
            break
    return Cut(chosen, [-1] * len(chosen))


def _read_cut(packets, video, stream, key, wanted):
    """The packets from key frame ``key`` on that the frames ``wanted`` need, or None if the key frame does not come."""
    chosen, frames, missing = [], [], set(wanted)
    started = key == 0
    for packet in packets:
        if not packet.size:
            continue
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


def remux(video, frames, on_gpu=False):
    """Cut out what some frames need and pack it into a small file in memory, for DALI.

    Args:
        video: its row.
        frames: (F,) int, frame indices in any order, repeats allowed.
        on_gpu: whether DALI is going to decode it with NVDEC.

    Returns:
        (N,) uint8: an MP4 (VP8: Matroska) file, valid on its own, whose time stamps begin at 0, without edit list.
        (F,) int32: where each of the frames is among the frames that decoding this file gives.
        Processor seconds of this thread.

    Raises:
        EOFError, ValueError, av.error.FFmpegError: the file cannot be read.
        NotForNvdecError: with ``on_gpu``: a GPU would give other frames.
    """
    started = time.thread_time()
    frames = np.asarray(frames)
    with open_video(video.path) as (container, stream):
        cuts = read_cuts(container, stream, video, frames)
        if len(cuts) == 1 or all(is_fresh_start(cut.packets[0], stream) for cut in cuts[1:]):
            return (*_write(stream, cuts, video, frames, on_gpu), time.thread_time() - started)
    # pictures of one group may hide in the next where that does not begin afresh: take one run
    return remux_run(video, frames, started, on_gpu)


def remux_run(video, frames, started, on_gpu=False):
    """As ``remux``, for videos whose groups of pictures cannot be joined: one cut from the first key frame on."""
    first = video.keyframes[np.searchsorted(video.keyframes, frames.min(), "right") - 1]
    with open_video(video.path) as (container, stream):
        whole = video._replace(keyframes=video.keyframes[video.keyframes <= first])
        cuts = read_cuts(container, stream, whole, frames)
        return (*_write(stream, cuts, video, frames, on_gpu), time.thread_time() - started)


def _check_for_nvdec(stream, cuts, packets, delay, video):
    """Raise for packets of which DALI 2.4 would give other frames on a GPU than on the CPU.

    It decodes with NVIDIA's parser but looks at no time of display (its dali/operators/video/frames_decoder_gpu.cc):
    each picture that is decoded becomes a frame, at the time of the packet that it came in, be it hidden or a field,
    and what is only shown again becomes none. Frames are put in order among eight. The parser begins at an IDR picture.
    """
    counted = is_counted(video)
    whole = counted or all(
        index >= 0 or packet.is_discard for cut in cuts for packet, index in zip(cut.packets, cut.frames, strict=True)
    )
    if counted and video.codec in ("h264", "hevc"):
        why = "its time stamps do not tell the order of its pictures"
    elif not whole or not all(is_one_shown_picture(packet, stream, video.codec) for packet in packets):
        why = "it has hidden pictures, or fields"
    elif delay > NVDEC_DELAY_MAX:
        why = f"a picture is shown {delay} pictures late"
    elif video.codec == "h264" and not is_fresh_start(packets[0], stream):
        why = "it does not begin with an IDR picture"
    else:
        return
    raise NotForNvdecError(f"not for DALI's decoder on a GPU: {why}")


def _write(stream, cuts, video, frames, on_gpu):
    name = video.codec
    packets = [packet for cut in cuts for packet in cut.packets]
    if is_counted(video):
        if name == "mpeg4":  # Xvid packs two pictures into a packet in AVI; elsewhere that is not allowed
            unpack = av.bitstream.BitStreamFilterContext("mpeg4_unpack_bframes", stream)
            packets = [p for packet in (*packets, None) for p in unpack.filter(packet)]
            packets = [p for p in packets if MPEG4_PICTURE in bytes(p)]  # place holders have no picture
        places, order = frames, presentation_order(packets, name)
    else:
        shown, order, first = [], [], 0
        for cut in cuts:
            ranks = np.argsort(np.argsort([p.pts for p in cut.packets], kind="stable"), kind="stable")
            order += [first + int(rank) for rank in ranks]
            first += len(cut.packets)
            # a picture that an edit list hides is decoded and, with the list gone, shown
            shown += [(p.pts, i) for p, i in zip(cut.packets, cut.frames, strict=True) if i >= 0 or p.is_discard]
        place_of = {index: place for place, (_, index) in enumerate(sorted(shown)) if index >= 0}
        places = [place_of[i] for i in frames.tolist()]
    delay = max(i - rank for i, rank in enumerate(order))
    if on_gpu:
        _check_for_nvdec(stream, cuts, packets, delay, video)
    buffer = io.BytesIO()
    form, options = (
        ("matroska", {}) if name == "vp8" else ("mp4", {"movflags": "negative_cts_offsets", "use_editlist": "0"})
    )
    with av.open(buffer, "w", format=form, options=options) as output:
        track = _add_track(output, stream, video)
        track.time_base = tick = Fraction(1, 30)
        for i, (packet, rank) in enumerate(zip(packets, order, strict=True)):
            packet.stream, packet.time_base = track, tick
            packet.pts, packet.dts = rank, i - delay
            output.mux(packet)
    return np.frombuffer(buffer.getbuffer(), np.uint8), np.asarray(places, np.int32)


def _add_track(output, stream, video):
    if video.codec != "av1":
        return output.add_stream_from_template(stream)
    # libdav1d, the decoder, is no name that a container knows
    return output.add_mux_stream("av1", rate=30, width=video.width, height=video.height)
