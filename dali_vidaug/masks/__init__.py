"""Masks for self-supervision: which tokens of a clip a model does not see, or has to predict."""

from __future__ import annotations

from dali_vidaug.masks.blocks import MultiBlockMask
from dali_vidaug.masks.cells import RunningCellMask
from dali_vidaug.masks.cubes import CubeMask
from dali_vidaug.masks.grid import Grid, Mask
from dali_vidaug.masks.uniform import RandomMask, TubeMask

MASKS = (TubeMask, RandomMask, RunningCellMask, MultiBlockMask, CubeMask)

__all__ = ["MASKS", "CubeMask", "Grid", "Mask", "MultiBlockMask", "RandomMask", "RunningCellMask", "TubeMask"]
