"""TimeSformer."""

from __future__ import annotations

from typing import Any

from dali_vidaug.ops import CenterCrop, RandomCrop, RandomHorizontalFlip, ShortSideScale, ThreeCrop
from dali_vidaug.recipe import Recipe
from dali_vidaug.recipes.common import KINETICS, crops, short_side
from dali_vidaug.recipes.registry import Training, published, scaled
from dali_vidaug.sampling import SegmentSampling, SlowFastSampling

_CLIPS = {"base": (8, 32, 224), "high-resolution": (16, 16, 448), "long": (96, 4, 224)}  # frames, stride, pixels


@published(
    {"base": ("kinetics400", "ssv2"), "high-resolution": ("kinetics400",), "long": ("kinetics400",)},
    paper="Bertasius, Wang, Torresani: Is Space-Time Attention All You Need for Video Understanding? (ICML 2021)",
    code="github.com/facebookresearch/TimeSformer, configs/ (CC-BY-NC 4.0)",
    training=lambda variant, dataset: Training(
        "SGD, learning rate 0.005, weight decay 1e-4", "15 epochs, divided by 10 at 11 and 14", 8
    ),
)
def timesformer(
    variant: str = "base", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None
) -> Recipe:
    """TimeSformer: 8 frames of stride 32, 16 of 16 in 448 pixels, or 96 of 4.

    Where it differs from the official code: validation takes the middle clip and the centre crop; scaling is
    antialiased; ``RandomCrop`` can draw the last row and column. As there, the one clip of the test is the first of the
    video, not its middle (MMAction2 takes the middle, and other norms).

    On Something-Something short sides are drawn so that smaller ones are more frequent. Its frames are read as BGR
    there, and the swap that its configuration asks for is left out for this model: for published weights,
    ``batch.clips.flip(1)``.

    Args:
        variant: "base", "high-resolution" or "long".
        stage: "train"; "validation" (one clip, one crop); or "test" (1 clip x 3 crops).
        dataset: "kinetics400"; or "ssv2", 8 segments, which is not mirrored.
        size: of the crops, in pixels, with the scalings in proportion; default: the published 224 or 448.

    Raises:
        ValueError: an argument is not one of these.
    """
    frames, stride, side = _CLIPS[variant]
    segments = dataset == "ssv2"

    def pixels(length: int) -> int:
        return scaled("timesformer", size, side, length)

    low, high, crop = (
        (pixels(448), pixels(512), pixels(448)) if side == 448 else (pixels(256), pixels(320), pixels(224))
    )
    if stage == "train":
        clips: Any = SegmentSampling(frames, bounds="slowfast") if segments else SlowFastSampling(frames, stride)
        flips = () if segments else (RandomHorizontalFlip(),)
        scale = ShortSideScale(low, high, "inverse" if segments else "uniform")
        return Recipe(clips, (scale, RandomCrop(crop), *flips, KINETICS))
    if stage == "validation":
        clips = SlowFastSampling(frames, stride, training=False, use_offset_sampling=True)
    else:
        clips = SlowFastSampling(frames, stride, training=False)
    clips = SegmentSampling(frames, "middle", "slowfast") if segments else clips
    if stage == "validation":
        return Recipe(clips, (short_side(low), CenterCrop(crop), KINETICS))
    return Recipe(crops(clips), (short_side(crop), ThreeCrop(crop), KINETICS))
