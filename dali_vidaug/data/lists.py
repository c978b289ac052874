"""Lists of videos, as people have them: folders, CSV and Parquet files. Each becomes entries that ``scan`` measures."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dali_vidaug.data.entry import Entry, Listing, name_some, no_columns
from dali_vidaug.data.folder import is_video_name, list_folder
from dali_vidaug.data.header import (
    KINETICS,
    Header,
    label_groups,
    looks_like_label,
    looks_like_time,
    read_header,
)
from dali_vidaug.data.labels import is_missing
from dali_vidaug.data.names import is_utf8, restore_name, store_name
from dali_vidaug.data.schema import BOXES, EXTENSIONS, SCHEMA, is_manifest
from dali_vidaug.data.segments import read_frame, read_seconds
from dali_vidaug.media.first_bytes import what_it_is

_ROWS_LOOKED_AT = 1000  # for what is in a column
_KINETICS_EXTENSIONS = (".mp4", ".mkv", ".webm", ".avi", ".mov")


def list_videos(
    path: Path, root: Path | None = None, multi_label: str | None = None, label_columns: Sequence[str] | None = None
) -> Listing:
    """Read a folder, a list file, or one video. Arguments and errors as of ``scan``."""
    if not path.is_dir() and not path.is_file():
        raise FileNotFoundError(f"scan: no folder or file {path}")
    if path.is_dir() or is_video_name(path.name):
        if multi_label is not None or label_columns is not None:
            raise ValueError(f"scan: multi_label and label_columns are for list files, but {path} is none")
        if path.is_dir():
            return list_folder(path)
        return Listing(path.resolve().parent, [Entry(path.name, path.name)], {"": [()]}, no_columns(1))
    folder = path.resolve().parent if root is None else root.resolve()
    what = what_it_is(path)
    if what not in (None, "empty", "text", "a Parquet file"):
        raise ValueError(
            f"{path} cannot be read as a list: the file is {what}; a list is CSV or Parquet, or paths with labels= in "
            "a program"
        )
    rows = read_parquet(path) if what == "a Parquet file" or path.suffix.lower() in EXTENSIONS else read_csv(path)
    return list_rows(path, folder, rows, multi_label, label_columns)


class Rows(NamedTuple):
    """The rows of a list file, and the place of each, for messages."""

    table: pa.Table
    places: list[str]


def read_csv(path: Path) -> Rows:
    """Read a CSV file with a header; all values are text, file names as ``store_name`` stores them.

    Raises:
        ValueError: it cannot be read, or a row is not as long as the header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            columns = [name.strip() or f"column {i + 1}" for i, name in enumerate(next(reader, []))]
            if not is_utf8("".join(columns)):
                raise ValueError(f"{path} cannot be read as CSV: its header is not UTF-8 text; save it as UTF-8")
            names_files = read_header(str(path), columns).path
            rows, places = [], []
            for row in reader:
                if not row:
                    continue
                places.append(f"{path}, line {reader.line_num}")
                if len(row) != len(columns):
                    raise ValueError(f"{places[-1]}: {len(row)} fields, but the header has {len(columns)}")
                for name, value in zip(columns, row, strict=True):
                    if name != names_files and not is_utf8(value):
                        raise ValueError(f"{places[-1]}: {name} is not UTF-8 text; save it as UTF-8")
                rows.append([store_name(value) for value in row])
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read as CSV: {error}") from error
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    return Rows(pa.table([pa.array(column, pa.string()) for column in values], names=columns), places)


def read_parquet(path: Path) -> Rows:
    """Read a Parquet file with the same columns as a CSV list.

    Raises:
        ValueError: it cannot be read, or it is a manifest already.
    """
    try:
        table = pq.ParquetFile(path).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from error
    if is_manifest(path):
        raise ValueError(
            f"scan: {path} is a manifest already: dv.Manifest.read({str(path)!r}) reads it. To measure what has "
            f"changed, scan its folder or list again with output={str(path)!r}"
        )
    return Rows(table.replace_schema_metadata(None), [f"{path}, row {i}" for i in range(len(table))])


def list_rows(
    path: Path, root: Path, rows: Rows, multi_label: str | None = None, label_columns: Sequence[str] | None = None
) -> Listing:
    """Turn the rows of a list file into entries.

    Raises:
        ValueError: a value cannot be used; the message names its place.
    """
    table, places = rows
    header = read_header(str(path), table.column_names, label_columns)
    if not len(table):
        raise ValueError(f"{path} has a header, but no rows")
    entries = _entries(header, table, places, root)
    labels = {
        group: _labels(path, table, columns, multi_label) for group, columns in label_groups(header.labels).items()
    }
    own = table.drop_columns([name for name in (header.path, *header.labels) if name in table.column_names])
    for name, field in ((header.start, "start"), (header.end, "end")) if header.path else ():
        if name is not None:
            values = pa.array([getattr(entry, field) for entry in entries], pa.float64())
            own = own.set_column(own.column_names.index(name), name, values)
    warnings = [*_suspect_columns(header, table), *_suspect_segments(header, entries)]
    if multi_label is not None:
        warnings += _suspect_multi_label(header, table, multi_label)
    names = _own_names(path, own.column_names, warnings)
    used = header.used if header.path else KINETICS
    notes = [f"columns used: {', '.join(used)}"]
    others = [name for name in own.column_names if name not in used]
    if others:
        notes.append(f"columns kept with their rows, not used: {name_some(others, 20)}")
    several = multi_label is not None or len(header.labels) > 1
    return Listing(root, entries, labels, own.rename_columns(names), several, False, tuple(warnings), tuple(notes))


def _own_names(path, names, warnings):
    """The names of the list's own columns in the manifest, which has names of its own."""
    kept = [f"list_{name}" if name in (*SCHEMA.names, BOXES.name) else name for name in names]
    for name, new in zip(names, kept, strict=True):
        if kept.count(new) > 1:
            raise ValueError(f"{path}: the header has {name} and {new}; rename one of them")
        if new != name:
            warnings.append(f"column {name} is kept as {new}, because {name} is a column of manifests")
    return kept


def _stripped(value: Any) -> str | None:
    """A value as text without spaces around it; None for empty and NaN."""
    if value is None or value != value:
        return None
    return (os.fsdecode(value) if isinstance(value, bytes) else str(value)).strip() or None


def _labels(path, table, columns, multi_label):
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


def _entries(header: Header, table, places, root):
    """The entries of a list's rows."""
    used = [name for name in (header.path, header.start, header.end) if name] if header.path else KINETICS
    columns = {
        name: [_stripped(value) for value in table[name].to_pylist()] if name in table.column_names else []
        for name in used
    }
    values = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if header.path is None:
        return [_kinetics_entry(place, row, root) for place, row in zip(places, values, strict=True)]
    return [_entry(place, row, header) for place, row in zip(places, values, strict=True)]


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


def _kinetics_entry(place, row, root):
    """Find the file of a row of Kinetics' annotations: ID_SSSSSS_EEEEEE.* or ID.*, in the root or a label folder."""
    label, video = row["label"], row["youtube_id"]
    if video is None:
        raise ValueError(f"{place}: youtube_id is empty")
    try:
        start, end = (read_seconds(row[name] or "") or 0.0 for name in ("time_start", "time_end"))
    except ValueError as error:
        raise ValueError(f"{place}: time_start and time_end must be seconds ({error})") from error
    stem = f"{video}_{int(start):06d}_{int(end):06d}"
    folders = [root, *((root / label, root / label.replace(" ", "_")) if label else ())]
    for name in (stem, video):
        for folder in folders:
            for extension in _KINETICS_EXTENSIONS:
                if (folder / f"{name}{extension}").is_file():
                    found = str((folder / f"{name}{extension}").relative_to(root))
                    # ID.* may be the whole video, or hold this part alone.
                    return Entry(found, place) if name == stem else Entry(found, place, start, end, may_be_cut=True)
    return Entry(f"{stem}.mp4", place, error=f"not found as {stem}.* or {video}.* in {root}")


def _suspect_columns(header: Header, table):
    """Warnings of columns that look like times or labels, but are not used."""
    used = header.used if header.path else KINETICS
    others = [name for name in table.column_names if name not in used]
    times = [name for name in others if looks_like_time(name) and _has_digits(table[name])]
    if times:
        bounds = (header.start or "the beginning", header.end or "the end")
        now = f"from {bounds[0]} to {bounds[1]}" if header.start or header.end else "from whole videos"
        if header.path is None:
            now = "from time_start to time_end"
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
