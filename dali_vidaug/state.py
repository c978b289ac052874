"""Where a loader is in its epochs; what a saved state is compared with, and where a loader goes on from it."""

from __future__ import annotations

import logging
import operator
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dali_vidaug.fingerprint import difference
from dali_vidaug.plan import PLAN_VERSION
from dali_vidaug.rng import MAX_EPOCH, MAX_SAMPLE
from dali_vidaug.share import Choice
from dali_vidaug.stages import Stages

if TYPE_CHECKING:
    from dali_vidaug.recipe import Recipe
    from dali_vidaug.schedule import Schedule

log = logging.getLogger("dali_vidaug")


class Position:
    """Where the next loop begins, and which batch comes next: pairs of epoch and batch.

    Attributes:
        next: the batch that comes next.
        loop: counts the loops; a loop that is not the last was overtaken.
    """

    def __init__(self) -> None:
        self.loop = 0
        self._resumed: int | None = None  # the epoch of a loaded state, until a loop takes more of it than a peek
        self._in_epoch = False  # whether that state was in the middle of it
        self.move(0, 0)

    def move(self, epoch: int, index: int) -> None:
        """Let the next loop begin at a batch, even in the middle of an epoch."""
        self._start = self.next = (epoch, index)
        self._taken = 0  # batches, by the last loop
        self._finished = False  # whether the last loop came to its end
        self.loop += 1

    def resume(self, epoch: int, index: int, in_epoch: bool) -> None:
        """As ``move``, to the position of a loaded state; whether some of its epoch was given before."""
        self.move(epoch, index)
        self._resumed, self._in_epoch = epoch, in_epoch

    def set_epoch(self, epoch: int) -> bool:
        """Let the next loop begin an epoch; but where a loaded state is in the middle of this epoch, keep its place.

        Returns:
            Whether it begins the epoch.
        """
        try:
            number = operator.index(epoch)  # also NumPy's integers
        except TypeError:
            number = -1
        if not 0 <= number < MAX_EPOCH:
            raise ValueError(f"VideoLoader: epoch must be a whole number in [0, 2**24), got {epoch!r}")
        if number == self._resumed:
            return False
        if self._resumed is not None and (self._in_epoch or self.next[1]):
            log.warning(
                "set_epoch(%d) drops the position of the loaded state, batch %d of epoch %d", number, self.next[1],
                self._resumed,
            )  # fmt: skip
        self.move(number, 0)
        self._resumed = None
        return True

    def begin(self, num_batches: int) -> int:
        """Begin a loop, where the last one says; returns its number."""
        (epoch, _), (next_epoch, index) = self._start, self.next
        if self._finished or next_epoch != epoch:
            self.move(*self.next)
            self._resumed = None
        elif self._taken > 1:
            log.info(
                "a loop over epoch %d was left after batch %d of %d: the next begins epoch %d. set_epoch(%d) begins "
                "the same one again", epoch, index, num_batches, epoch + 1, epoch,
            )  # fmt: skip
            self.move(epoch + 1, 0)
            self._resumed = None
        else:  # nothing was taken, or a first batch to look at
            self.move(*self._start)
        return self.loop

    def enter(self, count: int) -> bool:
        """Whether a loop over an epoch of ``count`` batches has any: of a loaded state nothing may be left for a rank.

        Then the next loop begins the next epoch.
        """
        if self.next[1] < count:
            return True
        self._resumed, self.next = None, (self.next[0] + 1, 0)
        return False

    def reached(self, schedule: Schedule) -> tuple[int, int]:
        """The step that comes next for all shards, which may be one of the epoch in which this one has no part."""
        epoch = self._start[0]
        done = schedule.batches_in(epoch)
        inside = self._taken and not self._finished and self.next == (epoch + 1, 0)
        return (epoch, done) if inside and done < schedule.steps_in(epoch) else self.next

    def take(self, following: tuple[int, int]) -> None:
        """The next batch was given to the loop; ``following`` comes after it."""
        self._taken += 1
        if self._taken > 1 or following[0] != self.next[0]:
            self._resumed = None
        self.next = following

    def finish(self) -> None:
        """The loop came to its end."""
        self._finished = True


def identity(schedule: Schedule, recipe: Recipe | Stages, manifest: Mapping[str, str]) -> dict[str, Any]:
    """What a state has besides the position: all that must be the same for the same batches to come.

    Args:
        schedule: of the loader.
        recipe: of the loader, or its stages.
        manifest: its ``fingerprint``.
    """
    modules = recipe.fingerprints()
    scales = schedule.mix_group is None or schedule.group_scales
    return {
        "plan_version": PLAN_VERSION,
        "seed": schedule.seed,
        "num_samples": schedule.num_samples,
        "step": schedule.step,
        "mix_group": schedule.mix_group or schedule.batch_size,
        **({"mix_group_scales": scales} if isinstance(recipe, Stages) else {}),
        "shuffle": schedule.shuffle,
        "shards_at_a_time": schedule.shards and schedule.shards.at_a_time,
        "drop_last": schedule.drop_last,
        "recipe": repr(recipe),
        "num_clips": recipe.num_clips,
        "repeats": schedule.repeats,
        "manifest": dict(manifest),
        **({"modules": modules} if modules else {}),
    }


def go_on(
    state: Mapping[str, Any], mine: Mapping[str, Any], schedule: Schedule, given_group: int | None, shared: bool
) -> tuple[Schedule, int, int]:
    """Where a loader goes on from a state: with the same samples in each step, whatever the number of ranks.

    Where a step has another number of samples, the rest of the epoch is cut into batches anew.

    Args:
        state: a loader's.
        mine: the ``identity`` of this loader.
        schedule: of this loader.
        given_group: the ``mix_group`` that it was made with.
        shared: whether clips of a group depend on each other.

    Returns:
        Its schedule from now on, and the epoch and index of the next batch; where nothing is left of the epoch, the
        index after its last one.

    Raises:
        ValueError: the state lacks something, is of another loader, or its position is outside an epoch.
    """
    _check_state(state, mine)
    epoch, index, steps = state["epoch"], state["batch"], state.get("steps")
    cut: Any = dict(cut=(epoch, state["offset"]), cut_step=steps)
    theirs = replace(schedule, batch_size=state["step"], num_shards=1, shard_index=0, mix_group=None, **cut)
    given = theirs.steps.at(epoch, index).first
    if not 0 <= given <= schedule.num_samples or (index and given == schedule.num_samples):
        raise ValueError(f"VideoLoader: batch of the state is {index}, which is outside of epoch {epoch}")
    if state["step"] == schedule.step:
        if shared:
            group = _group_of(state, schedule, given_group)
            schedule = replace(schedule, mix_group=group, group_scales=state.get("mix_group_scales", False))
        schedule = replace(schedule, **cut)
    else:
        later = None if steps is None else steps + index
        schedule = replace(schedule, mix_group=given_group, group_scales=False, cut=(epoch, given), cut_step=later)
        index = 0
        if given:
            left = schedule.num_samples - given
            what = "is cut into batches anew" if schedule.batches_in(epoch) else "fills none, and is left out"
            log.warning(
                "the state was taken where a step had %d samples, here it has %d: what is left of epoch %d (samples: "
                "%d) %s", state["step"], schedule.step, epoch, left, what,
            )  # fmt: skip
    return schedule, epoch, index


def _group_of(state, schedule, given):
    """Samples in a group of those that are mixed, as in the state, if that can be here."""
    group, scales = state["mix_group"], state.get("mix_group_scales", False)
    if given not in (None, group):
        raise ValueError(f"VideoLoader: the state is of another loader: mix_group is {given}, the state's {group}")
    if given is not None and scales:
        raise ValueError(
            f"VideoLoader: the state is of another loader: mix_group is {given} in all stages, but the state's groups "
            "are larger in larger batches"
        )
    if schedule.batch_size % group:
        raise ValueError(
            f"VideoLoader: the state's loader mixes clips in groups of {group} samples, which batch_size "
            f"{schedule.batch_size} is no multiple of. To go on with fewer samples in a batch, start with a smaller "
            "mix_group"
        )
    return group


def _check_state(state, mine):
    """Compare a state with what ``identity`` says of a loader."""
    staged = "mix_group_scales" in mine
    keys = ["epoch", "batch", "offset", *(["steps"] if staged else []), *mine]
    if not isinstance(state, Mapping) or not any(key in state for key in keys):
        raise ValueError(f"VideoLoader: the state must be what state_dict() gave, got {_outline(state)}")
    if "recipe" in state and ("mix_group_scales" in state) != staged:
        mine, theirs = ("dv.Stages", "one recipe") if staged else ("one recipe", "dv.Stages")
        raise ValueError(f"VideoLoader: the state is of another loader: this one has {mine}, the state's {theirs}")
    missing = [key for key in keys if key not in state]
    if missing:
        raise ValueError(f"VideoLoader: the state lacks {', '.join(missing)}")
    free = ("manifest", "recipe", "step", "mix_group", "mix_group_scales")
    options = [key for key in mine if key not in free and state[key] != mine[key]]
    other = [f"{key} is {mine[key]!r}, the state's {state[key]!r}" for key in options]
    if state["recipe"] != mine["recipe"]:
        other.append("recipe has {}, the state's {}".format(*_first_difference(mine["recipe"], state["recipe"])))
    if differs := difference(mine["manifest"], state["manifest"]):
        other.append(f"the manifest has {differs}")
    if other:
        raise ValueError(f"VideoLoader: the state is of another loader: {'; '.join(other)}")
    wrong = state.get("wrong", {})
    if not (isinstance(wrong, Mapping) and all(isinstance(x, str) for pair in wrong.items() for x in pair)):
        raise ValueError(f"VideoLoader: wrong of the state must be texts by texts, got {wrong!r}")
    Choice.of(state)
    for name, low, limit in (
        ("epoch", 0, MAX_EPOCH), ("batch", 0, MAX_SAMPLE), ("offset", 0, MAX_SAMPLE), ("step", 1, MAX_SAMPLE),
        ("mix_group", 1, MAX_SAMPLE), *([("steps", 0, 2**63)] if staged else []),
    ):  # fmt: skip
        if not (isinstance(state[name], int) and low <= state[name] < limit):
            raise ValueError(f"VideoLoader: {name} of the state must be in [{low}, {limit}), got {state[name]!r}")


def _outline(state):
    return f"a mapping with {', '.join(map(str, state)) or 'nothing'}" if isinstance(state, Mapping) else repr(state)


def _num_equal(one, other):
    """How many characters two texts have in common at their beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _first_difference(mine, theirs):
    """Two recipes from the first op on that differs, without what is the same behind it."""
    same = _num_equal(mine, theirs)
    first = max((match.start() for match in re.finditer(r"\w+\(|pathways=", mine[:same])), default=0)
    end = mine[same:][::-1]
    tail = end[: _num_equal(end, theirs[same:][::-1])][::-1]
    kept = len(tail) - min((tail.index(mark) for mark in ",)" if mark in tail), default=len(tail))
    return [f"{text[first : len(text) - kept]}..." for text in (mine, theirs)]
