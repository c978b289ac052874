"""What lists of untrimmed videos have in common: a sample for each annotated segment, or for each video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from dali_vidaug.data.entry import Classes, Entry, Listing, name_some
from dali_vidaug.data.list_source import LabelRows, Source, entry_of, make_listing
from dali_vidaug.data.schema import SEGMENTS

_AMBIGUOUS = "ambiguous"
_NEAR = 0.05  # seconds: times with one decimal place that are the same


class Part(NamedTuple):
    """An annotated segment [start, end), seconds, its class (None: ambiguous), and where the list says so."""

    label: str | None
    start: float
    end: float
    place: str


class Untrimmed(NamedTuple):
    """A video of a list with what is annotated in it.

    Attributes:
        name: its id.
        place: where the list says so, for messages.
        subset: which split it is of.
        parts: its segments.
        duration, fps: what the list says of it, or None.
    """

    name: str
    place: str
    subset: str
    parts: list[Part]
    duration: float | None = None
    fps: float | None = None


def is_ambiguous(name: str) -> bool:
    """Whether a class is that of THUMOS14's segments of which nobody can say whether they show one."""
    return name.strip().lower() == _AMBIGUOUS


def list_segments(source: Source, videos: Sequence[Untrimmed], classes: Classes, told: str) -> Listing:
    """A sample for each segment; a video without any is one sample without a label.

    Args:
        source: the list.
        videos: of all subsets.
        classes: of all subsets.
        told: how they were found.
    """
    entries: list[Entry] = []
    labels: LabelRows = []
    rows: list[Untrimmed] = []
    for video in videos:
        found = source.videos.find([video.name, f"v_{video.name}"])
        for part in video.parts or (None,):
            bounds = (part.place, part.start, part.end) if part else (video.place,)
            entries.append(entry_of(found, *bounds))
            labels.append((part.label,) if part and part.label else ())
            rows.append(video)
    chosen, warnings = source.choose_split([video.subset for video in rows])
    kept = [i for i, take in enumerate(chosen) if take]
    return make_listing(
        source, [entries[i] for i in kept], [labels[i] for i in kept], classes=classes,
        own={"video_id": [rows[i].name for i in kept], "subset": [rows[i].subset for i in kept]},
        warnings=[*warnings, *_not_divings([rows[i] for i in kept])], notes=[f"classes: {told}"],
    )  # fmt: skip


def list_videos(source: Source, videos: Sequence[Untrimmed], classes: Classes, told: str) -> Listing:
    """A sample for each video, with the classes of its segments, which stay in the column ``SEGMENTS``.

    Segments that do not end after they start, and those that are there already, are left out: a video has the classes
    of the others.

    Args:
        source: the list.
        videos: of all subsets.
        classes: of all subsets.
        told: how they were found.
    """
    chosen, warnings = source.choose_split([video.subset for video in videos])
    kept, told_of = _with_segments([video for video, take in zip(videos, chosen, strict=True) if take])
    warnings += told_of
    segments = [[{"label": part.label, "start": part.start, "end": part.end} for part in v.parts] for v in kept]
    without = [video.name for video in kept if not video.parts]
    own = {
        "video_id": pa.array([video.name for video in kept], pa.string()),
        "subset": pa.array([video.subset for video in kept], pa.string()),
        SEGMENTS.name: pa.array(segments, SEGMENTS.type),
    }
    for name, values in (("list_duration", [v.duration for v in kept]), ("list_fps", [v.fps for v in kept])):
        if any(value is not None for value in values):
            own[name] = pa.array(values, pa.float64())
    notes = [f"classes: {told}", f"the segments of a video are in the column {SEGMENTS.name}"]
    if without:
        notes.append(f"videos without annotated segments, which have no label: {len(without)} ({name_some(without)})")
    return make_listing(
        source, [entry_of(source.videos.find([v.name, f"v_{v.name}"]), v.place) for v in kept],
        [tuple(dict.fromkeys(part.label for part in video.parts if part.label)) for video in kept],
        own=pa.table(own), used=tuple(own), several=True, classes=classes, warnings=[*warnings, *_not_divings(kept)],
        notes=notes,
    )  # fmt: skip


def _with_segments(videos: Sequence[Untrimmed]) -> tuple[list[Untrimmed], list[str]]:
    """Videos with the segments that count, each once; and sentences on the others, and on those that are odd."""
    empty, again, early, kept = [], [], [], []
    for video in videos:
        parts: dict[tuple[str | None, float, float], Part] = {}
        for part in video.parts:
            if part.end <= part.start:
                empty.append(part.place)
            elif part[:3] in parts:
                again.append(part.place)
            else:
                parts[part[:3]] = part
                early += [part.place] if part.start < 0 else []
        kept.append(video._replace(parts=list(parts.values())))
    said = (
        ("segments that do not end after they start, left out", empty),
        ("segments that their list has already, left out", again),
        ("segments that start before their video does", early),
    )
    return kept, [f"{what}: {len(places)} ({name_some(places)})" for what, places in said if places]


def _not_divings(videos: Sequence[Untrimmed]) -> Iterator[str]:
    """A sentence on segments of CliffDiving that are not marked as Diving too, as all of THUMOS14 are."""
    lost = []
    for video in videos:
        dives = [part for part in video.parts if part.label == "Diving"]
        lost += [
            f"{video.name} {part.start:g} s" for part in video.parts if part.label == "CliffDiving"
            and not any(abs(part.start - dive.start) < _NEAR and abs(part.end - dive.end) < _NEAR for dive in dives)
        ]  # fmt: skip
    if lost:
        yield (
            "segments of CliffDiving that are not marked as Diving too, of which it is a part in THUMOS14: "
            f"{len(lost)} ({name_some(lost)})"
        )
