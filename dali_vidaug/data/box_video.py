"""The boxes that a file has of one video, in the frames and pixels of the video as it was scanned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.data.box_file import BoxFile, Keys
from dali_vidaug.data.boxes import KeyBoxes
from dali_vidaug.data.classes import Classes
from dali_vidaug.data.column import shown_sizes
from dali_vidaug.media.video import frame_times, shown_for

AVA_START = 900.0  # seconds: AVA's videos are annotated from 15:00 on, and often cut there
_ROUNDING = 1e-6  # seconds, of floating-point numbers
_NEVER = np.iinfo(np.int32).max
_SAME_SHAPE = 0.02  # by which a scaled video may differ in width to height: sides are rounded to even numbers
# What is said of boxes, with how many there are.
BEYOND = "boxes in frames after the last one, which no clip has"
EMPTY = "boxes without width or height, which are taken for none"
TWICE = "boxes that are there twice, of which one is kept"
CLOSE = "boxes of a track whose seconds are in the same frame as others, of which one is kept"
APART = "boxes that move over frames of which the file says nothing, as its frames are never nearer"
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


class Sayings:
    """What is to be said, with how often and where first."""

    def __init__(self):
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, text: str, count: int, place: str) -> None:
        """Count something of which the first was at a place."""
        self._counts[text] = self._counts.get(text, 0) + count
        self._first.setdefault(text, place)

    def where(self, text: str, mask: np.ndarray, file: BoxFile, keys: Keys) -> None:
        """Count boxes: ``mask`` (N,) bool, of ``keys``."""
        if mask.any():
            self.add(text, int(mask.sum()), f"{file.path}, {file.unit} {keys.place[mask.argmax()]}")

    def sentences(self) -> list[str]:
        """One for each."""
        return [f"{text}: {count} (the first: {self._first[text]})" for text, count in self._counts.items()]


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
    if file.in_seconds:
        keys = _one_a_frame(file, keys, seconds, away, said)
    keys = _without_twice(file, keys, said)
    if file.between != "none":
        _check_once(file, keys)
        keys = _with_ends_of_labels(keys)
    keys = keys.rows(np.flatnonzero(~keys.outside | (keys.track >= 0)))
    start, (end, moves) = keys.time, _ends(file, keys, listed)
    if file.between == "step":
        said.where(APART, moves & (end - start > 1), file, keys)
    if options.hold:
        alone = (keys.track < 0) | (file.between == "none")
        still = np.flatnonzero(alone & ~keys.outside & (start < facts["num_frames"]))
        annotated = np.unique(np.concatenate([annotated, [] if listed is None else listed])).astype(np.int64)
        start[still], end[still] = _held(start[still], annotated, path, facts, options.hold)
    x1, y1, x2, y2 = keys.xyxy.T.astype(np.float32)
    label, track, moving = keys.label.astype(np.int32), keys.track, moves.astype(np.int8)
    boxes = KeyBoxes(start.astype(np.int32), end.astype(np.int32), x1, y1, x2, y2, label, track, moving)
    return boxes.between(0, _NEVER)


def _frames(file, number, keys, path, facts, options, said):
    """(N,) int64, the frame of each box; the frames that were annotated, or None; how far its seconds are, or None."""
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
        return np.searchsorted(listed, frame), np.arange(len(listed)), None
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
    return frame - first, None if listed is None else listed - first, None


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


def _one_a_frame(file: BoxFile, keys: Keys, seconds: np.ndarray, away: np.ndarray, said: Sayings) -> Keys:
    """Keys without those of a track whose seconds are in one frame with others: the nearest to the frame stay or, if
    at the last of them the track is outside, that one."""
    order = np.lexsort((keys.outside, seconds, keys.time, keys.track))
    ends, group = np.ones(len(order), bool), np.zeros(len(order), np.int64)
    ends[:-1] = (np.diff(keys.track[order]) != 0) | (np.diff(keys.time[order]) != 0)
    group[order] = np.cumsum(ends) - ends
    gone = keys.outside[order[ends]][group]
    order = np.lexsort((np.where(gone, -seconds, np.where(keys.outside, np.inf, away)), group))
    best = seconds[order[np.searchsorted(group[order], np.arange(ends.sum()))]]
    close = (keys.track >= 0) & (seconds != best[group])
    said.where(CLOSE, close, file, keys)
    return keys.rows(np.flatnonzero(~close))


def _without_twice(file: BoxFile, keys: Keys, said: Sayings) -> Keys:
    """Keys ordered by track, label and frame, each once. Outside, a track has no label."""
    keys = keys._replace(label=np.where(keys.outside, -1, keys.label))
    keys = keys.rows(np.lexsort((*keys.xyxy.T, keys.outside, keys.time, keys.label, keys.track)))
    columns = np.column_stack([keys.xyxy, keys.outside, keys.time, keys.label, keys.track])
    twice = np.zeros(len(columns), bool)
    twice[1:] = (columns[1:] == columns[:-1]).all(1)
    said.where(TWICE, twice & ~keys.outside, file, keys)
    if file.between == "none":
        close = np.zeros(len(columns), bool)
        close[1:] = (columns[1:, 5:] == columns[:-1, 5:]).all(1) & (keys.track[1:] >= 0) & ~twice[1:]
        said.where(CLOSE, close, file, keys)
        twice |= close
    return keys.rows(np.flatnonzero(~twice))


def _check_once(file: BoxFile, keys: Keys) -> None:
    """Refuse a track with two boxes in one frame that differ, or a box where it is outside.

    Raises:
        ValueError: there is one.
    """
    keys = keys.rows(np.lexsort((~_is_known(keys), keys.time, keys.track)))
    one, other = keys.rows(slice(None, -1)), keys.rows(slice(1, None))
    same = (one.track == other.track) & (one.track >= 0) & (one.time == other.time)
    differ = (one.xyxy != other.xyxy).any(1) & _is_known(other) | (one.outside != other.outside)
    for i in np.flatnonzero(same & differ)[:1].tolist():
        places = sorted((int(one.place[i]), int(other.place[i])))
        raise ValueError(
            f"{file.path}, {file.unit} {places[0]} and {places[1]}: track {one.track[i]} has two boxes in one frame"
        )


def _is_known(keys):
    """(N,) bool: whether it is known where a box is, or would be."""
    return (keys.xyxy[:, 2:] > keys.xyxy[:, :2]).all(1)


def _with_ends_of_labels(keys: Keys) -> Keys:
    """Keys ordered by track, label and frame, with one that is outside wherever the next box of a track does not have
    a label that this one has. So the rows of each label say by themselves where it ends.

    Args:
        keys: of which those that are outside are of the track, not of a label.
    """
    keys = keys.rows(np.lexsort((~_is_known(keys), keys.time, keys.track)))
    begins = np.ones(len(keys.time), bool)  # a frame in which a track has boxes, which are in one place
    begins[1:] = (keys.track[1:] != keys.track[:-1]) | (keys.time[1:] != keys.time[:-1])
    firsts, group = np.flatnonzero(begins), np.cumsum(begins) - 1
    seen = np.flatnonzero(~keys.outside)
    labels = int(keys.label.max(initial=0)) + 2
    having = group[seen] * labels + keys.label[seen]
    following = firsts[np.minimum(group[seen] + 1, len(firsts) - 1)] if len(seen) else seen
    ends = (keys.track[following] == keys.track[seen]) & (group[following] > group[seen]) & (keys.track[seen] >= 0)
    ends &= ~np.isin(having + labels, having)
    closing = keys.rows(following[ends])._replace(label=keys.label[seen[ends]], outside=np.ones(int(ends.sum()), bool))
    every = Keys(*(np.concatenate(pair) for pair in zip(keys.rows(seen), closing, strict=True)))
    return every.rows(np.lexsort((every.time, every.label, every.track)))


def _ends(file: BoxFile, keys: Keys, listed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Where each box ends, and whether it moves to the next one by then: (N,) int64, (N,) bool.

    Args:
        file: says what is between the boxes of a track.
        keys: ordered by track, label and frame; those of a label end as it does.
        listed: the frames that were annotated, or None.
    """
    frame, following = keys.time, np.full(len(keys.time), _NEVER)
    same = (keys.track[1:] == keys.track[:-1]) & (keys.label[1:] == keys.label[:-1]) & (keys.track[1:] >= 0)
    following[:-1][same] = frame[1:][same]
    near = following < _NEVER
    if file.between == "listed" and listed is not None:
        near &= np.searchsorted(listed, following) - np.searchsorted(listed, frame) == 1
    elif file.between == "step" and listed is not None and len(listed) > 1:
        near &= following - frame <= np.diff(listed).min()
    elif file.between != "all":
        near[:] = False
    moves = near & ~keys.outside & np.append(_is_known(keys)[1:], False)
    stays = moves if file.between != "all" else near
    return np.where(keys.outside, frame, np.where(stays, following, frame + 1)), moves


def _held(start, annotated, path, facts, hold):
    """Boxes of one frame each, from ``hold`` seconds before it to so many after; frames between two of ``annotated``,
    rising, have the boxes of the nearer one, also if it has none. (K,) int64 of each, first and last."""
    times = frame_times(facts)
    if np.isnan(times).any():
        raise ValueError(f"boxes_hold: {path} has neither time stamps nor a frame rate")
    low, high = (np.searchsorted(times, times[start] + side * hold - _ROUNDING) for side in (-1, 1))
    middle = (annotated[1:] + annotated[:-1] + 1) // 2
    at = np.searchsorted(annotated, start)
    low = np.maximum(low, np.concatenate([[0], middle])[at])
    high = np.minimum(high, np.append(middle, facts["num_frames"])[at])
    return np.minimum(low, start), np.maximum(high, start + 1)
