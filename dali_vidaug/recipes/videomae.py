"""VideoMAE and VideoMAE V2: fine-tuning and pre-training."""

from __future__ import annotations

from typing import Any

from dali_vidaug.masks import RunningCellMask, TubeMask
from dali_vidaug.ops import CenterCrop, MultiScaleCrop, ThreeCrop
from dali_vidaug.recipe import Recipe
from dali_vidaug.recipes.common import IMAGENET, augmented, crops, short_side
from dali_vidaug.recipes.registry import Training, published, scaled
from dali_vidaug.sampling import MMAction2Sampling, SegmentSampling, VideoMAESampling

_PAPER = "Tong, Song, Wang, Wang: VideoMAE: Masked Autoencoders are Data-Efficient Learners ... (NeurIPS 2022)"
_CODE = "github.com/MCG-NJU/VideoMAE, kinetics.py, ssv2.py, datasets.py, scripts/ (CC-BY-NC 4.0)"
_PAPER_2 = "Wang et al.: VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking (CVPR 2023)"
_CODE_2 = "github.com/OpenGVLab/VideoMAEv2, dataset/, scripts/ (MIT)"


def _training(variant: str, dataset: str) -> Training:
    rate, batch, epochs = {
        "base": ("5e-4", 384, 30 if dataset == "ssv2" else 75),
        "base-800": ("1e-3", 512, 100),
        "large": ("2e-3", 128, 35),
    }[variant]
    return Training(
        optimizer=f"AdamW, learning rate {rate} x {batch} / 256, weight decay 0.05, layer decay 0.75, drop path 0.1",
        schedule=f"cosine over {epochs} epochs, the first 5 of them warm-up",
        batch_size=batch,
        repeats=1 if variant == "base-800" else 2,
    )


def _training_2(variant: str, dataset: str) -> Training:
    if variant == "base":
        return Training(
            "AdamW, learning rate 7e-4 x 512 / 256, weight decay 0.05, layer decay 0.75", "90 epochs", 512, 2
        )
    optimizer = "AdamW, weight decay 0.1, layer decay 0.9, drop path 0.2"
    if dataset == "ssv2":
        return Training(optimizer, "", None, 2)
    return Training(
        f"{optimizer}, learning rate 1e-3 x 192 / 256",
        "30 epochs; 3 epochs at 1e-5 on Kinetics-400 after Kinetics-710", 192, 2,
    )  # fmt: skip


def _finetuning(name: str, stage: str, dataset: str, size: int | None) -> Recipe:
    pixels = scaled(name, size, 224, 224)
    segments = dataset == "ssv2"
    clips: Any
    if stage == "train":
        clips = SegmentSampling(16, bounds="tsn") if segments else VideoMAESampling(16, 4)
        return Recipe(clips, augmented(pixels, IMAGENET, flips=not segments))
    if stage == "validation":
        clips = SegmentSampling(16, "middle") if segments else VideoMAESampling(16, 4, training=False)
        return Recipe(clips, (short_side(pixels), CenterCrop(pixels), IMAGENET))
    clips = SegmentSampling(16, (0.0, 0.5)) if segments else VideoMAESampling(16, 4, 5, training=False)
    return Recipe(crops(clips), (short_side(pixels), ThreeCrop(pixels, "down"), IMAGENET))


@published(
    {"base": ("kinetics400", "ssv2"), "base-800": ("kinetics400",), "large": ("kinetics400",)},
    paper=_PAPER, code=_CODE, training=_training,
)  # fmt: skip
def videomae(
    variant: str = "base", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None
) -> Recipe:
    """VideoMAE, fine-tuned: 16 frames of stride 4 on Kinetics, of 16 segments on Something-Something.

    Where it differs from the official code: as docs/recipes.md says of fine-tuned transformers; validation takes the
    middle of the video (theirs is random in time, that of VideoMAE V2 is not). Its training clips are stretched, frames
    are 4.27 apart, and those of the test 4, as there.

    Args:
        variant: "base" (pre-trained for 1600 epochs, on Something-Something 2400), "base-800", or "large".
        stage: "train"; "validation" (one clip, one crop); or "test" (5 clips x 3 crops, on Something-Something 2 x 3).
        dataset: "kinetics400"; or "ssv2", which is not mirrored.
        size: of the crops, in pixels; default: the published 224.

    Raises:
        ValueError: an argument is not one of these.
    """
    return _finetuning("videomae", stage, dataset, size)


@published(
    {"base": ("kinetics400", "ssv2")},
    paper=_PAPER, code=_CODE, stages=("train",),
    training=lambda variant, dataset: Training(
        "AdamW, learning rate 1.5e-4 x 2048 / 256, betas 0.9 and 0.95",
        "2400 epochs, 40 of them warm-up" if dataset == "ssv2" else "800 or 1600 epochs, 40 of them warm-up",
        2048,
        loss="mean square error of the masked patches' normalised pixels",
    ),
)  # fmt: skip
def videomae_pretrain(
    variant: str = "base", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None
) -> Recipe:
    """VideoMAE, pre-trained: 16 frames of stride 4 (Something-Something 2), a crop, a tube mask of 90 %.

    ``batch.masks[0]`` is True where the encoder does not see the clip: 176 of 196 patches of 16 x 16 pixels, the same
    in all 8 tubelets.

    Where it differs from the official code: crops are scaled in the decoder or by DALI, not by Pillow; both average.

    Args:
        variant: "base"; the data are the same for all sizes of the model.
        stage: "train".
        dataset: "kinetics400" (stride 4) or "ssv2" (stride 2).
        size: of the crops, in pixels, a multiple of 16, >= 32; default: the published 224.

    Raises:
        ValueError: an argument is not one of these.
    """
    return _pretraining(scaled("videomae_pretrain", size, 224, 224, 16, 32), dataset, (TubeMask(0.9),))


def _pretraining(pixels: int, dataset: str, masks: tuple[Any, ...]) -> Recipe:
    sampling = MMAction2Sampling(16, 2 if dataset == "ssv2" else 4, out_of_bound="repeat_last")
    return Recipe(sampling, (MultiScaleCrop(pixels), IMAGENET), masks=masks)


@published(
    {"base": ("kinetics400",), "giant": ("kinetics400", "kinetics710", "ssv2")},
    paper=_PAPER_2, code=_CODE_2, training=_training_2,
)  # fmt: skip
def videomae_v2(
    variant: str = "base", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None
) -> Recipe:
    """VideoMAE V2, fine-tuned: as VideoMAE, each sample twice.

    Where it differs from the official code: as docs/recipes.md says of fine-tuned transformers.

    Args:
        variant: "base" (distilled) or "giant" (g/14).
        stage: "train"; "validation" (one clip, one crop); or "test" (5 clips x 3 crops, on Something-Something 2 x 3).
        dataset: "kinetics400", "kinetics710"; or "ssv2", which is not mirrored.
        size: of the crops, in pixels; default: the published 224.

    Raises:
        ValueError: an argument is not one of these.
    """
    return _finetuning("videomae_v2", stage, dataset, size)


@published(
    {"giant": ("hybrid", "ssv2")},
    paper=_PAPER_2, code=_CODE_2, stages=("train",),
    training=lambda variant, dataset: Training(
        "AdamW, learning rate 6e-4 x 2048 / 256, gradients clipped to 0.02",
        "300 epochs, 30 of them warm-up, of four clips a sample (called 1200 epochs)",
        2048, 4,
        loss="mean square error of the normalised pixels of patches that the encoder does not see and the decoder does",
    ),
)  # fmt: skip
def videomae_v2_pretrain(
    variant: str = "giant", *, stage: str = "train", dataset: str = "hybrid", size: int | None = None
) -> Recipe:
    """VideoMAE V2 g/14, pre-trained: as VideoMAE, each sample four times, a mask for the decoder.

    ``batch.masks`` are what the encoder does not see, 230 of 256 patches of 14 x 14 pixels, and what the decoder does
    not predict, half of all (running cells). The loss is that of patches in the first mask and not in the second.

    Where it differs from the official code: crops are scaled in the decoder or by DALI, not by Pillow; both average.

    Args:
        variant: "giant".
        stage: "train".
        dataset: "hybrid", the mixture of data sets (stride 4); or "ssv2", the part of it that has stride 2, being
            frames at 12 per second there.
        size: of the crops, in pixels, a multiple of 28; default: the published 224.

    Raises:
        ValueError: an argument is not one of these.
    """
    masks = TubeMask(0.9, patch=14), RunningCellMask(0.5, patch=14)
    return _pretraining(scaled("videomae_v2_pretrain", size, 224, 224, 28, 28), dataset, masks)
