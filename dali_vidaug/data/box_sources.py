"""Boxes as ``scan`` is given them: files, folders and tables, each in the format that it is found to have."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dali_vidaug.data.box_coco import read_coco
from dali_vidaug.data.box_cvat import read_cvat
from dali_vidaug.data.box_file import BoxFile
from dali_vidaug.data.box_table import from_table, read_table
from dali_vidaug.data.box_text import read_ava, read_mot
from dali_vidaug.data.entry import name_some
from dali_vidaug.media.first_bytes import what_file_is

FORMATS: dict[str, Callable[[Path], BoxFile]] = {
    "ava": read_ava, "cvat": read_cvat, "mot": read_mot, "coco": read_coco, "table": read_table,
}  # fmt: skip
_SUFFIXES = (".csv", ".txt", ".xml", ".json", ".parquet", ".pq")
_BESIDE = ("labels.txt", "seqinfo.ini")  # files of a folder that are not boxes
_MOST_CLASSES = 1 << 20
_LOOKED_AT = 1 << 16  # bytes of a file


def read_boxes(boxes: Any, form: str | None) -> tuple[list[BoxFile], list[str]]:
    """Read all boxes that ``scan`` was given, and say what was passed over.

    Args:
        boxes: a file, a folder of files, a table, or a list of these.
        form: one of ``FORMATS``; None: each file's is found out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file cannot be read.
    """
    if form is not None and form not in FORMATS:
        raise ValueError(f"scan: boxes_format must be {', '.join(FORMATS)}, or None to find out, got {form!r}")
    several = isinstance(boxes, (list, tuple)) and all(isinstance(one, (str, os.PathLike)) for one in boxes)
    if several and not boxes:
        raise ValueError("scan: boxes must be files or a table, got an empty list")
    files, notes = [], []
    for one in boxes if several else [boxes]:
        if not isinstance(one, (str, os.PathLike)):
            if form not in (None, "table"):
                raise ValueError(f"scan: boxes_format is for files, got {form!r} for a table")
            files.append(from_table(one))
            continue
        path = Path(one)
        if not path.exists():
            raise FileNotFoundError(f"scan: boxes: no file or folder {path}")
        found, others = _files_of(path) if path.is_dir() else ([path], [])
        if others:
            notes.append(f"{path}: files that are not read for boxes: {len(others)} ({name_some(others)})")
        files += [FORMATS[form or recognise(file)](file) for file in found]
    return files, notes


def _files_of(folder: Path) -> tuple[list[Path], list[str]]:
    """The files of a folder that have boxes, and the names of the others."""
    nested = sorted(folder.glob("*/gt/gt.txt")) or sorted(folder.glob("gt/gt.txt"))
    nested = nested or sorted(folder.glob("*/gt.txt")) or sorted(folder.glob("*/annotations.xml"))
    if nested:
        owners = {file.relative_to(folder).parts[0] for file in nested}
        return nested, sorted(entry.name for entry in folder.iterdir() if entry.name not in owners)
    entries = sorted(entry for entry in folder.iterdir() if entry.is_file() and entry.name not in _BESIDE)
    files = [entry for entry in entries if entry.suffix.lower() in _SUFFIXES]
    if not files:
        raise ValueError(f"scan: boxes: no file in {folder} ends in {', '.join(_SUFFIXES)}, and none is */gt/gt.txt")
    return files, [entry.name for entry in entries if entry not in files]


def recognise(path: Path) -> str:
    """The format of a file of boxes, by what it begins with.

    Raises:
        ValueError: it is none of ``FORMATS``.
    """
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT)
    if head.startswith(b"PAR1"):
        return "table"
    text = head.decode("utf-8-sig", "replace").lstrip()
    if text[:1] in ("<", "{", "["):
        return "cvat" if text[0] == "<" else "coco"
    row = [value.strip() for value in text.partition("\n")[0].split(",")]
    if {"x1", "y1", "x2", "y2"} <= {value.strip('"').lower() for value in row}:
        return "table"
    numeric = [_is_number(value) for value in row]
    ava = len(row) in (6, 7, 8) and all(yes or not value for yes, value in zip(numeric[1:6], row[1:6], strict=True))
    if ava and (not numeric[0] or all(not value or 0 <= float(value) <= 1 for value in row[2:6])):
        return "ava"
    if 6 <= len(row) <= 10 and all(numeric):
        return "mot"
    what = what_file_is(path)
    what = (
        f"the file is {what}"
        if what not in (None, "text")
        else f"its first line is {text.partition(chr(10))[0][:100]!r}"
    )
    raise ValueError(
        f"scan: boxes: {path} is not AVA CSV, CVAT XML, MOT text, COCO JSON, or a table with path, frame, x1, y1, x2, "
        f"y2: {what}. boxes_format= says which it is"
    )


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def merge_labels(files: Iterable[BoxFile]) -> tuple[str, ...]:
    """The classes of all files: those that files declare, in their order, then all others, sorted.

    If the labels of a file that declares none are all whole numbers, they are the indices themselves.

    Raises:
        ValueError: such a number is too large, or it is not known of which names they are indices.
    """
    files = list(files)
    declared = dict.fromkeys(label for file in files if file.declared for label in file.labels)
    others, numbers = set(), {}
    for file in files:
        if file.declared or set(file.labels) <= set(declared):
            continue
        if all(label.isdecimal() for label in file.labels):
            numbers[file.path] = max(map(int, file.labels))
        else:
            others |= set(file.labels) - set(declared)
    path, largest = max(numbers.items(), key=lambda item: item[1], default=("", -1))
    if (declared or others) and numbers:
        ava = [file.path for file in files if file.path in numbers and file.format == "ava"]
        if ava or others or largest >= len(declared) or any(label.isdecimal() for label in declared):
            raise ValueError(
                f"boxes: labels of {(*ava, path)[0]} are numbers, up to {largest}, and others are names "
                f"({name_some([*declared, *sorted(others)], 10)}); box_classes= says which are which"
            )
    if declared or others:
        return (*declared, *sorted(others))
    if largest >= _MOST_CLASSES:
        raise ValueError(
            f"{path}: labels that are numbers are indices of classes, got {largest}; box_classes= names them"
        )
    return tuple(map(str, range(largest + 1)))
