"""SimCLR on videos: contrastive learning without labels."""

from __future__ import annotations

from dali_vidaug.ops import (
    ColorJitter,
    GaussianBlur,
    Normalize,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
)
from dali_vidaug.recipe import Recipe
from dali_vidaug.recipes.registry import Training, published, scaled
from dali_vidaug.sampling import MultiClip, SlowFastSampling


@published(
    {"8x8": ("kinetics400",)},
    paper="Feichtenhofer, Fan, Xiong, Girshick, He: A Large-Scale Study on Unsupervised Spatiotemporal Representation "
    "Learning (CVPR 2021)",
    code="github.com/facebookresearch/SlowFast, configs/contrastive_ssl/SimCLR_SlowR50_8x8.yaml (Apache-2.0)",
    training=lambda variant, dataset: Training(
        optimizer="SGD with LARS, learning rate 1.2 for 8 GPUs, momentum 0.9, weight decay 1e-6, none on batch norm.",
        schedule="cosine over 200 epochs, the first 35 of them warm-up",
        loss="contrastive (InfoNCE), temperature 0.1; a projection of 3 layers to 128",
    ),
    stages=("train",),
)
def simclr(
    variant: str = "8x8", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None
) -> Recipe:
    """SimCLR for videos: 4 clips of each video, strongly augmented, are to be told from those of other videos.

    ``batch.clips.unflatten(0, (-1, 4))`` is (videos, 4, 3, F, H, W). Labels are not needed.

    Where it differs from the official code: the crop comes first, as in SimCLR for images, and colour and blur are of
    the crop; there they are of the whole frame, and cost several times as much. Scaling is antialiased.

    Args:
        variant: frames x stride: "8x8".
        stage: "train"; what was learnt is tested by fine-tuning, with another recipe.
        dataset: "kinetics400".
        size: of the crops, in pixels; default: the published 224.

    Raises:
        ValueError: an argument is not one of these.
    """
    ops = (
        RandomResizedCrop(scaled("simclr", size, 224, 224), scale=(0.2, 0.766), ratio=(0.75, 1.3333)),
        RandomHorizontalFlip(),
        ColorJitter(0.6, 0.6, 0.6, 0.15, probability=0.8),
        RandomGrayscale(0.2),
        GaussianBlur(sigma=(0.1, 2.0), probability=0.5),
        Normalize(),
    )
    return Recipe(MultiClip(SlowFastSampling(8, 8), num_clips=4, placement="random"), ops)
