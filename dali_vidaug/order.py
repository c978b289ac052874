"""Which sample comes at which place of an epoch: keyed permutations, computed and never stored."""

from __future__ import annotations

from typing import Any

import numpy as np

from dali_vidaug.rng import Draws

ROUNDS = 6  # four are enough for a pseudo-random permutation of a large domain; six for the small ones


def permute(indices: np.ndarray, size: int, keys: np.ndarray) -> np.ndarray:
    """Apply a keyed permutation of [0, size), without storing it.

    A Feistel network permutes the next larger power of four; walking its cycles until the value is inside [0, size)
    permutes exactly that range (Black and Rogaway, 2002). Memory depends on ``indices`` alone.

    Args:
        indices: (N,) int in [0, size).
        size: [1, 2**32].
        keys: (6,) uint32, one for each round.

    Returns:
        (N,) int64 in [0, size), distinct where ``indices`` are.
    """
    half_bits = np.uint32(max(1, (int(size - 1).bit_length() + 1) // 2))
    half_mask = np.uint32((1 << int(half_bits)) - 1)
    values = np.asarray(indices).astype(np.uint32)
    walking = np.ones(values.shape, bool)
    while walking.any():
        left, right = values[walking] >> half_bits, values[walking] & half_mask
        for key in keys:
            left, right = right, left ^ (_mix(right, key) & half_mask)
        values[walking] = left << half_bits | right
        walking = values > np.uint32(size - 1)
    return values.astype(np.int64)


def _mix(words, key):
    """A 32-bit hash of words under a key (the finaliser of MurmurHash3), uint32 arrays."""
    words = words ^ key
    words = (words ^ words >> 16) * np.uint32(0x85EBCA6B)
    words = (words ^ words >> 13) * np.uint32(0xC2B2AE35)
    return words ^ words >> 16


class ShardOrder:
    """Epochs in which no more than a few shards are read at a time, each sample once.

    The shards come in a new order in each epoch, in blocks of as equal a number as can be. The samples of a block are
    shuffled among each other. Both are keyed permutations: where a sample comes is computed, and depends on seed and
    epoch alone.

    Args:
        shards: (N,) int, which shard each sample is in, any numbers.
        at_a_time: shards in a block at most, >= 1.

    Attributes:
        at_a_time: as given.
    """

    def __init__(self, shards: np.ndarray, at_a_time: int):
        self.at_a_time = at_a_time
        _, first, codes = np.unique(shards, return_index=True, return_inverse=True)
        sizes = np.bincount(codes)
        together = np.count_nonzero(np.diff(codes)) == len(sizes) - 1  # the rows of each shard are next to each other
        self._rows = None if together else np.argsort(codes, kind="stable").astype(np.uint32)
        self._first = first if together else np.append(0, np.cumsum(sizes)[:-1])
        self._sizes = sizes
        self._known: tuple[Any, ...] = ((), None)

    def samples(self, seed: int, epoch: int, positions: np.ndarray) -> np.ndarray:
        """The samples at some positions of an epoch.

        Args:
            seed: [0, 2**64).
            epoch: [0, 2**24).
            positions: (B,) int in [0, N).

        Returns:
            (B,) int64, manifest rows, distinct where ``positions`` are.
        """
        shards, ends, limits = self._blocks(seed, epoch)
        blocks = np.searchsorted(limits, positions, "right") - 1
        at = np.empty(len(positions), np.int64)
        for block in np.unique(blocks).tolist():
            begin, end = limits[block : block + 2].tolist()
            keys = Draws(seed, epoch, [block], prefix="schedule").words("order within shards", ROUNDS)[0]
            at[blocks == block] = begin + permute(positions[blocks == block] - begin, end - begin, keys)
        place = np.searchsorted(ends, at, "right")
        rows = self._first[shards[place]] + at - (ends - self._sizes[shards])[place]
        return rows if self._rows is None else self._rows[rows].astype(np.int64)

    def _blocks(self, seed, epoch):
        """The shards in the order of an epoch, where each ends, and where each block begins, and the last one ends."""
        known, found = self._known
        if known != (seed, epoch):
            count = len(self._sizes)
            keys = Draws(seed, epoch, [0], prefix="schedule").words("order of shards", ROUNDS)[0]
            shards = permute(np.arange(count), count, keys)
            ends = np.cumsum(self._sizes[shards])
            blocks = -(-count // self.at_a_time)
            found = shards, ends, np.append(0, ends)[np.arange(blocks + 1) * count // blocks]
            self._known = (seed, epoch), found
        return found
