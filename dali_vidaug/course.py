"""The course of a loader: which samples make up its batches, from its shard of the epochs, and where in them it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dali_vidaug.ranks import Shard, check_shard, find_shard
from dali_vidaug.stages import Stages
from dali_vidaug.state import Position, go_on, identity

if TYPE_CHECKING:
    from dali_vidaug.recipe import Recipe
    from dali_vidaug.schedule import Schedule
    from dali_vidaug.share import Choice


class Course:
    """The batches of a rank, epoch after epoch. Its shard, unless it is given, is found when it is first asked for.

    A copy, also by pickle, goes on at the same batch. Between two epochs it finds its own shard; in the middle of one
    it keeps it.

    Args:
        order: the schedule of a single shard.
        num_shards, shard_index, even: as in ``VideoLoader``.

    Attributes:
        order: as given, with the groups of a state that was loaded.
        position: the batch that comes next.
        wrong: what DALI was found to decode wrongly before that batch: ``Trust.wrong``.

    Raises:
        ValueError: there is no such shard.
    """

    def __init__(self, order: Schedule, num_shards: int | None, shard_index: int | None, even: bool | None):
        if even not in (None, True, False):
            raise ValueError(f"VideoLoader: even must be True, False or None, got {even!r}")
        self.order, self.position = order, Position()
        self.wrong: Mapping[str, str] = {}
        self._given, self._even, self._given_group = (num_shards, shard_index), even, order.mix_group
        self._shard: Shard | None = None
        self._schedule: Schedule | None = None
        if self._is_given:
            self._find()

    @property
    def _is_given(self):
        return self._given != (None, None)

    def _find(self):
        self._shard = find_shard(*self._given)
        number, mine, _ = self._shard
        even = number > 1 if self._even is None else self._even
        self._schedule = replace(self.order, num_shards=number, shard_index=mine, even=even)
        return self._schedule

    @property
    def schedule(self) -> Schedule:
        """Which samples make up which batch of this shard. After ``set_epoch`` and ``go_on`` it may be another one."""
        return self._schedule or self._find()

    @property
    def epoch(self) -> int:
        """The epoch of the next batch; after a loop over all of an epoch, the one after it."""
        return self.position.next[0]

    def begin(self) -> int:
        """Begin a loop; returns its number, that of ``position.loop``.

        Raises:
            RuntimeError: torch.distributed says by now that this is another shard.
        """
        schedule = self.schedule
        if self._shard is not None:
            check_shard(self._shard)
        return self.position.begin(schedule.batches_in(self.epoch, whole=True))

    def enter(self) -> bool:
        """Whether there is a batch for the loop that has begun; if not, the next loop begins the next epoch."""
        return self.position.enter(self.schedule.batches_in(self.epoch))

    def set_epoch(self, epoch: int) -> None:
        """As ``VideoLoader.set_epoch``."""
        if self.position.set_epoch(epoch) and self._schedule:
            self._schedule = self._schedule.from_start(self.epoch)

    def state(
        self, recipe: Recipe | Stages, manifest: Mapping[str, str], choice: Choice | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """What ``VideoLoader.state_dict`` returns.

        Args:
            recipe: of the clips, or the stages.
            manifest: its ``fingerprint``.
            choice: the share of clips that was chosen for the CPU.
        """
        epoch, batch = self.position.reached(self.schedule)
        offset = self.schedule.given_before(epoch)
        steps = {"steps": self.schedule.steps.before(epoch)} if isinstance(recipe, Stages) else {}
        found: dict[str, Any] = {"wrong": dict(self.wrong)} if self.wrong else {}
        found |= {"cpu_share": choice._asdict()} if choice else {}
        mine = identity(self.schedule, recipe, manifest)
        return {"epoch": epoch, "batch": batch, "offset": offset, **steps, **mine, **found}

    def go_on(
        self, state: Mapping[str, Any], recipe: Recipe | Stages, manifest: Mapping[str, str], shared: bool
    ) -> None:  # fmt: skip
        """As ``VideoLoader.load_state_dict``; recipe and manifest as for ``state``.

        Args:
            shared: whether clips of a group depend on each other.

        Raises:
            ValueError: the state is of another loader.
        """
        mine = identity(self.schedule, recipe, manifest)
        schedule, epoch, index = go_on(state, mine, self.schedule, self._given_group, shared)
        self.wrong = {**self.wrong, **state.get("wrong", {})}
        groups: Any = dict(mix_group=schedule.mix_group, group_scales=schedule.group_scales)
        self._schedule, self.order = schedule, replace(self.order, **groups)
        self.position.resume(epoch, index, index > 0 or schedule.given_before(epoch) > 0)

    def __getstate__(self) -> dict[str, Any]:
        middle = bool(self.position.next[1] or (self._schedule and self._schedule.given_before(self.epoch)))
        position = Position()
        position.resume(*self.position.next, middle)
        keeps = {} if middle or self._is_given else {"_shard": None, "_schedule": None}
        return {**self.__dict__, "position": position, **keeps}
