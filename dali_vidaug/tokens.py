"""Masks as lists of tokens, of one length for all clips of a batch. Needs only NumPy."""

from __future__ import annotations

import numpy as np

from dali_vidaug.drawn_masks import mask_draws
from dali_vidaug.masks.choose import ranked
from dali_vidaug.ops.names import op_names
from dali_vidaug.plan import Plan
from dali_vidaug.repeats import parts_of
from dali_vidaug.rng import Draws

_NEVER = np.uint64(2**64 - 1)


def token_lists(plan: Plan, index: int) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that a mask leaves and those that it masks, rising, as many for each clip.

    Where clips have more than the one with the fewest, random ones are left out, each as likely as any other.

    Args:
        plan: of the batch.
        index: of the mask in the recipe.

    Returns:
        (B, V) and (B, M) int64, in [0, T' * H' * W'): frame by frame, and row by row in each.

    Raises:
        IndexError: the recipe has no such mask.
        ValueError: it is not drawn yet.
    """
    names = op_names(plan.recipe.masks)
    if not -len(names) <= index < len(names):
        raise IndexError(f"tokens: there is no mask {index}; the recipe's are {', '.join(names) or 'none'}")
    mask = plan.masks[index]
    if mask is None:
        raise ValueError(f"tokens: {names[index]} is drawn when the clips are decoded")
    masked = mask.reshape(len(mask), int(np.prod(mask.shape[1:])))
    return _even(plan, names[index], "visible", ~masked), _even(plan, names[index], "masked", masked)


def _even(plan: Plan, name: str, purpose: str, chosen: np.ndarray) -> np.ndarray:
    """The positions of what is chosen, (B, N) bool, cut to the smallest number of them in a row."""
    counts = chosen.sum(1)
    count = int(counts.min()) if len(counts) else 0
    if (counts > count).any():
        keys = np.empty(chosen.shape, np.uint64)
        draws = Draws(plan.seed, plan.epoch, plan.samples, plan.views)
        for repeat, at in parts_of(plan.repeat_index):
            keys[at] = ranked(mask_draws(name, draws, at, repeat), f"tokens.{purpose}", chosen.shape[1])
        keys[~chosen] = _NEVER
        chosen = keys < np.sort(keys, axis=1)[:, count : count + 1]
        # A row that has no more than ``count`` ends before a key that no token has.
    return np.nonzero(chosen)[1].reshape(len(chosen), count)
