"""The manifest of a list whose files are measured: rows, remarks, and files that cannot be used."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from dali_vidaug.data.column import take
from dali_vidaug.data.entry import Listing, name_some, plural
from dali_vidaug.data.index_table import IndexTable, IndexWriter
from dali_vidaug.data.known import Known
from dali_vidaug.data.labels import Labels, compare_with_neighbours
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.names import complete, find_root, store_name
from dali_vidaug.data.rates import fit_images
from dali_vidaug.data.remarks import (
    AT,
    FILE,
    OF_SCAN,
    PLACE,
    POSITION,
    SAID,
    beyond,
    late,
    oddities,
    repeated,
    sayings,
    starts_differ,
    without_index,
)
from dali_vidaug.data.schema import SCHEMA, Broken
from dali_vidaug.data.segments import WHOLE, find_segment
from dali_vidaug.errors import printable
from dali_vidaug.urls import is_url

_PIECE = 8192  # rows that are Python objects at the same time
_ALL = pa.schema([*SCHEMA, *OF_SCAN])

log = logging.getLogger("dali_vidaug")


class Unusable(NamedTuple):
    """A row of a list that cannot be used: its position and path in the list, why, and whether its file is missing."""

    position: int
    path: str
    reason: str
    is_missing: bool


class Found(NamedTuple):
    """What is found of a list, or of a part of it: rows with the columns of ``SCHEMA``, of the list and of ``OF_SCAN``,
    those that cannot be used, and packet indices, which ``packet_index`` counts."""

    table: pa.Table
    unusable: list[Unusable]
    packets: IndexTable | None


class Facts(NamedTuple):
    """What a manifest has of a list besides rows: sentences as of ``Listing`` and ``Labels``; ``total``: entries;
    ``box_classes``: those of ``like``, which boxes have that are given later."""

    root: str
    classes: tuple[str, ...]
    from_folders: bool
    total: int
    warnings: tuple[str, ...]
    label_warnings: tuple[str, ...]
    notes: tuple[str, ...]
    box_classes: tuple[str, ...] = ()


def facts_of(listing: Listing, labels: Labels, box_classes: tuple[str, ...] = ()) -> Facts:
    """The facts of a list."""
    return Facts(
        str(listing.root), tuple(labels.classes), listing.from_folders, len(listing.entries), tuple(listing.warnings),
        tuple(labels.warnings), tuple(listing.notes), tuple(box_classes),
    )  # fmt: skip


def find(
    listing: Listing, labels: Labels, known: Known, positions: np.ndarray, file_numbers: np.ndarray,
    folder: str | os.PathLike[str] | None,
) -> Found:  # fmt: skip
    """The rows of a list whose files are measured.

    Args:
        listing, labels: the list.
        known: what is measured.
        positions: (P,) int64: which of the entries, rising.
        file_numbers: (F,) int64: for each file of ``known`` its number among all of the list.
        folder: for large files that have no name, as of ``IndexWriter``.
    """
    tables: list[pa.Table] = []
    unusable: list[Unusable] = []
    writer = IndexWriter(folder)
    index_of = np.full(len(file_numbers), -1, np.int64)  # number of each file's packet index
    for first in range(0, max(1, len(positions)), _PIECE):
        some = positions[first : first + _PIECE].tolist()
        good = list(_rows(listing, labels, known, some, unusable))
        for row in good:
            number = row[FILE]
            if row["index"] is not None:
                if index_of[number] < 0:
                    index_of[number] = writer.add(row["index"])
                row["packet_index"] = int(index_of[number])
            else:
                row["packet_index"] = None
            row[FILE] = int(file_numbers[number])
        table = pa.Table.from_pylist(good, _ALL)
        chosen = np.array([row[POSITION] for row in good], np.int64)
        for field in listing.own.schema:
            table = table.append_column(field, take(listing.own[field.name], chosen))
        tables.append(table)
    return Found(pa.concat_tables(tables), unusable, writer.close())


def _rows(listing, labels, known, positions, unusable) -> Iterator[dict[str, Any]]:
    """The rows of some entries; those that cannot be used go to ``unusable``."""
    root, entries = listing.root, listing.entries
    wanted = {known.number(entries[i].path) for i in positions if entries[i].error is None}
    measured = dict(zip(wanted, known.rows(list(wanted)), strict=True))
    for i in positions:
        entry, indices, row = entries[i], labels.indices[i], {}
        error = entry.error
        if error is None:
            number = known.number(entry.path)
            row = measured[number]
            error = row.get("error")
        if error is None:
            try:
                row = dict(fit_images(row, entry))
                start, end, remark = find_segment(row, entry)
            except ValueError as problem:
                error = str(problem)
        if error is not None:
            is_missing = "error" in row and entry.shard is None and not _may_exist(complete(str(root), entry.path))
            unusable.append(Unusable(i, entry.path, error, is_missing))
            continue
        label, several = (-1, list(indices)) if listing.several else (indices[0] if indices else -1, None)
        part: dict[str, Any] = {"label": label, "labels": several, "first_frame": start, "last_frame": end}
        if entry.shard is not None:
            part |= {"shard": store_name(entry.shard), "shard_offset": entry.first}
        of_scan = {POSITION: i, FILE: number, PLACE: store_name(entry.place), AT: entry.at, SAID: remark}
        yield {**row, "path": store_name(entry.path), **part, **of_scan}


def _may_exist(path: str) -> bool:
    return is_url(path) or Path(path).exists()


def conclude(found: Found, facts: Facts, output: str | os.PathLike[str] | None, part: str | None = None) -> Manifest:
    """The manifest of what is found.

    Args:
        found: rows in the order of the list.
        facts: of the list.
        output: the file that it is for.
        part: what is said of a part of a scan; None: it is all of it.

    Raises:
        ValueError: it has no rows, and is no part.
    """
    table, root = found.table, facts.root
    missing = [*_missing(facts, found.unusable)]
    if not len(table) and part is None:
        missing += [text for text in facts.warnings if text.startswith("rows whose video is")]
        bad = found.unusable[0]
        raise ValueError(
            f"scan: none of {plural(facts.total, 'video')} can be used; the first: "
            f"{printable(complete(root, bad.path))}: {bad.reason}{''.join(f'; {printable(text)}' for text in missing)}"
        )
    said = sayings(table)
    expected = [said.pop(WHOLE)] if WHOLE in said else []
    expected += [*oddities(table), *without_index(table)]
    again = [*repeated(root, table), *late(table), *beyond(table), *starts_differ(table)]
    others = [] if output is None or part else compare_with_neighbours(Path(output), facts.classes)
    said_once = dict.fromkeys((*facts.warnings, *facts.label_warnings, *missing, *said.values(), *again, *others))
    warnings = [*map(printable, said_once)]
    for text in warnings:
        log.warning("scan: %s", text)
    remarks = (*([part] if part else []), *warnings, *map(printable, (*facts.notes, *expected)))
    broken = [Broken(complete(root, bad.path), bad.reason) for bad in found.unusable]
    return Manifest(_whole(table.drop_columns(OF_SCAN.names)), facts.classes, root, broken, remarks, found.packets)


def _whole(table: pa.Table) -> pa.Table:
    """The table with columns in one piece each, if they are not too large, and dictionaries in the order of rows."""
    columns = []
    for field in table.schema:
        column = table[field.name]
        if pa.types.is_dictionary(field.type) and field.name in SCHEMA.names:
            column = column.cast(pa.string()).combine_chunks().dictionary_encode()
        columns.append(pa.table([column], schema=pa.schema([field])).combine_chunks().column(0))
    return pa.Table.from_arrays(columns, schema=table.schema)


def _missing(facts: Facts, unusable: Sequence[Unusable]) -> Iterator[str]:
    """A sentence on files of a list that do not exist: where they were looked for, and where the first one is."""
    missing = sorted({bad.path for bad in unusable if bad.is_missing})
    if not missing or facts.from_folders or is_url(facts.root):
        return
    root = Path(facts.root)
    found = find_root(root, missing[0])
    hint = f"; {missing[0]} is in {found}: root={str(found)!r}" if found else ""
    yield f"files that do not exist in the root {root}: {len(missing)} ({name_some(missing)}){hint}"
