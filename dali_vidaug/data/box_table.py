"""Boxes in tables of ours: a Parquet file, a CSV file with a header, or a table in memory."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dali_vidaug.data.box_file import BoxFile, Keys, number
from dali_vidaug.data.box_text import read_rows
from dali_vidaug.data.entry import name_some
from dali_vidaug.data.header import plain
from dali_vidaug.data.names import restore_name

CORNERS = ("x1", "y1", "x2", "y2")
_KNOWN = ("path", "frame", "seconds", *CORNERS, "label", "track", "outside")
_TRUE, _FALSE = ("1", "true"), ("0", "false", "")


def read_table(path: Path) -> BoxFile:
    """Read a Parquet file, or a CSV file with a header.

    Raises:
        ValueError: it is something else, or a value cannot be used; the row or line is named.
    """
    with path.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    if is_parquet:
        try:
            table = pq.ParquetFile(path).read(use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} cannot be read as Parquet: {error}") from error
        return _read(table.column_names, table.columns, str(path), "row", range(len(table)))
    rows = list(read_rows(path))
    header = rows[0][1] if rows else []
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(f"{path}, line {line}: {len(row)} fields, but the header has {len(header)}")
    columns = zip(*(row for _, row in rows[1:]), strict=True) if rows[1:] else [()] * len(header)
    texts = [pa.array([text or None for text in column], pa.string()) for column in columns]
    return _read(header, texts, str(path), "line", [line for line, _ in rows[1:]])


def from_table(table: Any) -> BoxFile:
    """Read a table: of pyarrow, a data frame, or columns by name.

    Raises:
        ValueError: it is something else, or a value cannot be used.
    """
    try:
        table = pa.table(table)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ValueError(
            f"scan: boxes must be a file or a table (of pyarrow, a data frame, columns by name), got "
            f"{type(table).__name__}: {error}"
        ) from error
    return _read(table.column_names, table.columns, "the table", "row", range(len(table)))


def _read(header: Sequence[str], values: Sequence[Any], path: str, unit: str, places: Sequence[int]) -> BoxFile:
    """The boxes of columns: pyarrow's, of any types."""
    names = [plain(name) for name in header]
    if not {"path", *CORNERS} <= set(names) or ("frame" in names) == ("seconds" in names):
        raise ValueError(
            f"{path}: a table of boxes must have path, frame or seconds, x1, y1, x2, y2[, label, track, outside]; it "
            f"has {', '.join(header) or 'nothing'}"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: two columns have the same name: {', '.join(header)}")
    columns = {name: column.to_pylist() for name, column in zip(names, values, strict=True) if name in _KNOWN}
    at = [f"{path}, {unit} {place}" for place in places]
    outside = [_truth(place, value) for place, value in zip(at, columns.get("outside", [None] * len(at)), strict=True)]

    def numbers(name):
        rows = zip(at, columns[name], outside, strict=True)
        return [math.nan if gone and value is None else number(place, name, value) for place, value, gone in rows]

    time = "seconds" if "seconds" in names else "frame"
    paths, video = _codes(_text(value) for value in columns["path"])
    if -1 in video:
        raise ValueError(f"{at[video.index(-1)]}: path must be a video, got nothing")
    if None in columns[time]:
        raise ValueError(f"{at[columns[time].index(None)]}: {time} must be a number, got nothing")
    classes, label = _name_codes(columns.get("label", [None] * len(at)))
    negative = next((i for i, name in enumerate(classes) if re.fullmatch(r"-\d+", name)), None)
    if negative is not None:
        where = at[label.index(negative)]
        raise ValueError(f"{where}: label must be text, or a number from 0 on, or -1 for none, got {classes[negative]}")
    names_of_tracks, track = _name_codes(columns.get("track", [None] * len(at)))
    ids = [*_track_ids(names_of_tracks), -1]
    xyxy = np.array([numbers(side) for side in CORNERS]).T.reshape(-1, 4)
    tracks = np.array([ids[code] for code in track], np.int64)
    of_video, labels, place = (np.array(column, np.int64) for column in (video, label, places))
    keys = Keys(of_video, np.array(numbers(time)), xyxy, labels, tracks, np.array(outside, bool), place)
    others = [name for name in header if plain(name) not in _KNOWN]
    notes = {f"columns that are not used ({name_some(others, 10)})": len(others)}
    videos = [(restore_name(name),) for name in paths]
    return BoxFile(path, "table", unit, videos, keys, tuple(classes), in_seconds=time == "seconds", notes=notes)


def _text(value: Any) -> str | None:
    """A value as text; None for None, NaN and nothing."""
    if value is None or value != value or value == "":
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _codes(values: Iterable[str | None]) -> tuple[list[str], list[int]]:
    """The values that occur, and which of them each is: -1 for None."""
    found: dict[str, int] = {}
    codes = [-1 if value is None else found.setdefault(value, len(found)) for value in values]
    return list(found), codes


def _name_codes(values: Sequence[Any]) -> tuple[list[str], list[int]]:
    """The same of labels or tracks: whole numbers are written as such (7 for 7.0), and -1 is none."""
    texts, codes = _codes(_text(value) for value in values)
    if all(re.fullmatch(r"-?\d+(\.0+)?", text) for text in texts):
        texts = [text.partition(".")[0] for text in texts]
    names, code_of = _codes(None if text == "-1" else text for text in texts)
    return names, [code_of[code] if code >= 0 else -1 for code in codes]


def _track_ids(tracks: list[str]) -> list[int]:
    """Whole numbers as they are; else numbers in the order of the names."""
    if all(re.fullmatch(r"-?\d{1,18}", track) and str(int(track)) == track for track in tracks):
        return [int(track) for track in tracks]
    order = {track: i for i, track in enumerate(sorted(tracks))}
    return [order[track] for track in tracks]


def _truth(place, value):
    text = "" if value is None or value != value else str(value).lower().removesuffix(".0")
    if text not in (*_TRUE, *_FALSE):
        raise ValueError(f"{place}: outside must be true or false, got {value!r}")
    return text in _TRUE
