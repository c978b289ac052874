"""What makes the batches of a loader: for each recipe a maker, whose graphs are freed when its stage is over."""

from __future__ import annotations

from collections.abc import Callable

from dali_vidaug.make import Maker
from dali_vidaug.recipe import Recipe
from dali_vidaug.schedule import Schedule
from dali_vidaug.stages import Stages


class Makers:
    """A maker for each recipe of a loader, made when it is first needed.

    Only the graphs of one stage take memory: one for each of the recipes that it takes in turn.

    Args:
        make: makes a maker of a recipe, for batches of so many clips at most.
        stages: of the loader.
        schedule: says which step has which recipe.
    """

    def __init__(self, make: Callable[[Recipe, int], Maker], stages: Stages, schedule: Schedule):
        self._make, self._stages, self._schedule = make, stages, schedule
        self._made: dict[tuple[int, int], Maker] = {}
        self._stage = 0

    def of(self, epoch: int, index: int) -> Maker:
        """The maker for a batch."""
        _, _, stage, turn = self._schedule.steps.at(epoch, index)
        if (stage, turn) not in self._made:
            size = self._schedule.batch_size_of(stage, turn) * self._schedule.clips_per_sample
            self._made[stage, turn] = self._make(self._stages.stages[stage].recipes[turn], size)
        return self._made[stage, turn]

    def free_others(self, epoch: int, index: int) -> None:
        """Before a batch is finished: free the graphs of other stages. Called in the thread that runs graphs."""
        stage = self._schedule.steps.at(epoch, index).stage
        if stage != self._stage:
            for (other, _), maker in list(self._made.items()):  # plans of later stages are drawn meanwhile
                if other != stage:
                    maker.close()
        self._stage = stage

    def close(self) -> None:
        """Free all graphs."""
        for maker in list(self._made.values()):
            maker.close()
