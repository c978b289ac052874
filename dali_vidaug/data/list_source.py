"""A list that is to be read: its text, what is beside it, and how a format hands over what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pyarrow as pa

from dali_vidaug.data.entry import Classes, Entry, Listing, name_some, no_columns, plural
from dali_vidaug.data.found import SEVERAL, Found, VideoFinder, folder_beside
from dali_vidaug.data.header import path_column
from dali_vidaug.data.list_text import Text
from dali_vidaug.data.lists import Rows, read_csv, read_parquet, with_own_columns
from dali_vidaug.data.names import restore_name
from dali_vidaug.data.segments import read_seconds

LabelRows = list[tuple[str, ...]]  # the labels of each row


class Options(NamedTuple):
    """What ``scan`` was told of a list; see there."""

    format: str | None = None
    split: str | None = None
    encoding: str | None = None
    multi_label: str | None = None
    label_columns: tuple[str, ...] | None = None
    classes_given: bool = False
    remote: str | None = None  # the root, where that is a URL


@dataclass
class Source:
    """A list file, or a folder.

    Attributes:
        path: the file or folder.
        root: folder that the videos are in.
        options: of ``scan``.
        text: of a text file; None for a folder and for Parquet.
        parquet: whether it is a Parquet file.
        used: names of the options that the format has used.
        doubts: what formats say that would refuse it, where another one reads it.
        parted: of a list of paths, what ``list_lines`` found: see ``_parted`` there.
    """

    path: Path
    root: Path
    options: Options = field(default_factory=Options)
    text: Text | None = None
    parquet: bool = False
    used: set[str] = field(default_factory=set)
    doubts: list[str] = field(default_factory=list)
    parted: tuple[str, list[tuple[str, ...]], int] | None = None

    @cached_property
    def rows(self) -> Rows:
        """The rows of a table, in CSV or Parquet.

        Raises:
            ValueError: it is none.
        """
        if self.text is None:
            return read_parquet(self.path)
        return read_csv(self.text, self._delimiter)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of a table's columns; none if it is no table."""
        if self.parquet:
            try:
                return tuple(self.rows.table.column_names)
            except ValueError:
                return ()
        return tuple(name.strip() for name in self.text.first_row(self._delimiter)) if self.text else ()

    @property
    def _delimiter(self):
        """What separates the values of a table: a tab, a semicolon or a bar where its header has no comma."""
        if self.text and self.text.separator:
            return self.text.separator
        header = self.lines[0][1] if self.lines else ""
        return next((mark for mark in ("\t", ";", "|") if mark in header and "," not in header), ",")

    @cached_property
    def videos(self) -> VideoFinder:
        """Finds videos below the root.

        Raises:
            ValueError: the root is no folder of this machine.
        """
        if self.options.remote is not None:
            raise ValueError(
                f"{self.path}: this format names videos without their folder or extension, and they are not looked for "
                f"in {self.options.remote}: make a list of paths"
            )
        return VideoFinder(self.root)

    @property
    def lines(self) -> list[tuple[int, str]]:
        """The lines of a text file."""
        return self.text.lines if self.text else []

    @property
    def json(self) -> Any:
        """The value of a JSON file, or None."""
        return self.text.json if self.text else None

    def option(self, name: str) -> Any:
        """An option of ``scan``; one that is given and never asked for is refused."""
        self.used.add(name)
        return getattr(self.options, name)

    def place(self, line: int) -> str:
        """A line as messages name it."""
        return f"{self.path}, line {line}"

    def refuse(self, line: int | None, expected: str, got: Any) -> NoReturn:
        """Say what a line has and what it must have.

        Raises:
            ValueError: always.
        """
        place = str(self.path) if line is None else self.place(line)
        shown = repr(got) if len(repr(got)) <= 120 else f"{repr(got)[:117]}..."
        raise ValueError(f"{place}: expected {expected}, got {shown}")

    def beside(self, *patterns: str) -> Path | None:
        """The file beside the list, or in the folder above, that has one of these names: the first that there is.

        Raises:
            ValueError: there are several.
        """
        folder = self.path if self.path.is_dir() else self.path.resolve().parent
        for place in (folder, folder.parent):
            for pattern in patterns:
                found = sorted(path for path in place.glob(pattern) if path.is_file() and path != self.path.resolve())
                if len(found) > 1:
                    names = name_some([path.name for path in found])
                    raise ValueError(f"{self.path}: {place} has several files {pattern} ({names}); classes= says which")
                if found:
                    return found[0]
        return None

    def choose_split(self, splits: Sequence[str | None]) -> tuple[list[bool], list[str]]:
        """Which rows are of the split that ``scan`` was asked for, and what is to be said.

        Args:
            splits: of each row.

        Raises:
            ValueError: no row is of that split.
        """
        names, wanted = Counter(name for name in splits if name), self.option("split")
        if wanted is None:
            counts = name_some([f"{name} {count}" for name, count in names.items()], 10)
            told = (
                [f"several splits, of which all rows are taken: {counts}; split= takes one"] if len(names) > 1 else []
            )
            return [True] * len(splits), told
        if wanted not in names:
            alike = [name for name in names if name.lower()[:2] == wanted.lower()[:2]]
            raise ValueError(
                f"{self.path}: split must be one of {name_some([*names], 10) or 'none, since no row has one'}, got "
                f"{wanted!r}{f'; is it {alike[0]!r}?' if len(alike) == 1 else ''}"
            )
        without = sum(not name for name in splits)
        told = [f"rows that are of no split, left out: {without} of {len(splits)}"] if without else []
        return [name == wanted for name in splits], told


def has_paths(columns: Iterable[str]) -> bool:
    """Whether one of these columns has paths."""
    return path_column(columns) is not None


def seconds(place: str, name: str, value: Any) -> float | None:
    """A time in seconds; None where there is none.

    Raises:
        ValueError: it is no time.
    """
    text = None if value is None else str(value).strip()
    try:
        return None if not text or text.lower() in ("nan", "null") else read_seconds(text)
    except ValueError as error:
        raise ValueError(f"{place}: {name} must be seconds ({error})") from error


def entry_of(found: Found, place: str, start: float | None = None, end: float | None = None) -> Entry:
    """The entry of a video that was looked for."""
    return Entry(found.path, place, start, end, error=found.error)


def path_entry(name: str, place: str) -> Entry:
    """The entry of a path."""
    return Entry(restore_name(name), place)


def make_listing(
    source: Source, entries: list[Entry], labels: LabelRows | dict[str, LabelRows], *,
    own: pa.Table | Mapping[str, Sequence[Any]] | None = None, used: Sequence[str] = (), several: bool = False,
    classes: Classes | None = None, warnings: Sequence[str] = (), notes: Sequence[str] = (),
) -> Listing:  # fmt: skip
    """What a format says, as a listing.

    Args:
        own: columns that stay with their rows.
        used: names of those that are used besides.
        several: a sample may have several labels.
        classes: in their official order.

    Raises:
        ValueError: there is no entry.
    """
    if not entries:
        raise ValueError(f"{source.path} has no rows")
    groups = labels if isinstance(labels, dict) else {"": labels}
    table = own if isinstance(own, pa.Table) else pa.table(dict(own)) if own else no_columns(len(entries))
    more = [*warnings, *(source.videos.tell_folders() if "videos" in vars(source) else ()), *_lost(source, entries)]
    if several:
        source.option("multi_label")
    listing = Listing(source.root, entries, groups, table, several, False, tuple(more), tuple(notes), classes)
    return with_own_columns(source.path, listing, used)


def _lost(source: Source, entries: list[Entry]) -> Iterator[str]:
    """Sentences on videos that are not found, or found more than once."""
    errors = [entry.error for entry in entries if entry.error is not None]
    twice = sum(error.startswith(SEVERAL) for error in errors)
    if twice:
        yield f"rows whose video is found more than once in {source.root}: {twice} of {plural(len(entries), 'row')}"
    lost = len(errors) - twice
    if lost:
        beside = folder_beside(source.root, [entry.path for entry in entries]) if lost == len(entries) else None
        hint = (
            "root= is the folder of the videos" if beside is None else f"{beside[0]} is beside it: root='{beside[1]}'"
        )
        yield f"rows whose video is not found in {source.root}: {lost} of {plural(len(entries), 'row')}; {hint}"


def numbered_classes(names: Mapping[int, str], count: int, origin: str) -> Classes:
    """Classes whose labels are whole numbers from 0; one without a name is named by its number: "3", or "class 3" where
    another is named so.

    Raises:
        ValueError: two have one name.
    """
    size = max([count, *(number + 1 for number in names)])
    taken = set(names.values())
    every = tuple(names.get(i, f"class {i}" if str(i) in taken else str(i)) for i in range(size))
    twice = sorted({name for name in names.values() if every.count(name) > 1})
    if twice:
        raise ValueError(f"{origin}: two classes are named {twice[0]!r}")
    return Classes(every, {i: i for i in range(size)}, origin)


def json_items(source: Source) -> list[tuple[str, dict[str, Any]]]:
    """The objects of a JSON list, each with its place; none if it is no list of objects."""
    items = source.json
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return []
    return [(f"{source.path}, item {i}", item) for i, item in enumerate(items)]


def each_row(rows: Rows, names: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The place of each row of a table, and the text in some of its columns; "" for none."""
    columns = [
        ["" if value is None or value != value else str(value).strip() for value in rows.table[name].to_pylist()]
        for name in names
    ]
    for place, row in zip(rows.places, zip(*columns, strict=True), strict=True):
        yield place, dict(zip(names, row, strict=True))


class Format(NamedTuple):
    """A format of lists.

    Attributes:
        name: as ``format=`` has it.
        what: what it is, for people.
        fits: whether a source looks like it.
        read: what it says.

    ``read`` raises ValueError where the list is not of the format.
    """

    name: str
    what: str
    fits: Callable[[Source], bool]
    read: Callable[[Source], Listing]
