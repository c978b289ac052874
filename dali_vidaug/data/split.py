"""Parts of a manifest: rows that are chosen, and two parts that share no file."""

from __future__ import annotations

import os
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from dali_vidaug.data.column import take
from dali_vidaug.data.conform import own_columns
from dali_vidaug.data.entry import name_some, plural
from dali_vidaug.data.names import complete, restore_name, store_name
from dali_vidaug.rng import Draws, whole_numbers
from dali_vidaug.urls import is_url

CLASS = "class"  # in ``by``: the labels, not a column
_REAL = (int, float, np.integer, np.floating)


def chosen_rows(rows: Any, size: int) -> np.ndarray:
    """Rows as indices: (R,) int64.

    Args:
        rows: (R,) integers, in any order, more than once if so; (N,) bool; or a slice.
        size: N, how many rows there are.

    Raises:
        ValueError: they are something else, outside the manifest, or none.
    """
    if isinstance(rows, slice):
        index = np.arange(size)[rows]
    elif (array := np.asarray(rows)).dtype == bool:
        if array.shape != (size,):
            raise ValueError(f"Manifest.select: a mask must have one value for each of {size} rows, got {array.shape}")
        index = np.flatnonzero(array)
    else:
        index = whole_numbers("Manifest.select: rows", array)
    if not len(index):
        raise ValueError(f"Manifest.select: none of {size} rows are chosen")
    if not (index.min() >= 0 and index.max() < size):
        raise ValueError(f"Manifest.select: rows must be in [0, {size}), got {index.min()} to {index.max()}")
    return index


def take_rows(table: pa.Table, index: np.ndarray) -> pa.Table:
    """Rows of a table, in the order of their indices."""
    if (np.diff(index) > 0).all():  # part by part: taking joins the parts, which Arrow cannot beyond 2 GB of text
        mask = np.zeros(len(table), bool)
        mask[index] = True
        return table.filter(pa.array(mask))
    return pa.Table.from_arrays([take(column, index) for column in table.columns], schema=table.schema)


def lost_classes(classes: Sequence[str], *counts: np.ndarray) -> Iterator[str]:
    """A sentence on each part that has no sample of a class which the other part has.

    Args:
        classes: names.
        counts: (K,) samples of each class, in the first part and in the second.
    """
    for part, mine, other in zip(("first", "second"), counts, reversed(counts), strict=True):
        lost = [name for name, a, b in zip(classes, mine, other, strict=True) if b and not a]
        if lost:
            yield f"the {part} part has no sample of {plural(len(lost), 'class', 'classes')}: {name_some(lost)}"


class _Units(NamedTuple):
    """What is never divided: the rows of a file, or of all files of a group.

    Attributes:
        of_row: (N,) int64, the unit of each row.
        draws: (U,) float64 in [0, 1), what decides where each goes.
        sizes: (U,) int64, rows of each.
        labels: for each, how many of its rows have each label, -1 being none; empty where labels do not matter.
    """

    of_row: np.ndarray
    draws: np.ndarray
    sizes: np.ndarray
    labels: list[dict[int, int]]


def split_rows(table: pa.Table, root: str, fraction: float, seed: int, by: str | Sequence[str] | None) -> np.ndarray:
    """Which rows are in the first of two parts: (N,) bool. Arguments and errors as of ``Manifest.split``."""
    if not (isinstance(fraction, _REAL) and 0 < fraction < 1):
        raise ValueError(f"Manifest.split: fraction must be in (0, 1), got {fraction!r}")
    if not isinstance(seed, (int, np.integer)):
        raise ValueError(f"Manifest.split: seed must be an int, got {seed!r}")
    names = () if by is None else (by,) if isinstance(by, str) else tuple(by)
    groups = [_group(table, name) for name in names if name != CLASS]
    if CLASS in names and CLASS in table.column_names:
        raise ValueError("Manifest.split: by='class' means the labels, but there is a column class too; rename it")
    units = _find_units(table, [*groups, _file_names(table, root)], int(seed), CLASS in names)
    if CLASS not in names:
        first = _nearest(units, np.argsort(units.draws, kind="stable"), fraction * len(table))
    elif all(set(labels) == {-1} for labels in units.labels):
        raise ValueError("Manifest.split: by='class' needs labels, but no row has one")
    elif all(len(labels) == 1 for labels in units.labels):
        first = _class_by_class(units, fraction, int(seed))
    else:
        first = _balanced(units, fraction)
    chosen = np.zeros(len(units.sizes), bool)
    chosen[first] = True
    mask = chosen[units.of_row]
    if mask.all() or not mask.any():
        what = f"groups of {' and '.join(name for name in names if name != CLASS)}" if groups else "files"
        raise ValueError(
            f"Manifest.split: fraction {fraction} leaves nothing for the {'second' if mask.all() else 'first'} part: "
            f"there are {len(units.sizes)} {what}, with {units.sizes.min()} to {units.sizes.max()} of {len(table)} rows"
        )
    return mask


def _group(table, name):
    """A column by which rows belong together, as text."""
    if name in ("label", "labels"):
        raise ValueError(f"Manifest.split: by={name!r} would part the classes; by='class' keeps their shares")
    if name not in table.column_names:
        own = ", ".join(own_columns(table)) or "none"
        raise ValueError(f"Manifest.split: by must be 'class' or a column, got {name!r}; columns of your own: {own}")
    if pa.types.is_nested(table[name].type):
        raise ValueError(f"Manifest.split: by must be a column of single values, but {name} has {table[name].type}")
    values = ["" if value is None or value != value else str(value).strip() for value in table[name].to_pylist()]
    missing = [i for i, value in enumerate(values) if not value]
    if missing:
        raise ValueError(
            f"Manifest.split: {name} is missing in {len(missing)} rows, the first is {missing[0]} "
            f"({table['path'][missing[0]]}): its group is not known. Fill it in, or select the rows that have it"
        )
    return values


def _file_names(table, root):
    """A name of the file of each row: its path, and where rows have several paths of one file the same of them."""
    stored = table["path"].to_pylist()
    paths = [os.path.normpath(path) for path in stored]
    folder = os.path.normpath(root) if is_url(root) else os.path.abspath(root)  # noqa: PTH100 (links keep their names)
    above = f"{store_name(folder).rstrip('/')}/"
    files = [path.removeprefix(above) for path in paths]  # complete paths may be below the root
    if not is_url(root):
        links = _links(table, root, stored, files)
        files = [links.get(file, file) for file in files]
    names: dict[str, str] = {}
    for file, path in zip(files, paths, strict=True):
        if names.setdefault(file, path) != path:  # paths below the root first: another root changes nothing
            names[file] = min(names[file], path, key=lambda name: (name.startswith(("/", above)), name))
    return [names[file] for file in files]


def _links(table, root, stored, files):
    """What is behind the links in paths. Only files of the same content are looked at: others cannot be one file."""
    _, number, counts = np.unique(table["content_digest"].fill_null(0), return_inverse=True, return_counts=True)
    rows = np.flatnonzero(counts[number] > 1)
    alike: defaultdict[tuple[int, int], dict[str, str]] = defaultdict(dict)
    for row, size in zip(rows.tolist(), take(table["bytes"], rows).to_pylist(), strict=True):
        if not is_url(stored[row]):
            alike[int(number[row]), size][files[row]] = stored[row]
    return {
        file: store_name(os.path.realpath(complete(root, restore_name(path))))
        for paths in alike.values()
        if len(paths) > 1
        for file, path in paths.items()
    }


def _find_units(table, columns, seed, labelled) -> _Units:
    """Rows that share a file, or a value of a group, are of one unit, and so are those linked by others.

    ``columns`` are the values of each group, if any, and last the names of the files.
    """
    codes = []
    for values in columns:
        number = {value: i for i, value in enumerate(sorted(set(values)))}
        codes.append(np.array([number[value] for value in values]))
    unit = codes[0]
    while True:
        before = unit
        for code in codes:
            least = np.full(code.max() + 1, len(table))
            np.minimum.at(least, code, unit)
            unit = least[code]
        if (unit == before).all():
            break
    _, firsts, of_row = np.unique(unit, return_index=True, return_inverse=True)
    keys = sorted(set(columns[0]))
    addresses = [zlib.crc32(keys[unit[row]].encode("utf-8", "surrogatepass")) for row in firsts]
    labels: list[dict[int, int]] = [{} for _ in firsts] if labelled else []
    rows = zip(of_row.tolist(), table["label"].to_pylist(), table["labels"].to_pylist(), strict=True)
    for number, label, several in rows if labelled else ():
        for one in (label,) if several is None else several or (-1,):
            labels[number][one] = labels[number].get(one, 0) + 1
    return _Units(of_row, Draws(seed, 0, addresses).uniform("split"), np.bincount(of_row), labels)


def _nearest(units, order, wanted):
    """The first units of an order, so many that the number of their rows is nearest to what is wanted."""
    ends = np.concatenate([[0], np.cumsum(units.sizes[order])])
    return order[: np.abs(ends - wanted).argmin()]


def _class_by_class(units, fraction, seed):
    """Units of one class each: the share of each class; what rounding leaves of one is made up for by the next."""
    label = np.array([next(iter(labels)) for labels in units.labels])
    classes = np.unique(label)
    chosen, left = [], 0.0
    for name in classes[np.argsort(Draws(seed, 0, classes + 1).uniform("split.class"), kind="stable")]:
        members = np.flatnonzero(label == name)
        wanted = fraction * units.sizes[members].sum() + left
        part = _nearest(units, members[np.argsort(units.draws[members], kind="stable")], wanted)
        left = wanted - units.sizes[part].sum()
        chosen.append(part)
    return np.concatenate(chosen)


def _balanced(units, fraction):
    """Units of several classes each, those with rare classes first: each goes where the shares are kept best."""
    totals: defaultdict[int, int] = defaultdict(int)
    for labels in units.labels:
        for label, count in labels.items():
            totals[label] += count
    rarest = np.array([min(totals[label] for label in labels) for labels in units.labels])
    ahead: defaultdict[int | None, float] = defaultdict(float)  # by class, and of rows: more than the share so far
    first = []
    for unit in np.lexsort((units.draws, rarest)).tolist():
        counts = {**units.labels[unit], None: int(units.sizes[unit])}
        # the sum of squares after adding to the first part, less that after adding to the second
        if sum(count * (2 * ahead[name] + (1 - 2 * fraction) * count) for name, count in counts.items()) < 0:
            first.append(unit)
            ahead.update({name: ahead[name] + count for name, count in counts.items()})
        ahead.update({name: ahead[name] - fraction * count for name, count in counts.items()})
    return np.array(first, np.int64)
