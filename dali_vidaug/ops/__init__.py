"""The augmentations, one file each: frozen dataclasses with ``draw`` (decide) and ``build`` (extend the graph)."""

from dali_vidaug.ops.crop import CROP, CenterCrop, RandomResizedCrop, Resize
from dali_vidaug.ops.erase import CubeCutout, Cutout, FrameCutout, RandomErasing
from dali_vidaug.ops.flip import RandomHorizontalFlip
from dali_vidaug.ops.mix import (
    CubeCutMix,
    CubeCutMixUp,
    CutMix,
    CutMixUp,
    FadeMixUp,
    FrameCutMix,
    FrameCutMixUp,
    Mix,
    MixUp,
    MovingCutMix,
    VideoMix,
)
from dali_vidaug.ops.normalize import Normalize
from dali_vidaug.ops.one_of import OneOf, op_names
from dali_vidaug.ops.randaugment import RandAugment, RandAugmentT, TrivialAugment
from dali_vidaug.ops.smoothing import LabelSmoothing

__all__ = [
    "CROP",
    "CenterCrop",
    "CubeCutMix",
    "CubeCutMixUp",
    "CubeCutout",
    "CutMix",
    "CutMixUp",
    "Cutout",
    "FadeMixUp",
    "FrameCutMix",
    "FrameCutMixUp",
    "FrameCutout",
    "LabelSmoothing",
    "Mix",
    "MixUp",
    "MovingCutMix",
    "Normalize",
    "OneOf",
    "RandAugment",
    "RandAugmentT",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "Resize",
    "TrivialAugment",
    "VideoMix",
    "op_names",
]
