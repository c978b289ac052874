"""torchvision's R3D, MC3 and R(2+1)D."""

from __future__ import annotations

from dali_vidaug.ops import CenterCrop, Normalize, RandomCrop, RandomHorizontalFlip, Resize
from dali_vidaug.recipe import Recipe
from dali_vidaug.recipes.registry import Training, published, scaled
from dali_vidaug.sampling import ClipSampling, MultiClip

_MEAN, _STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


@published(
    dict.fromkeys(("r3d_18", "mc3_18", "r2plus1d_18"), ("kinetics400",)),
    paper="Tran et al.: A Closer Look at Spatiotemporal Convolutions for Action Recognition (CVPR 2018)",
    code="github.com/pytorch/vision, references/video_classification, torchvision.transforms (BSD-3-Clause)",
    training=lambda variant, dataset: Training(
        optimizer="SGD, learning rate 0.01 times the number of GPUs (64), momentum 0.9, weight decay 1e-4",
        schedule="45 epochs, the first 10 of them warm-up, a tenth of the learning rate from epochs 20, 30 and 40 on; "
        "an epoch has up to 5 clips of each video",
    ),
)
def r3d(
    variant: str = "r3d_18", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None
) -> Recipe:
    """R3D, MC3 and R(2+1)D of torchvision: 16 frames at 15 frames per second, of 112 pixels.

    Frames are scaled to 128 x 171 pixels whatever their aspect ratio.

    Where it differs from the official code: scaling is antialiased; the centre crop has 29 of 59 columns on its left,
    there 30; in training the crop comes before the flip, with the same result; an epoch has one clip of each video,
    there five (``MultiClip`` around the sampler makes them); a video that is shorter than a clip is left out there,
    here its last frame is repeated.

    Args:
        variant: the name of the model in torchvision: "r3d_18", "mc3_18" or "r2plus1d_18"; the recipe is the same.
        stage: "train", "validation" (the middle clip, the centre crop), or "test" (5 clips, the centre crop).
        dataset: "kinetics400".
        size: of the crops, in pixels, with all other lengths in proportion; default: the published 112.

    Raises:
        ValueError: an argument is not one of these.
    """
    crop, height, width = (scaled("r3d", size, 112, length) for length in (112, 128, 171))
    if stage == "train":
        ops = (Resize((height, width)), RandomCrop(crop), RandomHorizontalFlip(), Normalize(_MEAN, _STD))
        return Recipe(ClipSampling(16, fps=15, grid="rate"), ops)
    sampling: object = ClipSampling(16, fps=15, grid="rate", start="center")
    if stage == "test":
        sampling = MultiClip(ClipSampling(16, fps=15, grid="rate"), num_clips=5)
    return Recipe(sampling, (Resize((height, width)), CenterCrop(crop), Normalize(_MEAN, _STD)))
