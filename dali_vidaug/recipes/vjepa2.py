"""V-JEPA 2: pre-training, and probes on its frozen encoder."""

from __future__ import annotations

from typing import Any

from dali_vidaug.masks import MultiBlockMask
from dali_vidaug.ops import CenterCrop, RandomHorizontalFlip, RandomResizedCrop, ThreeCrop
from dali_vidaug.recipe import Recipe
from dali_vidaug.recipes.common import IMAGENET, augmented, crops, short_side
from dali_vidaug.recipes.registry import Training, published, scaled
from dali_vidaug.sampling import VideoMAESampling, VJEPA2Sampling

_PAPER = (
    "Assran et al.: V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning (arXiv 2025)"
)
_CODE = "github.com/facebookresearch/vjepa2, configs/, evals/video_classification_frozen (MIT, parts Apache-2.0)"
_PROBES = {"kinetics400": (16, 4, 8), "ssv2": (16, 4, 2), "diving48": (32, 2, 4), "jester": (32, 2, 4)}


@published(
    {"large": tuple(_PROBES), "giant-384": tuple(_PROBES)},
    paper=_PAPER, code=_CODE,
    training=lambda variant, dataset: Training(
        "AdamW, the best of learning rates from 1e-4 to 5e-3 and weight decays from 0.01 to 0.8",
        "20 epochs" if dataset in ("kinetics400", "ssv2") else "100 epochs",
        loss="cross-entropy of an attentive probe; the encoder is frozen",
    ),
)  # fmt: skip
def vjepa2(
    variant: str = "large", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None
) -> Recipe:
    """V-JEPA 2, probed: clips from several parts of the video, which the probe sees together in training, too.

    Where it differs from the official code: as docs/recipes.md says of fine-tuned transformers; validation takes one
    clip, from the middle; the last crop of an odd margin is at its end, theirs a pixel before. As there, nothing is
    mirrored on any data set, and nothing mixed; the clip of a part of the video is a random one in testing, too.

    Args:
        variant: "large" (256 pixels), or "giant-384" (384).
        stage: "train": 8 clips of a video on Kinetics, 2 on Something-Something, else 4; "validation" (one clip, one
            crop); or "test" (as many clips as in training x 3 crops).
        dataset: "kinetics400" (16 frames of stride 4), "ssv2" (16 x 4; "giant-384" 64 x 2), "diving48" or "jester"
            (32 x 2).
        size: of the crops, in pixels, with the scalings in proportion; default: the published 256 or 384.

    Raises:
        ValueError: an argument is not one of these.
    """
    side = 384 if variant == "giant-384" else 256
    pixels, wide = scaled("vjepa2", size, side, side), scaled("vjepa2", size, side, side * 256 // 224)
    frames, stride, count = (64, 2, 2) if (variant, dataset) == ("giant-384", "ssv2") else _PROBES[dataset]
    clips = VJEPA2Sampling(frames, None, count, training=False, stride=stride)
    if stage == "train":
        return Recipe(clips, augmented(pixels, IMAGENET, flips=False, mixes=False))
    if stage == "validation":
        middle = VideoMAESampling(frames, stride, training=False)
        return Recipe(middle, (short_side(wide), CenterCrop(pixels), IMAGENET))
    return Recipe(crops(clips), (short_side(pixels), ThreeCrop(pixels, "down"), IMAGENET))


@published(
    {"main": ("mixture",), "cooldown": ("mixture",)},
    paper=_PAPER, code=_CODE, stages=("train",),
    training=lambda variant, dataset: Training(
        "AdamW, learning rate 5.25e-4, weight decay 0.04; the target encoder is an average with decay 0.99925",
        "", 24 * 128,
        loss="distance to the features of the target encoder, of the masked tokens",
    ),
)  # fmt: skip
def vjepa2_pretrain(
    variant: str = "main", *, stage: str = "train", dataset: str = "mixture", size: int | None = None
) -> Recipe:
    """V-JEPA 2, pre-trained: 16 frames at 4 per second, in the cool-down 64; two masks of blocks.

    ``batch.masks`` are two tasks for the predictor: 8 small blocks (15 % of a frame each) and 2 large ones (70 %),
    through all frames; ``batch.tokens(k)`` lists the tokens of context and target.

    Where it differs from the official code: the crop is antialiased. Their mixture takes 33.5 % of the clips from
    Kinetics-710, 10 % from Something-Something and 56.5 % from HowTo100M: it is for the manifest to have videos in such
    shares. As there, clips of Something-Something are mirrored, too: there are no labels.

    Args:
        variant: "main", or "cooldown" with 64 frames, for the end of training; there in up to 384 pixels: ``size=384``.
        stage: "train".
        dataset: "mixture", of several data sets.
        size: of the crops, in pixels, a multiple of 16, >= 48; default: the published 256.

    Raises:
        ValueError: an argument is not one of these.
    """
    clips: Any = VJEPA2Sampling(64 if variant == "cooldown" else 16, 4)
    crop = RandomResizedCrop(scaled("vjepa2_pretrain", size, 256, 256, 16, 48), (0.3, 1.0), (0.75, 1.35))
    masks = MultiBlockMask(8, 0.15), MultiBlockMask(2, 0.7)
    return Recipe(clips, (crop, RandomHorizontalFlip(), IMAGENET), masks=masks)
