"""Classes of videos in tar shards: numbers of labels, and the names beside them in KEY.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from dali_vidaug.data.entry import Classes, Entry
from dali_vidaug.data.header import plain
from dali_vidaug.data.labels import LARGEST, is_missing, whole_number
from dali_vidaug.data.list_source import numbered_classes

CLS = "KEY.cls"  # the column of its text, which ``label_columns`` may call cls
ORIGIN = "source"  # of KEY.json, as ``pack`` writes it: where the video was
_NAMES = ("class", "class_name", "classname", "label_name", "labelname", "label", "labels")  # of numbered classes


class Named(NamedTuple):
    """Labels by name.

    Attributes:
        column: with the names.
        classes: all of them.
        labels: the names of each entry.
        told: sentences.
    """

    column: str
    classes: Classes
    labels: list[tuple[str, ...]]
    told: Sequence[str] = ()


def by_name(
    table: pa.Table, column: str, rows: Sequence[tuple[str, ...]], entries: Sequence[Entry], what: str
) -> Named | None:
    """Labels that are whole numbers, by their names in another column: one to one, or those of ``pack``.

    Raises:
        ValueError: shards of several packs have one number for two classes, and some samples have no name.
    """
    texts = {text for row in rows for text in row}
    whole = ((text, whole_number(text)) for text in texts)
    numbers = {text: number for text, number in whole if number is not None and 0 <= number <= LARGEST}
    if not texts or len(numbers) < len(texts):
        return None
    free = [name for wanted in _NAMES for name in table.column_names if plain(name) == wanted and name != column]
    for name in free:
        values = [value if isinstance(value, list) else [value] for value in table[name].to_pylist()]
        pairs = [
            [
                (numbers[text], str(one).strip())
                for text, one in zip(row, value, strict=False)
                if len(row) == len(value) and one is not None and not is_missing(str(one))
            ]
            for row, value in zip(rows, values, strict=True)
        ]
        found = {number: one for row in pairs for number, one in row}
        packed, differ = _is_packed(table, column, name), _difference(pairs, entries)
        if packed and differ is not None:
            every = zip(entries, rows, pairs, strict=True)
            lone = next((entry.place for entry, row, pair in every if len(pair) < len(row)), None)
            if lone is not None:
                raise ValueError(
                    f"{what}: {differ}, and {lone} has a number without a name, so its class is not known; scan shards "
                    "of one pack at a time"
                )
            names = tuple(sorted({one for row in pairs for _, one in row}))
            told = f"shards number their classes differently; names count, and have new indices: {differ}"
            return Named(name, Classes(names, {}, what), [tuple(one for _, one in row) for row in pairs], (told,))
        words = packed or any(whole_number(one) is None for one in found.values())
        if differ is None and words and set(found) == set(numbers.values()):
            classes = Classes(numbered_classes(found, 0, what).names, {}, what)
            return Named(name, classes, [tuple(found[numbers[text]] for text in row) for row in rows])
    return None


def _difference(pairs: Sequence[Sequence[tuple[int, str]]], entries: Sequence[Entry]) -> str | None:
    """A number with two names, or else a name with two numbers, and where; None: they are one to one."""
    name_of: dict[int, tuple[str, str]] = {}
    number_of: dict[str, tuple[int, str]] = {}
    second = None
    for entry, row in zip(entries, pairs, strict=True):
        for number, name in row:
            other, place = name_of.setdefault(number, (name, entry.place))
            if other != name:
                return f"label {number} is {other!r} in {place} and {name!r} in {entry.place}"
            before, place = number_of.setdefault(name, (number, entry.place))
            if before != number and second is None:
                second = f"{name!r} is label {before} in {place} and {number} in {entry.place}"
    return second


def _is_packed(table: pa.Table, column: str, name: str) -> bool:
    """Whether a column has names that ``pack`` wrote beside numbers: they are names also if they are digits."""
    if name != "class" or column not in (CLS, "label") or ORIGIN not in table.column_names:
        return False
    kind = table[name].type
    texts = pa.types.is_string(kind.value_type if pa.types.is_list(kind) else kind)
    return texts and pa.types.is_string(table[ORIGIN].type) and table[ORIGIN].null_count < len(table)
