"""The text of list files: encodings, lines with their numbers, rows of CSV, JSON."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from dali_vidaug.data.names import is_utf8, store_name

_LARGE = 1 << 63  # a number that Arrow has no type for
_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8 with a byte order mark"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_SEPARATOR = re.compile(r"sep=([,;|\t])[ \t]*[\r\n]+", re.IGNORECASE)
_EMPTY = re.compile(r"^[ \t]*[,;|][ \t,;|]*\r?$", re.MULTILINE)
OTHER_ENCODING = "save it as UTF-8, or say what it is, such as encoding='latin-1'"


class Text:
    """The text of a list file.

    Attributes:
        path: the file.
        text: what is in it; bytes that are not UTF-8 are lone surrogates, as in names of files.
        encoding: what it is written in, if that is to be told; None for UTF-8.
    """

    def __init__(self, path: Path, text: str, encoding: str | None = None):
        self.path, self.text, self.encoding = path, text, encoding

    def place(self, line: int) -> str:
        """A line as messages name it."""
        return f"{self.path}, line {line}"

    @cached_property
    def lines(self) -> list[tuple[int, str]]:
        """The lines that are not empty, nor separators alone, each with its number, without spaces around them."""
        lines = enumerate(self.text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1)
        found = [(number, line.strip()) for number, line in lines if line.strip(" \t\v\f,;|")]
        return found[1:] if self.separator else found

    @cached_property
    def separator(self) -> str | None:
        """What separates values by the first line, where that is Excel's ``sep=;``."""
        found = _SEPARATOR.match(self.text)
        return found[1] if found else None

    @cached_property
    def num_empty(self) -> int:
        """How many lines are separators alone, as those that spreadsheets write below their last row."""
        return len(_EMPTY.findall(self.text))

    def first_row(self, delimiter: str = ",") -> list[str]:
        """The first row of a CSV file; empty where it cannot be read."""
        try:
            return next((row for _, row in self.rows(delimiter)), [])
        except ValueError:
            return []

    def rows(self, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
        """The rows of CSV that have a value, each with the number of its last line; ``separator`` is not one.

        Raises:
            ValueError: it is not CSV.
        """
        lines = io.StringIO(self.text, newline="")
        first = 0
        if self.separator:
            delimiter, first = self.separator, 1
            lines.readline()
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
        try:
            for row in reader:
                if any(value.strip() for value in row):
                    yield reader.line_num + first, row
        except csv.Error as error:
            raise ValueError(f"{self.place(reader.line_num + first)} cannot be read as CSV: {error}") from error

    @cached_property
    def json(self) -> Any:
        """The file as one JSON value, or None if it is none."""
        if self.text.lstrip()[:1] not in ("{", "["):
            return None
        if not is_utf8(self.text):
            raise ValueError(f"{self.path} is JSON, but not UTF-8 text; {OTHER_ENCODING}")
        twice: list[str] = []

        def made(pairs):
            found = dict(pairs)
            if len(found) < len(pairs):
                names = [name for name, _ in pairs]
                twice.append(next(name for name in names if names.count(name) > 1))
            return found

        try:
            value = json.loads(self.text, object_pairs_hook=made)
        except ValueError:
            return None
        if twice:
            raise ValueError(f"{self.path}: {twice[0]!r} is there twice in one JSON object: which one is meant?")
        return value

    def json_problem(self) -> str | None:
        """Why ``json`` has no value, after "it": not UTF-8, or where it is no JSON; None if it has one."""
        if not is_utf8(self.text):
            return f"is not UTF-8 text; {OTHER_ENCODING}"
        try:
            json.loads(self.text)
        except ValueError as error:
            return f"is no JSON: {error}"
        return None

    def check_utf8(self, line: int, name: str, value: str) -> str:
        """A value that is no name of a file, unless it has bytes that are not UTF-8."""
        if not is_utf8(value):
            raise ValueError(f"{self.place(line)}: {name} is not UTF-8 text; {OTHER_ENCODING}")
        return value


def read_text(path: Path, encoding: str | None = None) -> Text:
    """Read a list file as text.

    UTF-8 is taken, with a byte order mark or without, and UTF-16 and UTF-32 with one. Without one, bytes that are not
    UTF-8 stay what they are: in a path they are the file's name, elsewhere they are refused. No other encoding is
    guessed: each byte means something in Latin-1 and in its relatives, so that a wrong guess goes unnoticed.

    Args:
        path: the file.
        encoding: Python's name of what it is written in; None: as above.

    Raises:
        ValueError: it is not written in that encoding, or there is no such encoding.
    """
    data = path.read_bytes()
    mark = next((mark for mark in _MARKS if data.startswith(mark[0])), None)
    if encoding is not None:
        name = _python_name(encoding)
        if mark is not None and not mark[1].startswith(name):
            raise ValueError(f"{path} begins with the byte order mark of {mark[1]}, but encoding is {encoding!r}")
        if mark is None and name in ("utf-16", "utf-32"):
            raise ValueError(
                f"{path} has no byte order mark: encoding must be {name}-le or {name}-be, got {encoding!r}"
            )
        text = _decoded(path, data[len(mark[0]) :] if mark else data, mark[1] if mark else name, encoding)
        return Text(path, text, encoding)
    if mark is not None:
        data = data[len(mark[0]) :]
        if mark[1] != "utf-8":
            return Text(path, _decoded(path, data, mark[1], mark[2]), mark[2])
    if b"\0" in data:
        raise ValueError(
            f"{path} cannot be read as a list: it has zero bytes; if it is UTF-16 without a byte order mark, "
            "encoding='utf-16-le' reads it"
        )
    return Text(path, data.decode("utf-8", "surrogateescape"), mark[2] if mark else None)


def _python_name(encoding: str) -> str:
    """Python's name of an encoding of text, in small letters, without a suffix for the mark."""
    try:
        "".encode(encoding)
        return codecs.lookup(encoding).name.removesuffix("-sig")
    except LookupError:
        raise ValueError(f"scan: encoding must be one of text that Python knows, got {encoding!r}") from None


def _decoded(path, data, name, said):
    try:
        return data.decode(name)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read as a list: byte {error.start} is not {said}") from error


def columns_of(objects: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """The values of JSON objects, by key: numbers, truth values, texts and lists of texts; all else as text."""
    columns = {}
    for key in dict.fromkeys(key for value in objects for key in value):
        values = [value.get(key) for value in objects]
        kinds = {type(value) for value in values if value is not None}
        if kinds <= {str}:
            columns[key] = pa.array([None if value is None else store_name(value) for value in values], pa.string())
        elif kinds == {list}:
            lists = [None if value is None else [str(part) for part in value] for value in values]
            columns[key] = pa.array(lists, pa.list_(pa.string()))
        elif kinds == {bool} or (kinds <= {int, float} and all(abs(value or 0) < _LARGE for value in values)):
            columns[key] = pa.array(values)
        else:  # objects, or values of several kinds
            texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
            columns[key] = pa.array([text and store_name(text) for text in texts], pa.string())
    return columns
