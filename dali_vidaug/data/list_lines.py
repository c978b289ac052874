"""Lines of lists without a header: what separates their fields, and where the path ends."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dali_vidaug.data.folder import is_video_name
from dali_vidaug.data.header import looks_like_label, path_column
from dali_vidaug.data.labels import whole_number
from dali_vidaug.data.list_source import Source
from dali_vidaug.data.names import is_utf8, store_name

_SEPARATORS = ("::", "\t", ",", ";", "|", " ")
_LOOKED_AT = 50  # lines, to find the separator
_QUOTED = re.compile(r'"((?:[^"]|"")*)"(.*)', re.DOTALL)


class Line(NamedTuple):
    """A line: its number, the path, and what is after it."""

    number: int
    path: str
    fields: tuple[str, ...]


def _part(line: str, separator: str, any_name: bool) -> tuple[str, tuple[str, ...]] | None:
    """Part a line: the path is as long as it can be and ends like a video. None if there is no such path."""
    quoted = _QUOTED.fullmatch(line)
    if quoted:
        path, rest = quoted[1].replace('""', '"'), quoted[2]
        if not (any_name or is_video_name(path)):
            return None
        if rest and not (rest if separator == " " else rest.lstrip(" ")).startswith(separator):
            return None
        rest = rest.lstrip(" ").removeprefix(separator)
    else:
        ends = [match.start() for match in re.finditer(re.escape(separator), line)]
        end = next((at for at in [len(line), *reversed(ends)] if is_video_name(line[:at].rstrip())), None)
        if end is None and any_name and ends:
            end = ends[-1]
        if end is None:
            return None
        path, rest = line[:end].rstrip(), line[end + len(separator) :]
    parts = rest.split(separator)
    if '"' in rest and len(separator) == 1:
        parts = next(csv.reader([rest], delimiter=separator, skipinitialspace=True))
    fields = tuple(part.strip() for part in parts)
    return path, tuple(part for part in fields if part) if separator == " " else (fields if rest.strip() else ())


def _find_separator(source: Source, any_name: bool = False) -> str | None:
    """What separates the fields of a list, or None if nothing does in each of its first lines.

    Raises:
        ValueError: several do, and the fields would differ.
    """
    head = source.lines[:_LOOKED_AT]
    parted: dict[tuple, str] = {}
    for separator in _SEPARATORS:
        lines = tuple(_part(line, separator, any_name) for _, line in head)
        if lines and None not in lines:
            parted.setdefault(lines, separator)
    if len(parted) > 1:  # one that finds nothing after any path separates nothing
        parted = {lines: sep for lines, sep in parted.items() if any(fields for _, fields in lines)} or parted
    if len(parted) > 1:
        shown = " and ".join(map(repr, parted.values()))
        raise ValueError(f"{source.path}: the separator may be {shown}; put a header path,label above it as CSV")
    return next(iter(parted.values()), None)


def read_lines(source: Source, expected: str) -> Iterator[Line]:
    """The lines of a list. The last path may end in anything where the format is named and no path ends like a video.

    Raises:
        ValueError: a line is not like the first ones.
    """
    separator, any_name = separator_of(source), False
    if not separator and source.options.format is not None and source.json is None:
        separator, any_name = _find_separator(source, True) or "", True
    if not separator:
        number, line = source.lines[0] if source.lines else (1, "")
        source.refuse(number, f"{expected}, whose path ends like a video", line)
    empty = _parted(source)[2]
    for number, line in source.lines:
        parted = _part(line, separator, any_name)
        if parted is None:
            source.refuse(number, f"{expected}, separated by {separator!r} as above", line)
        path, fields = parted[0], parted[1][: len(parted[1]) - empty]
        if any_name and number == source.lines[0][0] and path_column([path]) and any(map(looks_like_label, fields)):
            source.refuse(number, f"{expected}; delete this line, or write it and others as CSV: path,label", line)
        if not all(map(is_utf8, fields)) and source.text is not None:
            source.text.check_utf8(number, "a label", "".join(fields))
        yield Line(number, store_name(path), fields)


def odd_line(source: Source) -> tuple[int, str] | None:
    """Of a list most of whose first lines begin with the path of a video: the first line that does not."""
    for separator in _SEPARATORS:
        head = source.lines[:_LOOKED_AT]
        odd = [(number, line) for number, line in head if _part(line, separator, False) is None]
        if odd and 2 * len(odd) < len(head):
            return odd[0]
    return None


def separator_of(source: Source) -> str:
    """What separates the fields of a list of paths; "" if it is none."""
    return _parted(source)[0]


def fields_of(source: Source) -> list[tuple[str, ...]]:
    """What is after the path in each line of a list of paths that has one; none if it is no such list."""
    return _parted(source)[1]


def _parted(source: Source) -> tuple[str, list[tuple[str, ...]], int]:
    """The separator, the fields of each line, and how many empty ones at the end of all lines are left out."""
    if source.parted is None:
        is_json = not source.lines or source.lines[0][1].startswith("{") or source.json is not None
        separator = None if is_json else _find_separator(source)
        parts = (_part(line, separator, False) for _, line in source.lines) if separator else ()
        rows = [part[1] for part in parts if part]
        empty = min((_empty_end(row) for row in rows if row), default=0)
        source.parted = separator or "", [row[: len(row) - empty] for row in rows], empty
    return source.parted


def _empty_end(row: tuple[str, ...]) -> int:
    """How many fields at the end are empty."""
    return next((i for i, value in enumerate(reversed(row)) if value), len(row))


def are_numbers(fields: Sequence[str]) -> bool:
    """Whether all fields are whole numbers."""
    return all(whole_number(value) is not None for value in fields)
