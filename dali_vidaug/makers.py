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
        self._stage_of_decoder = self._stage_of_graphs = 0

    def of(self, epoch: int, index: int) -> Maker:
        """The maker for a batch."""
        _, _, stage, turn = self._schedule.steps.at(epoch, index)
        if (stage, turn) not in self._made:
            size = self._schedule.batch_size_of(stage, turn) * self._schedule.clips_per_sample
            self._made[stage, turn] = self._make(self._stages.stages[stage].recipes[turn], size)
        return self._made[stage, turn]

    def free_other_decoders(self, epoch: int, index: int) -> None:
        """Before a batch is decoded: free what decodes for other stages. Called in the thread that decodes."""
        stage = self._schedule.steps.at(epoch, index).stage
        for maker in self._others(self._stage_of_decoder, stage):
            maker.free_decoder()
        self._stage_of_decoder = stage

    def free_other_graphs(self, epoch: int, index: int) -> None:
        """Before a batch is finished: free the graphs of other stages. Called in the thread that runs graphs."""
        stage = self._schedule.steps.at(epoch, index).stage
        for maker in self._others(self._stage_of_graphs, stage):
            maker.free_graphs()
        self._stage_of_graphs = stage

    def _others(self, before, stage):
        """The makers of other stages than this one, if it was another before."""
        made = list(self._made.items()) if stage != before else []  # plans of later stages are drawn meanwhile
        return [maker for (other, _), maker in made if other != stage]

    def free_decoders(self) -> None:
        """Free all that decodes, in the thread that does."""
        for maker in list(self._made.values()):
            maker.free_decoder()

    def free_graphs(self) -> None:
        """Free all graphs of ops, in the thread that runs them."""
        for maker in list(self._made.values()):
            maker.free_graphs()
