"""A list of video files goes in, augmented training batches come out as torch tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dali_vidaug import recipes
from dali_vidaug.boxes import Boxes, BoxRules
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.pack import pack
from dali_vidaug.data.parts import merge
from dali_vidaug.data.scan import scan
from dali_vidaug.data.schema import Broken
from dali_vidaug.data.transcode import transcode
from dali_vidaug.drawing import draw_plan
from dali_vidaug.errors import ClipError, OpError
from dali_vidaug.mapping import pixel_matrices
from dali_vidaug.masks import CubeMask, MotionMask, MultiBlockMask, RandomMask, RunningCellMask, TubeMask
from dali_vidaug.media.object_options import Storage
from dali_vidaug.ops import (
    BackgroundMix,
    CameraMotion,
    CenterCrop,
    ColorJitter,
    CubeCutMix,
    CubeCutMixUp,
    CubeCutout,
    CutMix,
    CutMixUp,
    Cutout,
    ExposureRamp,
    FadeMixUp,
    FiveCrop,
    Flicker,
    FrameCutMix,
    FrameCutMixUp,
    FrameCutout,
    FrameDrop,
    FrameInterpolation,
    FrameJitter,
    GaussianBlur,
    GaussianNoise,
    HalfCopy,
    JpegArtefacts,
    LabelSmoothing,
    Mix,
    MixUp,
    MotionBlur,
    MovingCutMix,
    MultiScaleCrop,
    Normalize,
    OneOf,
    RandAugment,
    RandAugmentT,
    RandomAffine,
    RandomApply,
    RandomCrop,
    RandomErasing,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomPerspective,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
    Reverse,
    ShortSideScale,
    SpeedRamp,
    TemporalJitter,
    TenCrop,
    ThreeCrop,
    TorchModule,
    TrivialAugment,
    VideoMix,
    register_module,
)
from dali_vidaug.plan import Plan
from dali_vidaug.recipe import Recipe
from dali_vidaug.report import Report
from dali_vidaug.rng import Draws
from dali_vidaug.sampling import (
    ClipSampling,
    KeyframeClip,
    MMAction2Sampling,
    MultiClip,
    Sampler,
    SegmentSampling,
    SlowFastSampling,
    Snippets,
    Spans,
    VideoMAESampling,
    Videos,
    VJEPA2Sampling,
)

if TYPE_CHECKING:
    from dali_vidaug.batch import Batch, BatchMix, Tokens
    from dali_vidaug.in_memory import augment
    from dali_vidaug.loader import VideoLoader
    from dali_vidaug.op_contract import check_op
    from dali_vidaug.scores import VideoResult, VideoScores

__version__ = "0.1.0"
# Imported when they are first used: they need DALI and torch, which scanning and planning do not.
_LAZY = {
    "Batch": "batch",
    "BatchMix": "batch",
    "Tokens": "batch",
    "VideoLoader": "loader",
    "VideoResult": "scores",
    "VideoScores": "scores",
    "augment": "in_memory",
    "check_op": "op_contract",
}
__all__ = [
    "BackgroundMix",
    "Batch",
    "BatchMix",
    "BoxRules",
    "Boxes",
    "Broken",
    "CameraMotion",
    "CenterCrop",
    "ClipError",
    "ClipSampling",
    "ColorJitter",
    "CubeCutMix",
    "CubeCutMixUp",
    "CubeCutout",
    "CubeMask",
    "CutMix",
    "CutMixUp",
    "Cutout",
    "Draws",
    "ExposureRamp",
    "FadeMixUp",
    "FiveCrop",
    "Flicker",
    "FrameCutMix",
    "FrameCutMixUp",
    "FrameCutout",
    "FrameDrop",
    "FrameInterpolation",
    "FrameJitter",
    "GaussianBlur",
    "GaussianNoise",
    "HalfCopy",
    "JpegArtefacts",
    "KeyframeClip",
    "LabelSmoothing",
    "MMAction2Sampling",
    "Manifest",
    "Mix",
    "MixUp",
    "MotionBlur",
    "MotionMask",
    "MovingCutMix",
    "MultiBlockMask",
    "MultiClip",
    "MultiScaleCrop",
    "Normalize",
    "OneOf",
    "OpError",
    "Plan",
    "RandAugment",
    "RandAugmentT",
    "RandomAffine",
    "RandomApply",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomMask",
    "RandomPerspective",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "Recipe",
    "Report",
    "Resize",
    "Reverse",
    "RunningCellMask",
    "Sampler",
    "SegmentSampling",
    "ShortSideScale",
    "SlowFastSampling",
    "Snippets",
    "Spans",
    "SpeedRamp",
    "Storage",
    "TemporalJitter",
    "TenCrop",
    "ThreeCrop",
    "Tokens",
    "TorchModule",
    "TrivialAugment",
    "TubeMask",
    "VJEPA2Sampling",
    "VideoLoader",
    "VideoMAESampling",
    "VideoMix",
    "VideoResult",
    "VideoScores",
    "Videos",
    "augment",
    "check_op",
    "draw_plan",
    "merge",
    "pack",
    "pixel_matrices",
    "recipes",
    "register_module",
    "scan",
    "transcode",
]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'dali_vidaug' has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(f"dali_vidaug.{_LAZY[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "nvidia":
            raise ModuleNotFoundError(
                f"dali_vidaug.{name} needs NVIDIA DALI: pip install 'dali_vidaug[cuda13]', [cuda12] for CUDA 12, or "
                "[cpu] for a machine without a GPU",
                name=error.name,
            ) from None
        raise


def __dir__() -> list[str]:
    return list(__all__)  # what a user may use, and nothing else: for dir() and completion
