"""MViT and UniFormer."""

from __future__ import annotations

from typing import Any

from dali_vidaug.ops import CenterCrop, RandomCrop, ShortSideScale, ThreeCrop
from dali_vidaug.recipe import Recipe
from dali_vidaug.recipes.common import IMAGENET, KINETICS, augmented, crops, short_side
from dali_vidaug.recipes.registry import Training, published, scaled
from dali_vidaug.sampling import SegmentSampling, SlowFastSampling

_CLIPS = {"v1-B": (16, 4), "v2-S": (16, 4), "v2-B": (32, 3), "v2-L": (40, 3)}  # frames, stride


def _training(variant: str, dataset: str) -> Training:
    if dataset == "ssv2":
        optimizer = "SGD, learning rate 0.0025, weight decay 1e-4, drop path 0.4"
        return Training(optimizer, "100 epochs, 3 of them warm-up", 16)
    path = {"v1-B": 0.2, "v2-S": 0.2, "v2-B": 0.3, "v2-L": 0.75}[variant]
    return Training(
        optimizer="AdamW, learning rate 1e-4 for 8 GPUs, weight decay 0.05, of biases 0, gradients clipped to 1, "
        f"drop path {path}",
        schedule="cosine over 200 epochs, the first 30 of them warm-up",
        batch_size=16,
        repeats=2,
    )


@published(
    {"v2-S": ("kinetics400", "ssv2"), "v1-B": ("kinetics400",), "v2-B": ("kinetics400",), "v2-L": ("kinetics400",)},
    paper="Li et al.: MViTv2 (CVPR 2022); Fan et al.: Multiscale Vision Transformers (ICCV 2021)",
    code="github.com/facebookresearch/SlowFast, configs/Kinetics/MVIT*, configs/SSv2/MVIT* (Apache-2.0)",
    training=_training,
)
def mvit(
    variant: str = "v2-S", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None
) -> Recipe:
    """MViT: v1-B and v2-S see 16 frames of stride 4, v2-B 32 of 3, v2-L 40 of 3 in 312 pixels.

    On Something-Something, frames after RandAugment are scaled to a random short side and cropped, as for SlowFast,
    instead of the resized crop that Kinetics has: short sides are 256 to 320 pixels, smaller ones more frequent.

    Where it differs from the official code: as docs/recipes.md says of fine-tuned transformers; validation takes the
    middle clip and the centre crop, there it is as random as training; the middle of an odd margin is one pixel before
    theirs. Something-Something is read as BGR there and swapped after its ops; here all is RGB, and the scaling to a
    short side is antialiased; ``RandomCrop`` draws the last row and column, too. The configuration of
    v2-L is one for testing alone: that it mixes nothing may not be how it was trained. v1's says 10 clips for the
    test, the list of models 5, which are taken here.

    Args:
        variant: "v2-S", "v2-B", "v2-L" or "v1-B".
        stage: "train"; "validation" (one clip, one crop); or "test": 5 clips, v2-L with 3 crops; on Something-Something
            1 clip x 3 crops.
        dataset: "kinetics400"; or "ssv2", 16 segments, which is not mirrored.
        size: of the crops, in pixels, with the scalings in proportion; default: the published 224, of v2-L 312.

    Raises:
        ValueError: an argument is not one of these.
    """
    side, segments, large = (312 if variant == "v2-L" else 224), dataset == "ssv2", variant == "v2-L"
    pixels, wide = scaled("mvit", size, side, side), scaled("mvit", size, side, 256)
    frames, stride = _CLIPS[variant]
    norm = IMAGENET if large else KINETICS
    if stage == "train":
        clips: Any = SegmentSampling(16, bounds="slowfast") if segments else SlowFastSampling(frames, stride)
        crop: Any = None
        if segments:
            crop = ShortSideScale(wide, scaled("mvit", size, side, 320), "inverse"), RandomCrop(pixels)
        return Recipe(clips, augmented(pixels, norm, flips=not segments, mixes=not large, crop=crop))
    middle = SegmentSampling(16, "middle", "slowfast")
    if stage == "test":
        if segments:
            return Recipe(crops(middle), (short_side(pixels), ThreeCrop(pixels), norm))
        clips = _even(frames, stride, 5)
        if large:
            return Recipe(crops(clips), (short_side(pixels), ThreeCrop(pixels), norm))
    else:
        clips = middle if segments else _even(frames, stride, 1)
    return Recipe(clips, (short_side(pixels if large else wide), CenterCrop(pixels), norm))


def _even(frames: int, stride: int, count: int) -> SlowFastSampling:
    return SlowFastSampling(frames, stride, num_clips=count, training=False, use_offset_sampling=True)


@published(
    {"base": ("kinetics400",)},
    paper="Li et al.: UniFormer: Unified Transformer for Efficient Spatiotemporal Representation Learning (ICLR 2022)",
    code="github.com/Sense-X/UniFormer, video_classification/exp/uniformer_b16x4_k400 (Apache-2.0)",
    training=lambda variant, dataset: Training(
        "AdamW, learning rate 1.25e-4, drop path 0.3", "cosine over 110 epochs, the first 10 of them warm-up", 40, 2
    ),
)
def uniformer(
    variant: str = "base", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None
) -> Recipe:
    """UniFormer-B: 16 frames of stride 4, trained as MViT.

    Where it differs from the official code: as docs/recipes.md says of fine-tuned transformers; validation takes the
    middle clip and the centre crop, there it is as random as training. Its run.sh overrides its configuration: what is
    said beside the recipe is that of run.sh. That tests with one clip, the list of models with 4, which are taken here.

    Args:
        variant: "base".
        stage: "train"; "validation" (one clip, one crop); or "test" (4 clips, one crop).
        dataset: "kinetics400".
        size: of the crops, in pixels, with the scalings in proportion; default: the published 224.

    Raises:
        ValueError: an argument is not one of these.
    """
    pixels, wide = scaled("uniformer", size, 224, 224), scaled("uniformer", size, 224, 256)
    if stage == "train":
        return Recipe(SlowFastSampling(16, 4), augmented(pixels, KINETICS))
    clips = _even(16, 4, 4 if stage == "test" else 1)
    return Recipe(clips, (short_side(wide), CenterCrop(pixels), KINETICS))
