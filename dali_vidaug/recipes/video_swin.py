"""Video Swin Transformer."""

from __future__ import annotations

from typing import Any

from dali_vidaug.ops import (
    CenterCrop,
    LabelSmoothing,
    RandAugment,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ThreeCrop,
)
from dali_vidaug.recipe import Recipe
from dali_vidaug.recipes.common import IMAGENET, crops
from dali_vidaug.recipes.registry import Training, published, scaled
from dali_vidaug.sampling import MMAction2Sampling, SegmentSampling

_IMGAUG = (
    "Identity", "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "Color", "Contrast",
    "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY",
)  # fmt: skip


def _training(variant: str, dataset: str) -> Training:
    if dataset == "ssv2":
        return Training("AdamW, learning rate 3e-4, weight decay 0.05, drop path 0.4", "60 epochs", None)
    rest = {
        "tiny": "learning rate 1e-3, weight decay 0.02, drop path 0.1",
        "small": "weight decay 0.02",
        "base": "learning rate 3e-4, weight decay 0.05, drop path 0.2",
    }[variant]
    return Training(
        f"AdamW, a tenth of the learning rate for the backbone; {rest}",
        "cosine over 30 epochs, the first 2.5 of them warm-up; the authors add up 4 (tiny) or 8 (base) steps",
        64,
    )


@published(
    {"tiny": ("kinetics400",), "small": ("kinetics400",), "base": ("kinetics400", "ssv2")},
    paper="Liu et al.: Video Swin Transformer (CVPR 2022)",
    code="github.com/SwinTransformer/Video-Swin-Transformer, configs/recognition/swin; so MMAction2 (Apache-2.0)",
    training=_training,
)
def video_swin(
    variant: str = "tiny", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None
) -> Recipe:
    """Video Swin: 32 frames of stride 2 on Kinetics, of 32 segments on Something-Something.

    Where it differs from the official code: scaling is antialiased, OpenCV's there is not; the fallback of the resized
    crop is torchvision's. On Something-Something they take imgaug's RandAugment, which also mirrors half of the clips,
    although the labels tell left from right, and crops a little: not here. Its ops are drawn with replacement here;
    Cutout and its two blurs are missing; Posterize and translations have torchvision's ranges. The three crops come in
    the order left, middle, right.

    Args:
        variant: "tiny", "small" or "base".
        stage: "train"; "validation" (one clip, one crop); or "test" (4 clips x 3 crops, on Something-Something 1 x 3).
        dataset: "kinetics400"; or "ssv2", which only "base" has.
        size: of the crops, in pixels, with the scalings in proportion; default: the published 224.

    Raises:
        ValueError: an argument is not one of these.
    """
    pixels, wide = scaled("video_swin", size, 224, 224), scaled("video_swin", size, 224, 256)
    segments = dataset == "ssv2"
    if stage == "train":
        clips: Any = SegmentSampling(32, bounds="slowfast") if segments else MMAction2Sampling(32, 2)
        more: tuple[Any, ...] = (RandomHorizontalFlip(),)
        if segments:
            more = (
                RandAugment(4, 7.0, ops=_IMGAUG, suite="torchvision", fill=(128, 128, 128)),
                RandomErasing(0.25, mean=IMAGENET.mean, std=IMAGENET.std),
                LabelSmoothing(0.1),
            )
        return Recipe(clips, (Resize(wide), RandomResizedCrop(pixels), *more, IMAGENET))
    if stage == "validation":
        one = SegmentSampling(32, "middle", "slowfast") if segments else MMAction2Sampling(32, 2, training=False)
        return Recipe(one, (Resize(wide), CenterCrop(pixels), IMAGENET))
    clips = SegmentSampling(32, "middle", "slowfast") if segments else MMAction2Sampling(32, 2, 4, training=False)
    return Recipe(crops(clips), (Resize(pixels), ThreeCrop(pixels, "down"), IMAGENET))
