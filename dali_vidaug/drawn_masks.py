"""The masks of a batch: drawn with its plan, checked, and as text in its file. Needs only NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dali_vidaug.errors import naming
from dali_vidaug.masks.grid import Grid, grid_of
from dali_vidaug.ops.names import op_names
from dali_vidaug.repeats import parts_of
from dali_vidaug.rng import Draws

if TYPE_CHECKING:
    from dali_vidaug.recipe import Recipe

_MASKED, _LEFT = "#", "."  # in a saved plan


def draw_masks(
    recipe: Recipe, draws: Draws, repeat_index: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray | None, ...]:
    """Draw every mask of a recipe, for each clip its own.

    A clip's masks depend on (seed, epoch, sample, view, repeat) alone; what all clips of a step have in common, on
    (seed, epoch, step).

    Args:
        recipe: its masks draw.
        draws: addresses of the clips, and the step.
        repeat_index: (B,) int, which of the clips of the same frames each is.
        sizes: (B, 3) int: F, H, W of each clip after the last op.

    Returns:
        For each mask (B, T', H', W') bool, True where a token is masked; None for a mask that is drawn when the clips
        are decoded, which has ``after_decoding = True``.

    Raises:
        TypeError: a mask returns something else.
        ValueError: clips differ in size, or tokens do not divide them; an ``OpError`` when ``draw`` of a mask failed.
    """
    drawn: list[np.ndarray | None] = []
    for name, mask in zip(op_names(recipe.masks), recipe.masks, strict=True):
        grid = grid_of(name, mask, *_one_size(recipe, sizes))
        if getattr(mask, "after_decoding", False):
            drawn.append(None)
            continue
        drawn.append(draw_mask(name, mask, grid, draws, repeat_index))
    return tuple(drawn)


def draw_mask(
    name: str, mask: Any, grid: Grid, draws: Draws, repeat_index: np.ndarray,
    more: Callable[[np.ndarray], tuple[Any, ...]] = lambda at: (),
) -> np.ndarray:  # fmt: skip
    """Draw one mask, (B, *grid) bool.

    Args:
        name: of the mask in its recipe.
        mask: draws.
        grid: of the tokens of a clip.
        draws, repeat_index: as for ``draw_masks``.
        more: what ``mask.draw`` gets besides, for some of the clips: those at (N,) int.

    Raises:
        TypeError, ValueError: as of ``draw_masks``.
    """
    masked = np.empty((len(draws), *grid), bool)
    for repeat, at in parts_of(repeat_index) if len(draws) else ():
        some = mask_draws(name, draws, at, repeat)
        with naming(name, mask, "draw", f"for {some}"):
            found = mask.draw(some, grid, *more(at))
        if not (isinstance(found, np.ndarray) and found.dtype == bool and found.shape == (len(at), *grid)):
            got = f"{found.shape} {found.dtype}" if isinstance(found, np.ndarray) else repr(found)
            raise TypeError(f"{name}.draw must return {(len(at), *grid)} bool, got {got}")
        masked[at] = found
    return masked


def mask_draws(name: str, draws: Draws, at: np.ndarray, repeat: int) -> Draws:
    """The random numbers of a mask.

    Args:
        name: of the mask in its recipe.
        draws: addresses of the clips, and the step.
        at: (N,) int, which of the clips.
        repeat: which of the clips of the same frames these are.
    """
    clips = draws.part(at)
    where = clips.seed, clips.epoch, clips.samples, clips.views
    return Draws(*where, f"mask.{name}", repeat=repeat, step=draws.step)


def _one_size(recipe, sizes):
    """The size (F, H, W) that all clips have."""
    if (sizes != sizes[:1]).any():
        found = " and ".join("x".join(map(str, size)) for size in np.unique(sizes, axis=0).tolist())
        raise ValueError(f"{op_names(recipe.masks)[0]}: masks need clips of one size (F x H x W), got {found}")
    return sizes[0].tolist() if len(sizes) else (0, 0, 0)


def check_masks(recipe: Recipe, masks: Sequence[Any], count: int) -> tuple[np.ndarray | None, ...]:
    """The masks of a plan, if they are those of its recipe.

    Raises:
        ValueError: there are more or fewer, of other clips, or one is no mask.
    """
    names = op_names(recipe.masks)
    if len(masks) != len(names):
        raise ValueError(f"Plan: {len(masks)} masks, but the recipe's are {', '.join(names) or 'none'}")
    for name, mask in zip(names, masks, strict=True):
        if mask is not None and (np.ndim(mask) != 4 or len(mask) != count or np.asarray(mask).dtype != bool):
            raise ValueError(f"Plan: {name} must be ({count}, T, H, W) bool, got {np.shape(mask)}")
    return tuple(mask if mask is None else np.asarray(mask) for mask in masks)


def check_grids(recipe: Recipe, masks: Sequence[np.ndarray | None], sizes: np.ndarray) -> None:
    """Refuse masks of a plan, such as edited ones, that do not fit the clips.

    Args:
        recipe: of the plan.
        masks: of the plan.
        sizes: (B, 3) int: F, H, W of each clip after the last op.

    Raises:
        ValueError: clips differ in size, tokens do not divide them, or a mask has another grid.
    """
    for name, mask, drawn in zip(op_names(recipe.masks), recipe.masks, masks, strict=True):
        grid = grid_of(name, mask, *_one_size(recipe, sizes))
        if drawn is not None and drawn.shape[1:] != grid:
            raise ValueError(f"Plan: {name} must be {(len(drawn), *grid)} for these clips, got {drawn.shape}")


def masks_to_text(masks: Sequence[np.ndarray | None]) -> list[Any]:
    """For each mask, clip and frame of the grid its rows as text, "#" for a masked token and "." for another."""
    return [
        mask if mask is None else [[_frame_text(frame) for frame in clip] for clip in mask.tolist()] for mask in masks
    ]


def _frame_text(rows):
    return [("".join(_MASKED if masked else _LEFT for masked in row)) for row in rows]


def masks_from_text(texts: Sequence[Any]) -> tuple[np.ndarray | None, ...]:
    """What ``masks_to_text`` gave.

    Raises:
        ValueError: it is something else.
    """
    return tuple(None if text is None else _mask_of(text) for text in texts)


def _mask_of(text):
    signs = np.array([[[list(row) for row in frame] for frame in clip] for clip in text])
    if signs.size and not np.isin(signs, (_MASKED, _LEFT)).all():
        raise ValueError(f"masks must be of {_MASKED!r} and {_LEFT!r}, got {sorted(set(signs.ravel().tolist()))}")
    return signs == _MASKED if signs.ndim == 4 else np.zeros((0, 1, 1, 1), bool)


def masks_text(recipe: Recipe, masks: Sequence[np.ndarray | None], clips: slice = slice(None)) -> list[str]:
    """For each mask its name, and how many tokens of a clip it masks, in words."""
    lines = []
    for name, mask in zip(op_names(recipe.masks), masks, strict=True):
        if mask is None:
            lines.append(f"{name} after decoding")
            continue
        counts = mask[clips].sum((1, 2, 3))
        low, high = (counts.min(), counts.max()) if len(counts) else (0, 0)
        grid = Grid(*mask.shape[1:])
        number = str(low) if low == high else f"{low} to {high}"
        lines.append(f"{name} {number} of {grid.size} tokens ({grid.frames} x {grid.height} x {grid.width})")
    return lines
