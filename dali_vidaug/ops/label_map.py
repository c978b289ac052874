"""Classes that trade places where an op is applied, such as left and right in a mirrored clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LabelMap = tuple[tuple[str, str] | tuple[int, int], ...]


def make_label_map(op: Any) -> None:
    """Keep the ``label_map`` of a frozen dataclass as pairs, if it is one.

    Raises:
        ValueError: it is no mapping and has no pairs, a class is neither name nor index or comes in two pairs, or there
            are names and indices.
    """
    given, name = op.label_map, type(op).__name__
    if given is None:
        return
    wanted = f"{name}: label_map must be None or pairs of classes, such as {{'left': 'right'}} or ((86, 87),)"
    entries: Any = tuple(given.items()) if isinstance(given, Mapping) else given
    if not isinstance(entries, (tuple, list)):
        raise ValueError(f"{wanted}, got {given!r}")
    pairs: dict[frozenset, tuple] = {}
    for entry in entries:
        pair = tuple(_plain(one) for one in entry) if isinstance(entry, (tuple, list)) else ()
        if len(pair) != 2 or not all(_is_class(one) for one in pair) or pair[0] == pair[1]:
            raise ValueError(f"{wanted}, got {entry!r} among {given!r}")
        pairs.setdefault(frozenset(pair), pair)  # left to right, and right to left, are one pair
    classes = [one for pair in pairs.values() for one in pair]
    twice = next((one for one in classes if classes.count(one) > 1), None)
    if len({type(one) for one in classes}) != 1 or twice is not None:
        why = "all names, or all indices" if twice is None else f"{twice!r} is in two of them"
        raise ValueError(f"{wanted}: {why}, got {given!r}")
    object.__setattr__(op, "label_map", tuple(pairs.values()))


def _plain(one: Any) -> Any:
    return one.item() if isinstance(one, np.integer) else one


def _is_class(one: Any) -> bool:
    return isinstance(one, str) or (isinstance(one, int) and not isinstance(one, bool) and one >= 0)


def class_pairs(where: str, label_map: LabelMap, classes: Sequence[str], num_classes: int | None) -> np.ndarray:
    """The classes that trade places, by index.

    Args:
        where: named in errors, as "VideoLoader: label_map of RandomHorizontalFlip".
        label_map: pairs of names or indices.
        classes: the names of all classes; empty: they have none.
        num_classes: how many there are; None: not known.

    Returns:
        (P, 2) int64.

    Raises:
        ValueError: there is no such class.
    """
    named = {name: index for index, name in enumerate(classes)}
    wanted = [one for pair in label_map for one in pair]
    unknown = [
        repr(one)
        for one in wanted
        if (one not in named if isinstance(one, str) else num_classes is not None and one >= num_classes)
    ]
    if unknown:
        some = ", ".join(unknown[:6]) + (f" and {len(unknown) - 6} more" if len(unknown) > 6 else "")
        if not classes and any(isinstance(one, str) for one in wanted):
            raise ValueError(f"{where} has names, {some}, but there are no names of classes here; give indices")
        raise ValueError(f"{where} has classes that are not among the {num_classes} there are: {some}")
    return np.array([[named[one] if isinstance(one, str) else one for one in pair] for pair in label_map], np.int64)


def trade(targets: np.ndarray, applied: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Labels in which classes have traded places.

    Args:
        targets: (B, K) float, or (B,) int.
        applied: (B,) bool, the clips in which they do.
        pairs: (P, 2) int64.

    Returns:
        A new array like ``targets``.
    """
    changed = targets.copy()
    for one, other in pairs.tolist():
        if targets.ndim == 1:
            changed[applied & (targets == one)] = other
            changed[applied & (targets == other)] = one
        else:
            changed[applied, one], changed[applied, other] = targets[applied, other], targets[applied, one]
    return changed
