"""The pools of RandAugment's ops, and what a magnitude means for each: one suite for each published policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

CODES = (  # the same order as enum Op in kernels/randaugment.h
    "Identity", "AutoContrast", "Equalize", "Invert", "Posterize", "Solarize", "SolarizeAdd", "Brightness", "Contrast",
    "Color", "Sharpness", "Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY",
)  # fmt: skip
WITHOUT_VALUE = ("Identity", "AutoContrast", "Equalize", "Invert")
UNITS = {
    "Posterize": "bits", "Solarize": "threshold", "SolarizeAdd": "added", "Rotate": "degrees",
    "ShearX": "px per px", "ShearY": "px per px", "TranslateX": "px", "TranslateY": "px",
}  # fmt: skip
# Name: value at magnitude 0, value at the highest magnitude, whether the difference gets a random sign. Translations
# are fractions of the frame; those whose names end in Abs are pixels.
_GEOMETRY: dict[str, tuple[float, float, bool]] = {
    "Rotate": (0, 30, True), "ShearX": (0, 0.3, True), "ShearY": (0, 0.3, True),
    "TranslateX": (0, 0.45, True), "TranslateY": (0, 0.45, True),
    "TranslateXAbs": (0, 100, True), "TranslateYAbs": (0, 100, True),
}  # fmt: skip
_ENHANCE = ("Brightness", "Color", "Contrast", "Sharpness")
_STRENGTHENED = {**_GEOMETRY, "SolarizeAdd": (0, 110, False)}
_INCREASING = {"Posterize": (8, 4, False), "Solarize": (256, 0, False), **dict.fromkeys(_ENHANCE, (1, 1.9, True))}
RANGES: dict[str, dict[str, tuple[float, float, bool]]] = {
    # Magnitude 0 changes nothing and the highest changes most. Translations as in SlowFast; posterize as in torchvision
    # and DALI, because SlowFast's ends in black frames.
    "monotonic": {**_STRENGTHENED, **_INCREASING},
    # Kim et al., on 160-pixel frames: enhancements are weakest in the middle; Posterize and Solarize get weaker.
    "kim2020": {
        **_STRENGTHENED, "Posterize": (0, 4, False), "Solarize": (0, 256, False),
        **dict.fromkeys(_ENHANCE, (0.1, 1.9, False)),
    },
    # TrivialAugment (Müller and Hutter 2021), "wide", with its translations of 32 pixels as a fraction of 224.
    "wide": {
        **_STRENGTHENED, "Rotate": (0, 135, True), "ShearX": (0, 0.99, True), "ShearY": (0, 0.99, True),
        "TranslateX": (0, 32 / 224, True), "TranslateY": (0, 32 / 224, True), "Posterize": (8, 2, False),
        "Solarize": (256, 0, False), **dict.fromkeys(_ENHANCE, (1, 1.99, True)),
    },
    # torchvision.transforms.v2.RandAugment, whose magnitude is one of 31 numbers: 0 to 30. Whole pixels, whole bits.
    "torchvision": {
        **_STRENGTHENED, **_INCREASING, "TranslateX": (0, 150 / 331, True), "TranslateY": (0, 150 / 331, True),
        "Solarize": (255, 0, False),
    },
    # timm's "rand-m9-mstd0.5-inc1", which SlowFast, VideoMAE and others have taken over: 4 to 0 bits.
    "timm": {**_STRENGTHENED, **_INCREASING, "Posterize": (4, 0, False)},
    # Scenic's, of ViViT. Its magnitudes are above the 10 for which the ranges were made: at 20, Solarize and Posterize
    # change nothing, and enhancements only strengthen.
    "scenic": {
        **{name: (3 * low, 3 * high, signed) for name, (low, high, signed) in _GEOMETRY.items()},
        "Posterize": (0, 12, False), "Solarize": (0, 768, False), "SolarizeAdd": (0, 330, False),
        **dict.fromkeys(_ENHANCE, (0.1, 5.5, False)),
    },
}  # fmt: skip
# How values become whole numbers, where they do. For the bits of Kim et al. there is RandAugmentT._bits.
_WHOLE: dict[str, Callable[[np.ndarray], np.ndarray]] = {"SolarizeAdd": np.trunc, "Posterize": np.round}
WHOLE: dict[str, dict[str, Callable[[np.ndarray], np.ndarray]]] = {
    **dict.fromkeys(RANGES, _WHOLE),
    "torchvision": {**_WHOLE, "TranslateX": np.trunc, "TranslateY": np.trunc},
    "timm": {**_WHOLE, "Posterize": np.ceil, "Solarize": np.ceil},  # 4 - int(4 m / 10), 256 - int(256 m / 10)
    "scenic": {**_WHOLE, "Posterize": lambda bits: np.minimum(np.trunc(bits), 8), "Solarize": np.trunc},
}
NAMES = (*CODES, "TranslateXAbs", "TranslateYAbs")  # what users type; another order draws other plans


class Suite(NamedTuple):
    """A pool of ops, the highest magnitude, and the defaults of options that are None."""

    ops: tuple[str, ...]
    highest: int
    magnitude: float
    magnitude_std: float
    statistics: str
    interpolation: str
    fill: tuple[int, int, int]


def _without(*names):
    return tuple(name for name in NAMES if name not in names)


_GREY, _BLACK = (128, 128, 128), (0, 0, 0)
_ABSOLUTE = ("TranslateXAbs", "TranslateYAbs")
SUITES = {
    "monotonic": Suite(_without(*_ABSOLUTE), 10, 9.0, 0.5, "clip", "bilinear", _GREY),
    "kim2020": Suite(_without("TranslateX", "TranslateY", "SolarizeAdd"), 30, 5.0, 0.0, "frame", "nearest", _BLACK),
    "wide": Suite(_without(*_ABSOLUTE, "Invert", "SolarizeAdd"), 10, 9.0, 0.5, "clip", "bilinear", _GREY),
    "torchvision": Suite(_without(*_ABSOLUTE, "Invert", "SolarizeAdd"), 30, 9.0, 0.0, "frame", "nearest", _BLACK),
    "timm": Suite(_without(*_ABSOLUTE, "Identity"), 10, 9.0, 0.5, "frame", "bicubic", _GREY),
    "scenic": Suite(_without(*_GEOMETRY), 30, 20.0, 0.0, "clip", "nearest", _GREY),  # which has Cutout, too
}
