"""From a file and frame indices to frames, reading and decoding only what these frames need.

A *cut* is the packets from the key frame at or before a wanted frame to the last wanted frame that hangs on it, without
the leading pictures (shown before the key frame, decoded after it) and without the non-reference pictures that nobody
wants. Both decoders share it: PyAV decodes a cut right here, DALI gets it as a small file in memory.

Frame i always is the i-th frame that a full decode gives, in presentation order.
"""

import io
import time
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.filter
import av.logging
import numpy as np

from dali_vidaug.bitstream import encoder_note, is_fresh_start, is_reference

SEEK_DISTANCE = 64  # frames; a key frame nearer than this is reached by reading on
REORDER_MAX = 17  # packets; no codec delays a picture longer than 16 others

av.logging.set_level(av.logging.PANIC)  # errors come as exceptions; FFmpeg's own lines name neither file nor frame


class Cut(NamedTuple):
    """Packets that can be decoded on their own.

    Attributes:
        packets: in decoding order; the first is a key frame, or the first of the stream.
        frames: for each packet the index of its frame, -1 when it has none (its frame is not shown).
    """

    packets: list
    frames: list


class Clip(NamedTuple):
    """Decoded frames, and what they cost.

    Attributes:
        pixels: (F, H, W, 3) uint8.
        num_decoded: frames that were decoded for it.
        seconds: processor time of this thread in reading, decoding and converting.
    """

    pixels: np.ndarray
    num_decoded: int
    seconds: dict[str, float]


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
        note = encoder_note(next(packets), stream)
        container.seek(_frame_pts(video, 0), stream=stream)
        packets = container.demux(stream)
    for key in np.unique(keys):
        group = {int(i) for i in wanted[keys == key]}
        if key > position + SEEK_DISTANCE:
            container.seek(_frame_pts(video, key), stream=stream)
            packets = container.demux(stream)
        cut = _read_cut(packets, video, stream, int(key), group)
        if cut is None:  # the seek went past the key frame
            container.seek(_frame_pts(video, 0), stream=stream)
            packets = container.demux(stream)
            cut = _read_cut(packets, video, stream, int(key), group)
        if cut is None:
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


def decode(video, frames, steps=()):
    """Decode frames of a video to RGB.

    Args:
        video: its row.
        frames: (F,) int, frame indices in any order, repeats allowed.
        steps: crops and scalings, done together with the conversion to RGB: ``CROP`` rows that apply in turn to the
            frames as shown. Scaling is libswscale's bilinear, which averages when it makes smaller.

    Returns:
        A ``Clip``. Colours are converted by BT.601 whatever the file says, as DALI does; full and limited range are
        honoured; frames are turned as the file's rotation says.

    Raises:
        EOFError, ValueError, av.error.FFmpegError: a frame cannot be read or decoded whole.
    """
    clock = time.thread_time
    seconds = {"read": 0.0, "decode": 0.0, "convert": 0.0}
    started = clock()
    frames = np.asarray(frames)
    wanted = set(frames.tolist())
    convert = Converter(video, steps)
    pixels: Any = None
    num_decoded = 0
    with open_video(video.path) as (container, stream):
        cuts = read_cuts(container, stream, video, frames)
        seconds["read"] = clock() - started
        for cut in cuts:
            for frame, index in decode_cut(stream.codec_context, cut, video, last=max(wanted)):
                num_decoded += 1
                if index not in wanted:
                    continue
                if frame.is_corrupt:
                    raise ValueError(f"frame {index} is damaged")
                before = clock()
                picture = convert(frame)
                if pixels is None:
                    pixels = np.empty((len(frames), *picture.shape), np.uint8)
                for place in np.flatnonzero(frames == index):
                    pixels[place] = picture
                wanted.discard(index)
                seconds["convert"] += clock() - before
                if not wanted:
                    break
    if wanted:
        raise ValueError(f"frame {min(wanted)} did not come out of the decoder")
    seconds["decode"] = clock() - started - seconds["read"] - seconds["convert"]
    return Clip(pixels, num_decoded, seconds)


def decode_cut(codec, cut, video, last=None):
    """Decode a cut: yields (av.VideoFrame, index of the frame or -1) in presentation order.

    Args:
        codec: the stream's codec context; ready for another cut afterwards.
        cut: what to decode.
        video: its row.
        last: where frames are counted, the index to stop after.
    """
    counted = is_counted(video)
    number = 0
    for packet in (*cut.packets, None):
        for frame in codec.decode(packet):
            yield frame, number if counted else frame_index(video, frame.pts)
            number += 1
            if counted and last is not None and number > last:
                return
    codec.flush_buffers()


class Converter:
    """Turns decoded frames into RGB arrays: crop, scale and colour in one pass of libswscale.

    Args:
        video: the row whose frames come; its size and rotation count.
        steps: as in ``decode``.
    """

    def __init__(self, video, steps):
        self._video = video
        self._graph: Any = None
        turned = video.rotation in (90, 270)
        height, width = (video.width, video.height) if turned else (video.height, video.width)
        self._filters = []
        for step in steps:
            box = tuple(int(step[n]) for n in ("top", "left", "bottom", "right"))
            if box != (0, 0, height, width):
                top, left, bottom, right = _stored_box(box, height, width, video.rotation)
                # exact: odd offsets are honoured for luma; chroma moves by at most half a pixel
                self._filters.append(("crop", f"{right - left}:{bottom - top}:{left}:{top}:exact=1"))
            height, width = int(step["out_height"]), int(step["out_width"])
            if (height, width) != (box[2] - box[0], box[3] - box[1]):
                self._filters.append(("scale", _scale(*((width, height) if turned else (height, width)))))
        if not any(name == "scale" for name, _ in self._filters):
            self._filters.append(("scale", _scale("ih", "iw")))
        self._filters.append(("format", "rgb24"))

    def _configure(self, frame):
        graph = av.filter.Graph()
        graph.threads = 1  # more cost several times the work at these sizes, and clips run side by side anyway
        last = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
        )
        for name, arguments in self._filters:
            following = graph.add(name, arguments)
            last.link_to(following)
            last = following
        last.link_to(graph.add("buffersink"))
        graph.configure()
        self._graph = graph

    def __call__(self, frame):
        """The frame as (H, W, 3) uint8, as shown. A view that is valid until the next call.

        Raises:
            ValueError: the frame's size is not the video's.
        """
        if (frame.width, frame.height) != (self._video.width, self._video.height):
            raise ValueError(
                f"the picture changes size, from {self._video.width}x{self._video.height} to "
                f"{frame.width}x{frame.height}"
            )
        if self._graph is None:
            self._configure(frame)
        self._graph.vpush(frame)
        rgb = self._graph.vpull()
        plane = rgb.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(rgb.height, plane.line_size)
        picture = rows[:, : rgb.width * 3].reshape(rgb.height, rgb.width, 3)
        return np.rot90(picture, -self._video.rotation // 90) if self._video.rotation else picture


def _scale(height, width):
    # accurate_rnd and full_chroma_int cost a few per cent; with them an unscaled frame is what DALI's decoder gives
    return f"{width}:{height}:flags=bilinear+accurate_rnd+full_chroma_int:in_color_matrix=bt601"


def _stored_box(box, height, width, rotation):
    """The box (top, left, bottom, right) of a shown height x width picture, in the picture as it is stored."""
    top, left, bottom, right = box
    if rotation == 90:
        return width - right, top, width - left, bottom
    if rotation == 180:
        return height - bottom, width - right, height - top, width - left
    if rotation == 270:
        return left, height - bottom, right, height - top
    return box


def remux(video, frames):
    """Cut out what some frames need and pack it into a small file in memory, for DALI.

    Args:
        video: its row.
        frames: (F,) int, frame indices in any order, repeats allowed.

    Returns:
        (N,) uint8: an MP4 (VP8: Matroska) file, valid on its own, whose time stamps begin at 0, without edit list.
        (F,) int32: where each of the frames is among the frames that decoding this file gives.
        Processor seconds of this thread.

    Raises:
        EOFError, ValueError, av.error.FFmpegError: the file cannot be read.
    """
    started = time.thread_time()
    frames = np.asarray(frames)
    with open_video(video.path) as (container, stream):
        cuts = read_cuts(container, stream, video, frames)
        if len(cuts) > 1 and not all(is_fresh_start(cut.packets[0], stream) for cut in cuts[1:]):
            # pictures of one group may hide in the next where that does not begin afresh: take one run
            return remux_run(video, frames, started)
        return (*_write(stream, cuts, video, frames), time.thread_time() - started)


def remux_run(video, frames, started):
    """As ``remux``, for videos whose groups of pictures cannot be joined: one cut from the first key frame on."""
    first = video.keyframes[np.searchsorted(video.keyframes, frames.min(), "right") - 1]
    with open_video(video.path) as (container, stream):
        whole = video._replace(keyframes=video.keyframes[video.keyframes <= first])
        cuts = read_cuts(container, stream, whole, frames)
        return (*_write(stream, cuts, video, frames), time.thread_time() - started)


def _write(stream, cuts, video, frames):
    name = video.codec
    packets = [packet for cut in cuts for packet in cut.packets]
    if is_counted(video):
        if name == "mpeg4":  # Xvid packs two pictures into a packet in AVI; elsewhere that is not allowed
            unpack = av.bitstream.BitStreamFilterContext("mpeg4_unpack_bframes", stream)
            packets = [p for packet in (*packets, None) for p in unpack.filter(packet)]
            packets = [p for p in packets if b"\0\0\1\xb6" in bytes(p)]  # place holders have no picture
        places, order = frames, list(range(len(packets)))  # decoders put them in order by the pictures' own numbers
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
    buffer = io.BytesIO()
    form, options = (
        ("matroska", {}) if name == "vp8" else ("mp4", {"movflags": "negative_cts_offsets", "use_editlist": "0"})
    )
    with av.open(buffer, "w", format=form, options=options) as output:
        track = _add_track(output, stream, video)
        track.time_base = tick = Fraction(1, 30)
        delay = max(i - rank for i, rank in enumerate(order))
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
