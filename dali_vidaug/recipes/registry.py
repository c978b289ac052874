"""Which published recipes there are, and what was published beside each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec

from dali_vidaug.ops import RandomHorizontalFlip
from dali_vidaug.ops.check import check_choice
from dali_vidaug.recipe import Recipe

STAGES = ("train", "validation", "test")
DIRECTED = ("ssv2", "jester", "diving48")  # data sets whose labels tell left from right
IMAGENET = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # mean and std of R, G, B; the defaults of Normalize: SlowFast's
_LEAST, _MOST = 16, 16384  # pixels
P = ParamSpec("P")


@dataclass(frozen=True)
class Training:
    """How a model was trained, where that is no part of a recipe. The texts are to be read, not to be parsed.

    Attributes:
        optimizer: with its learning rate for batches of ``batch_size``.
        schedule: of the learning rate, in epochs.
        batch_size: samples of a step, over all GPUs; None: not published.
        repeats: what ``VideoLoader(repeats=)`` is given: clips of the same frames, each augmented by itself.
        loss: what differs from the cross-entropy with ``batch.targets``, and regularisation in the model; or "".
        average: what the published test averages over the views of a video: ``VideoScores(average=)``.
    """

    optimizer: str
    schedule: str
    batch_size: int | None = None
    repeats: int = 1
    loss: str = ""
    average: str = "softmax"


@dataclass(frozen=True)
class Family:
    """A function of ``dali_vidaug.recipes``, and what it can be asked for.

    Attributes:
        function: returns a recipe; its first argument is the variant, ``stage`` and ``dataset`` are others.
        variants: the data sets of each variant. The defaults come first.
        stages: what ``stage`` may be.
        paper, code: the source: authors, title, year; and the repository with its licence.
        training: from a variant and a data set to what was published beside the recipe; refuses those that there are
            not, as ``function`` does.
    """

    function: Callable[..., Recipe]
    variants: Mapping[str, tuple[str, ...]]
    stages: tuple[str, ...]
    paper: str
    code: str
    training: Callable[[str, str], Training]

    @property
    def name(self) -> str:
        """What the function is called."""
        return self.function.__name__

    @property
    def option(self) -> str:
        """What the function calls its variants."""
        return next(iter(inspect.signature(self.function).parameters))

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def datasets(self) -> tuple[str, ...]:
        """All data sets that some variant has."""
        return tuple(dict.fromkeys(name for names in self.variants.values() for name in names))

    def all(self) -> Iterator[tuple[str, str, str]]:
        """Every (variant, stage, data set) that there is."""
        for variant, datasets in self.variants.items():
            for dataset in datasets:
                for stage in self.stages:
                    yield variant, stage, dataset

    def mirrors(self, variant: str, dataset: str) -> bool:
        """Whether training mirrors clips although the labels of the data set tell left from right."""
        if dataset not in DIRECTED or "train" not in self.stages:
            return False
        ops = self.function(variant, stage="train", dataset=dataset).ops
        return any(isinstance(op, RandomHorizontalFlip) and op.label_map is None for op in ops)

    def check(self, variant: str, stage: str, dataset: str) -> None:
        """Refuse what the family does not have.

        Raises:
            ValueError: there is no such variant or stage, or nothing was published for that data set.
        """
        check_choice(self.name, self.option, variant, tuple(self.variants))
        check_choice(self.name, "stage", stage, self.stages)
        check_choice(self.name, "dataset", dataset, self.variants[variant])


FAMILIES: dict[str, Family] = {}  # by name, in the order of their files


def published(
    variants: Mapping[str, tuple[str, ...]],
    *,
    paper: str,
    code: str,
    training: Callable[[str, str], Training],
    stages: tuple[str, ...] = STAGES,
) -> Callable[[Callable[P, Recipe]], Callable[P, Recipe]]:
    """Decorate a function that makes recipes: it is put into ``FAMILIES``, and refuses arguments that it does not have.

    Args:
        variants, paper, code, training, stages: as in ``Family``.
    """

    def register(function: Callable[P, Recipe]) -> Callable[P, Recipe]:
        signature = inspect.signature(function)

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> Recipe:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            family.check(given.arguments[family.option], given.arguments["stage"], given.arguments["dataset"])
            return function(*args, **kwargs)

        def checked_training(variant: str, dataset: str) -> Training:
            family.check(variant, stages[0], dataset)
            return training(variant, dataset)

        family = FAMILIES[function.__name__] = Family(checked, variants, stages, paper, code, checked_training)
        return checked

    return register


def scaled(
    name: str, size: int | None, published_size: int, pixels: int, multiple: int = 1, least: int = _LEAST
) -> int:
    """A length of a recipe whose crops have another size than the published one.

    Args:
        name: of the family, for errors.
        size: of the crops; None: the published one.
        published_size: of the crops.
        pixels: the published length.
        multiple: of which size must be one, for masks of whole patches.
        least: that size may be.

    Raises:
        ValueError: size is not a whole number in [least, 16384], or no multiple; or the length is more than 16384.
    """
    if size is None:
        return pixels
    if isinstance(size, bool) or not (isinstance(size, int) and least <= size <= _MOST and size % multiple == 0):
        kind = "an int" if multiple == 1 else f"a multiple of {multiple}, as its masks hide whole patches,"
        raise ValueError(f"{name}: size must be None or {kind} in [{least}, {_MOST}], got {size!r}")
    length = round(pixels * size / published_size)
    if length > _MOST:
        raise ValueError(
            f"{name}: size must be so small that no length is more than {_MOST} pixels, got {size}: {pixels} pixels "
            f"for crops of {published_size} become {length}"
        )
    return length
