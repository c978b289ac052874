"""The boxes that a file has of one video, in the frames and pixels of the video as it was scanned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.data.box_file import BoxFile, Keys
from dali_vidaug.data.boxes import KeyBoxes
from dali_vidaug.data.column import shown_sizes
from dali_vidaug.data.entry import Classes
from dali_vidaug.media.video import frame_times

AVA_START = 900.0  # seconds: AVA's videos are annotated from 15:00 on, and often cut there
_ROUNDING = 1e-6  # seconds, of floating-point numbers
_NEVER = np.iinfo(np.int32).max
_SAME_SHAPE = 0.02  # by which a scaled video may differ in width to height: sides are rounded to even numbers
# What is said of boxes, with how many there are.
BEYOND = "boxes in frames after the last one, which no clip has"
EMPTY = "boxes without width or height, which are taken for none"
TWICE = "boxes that are there twice, of which one is kept"
CLOSE = "boxes of a track whose seconds are in the same frame as others, of which one is kept"
PARTLY = "boxes partly outside the frame, kept as they are"
WHOLLY = "boxes wholly outside the frame, kept as they are"
SCALED = "videos of another size than was annotated, whose boxes are scaled"
CUT = "videos that end before their first annotated second, taken for the part from 15:00 on"
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
    frame, listed = _frames(file, number, keys, path, facts, options, said)
    xyxy = _pixels(file, number, keys, path, facts, said)
    empty = (xyxy[:, 2:] <= xyxy[:, :2]).any(1) & ~keys.outside
    said.where(EMPTY, empty, file, keys)
    said.where(BEYOND, (frame >= facts["num_frames"]) & ~keys.outside & ~empty, file, keys)
    keys = keys._replace(time=frame, xyxy=xyxy, outside=keys.outside | empty)
    keys = keys.rows(np.flatnonzero(~keys.outside | (keys.track >= 0)))
    keys = _without_twice(file, keys, said)
    start, (end, moves) = keys.time, _ends(file, keys, listed)
    if options.hold:
        alone = (keys.track < 0) | (file.between == "none")
        still = np.flatnonzero(alone & ~keys.outside & (start < facts["num_frames"]))
        start[still], end[still] = _held(start[still], path, facts, options.hold)
    x1, y1, x2, y2 = keys.xyxy.T.astype(np.float32)
    label, track, moving = keys.label.astype(np.int32), keys.track, moves.astype(np.int8)
    boxes = KeyBoxes(start.astype(np.int32), end.astype(np.int32), x1, y1, x2, y2, label, track, moving)
    return boxes.between(0, _NEVER)


def _frames(file, number, keys, path, facts, options, said):
    """(N,) int64, the frame of each box; and the frames that were annotated, or None."""
    if file.in_seconds:
        return _frames_at(file, keys, path, facts, said), None
    frame, listed, first = keys.time.astype(np.int64), file.frames.get(number), file.first_frame
    if file.by_name and listed is not None:
        if len(listed) == facts["num_frames"]:
            if listed[-1] != len(listed) - 1:
                said.add(LISTED, 1, path)
            return np.searchsorted(listed, frame), np.arange(len(listed))
        first = None if listed[0] else 0
    first = first if options.first_frame is None else options.first_frame
    if first is None:
        raise ValueError(
            f"{file.path}: images of {path} are numbered from {listed[0]}, and are {len(listed)} of its "
            f"{facts['num_frames']} frames: which number the first frame has is not known; boxes_first_frame= says it"
        )
    frame = frame - first
    early = np.flatnonzero(frame < 0)
    if len(early):
        place = f"{file.path}, {file.unit} {keys.place[early[0]]}"
        raise ValueError(
            f"{place}: the first frame has number {first}, got {frame[early[0]] + first}; boxes_first_frame= is another"
        )
    return frame, None if listed is None else listed - first


def _frames_at(file, keys, path, facts, said):
    """The frame whose time stamp is nearest to the seconds of each box."""
    times = frame_times(facts)
    if np.isnan(times).any():
        raise ValueError(f"{file.path}: {path} has neither time stamps nor a frame rate, so seconds have no frame")
    seconds, shown = keys.time, times[-1] - times[-2] if len(times) > 1 else 1 / (facts["fps"] or 1)
    if file.format == "ava" and len(seconds) and times[-1] + shown < seconds.min() >= AVA_START:
        said.add(CUT, 1, path)
        seconds = seconds - AVA_START
    after = np.searchsorted(times, seconds).clip(1, max(1, len(times) - 1))
    before = after - 1
    after = after.clip(max=len(times) - 1)
    nearest = np.where(seconds - times[before] <= times[after] - seconds, before, after)
    after_end = np.floor((seconds - times[-1]) / max(shown, _ROUNDING)).astype(np.int64)
    return np.where(after_end >= 1, facts["num_frames"] - 1 + after_end, nearest)


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


def _without_twice(file: BoxFile, keys: Keys, said: Sayings) -> Keys:
    """Keys ordered by track, label and frame, each once.

    Raises:
        ValueError: a track has two boxes in one frame that differ, or a box where it is outside.
    """
    keys = keys.rows(np.lexsort((*keys.xyxy.T, keys.outside, keys.time, keys.label, keys.track)))
    columns = np.column_stack([keys.xyxy, keys.outside, keys.time, keys.label, keys.track])
    twice = np.zeros(len(columns), bool)
    twice[1:] = (columns[1:] == columns[:-1]).all(1)
    said.where(TWICE, twice & ~keys.outside, file, keys)
    if file.in_seconds:
        close = np.zeros(len(columns), bool)
        close[1:] = (columns[1:, 5:] == columns[:-1, 5:]).all(1) & (keys.track[1:] >= 0) & ~twice[1:]
        said.where(CLOSE, close, file, keys)
        twice |= close
    keys = keys.rows(np.flatnonzero(~twice))
    if file.between != "none":
        by_time = np.lexsort((keys.time, keys.track))
        one, other = keys.rows(by_time[:-1]), keys.rows(by_time[1:])
        same = (one.track == other.track) & (one.track >= 0) & (one.time == other.time)
        differ = (one.xyxy != other.xyxy).any(1) & ~(one.outside & other.outside) | (one.outside != other.outside)
        for i in np.flatnonzero(same & differ)[:1].tolist():
            places = sorted((int(one.place[i]), int(other.place[i])))
            raise ValueError(
                f"{file.path}, {file.unit} {places[0]} and {places[1]}: track {one.track[i]} has two boxes in one frame"
            )
    return keys


def _ends(file: BoxFile, keys: Keys, listed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Where each box ends, and whether it moves to the next one by then: (N,) int64, (N,) bool.

    Args:
        file: says what is between the boxes of a track.
        keys: ordered by track, label and frame.
        listed: the frames that were annotated, or None.
    """
    frame, following = keys.time, np.full(len(keys.time), _NEVER)
    same = (keys.track[1:] == keys.track[:-1]) & (keys.label[1:] == keys.label[:-1]) & (keys.track[1:] >= 0)
    known = ~keys.outside | (keys.xyxy[:, 2:] > keys.xyxy[:, :2]).all(1)  # where the box is
    following[:-1][same & known[1:]] = frame[1:][same & known[1:]]
    if file.between == "all":
        end = np.minimum(following, _next_outside(keys))
        end = np.where(end == _NEVER, frame + 1, end)
        return np.where(keys.outside, frame, end), (following == end) & ~keys.outside
    if file.between == "listed" and listed is not None:
        moves = np.searchsorted(listed, following) - np.searchsorted(listed, frame) == 1
    elif file.between == "step" and len(steps := np.diff(np.unique(frame))):
        moves = following - frame <= steps.min()
    else:
        moves = np.zeros(len(frame), bool)
    moves &= ~keys.outside & (following < _NEVER)
    return np.where(keys.outside, frame, np.where(moves, following, frame + 1)), moves


def _next_outside(keys: Keys) -> np.ndarray:
    """For each box the frame from which on its track is outside next, or a large number: (N,) int64."""
    gone = keys.rows(np.flatnonzero(keys.outside))
    scale = int(keys.time.max(initial=0)) + 2  # track and frame as one number, in order
    tracks = np.unique(keys.track)
    numbers = np.sort(np.searchsorted(tracks, gone.track) * scale + gone.time)
    mine = np.searchsorted(tracks, keys.track) * scale
    found = np.append(numbers, _NEVER * scale)[np.searchsorted(numbers, mine + keys.time, "right")]
    return np.where((found < mine + scale) & (keys.track >= 0), found - mine, _NEVER)


def _held(start, path, facts, hold):
    """Boxes of one frame each, from ``hold`` seconds before it to so many after; frames between two of these frames
    have the boxes of the nearer one. (K,) int64 of each, first and last."""
    times = frame_times(facts)
    if np.isnan(times).any():
        raise ValueError(f"boxes_hold: {path} has neither time stamps nor a frame rate")
    low, high = (np.searchsorted(times, times[start] + side * hold - _ROUNDING) for side in (-1, 1))
    marked = np.unique(start)
    middle = (marked[1:] + marked[:-1] + 1) // 2
    at = np.searchsorted(marked, start)
    low = np.maximum(low, np.concatenate([[0], middle])[at])
    high = np.minimum(high, np.append(middle, facts["num_frames"])[at])
    return np.minimum(low, start), np.maximum(high, start + 1)
