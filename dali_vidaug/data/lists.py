"""Lists of videos, as people have them: folders, CSV and Parquet files. Each becomes entries that ``scan`` measures."""

from __future__ import annotations

import csv
import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dali_vidaug.data.manifest import SCHEMA, is_manifest

EXTENSIONS = frozenset(
    ".3gp .asf .avi .divx .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv .y4m".split()
)
_KINETICS = ("label", "youtube_id", "time_start", "time_end")
_KINETICS_EXTENSIONS = (".mp4", ".mkv", ".webm", ".avi", ".mov")

log = logging.getLogger("dali_vidaug")


class Entry(NamedTuple):
    """A video, or a part of one, of a list.

    Attributes:
        path: relative to the root of the list, or absolute.
        label: name of its class, or None.
        start, end: seconds; clips are drawn from this part. None: from its beginning, to its end.
        error: why it cannot be used, or None.
    """

    path: str
    label: str | None = None
    start: float | None = None
    end: float | None = None
    error: str | None = None


class Listing(NamedTuple):
    """What a list has.

    Attributes:
        root: folder that the paths are relative to.
        entries: in the order of the list.
        own: the other columns of the list, a row for each entry.
    """

    root: Path
    entries: list[Entry]
    own: pa.Table


def list_videos(path: Path, root: Path | None = None) -> Listing:
    """Read a folder, a list file, or one video. Arguments and errors as of ``scan``."""
    if path.is_dir():
        entries = list_folder(path)
        return Listing(path.resolve(), entries, _no_columns(entries))
    if not path.is_file():
        raise FileNotFoundError(f"scan: no folder or file {path}")
    if path.suffix.lower() in EXTENSIONS:
        entries = [Entry(path.name)]
        return Listing(path.resolve().parent, entries, _no_columns(entries))
    folder = path.resolve().parent if root is None else root.resolve()
    rows = read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else read_csv(path)
    return list_rows(path, folder, rows)


def _no_columns(entries):
    return pa.table({"path": pa.array([entry.path for entry in entries], pa.string())}).select([])


def list_folder(folder: Path) -> list[Entry]:
    """The videos below a folder, sorted. Each sub-folder is a class; a folder without sub-folders gives no labels."""
    files = sorted(
        file.relative_to(folder)
        for file in folder.rglob("*")
        if file.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    if not files:
        raise ValueError(f"scan: no videos in {folder} (looked for {' '.join(sorted(EXTENSIONS))})")
    if all(len(file.parts) == 1 for file in files):
        return [Entry(str(file)) for file in files]
    outside = "is not in one of the class folders"
    return [
        Entry(str(file), file.parts[0]) if len(file.parts) > 1 else Entry(str(file), error=outside) for file in files
    ]


class Rows(NamedTuple):
    """The rows of a list file, and the place of each, for messages."""

    table: pa.Table
    places: list[str]


def read_csv(path: Path) -> Rows:
    """Read a CSV file with a header; all values are text.

    Raises:
        ValueError: it cannot be read, or a row is not as long as the header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            columns = [name.strip() or f"column {i + 1}" for i, name in enumerate(next(reader, []))]
            _check_columns(path, columns)
            rows, places = [], []
            for row in reader:
                if not row:
                    continue
                places.append(f"{path}, line {reader.line_num}")
                if len(row) != len(columns):
                    raise ValueError(f"{places[-1]}: {len(row)} fields, but the header has {len(columns)}")
                rows.append(row)
    except (csv.Error, UnicodeDecodeError) as error:
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
        raise ValueError(f"{path} is a manifest already: read it with dv.Manifest.read")
    _check_columns(path, table.column_names)
    return Rows(table.replace_schema_metadata(None), [f"{path}, row {i}" for i in range(len(table))])


def _check_columns(path, columns):
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: the header has {', '.join(twice)} more than once")
    if "path" not in columns and not set(_KINETICS) <= set(columns):
        raise ValueError(
            f"{path}: the header must have path[, label, start, end] or {', '.join(_KINETICS)}; it has "
            f"{', '.join(columns) or 'nothing'}"
        )


def list_rows(path: Path, root: Path, rows: Rows) -> Listing:
    """Turn the rows of a list file into entries.

    Raises:
        ValueError: a value cannot be used; the message names its place.
    """
    table, places = rows
    if not len(table):
        raise ValueError(f"{path} has a header, but no rows")
    by_path = "path" in table.column_names
    used = [name for name in ("path", "label", "start", "end") if name in table.column_names] if by_path else _KINETICS
    columns = {name: [_stripped(value) for value in table[name].to_pylist()] for name in used}
    values = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    make = _entry if by_path else _kinetics_entry
    entries = [make(place, row, root) for place, row in zip(places, values, strict=True)]
    own = table.drop_columns([name for name in ("path", "label") if name in table.column_names])
    for name in ("start", "end") if by_path else ():
        if name in own.column_names:
            seconds = pa.array([getattr(entry, name) for entry in entries], pa.float64())
            own = own.set_column(own.column_names.index(name), name, seconds)
    return Listing(root, entries, own.rename_columns(_own_names(path, own.column_names)))


def _own_names(path, names):
    """The names of the list's own columns in the manifest, which has names of its own."""
    kept = [f"list_{name}" if name in SCHEMA.names else name for name in names]
    for name, new in zip(names, kept, strict=True):
        if kept.count(new) > 1:
            raise ValueError(f"{path}: the header has {name} and {new}; rename one of them")
        if new != name:
            log.warning("%s: column %s is kept as %s, because %s is measured", path, name, new, name)
    return kept


def _stripped(value: Any) -> str | None:
    """A value as text without spaces around it; None for empty and NaN."""
    if value is None or value != value:
        return None
    return (os.fsdecode(value) if isinstance(value, bytes) else str(value)).strip() or None


def _entry(place, row, root):
    if row["path"] is None:
        raise ValueError(f"{place}: path is empty")
    try:
        start, end = (float(row[name]) if row.get(name) else None for name in ("start", "end"))
    except ValueError as error:
        raise ValueError(f"{place}: start and end must be seconds ({error})") from error
    return Entry(row["path"], row.get("label"), start, end)


def _kinetics_entry(place, row, root):
    """Find the file of a row of Kinetics' annotations: ID_SSSSSS_EEEEEE.* or ID.*, in the root or a label folder."""
    label, video = row["label"], row["youtube_id"]
    if video is None:
        raise ValueError(f"{place}: youtube_id is empty")
    try:
        start, end = (int(float(row[name] or "")) for name in ("time_start", "time_end"))
    except ValueError as error:
        raise ValueError(f"{place}: time_start and time_end must be seconds ({error})") from error
    stem = f"{video}_{start:06d}_{end:06d}"
    folders = [root, *((root / label, root / label.replace(" ", "_")) if label else ())]
    for name in (stem, video):
        for folder in folders:
            for extension in _KINETICS_EXTENSIONS:
                if (folder / f"{name}{extension}").is_file():
                    return Entry(str((folder / f"{name}{extension}").relative_to(root)), label)
    return Entry(f"{stem}.mp4", label, error=f"not found as {stem}.* or {video}.*")
