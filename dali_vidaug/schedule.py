"""Which samples make up which batch: a shuffled epoch that is computed, never stored, and shared by the ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from dali_vidaug.order import ROUNDS, ShardOrder, permute
from dali_vidaug.rng import MAX_REPEAT, MAX_SAMPLE, MAX_VIEW, Draws
from dali_vidaug.steps import Steps

_ROUNDED = 1e-6  # of a batch size: 1/3 of 6 is 2


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
    within groups of ``mix_group`` samples; in full steps they, too, are the same for any number of shards. In a later
    stage of training, and within a cycle, steps may have more or fewer samples (``scales``); all of this still holds.

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
        mix_group: samples in a group, a divisor of every batch size; None: all of a batch.
        group_scales: ``mix_group`` is that of batches of ``batch_size``; in larger ones, groups are larger too.
        shards: with ``shuffle``: the order stays within a few shards at a time; None: all samples are shuffled.
        cut: (epoch, count): the first ``count`` samples of this epoch were given before, by a loader with other steps;
            the rest of it is cut into batches from there on.
        cut_step: how many steps of all epochs were taken before that rest; None: as many as a loader with these takes.
        starts: of the stages of training, rising from 0: the epochs, or steps (``by_step``), from which on they last.
        scales: for each stage, the sizes of its batches compared with ``batch_size``: one after the other, from the
            first on in each epoch.
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
    cut_step: int | None = None
    starts: Sequence[int] = (0,)
    scales: Sequence[Sequence[float]] = ((1,),)
    by_step: bool = False
    group_scales: bool = False

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
        for stage, scales in enumerate(self.scales):
            for turn, scale in enumerate(scales):
                self._check_batches(stage, turn, scale)
            first = self.batch_size_of(stage, 0)
            if self.drop_last and self.num_samples < first * self.num_shards:
                raise ValueError(
                    f"VideoLoader: {self.num_samples} samples do not fill one step of batch_size {first} x "
                    f"num_shards {self.num_shards}{self._in(stage, 0)}; lower batch_size or set drop_last=False"
                )

    def _in(self, stage, turn):
        if len(self.scales) == 1 and len(self.scales[0]) == 1:
            return ""
        which = f", batch_scale {self.scales[stage][turn]!r}" if len(self.scales[stage]) > 1 else ""
        return f" in stage {stage} (from {'step' if self.by_step else 'epoch'} {self.starts[stage]} on{which})"

    def _check_batches(self, stage, turn, scale):
        """The sizes of batches, and of their groups, are whole."""
        size, group = self.batch_size * scale, self.mix_group
        if abs(size - round(size)) > _ROUNDED or round(size) < 1:
            raise ValueError(
                f"VideoLoader: batch_size {self.batch_size} x batch_scale {scale!r} must be a whole number, got "
                f"{size:g}{self._in(stage, turn)}: each of {self.num_shards} shards takes as many samples; change "
                "batch_size or batch_scale"
            )
        if group is None:
            return
        whole = isinstance(group, int | np.integer) and not isinstance(group, bool)
        if not (whole and group >= 1 and round(size) % self._group_of(stage, turn) == 0):
            raise ValueError(
                f"VideoLoader: mix_group must be an int that divides batch_size {round(size)}, got {group!r}"
                f"{self._in(stage, turn)}"
            )

    def batch_size_of(self, stage: int, turn: int) -> int:
        """Samples that a shard gets in a full step, when a turn of a stage has it."""
        return round(self.batch_size * self.scales[stage][turn])

    def _group_of(self, stage, turn):
        if self.mix_group is None:
            return self.batch_size_of(stage, turn)
        return max(1, round(self.mix_group * self.scales[stage][turn])) if self.group_scales else self.mix_group

    @property
    def step(self) -> int:
        """Samples that all shards together get in a full step, where the batch size is ``batch_size``."""
        return self.batch_size * self.num_shards

    @cached_property
    def steps(self) -> Steps:
        """How epochs are cut into steps, for all shards."""
        sizes = [
            tuple(self.batch_size_of(stage, turn) * self.num_shards for turn in range(len(scales)))
            for stage, scales in enumerate(self.scales)
        ]
        return Steps(self.num_samples, self.drop_last, self.starts, sizes, self.by_step, self.cut, self.cut_step)

    @cached_property
    def _least_group(self):
        return min(self._group_of(s, t) for s, scales in enumerate(self.scales) for t in range(len(scales)))

    @property
    def num_batches(self) -> int:
        """Batches of this shard in epoch 0: as many for all shards, unless a last step has an empty part (see even)."""
        return self.batches_in(0, whole=True)

    def batches_in(self, epoch: int, whole: bool = False) -> int:
        """Batches of this shard in an epoch; of the one that was ``cut`` fewer, perhaps none, unless ``whole``."""
        count = self.steps.count(epoch, whole)
        if self.drop_last or not count:
            return count
        last = self.steps.at(epoch, count - 1, whole)
        low, high = self._share(min(last.size, self.num_samples - last.first))
        return count - (low == high)

    def steps_in(self, epoch: int) -> int:
        """Steps of an epoch, in which this shard may have no part: ``batches_in`` of the shard with the most."""
        return self.steps.count(epoch)

    def given_before(self, epoch: int) -> int:
        """How many samples of an epoch were given before its first batch."""
        return self.cut[1] if epoch == self.cut[0] else 0

    def from_start(self, epoch: int) -> Schedule:
        """The schedule for beginning an epoch, rather than for what was left of it when a state was taken.

        What the epochs before it were is kept: where a stage begins after so many steps, it matters.
        """
        if (self.cut_step is not None and epoch > self.cut[0]) or self.cut[1] == 0:
            return self
        return replace(self, cut=(0, 0), cut_step=None)

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
        step = self.steps.at(epoch, index)
        size = self._group_of(step.stage, step.turn)
        place = step.first + self.shard_index * self.batch_size_of(step.stage, step.turn)
        groups = (place + np.arange(len(samples)) // size * size) // self._least_group
        each = self.clips_per_sample
        return Clips(samples.repeat(each), views, repeat_index, groups.repeat(each))

    def step_number(self, epoch: int, index: int) -> int:
        """The number of the step that a batch is a part of: the same for all shards, and for any number of them.

        It is the place of the step's first sample in the order of the epoch.
        """
        return self.steps.at(epoch, index).first

    def repeated(self, epoch: int, index: int) -> np.ndarray:
        """Which clips of a batch came before in the epoch, and are there to make the shards even: (B,) bool."""
        return (self._positions(epoch, index) >= self.num_samples).repeat(self.clips_per_sample)

    def _positions(self, epoch, index):
        """The places of a batch's samples in the order of the epoch; those that fill it up are past its end."""
        if not 0 <= index < self.batches_in(epoch):
            raise IndexError(f"batch {index} of {self.batches_in(epoch)} of epoch {epoch}")
        step = self.steps.at(epoch, index)
        low, high = self._share(min(step.size, self.num_samples - step.first))
        return np.arange(step.first + low, step.first + high, dtype=np.int64)

    def following(self, epoch: int, index: int) -> tuple[int, int]:
        """The epoch and index of the batch that comes after a batch."""
        return (epoch, index + 1) if index + 1 < self.batches_in(epoch) else (epoch + 1, 0)
