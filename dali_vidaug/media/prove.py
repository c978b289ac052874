"""Whether clips are what a full decode gives: decoding both ways, and comparing."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import inf
from typing import Any, NamedTuple

import av
import numpy as np

from dali_vidaug.errors import one_line
from dali_vidaug.media.container import open_video
from dali_vidaug.media.cut import READ_ERRORS
from dali_vidaug.media.decode import decode_frames
from dali_vidaug.media.needed import needs_note
from dali_vidaug.media.oddities import INTRA_ONLY, READABLE
from dali_vidaug.media.orientation import orientation_of
from dali_vidaug.media.remux import remux
from dali_vidaug.media.single import damage_of
from dali_vidaug.media.video import Video, bytes_of, is_counted


class Look(NamedTuple):
    """What must be the same for all frames of a clip: size as stored, and orientation (with a note)."""

    width: int
    height: int
    orientation: int
    note: str | None


class Frame(NamedTuple):
    """A decoded frame.

    Attributes:
        pts: its time stamp.
        look: see there.
        pixel_format: FFmpeg's name.
        colorspace: its matrix coefficients (ITU-T H.273).
        digest: of its pixels, or None.
        damaged: the decoder says so.
    """

    pts: int | None
    look: Look
    pixel_format: str
    colorspace: int
    digest: int | None
    damaged: bool


class Decoded(NamedTuple):
    """Frames in presentation order, and the first error, or None."""

    frames: list[Frame]
    problem: str | None


def decode_packets(codec: Any, packets: Iterable[Any], digests_from: float = inf) -> Decoded:
    """Decode packets as they come. Those that cannot be decoded are left out; an error in the file is its end.

    Args:
        codec: a codec context, ready for other packets afterwards.
        packets: av.Packets.
        digests_from: frames with this time stamp or a later one get a digest; -inf: all.
    """
    frames, problem = [], None
    packets = iter(packets)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError) as error:
            packet, problem = None, problem or one_line(error)
        try:
            shown = codec.decode(packet)
        except av.error.FFmpegError as error:
            shown, problem = [], problem or one_line(error)
        damaged = damage_of(codec.name, packet) is not None
        frames += [_frame(one, digests_from, damaged) for one in shown]
        if packet is None:
            codec.flush_buffers()
            return Decoded(frames, problem)


def _frame(frame, digests_from, damaged):
    look = Look(frame.width, frame.height, *orientation_of(frame))
    wanted = digests_from == -inf or (frame.pts is not None and frame.pts >= digests_from)
    digest = digest_of(frame) if wanted else None
    return Frame(frame.pts, look, frame.format.name, int(frame.colorspace), digest, damaged or bool(frame.is_corrupt))


def digest_of(frame: Any) -> int:
    """A checksum of a frame's pixels, without the padding of their rows."""
    checksum = zlib.crc32(frame.format.name.encode())
    if frame.format.has_palette:  # it is not one of PyAV's planes, and may come with the first packet alone
        frame = frame.reformat(format="rgb24")
    planes, components = frame.planes, frame.format.components
    for i, plane in enumerate(planes):
        if len(planes) == 1:
            size = -(-plane.width * frame.format.padded_bits_per_pixel // 8)
        else:
            size = plane.width * sum(-(-one.bits // 8) for one in components if one.plane == i)
        rows = np.frombuffer(plane, np.uint8)
        rows = rows[: plane.height * plane.line_size].reshape(plane.height, plane.line_size)
        checksum = zlib.crc32(np.ascontiguousarray(rows[:, :size]).data, checksum)
    return checksum


class Failure(NamedTuple):
    """A clip that is not what a full decode gives.

    Attributes:
        frame: the first wanted frame that did not come, or is another.
        is_reported: loading the clip fails with an error; otherwise it would be wrong without a word.
        reason: one line.
    """

    frame: int
    is_reported: bool
    reason: str


def compare(
    video: Video, frames: Sequence[int], truth: Sequence[Frame] | Mapping[int, Frame], opened: Any = None
) -> Failure | None:
    """Decode frames as a clip's are, and compare them with those of a full decode; None if they are the same.

    Args:
        video: a row of a manifest that may not be right.
        frames: indices, rising.
        truth: the frames of a full decode, with digests.
        opened: the file, container and stream; default: open it.
    """
    wanted, wrong = set(frames), []
    try:
        for frame, index in decode_frames(video, np.array(frames), {"read": 0.0}, opened):
            if index in wanted:
                wanted.discard(index)
                wrong += [index] if digest_of(frame) != truth[index].digest else []
    except READ_ERRORS as error:
        return Failure(min([*wanted, *wrong], default=frames[-1]), not wrong, one_line(error))
    if wrong:
        return Failure(wrong[0], False, "decoding from a key frame gives other pixels")
    return Failure(min(wanted), True, "it does not come out of the decoder") if wanted else None


class Proven(NamedTuple):
    """What remains of a file after clips of it were compared with a full decode.

    Attributes:
        video: its row, with the key frames where decoding can begin.
        damaged: (N, 2) frames [first, last) of which clips fail.
        note: what was found, or None.
    """

    video: Video
    damaged: list[tuple[int, int]]
    note: str | None


_PACKED_MAX = 256  # frames that are packed for DALI at once, to compare them
_FRAMES_COMPARED = 3  # after each key frame; all with ``deep``


def prove(video: Video, truth: Sequence[Frame], deep: bool, missing: bool = False) -> Proven:
    """Compare clips that begin at each key frame with a full decode; leave out key frames that are none.

    Args:
        video: as its container and packets describe it.
        truth: the frames of a full decode, with digests.
        deep: compare all frames, and find those that cannot be loaded.
        missing: frames are missing. Those that refer to them may be other ones after a key frame, late in its GOP too.

    Raises:
        ValueError: clips are not what a full decode gives, even if frames are counted from the start.
    """
    kept, note = _proven_keys(video, truth, deep or missing)
    proven = video._replace(keyframes=np.array(kept, np.int32))
    if deep:
        damaged = _find_damage(proven, truth)
        if not damaged and (why := _differs_packed(proven, truth)):
            return Proven(proven._replace(regular=False), [], f"{note}; {why}" if note else why)
        return Proven(proven, damaged, note)
    some = sorted({0, video.num_frames // 2, video.num_frames - 1})
    clips = [some] if is_counted(video) else [[i] for i in some]
    failures = [failure for clip in clips if (failure := compare(proven, clip, truth))]
    if any(not failure.is_reported for failure in failures):
        return _count(video, truth, failures[0])
    return Proven(proven, _find_damage(proven, truth) if failures else [], note)


def _proven_keys(video, truth, deep):
    """The key frames where decoding can begin, and a note on one where it cannot, or None."""
    kept, note = [], None
    if video.codec in INTRA_ONLY and not deep:
        return video.keyframes.tolist(), None
    # After a false key frame, decoders of other codecs may show frames from before they were flushed.
    reusable = video.codec in READABLE and not needs_note(video)
    with bytes_of(video) as source, open_video(source.as_file(), video.stream) as opened:
        for key, end in pairwise([*video.keyframes.tolist(), video.num_frames]):
            frames = range(key, end if deep else min(end, key + _FRAMES_COMPARED))
            failure = compare(video, frames, truth, opened if reusable else None)
            failure = failure and compare(video, frames, truth)
            if failure is None or (failure.frame > key and failure.is_reported):
                kept.append(key)
            else:
                note = f"frame {key} is not a key frame where decoding can begin ({failure.reason})"
    return kept, note


def _differs_packed(video, truth):
    """Why clips that are packed for DALI are not what a full decode gives, or None.

    The last bits of damaged pictures are read differently where another container ends them differently.
    """
    for first, end in pairwise(sorted({0, *video.keyframes.tolist(), video.num_frames})):
        while video.regular and first < end:  # what is not regular is not packed
            frames = np.arange(first, min(end, first + _PACKED_MAX))
            first = int(frames[-1]) + 1
            try:
                small = remux(video, frames)
            except READ_ERRORS:  # also while loading, where it is reported
                continue
            with av.open(io.BytesIO(small.data.tobytes()), "r") as container:
                stream = container.streams.video[0]
                shown = decode_packets(stream.codec_context, container.demux(stream), -inf).frames
            for index, position in zip(frames.tolist(), small.positions.tolist(), strict=True):
                if position >= len(shown) or shown[position].digest != truth[index].digest:
                    return f"not for DALI's decoder: packed for it, frame {index} is another"
    return None


def _count(video, truth, failure):
    """The last resort: a file of which frames are counted from its first packet."""
    if is_counted(video):
        raise ValueError(f"clips of it are not what a full decode gives (frame {failure.frame})")
    counted = video._replace(keyframes=np.zeros(0, np.int32), pts=None, pts_first=None, pts_step=None, regular=False)
    wrong = compare(counted, [video.num_frames - 1], truth)
    if wrong and not wrong.is_reported:
        raise ValueError(f"clips of it are not what a full decode gives (frame {wrong.frame})")
    return Proven(counted, [], f"clips from key frames are wrong ({failure.reason}): frames are counted from the start")


def _find_damage(video, truth):
    """The frames [first, last) of which clips fail, each part up to the next key frame."""
    keys = video.keyframes.tolist()
    starts = keys if keys[:1] == [0] else [0, *keys]
    damaged = []
    for start, end in zip(starts, [*starts[1:], video.num_frames], strict=True):
        last = end
        while last > start and (failure := compare(video, range(start, last), truth)):
            if not failure.is_reported:
                raise ValueError(f"clips of it are not what a full decode gives (frame {failure.frame})")
            last = failure.frame if failure.frame < last else start
        if last < end:
            damaged.append((last, end))
    return damaged if video.regular else _find_breaks(video, truth, damaged)


def _find_breaks(video, truth, damaged):
    """Of a video that is not regular, a clip has all packets from its key frame on: also those that give no frame, of
    which the decoder may report damage. One frame after each is called damaged, so that no clip passes over it."""
    breaks = []
    for start, end in pairwise([0, *(limit for part in join(damaged) for limit in part), video.num_frames]):
        if any(first <= start < last for first, last in damaged):
            continue
        while start < end and (failure := compare(video, range(start, end), truth)):
            breaks.append((failure.frame, failure.frame + 1))
            start = failure.frame + 1
    return [*damaged, *breaks]


def join(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges [first, last), rising, those that touch or overlap as one."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


def odd_frames(frames: Sequence[Frame], keyframes: Sequence[int]) -> list[tuple[int, int]]:
    """The frames [first, last) that clips cannot have: damaged ones and what follows up to the next key frame, and
    those of another size or orientation than the first."""
    ranges, keys = [], [*keyframes, len(frames)]
    for i, frame in enumerate(frames):
        if frame.damaged:
            ranges.append((i, next(key for key in keys if key > i)))
        elif frame.look[:3] != frames[0].look[:3]:
            ranges.append((i, i + 1))
    return join(ranges)
