"""How epochs are cut into steps, whose size may change during training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

_KNOWN_MAX = 8  # epochs that are kept


class Step(NamedTuple):
    """One step of an epoch.

    Attributes:
        first: place of its first sample in the order of the epoch.
        size: samples that all ranks get together, if so many are left.
        stage: which stage it belongs to.
        turn: which of the recipes of the stage it has.
    """

    first: int
    size: int
    stage: int
    turn: int


class Part(NamedTuple):
    """The steps of an epoch that belong to one stage. Their sizes repeat.

    Attributes:
        stage: which.
        begin: index of the first of these steps in the epoch.
        first: place of its first sample.
        sizes: samples of the first steps, until they repeat.
    """

    stage: int
    begin: int
    first: int
    sizes: tuple[int, ...]

    def at(self, index: int) -> Step:
        """A step, by its index in the epoch, also where no samples are left for it."""
        rounds, turn = divmod(index - self.begin, len(self.sizes))
        first = self.first + rounds * sum(self.sizes) + sum(self.sizes[:turn])
        return Step(first, self.sizes[turn], self.stage, turn)

    def end(self, num_samples: int, drop_last: bool) -> int:
        """The index after the last step, if the stage lasts until the end of the epoch."""
        rounds, rest = divmod(num_samples - self.first, sum(self.sizes))
        index = self.begin + rounds * len(self.sizes)
        for size in self.sizes:
            if rest < size:
                break
            index, rest = index + 1, rest - size
        return index + (rest > 0 and not drop_last)


@dataclass(frozen=True)
class Steps:
    """The steps of all epochs. Everything is computed from the number of the epoch: nothing is counted along.

    Attributes:
        num_samples: of an epoch, >= 1.
        drop_last: whether a last step that is not full is left out.
        starts: the epoch or step from which on each stage lasts, rising from 0. Steps are counted through all epochs.
        sizes: for each stage the samples of its steps, which repeat; the first of them again in each epoch.
        by_step: whether ``starts`` are steps; else they are epochs.
        cut: (epoch, count): the first ``count`` samples of this epoch were given before its first step.
        cut_step: how many steps were taken before that one, in all epochs; None: as many as these stages make.
    """

    num_samples: int
    drop_last: bool
    starts: Sequence[int]
    sizes: Sequence[tuple[int, ...]]
    by_step: bool = False
    cut: tuple[int, int] = (0, 0)
    cut_step: int | None = None
    _known: dict[tuple[int, bool], list[Part]] = field(default_factory=dict, repr=False, compare=False)

    def at(self, epoch: int, index: int, whole: bool = False) -> Step:
        """A step of an epoch, ``whole`` as for ``count``; where no samples are left, it begins at the end or later."""
        parts = self._parts(epoch, whole)
        return next(part for part in reversed(parts) if part.begin <= index).at(index)

    def count(self, epoch: int, whole: bool = False) -> int:
        """How many steps an epoch has; ``whole``: also those that were given before it was ``cut``."""
        return self._parts(epoch, whole)[-1].end(self.num_samples, self.drop_last)

    def before(self, epoch: int) -> int:
        """How many steps all epochs before an epoch have; and if it was ``cut``, those of it that were given."""
        at, step = 0, 0
        if self.cut_step is not None and epoch >= self.cut[0]:
            at, step = self.cut[0], self.cut_step
            if epoch > at:
                step += self._end(self._from(at, step, self.cut[1]))
                at += 1
        while at < epoch:
            stage = self._stage(at, step)
            each = self._end([Part(stage, 0, 0, self.sizes[stage])])
            left = None if stage + 1 == len(self.starts) else self.starts[stage + 1]
            if left is None:
                epochs = epoch - at
            elif self.by_step:
                # Those that are wholly of this stage. What is left of one may not fill its next step, but that of the
                # stage that begins there.
                epochs = min(epoch - at, (left - step - self.drop_last) // each)
            else:
                epochs = min(epoch, left) - at
            if epochs:
                at, step = at + epochs, step + epochs * each
            else:
                at, step = at + 1, step + self._end(self._from(at, step, 0))
        return step

    def _parts(self, epoch, whole):
        key = epoch, whole
        parts = self._known.get(key)
        if parts is None:
            cut = self.cut[1] if epoch == self.cut[0] else 0
            of = replace(self, cut=(0, 0), cut_step=None, _known={}) if whole and cut else self
            parts = self._from(epoch, of.before(epoch), 0 if whole else cut)
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[key] = parts
        return parts

    def _from(self, epoch, step, given):
        """The parts of an epoch before which ``step`` steps were taken, ``given`` samples of it among them."""
        stage = self._stage(epoch, step)
        parts = [Part(stage, 0, given, self.sizes[stage])]
        for later in range(stage + 1, len(self.starts) if self.by_step else 0):
            index, end = self.starts[later] - step, self._end(parts)
            if index > end or (index == end and not self.drop_last):
                break
            parts.append(Part(later, index, parts[-1].at(index).first, self.sizes[later]))
        return parts

    def _end(self, parts):
        return parts[-1].end(self.num_samples, self.drop_last)

    def _stage(self, epoch, step):
        """The stage to which the first step of an epoch belongs."""
        reached = step if self.by_step else epoch
        return max(stage for stage, start in enumerate(self.starts) if start <= reached)
