"""The manifest of a list whose files are measured: rows, remarks, and files that cannot be used."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from dali_vidaug.data.entry import Entry, Listing, name_some, plural
from dali_vidaug.data.index_table import IndexTable, count_missing
from dali_vidaug.data.labels import Labels, compare_with_neighbours, find_repeated
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.names import complete, find_root, store_name
from dali_vidaug.data.schema import SCHEMA, Broken
from dali_vidaug.data.segments import WHOLE, find_segment
from dali_vidaug.errors import printable
from dali_vidaug.urls import is_url

log = logging.getLogger("dali_vidaug")


def assemble(listing: Listing, labels: Labels, rows: dict[str, Any], output: str | os.PathLike[str] | None) -> Manifest:
    """The manifest of a list whose files are measured: ``rows`` by path."""
    root, entries = listing.root, listing.entries
    good, positions, broken = [], [], []
    said: dict[str, list[str]] = defaultdict(list)
    for i, (entry, indices) in enumerate(zip(entries, labels.indices, strict=True)):
        row = rows.get(entry.path, {})
        error = entry.error or row.get("error")
        if error is None:
            try:
                first, last, remark = find_segment(row, entry)
            except ValueError as problem:
                error = str(problem)
        if error is not None:
            broken.append(Broken(complete(str(root), entry.path), error))
            continue
        if remark:
            said[remark].append(entry.place)
        label, several = (-1, list(indices)) if listing.several else (indices[0] if indices else -1, None)
        part: dict[str, Any] = {"label": label, "labels": several, "first_frame": first, "last_frame": last}
        if entry.shard is not None:
            part |= {"shard": store_name(entry.shard), "shard_offset": entry.first}
        good.append({**row, "path": store_name(entry.path), **part})
        positions.append(i)
    files = {entry.path for entry in entries if entry.shard is None and "error" in rows.get(entry.path, ())}
    missing = [*_missing(listing, files)]
    if not good:
        missing += [text for text in listing.warnings if text.startswith("rows whose video is")]
        raise ValueError(
            f"scan: none of {plural(len(entries), 'video')} can be used; the first: {printable(broken[0].path)}: "
            f"{broken[0].reason}{''.join(f'; {printable(text)}' for text in missing)}"
        )
    table = pa.Table.from_pylist(good, SCHEMA)
    own = listing.own.take(pa.array(positions, pa.int64()))
    numbers, packets = _gather_indices(good)
    at = table.column_names.index("packet_index")
    table = table.set_column(at, "packet_index", pa.array(numbers, pa.int32()))
    for name in own.column_names:
        table = table.append_column(own.schema.field(name), own[name])
    sayings = {remark: f"{remark}: {len(places)} ({name_some(places)})" for remark, places in said.items()}
    expected = [sayings.pop(WHOLE)] if WHOLE in sayings else []
    odd = [f"{entries[i].path}: {row['notes']}" for i, row in zip(positions, good, strict=True) if row["notes"]]
    expected += [f"files with something odd: {len(odd)} ({name_some(odd)})"] if odd else []
    without = count_missing({row["path"]: row["no_packet_index"] for row in good}.values())
    expected += [without] if without else []
    repeated = [*find_repeated(root, good, [entries[i] for i in positions])]
    repeated += _late(good, [entries[i] for i in positions])
    others = [] if output is None else compare_with_neighbours(Path(output), labels.classes)
    said_once = dict.fromkeys((*listing.warnings, *labels.warnings, *missing, *sayings.values(), *repeated, *others))
    warnings = [*map(printable, said_once)]
    for text in warnings:
        log.warning("scan: %s", text)
    remarks = (*warnings, *map(printable, (*listing.notes, *expected)))
    return Manifest(table, labels.classes, root, broken, remarks, packets)


def _late(rows: list[dict[str, Any]], entries: list[Entry]) -> Iterator[str]:
    """A sentence on entries that are about a time after the end of their video."""
    timed = [(row, entry) for row, entry in zip(rows, entries, strict=True) if entry.at is not None]
    late = [entry.place for row, entry in timed if row["duration_seconds"] and entry.at > row["duration_seconds"]]
    if late:
        yield (
            f"times that are after the end of their video: {len(late)} of {len(timed)} ({name_some(late)}); "
            "KeyframeClip(offset=900) is for videos that were cut from minute 15 on"
        )


def _gather_indices(rows):
    """For each row the number of its file's packet index or None; and the packet indices, each once."""
    indices = {row["path"]: row["index"] for row in rows if row["index"] is not None}
    number_of = {path: number for number, path in enumerate(indices)}
    return [number_of.get(row["path"]) for row in rows], IndexTable.of(list(indices.values()))


def _missing(listing: Listing, names: set[str]) -> Iterator[str]:
    """A sentence on files of a list that do not exist: where they were looked for, and where the first one is."""
    if is_url(listing.root) or listing.from_folders:
        return
    root = Path(listing.root)
    missing = sorted(name for name in names if not is_url(name) and not (root / name).exists())
    if not missing:
        return
    first = missing[0]
    found = find_root(root, first)
    hint = f"; {first} is in {found}: root={str(found)!r}" if found else ""
    yield f"files that do not exist in the root {root}: {len(missing)} ({name_some(missing)}){hint}"
