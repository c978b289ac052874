"""Checks of options that several ops have. All raise a ValueError that names the op, the field and the value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def check_choice(op: str, field: str, value: object, known: Sequence[object]) -> None:
    """``value`` is one of ``known``."""
    if value not in known:
        raise ValueError(f"{op}: {field} must be one of {', '.join(map(repr, known))}, got {value!r}")


def check_probability(op: str, value: float) -> None:
    """``value`` is in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{op}: probability must be in [0, 1], got {value}")


def check_range(op: str, field: str, value: Any, highest: float = float("inf")) -> None:
    """``value`` is a pair (low, high) with 0 < low <= high <= highest, both finite."""
    if not (len(value) == 2 and 0 < value[0] <= value[1] <= highest and value[1] < float("inf")):
        limit = f" <= {highest:g}" if highest < float("inf") else ""
        raise ValueError(f"{op}: {field} must be 0 < low <= high{limit}, got {value}")


def check_color(op: str, field: str, value: Any, highest: float = 1) -> None:
    """``value`` is R, G, B, each in [0, highest]."""
    if not (len(value) == 3 and all(0 <= v <= highest for v in value)):
        raise ValueError(f"{op}: {field} must be three numbers in [0, {highest:g}], got {value}")


def check_size(op: str, value: Any, meaning: str) -> None:
    """``value`` is an int, or a pair (height, width); ``meaning`` says in the message what each stands for."""
    sides = value if isinstance(value, tuple) else (value,)
    if not (len(sides) <= 2 and all(isinstance(side, int) and 1 <= side <= 16384 for side in sides)):
        raise ValueError(f"{op}: size must be {meaning}, sides in [1, 16384], got {value!r}")
