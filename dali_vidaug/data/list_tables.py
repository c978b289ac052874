"""Lists that are tables: CSV and Parquet with a header, JSON Lines, and the metadata of Hugging Face's VideoFolder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from dali_vidaug.data.entry import Classes, Listing, name_some
from dali_vidaug.data.folder import list_folder
from dali_vidaug.data.header import looks_like_label, plain, read_header
from dali_vidaug.data.labels import index_labels, whole_number
from dali_vidaug.data.list_source import Options, Source, each_row, has_paths, json_items
from dali_vidaug.data.list_text import columns_of, read_text
from dali_vidaug.data.lists import Rows, list_rows

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_SPLIT_COLUMNS = ("split", "subset", "set", "partition", "is_train")
_FILE_NAME = re.compile(r"(.*_)?file_name")
_SPLITS = {  # how folders of splits may be named, as Hugging Face has it
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


def fits_table(source: Source) -> bool:
    """Whether a table has a column with paths."""
    return source.json is None and bool(source.columns) and has_paths(source.columns) and not _is_metadata(source)


def read_table(source: Source) -> Listing:
    """Read CSV or Parquet with columns ``path[, label, start, end]``.

    Raises:
        ValueError: a value cannot be used.
    """
    return _from_rows(source, source.rows)


def _from_rows(source: Source, rows: Rows) -> Listing:
    return _one_split(source, rows, _all_rows(source, rows))


def _all_rows(source: Source, rows: Rows) -> Listing:
    multi_label, columns = source.option("multi_label"), source.option("label_columns")
    split = _split_column(source, rows)
    listing = list_rows(source.path, source.root, rows, multi_label, columns, split)
    header = read_header(str(source.path), rows.table.column_names, columns)
    others = [name for name in rows.table.column_names if name not in (*header.used, split)]
    if header.labels or not others or any(map(looks_like_label, others)):
        return listing
    told = f"no column is read as a label, of {name_some(others, 10)}; label_columns= chooses"
    return listing._replace(warnings=(*listing.warnings, told))


def _split_column(source: Source, rows: Rows) -> str | None:
    """The column that says of which split a row is."""
    free = [name for name in rows.table.column_names if name not in (source.options.label_columns or ())]
    return next((name for known in _SPLIT_COLUMNS for name in free if plain(name) == known), None)


def _one_split(source: Source, rows: Rows, listing: Listing) -> Listing:
    """The rows of the split that is asked for; the classes are those of all splits.

    A column says of which split a row is; if there is none, the folder train, test, ... that its video is in.
    """
    column = _split_column(source, rows)
    if column:
        splits = [row[column] for _, row in each_row(rows, [column])]
    else:
        parts = [os.path.relpath(Path(listing.root, entry.path), listing.root).split("/") for entry in listing.entries]
        folders = [part[0] if len(part) > 1 and _split_of(part[0]) else "" for part in parts]
        splits = folders if source.options.split in (None, *folders) else [_split_of(name) or "" for name in folders]
        if not any(splits):
            return listing
    chosen, warnings = source.choose_split(splits)
    listing = listing._replace(warnings=(*listing.warnings, *warnings))
    if all(chosen):
        return listing
    kept = [i for i, take in enumerate(chosen) if take]
    if not source.options.classes_given:
        labels = index_labels(listing)
        classes = Classes(labels.classes, {}, str(source.path)) if labels.classes else None
        told = f"classes: the labels of all splits of {source.path.name}"
        listing = listing._replace(
            classes=classes, warnings=(*listing.warnings, *labels.warnings), notes=(*listing.notes, told)
        )
    return listing._replace(
        entries=[listing.entries[i] for i in kept],
        labels={group: [labels[i] for i in kept] for group, labels in listing.labels.items()},
        own=listing.own.take(kept),
    )


def read_folder(source: Source) -> Listing:
    """Read a folder whose sub-folders are the classes, whatever lists are in it.

    Raises:
        ValueError: it is no folder.
    """
    if not source.path.is_dir():
        source.refuse(None, "a folder", "a file")
    return list_folder(source.path)


def _objects(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of JSON Lines or of a JSON list, each with its place.

    Raises:
        ValueError: a line is no object.
    """
    if isinstance(source.json, list):
        yield from json_items(source)
        return
    for line, text in source.lines:
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{source.place(line)}: expected a JSON object in each line ({error})") from error
        if not isinstance(value, dict):
            source.refuse(line, "a JSON object in each line", value)
        yield source.place(line), value


def _first_object(source: Source) -> dict[str, Any]:
    try:
        return next((value for _, value in _objects(source)), {})
    except ValueError:
        return {}


def fits_jsonl(source: Source) -> bool:
    """Whether it is objects, one in each line or in a JSON list, that have a path."""
    return bool(source.text) and not _is_metadata(source) and has_paths(_first_object(source))


def read_jsonl(source: Source) -> Listing:
    """Read JSON Lines, or a JSON list of objects, with the same names as the columns of a table.

    Raises:
        ValueError: a line is no object, or a value cannot be used.
    """
    return _from_rows(source, _json_rows(source))


def _json_rows(source: Source) -> Rows:
    """The objects of a file as rows; a key that an object lacks is missing there.

    Raises:
        ValueError: a path is an object or a list.
    """
    objects = list(_objects(source))
    keys = list(dict.fromkeys(key for _, value in objects for key in value))
    paths = read_header(str(source.path), keys, needs_path=False).path or ""
    for place, value in objects:
        if isinstance(value.get(paths), (dict, list)):
            hint = "; of pandas, to_json(orient='records') is read" if len(objects) == 1 else ""
            if hint and isinstance(value[paths], list):
                hint = f"; columns are lists in a program: dv.scan(data[{paths!r}], labels=...) reads them"
            raise ValueError(f"{place}: {paths} must be a path, got {value[paths]!r:.80}{hint}")
    return Rows(pa.table(columns_of([value for _, value in objects])), [place for place, _ in objects])


def _is_metadata(source: Source) -> bool:
    """Whether it is a VideoFolder's file of metadata."""
    if source.path.name not in METADATA:
        return False
    columns = _first_object(source) if source.path.suffix == ".jsonl" else source.columns
    return any(_FILE_NAME.fullmatch(name) for name in columns)


def fits_videofolder(source: Source) -> bool:
    """Whether it is a VideoFolder's file of metadata, or a folder that has one."""
    if source.path.is_dir():
        return bool(_metadata_files(source.path))
    return _is_metadata(source)


def _metadata_files(folder: Path) -> list[Path]:
    """The files of metadata in a folder; if there are none, those in its folders of splits."""
    found = _metadata_in(folder)
    if found:
        return found
    below = sorted(path for path in folder.iterdir() if path.is_dir() and _split_of(path.name))
    return [file for path in below for file in _metadata_in(path)]


def _metadata_in(folder: Path) -> list[Path]:
    files = [folder / name for name in METADATA if (folder / name).is_file()]
    return [file for file in files if _is_metadata(_opened(file))]


def _opened(file: Path, options: Options | None = None, used: set[str] | None = None) -> Source:
    """A file of metadata; paths are relative to it."""
    options, parquet = options or Options(), file.suffix == ".parquet"
    text = None if parquet else read_text(file, options.encoding)
    return Source(file, file.parent.resolve(), options, text, parquet, set() if used is None else used)


def _split_of(name: str) -> str | None:
    return next((split for split, names in _SPLITS.items() if name.lower() in names), None)


def read_videofolder(source: Source) -> Listing:
    """Read Hugging Face's VideoFolder: a file of metadata beside the videos, with ``file_name`` and other columns.

    Of a folder with a folder for each split, or metadata of several, ``split`` says which; without metadata the folders
    in it are the classes.

    Raises:
        ValueError: there is no ``file_name``, or there are several splits and ``split`` does not say which.
    """
    path = source.path
    if path.is_dir():
        folder = _choose_folder(source, path)
        files = _metadata_files(folder)
        if not files:
            return _class_folders(source, folder)
        if len(files) > 1:
            several = name_some([str(file.relative_to(source.path)) for file in files])
            raise ValueError(f"{source.path}: expected one file of metadata, got {len(files)} ({several})")
        path = files[0]
        source.option("encoding")
        options = source.options._replace(split=None) if folder != source.path else source.options
        source = _opened(path, options, source.used)
    rows = _json_rows(source) if path.suffix == ".jsonl" else source.rows
    names = [name for name in rows.table.column_names if _FILE_NAME.fullmatch(name)]
    lists = [name for name in rows.table.column_names if name.endswith("_file_names") or name == "file_names"]
    if len(names) != 1:
        raise ValueError(
            f"{path}: expected one column file_name or *_file_name, got {', '.join(names) or 'none'}"
            f"{f'; {lists[0]}, several files a row, is not read' if lists else ''}"
        )
    table = rows.table
    if names[0] != "file_name":
        table = table.rename_columns(["file_name" if name == names[0] else name for name in table.column_names])
    rows = Rows(table, rows.places)
    listing = _all_rows(source, rows)
    listing = listing._replace(warnings=(*listing.warnings, *_not_named(listing)))
    return _one_split(source, rows, listing)


def _not_named(listing: Listing) -> Iterator[str]:
    """A sentence on videos beside the metadata that it does not name."""
    named = {os.path.normpath(entry.path) for entry in listing.entries}
    with suppress(ValueError):  # there is no video
        others = [entry.path for entry in list_folder(Path(listing.root)).entries if entry.path not in named]
        if others:
            yield f"videos that the metadata does not name, left out: {len(others)} ({name_some(others)})"


def _class_folders(source: Source, folder: Path) -> Listing:
    """The folders of classes in a folder; the classes are those of all splits, sorted."""
    listing = list_folder(folder)
    names = {label for row in listing.labels[""] for label in row}
    for other in sorted(source.path.iterdir()) if folder != source.path else ():
        if other.is_dir() and other != folder and _split_of(other.name):
            with suppress(ValueError):  # there is no video
                names |= {label for row in list_folder(other).labels[""] for label in row}
    if not names or any(whole_number(name) is not None for name in names):
        return listing
    return listing._replace(classes=Classes(tuple(sorted(names)), {}, f"the folders of {source.path}"))


def _choose_folder(source: Source, folder: Path) -> Path:
    """The folder of the split that is asked for; of a folder with metadata, whose rows say it, the folder itself."""
    if _metadata_in(folder):
        return folder
    splits = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and _split_of(path.name)}
    wanted = source.option("split") if splits or source.options.split is None else source.options.split
    chosen = [path for name, path in splits.items() if wanted in (name, _split_of(name))]
    if len(chosen) == 1:
        return chosen[0]
    if splits:
        raise ValueError(f"{folder}: split must be one of its folders of splits ({', '.join(splits)}), got {wanted!r}")
    if wanted is not None:
        raise ValueError(f"{folder}: split={wanted!r}, but it has no folders of splits: {', '.join(_SPLITS)}")
    return folder
