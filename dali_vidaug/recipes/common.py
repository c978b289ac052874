"""What several recipes have in common: norms, scalings, and how transformers are fine-tuned."""

from __future__ import annotations

from typing import Any

from dali_vidaug.ops import (
    CutMix,
    LabelSmoothing,
    MixUp,
    Normalize,
    OneOf,
    RandAugment,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    ShortSideScale,
)
from dali_vidaug.recipes import registry
from dali_vidaug.sampling import MultiClip, num_clips

KINETICS = Normalize()
IMAGENET = Normalize(*registry.IMAGENET)


def short_side(length: int) -> ShortSideScale:
    """Scale the short side to ``length`` and round the long side down."""
    return ShortSideScale(length, length)


def crops(clips: Any, count: int = 3) -> MultiClip:
    """The clips of a sampler, ``count`` times each, for an op that crops them by their views."""
    return MultiClip(clips, num_clips=num_clips(clips) * count, placement="own", num_crops=count)


def augmented(
    size: int, norm: Normalize, *, flips: bool = True, mixes: bool = True, crop: tuple[Any, ...] | None = None
) -> tuple[Any, ...]:
    """The ops of training that SlowFast's repository has for MViT, and that of VideoMAE and others took over.

    ``rand-m7-n4-mstd0.5-inc1`` on frames of their full size, a resized crop, a flip, random erasing; MixUp or CutMix,
    one of them and one weight for a batch, and label smoothing. docs/recipes.md says where they differ from the
    official ones.

    Args:
        size: of the crop, in pixels.
        norm: comes last.
        flips: whether clips are mirrored: not where labels tell left from right.
        mixes: whether clips are mixed and labels smoothed.
        crop: ops in place of the resized crop.
    """
    mixing = (
        OneOf((MixUp(0.8, granularity="batch"), CutMix(1.0, granularity="batch")), granularity="batch"),
        LabelSmoothing(0.1),
    )
    return (
        RandAugment(4, 7.0, 0.5, 0.5, suite="timm"),
        *(crop or (RandomResizedCrop(size, antialias=False),)),
        *((RandomHorizontalFlip(),) if flips else ()),
        RandomErasing(0.25, mean=norm.mean, std=norm.std),
        *(mixing if mixes else ()),
        norm,
    )
