"""What is done to clips while they are decoded, or right after it."""

from __future__ import annotations

from dali_vidaug.recipe import Recipe
from dali_vidaug.settings import Settings


def num_in_decoder(recipe: Recipe, settings: Settings) -> int:
    """How many of a recipe's first ops on pixels are done where clips are decoded: by PyAV in its conversion to RGB."""
    count = num_leading(recipe)
    if settings.decoder == "dali":
        return count
    if not settings.resize_in_decoder:
        return 0
    following = recipe.pixel_ops[count:]
    # A flip costs next to nothing there, and nothing at all where Planes or DALI's Normalize does it.
    flips = bool(following) and getattr(following[0][1], "mirrors", False) and settings.device == "cpu"
    flips = flips and frame_module(recipe) is None  # which may make other frames of mirrored ones
    return count + (flips and not all(hasattr(op, "lookup") for _, op in following[1:]))


def num_leading(recipe: Recipe) -> int:
    """How many of a recipe's first ops on pixels can be done in the decoder."""
    declared = [getattr(op, "in_decoder", False) for _, op in recipe.pixel_ops]
    return [*declared, False].index(False)


def frame_module(recipe: Recipe) -> str | None:
    """The module that makes frames between two frames, if the last op that says how names one."""
    return ([None] + [op.frame_module for _, op in recipe.time_ops if hasattr(op, "frame_module")])[-1]
