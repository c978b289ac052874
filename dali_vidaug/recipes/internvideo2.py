"""InternVideo2: fine-tuning and pre-training of its video encoder."""

from __future__ import annotations

from typing import Any

from dali_vidaug.ops import CenterCrop, MultiScaleCrop, RandomHorizontalFlip, ThreeCrop
from dali_vidaug.recipe import Recipe
from dali_vidaug.recipes.common import IMAGENET, augmented, crops, short_side
from dali_vidaug.recipes.registry import Training, published, scaled
from dali_vidaug.sampling import SegmentSampling

_PAPER = "Wang et al.: InternVideo2: Scaling Foundation Models for Multimodal Video Understanding (ECCV 2024)"
_CODE = "github.com/OpenGVLab/InternVideo, InternVideo2/single_modality (Apache-2.0)"
_DATASETS = ("kinetics400", "kinetics710", "ssv2")


def _training(variant: str, dataset: str) -> Training:
    optimizer = "AdamW, weight decay 0.05, layer decay 0.9, drop path 0.3"
    rate, epochs = {"kinetics710": ("5e-5", "9 epochs"), "kinetics400": ("1e-5", "3 epochs")}.get(dataset, ("", ""))
    if not rate:
        return Training(optimizer, "", None, 2)
    return Training(f"{optimizer}, learning rate {rate} x (samples of a step) x 2 / 256", epochs, None, 2)


@published({"1B-8": _DATASETS, "1B-16": _DATASETS}, paper=_PAPER, code=_CODE, training=_training)
def internvideo2(
    variant: str = "1B-8", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None
) -> Recipe:
    """InternVideo2, fine-tuned: 8 or 16 frames from all of the video, each sample twice.

    Where it differs from the official code: as docs/recipes.md says of fine-tuned transformers; with fewer frames than
    segments, videos of Something-Something give their first frame only.

    Args:
        variant: "1B-8" or "1B-16": frames of a clip.
        stage: "train"; "validation" (one clip, one crop); or "test" (4 clips x 3 crops, on Something-Something 2 x 3).
        dataset: "kinetics400" (after "kinetics710"), "kinetics710"; or "ssv2", which is not mirrored.
        size: of the crops, in pixels; default: the published 224.

    Raises:
        ValueError: an argument is not one of these.
    """
    pixels, frames, is_ssv2 = scaled("internvideo2", size, 224, 224), int(variant[3:]), dataset == "ssv2"
    if stage == "train":
        clips: Any = SegmentSampling(frames, bounds="tsn" if is_ssv2 else "slowfast")
        return Recipe(clips, augmented(pixels, IMAGENET, flips=not is_ssv2))
    if stage == "validation":
        clips = SegmentSampling(frames, "middle", "equal" if is_ssv2 else "slowfast")
        return Recipe(clips, (short_side(pixels), CenterCrop(pixels), IMAGENET))
    parts = SegmentSampling(frames, (0.2, 0.4, 0.6, 0.8), "slowfast")
    clips = SegmentSampling(frames, (0.0, 0.5)) if is_ssv2 else parts
    return Recipe(crops(clips), (short_side(pixels), ThreeCrop(pixels, "down"), IMAGENET))


@published(
    {"1B": ("kinetics710", "ssv2")},
    paper=_PAPER, code=_CODE, stages=("train",),
    training=lambda variant, dataset: Training(
        "AdamW, learning rate 1.5e-4, betas 0.9 and 0.98, weight decay 0.05", "300 epochs, 40 of them warm-up"
    ),
)  # fmt: skip
def internvideo2_pretrain(
    variant: str = "1B", *, stage: str = "train", dataset: str = "kinetics710", size: int | None = None
) -> Recipe:
    """InternVideo2, pre-trained: 16 frames, one of each segment of the video.

    Where it differs from the official code: crops are scaled in the decoder or by DALI, not by Pillow; both average.
    No masks: which 80 % of the patches are hidden follows from the attention of a teacher network, which no loader can
    draw.

    Args:
        variant: "1B".
        stage: "train".
        dataset: "kinetics710", for all that can be mirrored; or "ssv2", which is not.
        size: of the crops, in pixels; default: the published 224.

    Raises:
        ValueError: an argument is not one of these.
    """
    flips = () if dataset == "ssv2" else (RandomHorizontalFlip(),)
    crop = MultiScaleCrop(scaled("internvideo2_pretrain", size, 224, 224))
    return Recipe(SegmentSampling(16, bounds="tsn"), (crop, *flips, IMAGENET))
