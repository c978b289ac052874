"""Lists without a header: a path in each line, and labels or numbers after it."""

from __future__ import annotations

from pathlib import Path

from dali_vidaug.data.classes import read_given_classes
from dali_vidaug.data.entry import Entry, Listing
from dali_vidaug.data.labels import is_missing, whole_number
from dali_vidaug.data.list_lines import are_numbers, fields_of, read_lines, separator_of
from dali_vidaug.data.list_source import LabelRows, Source, make_listing, path_entry
from dali_vidaug.data.list_splits import is_hmdb51, is_surely_ucf101

_FEW = 0.05  # of the lines


def _categories(source: Source) -> Path | None:
    """The file with the numbers of Multi-Moments' classes, beside a list that is separated as its lists are."""
    if separator_of(source) != "," or not all(map(are_numbers, fields_of(source))):
        return None
    return source.beside("moments_categories.txt", "mmit_categories.txt")


def _is_special(source: Source) -> bool:
    """Whether the list is of a data set whose lists look like any other list of paths."""
    return is_hmdb51(source) or is_surely_ucf101(source) or _categories(source) is not None


def fits_path_label(source: Source) -> bool:
    """Whether lines have a path and at most one label, but for a few, which may be mistakes."""
    rows = fields_of(source)
    if not rows or _is_special(source):
        return False
    in_words = separator_of(source) == " "
    more = sum(len(row) > 1 and not (in_words and not are_numbers(row)) for row in rows)
    return more <= _FEW * len(rows)


def read_path_label(source: Source) -> Listing:
    """Read ``path label``, with any separator, as SlowFast, TimeSformer, VideoMAE, V-JEPA and MMAction2 have it.

    A path may have spaces, and a label too if nothing but spaces separates them. Lines that all lack a label have none.

    Raises:
        ValueError: a line has more than a path and a label, or some lines have a label and others do not.
    """
    expected, multi_label = "PATH LABEL", source.option("multi_label")
    lines = list(read_lines(source, expected))
    in_words = separator_of(source) in ("", " ")
    entries: list[Entry] = []
    labels: list[str] = []
    for line in lines:
        if bool(line.fields) != bool(lines[0].fields):
            has = "a label" if lines[0].fields else "no label"
            source.refuse(line.number, f"{expected} in each line or in none; line {lines[0].number} has {has}",
                          " ".join((line.path, *line.fields)))  # fmt: skip
        several = len(line.fields) > 1 and (not in_words or (multi_label is None and are_numbers(line.fields)))
        if several:
            source.refuse(line.number, f"{expected}, one label", " ".join((line.path, *line.fields)))
        entries.append(path_entry(line.path, source.place(line.number)))
        labels.append(" ".join(line.fields))
    parts = [[label] if multi_label is None else label.split(multi_label) for label in labels]
    found = [tuple(dict.fromkeys(part.strip() for part in row if not is_missing(part.strip()))) for row in parts]
    warnings = [] if any(found) else ["no line has a label: samples are unlabelled"]
    return make_listing(source, entries, found, several=multi_label is not None, warnings=warnings)


def _numbers_after(source: Source) -> list[list[int]]:
    """The numbers after the path in each line, more than one in some; none if it is no such list."""
    rows = fields_of(source)
    if not all(map(are_numbers, rows)) or max(map(len, rows), default=0) < 2 or _is_special(source):
        return []
    return [[whole_number(value) or 0 for value in row] for row in rows]


def fits_slowfast(source: Source) -> bool:
    """Whether lines have a path and two numbers, the second of which may be a label."""
    rows = _numbers_after(source)
    return bool(rows) and all(len(row) == 2 and row[1] >= 0 for row in rows)


def read_slowfast(source: Source) -> Listing:
    """Read ``path number label``, of which SlowFast uses the path and the label.

    Raises:
        ValueError: a line has something else.
    """
    entries: list[Entry] = []
    labels: LabelRows = []
    middle: list[str] = []
    for line in read_lines(source, "PATH NUMBER LABEL"):
        if len(line.fields) != 2 or not are_numbers(line.fields):
            source.refuse(line.number, "PATH NUMBER LABEL", (line.path, *line.fields))
        entries.append(path_entry(line.path, source.place(line.number)))
        middle.append(line.fields[0])
        labels.append(() if is_missing(line.fields[1]) else (line.fields[1],))
    notes = ["the number between path and label is kept as the column number, not used, as in SlowFast"]
    return make_listing(source, entries, labels, own={"number": middle}, notes=notes)


def fits_videomae(source: Source) -> bool:
    """Whether lines have a path and two numbers, the second of which is negative, as that of a video must be."""
    rows = _numbers_after(source)
    return bool(rows) and all(len(row) == 2 and row[1] < 0 for row in rows)


def read_videomae(source: Source) -> Listing:
    """Read ``path start total`` of VideoMAE V2's pre-training: a negative total means a video, which is used whole.

    Raises:
        ValueError: a line has something else, or names a folder of frames.
    """
    entries: list[Entry] = []
    for line in read_lines(source, "PATH START TOTAL"):
        if len(line.fields) != 2 or not are_numbers(line.fields):
            source.refuse(line.number, "PATH START TOTAL", (line.path, *line.fields))
        start, total = (whole_number(value) or 0 for value in line.fields)
        if total >= 0:
            source.refuse(line.number, "a total below 0, which means a video; folders of frames are not read", total)
        if start not in (0, -1):
            source.refuse(line.number, "a start of 0 for a whole video", start)
        entries.append(path_entry(line.path, source.place(line.number)))
    return make_listing(source, entries, [()] * len(entries), warnings=["the list has no labels"])


def fits_multi_moments(source: Source) -> bool:
    """Whether lines are as those of Multi-Moments, with the file of its classes beside them."""
    return _categories(source) is not None


def fits_multi_label(source: Source) -> bool:
    """Whether lines have a path and labels that are numbers, more than one in some."""
    rows = _numbers_after(source)
    return bool(rows) and all(value >= 0 for row in rows for value in row)


def read_multi_label(source: Source) -> Listing:
    """Read ``path label label ...`` of MMAction2 and Multi-Moments: each number is a label. A line may have none.

    A file with ``class,number`` beside it, as Multi-Moments has it, names the classes.

    Raises:
        ValueError: a label is not a whole number.
    """
    entries: list[Entry] = []
    labels: LabelRows = []
    for line in read_lines(source, "PATH LABEL LABEL ..."):
        if not are_numbers(line.fields) or any((whole_number(value) or 0) < 0 for value in line.fields):
            source.refuse(line.number, "PATH and labels that are whole numbers from 0", (line.path, *line.fields))
        entries.append(path_entry(line.path, source.place(line.number)))
        labels.append(tuple(dict.fromkeys(line.fields)))
    path = _categories(source)
    classes = None if path is None else read_given_classes(path)
    told = (
        f"classes of {path}" if path else "the largest label tells how many classes there are; classes=range(n) says it"
    )
    return make_listing(source, entries, labels, several=True, classes=classes, notes=[told])
