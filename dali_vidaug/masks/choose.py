"""Subsets of exactly so many tokens, each as likely as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dali_vidaug.rng import Draws

_PLACE_BITS = np.uint64(32)


def ranked(draws: Draws, purpose: str, count: int) -> np.ndarray:
    """A random order of ``count`` things: (B, count) uint64, all different in a row, whose order is the random one.

    Of two equal random words, which come once in 2**32 pairs, the one that stands first comes first.
    """
    return draws.words(purpose, count).astype(np.uint64) << _PLACE_BITS | np.arange(count, dtype=np.uint64)


def random_subset(draws: Draws, purpose: str, chosen: int, count: int) -> np.ndarray:
    """Choose ``chosen`` of ``count`` for each clip: (B, count) bool.

    Args:
        draws: random numbers of B clips.
        purpose: of the draws.
        chosen: [0, count].
        count: >= 1.
    """
    if chosen == count:
        return np.ones((len(draws), count), bool)
    keys = ranked(draws, purpose, count)
    return keys < np.partition(keys, chosen, axis=1)[:, chosen : chosen + 1]
