"""Hiera."""

from __future__ import annotations

from dali_vidaug.ops import ThreeCrop
from dali_vidaug.recipe import Recipe
from dali_vidaug.recipes.common import IMAGENET, crops, short_side
from dali_vidaug.recipes.registry import Training, published, scaled
from dali_vidaug.sampling import SlowFastSampling


@published(
    {"base": ("kinetics400",)},
    paper="Ryali et al.: Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles (ICML 2023)",
    code="github.com/facebookresearch/hiera, README, examples/inference.ipynb (Apache-2.0; weights CC-BY-NC 4.0)",
    stages=("test",),
    training=lambda variant, dataset: Training("its training was never released", "", average="logits"),
)
def hiera(
    variant: str = "base", *, stage: str = "test", dataset: str = "kinetics400", size: int | None = None
) -> Recipe:
    """Hiera, for testing: 16 frames of stride 4 at 30 per second. Its recipe of training was never released.

    Where it differs from the official code: its notebook shows one clip. Its list of results says 5 clips x 3 crops,
    but not where the clips begin: here as in SlowFast's repository, from the first start to the last that fits. The
    notebook's last standard deviation, 0.255, is not ImageNet's 0.225, which is taken here.

    Args:
        variant: "base"; the data are the same for all sizes of the model.
        stage: "test" (5 clips x 3 crops; logits are averaged).
        dataset: "kinetics400".
        size: of the crops, in pixels; default: the published 224.

    Raises:
        ValueError: an argument is not one of these.
    """
    pixels = scaled("hiera", size, 224, 224)
    clips = SlowFastSampling(16, 4, num_clips=5, training=False, use_offset_sampling=True)
    return Recipe(crops(clips), (short_side(pixels), ThreeCrop(pixels), IMAGENET))
