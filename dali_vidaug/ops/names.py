"""What ops are called in a recipe, and of which kind they are."""

from __future__ import annotations

from collections.abc import Iterable


def name_of(op: object) -> str:
    """The ``name`` of an op or a sampler, or that of its class: its draws are addressed by it."""
    return getattr(op, "name", type(op).__name__)


def is_on_time(op: object) -> bool:
    """Whether an op decides which frames are decoded: it has ``retime`` in place of ``draw``."""
    return hasattr(op, "retime")


def is_on_pixels(op: object) -> bool:
    """Whether something is an op that gets decoded frames: it has ``draw``, and ``build`` or ``run``."""
    return hasattr(op, "draw") and (hasattr(op, "build") or hasattr(op, "run"))


def op_names(ops: Iterable[object]) -> list[str]:
    """A name for each op of a recipe; the second and later ops of one name get _2, _3, ..."""
    seen: dict[str, int] = {}
    names = []
    for op in ops:
        word = name_of(op)
        seen[word] = seen.get(word, 0) + 1
        names.append(word if seen[word] == 1 else f"{word}_{seen[word]}")
    return names
