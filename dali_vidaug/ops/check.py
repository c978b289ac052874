"""Checks of options that several ops have. All raise a ValueError that names the op, the field and the value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

_INFINITE = float("inf")


def check_choice(op: str, field: str, value: object, known: Sequence[object]) -> None:
    """``value`` is one of ``known``."""
    if not any(value is one or (isinstance(value, str) and value == one) for one in known):
        raise ValueError(f"{op}: {field} must be one of {', '.join(map(repr, known))}, got {value!r}")


def repr_without(op: Any, *added: str) -> str:
    """The ``repr`` of a dataclass without those of the fields ``added`` that are as by default.

    So an op that gets an option later on writes itself as before, and states that were saved before still fit.
    """
    shown = [f.name for f in fields(op) if f.name not in added or getattr(op, f.name) != f.default]
    return f"{type(op).__name__}({', '.join(f'{name}={getattr(op, name)!r}' for name in shown)})"


def is_number(value: object, low: float, high: float) -> bool:
    """Whether ``value`` is a number in [low, high]; NaN, text, None and arrays are not."""
    return isinstance(value, (int, float, np.integer, np.floating)) and bool(low <= value <= high)


def are_numbers(values: Any, count: int, low: float, high: float) -> bool:
    """Whether ``values`` is a tuple (or list) of ``count`` numbers in [low, high]."""
    pair = isinstance(values, (tuple, list)) and len(values) == count
    return pair and all(is_number(value, low, high) for value in values)


def check_probability(op: str, value: object) -> None:
    """``value`` is in [0, 1]."""
    if not is_number(value, 0, 1):
        raise ValueError(f"{op}: probability must be in [0, 1], got {value!r}")


def check_range(op: str, field: str, value: Any, highest: float = _INFINITE) -> None:
    """``value`` is a pair (low, high) with 0 < low <= high <= highest, both finite."""
    if not (are_numbers(value, 2, 0, highest) and 0 < value[0] <= value[1] < _INFINITE):
        limit = f" <= {highest:g}" if highest < _INFINITE else ""
        raise ValueError(f"{op}: {field} must be 0 < low <= high{limit}, got {value!r}")


def make_plain(op: object, *fields: str) -> None:
    """Options of a frozen dataclass as tuples and Python's numbers, which ``repr`` writes so that they can be read."""

    def plain(value):
        if isinstance(value, (tuple, list)):
            return tuple(map(plain, value))
        return value.item() if isinstance(value, np.generic) else value

    for field in fields:
        object.__setattr__(op, field, plain(getattr(op, field)))


def check_share(op: str, field: str, value: Any) -> None:
    """``value`` is a number in [0, 1], or a pair (low, high) of them."""
    pair = are_numbers(value, 2, 0, 1) and value[0] <= value[1]
    if not (pair or is_number(value, 0, 1)):
        raise ValueError(f"{op}: {field} must be a number in [0, 1], or 0 <= low <= high <= 1, got {value!r}")


def check_color(op: str, field: str, value: Any, highest: float = 1) -> None:
    """``value`` is R, G, B, each in [0, highest]."""
    if not are_numbers(value, 3, 0, highest):
        raise ValueError(f"{op}: {field} must be three numbers in [0, {highest:g}], got {value!r}")


def is_side(value: object) -> bool:
    """Whether ``value`` is a length of a frame in pixels, an int in [1, 16384]."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 16384


def check_size(op: str, value: Any, meaning: str) -> None:
    """``value`` is an int, or a pair (height, width); ``meaning`` says in the message what each stands for."""
    sides = value if isinstance(value, tuple) and len(value) == 2 else (value,)
    if not all(isinstance(side, int) and 1 <= side <= 16384 for side in sides):
        raise ValueError(f"{op}: size must be {meaning}, sides in [1, 16384], got {value!r}")
