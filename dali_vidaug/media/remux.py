"""A cut as a small file in memory, for DALI; and whether DALI's decoder on a GPU would get it right."""

from __future__ import annotations

import io
import time
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.bitstream
import numpy as np

from dali_vidaug.errors import NotForDaliError
from dali_vidaug.media.bitstream import (
    MPEG4_PICTURE,
    is_fresh_start,
    is_one_shown_picture,
    presentation_order,
)
from dali_vidaug.media.cut import is_hidden, open_source, read_cuts
from dali_vidaug.media.indexed_file import IndexedStream, copy_facts, template
from dali_vidaug.media.uncrop import FILTERS, Box, Uncropped, uncrop
from dali_vidaug.media.video import Video, is_counted

NVDEC_DELAY_MAX = 7  # packets; DALI 2.4 orders the frames of a GPU's decoder among 8
_TICK = Fraction(1, 30)  # of the small files; DALI looks at the order of time stamps alone


class Remuxed(NamedTuple):
    """A small video file, and where the wanted frames are in it.

    Attributes:
        data: (N,) uint8, an MP4 file (VP8: Matroska), valid on its own, time stamps from 0, without an edit list.
        positions: (F,) int32, for each wanted frame its index among the frames that decoding the file gives.
        seconds: processor time of this thread.
        delay: packets, by which frames are shown later than they are decoded, at most.
        size: (width, height) of the frames that decoding the file gives, where they are whole coded frames; else None.
        box: what is shown of them; None: all.
    """

    data: np.ndarray
    positions: np.ndarray
    seconds: float
    delay: int
    size: tuple[int, int] | None = None
    box: Box | None = None


def remux(video: Video, frames: np.ndarray, on_gpu: bool = False) -> Remuxed:
    """Cut out what some frames need and pack it into a small file in memory.

    For a GPU, the frames of H.264 and H.265 are not cropped as the file says (uncrop.py): ``box`` is what is shown.

    Args:
        video: its row of the manifest.
        frames: (F,) int, frame indices in any order, repeats allowed.
        on_gpu: whether DALI will decode it with NVDEC.

    Raises:
        EOFError, ValueError, av.error.FFmpegError: the file cannot be read.
        NotForDaliError: DALI would give other frames: on a GPU or, if the video is not regular, anywhere.
    """
    if not video.regular:
        raise NotForDaliError("not for DALI's decoder: its packets are not one frame each, with the same settings")
    started = time.thread_time()
    frames = np.asarray(frames)
    with open_source(video) as (source, stream):
        cuts = read_cuts(source, stream, video, frames, all_references=True)
        # Frames of one GOP may refer to the next GOP where that does not begin afresh: cuts then cannot be joined.
        joinable = all(is_fresh_start(next(iter(cut.packets)), stream) for cut in cuts[1:])
        if joinable:
            return _pack(stream, cuts, video, frames, on_gpu, started)
    with open_source(video) as (source, stream):
        cuts = read_cuts(source, stream, video, frames, all_references=True, one_cut=True)
        return _pack(stream, cuts, video, frames, on_gpu, started)


def _pack(stream, cuts, video, frames, on_gpu, started):
    if is_counted(video):
        packets, order, positions = _count_packets(stream, cuts, video, frames)
    else:
        packets, order, positions = _order_packets(cuts, frames)
    delay = max(i - rank for i, rank in enumerate(order))
    if on_gpu and (why := _nvdec_problem(stream, cuts, packets, delay, video)):
        raise NotForDaliError(f"not for DALI's decoder on a GPU: {why}")
    whole = uncrop(stream, packets, video) if on_gpu and video.codec in FILTERS else None
    data = _write(stream, packets if whole is None else whole.packets, order, delay, video, whole)
    size, box = (None, None) if whole is None else ((whole.width, whole.height), whole.box)
    return Remuxed(data, np.asarray(positions, np.int32), time.thread_time() - started, delay, size, box)


def _order_packets(cuts, frames):
    """Packets in decoding order, the rank of each in presentation order, and the positions of the wanted frames."""
    packets = [packet for cut in cuts for packet in cut.packets]
    shown, order, first = [], [], 0
    for cut in cuts:
        ranks = np.argsort(np.argsort([p.pts for p in cut.packets], kind="stable"), kind="stable")
        order += [first + int(rank) for rank in ranks]
        first += len(cut.packets)
        # A frame that an edit list hides is decoded too and, because the small file has no edit list, shown.
        shown += [(p.pts, i) for p, i in zip(cut.packets, cut.frames, strict=True) if i >= 0 or is_hidden(p)]
    position_of = {index: position for position, (_, index) in enumerate(sorted(shown)) if index >= 0}
    return packets, order, [position_of[i] for i in frames.tolist()]


def _count_packets(stream, cuts, video, frames):
    """As ``_order_packets``, for a file without usable time stamps, whose one cut begins at its first packet."""
    packets = list(cuts[0].packets)
    if video.codec == "mpeg4":  # Xvid packs two pictures into one packet of an AVI; other containers do not allow that
        unpack = av.bitstream.BitStreamFilterContext("mpeg4_unpack_bframes", stream)
        packets = [p for packet in (*packets, None) for p in unpack.filter(packet)]
        packets = [p for p in packets if MPEG4_PICTURE in bytes(p)]  # placeholders have no picture
    return packets, presentation_order(packets, video.codec), frames


def _nvdec_problem(stream, cuts, packets, delay, video):
    """Why DALI 2.4 would give other frames for these packets on a GPU than on the CPU, or None.

    It decodes with NVIDIA's parser but has no display callback (its dali/operators/video/frames_decoder_gpu.cc): every
    picture that is decoded becomes a frame, with the time of its packet, even if it is hidden or a field; a picture
    that is only shown again becomes none. Frames are put in order among eight. The parser begins at an IDR picture.
    """
    counted = is_counted(video)
    all_shown = counted or all(
        index >= 0 or is_hidden(packet) for cut in cuts for packet, index in zip(cut.packets, cut.frames, strict=True)
    )
    if counted and video.codec in ("h264", "hevc"):
        return "its time stamps do not tell the order of its frames"
    if not all_shown or not all(is_one_shown_picture(packet, stream, video.codec) for packet in packets):
        return "it has hidden pictures, or fields"
    if delay > NVDEC_DELAY_MAX:
        return f"a frame is shown {delay} frames late"
    if video.codec == "h264" and not is_fresh_start(packets[0], stream):
        return "it does not begin with an IDR picture"
    return None


def _write(
    stream: Any, packets: list, order: list[int], delay: int, video: Video, whole: Uncropped | None
) -> np.ndarray:
    """Write packets to a file in memory. Time stamps are the ranks in presentation order, ``order``."""
    buffer = io.BytesIO()
    if video.codec == "vp8":
        container, options = "matroska", {}
    else:
        container, options = "mp4", {"movflags": "negative_cts_offsets", "use_editlist": "0"}
    with av.open(buffer, "w", format=container, options=options) as output:
        track = _add_track(output, stream, video)
        if whole is not None:
            context = track.codec_context
            context.width, context.height = whole.width, whole.height
            context.extradata = context.extradata if whole.extradata is None else whole.extradata or None
        track.time_base = _TICK
        for i, (packet, rank) in enumerate(zip(packets, order, strict=True)):
            packet.stream, packet.time_base = track, _TICK
            packet.pts, packet.dts, packet.duration = rank, i - delay, 1
            output.mux(packet)
    return np.frombuffer(buffer.getbuffer(), np.uint8)


def _add_track(output, stream, video):
    if video.codec == "av1":  # its decoder is libdav1d, a name that containers do not know
        return output.add_mux_stream("av1", rate=30, width=video.width, height=video.height)
    if not isinstance(stream, IndexedStream):
        return output.add_stream_from_template(stream)
    track = output.add_stream_from_template(template(stream.codec_context.name)[1])
    copy_facts(stream.codec_context, track.codec_context)
    return track
