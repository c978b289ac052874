"""Masks for self-supervision: which tokens of a clip a model does not see, or has to predict."""

from __future__ import annotations

from dali_vidaug.masks.grid import Grid, Mask
from dali_vidaug.masks.motion import ClipMotion, MotionMask
from dali_vidaug.masks.uniform import RandomMask, TubeMask

MASKS = (TubeMask, RandomMask, MotionMask)

__all__ = ["MASKS", "ClipMotion", "Grid", "Mask", "MotionMask", "RandomMask", "TubeMask"]
