"""Checks of the options of samplers: each refuses a value with ``Sampler: field must be ..., got value``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dali_vidaug.rng import MAX_VIEW

_FPS_MAX = 1e6
GRIDS = ("played", "near", "rate")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and not a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def check_int(sampler: object, name: str, low: int, high: int) -> None:
    """Refuse an option that is not an int in [low, high].

    Raises:
        ValueError: it is not.
    """
    value = getattr(sampler, name)
    if not (isinstance(value, int) and not isinstance(value, bool) and low <= value <= high):
        raise ValueError(f"{type(sampler).__name__}: {name} must be an int in [{low}, {high}], got {value!r}")


def check_choice(sampler: object, name: str, choices: Sequence[str]) -> None:
    """Refuse an option that is not one of some words.

    Raises:
        ValueError: it is not.
    """
    value = getattr(sampler, name)
    if not (isinstance(value, str) and value in choices):
        words = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise ValueError(f"{type(sampler).__name__}: {name} must be {words}, got {value!r}")


def check_bool(sampler: object, name: str) -> None:
    """Refuse an option that is not True or False.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(getattr(sampler, name), bool):
        raise ValueError(f"{type(sampler).__name__}: {name} must be True or False, got {getattr(sampler, name)!r}")


def check_grid(sampler: Any) -> None:
    """Refuse ``fps`` and ``grid`` that are none.

    Raises:
        ValueError: fps is neither None nor in (0, 1e6], or grid is not one of ``GRIDS``.
    """
    name, fps = type(sampler).__name__, sampler.fps
    if fps is not None and not (is_number(fps) and 0 < fps <= _FPS_MAX):
        raise ValueError(f"{name}: fps must be None or a number in (0, {_FPS_MAX:g}], got {fps!r}")
    check_choice(sampler, "grid", GRIDS)
    if fps is None and sampler.grid != "played":
        raise ValueError(f"{name}: grid says how fps chooses frames, but fps is None; got grid={sampler.grid!r}")


def check_clips(sampler: object) -> None:
    """Refuse ``num_frames``, ``num_clips``, ``training`` and ``stride`` that are none; a stride may be None.

    Raises:
        ValueError: one is out of range.
    """
    check_int(sampler, "num_frames", 1, 65536)
    check_int(sampler, "num_clips", 1, MAX_VIEW)
    check_bool(sampler, "training")
    if getattr(sampler, "stride", None) is not None:
        check_int(sampler, "stride", 1, 2**31 - 1)
