"""Lists of Kinetics and of Moments in Time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dali_vidaug.data.classes import read_given_classes
from dali_vidaug.data.entry import Classes, Entry, Listing, plural
from dali_vidaug.data.folder import is_video_name
from dali_vidaug.data.header import KINETICS, Header, plain
from dali_vidaug.data.labels import is_missing, whole_number
from dali_vidaug.data.list_source import LabelRows, Source, each_row, entry_of, has_paths, make_listing, seconds
from dali_vidaug.data.list_text import read_text
from dali_vidaug.data.lists import read_csv, suspect_columns

_SPLIT_WORD = re.compile(r"(train|training|val|validate|validation|test)(?=[^a-z]|$)", re.IGNORECASE)


def fits_kinetics(source: Source) -> bool:
    """Whether the columns are those of Kinetics' annotations, without one of paths."""
    return {*_columns(source.columns)} >= {*KINETICS} and not has_paths(source.columns)


def read_kinetics(source: Source) -> Listing:
    """Read ``label,youtube_id,time_start,time_end[,split,...]``, which name videos by ids.

    ``ID_SSSSSS_EEEEEE.*`` holds its part alone; of ``ID.*``, in the root or in a folder named as the label, the
    duration tells. The classes are the labels of all splits, sorted.

    Raises:
        ValueError: a row has no id, or no times.
    """
    names = _columns(source.columns, source.option("label_columns"))
    if not {*names} >= {*KINETICS}:
        source.refuse(1, f"columns label, {', '.join(KINETICS)}", ", ".join(source.columns))
    rows = source.rows
    if not len(rows.table):
        raise ValueError(f"{source.path} has a header, but no rows")
    label, used = names.get("label"), (*names.values(),)
    header = Header(None, (label,) if label else (), names["time_start"], names["time_end"], False, True)
    found = [
        (place, {known: row[name] for known, name in names.items()}) for place, row in each_row(rows, list(set(used)))
    ]
    chosen, warnings = source.choose_split([row.get("split") for _, row in found])
    kept = [i for i, take in enumerate(chosen) if take]
    entries = [_entry(source, *found[i]) for i in kept]
    labels = [() if is_missing(label) else (label,) for label in (row.get("label", "") for _, row in found)]
    classes, notes = _all_classes(source, {label for row in labels for label in row})
    own = rows.table.drop_columns([label]) if label else rows.table
    return make_listing(
        source, entries, [labels[i] for i in kept], own=own.take(kept), used=used, classes=classes,
        warnings=[*warnings, *suspect_columns(header, rows.table)],
        notes=[f"columns used: {', '.join(used)}", *notes],
    )  # fmt: skip


def _columns(columns: Sequence[str], labels: Sequence[str] | None = None) -> dict[str, str]:
    """The columns that are used, by the names that Kinetics gives them; capitals, spaces and signs do not matter.

    Args:
        columns: those of the list.
        labels: as ``label_columns`` of ``scan``; one.

    Raises:
        ValueError: ``labels`` are not one of the columns.
    """
    if labels and (len(labels) > 1 or labels[0] not in columns):
        raise ValueError(f"scan: label_columns must be one of {', '.join(columns)}, got {', '.join(labels)}")
    found = {}
    for known in ("label", *KINETICS, "split"):
        alike = [name for name in columns if plain(name).replace("_", "") == known.replace("_", "")]
        if alike:
            found[known] = known if known in alike else alike[0]
    return found | ({"label": labels[0]} if labels else {})


def _entry(source, place, row):
    """Find the file of a row: ID_SSSSSS_EEEEEE.*, or ID.* in the root or a folder of the label."""
    label, video = row.get("label") or None, row["youtube_id"]
    if not video:
        raise ValueError(f"{place}: youtube_id is empty")
    try:
        start, end = (seconds(place, name, row[name]) or 0.0 for name in KINETICS[1:])
    except ValueError as error:
        raise ValueError(f"{place}: time_start and time_end must be seconds ({error})") from error
    stem = f"{video}_{int(start):06d}_{int(end):06d}"
    trimmed = source.videos.find([stem], label)
    if trimmed.error is None:
        return entry_of(trimmed, place)
    # Elsewhere ID.* may hold another part, of another class.
    whole = source.videos.find([video], label, True) if label else source.videos.find([video])
    inside = "/" not in whole.path or not label or source.videos.has_folder(label)
    if whole.error is None and inside:
        return Entry(whole.path, place, start, end, may_be_cut=True)
    lost = f"not found as {stem}.* or {video}.* in {source.root}"
    return Entry(f"{stem}.mp4", place, error=lost if "not found" in trimmed.error else trimmed.error)


def _all_classes(source: Source, names: set[str]) -> tuple[Classes | None, list[str]]:
    """The labels of this file and of those of the other splits beside it, sorted; None if labels are numbers."""
    if source.options.classes_given or any(whole_number(name) is not None for name in names):
        return None, []
    beside, wanted = _other_splits(source.path), source.options.label_columns
    for path in beside:
        rows = read_csv(read_text(path, source.options.encoding))
        column = wanted[0] if wanted else _columns(rows.table.column_names)["label"]
        if column not in rows.table.column_names:
            continue
        names |= {row[column] for _, row in each_row(rows, [column]) if not is_missing(row[column])}
    if not names:
        return None, []
    others = f" and of {', '.join(path.name for path in beside)}" if beside else ""
    told = f"classes: the {plural(len(names), 'label')} of this file{others}, sorted"
    return Classes(tuple(sorted(names)), {}, str(source.path)), [told]


def _other_splits(path: Path) -> list[Path]:
    """Files of Kinetics beside a file whose names differ from its own by the word for the split alone."""
    own = _SPLIT_WORD.sub("*", path.name)
    if own == path.name or path.suffix.lower() != ".csv":
        return []
    alike = [
        other for other in sorted(path.parent.iterdir())
        if other.name != path.name and other.is_file() and _SPLIT_WORD.sub("*", other.name) == own
    ]  # fmt: skip
    return [
        other
        for other in alike
        if {"label", *KINETICS} <= {*_columns(Source(other, other.parent, text=read_text(other)).columns)}
    ]


def fits_moments(source: Source) -> bool:
    """Whether rows are ``class/file.mp4,class,agree,disagree``."""
    row = [value.strip() for value in source.text.first_row()] if source.text else []
    return len(row) == 4 and _is_moments(row)


def _is_moments(row: list[str]) -> bool:
    folder, _, _ = row[0].rpartition("/")
    numbers = all(whole_number(value) is not None for value in row[2:])
    return is_video_name(row[0]) and folder.rsplit("/", 1)[-1] == row[1] and numbers


def read_moments(source: Source) -> Listing:
    """Read trainingSet.csv or validationSet.csv of Moments in Time, with moments_categories.txt beside it.

    Raises:
        ValueError: a row has something else, or moments_categories.txt is missing.
    """
    entries: list[Entry] = []
    labels: LabelRows = []
    votes: list[list[str]] = []
    for line, values in source.text.rows() if source.text else ():
        row = [value.strip() for value in values]
        if len(row) != 4 or not _is_moments(row):
            source.refuse(line, "CLASS/FILE,CLASS,AGREE,DISAGREE", ",".join(row))
        entries.append(entry_of(source.videos.find([row[0]], row[1], True), source.place(line)))
        labels.append((row[1],))
        votes.append(row[2:])
    path = source.beside("moments_categories.txt")
    if path is None and not source.options.classes_given:
        raise ValueError(
            f"{source.path}: the classes are numbered in moments_categories.txt, which is not beside it; classes= "
            "gives them"
        )
    classes = None if path is None else read_given_classes(path)
    own = {"agree": [row[0] for row in votes], "disagree": [row[1] for row in votes]}
    notes = [f"classes of {path}"] if path else []
    return make_listing(source, entries, labels, own=own, classes=classes, notes=notes)
