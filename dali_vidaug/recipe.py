"""A recipe: how clips are sampled and what is done to them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from dali_vidaug import masks as _masks
from dali_vidaug import ops as _ops
from dali_vidaug.ops.names import is_on_pixels
from dali_vidaug.rng import MAX_VIEW
from dali_vidaug.sampling import SAMPLERS, ClipSampling, num_clips


class UnknownClassError(ValueError):
    """The text of a recipe has a class that was not named.

    Attributes:
        name: of the class.
    """

    def __init__(self, name: str, known: Iterable[str]):
        self.name = name
        super().__init__(f"Recipe: {name} is not known; known are {', '.join(sorted(known))}")


def class_list(classes: Iterable[type]) -> list[type]:
    """Refuse what is not a list of classes.

    Raises:
        ValueError: it is something else, such as a class alone.
    """
    found: list[Any] = list(classes) if isinstance(classes, Iterable) else [None]
    if not all(isinstance(c, type) for c in found):
        raise ValueError(f"Recipe: classes must be a list of classes, such as [MyOp, MySampler], got {classes!r}")
    return found


def shown_fields(recipe: Recipe) -> list[str]:
    """The names of the fields that ``repr`` writes: a sampler and ops, and what is not as by default."""
    return [f.name for f in fields(recipe) if f.name in ("sampling", "ops") or getattr(recipe, f.name) != f.default]


@dataclass(frozen=True, repr=False)
class Recipe:
    """A sampler and ops, in order. ``repr(recipe)`` is valid Python and ``Recipe.parse`` reads it back.

    Attributes:
        sampling: which frames of a video make a clip: ``ClipSampling``, another of ``SAMPLERS``, or your own.
        ops: applied in order (kept as a tuple); ``Normalize``, if present, comes last. Without it the clips stay uint8.
        pathways: for networks with several inputs, such as SlowFast's (8, 1): ``batch.clips`` is then a tuple, with for
            each number n the clips with F // n of their F frames, trunc(linspace(0, F - 1, F // n)); 1: all of them.
            Default: one tensor.
        masks: for self-supervision, drawn for each clip (kept as a tuple): ``batch.masks`` has one for each of these.

    Raises:
        ValueError: the sampler is not one, something among the ops is not an op or among the masks no mask,
            ``Normalize`` is not the last, an op crops by views (``num_crops``) that the sampler does not have, or a
            pathway is no int >= 1.
    """

    sampling: Any = field(default_factory=ClipSampling)
    ops: Sequence[Any] = (_ops.RandomResizedCrop(), _ops.RandomHorizontalFlip(), _ops.Normalize())
    pathways: Sequence[int] = ()
    masks: Sequence[Any] = ()

    def __post_init__(self):
        if not isinstance(self.ops, Iterable):
            raise ValueError(f"Recipe: ops must be several, such as (dv.Resize(256), dv.Normalize()), got {self.ops!r}")
        object.__setattr__(self, "ops", tuple(self.ops))
        if isinstance(self.sampling, type) or not hasattr(self.sampling, "draw") or is_on_pixels(self.sampling):
            raise ValueError(f"Recipe: sampling must be a sampler, such as ClipSampling(), got {self.sampling!r}")
        count = num_clips(self.sampling)
        if not (isinstance(count, int) and 1 <= count <= MAX_VIEW):
            raise ValueError(f"Recipe: num_clips of {self.sampling!r} must be an int in [1, {MAX_VIEW}], got {count!r}")
        for op in self.ops:
            on_time = _ops.is_on_time(op)
            if isinstance(op, type) or not (on_time or is_on_pixels(op)):
                hint = f": write {op.__name__}(...)" if isinstance(op, type) else ""
                raise ValueError(f"Recipe: an op needs draw, and build or run; or retime; got {op!r}{hint}")
            if hasattr(op, "mix_targets"):
                raise ValueError(f"Recipe: mix_targets of {_ops.name_of(op)} is not called; its name is targets now")
        self._check_views()
        self._check_pathways()
        on_pixels = None  # the first op that is
        for name, op in zip(self.names, self.ops, strict=True):
            if on_pixels and _ops.is_on_time(op):
                raise ValueError(
                    f"Recipe: {name} decides which frames are decoded, so it must come before {on_pixels}, which works "
                    "on decoded frames"
                )
            on_pixels = on_pixels or (None if _ops.is_on_time(op) else name)
        for name, op in zip(self.names[:-1], self.ops, strict=False):
            if getattr(op, "channels_first", False):
                raise ValueError(f"Recipe: {name} must be the last op, and only once")
        self._check_masks()

    def _check_masks(self):
        if not isinstance(self.masks, Iterable):
            raise ValueError(f"Recipe: masks must be several, such as (dv.TubeMask(0.9),), got {self.masks!r}")
        object.__setattr__(self, "masks", tuple(self.masks))
        for mask in self.masks:
            if isinstance(mask, type) or not all(hasattr(mask, name) for name in ("draw", "patch", "tubelet")):
                hint = f": write {mask.__name__}(...)" if isinstance(mask, type) else ""
                raise ValueError(f"Recipe: a mask needs draw, patch and tubelet, got {mask!r}{hint}")

    def __repr__(self) -> str:
        return f"Recipe({', '.join(f'{name}={getattr(self, name)!r}' for name in shown_fields(self))})"

    def _check_pathways(self):
        """Keep the pathways as a tuple, if they are some."""
        found: Any = tuple(self.pathways) if isinstance(self.pathways, Iterable) else (None,)
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in found):
            raise ValueError(f"Recipe: pathways must be ints >= 1, such as (8, 1), got {self.pathways!r}")
        object.__setattr__(self, "pathways", found)

    def _check_views(self):
        """Refuse an op that crops each view at another place where the sampler has no such views."""
        found = [
            (name, op.num_crops) for name, op in zip(self.names, self.ops, strict=True) if hasattr(op, "num_crops")
        ]
        if len(found) > 1:
            raise ValueError(f"Recipe: {found[0][0]} and {found[1][0]} both choose their crop by the view; take one")
        for name, count in found:
            if getattr(self.sampling, "num_crops", 1) != count:
                raise ValueError(
                    f"Recipe: {name} makes {count} crops of the same frames, each for a view of its own, so it needs a "
                    f"sampler such as MultiClip(clip, num_clips={count}, num_crops={count}), got {self.sampling!r}"
                )

    @property
    def names(self) -> list[str]:
        """A name for each op, by which its draws are addressed."""
        return _ops.op_names(self.ops)

    @property
    def time_ops(self) -> list[tuple[str, Any]]:
        """The ops on time, which come first, with their names: what ``timing.draw_time`` draws."""
        return [(name, op) for name, op in zip(self.names, self.ops, strict=True) if _ops.is_on_time(op)]

    @property
    def pixel_ops(self) -> list[tuple[str, Any]]:
        """The other ops, with their names: what the graph is built of."""
        return list(zip(self.names, self.ops, strict=True))[len(self.time_ops) :]

    @property
    def num_clips(self) -> int:
        """How many clips are made of each sample."""
        return num_clips(self.sampling)

    def pathway_frames(self, num_frames: int) -> list[np.ndarray]:
        """Which frames of a clip of ``num_frames`` each pathway has: (num_frames // n,) int64 each, rising.

        Raises:
            ValueError: a pathway would have none.
        """
        if num_frames < max(self.pathways, default=1):
            raise ValueError(
                f"Recipe: pathways={self.pathways} need clips of {max(self.pathways)} frames or more, got {num_frames}"
            )
        return [np.linspace(0, num_frames - 1, num_frames // n).astype(np.int64) for n in self.pathways]

    def fingerprints(self) -> dict[str, str]:
        """For each op that has more than its options, such as a network, a text that another one would not have.

        Raises:
            ValueError: what an op has besides its options is missing.
        """
        named = zip(self.names, self.ops, strict=True)
        found = {name: op.fingerprint() for name, op in named if hasattr(op, "fingerprint")}
        return {name: text for name, text in found.items() if text}

    @classmethod
    def parse(cls, text: str, classes: Iterable[type] = ()) -> Recipe:
        """Read ``repr(recipe)``. No code is run: only calls of known classes with literal arguments are accepted.

        Args:
            text: what ``repr`` gave.
            classes: your own ops, samplers and masks that may appear in it. One that has the name of an op of this
                package is used in its place.

        Raises:
            ValueError: the text contains anything else.
        """
        known: dict[str, Any] = {c.__name__: c for c in (cls, *SAMPLERS, *_masks.MASKS)}
        known |= {name: getattr(_ops, name) for name in _ops.__all__ if isinstance(getattr(_ops, name), type)}
        known |= {c.__name__: c for c in class_list(classes)}

        def value(node):
            if isinstance(node, ast.Tuple):
                return tuple(value(element) for element in node.elts)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
                if node.func.id not in known:
                    raise UnknownClassError(node.func.id, known)
                return known[node.func.id](**{k.arg: value(k.value) for k in node.keywords if k.arg})
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in known:
                raise ValueError(f"Recipe: arguments must have names, as repr writes them, got {ast.unparse(node)}")
            try:
                return ast.literal_eval(node)
            except ValueError:
                raise ValueError(f"Recipe: must be what repr(recipe) gives, got {ast.unparse(node)}") from None

        try:
            recipe = value(ast.parse(text, mode="eval").body)
        except SyntaxError as error:
            raise ValueError(f"Recipe: cannot read {text!r}") from error
        except TypeError as error:  # an argument that a class does not have
            raise ValueError(f"Recipe: {error}") from error
        if not isinstance(recipe, cls):
            raise ValueError(f"Recipe: {text!r} is not a Recipe")
        return recipe
