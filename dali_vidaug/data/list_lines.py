"""Lines of lists without a header: what separates their fields, and where the path ends."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dali_vidaug.data.folder import is_video_name
from dali_vidaug.data.labels import whole_number
from dali_vidaug.data.list_source import Source
from dali_vidaug.data.names import is_utf8, store_name

_SEPARATORS = ("::", "\t", ",", ";", " ")
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


def find_separator(source: Source, any_name: bool = False) -> str | None:
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
    """The lines of a list.

    Raises:
        ValueError: a line is not like the first ones.
    """
    separator, any_name = find_separator(source), False
    if separator is None and source.options.format is not None:
        separator, any_name = find_separator(source, True), True
    if separator is None:
        number, line = source.lines[0] if source.lines else (1, "")
        source.refuse(number, expected, line)
    for number, line in source.lines:
        parted = _part(line, separator, any_name)
        if parted is None:
            source.refuse(number, f"{expected}, separated by {separator!r} as above", line)
        path, fields = parted
        if not all(map(is_utf8, fields)) and source.text is not None:
            source.text.check_utf8(number, "a label", "".join(fields))
        yield Line(number, store_name(path), fields)


def head_of(source: Source) -> tuple[str, list[Line]]:
    """The separator and the first lines of a list of paths; no lines if it is none."""
    separator = find_separator(source) if source.lines and source.json is None else None
    if separator is None:
        return "", []
    parted = ((number, _part(line, separator, False)) for number, line in source.lines[:_LOOKED_AT])
    return separator, [Line(number, *found) for number, found in parted if found]


def are_numbers(fields: Sequence[str]) -> bool:
    """Whether all fields are whole numbers."""
    return all(whole_number(value) is not None for value in fields)
