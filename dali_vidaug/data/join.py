"""Two manifests put together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from dali_vidaug.data.conform import own_columns
from dali_vidaug.data.entry import first_difference, name_some
from dali_vidaug.data.names import complete, restore_name, store_name
from dali_vidaug.data.schema import SCHEMA
from dali_vidaug.errors import printable
from dali_vidaug.urls import is_url


class Part(NamedTuple):
    """What is put together: attributes of a ``Manifest``."""

    table: pa.Table
    classes: tuple[str, ...]
    root: str
    multi_label: bool
    box_classes: tuple[str, ...] = ()


def join(first: Part, second: Part) -> Part:
    """Put the rows of two manifests one after the other.

    Raises:
        ValueError: classes or columns contradict each other, or both have the same frames of a file.
    """
    classes, several = _common_classes(first, second)
    box_classes = _common_box_classes(first, second)
    _check_files(first, second)
    if is_url(first.root) or is_url(second.root):
        root = first.root if first.root == second.root else "."
        first, second = (_completed(part, root) for part in (first, second))
        tables = [_labelled(part, several) for part in (first, second)]
    else:
        root, tables = _local(first, second, several)
    for name in {*own_columns(tables[0])} & {*own_columns(tables[1])}:
        _check_types(name, tables)
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise ValueError(f"manifest + manifest: the columns cannot be joined: {error}") from error
    return Part(table, classes, root, several, box_classes)


def _local(first, second, several):
    roots = [str(Path(part.root).resolve()) for part in (first, second)]
    root = first.root if roots[0] == roots[1] else os.path.commonpath(roots)
    return root, [_moved(part, root, several) for part in (first, second)]


def _completed(part: Part, root: str) -> Part:
    """The rows with complete paths, unless their root is ``root``."""
    if part.root == root:
        return part
    table, base = part.table, part.root if is_url(part.root) else str(Path(part.root).resolve())
    for name in ("path", "shard"):
        values = [v if v is None else store_name(complete(base, restore_name(v))) for v in table[name].to_pylist()]
        column = pa.array(values, pa.string()).cast(SCHEMA.field(name).type)
        table = table.set_column(table.column_names.index(name), name, column)
    return part._replace(table=table, root=root)


def _common_classes(first: Part, second: Part) -> tuple[tuple[str, ...], bool]:
    """The classes of both, and whether samples may have several labels."""
    if not (first.classes and second.classes):
        return first.classes or second.classes, first.multi_label or second.multi_label
    if first.classes != second.classes:
        i, mine, theirs = first_difference(first.classes, second.classes)
        only = [sorted(set(a.classes) - set(b.classes)) for a, b in ((first, second), (second, first))]
        named = zip(("first", "second"), only, strict=True)
        sides = [f"; only in the {side}: {name_some(names, 10)}" for side, names in named if names]
        raise ValueError(
            f"manifest + manifest: the classes must be the same, got {len(first.classes)} and {len(second.classes)}; "
            f"the first that differs is {i}: {mine} and {theirs}{''.join(sides)}. Scan the second with like= the first"
        )
    if first.multi_label != second.multi_label:
        one, other = ("several labels", "one label") if first.multi_label else ("one label", "several labels")
        raise ValueError(
            f"manifest + manifest: the first has {one} a sample and the second {other}; scan both with multi_label="
        )
    return first.classes, first.multi_label


def _common_box_classes(first: Part, second: Part) -> tuple[str, ...]:
    """The classes of the boxes of both."""
    if first.box_classes and second.box_classes and first.box_classes != second.box_classes:
        i, mine, theirs = first_difference(first.box_classes, second.box_classes)
        raise ValueError(
            f"manifest + manifest: the classes of boxes must be the same, got {len(first.box_classes)} and "
            f"{len(second.box_classes)}; the first that differs is {i}: {mine} and {theirs}. Scan the second with "
            "like= the first, or both with box_classes="
        )
    return first.box_classes or second.box_classes


def _check_files(first: Part, second: Part) -> None:
    """Refuse the same frames of the same file on both sides."""
    both = sorted(set(_segments(first)) & set(_segments(second)))
    if both:
        shown = [printable(f"{path} [{start}, {end})") for path, start, end, _ in both]
        raise ValueError(
            f"manifest + manifest: both have the same frames of {len(both)} files, which would count twice: "
            f"{name_some(shown)}. select() the rows of one that the other lacks"
        )


def _segments(part: Part):
    root = part.root if is_url(part.root) else str(Path(part.root).resolve())
    names = map(restore_name, part.table["path"].to_pylist())
    paths = [path if is_url(path) else os.path.normpath(path) for path in (complete(root, name) for name in names)]
    numbers = (part.table[name].to_pylist() for name in ("first_frame", "last_frame", "stream"))
    return zip(paths, *numbers, strict=True)


def _moved(part: Part, root: str, several: bool) -> pa.Table:
    """The rows with paths that are relative to another root, and labels in the form of all others."""
    table = part.table
    prefix = store_name(os.path.relpath(Path(part.root).resolve(), root))
    for name in ("path", "shard"):
        values = [_below(store_name(root), prefix, path) for path in table[name].to_pylist()]
        column = pa.array(values, pa.string()).cast(SCHEMA.field(name).type)
        table = table.set_column(table.column_names.index(name), name, column)
    return _labelled(part._replace(table=table), several)


def _below(root, prefix, path):
    """A path, relative to the root if it is below it; ``prefix`` is where relative paths are now."""
    if path is None or is_url(path):
        return path
    if path[0] == "/":
        above = f"{root.rstrip('/')}/"
        return path[len(above) :].lstrip("/") if path.startswith(above) else path
    return path if prefix == "." else f"{prefix}/{path}"


def _labelled(part: Part, several: bool) -> pa.Table:
    """The rows; if they may have several labels, a list of each row's label, or of none."""
    table = part.table
    if several and not part.multi_label:
        label = table["label"].to_numpy()
        ends = np.cumsum([0, *(label >= 0)], dtype=np.int32)
        lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(label[label >= 0]))
        for name, values in (("label", pa.array(np.full_like(label, -1))), ("labels", lists)):
            column = values.cast(SCHEMA.field(name).type)
            table = table.set_column(table.column_names.index(name), name, column)
    return table


def _check_types(name: str, tables: list[pa.Table]) -> None:
    """Refuse a column of which joining would change values, such as ids that become floats."""
    one, other = (table[name].type for table in tables)
    alike = (pa.types.is_signed_integer, pa.types.is_unsigned_integer, pa.types.is_floating)
    if one != other and not any(pa.types.is_null(kind) for kind in (one, other)):
        if not any(kind(one) and kind(other) for kind in alike):
            raise ValueError(
                f"manifest + manifest: column {name} is {one} in the first and {other} in the second; make them alike"
            )
