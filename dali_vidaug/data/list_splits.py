"""Lists of UCF101 and HMDB51: which of a data set's videos are for training and for testing."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from dali_vidaug.data.entry import Classes, Entry, Listing, name_some
from dali_vidaug.data.labels import is_missing, whole_number
from dali_vidaug.data.list_source import LabelRows, Source, entry_of, make_listing, path_entry
from dali_vidaug.data.list_text import read_text

_UCF = re.compile(r"((?:.*/)?([^/\s]+)/v_[^/\s]+_g\d+_c\d+(?:\.\w+)?)(?:(?:\s+|\s*[,;]\s*)(\d+))?")
_HMDB_FILE = re.compile(r"(.+)_test_split([123])\.txt")
_HMDB = re.compile(r"(.+\.\w{2,5})\s+([012])")
_HMDB_USE = {"1": "train", "2": "test"}


def _ucf_lines(source: Source) -> list[re.Match[str] | None]:
    return [_UCF.fullmatch(line) for _, line in source.lines]


def fits_ucf101(source: Source) -> bool:
    """Whether all lines are like those of UCF101, whose classes are counted from 1."""
    found = _ucf_lines(source) if source.lines and _UCF.fullmatch(source.lines[0][1]) else []
    if not found or not all(found):
        return False
    numbers = {match[2]: int(match[3]) for match in found if match and match[3]}
    if 0 in numbers.values():
        return False
    classes = _read_class_ind(source)
    return not (classes and numbers and all(classes.get(name, 0) == number + 1 for name, number in numbers.items()))


def is_surely_ucf101(source: Source) -> bool:
    """Whether it fits, and there is a classInd.txt that agrees."""
    return fits_ucf101(source) and _read_class_ind(source) is not None


def _read_class_ind(source: Source) -> dict[str, int] | None:
    """The number of each class by classInd.txt: from 1 on."""
    path = source.beside("classInd.txt")
    if path is None:
        return None
    numbers = {}
    for line, text in read_text(path).lines:
        parts = text.split(None, 1)
        if len(parts) != 2 or not parts[0].isdecimal():
            raise ValueError(f"{path}, line {line}: expected NUMBER CLASS, got {text!r}")
        numbers[parts[1]] = int(parts[0])
    if sorted(numbers.values()) != list(range(1, len(numbers) + 1)):
        raise ValueError(
            f"{path}: expected classes that are numbered from 1 without gaps, got {sorted(numbers.values())}"
        )
    return numbers


def refuse_numbers_from_1(source: Source, labels: Sequence[str]) -> None:
    """Refuse numbers that may be those of classInd.txt beside the list, and may be indices.

    Raises:
        ValueError: none is 0 or above the number of classes, and folders do not tell that they count from 0.
    """
    values = [whole_number(label) for label in labels if not is_missing(label)]
    numbers = [value for value in values if value is not None]
    classes = _read_class_ind(source) if numbers and not source.options.classes_given else None
    if classes is None or min(numbers) < 1 or max(numbers) > len(classes) or len(numbers) < len(values):
        return
    if all(match and classes.get(match[2], 0) == int(match[3] or 0) + 1 for match in _ucf_lines(source)):
        return
    name = next(name for name, number in classes.items() if number == numbers[0])
    raise ValueError(
        f"{source.path}: label {numbers[0]} may be number {numbers[0]} of classInd.txt beside it, which begins at 1 "
        f"({name!r}), or index {numbers[0]}: classes= with that file, or format='path_label', says which"
    )


def read_ucf101(source: Source) -> Listing:
    """Read trainlist01.txt or testlist01.txt of UCF101, with classInd.txt beside it.

    A path is taken as it is written if there is such a file; else the video is looked for below the root. The class of
    a video is its folder; the number after it, which counts from 1, must agree with that.

    Raises:
        ValueError: classInd.txt is missing, or a line contradicts it.
    """
    classes = _read_class_ind(source)
    if classes is None:
        raise ValueError(
            f"{source.path} is a list of UCF101, whose numbers begin at 1: expected classInd.txt beside it. If its "
            "numbers begin at 0, format='path_label' reads it"
        )
    entries: list[Entry] = []
    labels: LabelRows = []
    for (number, line), found in zip(source.lines, _ucf_lines(source), strict=True):
        if found is None:
            source.refuse(number, "CLASS/v_CLASS_gNN_cNN.avi[ NUMBER]", line)
        path, name, index = found.groups()
        if name not in classes:
            source.refuse(number, "a class of classInd.txt as the video's folder", name)
        if index is not None and int(index) != classes[name]:
            source.refuse(number, f"{classes[name]}, the number of {name} in classInd.txt", int(index))
        if os.path.isfile(source.root / path):  # noqa: PTH113 (names may be too long)
            entries.append(path_entry(path, source.place(number)))
        else:
            entries.append(entry_of(source.videos.find([path.rsplit("/", 1)[-1]], name, True), source.place(number)))
        labels.append((name,))
    names = tuple(sorted(classes, key=lambda name: classes[name]))
    notes = [f"classes in the order of classInd.txt: {len(names)}; the class of a video is its folder"]
    return make_listing(source, entries, labels, classes=Classes(names, {}, "classInd.txt"), notes=notes)


def is_hmdb51(source: Source) -> bool:
    """Whether it is a file of HMDB51's splits, or a folder of them."""
    if source.path.is_dir():
        return any(map(_has_marks, sorted(source.path.glob("*_test_split?.txt"))))
    return _has_marks(source.path, source.lines)


def _has_marks(path: Path, lines: Sequence[tuple[int, str]] | None = None) -> bool:
    """Whether a file is named as one of HMDB51's splits, and has lines NAME.avi 0, 1 or 2."""
    if not _HMDB_FILE.fullmatch(path.name):
        return False
    try:
        lines = read_text(path).lines if lines is None else lines
    except (OSError, ValueError):
        return False
    return bool(lines) and all(_HMDB.fullmatch(line) for _, line in lines)


def read_hmdb51(source: Source) -> Listing:
    """Read the splits of HMDB51: a folder of CLASS_test_splitN.txt, or one of these.

    1 is training, 2 testing, 0 unused.

    Raises:
        ValueError: ``split`` is not train1, test1, ... test3, or a line has something else.
    """
    folder = source.path if source.path.is_dir() else source.path.parent
    files = {(m[1], m[2]): path for path in sorted(folder.iterdir()) if (m := _HMDB_FILE.fullmatch(path.name))}
    wanted = source.option("split")
    match = re.fullmatch(r"(train|test)([123])", wanted or "")
    own = _HMDB_FILE.fullmatch(source.path.name)
    if match is None or not files or (own and own[2] != match[2]):
        here = own[2] if own else "1, 2 or 3"
        folders = "; format='folder' reads the folders beside these files as classes" if own is None else ""
        raise ValueError(
            f"{source.path}: the splits of HMDB51 need split='train1', 'test1', ...: the part, and which split "
            f"({here}); got {wanted!r}{folders}"
        )
    use, split = match.groups()
    names = tuple(sorted({name for name, _ in files}))
    lacking = [name for name in names if (name, split) not in files]
    if lacking:
        raise ValueError(f"{folder}: no file CLASS_test_split{split}.txt of {name_some(lacking)}")
    entries: list[Entry] = []
    labels: LabelRows = []
    unused = 0
    for name in names if own is None else (own[1],):
        path = files[name, split]
        for number, line in read_text(path).lines:
            found = _HMDB.fullmatch(line)
            if found is None:
                raise ValueError(f"{path}, line {number}: expected NAME.avi 0, 1 or 2, got {line!r}")
            unused += found[2] == "0"
            if _HMDB_USE.get(found[2]) == use:
                entries.append(entry_of(source.videos.find([found[1]], name, True), f"{path}, line {number}"))
                labels.append((name,))
    notes = [
        f"classes by the names of files, sorted: {len(names)}",
        f"videos marked 0, which this split leaves out: {unused}",
    ]
    classes = Classes(names, {}, "the names of files")
    return make_listing(source, entries, labels, classes=classes, notes=notes)
