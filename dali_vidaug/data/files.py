"""Files that are named one by one, with labels and columns of your own."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dali_vidaug.data.bucket import relative_urls
from dali_vidaug.data.entry import Listing
from dali_vidaug.data.lists import Rows, list_rows
from dali_vidaug.data.names import below_root, store_name
from dali_vidaug.urls import is_url

PATH, LABEL = "path", "label"


def list_files(
    paths: Iterable[Any],
    root: Path | str | None,
    labels: Iterable[Any] | None,
    columns: Mapping[str, Iterable[Any]] | None,
    multi_label: str | None,
) -> Listing:
    """Turn paths into entries. Arguments and errors as of ``scan``."""
    paths = list(paths)
    for i, path in enumerate(paths):
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise ValueError(f"scan: a list of files must have paths, got {path!r} at {i}")
    if not paths:
        raise ValueError("scan: the list of files is empty")
    names = [os.fsdecode(path) for path in paths]
    if is_url(root) or any(map(is_url, names)):
        url, names = relative_urls(names, None if root is None else str(root))
        return _list_names(Path(), names, paths, labels, columns, multi_label)._replace(root=url)
    names, folder = below_root(names, None if root is None else Path(root))
    return _list_names(folder.resolve(), names, paths, labels, columns, multi_label)


def _list_names(root, names, paths, labels, columns, multi_label):
    table = {PATH: pa.array([store_name(name) for name in names], pa.string())}
    if labels is not None:
        table[LABEL], several = _label_column(labels, len(names))
        multi_label = multi_label or (";" if several else None)
    for name, values in (columns or {}).items():
        if name in table or not isinstance(name, str):
            raise ValueError(f"scan: columns must have names of their own, got {name!r}")
        table[name] = _column(name, values, len(names))
    places = [f"file {i} ({path})" for i, path in enumerate(paths)]
    rows = Rows(pa.table(table), places)
    return list_rows(Path("the list of files"), root, rows, multi_label, None)


def _plain(values):
    """Arrays and tensors as lists, their elements too."""
    values = values.tolist() if hasattr(values, "tolist") else list(values)
    return [value.tolist() if hasattr(value, "tolist") else value for value in values]


def _label_column(labels, size) -> tuple[pa.Array, bool]:
    """Labels as text; and whether a file may have several."""
    if isinstance(labels, (str, Mapping)):
        raise ValueError(f"scan: labels must be one for each file, got {reprlib.repr(labels)}")
    labels = _plain(labels)
    if len(labels) != size:
        raise ValueError(f"scan: labels must be one for each of {size} files, got {len(labels)}")
    sequences = [isinstance(label, Sequence) and not isinstance(label, str) for label in labels]
    if any(sequences):
        wrong = next((i for i, yes in enumerate(sequences) if not yes and labels[i] is not None), None)
        if wrong is not None:
            raise ValueError(
                f"scan: labels must be one a file or a list a file, got {labels[sequences.index(True)]!r} at "
                f"{sequences.index(True)} and {labels[wrong]!r} at {wrong}"
            )
        _refuse_multi_hot(labels)
        texts = [[_text(part, i) for part in label or ()] for i, label in enumerate(labels)]
        return pa.array(texts, pa.list_(pa.string())), True
    return pa.array([_text(label, i) for i, label in enumerate(labels)], pa.string()), False


def _refuse_multi_hot(labels):
    """A row of zeros and ones for each file, a column a class, is no list of labels."""
    lengths = {len(label) if label is not None else 0 for label in labels}
    if len(lengths) == 1 and min(lengths) > 1 and all(part in (0, 1) for label in labels for part in label):
        raise ValueError(
            f"scan: labels look multi-hot, got {list(labels[0])!r} at 0; expected the classes themselves: "
            "labels=[numpy.flatnonzero(row) for row in labels], and labels=numpy.argmax(labels, 1) if one-hot"
        )


def _text(label, i):
    if label is not None and (isinstance(label, bool) or not isinstance(label, (str, int, float))):
        raise ValueError(f"scan: a label must be text or a whole number, got {label!r} at {i}")
    return None if label is None else str(label)


def _column(name, values, size):
    try:
        array = np.asarray(values) if hasattr(values, "__array__") else None  # keeps its dtype
        column = pa.array(_plain(values) if array is None or array.ndim != 1 else array)
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(f"scan: column {name} must have values of one kind: {error}") from error
    if len(column) != size:
        raise ValueError(f"scan: column {name} must have a value for each of {size} files, got {len(column)}")
    return column
