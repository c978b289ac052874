"""Tables of videos, in CSV and Parquet files: from columns to entries that ``scan`` measures."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dali_vidaug.data.entry import Entry, Listing, name_some
from dali_vidaug.data.header import (
    Header,
    label_groups,
    looks_like_label,
    looks_like_time,
    read_header,
)
from dali_vidaug.data.labels import is_missing, whole_number
from dali_vidaug.data.list_text import Text
from dali_vidaug.data.names import restore_name, store_name
from dali_vidaug.data.schema import BOXES, SCHEMA, is_manifest
from dali_vidaug.data.segments import read_frame, read_seconds

_ROWS_LOOKED_AT = 1000  # for what is in a column
_PIECE = 1 << 14  # rows that are lists of text at the same time


class Rows(NamedTuple):
    """The rows of a list file, and the place of each, for messages."""

    table: pa.Table
    places: list[str]


def read_csv(text: Text, delimiter: str = ",") -> Rows:
    """Read CSV with a header; all values are text, file names as ``store_name`` stores them.

    Raises:
        ValueError: it cannot be read, or a row is not as long as the header.
    """
    read = text.rows(delimiter)
    columns = [name.strip() or f"column {i + 1}" for i, name in enumerate(next(read, (0, []))[1])]
    text.check_utf8(1, "the header", "".join(columns))
    names_files = read_header(str(text.path), columns, needs_path=False).path
    pieces: list[pa.Table] = []
    rows: list[list[str]] = []
    places = []
    for line, row in read:
        places.append(text.place(line))
        if len(row) != len(columns):
            raise ValueError(f"{places[-1]}: {len(row)} fields, but the header has {len(columns)}")
        for name, value in zip(columns, row, strict=True):
            if name != names_files:
                text.check_utf8(line, name, value)
        rows.append([store_name(value) for value in row])
        if len(rows) == _PIECE:
            pieces.append(_text_table(rows, columns))
            rows = []
    pieces.append(_text_table(rows, columns))
    return Rows(pa.concat_tables(pieces).combine_chunks(), places)


def _text_table(rows, columns):
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    return pa.table([pa.array(column, pa.string()) for column in values], names=columns)


def read_parquet(path: Path) -> Rows:
    """Read a Parquet file with the same columns as a CSV list.

    Raises:
        ValueError: it cannot be read, or it is a manifest already.
    """
    try:
        table = pq.ParquetFile(path).read(use_threads=False)
        table.validate(full=True)  # text that is not UTF-8
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from error
    if is_manifest(path):
        raise ValueError(
            f"scan: {path} is a manifest already: dv.Manifest.read({str(path)!r}) reads it. To measure what has "
            f"changed, scan its folder or list again with output={str(path)!r}"
        )
    return Rows(table.replace_schema_metadata(None), [f"{path}, row {i}" for i in range(len(table))])


def list_rows(
    path: Path, root: Path, rows: Rows, multi_label: str | None = None, label_columns: Sequence[str] | None = None,
    split: str | None = None,
) -> Listing:  # fmt: skip
    """Turn the rows of a list file into entries, whichever split they are of; ``split`` is the column that says it.

    Raises:
        ValueError: a value cannot be used; the message names its place.
    """
    table, places = rows
    header = read_header(str(path), table.column_names, label_columns)
    if not len(table):
        raise ValueError(f"{path} has a header, but no rows")
    table = _with_paths(path, table, header.path)
    names = [name for name in (header.path, header.start, header.end) if name]
    entries = [_entry(place, row, header) for place, row in zip(places, used_values(table, names), strict=True)]
    labels = {
        group: read_labels(path, table, columns, multi_label) for group, columns in label_groups(header.labels).items()
    }
    own = table.drop_columns([header.path, *header.labels])
    for name, field in ((header.start, "start"), (header.end, "end")):
        if name is not None:
            values = pa.array([getattr(entry, field) for entry in entries], pa.float64())
            own = own.set_column(own.column_names.index(name), name, values)
    warnings = [*suspect_columns(header, table), *_suspect_segments(header, entries)]
    warnings += _suspect_missing(header, table, multi_label)
    if multi_label is not None:
        warnings += _suspect_multi_label(header, table, multi_label)
    notes = [f"columns used: {', '.join((*header.used, *([split] if split else [])))}"]
    several = multi_label is not None or len(header.labels) > 1
    listing = Listing(root, entries, labels, own, several, False, tuple(warnings), tuple(notes))
    return with_own_columns(path, listing, (*header.used, *([split] if split else [])))


def _with_paths(path: Path, table: pa.Table, name: str | None) -> pa.Table:
    """The table with paths for Hugging Face's videos, which are the bytes of a file or its path.

    Raises:
        ValueError: they are bytes, or something else than text.
    """
    kind = None if name is None else table[name].type
    if kind is None or not pa.types.is_nested(kind):
        return table
    if not pa.types.is_struct(kind) or not {"bytes", "path"} >= {field.name for field in kind} >= {"path"}:
        raise ValueError(f"{path}: column {name} must have paths, got values of {kind}")
    values = table[name].to_pylist()
    inside = sum(bool(value and value.get("bytes")) for value in values)
    if inside:
        raise ValueError(f"{path}: {inside} videos are in the list itself, in column {name}; write them to files first")
    paths = pa.array([value and value["path"] for value in values], pa.string())
    return table.set_column(table.column_names.index(name), name, paths)


def with_own_columns(path: Path, listing: Listing, used: Sequence[str] = ()) -> Listing:
    """The listing with its own columns named so that manifests can have them.

    Args:
        path: the list, for messages.
        listing: its own columns are named as in the list.
        used: names of columns that are used, besides being kept.

    Raises:
        ValueError: two columns would have one name.
    """
    names = listing.own.column_names
    kept = [f"list_{name}" if name in (*SCHEMA.names, BOXES.name) else name for name in names]
    warnings, notes = list(listing.warnings), list(listing.notes)
    for name, new in zip(names, kept, strict=True):
        if kept.count(new) > 1:
            raise ValueError(f"{path}: the header has {name} and {new}; rename one of them")
        if new != name:
            warnings.append(f"column {name} is kept as {new}, because {name} is a column of manifests")
    others = [name for name in names if name not in used]
    if others:
        notes.append(f"columns kept with their rows, not used: {name_some(others, 20)}")
    return listing._replace(own=listing.own.rename_columns(kept), warnings=tuple(warnings), notes=tuple(notes))


def _stripped(value: Any) -> str | None:
    """A value as text without spaces around it; None for empty and NaN."""
    if value is None or value != value:
        return None
    return (os.fsdecode(value) if isinstance(value, bytes) else str(value)).strip() or None


def read_labels(path: Path, table: pa.Table, columns: Sequence[str], multi_label: str | None) -> list[tuple[str, ...]]:
    """The labels of each row in columns that share their classes."""
    rows: list[tuple[str, ...]] = [()] * len(table)
    for name in columns:
        kind = table[name].type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            if multi_label is None:
                raise ValueError(f"{path}: column {name} holds lists of labels; multi_label=',' makes targets of them")
            parts = [[_stripped(part) for part in value or ()] for value in table[name].to_pylist()]
        else:
            texts = [_stripped(value) or "" for value in table[name].to_pylist()]
            parts = [[part.strip() for part in ([text] if multi_label is None else text.split(multi_label))]
                     for text in texts]  # fmt: skip
        rows = [
            (*row, *(part for part in new if part is not None and not is_missing(part)))
            for row, new in zip(rows, parts, strict=True)
        ]
    return [tuple(dict.fromkeys(row)) for row in rows]


def used_values(table: pa.Table, names: Sequence[str]) -> list[dict[str, str | None]]:
    """For each row the text in some columns, by their names."""
    columns = [[_stripped(value) for value in table[name].to_pylist()] for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _entry(place, row, header):
    name = row[header.path]
    if name is None:
        raise ValueError(f"{place}: {header.path} is empty")
    read = read_frame if header.in_frames else read_seconds
    bounds = []
    for column in (header.start, header.end):
        text = row[column] if column else None
        try:
            bounds.append(None if text is None or text.lower() in ("nan", "null") else read(text))
        except ValueError as error:
            names = " and ".join(column for column in (header.start, header.end) if column)
            unit = "numbers of frames" if header.in_frames else "seconds"
            raise ValueError(f"{place}: {names} must be {unit} ({column}: {error})") from error
    start, end = bounds
    name = restore_name(name)
    if header.kinetics and start is not None and end is not None:
        if Path(name).stem.endswith(f"_{int(start):06d}_{int(end):06d}"):
            return Entry(name, place)  # the name says that it holds this part alone
    return Entry(name, place, start, end, header.in_frames, header.kinetics)


def suspect_columns(header: Header, table: pa.Table) -> Iterator[str]:
    """Warnings of columns that look like times or labels, but are not used."""
    used = header.used
    others = [name for name in table.column_names if name not in used]
    times = [name for name in others if looks_like_time(name) and _has_digits(table[name])]
    if times:
        bounds = (header.start or "the beginning", header.end or "the end")
        now = f"from {bounds[0]} to {bounds[1]}" if header.start or header.end else "from whole videos"
        yield (
            f"columns that look like times are not used: {', '.join(times)}; clips are drawn {now}. Columns named "
            "start and end are used, in seconds, or start_frame and end_frame"
        )
    labels = [name for name in others if looks_like_label(name) and name not in times]
    if labels:
        now = f"labels are those of {', '.join(header.labels)}" if header.labels else "no sample has a label"
        yield f"columns that look like labels are not used: {', '.join(labels)}; {now}. label_columns= chooses"


def _has_digits(column):
    return any(any(map(str.isdigit, str(value))) for value in column.slice(0, _ROWS_LOOKED_AT).to_pylist())


def _suspect_missing(header: Header, table: pa.Table, separator: str | None) -> Iterator[str]:
    """Warnings of texts that mean no label, which may be names of classes."""
    for name in header.labels:
        texts = [_stripped(value) or "" for value in table[name].to_pylist() if not isinstance(value, list)]
        parts = [part.strip() for text in texts for part in ([text] if separator is None else text.split(separator))]
        missing = Counter(part for part in parts if part and is_missing(part))
        if {whole_number(part) for part in parts if part} == {1, -1}:
            yield (
                f"{name} has 1 and -1 alone, which may mean that a row shows its class or does not: they are read as "
                "class 1 and no label"
            )
        elif missing:
            told = name_some([f"{text!r} ({count})" for text, count in missing.items()])
            yield f"values of {name} that are read as no label: {told}"


def _suspect_segments(header: Header, entries):
    """Warnings of how start and end are read."""
    if header.in_frames:
        names = f"{header.start or 'the beginning'} and {header.end or 'the end'}"
        yield f"{names} are read as frames [first, last): counted from 0, the last not included"
    missing = sum(None in (entry.start, entry.end) for entry in entries)
    if header.start and header.end and 0 < missing < len(entries) and not header.kinetics:
        yield (
            f"rows without {header.start} or {header.end}, which begin or end with their video: {missing} of "
            f"{len(entries)}"
        )


def _suspect_multi_label(header: Header, table, separator):
    """Warnings of labels that ``multi_label`` does not part."""
    if not header.labels:
        yield f"multi_label={separator!r} has nothing to part: there is no column label; label_columns= chooses one"
        return
    columns = [table[name] for name in header.labels]
    if any(not pa.types.is_string(column.type) for column in columns):
        return
    texts = [text for column in columns for text in column.to_pylist() if text]
    if not any(separator in text for text in texts):
        yield f"multi_label={separator!r} is in no label: no sample has several from one column"
    lists = [text for text in texts if text.startswith("[") and text.endswith("]")]
    if lists:
        yield (
            f"labels such as {lists[0]!r} are lists written as text, whose brackets and quotes become part of the "
            "names: write a;b, or scan paths with labels="
        )
