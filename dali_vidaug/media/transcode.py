"""Encodes a video anew, smaller, frame by frame, and proves that each frame is the one of the source."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from dali_vidaug.errors import one_line
from dali_vidaug.media.cut import READ_ERRORS, can_be_indexed
from dali_vidaug.media.decode import decode_frames
from dali_vidaug.media.encode import as_before
from dali_vidaug.media.encoding import Encoding
from dali_vidaug.media.measure import measure
from dali_vidaug.media.proven_encoder import ProvenEncoder
from dali_vidaug.media.quality import Quality
from dali_vidaug.media.video import Video, frame_pts, is_counted

_PIECE = 256  # frames, and those up to the next key frame, whose packets are read at once
_SHARE = 1e-9  # by which a frame rate may differ: time stamps are the same, in other units
# The disk is full or gone: no fault of this video, so that all others would fail too.
_OF_DISK = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.EACCES,
    errno.EPERM,
    errno.ESTALE,
)


class Job(NamedTuple):
    """A video to encode anew.

    Attributes:
        number: of the caller.
        video: its row of the manifest.
        fps, time_base: of that row, None where they are not known.
        damaged: frames that cannot be used: first, last, first, last, ...
        encoding: how.
        output: the file to write, which there is not yet.
    """

    number: int
    video: Video
    fps: float | None
    time_base: float | None
    damaged: tuple[int, ...]
    encoding: Encoding
    output: str


class Made(NamedTuple):
    """What became of a job.

    Attributes:
        row: as ``measure`` returns it, of the output; or ``{"error": reason}``, and then there is no output.
        quality: of the output, or None.
    """

    row: dict[str, Any]
    quality: Quality | None


class _SourceError(ValueError):
    """The source cannot be read or decoded."""


def transcode_video(job: Job) -> Made:
    """Encode a video anew; what cannot be proven to be the frames of the source is not left there.

    Raises:
        OSError: the output cannot be written, whatever the video.
    """
    try:
        return _transcode(job)
    except _SourceError as error:
        reason = str(error)
    except OSError as error:
        Path(job.output).unlink(missing_ok=True)
        if error.errno in _OF_DISK:
            raise OSError(
                error.errno, f"transcode: {job.output} cannot be written: {os.strerror(error.errno)}"
            ) from error
        reason = f"cannot be encoded: {one_line(error)}"
    except READ_ERRORS as error:
        reason = f"cannot be encoded: {one_line(error)}"
    Path(job.output).unlink(missing_ok=True)
    return Made({"error": reason}, None)


def _transcode(job):
    encoder = ProvenEncoder(job.video, job.fps, job.time_base, job.encoding)
    with as_before(), av.open(job.output, "w", format="mp4", options={"movflags": "faststart"}) as container:
        for index, pts, frame in _source_frames(job):
            encoder.add(container, index, pts, frame)
        encoder.end(container)
    descriptor = os.open(job.output, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    encoder.check_file(job.output)
    row = measure(Path(job.output))
    _check_row(row, job)
    row["damaged"], row["fps"] = list(job.damaged), job.fps or row["fps"]
    notes = encoder.notes()
    if job.damaged:
        parts = ", ".join(f"[{first}, {last})" for first, last in zip(job.damaged[::2], job.damaged[1::2], strict=True))
        notes.append(f"the frames {parts} cannot be used: they were damaged, and are grey")
    row["notes"] = "; ".join([*filter(None, [row["notes"]]), *notes]) or None
    return Made(row, encoder.quality())


def _check_row(row, job):
    """Refuse an output that, as it is measured, is not what its source was.

    Raises:
        ValueError: it is not.
    """
    video, size = job.video, job.encoding.size(*job.video.shown_size)
    if "error" in row:
        raise ValueError(f"what was written cannot be read: {row['error']}")
    expected = {
        "num_frames": video.num_frames, "height": size[0], "width": size[1], "orientation": 1, "regular": True,
        "codec": job.encoding.codec, "keyframes": list(range(0, video.num_frames, job.encoding.gop)), "damaged": [],
    }  # fmt: skip
    for name, value in expected.items():
        if row[name] != value:
            raise ValueError(f"what was written has {name} {row[name]}, not {value}")
    if job.fps and not math.isclose(row["fps"], job.fps, rel_tol=_SHARE):
        raise ValueError(f"what was written has {row['fps']} frames per second, not {job.fps}")


def _source_frames(job: Job) -> Iterator[tuple[int, int | None, Any]]:
    """Every frame of the source: index, time stamp or None, the decoded frame or, of a damaged one, None.

    Raises:
        _SourceError: a frame that is not known as damaged cannot be decoded.
    """
    video, following = job.video, 0
    limits = [0, *job.damaged, video.num_frames]
    for number, (first, last) in enumerate(pairwise(limits)):
        if number % 2:
            yield from ((i, None if is_counted(video) else frame_pts(video, i), None) for i in range(first, last))
            following = last
            continue
        for begin, end in _pieces(video, first, last):
            try:
                for frame, index in decode_frames(video, np.arange(begin, end), {"read": 0.0}):
                    if index == following and index < end:
                        following += 1
                        yield index, frame.pts, frame
            except READ_ERRORS as error:
                plain = "scan" in str(error) or isinstance(error, FileNotFoundError)
                hint = "" if plain else "; dali-vidaug scan --deep finds which parts can be used"
                raise _SourceError(f"{one_line(error)}{hint}") from error
            if following < end:
                raise _SourceError(f"frame {following} did not come out of the decoder in its place")


def _pieces(video, first, last):
    """The frames [first, last) in pieces that begin at key frames: (begin, end) each."""
    if first >= last:
        return
    begin = first
    for key in video.keyframes.tolist() if can_be_indexed(video) else ():
        if begin + _PIECE <= key < last:
            yield begin, key
            begin = key
    yield begin, last
