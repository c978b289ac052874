"""SlowFast."""

from __future__ import annotations

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

_ALPHA = {"8x8": 4, "4x16": 8}  # frames of the fast pathway for one of the slow pathway
_TRAINING = Training(
    optimizer="SGD, learning rate 0.1, momentum 0.9, weight decay 1e-4",
    schedule="cosine over 196 epochs, the first 34 of them warm-up",
    batch_size=64,
)


@published(
    dict.fromkeys(_ALPHA, ("kinetics400",)),
    paper="Feichtenhofer, Fan, Malik, He: SlowFast Networks for Video Recognition (ICCV 2019)",
    code="github.com/facebookresearch/SlowFast, configs/Kinetics/SLOWFAST_* (Apache-2.0)",
    training=lambda variant, dataset: _TRAINING,
)
def slowfast(
    variant: str = "8x8", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None
) -> Recipe:
    """SlowFast R50: two pathways, of 32 frames and of 8 or 4 of them; ``batch.clips`` is (slow, fast).

    Where it differs from the official code: validation takes the middle clip and the centre crop, there it is as random
    as training; scaling is antialiased; ``RandomCrop`` can draw the last row and column; a long side of ``Resize`` is
    rounded to the nearest, there down.

    Args:
        variant: frames x stride of the slow pathway: "8x8" (alpha 4) or "4x16" (alpha 8).
        stage: "train", "validation" (one clip, one crop), or "test" (10 clips x 3 crops of 256 pixels).
        dataset: "kinetics400".
        size: of the training crops, in pixels, with all other lengths in proportion; default: the published 224.

    Raises:
        ValueError: an argument is not one of these.
    """

    def pixels(length: int) -> int:
        return scaled("slowfast", size, 224, length)

    ops: tuple[object, ...]
    sampling: object = SlowFastSampling(num_frames=32, stride=2)
    if stage == "train":
        ops = (ShortSideScale(pixels(256), pixels(320)), RandomCrop(pixels(224)), RandomHorizontalFlip())
    elif stage == "validation":
        sampling = SlowFastSampling(num_frames=32, stride=2, training=False, use_offset_sampling=True)
        ops = (Resize(pixels(256)), CenterCrop(pixels(224)))
    else:
        clips = SlowFastSampling(num_frames=32, stride=2, num_clips=10, training=False)
        sampling = MultiClip(clips, num_clips=10 * 3, placement="own", num_crops=3)
        ops = (Resize(pixels(256)), ThreeCrop(pixels(256)))
    return Recipe(sampling, (*ops, Normalize()), pathways=(_ALPHA[variant], 1))
