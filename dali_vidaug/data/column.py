"""Columns of a manifest's table, read piece by piece: joining the pieces would copy what ranks share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dali_vidaug.data.names import restore_name
from dali_vidaug.rng import whole_numbers

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_STEP = 1 << 20  # rows looked at together


def take(column: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    """Some rows of a column. Arrow's own ``take`` joins all pieces of the column first, however few rows are wanted.

    Args:
        column: in any number of pieces.
        rows: (R,) int64, in any order, a row as often as wanted.
    """
    if len(rows) > _STEP:  # text of more than 2 GB does not fit in one piece
        parts = [take(column, rows[first : first + _STEP]) for first in range(0, len(rows), _STEP)]
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks])
    if column.num_chunks <= 1 or not len(rows):
        return column.take(pa.array(rows, pa.int64()))
    firsts = np.cumsum([0, *(len(piece) for piece in column.chunks)])
    pieces = np.searchsorted(firsts, rows, "right") - 1
    order = np.argsort(pieces, kind="stable")
    parts = [
        column.chunk(int(pieces[some[0]])).take(pa.array(rows[some] - firsts[pieces[some[0]]]))
        for some in np.split(order, np.flatnonzero(np.diff(pieces[order])) + 1)
    ]
    back = np.empty(len(rows), np.int64)
    back[order] = np.arange(len(rows))
    return pa.chunked_array([pa.concat_arrays(parts)]).take(pa.array(back))


def values(column: pa.ChunkedArray) -> np.ndarray:
    """A column as ``Manifest.rows`` gives it: (N,)."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return column.to_numpy()
    if not column.null_count and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return column.to_numpy()
    if not column.null_count and pa.types.is_boolean(kind):
        return np.array(column.to_pylist(), bool)
    found = np.empty(len(column), object)
    found[:] = column.to_pylist()
    return found


def rows_of(table: pa.Table, name: str, samples: ArrayLike | None) -> np.ndarray:
    """What ``Manifest.rows`` returns.

    Raises:
        ValueError: there is no such column, or no such row.
    """
    if name not in table.column_names:
        raise ValueError(f"manifest: no column {name!r}; there are {', '.join(table.column_names)}")
    size = table.num_rows
    rows = np.arange(size) if samples is None else whole_numbers("samples", samples)
    if not ((rows >= 0) & (rows < size)).all():
        raise ValueError(f"manifest: samples must be in [0, {size}), got {rows.min()} to {rows.max()}")
    found = values(take(table[name], rows))
    if name == "path":
        found[:] = [restore_name(path) for path in found]
    return found


def elements(column: pa.ChunkedArray) -> Iterator[np.ndarray]:
    """The elements of all lists of a column, without those that are null, piece by piece."""
    for piece in column.chunks:
        yield piece.flatten().to_numpy(zero_copy_only=False)


def shown_sizes(orientation: np.ndarray, height: np.ndarray, width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heights and widths as shown, of those that are stored: arrays (B,)."""
    sideways = orientation >= 5
    return np.where(sideways, width, height), np.where(sideways, height, width)


def first_of_sizes(*stored: np.ndarray) -> np.ndarray:
    """The first row of each size as shown: (S,) int64. ``stored`` as for ``shown_sizes``."""
    found: dict[int, int] = {}
    for first in range(0, len(stored[0]), _STEP):
        height, width = shown_sizes(*(column[first : first + _STEP] for column in stored))
        keys, rows = np.unique(height.astype(np.int64) << 32 | width, return_index=True)
        for key, row in zip(keys.tolist(), rows.tolist(), strict=True):
            found.setdefault(key, row + first)
    return np.array([found[key] for key in sorted(found)], np.int64)


def group(table: pa.Table, names: Sequence[str]) -> dict[tuple[Any, ...], list[int]]:
    """For each combination of values that occurs: how many rows have it, and the first of them. In order of the first.

    Args:
        table: of any number of rows.
        names: of its columns, numbers or dictionaries of text.
    """
    found: dict[tuple[Any, ...], list[int]] = {}
    first = 0
    for batch in table.select(list(names)).to_batches():
        numbered = pa.Table.from_batches([batch]).append_column("row", pa.array(np.arange(len(batch)) + first))
        counted = numbered.group_by(list(names), use_threads=False).aggregate([("row", "count"), ("row", "min")])
        for row in counted.to_pylist():
            found.setdefault(tuple(row[name] for name in names), [0, row["row_min"]])[0] += row["row_count"]
        first += len(batch)
    return dict(sorted(found.items(), key=lambda item: item[1][1]))
