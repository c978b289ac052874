"""The table of a manifest: its columns in order, and whether rows contradict themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from dali_vidaug.data.column import elements
from dali_vidaug.data.entry import plural
from dali_vidaug.data.names import restore_name
from dali_vidaug.data.schema import BOXES, SCHEMA
from dali_vidaug.errors import printable


def own_columns(table: pa.Table) -> tuple[str, ...]:
    """Names of the columns that are neither measured nor boxes."""
    return tuple(name for name in table.column_names if name not in SCHEMA.names and name != BOXES.name)


def conform(table: pa.Table) -> pa.Table:
    """A table with the columns of ``SCHEMA`` first, then all others; boxes are of the type of ``BOXES``.

    Raises:
        ValueError: a column is missing, or of another type.
    """
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing:
        raise ValueError(f"not a manifest: the columns {', '.join(missing)} are missing")
    found = table.select(SCHEMA.names).cast(SCHEMA)
    for name in own_columns(table):
        found = found.append_column(table.schema.field(name), table[name])
    if BOXES.name in table.column_names:
        try:
            found = found.append_column(BOXES, table[BOXES.name].cast(BOXES.type))
        except pa.ArrowException as error:
            raise ValueError(
                f"manifest: column boxes must have {BOXES.type}, got {table[BOXES.name].type}; rename your own"
            ) from error
    return found


def check_labels(table: pa.Table, classes: Sequence[str], box_classes: Sequence[str]) -> None:
    """Refuse labels, of rows or of boxes, that are no indices of classes, and boxes with null in them.

    Raises:
        ValueError: there are some, or some rows have ``label`` where others have ``labels``.
    """
    label = table["label"].to_numpy()
    used = [part for part in (label, *elements(table["labels"])) if len(part)]
    _check_range("labels", used, classes)
    single = np.flatnonzero((label >= 0) & (table["labels"].null_count < len(table)))
    if len(single):
        path = printable(restore_name(table["path"][int(single[0])].as_py()))
        raise ValueError(
            f"manifest: {plural(len(single), 'row')} of {len(table)} with a single label, where samples may have "
            f"several; the first is {single[0]} ({path}). Give those rows a list of one in labels and -1 in label, or "
            "scan or join again"
        )
    if BOXES.name in table.column_names:
        boxes = [_elements(piece) for piece in table[BOXES.name].chunks]
        if any(column.null_count for some in boxes for column in (some, *some.flatten())):
            raise ValueError("manifest: column boxes has null in a box")
        _check_range("labels of boxes", [some.field("label").to_numpy() for some in boxes if len(some)], box_classes)


def _elements(lists):
    """The elements of all lists, as a view."""
    first, last = lists.offsets[0].as_py(), lists.offsets[-1].as_py()
    return lists.values.slice(first, last - first)


def _check_range(what, parts, classes):
    low, high = min((p.min() for p in parts), default=0), max((p.max() for p in parts), default=0)
    if not (low >= -1 and high < max(1, len(classes))):
        raise ValueError(
            f"manifest: {what} go from {low} to {high}, not within {plural(len(classes), 'class', 'classes')}"
        )


def rows_without_frames(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Rows whose range [first, last) has none: indices."""
    return np.flatnonzero(~((first >= 0) & (last > first)))
