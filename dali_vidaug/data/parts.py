"""A scan in parts, such as those of a Slurm array: which files are whose, the file of a part, all parts together."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dali_vidaug.data.assemble import Facts, Found, Unusable, conclude
from dali_vidaug.data.atomic import written_whole
from dali_vidaug.data.box_rows import add_boxes, given_boxes
from dali_vidaug.data.column import take
from dali_vidaug.data.entry import Listing, name_some
from dali_vidaug.data.index_table import IndexTable, IndexWriter, index_path, read_table, write_used
from dali_vidaug.data.labels import Labels
from dali_vidaug.data.listed_files import MeasureOptions
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.remarks import POSITION
from dali_vidaug.data.schema import MANIFEST_VERSION, check_output, read_file

_Path = str | os.PathLike[str]
_STEP = 1 << 14  # rows looked at together
_BESIDE = (".packets", ".partial")  # what ends the names of files that lie beside a part


class Part(NamedTuple):
    """Part ``number``, counted from 0, of ``total``."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


class Scanned(NamedTuple):
    """The file of a part, read. ``same``: what all parts of a scan have in common, in words that differ where they do
    not."""

    path: str
    part: Part
    same: Mapping[str, Any]
    facts: Facts
    found: Found


def as_part(part: Any) -> Part:
    """A part that was given as two numbers, or as text such as "3/16".

    Raises:
        ValueError: it is none.
    """
    values = part.split("/") if isinstance(part, str) else part
    if not isinstance(values, Sequence) or len(values) != 2 or not all(map(_is_whole, values)):
        raise ValueError(f"scan: part must be i/n, two whole numbers such as 3/16, got {part!r}")
    number, total = map(int, values)
    if not 0 <= number < total:
        hint = f"; a Slurm array of {total} is --array=0-{total - 1}" if number == total > 0 else ""
        raise ValueError(f"scan: part i/n must have i from 0 to n - 1, got {number}/{total}{hint}")
    return Part(number, total)


def _is_whole(value):
    return value.isascii() and value.isdigit() if isinstance(value, str) else type(value) is int


def part_path(output: _Path, part: Part) -> Path:
    """The file of a part: each has a name of its own, so that none takes the place of another.

    >>> part_path("train.parquet", Part(3, 16)).name
    'train.part-03-of-16.parquet'
    """
    path, width = Path(output), len(str(part.total - 1))
    return path.with_name(f"{path.stem}.part-{part.number:0{width}d}-of-{part.total}{path.suffix}")


def share_of(listing: Listing, names: Sequence[str], part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Which entries of a list, and which of the files that are to be measured, are of a part: two int64 arrays.

    All rows of a file are in the part of the file.
    """
    if part.total == 1:
        return np.arange(len(listing.entries)), np.arange(len(names))
    mine = set(names[part.number :: part.total])
    positions = [
        i for i, entry in enumerate(listing.entries)
        if (entry.path in mine if entry.error is None else i % part.total == part.number)
    ]  # fmt: skip
    return np.array(positions, np.int64), np.arange(part.number, len(names), part.total)


def what_is_the_same(
    listing: Listing, labels: Labels, options: MeasureOptions, box_classes: Sequence[str]
) -> dict[str, Any]:
    """What all parts of a scan have in common: the list, its labels and columns, how files are measured."""
    digest = hashlib.blake2b(digest_size=16)
    for first in range(0, len(listing.entries), _STEP):
        entries = [entry._replace(place="") for entry in listing.entries[first : first + _STEP]]
        rows = [tuple(entry) for entry in entries], labels.indices[first : first + _STEP]
        digest.update(repr((rows, listing.own.slice(first, _STEP).to_pylist())).encode("utf-8", "surrogateescape"))
    return {
        "root": str(listing.root), "number of rows of the list": len(listing.entries),
        "classes": hashlib.blake2b(repr(tuple(labels.classes)).encode(), digest_size=8).hexdigest(),
        "columns": str([f"{field.name}: {field.type}" for field in listing.own.schema]),
        "rows of the list": digest.hexdigest(), "deep": options.deep, "stream": options.stream,
        "index": options.with_index, "headers": options.headers, "frame_names": options.frame_names,
        "box classes of like=": list(box_classes),
    }  # fmt: skip


def write_part(path: _Path, part: Part, same: Mapping[str, Any], facts: Facts, found: Found) -> None:
    """Write the file of a part, and its packet indices beside it, whole or not at all."""
    table, name = write_used(found.table, found.packets, index_path(path))
    header = {
        "version": MANIFEST_VERSION, "part": part, "same": same, "facts": facts._asdict(), "classes": facts.classes,
        "unusable": found.unusable, "packet_index": name,
    }  # fmt: skip
    with written_whole(path) as file:
        table = table.replace_schema_metadata({"dali_vidaug": json.dumps(header)})
        pq.write_table(table, file, row_group_size=65536)


def _read_part(path: _Path) -> Scanned:
    if not Path(path).is_file():
        raise FileNotFoundError(f"merge: there is no file {path}")
    table, header, _ = read_file(path, parts=True)
    if "part" not in header:
        raise ValueError(
            f"merge: {path} is a whole manifest, not a part of a scan, which dali-vidaug scan --part i/n writes; "
            "manifests are put together in Python: train = first + second"
        )
    name = header["packet_index"]
    packets = None if name is None else read_table(index_path(path), name)
    if name is not None and packets is None:
        raise ValueError(f"merge: {index_path(path)} belongs to {path} and is not there, or another; scan that part")
    facts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in header["facts"].items()}
    unusable = [Unusable(*values) for values in header["unusable"]]
    found = Found(table.replace_schema_metadata(None), unusable, packets)
    return Scanned(str(path), Part(*header["part"]), header["same"], Facts(**facts), found)


def merge(
    parts: Iterable[_Path], output: _Path | None = None, *, boxes: Any = None, boxes_format: str | None = None,
    boxes_first_frame: int | None = None, boxes_hold: float = 0.0, box_classes: Any = None,
) -> Manifest:  # fmt: skip
    """Put the parts of a scan together. The manifest is that of one scan of the whole list, row by row.

    Args:
        parts: the files that ``scan(part=(i, n))`` wrote, in any order; those that lie beside them may be among them.
        output: Parquet file to write.
        boxes, boxes_format, boxes_first_frame, boxes_hold, box_classes: as of ``scan``, also of its ``like``.

    Raises:
        FileNotFoundError: a part is not there.
        ValueError: parts are missing, come twice, or are not of one scan; no video can be used; or ``output`` is there
            and is not a manifest, or is a part.
    """
    paths = [parts] if isinstance(parts, (str, os.PathLike)) else list(parts)
    paths = [path for path in paths if not str(path).endswith(_BESIDE)]  # of the shell's train.part-*
    if not paths:
        raise ValueError("merge: there are no parts")
    if output is not None:
        _check_apart(paths, Path(output))
    read = [_read_part(path) for path in paths]
    _check_together(read)
    read.sort(key=lambda one: one.part)
    facts = read[0].facts
    given = given_boxes(boxes, boxes_format, boxes_first_frame, boxes_hold, box_classes, facts.box_classes)
    folder = None if output is None else Path(output).resolve().parent
    found = _join([one.found for one in read], folder)
    manifest = add_boxes(conclude(found, facts, output), given, output)
    if output is not None:
        manifest.write(output)
    return manifest


def _check_apart(paths: Sequence[_Path], output: Path) -> None:
    """Refuse an output that cannot be written, or that would take the place of a part."""
    part = next((path for path in paths if Path(path).resolve() == output.resolve()), None)
    if part is not None:
        raise ValueError(f"merge: the output {output} is the part {part}, which would be lost; choose another name")
    check_output(output, "merge")


def _check_together(read: Sequence[Scanned]) -> None:
    """Refuse parts that are not all parts of one scan."""
    first = read[0]
    path_of: dict[int, str] = {}
    for one in read:
        if one.part.total != first.part.total:
            raise ValueError(f"merge: {first.path} is one of {first.part.total} parts, {one.path} of {one.part.total}")
        differs = [name for name, value in first.same.items() if one.same.get(name) != value]
        if differs:
            name = differs[0]
            what = "" if name in ("classes", "rows of the list") else f": {first.same[name]} and {one.same.get(name)}"
            raise ValueError(
                f"merge: {first.path} and {one.path} are parts of scans that differ: {name}{what}. All parts must be "
                "scanned with the same list and options; a folder must not change meanwhile"
            )
        if one.part.number in path_of:
            raise ValueError(f"merge: part {one.part} is given twice: {path_of[one.part.number]} and {one.path}")
        path_of[one.part.number] = one.path
    missing = [str(Part(i, first.part.total)) for i in range(first.part.total) if i not in path_of]
    if missing:
        raise ValueError(
            f"merge: {len(missing)} of {first.part.total} parts are missing: {name_some(missing, 10)}; scan them with "
            "the same options and --part"
        )


def _join(found: Sequence[Found], folder: Path | None) -> Found:
    """What is found in all parts, in the order of the list; packet indices are numbered anew, in that order."""
    numbers, tables, begin = [], [], 0
    for one in found:
        table = one.table
        numbers.append(pc.add(table["packet_index"], begin).fill_null(-1).to_numpy())
        begin += 0 if one.packets is None else len(one.packets)
        tables.append(table)
    joined = pa.concat_tables(tables)
    order = np.argsort(joined[POSITION].to_numpy(), kind="stable")
    old = np.concatenate(numbers)[order]
    used, first = np.unique(old[old >= 0], return_index=True)
    used = used[np.argsort(first)]
    packets = _copy_indices([one.packets for one in found], used, folder)
    new = np.full(begin + 1, -1)
    new[used] = np.arange(len(used))
    table = pa.Table.from_arrays([take(joined[name], order) for name in joined.column_names], schema=joined.schema)
    column = pa.array(new[old], pa.int32(), mask=old < 0)
    table = table.set_column(table.column_names.index("packet_index"), table.schema.field("packet_index"), column)
    unusable = sorted(bad for one in found for bad in one.unusable)
    return Found(table, unusable, packets)


def _copy_indices(tables: Sequence[IndexTable | None], numbers: np.ndarray, folder: Path | None) -> IndexTable | None:
    """The indices with these numbers, which count those of all tables."""
    present = [table for table in tables if table is not None]
    ends = np.cumsum([len(table) for table in present])
    writer = IndexWriter(folder)
    for number, which in zip(numbers.tolist(), np.searchsorted(ends, numbers, "right").tolist(), strict=True):
        writer.add(present[which][number - int(ends[which]) + len(present[which])])
    return writer.close()
