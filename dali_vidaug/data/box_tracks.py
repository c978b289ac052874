"""The boxes of one video along time: each once, where they end, and where to they move until then."""

from __future__ import annotations

import numpy as np

from dali_vidaug.data.box_file import BoxFile, Keys, Sayings

NEVER = np.iinfo(np.int32).max  # a frame that no video has
# What is said of boxes, with how many there are.
TWICE = "boxes that are there twice, of which one is kept"
CLOSE = "boxes of a track whose seconds are in the same frame as others, of which one is kept"
APART = "boxes that move over frames of which the file says nothing, as its frames are never nearer"


def join_tracks(
    file: BoxFile, keys: Keys, seconds: np.ndarray, away: np.ndarray, listed: np.ndarray | None, said: Sayings
) -> tuple[Keys, np.ndarray, np.ndarray]:
    """Put the boxes of a video in order, and find where each ends.

    Args:
        file: says what is between the boxes of a track.
        keys: the boxes, with frames as times, (N,).
        seconds, away: (N,), of a file in seconds: those of each box, and how far they are from its frame's.
        listed: the frames that were annotated, rising, or None.
        said: gets what is to be said.

    Returns:
        Boxes ordered by track, label and frame; (M,) int64, the frame where each ends; (M,) bool, whether it moves to
        the next one by then. Those that end where they begin are in no frame.

    Raises:
        ValueError: a track has two boxes in one frame that differ, or a box where it is outside.
    """
    if file.in_seconds:
        keys = _one_a_frame(file, keys, seconds, away, said)
    keys = _without_twice(file, keys, said)
    if file.between != "none":
        _check_once(file, keys)
        keys = _with_ends_of_labels(keys)
    keys = keys.rows(np.flatnonzero(~keys.outside | (keys.track >= 0)))
    end, moves = _ends(file, keys, listed)
    if file.between == "step":
        said.where(APART, moves & (end - keys.time > 1), file, keys)
    return keys, end, moves


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
    one, other = keys.rows(slice(None, -1)), keys.rows(slice(1, None))
    again, twice = np.zeros(len(keys.time), bool), np.zeros(len(keys.time), bool)
    again[1:] = (one.track == other.track) & (one.label == other.label) & (one.time == other.time)
    twice[1:] = again[1:] & (one.xyxy == other.xyxy).all(1) & (one.outside == other.outside)
    said.where(TWICE, twice & ~keys.outside, file, keys)
    if file.between == "none":
        close = again & ~twice & (keys.track >= 0)
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
        what = "has two boxes" if one.outside[i] == other.outside[i] else "has a box and is outside"
        raise ValueError(
            f"{file.path}, {file.unit} {places[0]} and {places[1]}: track {one.track[i]} {what} in one frame"
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
    frame, following = keys.time, np.full(len(keys.time), NEVER)
    same = (keys.track[1:] == keys.track[:-1]) & (keys.label[1:] == keys.label[:-1]) & (keys.track[1:] >= 0)
    following[:-1][same] = frame[1:][same]
    near = following < NEVER
    if file.between == "listed" and listed is not None:
        near &= np.searchsorted(listed, following) - np.searchsorted(listed, frame) == 1
    elif file.between == "step" and listed is not None and len(listed) > 1:
        near &= following - frame <= np.diff(listed).min()
    elif file.between != "all":
        near[:] = False
    moves = near & ~keys.outside & np.append(_is_known(keys)[1:], False)
    moves[:-1] &= ~keys.outside[1:] | (following[:-1] > frame[:-1] + 1)  # no frame is before that end: it is not kept
    stays = moves if file.between != "all" else near
    return np.where(keys.outside, frame, np.where(stays, following, frame + 1)), moves
