"""Lists without a header: a path in each line, and labels or numbers after it."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from dali_vidaug.data.classes import read_given_classes
from dali_vidaug.data.entry import Entry, Listing
from dali_vidaug.data.labels import is_missing, is_number, is_number_or_missing, whole_number
from dali_vidaug.data.list_lines import Line, are_numbers, fields_of, read_lines, separator_of
from dali_vidaug.data.list_source import LabelRows, Source, make_listing, path_entry
from dali_vidaug.data.list_splits import is_hmdb51, is_surely_ucf101, refuse_numbers_from_1
from dali_vidaug.data.names import restore_name

_FEW = 0.05  # of the lines
_FIRST = 20  # lines whose files are looked for, to find out whether labels are before paths
_LIST = re.compile(r"""[\[(](\s*|\s*["'\d-].*|.*,.*)[\])]""")


def _categories(source: Source) -> Path | None:
    """The file with the numbers of Moments' classes, beside a list whose labels are numbers."""
    rows = fields_of(source)
    if not any(rows) or not all(map(are_numbers, rows)):
        return None
    return source.beside("moments_categories.txt", "mmit_categories.txt")


def _is_special(source: Source) -> bool:
    """Whether the list is of a data set whose lists look like any other list of paths."""
    return is_hmdb51(source) or is_surely_ucf101(source) or fits_multi_moments(source)


def fits_path_label(source: Source) -> bool:
    """Whether lines have a path and at most one label, but for a few, which may be mistakes."""
    rows = fields_of(source)
    if not rows or _is_special(source):
        return False
    in_words = separator_of(source) == " "
    more = sum(len(row) > 1 and not (in_words and not are_numbers(row)) for row in rows)
    if more > _FEW * len(rows):
        return False
    if in_words and source.options.multi_label is None:
        _refuse_numbers_in_labels(source)
    _refuse_mixture(source)
    refuse_numbers_from_1(source, [row[0] for row in rows if row])
    return True


def _refuse_numbers_in_labels(source: Source) -> None:
    """Refuse labels of several words some of which are numbers: times, or labels of other kinds.

    Raises:
        ValueError: there is one.
    """
    odd = {row for row in set(fields_of(source)) if len(row) > 1 and not are_numbers(row) and any(map(is_number, row))}
    for line in read_lines(source, "PATH LABEL") if odd else ():
        if line.fields in odd:
            raise ValueError(
                f"{source.place(line.number)}: after the path are several values, some of them numbers, got "
                f"{' '.join((line.path, *line.fields))!r}. If they are columns, put a header such as "
                "path,label,start,end above them and commas between them; if they are one label, quote it, or "
                "format='path_label' reads all labels so"
            )


def _refuse_mixture(source: Source) -> None:
    """Refuse labels that are numbers and words, one of which may be a mistake.

    Raises:
        ValueError: they are.
    """
    if source.options.classes_given or source.options.multi_label is not None:
        return
    rows = {row: not all(map(is_number, row)) for row in set(fields_of(source)) if row}
    if all(rows.values()) or all(is_number_or_missing(value) for row in rows for value in row):
        return
    _refuse_mixed_lines(source, list(read_lines(source, "PATH LABEL")), "format='path_label' takes all as words")


def _refuse_mixed_lines(source: Source, lines: list[Line], hint: str) -> None:
    """Refuse lines some of which have numbers after the path, and some words.

    Raises:
        ValueError: they do.
    """
    lines = [line for line in lines if line.fields]
    numbers = [line for line in lines if all(map(is_number, line.fields))]
    words = [line for line in lines if not all(map(is_number_or_missing, line.fields))]
    words = [line for line in words if not all(map(is_number, line.fields))]
    if numbers and words:
        odd, other = (words[0], numbers[0]) if len(words) <= len(numbers) else (numbers[0], words[0])
        told = f"a {'number' if odd is words[0] else 'word'} as label, as in line {other.number}"
        source.refuse(odd.number, f"{told} ({' '.join(other.fields)}); {hint}", " ".join(odd.fields))


def _refuse_label_first(source: Source, lines: list[Line]) -> None:
    """Refuse lines of which no path is there, but what is after its first separator is.

    Raises:
        ValueError: they are such.
    """
    some = lines[:_FIRST]
    if any(line.fields or _is_there(source, line.path) for line in some):
        return
    for mark in ("\t", ",", ";", "|", " "):
        tails = [line.path.partition(mark)[2].lstrip(" *") for line in some]
        if all(tail and _is_there(source, tail) for tail in tails):
            told = f"the path first; there is a file {tails[0]}, but none {some[0].path}: is the label first?"
            source.refuse(some[0].number, told, some[0].path)


def _is_there(source: Source, name: str) -> bool:
    return os.path.isfile(source.root / restore_name(name))  # noqa: PTH113 (names may be too long)


def read_path_label(source: Source) -> Listing:
    """Read ``path label``, with any separator, as SlowFast, TimeSformer, VideoMAE, V-JEPA and MMAction2 have it.

    A path may have spaces, and a label too if nothing but spaces separates them. Lines that all lack a label have none.

    Raises:
        ValueError: a line has more than a path and a label, or some lines have a label and others do not.
    """
    expected, multi_label = "PATH LABEL", source.option("multi_label")
    lines = list(read_lines(source, expected))
    _refuse_label_first(source, lines)
    if not separator_of(source) and multi_label is None and not source.options.classes_given:
        _refuse_mixed_lines(source, lines, "if the line is no path and label, delete it; else classes= says it")
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
        label = " ".join(line.fields)
        if _LIST.fullmatch(label) and multi_label is None:
            source.refuse(
                line.number, "a label, not a list written as text: write PATH 1 3, or scan paths with labels=", label
            )
        entries.append(path_entry(line.path, source.place(line.number)))
        labels.append(label)
    parts = [[label] if multi_label is None else label.split(multi_label) for label in labels]
    found = [tuple(dict.fromkeys(part.strip() for part in row if not is_missing(part.strip()))) for row in parts]
    warnings = []
    if multi_label is not None and not any(multi_label in label for label in labels):
        warnings.append(f"multi_label={multi_label!r} is in no label: no sample has several from one line")
    path = _categories(source)
    classes, notes = (read_given_classes(path), [f"classes of {path}"]) if path else (None, [])
    several = multi_label is not None
    return make_listing(source, entries, found, several=several, classes=classes, warnings=warnings, notes=notes)


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
            source.refuse(
                line.number, "a total below 0, which means a video; format='frames' reads folders of images", total
            )
        if start not in (0, -1):
            source.refuse(line.number, "a start of 0 for a whole video", start)
        entries.append(path_entry(line.path, source.place(line.number)))
    return make_listing(source, entries, [()] * len(entries))


def fits_multi_moments(source: Source) -> bool:
    """Whether lines are as those of Multi-Moments, some with several labels, with the file of its classes beside."""
    several = max(map(len, fields_of(source)), default=0) > 1 or source.options.format == "multi_moments"
    return several and separator_of(source) == "," and _categories(source) is not None


def fits_multi_label(source: Source) -> bool:
    """Whether lines have a path and labels that are numbers, more than one in some, and not as many in each.

    Raises:
        ValueError: they may as well be columns: three or more in nearly each line, or one twice in a line.
    """
    rows = _numbers_after(source)
    if not rows or any(value < 0 for row in rows for value in row):
        return False
    twice = next((i for i, row in enumerate(rows) if len(set(row)) < len(row)), None)
    count, alike = Counter(map(len, rows)).most_common(1)[0]
    in_turn = set(map(len, rows)) == {2, 3}  # start and end, and a label in some
    if in_turn or (count > 2 and alike >= (1 - _FEW) * len(rows)) or (twice is not None and max(map(len, rows)) > 2):
        line = list(read_lines(source, "PATH LABEL LABEL ..."))[twice or 0]
        why = f"{alike} of {len(rows)} lines have {count}" if twice is None else "one is there twice"
        why = "some lines have two, the others three" if in_turn and alike < (1 - _FEW) * len(rows) else why
        raise ValueError(
            f"{source.place(line.number)}: the numbers after the path may be labels, or start, end and label, or a row "
            f"of zeros and ones ({why}), got {' '.join((line.path, *line.fields))!r}. Put a header such as "
            "path,start_frame,end_frame,label above them, with commas; if each number is a label, format='multi_label' "
            "reads them"
        )
    return True


def _refuse_one_hot(source: Source, labels: LabelRows) -> None:
    """Refuse rows of zeros and ones, one for each class, which are no labels.

    Raises:
        ValueError: all rows are.
    """
    if len(labels[0]) > 1 and len(set(map(len, labels))) == 1 and all(set(row) <= {"0", "1"} for row in labels):
        source.refuse(
            source.lines[0][0], "numbers of classes. These look one-hot, a 0 or 1 for each class: scan paths with "
            "labels=[np.flatnonzero(row) for row in rows]", labels[0],
        )  # fmt: skip


def read_multi_label(source: Source) -> Listing:
    """Read ``path label label ...`` of MMAction2 and Multi-Moments: each number is a label. A line may have none.

    A file with ``class,number`` beside it, as Multi-Moments has it, names the classes.

    Raises:
        ValueError: a label is not a whole number, or is twice in a line, or lines are rows of zeros and ones.
    """
    entries: list[Entry] = []
    labels: LabelRows = []
    for line in read_lines(source, "PATH LABEL LABEL ..."):
        if not are_numbers(line.fields) or any((whole_number(value) or 0) < 0 for value in line.fields):
            source.refuse(line.number, "PATH and labels that are whole numbers from 0", (line.path, *line.fields))
        entries.append(path_entry(line.path, source.place(line.number)))
        labels.append(line.fields)
    path = _categories(source)
    if path is None:
        _refuse_one_hot(source, labels)
        for (number, _), row in zip(source.lines, labels, strict=True):
            twice = [value for value in row if row.count(value) > 1]
            if twice:
                source.refuse(number, f"each label once in a line; {twice[0]} is there twice", row)
    labels = [tuple(dict.fromkeys(row)) for row in labels]
    classes = None if path is None else read_given_classes(path)
    told = (
        f"classes of {path}" if path else "the largest label tells how many classes there are; classes=range(n) says it"
    )
    return make_listing(source, entries, labels, several=True, classes=classes, notes=[told])
