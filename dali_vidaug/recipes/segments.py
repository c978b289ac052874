"""TSN and TSM: a frame of each segment of the video, multi-scale crops."""

from __future__ import annotations

from dali_vidaug.ops import (
    CenterCrop,
    MultiScaleCrop,
    Normalize,
    RandomHorizontalFlip,
    Resize,
    TenCrop,
    ThreeCrop,
)
from dali_vidaug.recipe import Recipe
from dali_vidaug.recipes.common import crops
from dali_vidaug.recipes.registry import DIRECTED, IMAGENET, Training, published, scaled
from dali_vidaug.sampling import DMVRSampling, MMAction2Sampling, MultiClip, SegmentSampling

_TSM = {"8": ("kinetics400", "ssv2", "jester"), "8-dense": ("kinetics400",)}


@published(
    _TSM,
    paper="Lin, Gan, Han: TSM: Temporal Shift Module for Efficient Video Understanding (ICCV 2019)",
    code="github.com/mit-han-lab/temporal-shift-module, main.py, test_models.py, ops/ (MIT)",
    training=lambda variant, dataset: Training(
        optimizer="SGD, learning rate 0.02 (of the last layer 0.1), weight decay 1e-4, gradients clipped to norm 20",
        schedule="50 epochs, a tenth of the learning rate from epoch 20 and from epoch 40 on",
        batch_size=128,
        average="logits",
    ),
)
def tsm(variant: str = "8", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None) -> Recipe:
    """TSM: 8 frames, one of each segment of the video, or 8 frames at stride 8.

    A network of images takes the frames one by one: ``clips.transpose(1, 2).flatten(0, 1)`` is (B * F, 3, H, W).

    In a video that is too short, frame numbers of dense clips are taken modulo its length. With fewer frames than
    segments, training and validation have the first frame 8 times, and the test frames from all of the video, as there.

    Where it differs from the official code: dense clips of training may begin at the last place, too, and those of
    validation are in the middle, there as random as in training; a video of just 8 frames is validated with all of
    them, there with the first only; a side of ``MultiScaleCrop`` becomes that of the result only where the frame is
    large enough; the order of the three crops is left, centre, right. MMAction2 trains TSM on Something-Something with
    flips and a label map, as ``RandomHorizontalFlip(label_map=)`` does; here flips are off, as in the official code.

    Args:
        variant: "8": segments; "8-dense": dense sampling, as of I3D.
        stage: "train"; "validation" (the middles of the segments or the middle clip, one crop); or "test":
            as validation; of "8-dense" 10 clips x 3 crops, of "ssv2" 2 x 3 (twice sampling), of 256 pixels.
        dataset: "kinetics400"; with segments also "ssv2" or "jester", which are not flipped.
        size: of the training crops, in pixels, with all other lengths in proportion; default: the published 224.

    Raises:
        ValueError: an argument is not one of these.
    """
    crop, side = scaled("tsm", size, 224, 224), scaled("tsm", size, 224, 256)
    normalize, is_dense = Normalize(*IMAGENET), variant == "8-dense"
    if stage == "train":
        sampling: object = MMAction2Sampling(8, 8) if is_dense else SegmentSampling(8, bounds="tsn")
        flip = () if dataset in DIRECTED else (RandomHorizontalFlip(),)
        return Recipe(sampling, (MultiScaleCrop(crop), *flip, normalize))
    if stage == "test" and (is_dense or dataset == "ssv2"):
        # Dense tests are placed as DMVR's: from 0 to N - 64, rounded down, numbers modulo N.
        clips = DMVRSampling(8, 8, 10, training=False) if is_dense else SegmentSampling(8, (0.5, 0.0))
        return Recipe(crops(clips), (Resize(side), ThreeCrop(side), normalize))
    if is_dense:
        sampling = DMVRSampling(8, 8, training=False)
    else:
        sampling = SegmentSampling(8, "middle", "equal" if stage == "test" else "tsn")
    return Recipe(sampling, (Resize(side), CenterCrop(crop), normalize))


@published(
    dict.fromkeys(("3", "5", "8"), ("kinetics400",)),
    paper="Wang et al.: Temporal Segment Networks: Towards Good Practices for Deep Action Recognition (ECCV 2016)",
    code="github.com/open-mmlab/mmaction2, configs/recognition/tsn (Apache-2.0)",
    training=lambda variant, dataset: Training(
        optimizer="SGD, for the learning rate see the configuration",
        schedule="100 epochs",
        batch_size=256,
    ),
)
def tsn(variant: str = "3", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None) -> Recipe:
    """TSN as in MMAction2: a frame of each of 3, 5 or 8 segments of the video.

    A network of images takes the frames one by one: ``clips.transpose(1, 2).flatten(0, 1)`` is (B * F, 3, H, W).

    A video with fewer frames than segments has them evenly spread and some more than once.

    Where it differs from the official code: training crops are of the frame as it is, there of one scaled to a short
    side of 256, which differs by rounding alone; crops are antialiased; the ten crops come in torchvision's order.

    Args:
        variant: how many segments: "3", "5" or "8".
        stage: "train", "validation" (the middles of the segments, one crop), or "test": 10 crops of the middles of 25
            segments.
        dataset: "kinetics400".
        size: of the crops, in pixels, with all other lengths in proportion; default: the published 224.

    Raises:
        ValueError: an argument is not one of these.
    """
    crop, side = scaled("tsn", size, 224, 224), scaled("tsn", size, 224, 256)
    count = int(variant)
    if stage == "train":
        ops = (MultiScaleCrop(crop, offsets=5), RandomHorizontalFlip(), Normalize(*IMAGENET))
        return Recipe(SegmentSampling(count, bounds="tsn", short="even"), ops)
    if stage == "validation":
        return Recipe(SegmentSampling(count, "middle"), (Resize(side), CenterCrop(crop), Normalize(*IMAGENET)))
    sampling = MultiClip(SegmentSampling(25, "middle"), num_clips=10, placement="same", num_crops=10)
    return Recipe(sampling, (Resize(side), TenCrop(crop), Normalize(*IMAGENET)))
