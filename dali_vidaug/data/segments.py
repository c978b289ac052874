"""Segments: from seconds, as lists have them, to frames.

A frame is shown from its time stamp to that of the next frame. It belongs to the segment [start, end) if the middle of
that time does. So a time that is up to half a frame off, because it was rounded, gives the same frames, and segments
that meet share no frame and lose none. Seconds count from the video's first frame.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.data.entry import Entry
from dali_vidaug.media.video import frame_times, shown_for

# What is said of rows of a list, with how many there are.
CLIPPED = "rows that end after their video does, and are cut short"
EARLY = "rows that start before their video does, and are cut short"
CUT = "rows whose file, by its duration, holds this part alone, so that start and end are not applied"
WHOLE = "rows whose file, by its duration, holds more than this part, so that start and end are applied"
DAMAGED = "rows with damaged frames, whose longest whole part is used"
_ROUNDING = 1e-6  # seconds, of floating-point numbers: a segment from the very middle of a frame on has that frame
_CUT_SLACK = 1.0  # seconds by which a file that was cut to a part may be longer or shorter than the part,
_CUT_SLACK_MAX = 5.0  # and longer if it ends before the part begins in the whole video: cuts at key frames are longer
_END_SLACK = 0.5  # seconds by which the annotated end may be after the video's


class Segment(NamedTuple):
    """The frames [first, last), and what is to be said of them: one of the texts above, or None."""

    first: int
    last: int
    remark: str | None = None


def read_seconds(text: str | None) -> float | None:
    """Seconds of "12.5", "1:02.5" or "00:01:02.5"; None for None.

    Raises:
        ValueError: it is something else.
    """
    if text is None:
        return None
    *larger, seconds = text.split(":")
    if len(larger) > 2 or not all(part.strip().isdecimal() for part in larger):
        raise ValueError(f"got {text}")
    try:
        value = float(seconds)
    except ValueError:
        decimal = seconds.replace(",", ".", 1)
        hint = f"; write {decimal}" if re.fullmatch(r"\s*\d+,\d+\s*", seconds) else ""
        raise ValueError(f"got {text}{hint}") from None
    if not math.isfinite(value):
        raise ValueError(f"got {text}")
    for i, part in enumerate(reversed(larger)):
        value += int(part) * 60 ** (i + 1)
    return value


def read_frame(text: str | None) -> float | None:
    """The number of a frame; None for None.

    Raises:
        ValueError: it is not a whole number.
    """
    try:
        value = None if text is None else float(text)
    except ValueError:
        raise ValueError(f"got {text}") from None
    if value is not None and not value.is_integer():
        raise ValueError(f"got {text}")
    return value


def find_segment(row: Mapping[str, Any], entry: Entry) -> Segment:
    """The frames of a list's entry that can be used.

    Args:
        row: what was measured of the file.
        entry: what the list says.

    Raises:
        ValueError: there are none, or the times of the frames are not known.
    """
    segment, limits = _listed_segment(row, entry), row.get("damaged") or ()
    first, last, _ = segment
    starts, ends = [first, *limits[1::2]], [*limits[::2], last]  # of the parts between damaged ones
    whole = [(max(first, start), min(last, end)) for start, end in zip(starts, ends, strict=True)]
    start, end = max(whole, key=lambda part: part[1] - part[0])
    if start >= end:
        raise ValueError(f"all frames of [{first}, {last}) are damaged")
    return segment if (start, end) == (first, last) else Segment(start, end, DAMAGED)


def _listed_segment(row, entry):
    """The frames of a list's entry, damaged or not."""
    num_frames = row["num_frames"]
    if entry.start is None and entry.end is None:
        return Segment(0, num_frames)
    start, end = entry.start or 0.0, math.inf if entry.end is None else entry.end
    unit = "frame" if entry.in_frames else "s"
    if end <= start:
        raise ValueError(f"start must be before end, got {start:g} and {end:g} {unit}")
    if entry.in_frames:
        first, last, length = max(0, int(start)), int(min(end, num_frames)), float(num_frames)
        slack = 0.0
    else:
        times = frame_times(row)
        if np.isnan(times).any():
            raise ValueError("start and end cannot be found: neither its time stamps nor its frame rate are known")
        shown = shown_for(times, row["fps"])
        length, slack = float(times[-1] + shown[-1]), float(shown[-1])
        if entry.may_be_cut and _is_cut(length, start, end):
            return Segment(0, num_frames, CUT)
        first, last = np.searchsorted(times + shown / 2 + _ROUNDING, (start, end)).tolist()
    if last <= first:
        lasts = f"it has {num_frames}" if entry.in_frames else f"it lasts {row['duration_seconds']} s"
        raise ValueError(f"no frame between {entry.start} and {entry.end} {unit} ({lasts})")
    if end > length + slack and end != math.inf:
        return Segment(first, last, CLIPPED)
    return Segment(first, last, EARLY if start < -slack else WHOLE if entry.may_be_cut else None)


def _is_cut(length, start, end):
    """Whether a file of ``length`` seconds holds the part [start, end) of its video alone.

    Raises:
        ValueError: it is neither that part nor long enough to contain it.
    """
    part = end - start
    if length >= end - _END_SLACK and abs(length - end) <= abs(length - part):
        return False
    if abs(length - part) <= _CUT_SLACK or length <= min(start, part + _CUT_SLACK_MAX):
        return True
    if length >= end - _END_SLACK:
        return False
    raise ValueError(
        f"it lasts {length:g} s: neither the whole video, which has a part from {start:g} to {end:g} s, nor that part "
        "alone"
    )
