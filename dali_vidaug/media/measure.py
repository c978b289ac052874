"""Measure one video: how many frames it gives, when each is shown, where decoding can begin."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

import numpy as np

from dali_vidaug.errors import one_line
from dali_vidaug.media.bitstream import codec_of
from dali_vidaug.media.colors import hdr_note
from dali_vidaug.media.container import open_video, read_packets, video_streams
from dali_vidaug.media.cut import READ_ERRORS
from dali_vidaug.media.first_bytes import what_it_is
from dali_vidaug.media.frame_folder import measure_folder
from dali_vidaug.media.needed import needs_note
from dali_vidaug.media.numbers import FRAME_MISSING, REFERENCE_MISSING
from dali_vidaug.media.object_options import Storage
from dali_vidaug.media.oddities import INTRA_ONLY
from dali_vidaug.media.packets import Packets
from dali_vidaug.media.places import Places, prove_index
from dali_vidaug.media.prove import Frame, compare, decode_packets, join, odd_frames, prove
from dali_vidaug.media.storage import Place, Source, open_bytes
from dali_vidaug.media.unchanged import content_digest
from dali_vidaug.media.video import Video
from dali_vidaug.urls import is_url

_DAMAGED_MAX = 0.9  # of a file's frames; what remains of one with more is not worth its doubts
SEVERAL = "it has the video streams"  # begins a note


def measure(
    place: Place | str | os.PathLike[str], deep: bool = False, stream: int | None = None, index: bool = True,
    frame_names: str | None = None, storage: Storage | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure one video.

    Args:
        place: of its bytes; a path is that of a whole file, or of a folder of images.
        deep: decode all of it, and load every frame as a clip does.
        stream: index of a video stream of the file; default: the one that FFmpeg would play.
        index: make its packet index. A folder of images always has one.
        frame_names: which images of a folder are frames, such as ``img_*.jpg``.
        storage: how objects are read.

    Returns:
        The measured columns of a manifest by name, and "index": an ``Index`` or None; or ``{"error": reason}``.
    """
    place = place if isinstance(place, Place) else Place(os.fspath(place))
    try:
        if place.size is None and not is_url(place.path) and os.path.isdir(place.path):  # noqa: PTH112
            return measure_folder(Path(place.path), deep, frame_names)
        if not _may_be_file(place.path):
            return {"error": "not a regular file"}  # to open a named pipe would wait for ever
        with open_bytes(place, storage) as source:
            return measure_source(source, deep, stream, index)
    except FileNotFoundError as error:
        return {"error": one_line(error) if is_url(place.path) else "the file does not exist"}
    except READ_ERRORS as error:
        return {"error": one_line(error)}


def _may_be_file(path):
    if is_url(path):
        return True
    mode = os.stat(path).st_mode  # noqa: PTH116
    return S_ISREG(mode) or S_ISDIR(mode)


def measure_source(source: Source, deep: bool = False, stream: int | None = None, index: bool = True) -> dict[str, Any]:
    """As ``measure``, of bytes that are open. That they were changed meanwhile is an error."""
    if source.size == 0:
        return {"error": "the file is empty"}
    before = source.identity()
    try:
        row = _measure(source, deep, stream, index)
    except READ_ERRORS as error:
        why, what = one_line(error), what_it_is(source)
        return {"error": why if what is None or what in why else f"{why} (the file is {what})"}
    digest = content_digest(source)
    if not source.is_still(before):
        return {"error": "it was changed while it was scanned; scan again"}
    return {**row, "bytes": source.size, "mtime_ns": source.mtime_ns, "etag": source.etag, "content_digest": digest}


def _measure(source: Source, deep, stream_index, with_index):
    with open_video(source.as_file(), stream_index) as (container, stream):
        places = Places(source, stream)
        facts, notes = stream_facts(stream), []
        streams = video_streams(container)
        if len(streams) > 1:
            notes.append(f"{SEVERAL} {', '.join(map(str, streams))}; {stream.index} is used")
        notes += [text for text in (hdr_note(stream.codec_context.color_trc),) if text]
        packets = Packets(container, stream, places if with_index else None)
        if not packets.pts:
            raise ValueError(f"no video packets{packets.note}")
        row, truth = None if deep or packets.oddity else _from_ends(source, (container, stream), packets, facts), None
    if row is None:
        row, truth = _from_all(source, packets, facts, notes, deep)
    notes += [f"it ends with an error{packets.note}"] if packets.note else []
    index, problem = prove_index(video_of(source, row), places, truth if deep else None) if with_index else (None, None)
    found = {"index": index, "packet_index": None, "no_packet_index": problem}
    return {**row, "notes": "; ".join(notes) or None, **found}


def _from_ends(source, opened, packets, facts):
    """The row of a file whose packets are as they should be: only its ends are decoded.

    Only decoding tells how many frames the ends of a stream give. The second GOP is reached from the first one, and
    from its key frame; the frames must be the same.

    Returns:
        The row, or None if something is odd.
    """
    codec, last_gop = opened[1].codec_context, packets.last_gop
    compared = min(3, 1 + (len(packets.first_gop) + len(last_gop)) // 16)  # frames; few where little is decoded anyway
    second_gop = [] if facts["codec"] in INTRA_ONLY else packets.second_gop[: 1 if compared == 1 else None]
    key = last_gop[0].pts if last_gop else 0
    first = decode_packets(codec, [*packets.first_gop, *second_gop], second_gop[0].pts if second_gop else inf)
    last = decode_packets(codec, [packet for packet in last_gop if packet.pts >= key])
    if not first.frames or (last_gop and not last.frames):
        return None
    pts = [frame.pts for frame in (*first.frames, *last.frames)]
    odd = odd_frames([*first.frames, *last.frames], ())
    if first.problem or last.problem or odd or not set(pts) <= packets.shown:
        return None
    for decoded in (first, last):
        if not packets.name_frames([frame.pts for frame in decoded.frames]):
            return None
    fed = {packet.pts for packet in (*packets.first_gop, *second_gop)}
    fed |= {packet.pts for packet in last_gop if packet.pts >= key}
    frames = sorted(packets.shown - (fed - set(pts)))
    row = make_row([*first.frames, *last.frames], frames, facts, packets.random_access)
    row["regular"] = len(frames) == len(packets.shown)
    if second_gop:
        of = {frame.pts: frame for frame in first.frames}
        truth = {i: of[pts] for i, pts in enumerate(frames) if pts in of and pts >= second_gop[0].pts}
        video = video_of(source, row)
        if needs_note(video):  # cuts of it read the file's first packet, which is behind by now
            opened = None
        if not truth or compare(video, sorted(truth)[:compared], truth, opened):
            return None
    return row


def _from_all(source, packets, facts, notes, deep):
    """The row of a file of which all frames are decoded, and those frames. What was found goes to ``notes``."""
    with open_video(source.as_file(), facts["stream"]) as (container, stream):
        decoded = decode_packets(stream.codec_context, read_packets(container, stream), -inf)
    frames = decoded.frames
    if not frames:
        raise ValueError(f"no frame can be decoded{f' ({decoded.problem})' if decoded.problem else packets.note}")
    notes += [text for text in (packets.oddity, decoded.problem, frames[0].look.note) if text]
    pts = [frame.pts for frame in frames]
    named = packets.name_frames(pts)
    row = make_row(frames, [one for one in pts if one is not None] if named else None, facts, packets.random_access)
    one_each = len(frames) == packets.num_pictures - packets.num_hidden
    numbered = packets.odd_stamps is None if named else not packets.num_hidden
    row["regular"] = decoded.problem is None and packets.odd_packets is None and one_each and numbered
    row["regular"] &= not odd_frames(frames, row["keyframes"])
    missing = packets.odd_packets in (REFERENCE_MISSING, FRAME_MISSING)
    proven = prove(video_of(source, row), frames, deep, missing)
    if proven.damaged and row["regular"]:  # clips of a file that is not regular have more packets: compare those
        row["regular"] = False
        proven = prove(video_of(source, row), frames, deep, missing)
    notes += [proven.note] if proven.note else []
    kept = proven.video.keyframes.tolist()
    row |= {name: getattr(proven.video, name) for name in ("pts", "pts_first", "pts_step", "regular")}
    row["pts"] = None if row["pts"] is None else row["pts"].tolist()
    row["regular"] &= len(kept) == len(row["keyframes"])
    row["keyframes"] = kept
    row["damaged"] = [i for part in join([*proven.damaged, *odd_frames(frames, kept)]) for i in part]
    if row["damaged"]:
        row["regular"] = False
        notes.append(f"the frames {_ranges(row['damaged'])} cannot be used")
        if sum(row["damaged"][1::2]) - sum(row["damaged"][::2]) > _DAMAGED_MAX * len(frames):
            raise ValueError(f"most frames are damaged ({'; '.join(notes)})")
    return row, frames


def _ranges(limits):
    return ", ".join(f"[{first}, {last})" for first, last in zip(limits[::2], limits[1::2], strict=True))


def make_row(
    decoded: list[Frame], pts: list[int] | None, facts: dict[str, Any], random_access: list[int]
) -> dict[str, Any]:
    """The measured columns of a file whose frames have these time stamps, or none that are of use."""
    look, num_frames = decoded[0].look, len(decoded) if pts is None else len(pts)
    colorspaces = {frame.colorspace for frame in decoded}
    index_of = {} if pts is None else {one: i for i, one in enumerate(pts)}
    return {
        **facts,
        "width": look.width,
        "height": look.height,
        "orientation": look.orientation,
        "pixel_format": decoded[0].pixel_format,
        "colorspace": min(colorspaces) if len(colorspaces) == 1 else None,
        **_timing(pts, num_frames, facts),
        "num_frames": num_frames,
        "keyframes": sorted({index_of[one] for one in random_access if one in index_of}),
        "regular": True,
        "damaged": [],
    }


def video_of(source: Source, row: dict[str, Any]) -> Video:
    """A row as the decoder needs it."""
    values = {name: row[name] for name in Video._fields if name in row}
    values["keyframes"] = np.array(row["keyframes"], np.int32)
    values["pts"] = None if row["pts"] is None else np.array(row["pts"], np.int64)
    return Video(path=source.path, source=source, **values)


def stream_facts(stream: Any) -> dict[str, Any]:
    """The columns that the container says of a stream of which nothing has been decoded yet."""
    rate = stream.average_rate or stream.guessed_rate
    return {
        "fps": float(rate) if rate else None,
        "codec": codec_of(stream),
        "stream": stream.index,
        "time_base": float(stream.time_base),
    }


def _timing(pts, num_frames, facts):
    """The columns on time: a regular grid if the frames are on one, else each frame's time stamp, else nothing."""
    row = {"pts_first": None, "pts_step": None, "pts": None}
    fps = facts["fps"]
    if pts is None:
        return {**row, "fps": fps, "duration_seconds": num_frames / fps if fps else None}
    times = np.array(pts, np.int64)
    step = (times[-1] - times[0]) / (num_frames - 1) if num_frames > 1 else 1.0
    seconds = num_frames * step * facts["time_base"] if num_frames > 1 else (1 / fps if fps else None)
    row["fps"], row["duration_seconds"] = (num_frames / seconds if num_frames > 1 else fps), seconds
    # frame_index accepts a quarter of a step; the smaller limit here leaves room for rounding
    if np.abs(times - (times[0] + np.arange(num_frames) * step)).max() < 0.2 * step:
        return {**row, "pts_first": pts[0], "pts_step": float(step)}
    return {**row, "pts": pts}
