"""A list of video files goes in, augmented training batches come out as torch tensors."""

from dali_vidaug.manifest import Broken, Manifest
from dali_vidaug.ops import (
    CenterCrop,
    CubeCutMix,
    CubeCutMixUp,
    CubeCutout,
    CutMix,
    CutMixUp,
    Cutout,
    FadeMixUp,
    FrameCutMix,
    FrameCutMixUp,
    FrameCutout,
    LabelSmoothing,
    Mix,
    MixUp,
    MovingCutMix,
    Normalize,
    OneOf,
    RandAugment,
    RandAugmentT,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    TrivialAugment,
    VideoMix,
)
from dali_vidaug.plan import Plan, draw_plan
from dali_vidaug.recipe import Recipe
from dali_vidaug.sampling import ClipSampling
from dali_vidaug.scan import scan

__version__ = "0.1.0"
_NEED_DALI = {
    "Batch": "batch",
    "BatchMix": "batch",
    "ClipError": "clip",
    "Report": "report",
    "VideoLoader": "loader",
    "augment": "loader",
}
__all__ = [
    "Batch",
    "BatchMix",
    "Broken",
    "CenterCrop",
    "ClipError",
    "ClipSampling",
    "CubeCutMix",
    "CubeCutMixUp",
    "CubeCutout",
    "CutMix",
    "CutMixUp",
    "Cutout",
    "FadeMixUp",
    "FrameCutMix",
    "FrameCutMixUp",
    "FrameCutout",
    "LabelSmoothing",
    "Manifest",
    "Mix",
    "MixUp",
    "MovingCutMix",
    "Normalize",
    "OneOf",
    "Plan",
    "RandAugment",
    "RandAugmentT",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "Recipe",
    "Report",
    "Resize",
    "TrivialAugment",
    "VideoLoader",
    "VideoMix",
    "augment",
    "draw_plan",
    "scan",
]


def __getattr__(name):
    """Import what needs DALI and torch when it is first used: scanning and planning do without."""
    if name not in _NEED_DALI:
        raise AttributeError(f"module 'dali_vidaug' has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(f"dali_vidaug.{_NEED_DALI[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "nvidia":
            raise ModuleNotFoundError(
                f"dali_vidaug.{name} needs NVIDIA DALI: pip install 'dali_vidaug[cuda13]', [cuda12] for CUDA 12, or "
                "[cpu] for a machine without a GPU",
                name=error.name,
            ) from None
        raise
