"""Another recipe from an epoch or a step on; several recipes in turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dali_vidaug.ops.check import is_number, make_plain
from dali_vidaug.recipe import Recipe

_START_MAX = 2**40
_SCALES = (1e-4, 1e4)


def _tuple_of(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


@dataclass(frozen=True)
class Stage:
    """A part of training, from an epoch or a step on.

    Attributes:
        start: the epoch or the step from which on it lasts, >= 0, both counted from 0 (``Stages.unit``).
        recipe: how clips are made. A tuple of several is a cycle: they are taken in turn, one for each step, from the
            first one on in each epoch.
        batch_scale: the batch size, compared with the loader's ``batch_size``; a tuple has one for each recipe.

    Raises:
        ValueError: an option is out of range.
    """

    start: int
    recipe: Recipe | tuple[Recipe, ...]
    batch_scale: float | tuple[float, ...] = 1

    def __post_init__(self):
        make_plain(self, "start", "batch_scale")
        if isinstance(self.recipe, list):
            object.__setattr__(self, "recipe", tuple(self.recipe))
        start = self.start
        if isinstance(start, bool) or not (isinstance(start, int) and 0 <= start < _START_MAX):
            raise ValueError(f"Stage: start must be an int >= 0, got {start!r}")
        if not (self.recipes and all(isinstance(recipe, Recipe) for recipe in self.recipes)):
            raise ValueError(f"Stage: recipe must be a Recipe or a tuple of Recipes, got {self.recipe!r}")
        given = _tuple_of(self.batch_scale)
        if not (given and all(is_number(scale, *_SCALES) for scale in given)):
            raise ValueError(f"Stage: batch_scale must be a number > 0, or one a recipe, got {self.batch_scale!r}")
        if isinstance(self.batch_scale, tuple) and len(given) != len(self.recipes):
            count = len(self.recipes)
            raise ValueError(f"Stage: batch_scale must have as many numbers as recipes, {count}, got {given!r}")

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipe, or those of the cycle."""
        return _tuple_of(self.recipe)

    @property
    def scales(self) -> tuple[float, ...]:
        """The batch scale of each of them."""
        given = _tuple_of(self.batch_scale)
        return given * len(self.recipes) if len(given) == 1 else given


@dataclass(frozen=True)
class Stages:
    """Recipes over the course of training: what ``VideoLoader`` takes in place of a single one.

    ``repr`` is valid Python. It is part of a loader's state: a state of other stages is refused.

    Attributes:
        stages: one or more, in order of their starts (kept as a tuple); the first starts at 0.
        unit: whether starts are counted in "epoch" or "step". A step is a batch of each rank; steps are counted through
            all epochs, and a stage may begin in the middle of one.

    Raises:
        ValueError: an option is out of range, or stages contradict each other.
    """

    stages: Sequence[Stage]
    unit: str = "epoch"

    def __post_init__(self):
        if not isinstance(self.stages, Iterable) or isinstance(self.stages, str):
            raise ValueError(f"Stages: stages must be several, such as (dv.Stage(0, recipe),), got {self.stages!r}")
        object.__setattr__(self, "stages", tuple(self.stages))
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise ValueError(f"Stages: stages must be of dv.Stage(start, recipe), got {stage!r}")
        if self.unit not in ("epoch", "step"):
            raise ValueError(f"Stages: unit must be epoch or step, got {self.unit!r}")
        starts = [stage.start for stage in self.stages]
        if not starts or starts[0] != 0:
            raise ValueError(f"Stages: the first stage must start at 0, got {starts[0] if starts else 'no stage'}")
        if any(one >= other for one, other in pairwise(starts)):
            raise ValueError(f"Stages: starts must rise from stage to stage, got {', '.join(map(str, starts))}")
        for what, found in (
            ("make as many clips of each sample (num_clips)", [recipe.num_clips for recipe in self.recipes]),
            ("end with Normalize, or none", [_is_normalized(recipe) for recipe in self.recipes]),
            ("have as many pathways", [len(recipe.pathways) for recipe in self.recipes]),
        ):
            if len(set(found)) > 1:
                raise ValueError(f"Stages: all recipes must {what}, got {', '.join(map(str, found))}")

    @property
    def recipes(self) -> list[Recipe]:
        """All recipes, in order, those of cycles too."""
        return [recipe for stage in self.stages for recipe in stage.recipes]

    @property
    def num_clips(self) -> int:
        """How many clips are made of each sample."""
        return self.recipes[0].num_clips

    def order(self) -> dict[str, Any]:
        """What a ``Schedule`` must know of the stages."""
        starts, scales = zip(*((stage.start, stage.scales) for stage in self.stages), strict=True)
        return {"starts": starts, "scales": scales, "by_step": self.unit == "step"}

    def fingerprints(self) -> dict[str, str]:
        """Those of the recipes, each with its number.

        Raises:
            ValueError: as ``Recipe.fingerprints``.
        """
        found = [recipe.fingerprints() for recipe in self.recipes]
        return {f"recipe {i}: {name}": text for i, texts in enumerate(found) for name, text in texts.items()}


def _is_normalized(recipe):
    return bool(recipe.ops) and bool(getattr(recipe.ops[-1], "channels_first", False))
