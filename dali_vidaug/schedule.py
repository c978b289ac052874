"""Which samples make up which batch: a shuffled epoch that is computed, never stored, and shared by the ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.rng import MAX_REPEAT, MAX_SAMPLE, MAX_VIEW, Draws

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


class Clips(NamedTuple):
    """The clips of a batch.

    Attributes:
        samples: (B,) int64, manifest rows.
        views: (B,) int64, which of the clips of its sample each clip is.
        repeat_index: (B,) int64, which of the clips of the same frames.
        groups: (B,) int64, numbers of the groups within which clips are mixed; those of a group are next to each other.
    """

    samples: np.ndarray
    views: np.ndarray
    repeat_index: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True)
class Schedule:
    """The batches of one shard, for every epoch.

    The epoch's order is cut into steps of ``batch_size * num_shards`` samples, and the shards share each step evenly
    and in order. So a step holds the same samples for any number of shards with the same product, and over all shards
    every sample of the epoch comes exactly once (with ``drop_last``: every sample of the full steps). Clips are mixed
    within groups of ``mix_group`` samples; in full steps they, too, are the same for any number of shards.

    Attributes:
        num_samples: rows of the manifest, [1, 2**32].
        batch_size: samples that a shard gets in a full step, >= 1.
        seed: [0, 2**64).
        shuffle: another order in each epoch; otherwise the manifest's.
        drop_last: leave out the last step when it is not full. Otherwise it is shared as evenly as possible; a shard's
            part of it may be empty when fewer samples are left than there are shards.
        even: fill up the last step with samples from the beginning of the epoch, fewer than there are shards, so that
            every shard gets as many batches, of the same sizes. With ``drop_last`` that is so anyway.
        num_shards: ranks that share the epoch, >= 1.
        shard_index: which of them this is, [0, num_shards).
        num_clips: clips that are made of each sample, [1, 256]; they stand next to each other in the batch.
        repeats: how often each of these is augmented, [1, 256]; those of the same frames stand next to each other.
        mix_group: samples in a group, a divisor of ``batch_size``; None: all of a batch.
        shards: with ``shuffle``: the order stays within a few shards at a time; None: all samples are shuffled.
        cut: (epoch, count): the first ``count`` samples of this epoch were given before, by a loader with other steps;
            the rest of it is cut into batches from there on.
    """

    num_samples: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = True
    num_shards: int = 1
    shard_index: int = 0
    num_clips: int = 1
    even: bool = False
    repeats: int = 1
    mix_group: int | None = None
    shards: ShardOrder | None = None
    cut: tuple[int, int] = (0, 0)

    def __post_init__(self):
        if not 1 <= self.num_samples <= MAX_SAMPLE:
            raise ValueError(f"VideoLoader: num_samples must be in [1, {MAX_SAMPLE}], got {self.num_samples}")
        if not (isinstance(self.batch_size, int | np.integer) and self.batch_size >= 1):
            raise ValueError(f"VideoLoader: batch_size must be an int >= 1, got {self.batch_size!r}")
        if not self.num_shards >= 1:
            raise ValueError(f"VideoLoader: num_shards must be >= 1, got {self.num_shards}")
        if not 0 <= self.shard_index < self.num_shards:
            raise ValueError(f"VideoLoader: shard_index must be in [0, {self.num_shards}), got {self.shard_index}")
        if not (isinstance(self.seed, int | np.integer) and 0 <= self.seed < 2**64):
            raise ValueError(f"VideoLoader: seed must be an int in [0, 2**64), got {self.seed!r}")
        if not 1 <= self.num_clips <= MAX_VIEW:
            raise ValueError(f"VideoLoader: num_clips must be in [1, {MAX_VIEW}], got {self.num_clips}")
        whole = isinstance(self.repeats, int | np.integer) and not isinstance(self.repeats, bool)
        if not (whole and 1 <= self.repeats <= MAX_REPEAT):
            raise ValueError(f"VideoLoader: repeats must be an int in [1, {MAX_REPEAT}], got {self.repeats!r}")
        group = self.mix_group
        if group is not None:
            whole = isinstance(group, int | np.integer) and not isinstance(group, bool)
            if not (whole and group >= 1 and self.batch_size % group == 0):
                raise ValueError(
                    f"VideoLoader: mix_group must be an int that divides batch_size {self.batch_size}, got {group!r}"
                )
        if self.num_batches == 0:
            raise ValueError(
                f"VideoLoader: {self.num_samples} samples do not fill one step of batch_size {self.batch_size} x "
                f"num_shards {self.num_shards}; lower batch_size or set drop_last=False"
            )

    @property
    def step(self) -> int:
        """Samples that all shards together get in a full step."""
        return self.batch_size * self.num_shards

    @property
    def num_batches(self) -> int:
        """Batches per epoch of this shard: as many for every shard, unless a last step has an empty part (see even)."""
        return self._count(self.num_samples)

    def batches_in(self, epoch: int) -> int:
        """Batches of an epoch: ``num_batches``, or fewer, perhaps none, of the one that was ``cut``."""
        return self._count(self.num_samples - self.given_before(epoch))

    def steps_in(self, epoch: int) -> int:
        """Steps of an epoch, in which this shard may have no part: ``batches_in`` of the shard with the most."""
        full, rest = divmod(self.num_samples - self.given_before(epoch), self.step)
        return full + (rest > 0 and not self.drop_last)

    def given_before(self, epoch: int) -> int:
        """How many samples of an epoch were given before its first batch."""
        return self.cut[1] if epoch == self.cut[0] else 0

    def _count(self, num_samples):
        full, rest = divmod(num_samples, self.step)
        return full + int(not self.drop_last and self._share(rest)[0] < self._share(rest)[1])

    def _share(self, count):
        """[first, last) of this shard in a step of ``count`` samples, and of those that fill it up."""
        if self.even:
            count = -(-count // self.num_shards) * self.num_shards
        return self.shard_index * count // self.num_shards, (self.shard_index + 1) * count // self.num_shards

    @property
    def clips_per_sample(self) -> int:
        """How many clips of a batch are of one sample."""
        return self.num_clips * self.repeats

    def batch(self, epoch: int, index: int) -> Clips:
        """The clips of batch ``index`` in [0, batches_in(epoch)) of an epoch.

        Each sample comes ``num_clips * repeats`` times in a row: view 0 as repeat 0, 1, ..., then view 1, and so on.
        """
        samples = self._positions(epoch, index) % self.num_samples
        if self.shuffle and self.shards is not None:
            samples = self.shards.samples(self.seed, epoch, samples)
        elif self.shuffle:
            keys = Draws(self.seed, epoch, [0], prefix="schedule").words("order", ROUNDS)[0]
            samples = permute(samples, self.num_samples, keys)
        views = np.tile(np.arange(self.num_clips).repeat(self.repeats), len(samples))
        repeat_index = np.tile(np.arange(self.repeats), len(samples) * self.num_clips)
        size = self.mix_group or self.batch_size
        first = self.step_number(epoch, index) // size + self.shard_index * (self.batch_size // size)
        groups = first + np.arange(len(samples)) // size
        each = self.clips_per_sample
        return Clips(samples.repeat(each), views, repeat_index, groups.repeat(each))

    def step_number(self, epoch: int, index: int) -> int:
        """The number of the step that a batch is a part of: the same for all shards, and for any number of them.

        It is the place of the step's first sample in the order of the epoch.
        """
        return self.given_before(epoch) + index * self.step

    def repeated(self, epoch: int, index: int) -> np.ndarray:
        """Which clips of a batch came before in the epoch, and are there to make the shards even: (B,) bool."""
        return (self._positions(epoch, index) >= self.num_samples).repeat(self.clips_per_sample)

    def _positions(self, epoch, index):
        """The places of a batch's samples in the order of the epoch; those that fill it up are past its end."""
        if not 0 <= index < self.batches_in(epoch):
            raise IndexError(f"batch {index} of {self.batches_in(epoch)} of epoch {epoch}")
        first = self.step_number(epoch, index)
        low, high = self._share(min(self.step, self.num_samples - first))
        return np.arange(first + low, first + high, dtype=np.int64)

    def following(self, epoch: int, index: int) -> tuple[int, int]:
        """The epoch and index of the batch that comes after a batch."""
        return (epoch, index + 1) if index + 1 < self.batches_in(epoch) else (epoch + 1, 0)
