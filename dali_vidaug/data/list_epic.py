"""Lists of EPIC-KITCHENS and Charades: several actions in a video, each with its time."""

from __future__ import annotations

import re

import pyarrow as pa

from dali_vidaug.data.entry import Classes, Entry, Listing, name_some
from dali_vidaug.data.labels import is_missing, whole_number
from dali_vidaug.data.list_source import (
    LabelRows,
    Source,
    each_row,
    entry_of,
    has_paths,
    make_listing,
    numbered_classes,
    seconds,
)
from dali_vidaug.data.list_text import read_text

_EPIC = {"participant_id", "video_id", "start_timestamp", "stop_timestamp"}
_EPIC_SIZES = {"narration_id": (97, 300), "uid": (125, 352)}  # verbs and nouns of EPIC-100 and of EPIC-55
_CHARADES = {"id", "actions"}
_NUM_CHARADES = 157
_ACTION = re.compile(r"(c\d{3})\s+(\S+)\s+(\S+)")


def fits_epic(source: Source) -> bool:
    """Whether the columns are those of EPIC-KITCHENS."""
    columns = set(source.columns)
    return columns >= _EPIC and bool(columns & set(_EPIC_SIZES)) and not has_paths(source.columns)


def read_epic(source: Source) -> Listing:
    """Read EPIC_100_train.csv and its like: a segment in each row, with a verb and a noun.

    Verbs and nouns have classes of their own, ``verb=0`` to ``verb=96`` and ``noun=0`` to ``noun=299``, or their names
    if EPIC_100_verb_classes.csv and EPIC_100_noun_classes.csv are beside the list. A list for testing has neither.
    ``label_columns`` may choose one of verb_class and noun_class: then a sample has one label.

    Raises:
        ValueError: a column is missing, or a class is out of range.
    """
    missing = sorted(_EPIC - set(source.columns))
    kind = next((name for name in _EPIC_SIZES if name in source.columns), None)
    if missing or kind is None:
        source.refuse(1, "columns narration_id or uid, participant_id, video_id, start_timestamp, stop_timestamp, ...",
                      ", ".join(source.columns))  # fmt: skip
    both = [name for name in ("verb_class", "noun_class") if name in source.columns]
    wanted = list(source.option("label_columns") or both)
    if not set(wanted) <= set(both):
        raise ValueError(
            f"{source.path}: label_columns must be of {', '.join(both) or 'none'}, got {', '.join(wanted)}"
        )
    sizes = dict(zip(("verb_class", "noun_class"), _EPIC_SIZES[kind], strict=True))
    names = {column: _epic_names(source, column) for column in wanted}
    entries: list[Entry] = []
    labels: dict[str, list[tuple[str, ...]]] = {column: [] for column in wanted}
    for place, row in each_row(source.rows, [*sorted(_EPIC), *wanted]):
        start, end = (seconds(place, name, row[name]) for name in ("start_timestamp", "stop_timestamp"))
        found = source.videos.find([row["video_id"]], row["participant_id"])
        entries.append(entry_of(found, place, start, end))
        for column in wanted:
            number = whole_number(row[column])
            if not is_missing(row[column]) and (number is None or not 0 <= number < sizes[column]):
                raise ValueError(f"{place}: {column} must be 0 to {sizes[column] - 1}, got {row[column]!r}")
            labels[column].append(() if is_missing(row[column]) else (names[column].get(number or 0, str(number)),))
    ordered = {column: numbered_classes(names[column], sizes[column], str(source.path)).names for column in wanted}
    notes = [f"labels: {' and '.join(wanted) or 'none'}; segments: start_timestamp to stop_timestamp"]
    used = (*_EPIC, *wanted)
    if len(wanted) < 2:
        one = next(iter(wanted), None)
        classes = Classes(ordered[one], {i: i for i in range(sizes[one])}, str(source.path)) if one else None
        return make_listing(source, entries, labels[one] if one else [()] * len(entries), own=source.rows.table,
                            used=used, classes=classes, notes=notes)  # fmt: skip
    groups = {column.removesuffix("_class"): rows for column, rows in labels.items()}
    every = tuple(f"{column.removesuffix('_class')}={name}" for column in wanted for name in ordered[column])
    classes = Classes(every, {}, str(source.path))
    return make_listing(
        source, entries, groups, own=source.rows.table, used=used, several=True, classes=classes, notes=notes
    )


def _epic_names(source: Source, column: str) -> dict[int, str]:
    """Names of verbs or nouns by number, from the file with id and key beside the list."""
    path = source.beside(f"EPIC_*_{column}es.csv", f"EPIC_*_{column}es_v2.csv")
    if path is None:
        return {}
    rows = list(read_text(path).rows())
    header = [name.strip() for name in rows[0][1]] if rows else []
    if not {"id", "key"} <= set(header):
        raise ValueError(f"{path}, line 1: expected columns id and key, got {', '.join(header)}")
    names: dict[int, str] = {}
    for line, row in rows[1:]:
        values = dict(zip(header, row, strict=False))
        number, name = whole_number(values.get("id", "")), values.get("key", "").strip()
        if number is None or number < 0 or number in names or not name:
            raise ValueError(f"{path}, line {line}: expected another id and its key, got {', '.join(row[:2])}")
        names[number] = name
    return names


def fits_charades(source: Source) -> bool:
    """Whether the columns are those of Charades."""
    return set(source.columns) >= _CHARADES | {"script"} and not has_paths(source.columns)


def read_charades(source: Source) -> Listing:
    """Read Charades_v1_train.csv: a video in each row, with the classes of all its actions, or none.

    The times of the actions stay in the column ``actions``. ``charades_segments`` makes a sample of each action.
    The classes are c000 to c156, or their names if Charades_v1_classes.txt is beside the list.

    Raises:
        ValueError: an action is something else than ``c092 11.90 21.20``.
    """
    return _charades(source, False)


def read_charades_segments(source: Source) -> Listing:
    """Read Charades_v1_train.csv: a sample for each action, from its start to its end, with its class.

    Raises:
        ValueError: as ``read_charades``.
    """
    return _charades(source, True)


def _charades(source, in_segments):
    if not fits_charades(source):
        source.refuse(1, "columns id, script, actions, ...", ", ".join(source.columns))
    names = _charades_names(source)
    entries: list[Entry] = []
    labels: LabelRows = []
    kept: list[int] = []
    empty = 0
    for i, (place, row) in enumerate(each_row(source.rows, sorted(_CHARADES))):
        found = source.videos.find([row["id"]])
        actions = [_action(place, text) for text in row["actions"].split(";") if text.strip()]
        empty += not actions
        if in_segments:
            for name, start, end in actions:
                entries.append(entry_of(found, place, start, end))
                labels.append((names[name],))
                kept.append(i)
        else:
            entries.append(entry_of(found, place))
            labels.append(tuple(dict.fromkeys(names[name] for name, _, _ in actions)))
            kept.append(i)
    told = "which have no sample" if in_segments else "which have no label"
    notes = [f"videos without actions, {told}: {empty}"]
    classes = Classes(tuple(names.values()), {}, str(source.path))
    own = source.rows.table.take(pa.array(kept, pa.int64()))
    return make_listing(
        source, entries, labels, own=own, used=(*_CHARADES,), several=not in_segments, classes=classes, notes=notes
    )


def _action(place, text):
    found = _ACTION.fullmatch(text.strip())
    if found is None or int(found[1][1:]) >= _NUM_CHARADES:
        raise ValueError(f"{place}: actions must be CLASS START END;..., as c092 11.90 21.20, got {text.strip()!r}")
    return found[1], seconds(place, "actions", found[2]), seconds(place, "actions", found[3])


def _charades_names(source: Source) -> dict[str, str]:
    """The name of each class by its code, in the order of the codes."""
    codes = [f"c{i:03d}" for i in range(_NUM_CHARADES)]
    path = source.beside("Charades_v1_classes.txt")
    if path is None:
        return {code: code for code in codes}
    names = dict(line.split(None, 1) for _, line in read_text(path).lines if len(line.split(None, 1)) == 2)
    if sorted(names) != codes:
        raise ValueError(
            f"{path}: expected a line for each of c000 to c156, got {len(names)}: {name_some(sorted(names))}"
        )
    if len(set(names.values())) < len(names):
        return {code: f"{code} {names[code].strip()}" for code in codes}
    return {code: names[code].strip() for code in codes}
