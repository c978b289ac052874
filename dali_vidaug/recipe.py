"""A recipe: how clips are sampled and what is done to them."""

import ast
from dataclasses import dataclass, field
from typing import Any

from dali_vidaug import ops as _ops
from dali_vidaug.sampling import ClipSampling


@dataclass(frozen=True)
class Recipe:
    """Sampling and ops, in order. ``repr(recipe)`` is valid Python and ``Recipe.parse`` reads it back.

    Attributes:
        sampling: which frames of a video make a clip.
        ops: applied in order; ``Normalize``, if there, comes last. Without it the clips stay uint8.

    Raises:
        ValueError: something among the ops is not an op, or ``Normalize`` is not the last.
    """

    sampling: ClipSampling = field(default_factory=ClipSampling)
    ops: tuple[Any, ...] = (_ops.RandomResizedCrop(), _ops.RandomHorizontalFlip(), _ops.Normalize())

    def __post_init__(self):
        object.__setattr__(self, "ops", tuple(self.ops))
        if not isinstance(self.sampling, ClipSampling):
            raise ValueError(f"Recipe: sampling must be a ClipSampling, got {self.sampling!r}")
        for op in self.ops:
            if isinstance(op, type) or not (hasattr(op, "draw") and hasattr(op, "build")):
                raise ValueError(f"Recipe: an op needs draw and build, got {op!r}")
        if any(isinstance(op, _ops.Normalize) for op in self.ops[:-1]):
            raise ValueError("Recipe: Normalize must be the last op, and stand there once")

    @property
    def names(self):
        """A name for each op, which its draws are addressed by; see ``op_names``."""
        return _ops.op_names(self.ops)

    @classmethod
    def parse(cls, text, classes=()):
        """Read ``repr(recipe)``. No code is run: only calls of known classes with literal arguments are accepted.

        Args:
            text: what ``repr`` gave.
            classes: the user's own op classes that may appear in it.

        Raises:
            ValueError: the text has anything else in it.
        """
        known = {c.__name__: c for c in (cls, ClipSampling, *classes)}
        known |= {name: getattr(_ops, name) for name in _ops.__all__ if isinstance(getattr(_ops, name), type)}

        def value(node):
            if isinstance(node, ast.Tuple):
                return tuple(value(element) for element in node.elts)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
                if node.func.id not in known:
                    raise ValueError(f"Recipe: {node.func.id} is not known; known are {', '.join(sorted(known))}")
                return known[node.func.id](**{k.arg: value(k.value) for k in node.keywords if k.arg})
            return ast.literal_eval(node)

        try:
            recipe = value(ast.parse(text, mode="eval").body)
        except SyntaxError as error:
            raise ValueError(f"Recipe: cannot read {text!r}") from error
        if not isinstance(recipe, cls):
            raise ValueError(f"Recipe: {text!r} is not a Recipe")
        return recipe
