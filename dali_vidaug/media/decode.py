"""From a file and frame indices to RGB frames, with PyAV."""

from __future__ import annotations

import time
from collections.abc import Iterator, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from itertools import count
from typing import Any, NamedTuple

import av
import numpy as np

from dali_vidaug.errors import one_line
from dali_vidaug.media.bitstream import codec_of, is_fresh_start
from dali_vidaug.media.convert import Converter
from dali_vidaug.media.cut import REORDER_MAX, Cut, open_source, read_cuts
from dali_vidaug.media.frame_folder import read_images
from dali_vidaug.media.images import ImageConverter
from dali_vidaug.media.single import damage_of
from dali_vidaug.media.vectors import VECTOR_CODECS, Vectors, View
from dali_vidaug.media.video import IMAGES, Video, frame_index, is_counted
from dali_vidaug.recycled import Recycled

_clips: Any = Recycled(kept=32, largest=8 << 20)
_EIGHT_BITS = ("yuv420p", "yuv422p", "yuv440p", "yuv444p", "gbrp")  # libvpx may be built for no more


def decode_into(memory: Any) -> None:
    """Have all clips of this process decoded into arrays that ``memory.take(shape, dtype)`` returns."""
    global _clips
    _clips = memory


class Clip(NamedTuple):
    """Decoded frames, and what they cost.

    Attributes:
        pixels: (F, H, W, 3) uint8.
        num_decoded: frames that were decoded for them.
        seconds: processor time of this thread: "read", "decode" and "convert".
    """

    pixels: np.ndarray
    num_decoded: int
    seconds: dict[str, float]


class Clips(NamedTuple):
    """Several clips of a video, decoded together.

    Attributes:
        pixels: (F, H, W, 3) uint8 each. Clips of the same frames and crops are the same array.
        num_decoded, seconds: as of ``Clip``, for all together.
        motion: what moves in each, as ``Vectors.map`` gives it; None where it was not asked for.
    """

    pixels: list[np.ndarray]
    num_decoded: int
    seconds: dict[str, float]
    motion: list[np.ndarray] | None = None


def decode(video: Video, frames: np.ndarray, crops: Sequence[np.void] = (), color: str = "bt601") -> Clip:
    """Decode frames of a video to RGB.

    Args:
        video: its row of the manifest.
        frames: (F,) int, frame indices in any order, repeats allowed.
        crops: crops and scalings, done together with the conversion to RGB: rows of ``ops.CROP`` that apply one after
            the other to the frames as shown; the last may say, in a field ``mirrored``, that left and right are swapped
            in the end. Scaling is bilinear, and averages when it scales down: docs/decoding.md.
        color: "bt601": colours are converted by BT.601 whatever the file says, as DALI does; "file": by what it says.

    Returns:
        The frames. Full and limited range are honoured; frames are turned and mirrored as the file says.

    Raises:
        EOFError, ValueError, av.error.FFmpegError: a frame cannot be read, or not decoded without damage.
    """
    clips = decode_clips(video, [frames], [crops], color)
    return Clip(clips.pixels[0], clips.num_decoded, clips.seconds)


def decode_clips(
    video: Video, clips: Sequence[np.ndarray], crops: Sequence[Sequence[np.void]], color: str = "bt601",
    views: Sequence[View] | None = None,
) -> Clips:  # fmt: skip
    """Decode clips of a video together: a frame that several of them need is decoded once.

    Args:
        video: its row of the manifest.
        clips: for each clip its frames, as for ``decode``.
        crops: for each clip its crops, as for ``decode``.
        color: as for ``decode``.
        views: of each clip, for a map of what moves in it; None: without.

    Raises:
        EOFError, ValueError, av.error.FFmpegError: as ``decode``, for a frame of any of them.
    """
    clock = time.thread_time
    seconds = {"read": 0.0, "decode": 0.0, "convert": 0.0}
    started = clock()
    converters: dict[tuple, Converter | ImageConverter] = {}
    pictures: dict[tuple, np.ndarray] = {}  # by frames and crops
    places: dict[int, dict[tuple, list]] = {}  # of each frame, by crops: the pictures that it becomes
    keys = []
    for frames, boxes in zip(clips, crops, strict=True):
        box = tuple(row.tobytes() for row in boxes)
        keys.append((tuple(np.asarray(frames).tolist()), box))
        if keys[-1] in pictures:
            continue
        if box not in converters:
            converters[box] = ImageConverter(video, boxes) if video.codec == IMAGES else Converter(video, boxes, color)
        pictures[keys[-1]] = _clips.take((len(frames), *converters[box].shape), np.uint8)
        for index, picture in zip(keys[-1][0], pictures[keys[-1]], strict=True):
            places.setdefault(index, {}).setdefault(box, []).append(picture)
    num_decoded = 0
    wanted = sorted(places)
    is_folder = video.codec == IMAGES
    vectors = None
    if views is not None:
        looked_at = {i for key, view in zip(keys, views, strict=True) for i in key[0][:: view.every]}
        vectors = Vectors(video, looked_at, set(wanted), views)
    watching = vectors if video.codec in VECTOR_CODECS else None
    if is_folder:
        reader = read_images(video, wanted, seconds)
    else:
        reader = decode_frames(video, np.array(wanted), seconds, vectors=watching)
    for frame, index in reader:
        num_decoded += 1
        before = clock()
        for box, (picture, *others) in places.pop(index, {}).items():
            converters[box](frame, picture)
            for other in others:
                other[...] = picture
        seconds["convert"] += clock() - before
    if places:
        raise ValueError(f"frame {min(places)} did not come out of the decoder")
    seconds["decode"] = clock() - started - seconds["read"] - seconds["convert"]
    motion = None
    if vectors is not None:
        motion = [vectors.map(frames, view) for frames, view in zip(clips, views or (), strict=True)]
    return Clips([pictures[key] for key in keys], num_decoded, seconds, motion)


class _OpeningError(ValueError):
    """The decoder reports an error soon after it began at a key frame that is not a fresh start."""


def decode_frames(
    video: Video, frames: np.ndarray, seconds: MutableMapping[str, float], opened: Any = None, *, least: bool = False,
    vectors: Vectors | None = None,
) -> Iterator[tuple[Any, int]]:  # fmt: skip
    """Decode what some frames need: yields (av.VideoFrame, index of the frame or -1), frames that are not wanted too.

    A frame may come twice. All frames are right only when the iterator has ended.

    Args:
        video: its row of the manifest.
        frames: (F,) int, indices of the wanted ones.
        seconds: processor time for reading is added to "read".
        opened: the file, container and stream; default: open it, by its packet index if it has one.
        least: fail where the reference pictures that the packet index tells are not enough; otherwise all others are
            decoded too then.
        vectors: finds what moves in the frames while they are decoded.

    Raises:
        EOFError, ValueError, av.error.FFmpegError: as ``decode``.
    """
    strict, all_references = True, False
    while True:
        before, missing, lacking = time.thread_time(), set(frames.tolist()), False
        try:
            with nullcontext(opened) if opened else open_source(video) as (source, stream):
                needed = frames if vectors is None else vectors.needed()
                cuts = read_cuts(source, stream, video, needed, all_references=all_references)
                codec = decoder_of(stream, strict, vectors is not None)
                lacking = any(cut.lacks_references for cut in cuts)
                seconds["read"] += time.thread_time() - before
                if codec.is_open:
                    codec.flush_buffers()  # of a clip before this one, which may have failed
                for cut in cuts:
                    if not missing:  # the cut before had this one's key frame: frames shown before it refer to it
                        break
                    for frame, index in decode_cut(codec, vectors.begin(cut) if vectors else cut, video, missing):
                        missing.discard(index)
                        if vectors:
                            vectors.add(frame, index)
                        yield frame, index
                    if vectors:
                        vectors.end()
            return
        except ValueError as error:
            if lacking and not least:  # H.265's decoder reports a reference that is missing
                all_references = True
                continue
            # Where H.264 does not begin with an IDR picture, packets may ask the decoder to forget frames from before.
            # Being strict, it calls that an error. Other damage is flagged without strictness, but for little.
            if not isinstance(error, _OpeningError) or not strict or video.codec != "h264" or opened:
                raise
            strict = False


def decoder_of(stream: Any, strict: bool = True, vectors: bool = False) -> Any:
    """A codec context for a stream; one that is strict reports damage rather than hides it.

    With ``vectors`` its frames have the motion vectors, where the codec is one of ``VECTOR_CODECS``.

    Of damaged VP9, libvpx reports nearly all, FFmpeg's own decoder almost nothing; their frames are the same, bit for
    bit, and neither is faster.
    """
    codec = stream.codec_context
    eight_bits = codec.pix_fmt in _EIGHT_BITS
    opaque = "alpha_mode" not in stream.metadata  # libvpx decodes transparency too
    if codec_of(stream) == "vp9" and eight_bits and opaque and "libvpx-vp9" in av.codecs_available:
        codec = av.CodecContext.create("libvpx-vp9", "r")
        codec.extradata, codec.thread_count = stream.codec_context.extradata, 1
    options = {"err_detect": "explode"} if strict else {}
    options |= {"flags2": "+export_mvs"} if vectors else {}
    if options and not codec.is_open:
        codec.options = options
    return codec


def decode_cut(codec: Any, cut: Cut, video: Video, wanted: AbstractSet[int] | None = None) -> Iterator[tuple[Any, int]]:
    """Decode a cut: yields (av.VideoFrame, index of the frame or -1) in presentation order.

    Args:
        codec: from ``decoder_of``; ready for another cut afterwards.
        cut: what to decode.
        video: its row of the manifest.
        wanted: frames that are still wanted; whoever takes them out of it ends a cut without an end. All frames that
            were decoded until then are still yielded. None: to the end of the cut.

    Raises:
        ValueError, av.error.FFmpegError: the decoder reports damage, in whichever frame: others may refer to it.
    """
    counted, number, first = is_counted(video), 0, None
    endless = not isinstance(cut.packets, list)
    packets = iter(cut.packets)
    for i in count():
        done = endless and wanted is not None and not wanted
        packet: Any = None if done else next(packets, None)
        first = packet if i == 0 else first
        if why := damage_of(video.codec, packet):
            raise ValueError(f"{'the file' if counted else _named(frame_index(video, packet.pts))} is damaged: {why}")
        try:
            decoded = codec.decode(packet)
        except av.error.FFmpegError as error:
            where = "the file" if counted or packet is None else _named(frame_index(video, packet.pts))
            opening = i < REORDER_MAX and first is not None and not is_fresh_start(first, cut.stream)
            kind = _OpeningError if opening else ValueError
            raise kind(f"{where} is damaged: {one_line(error)}") from error
        for frame in decoded:
            index = number if counted else frame_index(video, frame.pts)
            number += 1
            if frame.is_corrupt:
                raise ValueError(f"{_named(index)} is damaged")
            yield frame, index
        if packet is None:
            break
    codec.flush_buffers()


def _named(index):
    return "a hidden frame" if index < 0 else f"frame {index}"
