"""The augmentations, one file each: frozen dataclasses with ``draw`` (decide) and ``build`` (extend the graph)."""

from dali_vidaug.ops.crop import CROP, CenterCrop, RandomResizedCrop, Resize
from dali_vidaug.ops.flip import RandomHorizontalFlip
from dali_vidaug.ops.normalize import Normalize
from dali_vidaug.ops.randaugment import RandAugment, RandAugmentT, TrivialAugment

__all__ = [
    "CROP",
    "CenterCrop",
    "Normalize",
    "RandAugment",
    "RandAugmentT",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "Resize",
    "TrivialAugment",
]
