"""The boxes that a file has of one video, in the frames and pixels of the video as it was scanned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.data.box_file import BoxFile, Sayings
from dali_vidaug.data.box_tracks import NEVER, join_tracks
from dali_vidaug.data.boxes import KeyBoxes
from dali_vidaug.data.column import shown_sizes
from dali_vidaug.data.entry import Classes
from dali_vidaug.media.video import frame_times, shown_for

AVA_START = 900.0  # seconds: AVA's videos are annotated from 15:00 on, and often cut there
_ROUNDING = 1e-6  # seconds, of floating-point numbers
_SAME_SHAPE = 0.02  # by which a scaled video may differ in width to height: sides are rounded to even numbers
# What is said of boxes, with how many there are.
BEYOND = "boxes in frames after the last one, which no clip has"
EMPTY = "boxes without width or height, which are taken for none"
PARTLY = "boxes partly outside the frame, kept as they are"
WHOLLY = "boxes wholly outside the frame, kept as they are"
SCALED = "videos of another size than was annotated, whose boxes are scaled"
CUT = "videos that end before their first annotated second, taken for the part from 15:00 on"
LENGTH = "videos with another number of frames than the file says, whose frames may be others"
LISTED = "videos with as many frames as the file has images of them, which are taken for them in order"


class BoxOptions(NamedTuple):
    """Options of ``scan``: ``boxes_first_frame``, ``boxes_hold`` and ``box_classes``."""

    first_frame: int | None = None
    hold: float = 0.0
    classes: Classes | None = None


def boxes_of_video(
    file: BoxFile,
    number: int,
    rows: np.ndarray,
    path: str,
    facts: Mapping[str, Any],
    options: BoxOptions,
    said: Sayings,
) -> KeyBoxes:
    """The boxes of one video.

    Args:
        file: has the boxes; labels are indices of classes already.
        number: the video, as the file counts.
        rows: those of ``file.keys`` that are of the video.
        path: of the video, for messages.
        facts: what was measured of it: columns of the manifest.
        options: of ``scan``.
        said: gets what is to be said.

    Raises:
        ValueError: boxes contradict each other or the video.
    """
    keys = file.keys.rows(rows)
    frame, listed, away = _frames(file, number, keys, path, facts, options, said)
    xyxy = _pixels(file, number, keys, path, facts, said)
    empty = (xyxy[:, 2:] <= xyxy[:, :2]).any(1) & ~keys.outside
    said.where(EMPTY, empty, file, keys)
    said.where(BEYOND, (frame >= facts["num_frames"]) & ~keys.outside & ~empty, file, keys)
    seconds, keys = keys.time, keys._replace(time=frame, xyxy=xyxy, outside=keys.outside | empty)
    annotated = keys.time[(keys.track < 0) | (file.between == "none")]
    keys, end, moves = join_tracks(file, keys, seconds, away, listed, said)
    start = keys.time
    if options.hold:
        alone = (keys.track < 0) | (file.between == "none")
        still = np.flatnonzero(alone & ~keys.outside & (start < facts["num_frames"]))
        annotated = np.unique(np.concatenate([annotated, [] if listed is None else listed])).astype(np.int64)
        start[still], end[still] = _held(start[still], annotated, path, facts, options.hold)
    x1, y1, x2, y2 = keys.xyxy.T.astype(np.float32)
    label, track, moving = keys.label.astype(np.int32), keys.track, moves.astype(np.int8)
    boxes = KeyBoxes(start.astype(np.int32), end.astype(np.int32), x1, y1, x2, y2, label, track, moving)
    return boxes.between(0, NEVER)


def _frames(file, number, keys, path, facts, options, said):
    """(N,) int64, the frame of each box; the frames that were annotated, or None; (N,), how far its seconds are."""
    if file.in_seconds:
        if options.first_frame is not None:
            raise ValueError(f"{file.path}: boxes_first_frame is for frames that have numbers; this file has seconds")
        frame, away = _frames_at(file, keys, path, facts, said)
        return frame, None, away
    frame, listed = keys.time.astype(np.int64), file.frames.get(number)
    first = file.first_frame if options.first_frame is None else options.first_frame
    length = file.lengths.get(number, facts["num_frames"])
    if length != facts["num_frames"]:
        said.add(LENGTH, 1, f"{path}: {facts['num_frames']}, not {length}")
    every = listed is not None and len(listed) == facts["num_frames"] and np.isin(frame, listed).all()
    if first is None and every:
        if listed[-1] != len(listed) - 1:
            said.add(LISTED, 1, path)
        return np.searchsorted(listed, frame), np.arange(len(listed)), np.zeros(len(frame))
    if first is None and number in file.doubtful and listed[-1] - listed[0] < len(listed):  # numbered one by one
        raise ValueError(
            f"{file.path}: {file.doubtful[number]}: which is the frame of {path}, which has {facts['num_frames']}, is "
            "not known; boxes_first_frame= says that it is the former, and without a former one it is the latter"
        )
    if first is None and listed is not None and listed[0]:
        raise ValueError(
            f"{file.path}: images of {path} are numbered from {listed[0]}, and are {len(listed)} of its "
            f"{facts['num_frames']} frames: which number the first frame has is not known; boxes_first_frame= says it"
        )
    first = first or 0
    early = np.flatnonzero(frame < first)
    if len(early):
        place = f"{file.path}, {file.unit} {keys.place[early[0]]}"
        raise ValueError(
            f"{place}: the first frame has number {first}, got {frame[early[0]]}; boxes_first_frame= is another"
        )
    if listed is not None and listed[0] < first:
        raise ValueError(
            f"{file.path}: the first frame has number {first}, got {listed[0]}; boxes_first_frame= is another"
        )
    return frame - first, None if listed is None else listed - first, np.zeros(len(frame))


def _frames_at(file, keys, path, facts, said):
    """The frame whose time stamp is nearest to the seconds of each box, and how far away that is."""
    times = frame_times(facts)
    if np.isnan(times).any():
        raise ValueError(f"{file.path}: {path} has neither time stamps nor a frame rate, so seconds have no frame")
    seconds, shown = keys.time, shown_for(times, facts["fps"])[-1]
    if file.format == "ava" and len(seconds) and times[-1] + shown < seconds.min() >= AVA_START:
        said.add(CUT, 1, path)
        seconds = seconds - AVA_START
    after = np.searchsorted(times, seconds).clip(1, max(1, len(times) - 1))
    before = after - 1
    after = after.clip(max=len(times) - 1)
    nearest = np.where(seconds - times[before] <= times[after] - seconds, before, after)
    after_end = np.floor((seconds - times[-1]) / max(shown, _ROUNDING)).astype(np.int64)
    frame = np.where(after_end >= 1, facts["num_frames"] - 1 + after_end, nearest)
    return frame, np.abs(seconds - times[nearest])


def _pixels(file, number, keys, path, facts, said):
    """(N, 4), x1, y1, x2, y2 in pixels of the frame as shown."""
    stored = [np.array(facts[name]) for name in ("orientation", "height", "width")]
    height, width = (int(side) for side in shown_sizes(*stored))
    size = (1, 1) if file.in_shares else file.sizes.get(number, (width, height))
    if not file.in_shares and size != (width, height):
        if not (min(size) > 0 and abs(size[0] * height / (size[1] * width) - 1) <= _SAME_SHAPE):
            why = "it is turned, which was ignored" if size == (height, width) else "of another shape"
            raise ValueError(
                f"{file.path}: {path} was annotated at {size[0]:g}x{size[1]:g}, but is shown at {width}x{height}: {why}"
            )
        said.add(SCALED, 1, f"{path}: {size[0]:g}x{size[1]:g} to {width}x{height}")
    xyxy = keys.xyxy * (np.array([width, height] * 2) / (size * 2))
    low, high, edge = xyxy[:, :2], xyxy[:, 2:], np.array([width, height])
    wholly = ((high <= 0) | (low >= edge)).any(1) & ~keys.outside
    partly = ((low < 0) | (high > edge)).any(1) & ~keys.outside & ~wholly
    said.where(WHOLLY, wholly, file, keys)
    said.where(PARTLY, partly, file, keys)
    return xyxy


def _held(start, annotated, path, facts, hold):
    """Boxes of one frame each, from ``hold`` seconds before it to so many after; frames between two of ``annotated``,
    rising, have the boxes of the nearer one, also if it has none. (K,) int64 of each, first and last."""
    times = frame_times(facts)
    if np.isnan(times).any():
        raise ValueError(f"boxes_hold: {path} has neither time stamps nor a frame rate")
    low, high = (np.searchsorted(times, times[start] + side * hold - _ROUNDING) for side in (-1, 1))
    shown = shown_for(times, facts["fps"])[-1]
    seen = times[np.minimum(annotated, len(times) - 1)] + shown * np.maximum(annotated - len(times) + 1, 0)
    middle = np.searchsorted(times, (seen[1:] + seen[:-1]) / 2 - _ROUNDING)
    at = np.searchsorted(annotated, start)
    low = np.maximum(low, np.concatenate([[0], middle])[at])
    high = np.minimum(high, np.append(middle, facts["num_frames"])[at])
    return np.minimum(low, start), np.maximum(high, start + 1)
