"""What the header of a file says of its frames: believed by a scan that reads no more, proven when a clip is loaded.

A row of such a scan has ``regular`` None. Nothing decodes by it: before a clip is loaded, the video is measured as a
scan does, and what a plan depends on is compared. What was measured is kept in the process, for the clips to come.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dali_vidaug.media.colors import hdr_note
from dali_vidaug.media.container import open_video, read_packets, video_streams
from dali_vidaug.media.cut import READ_ERRORS
from dali_vidaug.media.measure import SEVERAL, make_row, measure_source, stream_facts, video_of
from dali_vidaug.media.object_options import Storage
from dali_vidaug.media.objects import client_of
from dali_vidaug.media.prove import decode_packets
from dali_vidaug.media.storage import Place, open_bytes
from dali_vidaug.media.unchanged import check_content, check_stamp, content_digest
from dali_vidaug.media.video import Video, bytes_of
from dali_vidaug.urls import is_url

HEADER_ONLY = "only the header was read"  # in place of the reason why there is no packet index
_BLOCK = 1 << 16  # bytes of an object that are read together
_GRID = 0.2  # of a step, that a frame may be off; see ``measure``
_KEPT = 1 << 16  # videos
_OF_SCAN = ("path", "stream", "bytes", "mtime_ns", "content_digest", "shard", "shard_offset", "etag", "source")
_TOLD = ("num_frames", "width", "height", "orientation", "codec", "pixel_format", "pts_step", *_OF_SCAN[:-1])
_COMPARED: dict[str, Callable[[Video], object]] = {
    "its frames are": lambda video: video.num_frames,
    "its size is": lambda video: f"{video.width} x {video.height}",
    "it is turned as EXIF's": lambda video: video.orientation,
    "its pixels are": lambda video: f"{video.codec}, {video.pixel_format}",
}

_lock = threading.Lock()
_measured: OrderedDict[tuple[Any, ...], Video] = OrderedDict()  # by what the row says, the videos used last at the end


def read_header(place: Place, stream: int | None = None, storage: Storage | None = None) -> dict[str, Any] | None:
    """What a video's header, and its first frame, say.

    It must be of an MP4 or MOV file and have an entry for each frame, all of them shown, at a constant rate. In AVI,
    packets without a frame are common, other containers have no such index.

    Args:
        place, stream, storage: as of ``measure``.

    Returns:
        As of ``measure``, with "regular" None. None: the header does not say enough, or a small object is read as fast
        whole: ``measure`` it.
    """
    storage, is_remote = storage or Storage(), is_url(place.path)
    try:
        if not is_remote and not Path(place.path).is_file():
            return None
        with open_bytes(place, storage, block=_BLOCK) as source:
            if is_remote and (source.size < storage.whole_below or not client_of(storage).gives_ranges(place.path)):
                return None
            before = source.identity()
            with open_video(source.as_file(), stream, _BLOCK) as (container, opened):
                claims = _claims(container, opened)
            digest = None if is_remote else content_digest(source)
            if claims is None or not source.is_still(before):
                return None
            stamps = {"bytes": source.size, "mtime_ns": source.mtime_ns, "etag": source.etag}
            return {**claims, **stamps, "content_digest": digest}
    except READ_ERRORS:  # measure says what is wrong
        return None


def _claims(container, stream):
    entries = list(getattr(stream, "index_entries", ())) if "mp4" in container.format.name.split(",") else []
    times = np.array([entry.timestamp for entry in entries], np.int64)  # of decoding
    if len(entries) < 2 or len(entries) != stream.frames or any(entry.is_discard for entry in entries):
        return None
    step = float(times[-1] - times[0]) / (len(times) - 1)
    if step <= 0 or np.abs(times - (times[0] + np.arange(len(times)) * step)).max() >= _GRID * step:
        return None
    facts, streams = stream_facts(stream), video_streams(container)
    decoded = decode_packets(stream.codec_context, islice(read_packets(container, stream), 1))
    if not decoded.frames or decoded.problem or decoded.frames[0].damaged:
        return None
    notes = [f"{SEVERAL} {', '.join(map(str, streams))}; {stream.index} is used"] if len(streams) > 1 else []
    notes += [text for text in (hdr_note(stream.codec_context.color_trc), decoded.frames[0].look.note) if text]
    seconds = len(times) * step * facts["time_base"]
    told = {"num_frames": len(times), "fps": len(times) / seconds, "duration_seconds": seconds}
    told |= {"pts_first": int(times[0]), "pts_step": step, "regular": None, "notes": "; ".join(notes) or None}
    no_index = {"index": None, "packet_index": None, "no_packet_index": HEADER_ONLY}
    return {**make_row(decoded.frames[:1], None, facts, []), **told, **no_index}


def is_claim(video: Video) -> bool:
    """Whether only the header of a video was read."""
    return video.regular is None


def if_measured(video: Video) -> Video:
    """The video as it was measured earlier by this process, or as it is."""
    if not is_claim(video):
        return video
    with _lock:
        found = _measured.get(_key(video))
        if found is not None:
            _measured.move_to_end(_key(video))
    return video if found is None else _with_facts(video, found)


def keep_measured(claim: Video, measured: Video) -> None:
    """Have ``if_measured`` find what a video was measured to be, by this process or another one."""
    with _lock:
        _measured[_key(claim)] = measured._replace(source=None)
        while len(_measured) > _KEPT:
            _measured.popitem(last=False)


def prove(claim: Video) -> Video:
    """The video as it is, measured now if this process did not do that before.

    Args:
        claim: a row of which only the header was read.

    Raises:
        OSError, EOFError: it cannot be read.
        ValueError: it is not what its header says, it cannot be used, or it was changed since it was scanned.
    """
    video = if_measured(claim)
    if not is_claim(video):
        return video
    with bytes_of(claim) as source:
        check_stamp(source, claim)
        check_content(source, claim)
        row = measure_source(source, stream=claim.stream)
        if "error" in row:
            raise ValueError(row["error"])
        measured = video_of(source, row)._replace(packet_index=row["index"])
    for what, told, found in _contradictions(claim, measured, row):
        raise ValueError(
            f"its header says {what} {told}, and it has {found}; scan it without headers=True (--headers), which reads "
            "all of it"
        )
    keep_measured(claim, measured)
    return _with_facts(claim, measured)


def _contradictions(claim: Video, measured: Video, row: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    """In what the two differ that plans depend on: what, what the header says, and what there is."""
    for what, of in _COMPARED.items():
        if of(claim) != of(measured):
            yield what, of(claim), of(measured)
    step, now = claim.pts_step, measured.pts_step
    if step is not None and (now is None or abs(now - step) * claim.num_frames > _GRID * step):
        found = "times that are on no grid" if now is None else f"one every {now:g} ticks"
        yield "that frames come at a constant rate:", f"one every {step:g} ticks", found
    if row["damaged"]:
        yield "that it is whole:", f"{claim.num_frames} frames", f"some that cannot be used ({row['notes']})"


def _key(video):
    return tuple(getattr(video, name) for name in _TOLD)


def _with_facts(video, measured):
    """A video with what was measured of it; where it is, and what it is compared with, stays that of the scan."""
    return measured._replace(**{name: getattr(video, name) for name in _OF_SCAN})
