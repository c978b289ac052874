"""ViViT."""

from __future__ import annotations

from typing import Any

from dali_vidaug.ops import (
    CenterCrop,
    ColorJitter,
    Cutout,
    LabelSmoothing,
    MixUp,
    Normalize,
    RandAugment,
    RandomCrop,
    RandomGrayscale,
    RandomHorizontalFlip,
    ScaleJitter,
    ThreeCrop,
)
from dali_vidaug.recipe import Recipe
from dali_vidaug.recipes.common import crops, short_side
from dali_vidaug.recipes.registry import Training, published, scaled
from dali_vidaug.sampling import DMVRSampling

_CENTERED = Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))  # value / 127.5 - 1
# One of twelve each time, Cutout among them, for which there is a second Identity.
_POOL = (
    "Identity", "Identity", "AutoContrast", "Equalize", "Invert", "Posterize", "Solarize", "SolarizeAdd", "Brightness",
    "Contrast", "Color", "Sharpness",
)  # fmt: skip
_STRONG = {"ssv2": (20.0, 0.3, 0.3, 80), "epic_kitchens": (15.0, 0.1, 0.2, 60)}  # magnitude, MixUp, smoothing, Cutout


def _training(variant: str, dataset: str) -> Training:
    rate, epochs, loss = {
        "kinetics400": (0.1 if variant == "base" else 0.05, 30, ""),
        "ssv2": (0.4, 35, "layers are dropped with probability 0.3"),
        "epic_kitchens": (0.5, 50, "layers are dropped with probability 0.2; a head for verbs and one for nouns"),
    }[dataset]
    return Training(
        f"SGD, learning rate {rate}, momentum, no weight decay, gradients clipped to 1",
        f"cosine over {epochs} epochs, the first 2.5 of them warm-up", 64, loss=loss, average="logits",
    )  # fmt: skip


@published(
    {"base": ("kinetics400",), "base-fe": ("kinetics400",), "large-fe": ("ssv2", "epic_kitchens")},
    paper="Arnab et al.: ViViT: A Video Vision Transformer (ICCV 2021)",
    code="github.com/google-research/scenic, scenic/projects/vivit, and google-deepmind/dmvr (Apache-2.0)",
    training=_training,
)
def vivit(
    variant: str = "base", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None
) -> Recipe:
    """ViViT: 32 frames of stride 2, or 1 where actions are short; values in [-1, 1].

    Where it differs from the official code: clips are (B, 3, F, H, W) here, (B, F, H, W, 3) there:
    ``batch.clips.movedim(1, -1)``. Brightness is a factor of 1 ± 0.28, there an offset of ± 32 of 255, which is as much
    at the mean grey; the four colour changes come in a random order, clamped after each; contrast turns about the grey
    of a frame, there about each channel's. Scaling is antialiased. Scenic's RandAugment may draw Cutout among its
    twelve ops: here Cutout is drawn by itself, as often, and lies inside the frame. One weight of MixUp for a batch, as
    there. Something-Something is mirrored as it is there, where labels tell left from right: that is no good idea.
    For EPIC-KITCHENS targets are those of one list of classes: make a manifest for verbs or nouns, or label by pairs.

    Args:
        variant: "base", "base-fe" (factorised encoder) or "large-fe".
        stage: "train"; "validation" (one clip, one crop); or "test" (4 clips x 3 crops; logits are averaged).
        dataset: "kinetics400" of the base models; "ssv2" (256 pixels) or "epic_kitchens" of "large-fe".
        size: of the crops, in pixels, with the scalings in proportion; default: the published one.

    Raises:
        ValueError: an argument is not one of these.
    """
    side, short = (256, 288) if dataset == "ssv2" else (224, 256)
    crop, wide = scaled("vivit", size, side, side), scaled("vivit", size, side, short)
    stride = 2 if dataset == "kinetics400" else 1
    if stage == "test":
        clips = crops(DMVRSampling(32, stride, 4, training=False))
        return Recipe(clips, (short_side(wide), ThreeCrop(crop), _CENTERED))
    if stage == "validation":
        return Recipe(DMVRSampling(32, stride, training=False), (short_side(wide), CenterCrop(crop), _CENTERED))
    colors: tuple[Any, ...] = (ColorJitter(0.28, 0.4, 0.4, 0.2, 0.8, "frame"), RandomGrayscale(0.1))
    if dataset in _STRONG:
        magnitude, alpha, smoothing, half = _STRONG[dataset]
        colors = (
            RandAugment(2, magnitude, ops=_POOL, suite="scenic"),
            Cutout(2 * half / side, probability=1 / 6, color=(128 / 255,) * 3),
            MixUp(alpha, granularity="batch"),
            LabelSmoothing(smoothing),
        )
    geometry = (short_side(wide), ScaleJitter((0.9, 1.33)), RandomCrop(crop), RandomHorizontalFlip())
    return Recipe(DMVRSampling(32, stride), (*geometry, *colors, _CENTERED))
