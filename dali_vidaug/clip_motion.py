"""What moves in the clips of a plan: which recipes and videos tell it, and where clips lie in their videos."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from dali_vidaug.device.nvdec import Files, Format
from dali_vidaug.drawn_masks import draw_mask
from dali_vidaug.mapping import clip_geometry
from dali_vidaug.masks.grid import grid_of
from dali_vidaug.masks.motion import ClipMotion
from dali_vidaug.media.vectors import CELL, VECTOR_CODECS, View
from dali_vidaug.ops.interpolate import between_frames
from dali_vidaug.ops.names import op_names
from dali_vidaug.plan import Plan
from dali_vidaug.recipe import Recipe
from dali_vidaug.report import warn_once
from dali_vidaug.rng import Draws


def needs_motion(recipe: Recipe) -> bool:
    """Whether a mask of a recipe is drawn by what moves in the clips."""
    return any(getattr(mask, "after_decoding", False) for mask in recipe.masks)


def motion_step(recipe: Recipe) -> int:
    """How far apart the frames of a clip are that are looked at for the masks of a recipe that needs motion."""
    return math.gcd(*(mask.tubelet for mask in recipe.masks if getattr(mask, "after_decoding", False)))


def check_motion_follows(caller: str, recipe: Recipe, frames: np.ndarray) -> None:
    """Refuse a recipe whose clips have no motion of their own.

    Args:
        caller: named in errors.
        recipe: of the clips.
        frames: (B, F), positions of their frames.

    Raises:
        ValueError: an op moves pixels and does not say how, or mixes clips; or frames lie between those of the videos.
    """
    if between_frames(frames):
        raise ValueError(
            f"{caller}: motion is known of the frames of a video, not of frames between them, which this recipe makes"
        )
    for name, op in recipe.pixel_ops:
        if hasattr(op, "mixed_with"):
            raise ValueError(f"{caller}: motion does not follow {name}, which mixes clips; leave one of them out")
        if not hasattr(op, "matrices") and getattr(op, "moves_pixels", True):
            raise ValueError(
                f"{caller}: {name} does not say where it moves pixels, so that motion cannot follow: an op has "
                "matrices, or moves_pixels = False where every pixel stays in its place (docs/adding-an-op.md)"
            )


def check_motion_known(caller: str, formats: Mapping[Format, Files]) -> None:
    """Warn of videos whose codec has no motion vectors that can be read.

    Args:
        caller: named in errors.
        formats: of the videos.

    Raises:
        ValueError: that is so for all of them.
    """
    without: dict[str, Files] = {}
    for one, files in formats.items():
        if one.codec not in VECTOR_CODECS:
            others = without.get(one.codec, Files(0, files.example))
            without[one.codec] = Files(others.number + files.number, others.example)
    if not without:
        return
    named = ", ".join(
        f"{codec} ({files.number} file{'s' * (files.number > 1)}, for example {files.example})"
        for codec, files in sorted(without.items(), key=lambda item: (-item[1].number, item[0]))
    )
    text, advice = f"FFmpeg gives no motion vectors of {named}", "dali-vidaug transcode makes H.264 of them"
    if all(one.codec in without for one in formats):
        raise ValueError(f"{caller}: motion is not known of any video: {text}; {advice}")
    warn_once(f"{text}: the motion of their clips is NaN; {advice}")


def motion_views(caller: str, plan: Plan, height: Any, width: Any, every: int = 1) -> list[View]:
    """Where the clips of a plan lie in the frames of their videos.

    Args:
        caller: named in errors.
        plan: of the clips.
        height, width: (B,) int, the sizes of these frames, as shown.
        every: as of ``View``.

    Raises:
        ValueError: as ``check_motion_follows``.
    """
    check_motion_follows(caller, plan.recipe, plan.frames)
    matrices, sizes = clip_geometry(caller, plan, height, width)
    return [View(one, h, w, every) for one, (_, h, w) in zip(matrices, sizes.tolist(), strict=True)]


def _motion_of(known, frames, at):
    return (ClipMotion(known[at], frames[at], CELL),)


def with_motion_masks(plan: Plan, motion: np.ndarray, size: tuple[int, int, int]) -> Plan:
    """A plan with those masks too that are drawn by what moves in its clips.

    Args:
        plan: of the clips; a mask that it has, such as a saved plan, stays.
        motion: (B, 2, F, h, w) float32.
        size: (F, H, W) of the clips.

    Raises:
        TypeError, ValueError: a mask returns something else, or fails.
    """
    masks, draws = list(plan.masks), Draws(plan.seed, plan.epoch, plan.samples, plan.views, step=plan.step)
    for i, (name, mask) in enumerate(zip(op_names(plan.recipe.masks), plan.recipe.masks, strict=True)):
        if masks[i] is not None:
            continue
        grid, firsts = grid_of(name, mask, *size), slice(None, None, mask.tubelet)
        known, frames = motion[:, :, firsts], plan.frames[:, firsts]
        more = partial(_motion_of, known, frames)
        masks[i] = draw_mask(name, mask, grid, draws, plan.repeat_index, more)
    return replace(plan, masks=tuple(masks))
