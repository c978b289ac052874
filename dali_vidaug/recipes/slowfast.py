"""SlowFast and X3D: short-side jitter, a random crop, a flip."""

from __future__ import annotations

from typing import NamedTuple

from dali_vidaug.ops import (
    CenterCrop,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    Resize,
    ShortSideScale,
    ThreeCrop,
)
from dali_vidaug.recipe import Recipe
from dali_vidaug.recipes.registry import Training, published, scaled
from dali_vidaug.sampling import MultiClip, SlowFastSampling

_KINETICS = ("kinetics400",)
_ALPHA = {"8x8": 4, "4x16": 8}  # frames of the fast pathway for one of the slow pathway


class _X3D(NamedTuple):
    """Frames and sides in pixels of an X3D."""

    num_frames: int
    stride: int
    short_side: tuple[int, int]
    crop: int
    test_side: int


_X3D_SIZES = {
    "XS": _X3D(4, 12, (182, 228), 160, 182),
    "S": _X3D(13, 6, (182, 228), 160, 182),
    "M": _X3D(16, 5, (256, 320), 224, 256),
    "L": _X3D(16, 5, (356, 446), 312, 356),
}


def _of_slowfast(
    name: str, stage: str, num_frames: int, stride: int, sides: tuple[int, int], crop: int, test_side: int,
    size: int | None, pathways: tuple[int, ...] = (),
) -> Recipe:  # fmt: skip
    """The recipe of SlowFast's repository for convolutional models: short sides ``sides``, crops in pixels."""

    def pixels(length: int) -> int:
        return scaled(name, size, crop, length)

    sampling: object = SlowFastSampling(num_frames, stride)
    ops: tuple[object, ...]
    if stage == "train":
        ops = (ShortSideScale(pixels(sides[0]), pixels(sides[1])), RandomCrop(pixels(crop)), RandomHorizontalFlip())
    elif stage == "validation":
        sampling = SlowFastSampling(num_frames, stride, training=False, use_offset_sampling=True)
        ops = (Resize(pixels(sides[0])), CenterCrop(pixels(crop)))
    else:
        clips = SlowFastSampling(num_frames, stride, num_clips=10, training=False)
        sampling = MultiClip(clips, num_clips=10 * 3, placement="own", num_crops=3)
        ops = (Resize(pixels(test_side)), ThreeCrop(pixels(test_side)))
    return Recipe(sampling, (*ops, Normalize()), pathways)


def two_pathways(name: str, variant: str, stage: str, size: int | None) -> Recipe:
    """The recipe of ``slowfast``, for it and for another family that is trained on it, named ``name`` in errors."""
    return _of_slowfast(name, stage, 32, 2, (256, 320), 224, 256, size, (_ALPHA[variant], 1))


@published(
    dict.fromkeys(_ALPHA, _KINETICS),
    paper="Feichtenhofer, Fan, Malik, He: SlowFast Networks for Video Recognition (ICCV 2019)",
    code="github.com/facebookresearch/SlowFast, configs/Kinetics/SLOWFAST_* (Apache-2.0)",
    training=lambda variant, dataset: Training(
        optimizer="SGD, learning rate 0.1, momentum 0.9, weight decay 1e-4",
        schedule="cosine over 196 epochs, the first 34 of them warm-up",
        batch_size=64,
    ),
)
def slowfast(
    variant: str = "8x8", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None
) -> Recipe:
    """SlowFast R50, with two pathways: ``batch.clips`` is (slow, fast), with 8 or 4 frames and with 32.

    Where it differs from the official code: validation is the middle clip and the centre crop, there it is as random as
    training; scaling is antialiased; ``RandomCrop`` draws the last row and column, too; a long side of ``Resize`` is
    rounded to the nearest, there down. MMAction2's SlowFast is another recipe: RandomResizedCrop, 256 epochs.

    Args:
        variant: frames x stride of the slow pathway: "8x8" (alpha 4) or "4x16" (alpha 8).
        stage: "train", "validation" (one clip, one crop), or "test" (10 clips x 3 crops of 256 pixels).
        dataset: "kinetics400".
        size: of the training crops, in pixels, with all other lengths in proportion; default: the published 224.

    Raises:
        ValueError: an argument is not one of these.
    """
    return two_pathways("slowfast", variant, stage, size)


def _x3d_training(variant: str, dataset: str) -> Training:
    rate, epochs, batch = (0.05, 256, 64) if variant == "L" else (0.1, 300, 128)
    return Training(
        optimizer=f"SGD, learning rate {rate}, momentum 0.9, weight decay 5e-5, none on batch normalisation",
        schedule=f"cosine over {epochs} epochs, the first 35 of them warm-up",
        batch_size=batch,
    )


@published(
    dict.fromkeys(_X3D_SIZES, _KINETICS),
    paper="Feichtenhofer: X3D: Expanding Architectures for Efficient Video Recognition (CVPR 2020)",
    code="github.com/facebookresearch/SlowFast, configs/Kinetics/X3D_* (Apache-2.0)",
    training=_x3d_training,
)
def x3d(variant: str = "XS", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None) -> Recipe:
    """X3D: 4 frames of 160 pixels (XS) to 16 frames of 312 pixels (L).

    Where it differs from the official code: validation is the middle clip and the centre crop, there it is as random as
    training; scaling is antialiased; ``RandomCrop`` draws the last row and column, too; a long side of ``Resize`` is
    rounded to the nearest, there down.

    Args:
        variant: "XS" (4 frames x stride 12), "S" (13x6), "M" or "L" (16x5).
        stage: "train", "validation" (one clip, one crop), or "test" (10 clips x 3 crops).
        dataset: "kinetics400".
        size: of the training crops, in pixels, with all other lengths in proportion; default: the published 160, 160,
            224, 312.

    Raises:
        ValueError: an argument is not one of these.
    """
    return _of_slowfast("x3d", stage, *_X3D_SIZES[variant], size)
