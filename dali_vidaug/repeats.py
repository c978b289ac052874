"""Parts of a batch that are drawn as if each were a batch: groups that are mixed, and repeats of the same frames.

So clip and partner in a mix are of one group and one repeat, and the clips of a repeat are those of a batch without the
others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dali_vidaug.rng import whole_numbers

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from dali_vidaug.recipe import Recipe


def clip_column(name: str, values: ArrayLike, count: int, limit: int) -> np.ndarray:
    """A number for each of ``count`` clips, (B,) int64, of a column or of one number for all.

    Raises:
        ValueError: it is something else, or a number is not in [0, limit); named ``name``.
    """
    column = whole_numbers(name, np.broadcast_to(values, (count,)) if np.ndim(values) == 0 else values)
    if len(column) != count or not ((column >= 0) & (column < limit)).all():
        raise ValueError(f"{name} must be {count} numbers in [0, {limit}), or one for all, got {values!r}")
    return column


def parts_of(column: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each value that occurs, and the positions (N,) of its clips; 0 without clips if there are none at all."""
    for value in np.unique(column).tolist() or [0]:
        yield value, np.flatnonzero(column == value)


def join_parts(recipe: Recipe, parts: Sequence[tuple[np.ndarray, dict[str, Any]]]) -> dict[str, Any]:
    """The arguments of a batch, of those that the ops drew for its parts.

    Args:
        recipe: its ops drew.
        parts: for each part the positions of its clips in the batch, (N,), and the arguments of each op by name: an
            (N,) structured array, whose ``partner``, if it has one, is a position among these N; or None.

    Returns:
        The arguments of each op: a (B,) structured array whose ``partner`` is a position in the batch, or None.

    Raises:
        ValueError: an op returns other fields from part to part, or mixes clips without a field ``partner``.
    """
    if len(parts) == 1:
        return parts[0][1]
    joined: dict[str, Any] = {}
    for name, op in zip(recipe.names, recipe.ops, strict=True):
        if name not in parts[0][1]:
            continue
        kinds = {None if args[name] is None else args[name].dtype for _, args in parts}
        if len(kinds) > 1:
            raise ValueError(f"{name}.draw must return the same fields for all clips, got {kinds}")
        kind = kinds.pop()
        joined[name] = None if kind is None else np.empty(sum(len(at) for at, _ in parts), kind)
        if kind is None:
            continue
        if hasattr(op, "mixed_with") and "partner" not in kind.names:
            raise ValueError(
                f"{name}: with repeats or mix_group, an op that mixes clips has the positions of their partners in the "
                f"field 'partner' of its arguments, got {', '.join(kind.names)}"
            )
        for at, args in parts:
            joined[name][at] = args[name]
            if "partner" in kind.names:
                partner = args[name]["partner"]
                joined[name]["partner"][at] = np.where(partner >= 0, at[np.clip(partner, 0, len(at) - 1)], partner)
    return joined
