"""What is to be said of the rows that a scan found, in sentences with a count and a few of those that are meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dali_vidaug.data.column import take
from dali_vidaug.data.index_table import count_missing
from dali_vidaug.data.names import complete, restore_name
from dali_vidaug.data.schema import SEGMENTS
from dali_vidaug.media.video import IMAGES

# Columns of the rows of a scan, besides those of a manifest
POSITION = "scan.position"  # in the list
FILE = "scan.file"  # number of the file, in the order of names
PLACE = "scan.place"  # where the list says so
AT = "scan.at"  # seconds that the row is about, or null
SAID = "scan.said"  # what is to be said of its segment, or null
OF_SCAN = pa.schema(
    [(POSITION, pa.int64()), (FILE, pa.int64()), (PLACE, pa.string()), (AT, pa.float64()), (SAID, pa.string())]
)
_SHOWN = 3
_SLACK = 0.1  # seconds that an annotated segment may end after its video: lists have one decimal place
_OTHER = 1.0  # seconds by which a video may be longer or shorter than its list says


def _some(table: pa.Table, rows: np.ndarray, others: str | None = None, by: str = PLACE) -> str:
    """How many rows there are, and the first by a column, or by their paths, with the text of another column after."""
    columns = [take(table[by if others is None else "path"], rows[:_SHOWN]).to_pylist()]
    texts = [restore_name(text) for text in columns[0]]
    if others is not None:
        said = take(table[others], rows[:_SHOWN]).to_pylist()
        texts = [f"{text}: {more}" for text, more in zip(texts, said, strict=True)]
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return f"{len(rows)} ({', '.join(texts)}{more})"


def _rows(mask: pa.ChunkedArray) -> np.ndarray:
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy())


def sayings(table: pa.Table) -> dict[str, str]:
    """For each remark on segments a sentence."""
    remarks = [text for text in pc.unique(table[SAID]).to_pylist() if text is not None]
    return {text: f"{text}: {_some(table, _rows(pc.equal(table[SAID], text)))}" for text in remarks}


def oddities(table: pa.Table) -> Iterator[str]:
    """A sentence on files with notes."""
    rows = _rows(pc.is_valid(table["notes"]))
    if len(rows):
        yield f"files with something odd: {_some(table, rows, 'notes')}"


def without_index(table: pa.Table) -> Iterator[str]:
    """A sentence on files without a packet index."""
    _, first = np.unique(table[FILE].to_numpy(), return_index=True)  # a row of each file
    reasons = take(table["no_packet_index"], np.sort(first)).drop_null()
    said = count_missing(reason for piece in reasons.chunks for reason in piece.to_pylist())
    if said:
        yield said


def late(table: pa.Table) -> Iterator[str]:
    """A sentence on rows that are about a time after the end of their video."""
    rows = _rows(pc.and_kleene(pc.greater(table[AT], table["duration_seconds"]), pc.greater(
        table["duration_seconds"], 0.0)))  # fmt: skip
    if len(rows):
        of = f"of {len(table) - table[AT].null_count} "
        count, _, places = _some(table, rows).partition(" ")
        yield (
            f"times that are after the end of their video: {count} {of}{places}; "
            "KeyframeClip(offset=900) is for videos that were cut from minute 15 on"
        )


def beyond(table: pa.Table) -> Iterator[str]:
    """Sentences on videos that are shorter than the segments annotated in them, or not as long as their list says."""
    if SEGMENTS.name not in table.column_names or table[SEGMENTS.name].type != SEGMENTS.type:
        return
    length = pc.fill_null(table["duration_seconds"], np.inf).to_numpy()
    segments = table[SEGMENTS.name].combine_chunks()
    rows = pc.list_parent_indices(segments).to_numpy()
    start, end = (pc.list_flatten(segments).field(name).to_numpy() for name in ("start", "end"))
    after = end > length[rows] + _SLACK
    if after.any():
        yield (
            f"annotated segments that end after their video does, of {len(rows)}: {after.sum()}, in rows: "
            f"{_some(table, np.unique(rows[after]), by='path')}; {(start >= length[rows])[after].sum()} of them also "
            "start after it"
        )
    if "list_duration" in table.column_names and pa.types.is_floating(table["list_duration"].type):
        told = pc.fill_null(table["list_duration"], np.nan).to_numpy()
        other = np.flatnonzero(np.abs(told - length) > _OTHER)
        other = other[np.isfinite(length[other])]
        if len(other):
            yield (
                f"videos that are more than {_OTHER:g} s longer or shorter than their list says, so that its seconds "
                f"may be of another version: {_some(table, other, by='path')}"
            )


def starts_differ(table: pa.Table) -> Iterator[str]:
    """A sentence on folders of images whose first number is another than that of most: some may be lost."""
    rows = _rows(pc.equal(pc.cast(table["codec"], pa.string()), IMAGES))
    _, once = np.unique(take(table[FILE], rows).to_numpy(), return_index=True)
    rows = np.sort(rows[once])
    numbers = take(table["pts_first"], rows).to_numpy()
    values, firsts, counts = np.unique(numbers, return_index=True, return_counts=True)
    if len(values) > 1:
        usual = values[np.lexsort((firsts, -counts))[0]]
        odd = rows[numbers != usual]
        yield (
            f"folders of images that do not begin with number {usual}, as {len(rows) - len(odd)} do: "
            f"{_some(table, odd, by='path')}. Frame 0 is the first image that is there"
        )


def repeated(root: str, table: pa.Table) -> Iterator[str]:
    """Sentences on rows whose frames an earlier row has, with the same label or another."""
    if not len(table):
        return
    files = _same_files(root, table)
    parts = [table[name].to_numpy() for name in ("first_frame", "last_frame")]
    keys = (files, *parts, pc.fill_null(table[AT], -np.inf).to_numpy())
    order = np.lexsort(keys[::-1])  # stable: rows that are the same stay in order
    new = np.ones(len(order), bool)
    new[1:] = np.any([key[order[1:]] != key[order[:-1]] for key in keys], axis=0)
    first = np.empty(len(order), np.int64)  # of each row, the first that has its frames
    first[order] = order[np.flatnonzero(new)][np.cumsum(new) - 1]
    again = np.flatnonzero(first != np.arange(len(first)))
    if not len(again):
        return
    alike = _have_same_labels(table, again, first[again])
    if not alike.all():
        yield f"rows with the frames of an earlier row, but another label: {_some(table, again[~alike])}"
    if alike.any():
        yield f"rows with the frames and label of an earlier row, which count again: {_some(table, again[alike])}"


def _have_same_labels(table, rows, others):
    if table["labels"].null_count == len(table):
        labels = table["label"].to_numpy()
        return labels[rows] == labels[others]
    mine, theirs = (take(table["labels"], some).to_pylist() for some in (rows, others))
    return np.array([sorted(a) == sorted(b) for a, b in zip(mine, theirs, strict=True)], bool)


def _same_files(root, table):
    """The number of each row's file; files that are one by links have one number. Only those are looked at whose size
    and date are the same."""
    files = table[FILE].to_numpy().copy()
    known, first = np.unique(files, return_index=True)
    sizes, dates = (take(table[name], first).fill_null(0).to_numpy() for name in ("bytes", "mtime_ns"))
    _, which, counts = np.unique(dates ^ sizes << 40, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(counts[which] > 1)
    number_of: dict[tuple[int, int, int | None], int] = {}
    changed = {}
    places = [take(table[name], first[shared]).to_pylist() for name in ("path", "shard", "shard_offset")]
    for number, name, shard, offset in zip(known[shared].tolist(), *places, strict=True):
        with suppress(OSError):
            status = Path(complete(root, restore_name(shard or name))).stat()  # not of objects
            same = number_of.setdefault((status.st_dev, status.st_ino, offset), number)
            if same != number:
                changed[number] = same
    if changed:
        old = np.array(sorted(changed))
        at = np.searchsorted(old, files).clip(max=len(old) - 1)
        files = np.where(old[at] == files, np.array([changed[number] for number in old.tolist()])[at], files)
    return files
