"""Papers on augmentation: Kim et al. 2020, VideoMix, and a guide of mild augmentations."""

from __future__ import annotations

from dataclasses import replace

from dali_vidaug.ops import (
    CenterCrop,
    CubeCutout,
    Cutout,
    FrameCutout,
    LabelSmoothing,
    Mix,
    MixUp,
    Normalize,
    RandAugmentT,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    TemporalJitter,
    VideoMix,
)
from dali_vidaug.recipe import Recipe
from dali_vidaug.recipes.registry import FAMILIES, Training, published, scaled
from dali_vidaug.recipes.slowfast import two_pathways
from dali_vidaug.sampling import ClipSampling, MultiClip

_SMALL = ("ucf101", "hmdb51")
_GREY = (128 / 255,) * 3  # 0 after Kim et al.'s normalisation, (x - 128) / 128
_FAMILIES = (
    "CutMix", "FrameCutMix", "CubeCutMix", "MixUp", "FadeMixUp", "CutMixUp", "FrameCutMixUp", "CubeCutMixUp",
)  # fmt: skip
_ROWS: dict[str, tuple[object, ...]] = {  # of the paper's tables: what is added to crop and flip
    "baseline": (),
    "spatial": (RandAugmentT(suite="kim2020", ramp="constant"),),
    "temporal": (RandAugmentT(suite="kim2020", ramp="temporal"),),
    "temporal+": (RandAugmentT(suite="kim2020", ramp="temporal+"),),
    "mix": (RandAugmentT(suite="kim2020", ramp="mix"),),
    "cutout": (Cutout(color=_GREY),),
    "framecutout": (FrameCutout(color=_GREY),),
    "cubecutout": (CubeCutout(color=_GREY),),
    **{family.lower(): (Mix(family, granularity="batch"),) for family in _FAMILIES},
}


@published(
    dict.fromkeys(_ROWS, _SMALL),
    paper="Kim et al.: Learning Temporally Invariant and Localizable Features via Data Augmentation for Video "
    "Recognition (ECCV workshop 2020)",
    code="github.com/taeoh-kim/temporal_data_augmentation, commit 275e711 (no licence)",
    training=lambda row, dataset: Training(
        optimizer="Adam, learning rate 1e-4, weight decay 1e-5; SlowFast-50 from scratch, which makes its pathways",
        schedule="cosine over 150 epochs, the first tenth of them warm-up",
        batch_size=16,
    ),
)
def kim2020(
    row: str = "temporal+", *, stage: str = "train", dataset: str = "ucf101", size: int | None = None
) -> Recipe:
    """Kim et al.'s RandAugment-T, cuts, mixes and fades: 64 frames of 160 pixels, a row of the paper's tables each.

    The table of RandAugment has "baseline", "spatial", "temporal", "temporal+" and "mix"; that of Cutout "cutout",
    "framecutout", "cubecutout"; that of CutMix "cutmix", "framecutmix", "cubecutmix"; and that of MixUp "mixup",
    "fademixup", "cutmixup", "framecutmixup", "cubecutmixup". Videos are those of the data set, 320 x 240, not scaled;
    another ``size`` sees the same part of them, as the crop is scaled.

    Where it differs from the official code: it has no Cutout, whose sides here are half of the frame and of the clip;
    "temporal" and "mix" are in the paper alone. A clip may begin at every frame where it fits, there not in the last
    two places, and a video of 64 frames counts as too short there. Where each frame four times is too short, the last
    one is repeated; there such clips are shorter. The pixels of the scaled crop are rounded, as decoders and DALI do,
    there cut off. No clip is its own partner in a mix. The 10 clips of a test are placed from the first to the last
    that fits, there up to half a step before it; 30 views are an option there, with three crops of the middle 240 x 160
    pixels.

    Args:
        row: see above.
        stage: "train", "validation" (the middle clip, the centre crop), or "test" (10 clips, the centre crop).
        dataset: "ucf101" or "hmdb51"; the recipe is the same.
        size: of the clips, in pixels; default: the published 160. The squares that are cut out of the frames, of 160 to
            200 pixels, stay as large, and are at most as large as the frame.

    Raises:
        ValueError: an argument is not one of these.
    """
    pixels = scaled("kim2020", size, 160, 160)
    normalize = Normalize(_GREY, _GREY)
    if stage == "train":
        ops = (RandomCrop(pixels, side=(160, 200)), RandomHorizontalFlip(), *_ROWS[row], normalize)
        return Recipe(ClipSampling(64, short="stretch"), ops)
    sampling: object = ClipSampling(64, start="center", short="stretch")
    if stage == "test":
        sampling = MultiClip(ClipSampling(64, short="stretch"), num_clips=10)
    return Recipe(sampling, (CenterCrop(pixels, side=160), normalize))


@published(
    dict.fromkeys(("S", "T", "ST"), ("kinetics400",)),
    paper="Yun, Oh, Heo, Han, Kim: VideoMix: Rethinking Data Augmentation for Video Classification (arXiv 2020)",
    code="none was found; share and probability are those of CutMix, github.com/clovaai/CutMix-PyTorch (MIT-style)",
    training=lambda mode, dataset: FAMILIES["slowfast"].training("8x8", dataset),
)
def videomix(mode: str = "S", *, stage: str = "train", dataset: str = "kinetics400", size: int | None = None) -> Recipe:
    """VideoMix on SlowFast 8x8: a box of another clip in all frames (S), whole frames of it (T), or both (ST).

    The paper found S best, and uses it by default. ``batch.clips`` is (slow, fast): ``slowfast`` says how they are
    made, and what its optimiser was.

    Where it differs from the official code: there is none to compare with. How often clips are mixed, and how the share
    is distributed, is taken from CutMix, whose authors these are: always, uniform, once for a batch.

    Args:
        mode: "S", "T" or "ST".
        stage: "train", "validation" or "test", as of ``slowfast``; only training mixes.
        dataset: "kinetics400".
        size: of the training crops, in pixels, with all other lengths in proportion; default: the published 224.

    Raises:
        ValueError: an argument is not one of these.
    """
    recipe = two_pathways("videomix", "8x8", stage, size)
    if stage != "train":
        return recipe
    *ops, normalize = recipe.ops
    return replace(recipe, ops=(*ops, VideoMix(mode, granularity="batch"), normalize))


@published(
    dict.fromkeys(("mild", "mixup"), ("own",)),
    paper="none: advice from a Comprehensive Guide to Video-Specific Augmentations for Action Recognition, a text "
    "without author or year",
    code="none (no licence)",
    training=lambda variant, dataset: Training(
        optimizer="AdamW, learning rate 5e-4, weight decay 0.01 to 0.05",
        schedule="cosine or in steps, with warm-up; early stopping",
        loss="dropout of 0.5 in the head",
    ),
)
def guide(variant: str = "mild", *, stage: str = "train", dataset: str = "own", size: int | None = None) -> Recipe:
    """Mild augmentation for fine-tuning on small data sets: 16 frames, crops of at least 80 %, smoothed labels.

    A random start, a stride of 1, 2 or 3, one frame or two dropped or doubled, a mild crop and a flip. It warns of
    rotations, perspective, heavy blur, erasing and strong crops. In frames wider than 4:3 a box of 80 % with an aspect
    ratio of at most 4/3 does not fit: the crop is then always the middle of the frame, 4:3.

    Where it differs from the official code: there is none. The text gives ranges where a number is needed: label
    smoothing is 0.1 of its 0.05 to 0.1; frames are dropped and doubled with a probability of 0.05 each, for its "one or
    two" of 16; it names no alpha for MixUp, here 0.8. It tests one clip; "test" has 5, for its advice to average.

    Args:
        variant: "mild", or "mixup": the same, with MixUp.
        stage: "train", "validation" (the middle clip of stride 2, the frame scaled to a square), or "test" (5 clips).
        dataset: "own": any. Where left and right are labels, see ``RandomHorizontalFlip(label_map=)``.
        size: of the clips, in pixels; default: 224.

    Raises:
        ValueError: an argument is not one of these.
    """
    side = scaled("guide", size, 224, 224)
    if stage == "train":
        mixing = (MixUp(alpha=0.8),) if variant == "mixup" else ()
        ops = (
            TemporalJitter(drop=0.05, duplicate=0.05), RandomResizedCrop(side, scale=(0.8, 1.0)),
            RandomHorizontalFlip(), *mixing, LabelSmoothing(0.1), Normalize(),
        )  # fmt: skip
        return Recipe(ClipSampling(16, stride=(1, 3)), ops)
    sampling: object = ClipSampling(16, stride=2, start="center")
    if stage == "test":
        sampling = MultiClip(ClipSampling(16, stride=2), num_clips=5)
    return Recipe(sampling, (Resize((side, side)), Normalize()))
