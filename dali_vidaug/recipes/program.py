"""Recipes as Python to copy."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from textwrap import wrap
from typing import Any

from dali_vidaug.recipe import Recipe, shown_fields
from dali_vidaug.recipes.registry import Family

_WIDTH = 110  # of a line


def as_python(value: Any, column: int = 0) -> str:
    """A recipe, a sampler or an op as Python, with ``dv.`` before each name and in short lines.

    Args:
        value: one of this package; or a tuple, a number, a text.
        column: how many characters are before it in its line.
    """
    return _written(value, column, 0)


def program(family: Family, variant: str, stage: str, dataset: str) -> str:
    """A recipe with the loader that it is for, as a program to copy.

    Args:
        family: one of ``FAMILIES``.
        variant, stage, dataset: what it is asked for.

    Raises:
        ValueError: the family does not have that.
    """
    recipe = family.function(variant, stage=stage, dataset=dataset)
    training = family.training(variant, dataset)
    recipe_line = "recipe = "
    warning = ""
    if stage == "train" and family.mirrors(variant, dataset):
        warning = (
            f"WARNING: half of the clips are mirrored, as published, although labels of {dataset} tell left from "
            "right. Leave RandomHorizontalFlip out, or give it a label_map"
        )
    lines = [
        *_comments(f"{family.name} {variant}, {dataset}, {stage}", warning, family.paper, family.code),
        "import dali_vidaug as dv",
        "",
        recipe_line + as_python(recipe, len(recipe_line)),
    ]
    if stage == "train":
        repeats = f", repeats={training.repeats}" if training.repeats > 1 else ""
        lines.append(f'loader = dv.VideoLoader("train.parquet", recipe, batch_size=8{repeats})')
        if training.batch_size:
            lines += _comments(f"published: batches of {training.batch_size} samples, over all GPUs")
        lines += _comments(training.optimizer, training.schedule, training.loss)
    else:
        size = 1 if recipe.num_clips > 1 else 8
        options = f"batch_size={size}, shuffle=False, drop_last=False"
        lines.append(f'loader = dv.VideoLoader("{stage}.parquet", recipe, {options})')
        if recipe.num_clips > 1:
            lines.append(f'scores = dv.VideoScores(loader.manifest, average="{training.average}")')
    return "\n".join(lines) + "\n"


def _comments(*texts):
    return [line for text in texts for line in wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="#   ")]


def _written(value, column, indent):
    """``value`` in a line that has ``column`` characters before it; lines after the first have ``indent`` spaces."""
    flat = _flat(value)
    if column + len(flat) < _WIDTH or not (isinstance(value, tuple) or is_dataclass(value)):
        return flat
    opening, items, closing = _parts(value)
    inner = indent + 4
    together = ", ".join(name + _flat(item) for name, item in items)
    if is_dataclass(value) and inner + len(together) < _WIDTH and not any(map(_is_op_list, items)):
        lines = [together]
    else:
        lines = [f"{name}{_written(item, inner + len(name) + 1, inner)}," for name, item in items]
    return "\n".join([opening, *(" " * inner + line for line in lines), " " * indent + closing])


def _is_op_list(item):
    return isinstance(item[1], tuple) and any(map(is_dataclass, item[1]))


def _flat(value):
    """``value`` in one line."""
    if not isinstance(value, tuple) and not is_dataclass(value):
        return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
    opening, items, closing = _parts(value)
    comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
    return opening + ", ".join(name + _flat(item) for name, item in items) + comma + closing


def _parts(value):
    """What a call or a tuple begins with, its (name=, value), and what it ends with."""
    if isinstance(value, tuple):
        return "(", [("", item) for item in value], ")"
    names = [
        field.name for field in fields(value) if field.default is not None or getattr(value, field.name) is not None
    ]
    names = shown_fields(value) if isinstance(value, Recipe) else names
    shown = [(f"{name}=", getattr(value, name)) for name in names]
    return f"dv.{type(value).__name__}(", shown, ")"
