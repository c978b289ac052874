"""Lists of ActivityNet, THUMOS14, Diving48 and AVA."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from dali_vidaug.data.entry import Classes, Entry, Listing
from dali_vidaug.data.labels import LARGEST, is_missing, whole_number
from dali_vidaug.data.list_source import (
    LabelRows,
    Source,
    entry_of,
    json_items,
    make_listing,
    numbered_classes,
    seconds,
)
from dali_vidaug.data.list_text import read_text
from dali_vidaug.data.list_untrimmed import Part, Untrimmed, is_ambiguous, list_segments, list_videos

_NUM_DIVES = 48
_NUM_AVA = 80


def _database(source: Source) -> dict[str, Any] | None:
    """What the JSON of ActivityNet has of each video: under "database", or, in MMAction2's form, at the top."""
    value = source.json
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("database"), dict):
        return value["database"]
    flat = value and all(isinstance(facts, dict) and {"annotations", "duration_second"} <= set(facts)
                         for facts in value.values())  # fmt: skip
    return value if flat else None


def fits_activitynet(source: Source) -> bool:
    """Whether it is a JSON object with a database of videos and their annotations."""
    return _database(source) is not None


def read_activitynet(source: Source) -> Listing:
    """Read the JSON of ActivityNet, and of THUMOS14 in its form: a sample for each annotated segment.

    A video without annotations is one sample without a label. The classes are the labels of all subsets, sorted, or in
    the order of ``label_id`` where the annotations have it. Labels that are all whole numbers are the indices.
    Ambiguous segments have the label "Ambiguous", in small letters or capitals, or the label or ``label_id`` -1.

    Raises:
        ValueError: a video or an annotation has something else, or no video has annotations.
    """
    return list_segments(source, *_activitynet(source))


def read_activitynet_videos(source: Source) -> Listing:
    """Read the same: a sample for each video, with the classes of all its segments, which the column segments has.

    Raises:
        ValueError: as ``read_activitynet``.
    """
    return list_videos(source, *_activitynet(source))


def _activitynet(source: Source) -> tuple[list[Untrimmed], Classes, str]:
    """The videos of a JSON file, the classes of all of them, and how these were found."""
    database = _database(source)
    if database is None:
        _refuse_json(source, 'a JSON object with "database"')
    if database and not any(isinstance(facts, dict) and "annotations" in facts for facts in database.values()):
        source.refuse(None, 'videos with "annotations"', _keys(next(iter(database.values()))))
    numbers: dict[str, int] = {}
    videos = []
    for video, facts in database.items():
        place = f"{source.path}, video {video}"
        parts = [
            _annotation(f"{place}, annotation {i}", part, numbers) for i, part in enumerate(_annotations(place, facts))
        ]
        duration, fps = (next((facts[name] for name in names if type(facts.get(name)) in (int, float)), None)
                         for names in (("duration", "duration_second"), ("fps",)))  # fmt: skip
        videos.append(Untrimmed(video, place, str(facts.get("subset") or ""), parts, duration, fps))
    names = {part.label for video in videos for part in video.parts if part.label}
    if numbers and set(numbers) != names:
        raise ValueError(f"{source.path}: some labels have a label_id, but {min(names - set(numbers))!r} has none")
    return videos, *_classes(source, names, numbers)


def _refuse_json(source: Source, expected: str) -> NoReturn:
    """Say that a file is not the JSON that it must be: what its value is, or why it has none."""
    problem = source.text.json_problem() if source.text else None
    if problem:
        raise ValueError(f"{source.path}: expected {expected}, but it {problem}")
    source.refuse(None, expected, type(source.json).__name__)


def _annotations(place: str, facts: Any) -> list[Any]:
    """The annotations of a video; none where it has no such key, and no other key with segments."""
    annotations = facts.get("annotations", []) if isinstance(facts, dict) else None
    others = [] if annotations or not isinstance(facts, dict) else [
        key for key, value in facts.items()
        if isinstance(value, list) and any(isinstance(part, dict) and "segment" in part for part in value)
    ]  # fmt: skip
    if not isinstance(annotations, list) or others:
        raise ValueError(
            f'{place}: expected {{"subset", "duration", "annotations": [{{"segment", "label"}}, ...]}}, got '
            f"{f'segments in {others[0]!r}' if others else f'{facts!r:.80}'}"
        )
    return annotations


def _keys(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__


def _classes(source: Source, names: set[str], numbers: dict[str, int]) -> tuple[Classes, str]:
    """The classes, and how they were found, of labels and their label_id."""
    path = str(source.path)
    if numbers:
        return numbered_classes({number: name for name, number in numbers.items()}, 0, path)._replace(
            numbers={}
        ), "by label_id"
    indices = {name: number for name in names if (number := whole_number(name)) is not None}
    if not names or len(indices) < len(names):
        return Classes(tuple(sorted(names)), {}, path), "the labels of all subsets, sorted"
    for name, number in indices.items():
        if not 0 <= number <= LARGEST:
            raise ValueError(f"{path}: labels that are numbers must be 0 to {LARGEST}, got {name}")
    return numbered_classes({}, max(indices.values()) + 1, path), "labels that are numbers are the indices"


def _annotation(place: str, part: Any, numbers: dict[str, int]) -> Part:
    """The label of an annotation, and its start and end in seconds; ``numbers`` is told its label_id."""
    segment = part.get("segment") if isinstance(part, dict) else None
    if not (isinstance(segment, list) and len(segment) == 2) or "label" not in part:
        raise ValueError(f'{place}: expected annotations {{"segment": [START, END], "label"}}, got {part!r:.100}')
    start, end = (None if isinstance(value, bool) else seconds(place, "segment", value) for value in segment)
    if start is None or end is None:
        raise ValueError(f"{place}: segment must be seconds, got {segment}")
    label, number = part["label"], part.get("label_id")
    name = str(label).strip()
    ambiguous = number == -1 or is_ambiguous(name) or whole_number(name) == -1
    if not ambiguous and (type(label) not in (str, int) or is_missing(name)):
        raise ValueError(f"{place}: label must be a name, a whole number or Ambiguous, got {label!r:.100}")
    if ambiguous:
        return Part(None, start, end, place)
    if number is not None:
        if type(number) is not int or number < 0 or numbers.setdefault(name, number) != number:
            raise ValueError(
                f"{place}: label_id of {name!r} must be one whole number, got {number} and {numbers.get(name)}"
            )
        if sum(number == other for other in numbers.values()) > 1:
            raise ValueError(f"{place}: two labels have the label_id {number}")
    return Part(name, start, end, place)


def fits_diving48(source: Source) -> bool:
    """Whether it is a JSON list of objects with a vid_name and a label."""
    items = json_items(source)
    return bool(items) and all("vid_name" in item for _, item in items)


def read_diving48(source: Source) -> Listing:
    """Read Diving48_V2_train.json: labels 0 to 47, or named by Diving48_vocab.json beside the list.

    Raises:
        ValueError: a label is out of range, or a start_frame is not 0, so that the file would hold more than the dive.
    """
    items = json_items(source)
    if not items:
        _refuse_json(source, 'a JSON list of {"vid_name", "label", "start_frame", "end_frame"}')
    entries: list[Entry] = []
    labels: LabelRows = []
    for place, item in items:
        label = item.get("label")
        if "vid_name" not in item or not (label is None or (isinstance(label, int) and 0 <= label < _NUM_DIVES)):
            raise ValueError(f"{place}: expected a vid_name, and a label of 0 to {_NUM_DIVES - 1}, got {item!r:.100}")
        if item.get("start_frame", 0) != 0:
            raise ValueError(
                f"{place}: start_frame must be 0, as in Diving48, whose files are cut, got {item['start_frame']}"
            )
        entries.append(entry_of(source.videos.find([str(item["vid_name"])]), place))
        labels.append(() if label is None else (str(label),))
    path = source.beside("Diving48_vocab.json")
    names = _vocabulary(path) if path else {}
    classes = numbered_classes(names, _NUM_DIVES, str(path or source.path))
    own = {"end_frame": [item.get("end_frame") for _, item in items]}
    return make_listing(source, entries, labels, own=own, classes=classes)


def _vocabulary(path: Path) -> dict[int, str]:
    value = read_text(path).json
    if not isinstance(value, list) or len(value) != _NUM_DIVES:
        raise ValueError(f"{path}: expected a JSON list of {_NUM_DIVES} classes")
    return {i: " ".join(map(str, name)) if isinstance(name, list) else str(name) for i, name in enumerate(value)}


def fits_ava(source: Source) -> bool:
    """Whether rows are those of AVA's boxes: a video, seconds, a box in shares of the frame, an action, a person."""
    row = [value.strip() for value in source.text.first_row()] if source.text else []
    numbers = [_number(value) for value in row[1:]]
    return len(row) == 8 and None not in numbers and all(0 <= (value or 0) <= 1 for value in numbers[1:5])


def _number(text):
    try:
        return float(text)
    except ValueError:
        return None


def read_ava(source: Source) -> Listing:
    """Read the labels of AVA's CSV: a sample for each annotated second of a video, with the actions of all persons.

    The second is in the column ``time``, for ``KeyframeClip``; boxes are read by ``boxes=``. Class 0 does not occur.

    Raises:
        ValueError: a row has something else.
    """
    samples: dict[tuple[str, float], tuple[int, list[str]]] = {}
    for line, values in source.text.rows() if source.text else ():
        row = [value.strip() for value in values]
        time = _number(row[1]) if len(row) == 8 else None
        action = whole_number(row[6]) if len(row) == 8 else None
        if time is None or action is None or not 1 <= action <= _NUM_AVA:
            source.refuse(line, f"VIDEO,SECONDS,X1,Y1,X2,Y2,ACTION (1 to {_NUM_AVA}),PERSON", ",".join(row))
        samples.setdefault((row[0], time), (line, []))[1].append(str(action))
    entries = [
        entry_of(source.videos.find([video]), source.place(line))._replace(at=time)
        for (video, time), (line, _) in samples.items()
    ]
    labels = [tuple(dict.fromkeys(actions)) for _, actions in samples.values()]
    classes = numbered_classes({}, _NUM_AVA + 1, str(source.path))
    own = {"time": pa.array([time for _, time in samples], pa.float64())}
    notes = ["a sample for each annotated second, in the column time; boxes= reads the boxes"]
    return make_listing(source, entries, labels, own=own, several=True, classes=classes, notes=notes)
