"""Kernels to time: clips, an input for each op, and the bytes that it must move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from dali_vidaug import geometry
from dali_vidaug.commands.checks.device import upload
from dali_vidaug.ops.blend import blend, is_neutral
from dali_vidaug.ops.blur import GaussianBlur
from dali_vidaug.ops.color_jitter import ColorJitter, RandomGrayscale
from dali_vidaug.ops.erase import Cutout, RandomErasing
from dali_vidaug.ops.exposure import GaussianNoise
from dali_vidaug.ops.interpolate import interpolate, interpolate_rows
from dali_vidaug.ops.mix import CubeCutMix, CubeCutMixUp, CutMix, FadeMixUp, MixUp
from dali_vidaug.ops.motion import BackgroundMix, MotionBlur
from dali_vidaug.ops.one_of import OneOf
from dali_vidaug.ops.randaugment import CODES, args_dtype, randaugment
from dali_vidaug.ops.warp import warp, warp_rows
from dali_vidaug.rng import Draws

VALUES = {  # none of them round: round ones make ties
    "Posterize": 4, "Solarize": 100, "SolarizeAdd": 50, "Brightness": 1.61, "Contrast": 1.61, "Color": 1.61,
    "Sharpness": 1.61, "Rotate": 12.3, "ShearX": 0.123, "ShearY": 0.123, "TranslateX": 17.3, "TranslateY": 11.2,
}  # fmt: skip
_GATHERS = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
CASES = (*CODES, *(f"{name}, bilinear" for name in _GATHERS))  # of RandAugment-T's kernel
MIXES: dict[str, Any] = {
    "CubeCutMix": CubeCutMix(), "CutMix": CutMix(), "FadeMixUp": FadeMixUp(), "MixUp": MixUp(),
    "CubeCutMixUp": CubeCutMixUp(), "OneOf(CubeCutMix, FadeMixUp)": OneOf((CubeCutMix(), FadeMixUp())),
    "Cutout": Cutout(), "RandomErasing, always": RandomErasing(1.0),
}  # fmt: skip
FILTERS: dict[str, Any] = {  # ops that have a method ``run``
    "ColorJitter": ColorJitter(0.4, 0.4, 0.4, 0.1), "RandomGrayscale": RandomGrayscale(1.0),
    "GaussianBlur": GaussianBlur(23), "GaussianBlur, 5 pixels": GaussianBlur(5),
    "GaussianNoise": GaussianNoise(), "MotionBlur": MotionBlur(), "BackgroundMix": BackgroundMix(),
}  # fmt: skip
ROTATED = (12.3, -4.0, 6.0, 1.1, 3.0, 0.0)  # geometry.affine's angle, x, y, scale, shears
_TILTED = [[21, 9], [197, 31], [211, 190], [14, 215]]  # corners, of 224
WARPS = ("affine, nearest", "affine, bilinear", "perspective, nearest", "perspective, bilinear")
INTERPOLATION = "FrameInterpolation"  # a frame in the middle of each two


def make_clip(number: int, frames: int, height: int, width: int) -> np.ndarray:
    """Smooth shapes and some noise, a little different in each frame: about as hard as a real clip.

    Returns:
        (frames, height, width, 3) uint8; another clip for each number.
    """
    f, y, x = np.mgrid[:frames, :height, :width]
    shapes = [np.sin(x / (9 + 7 * c) + f / 5) + np.cos(y / (13 - 3 * c) - f / 7) for c in range(3)]
    words = Draws(0, 0, [number], prefix="clip").words("noise", -(-3 * f.size // 4))
    noise = words.view(np.uint8).ravel()[: 3 * f.size].reshape(*f.shape, 3) // 12
    return np.clip(118 + 45 * np.stack(shapes, -1) + noise, 0, 255).astype(np.uint8)


def case_row(case: str, frames: int) -> np.ndarray:
    """(1,) row of RandAugment-T's kernel that applies the op of one of ``CASES`` to every frame."""
    name = case.removesuffix(", bilinear")
    row = np.zeros(1, args_dtype(1, frames))
    row["op"][:, 0], row["value"], row["num_values"] = CODES.index(name), VALUES.get(name, 0), frames
    row["bilinear"] = case != name
    return row


def mix_rows(case: str, clips: Sequence[np.ndarray], batch: int) -> np.ndarray:
    """(B,) rows of the kernel that mixes and erases, as the op of one of ``MIXES`` draws them for a batch."""
    return MIXES[case].draw(Draws(0, 0, np.arange(len(clips)), batch=batch), *clips[0].shape[:3])


def filter_rows(case: str, clips: Sequence[np.ndarray], batch: int) -> np.ndarray:
    """(B,) rows of a kernel, as the op of one of ``FILTERS`` draws them for a batch."""
    return FILTERS[case].draw(Draws(0, 0, np.arange(len(clips)) + batch * len(clips)), *clips[0].shape[:3])


def warp_row(case: str, height: int, width: int) -> np.ndarray:
    """(1,) row of the kernel that moves frames: the same matrix for all frames, of one of ``WARPS``."""
    kind, interpolation = case.split(", ")
    if kind == "affine":
        matrix = geometry.affine(*ROTATED, height, width)
    else:
        matrix = geometry.from_quad(np.array(_TILTED) / 224 * [width, height], width, height)
    return warp_rows(matrix[None, None], height, width, (0, 0, 0), interpolation)


def call_of(case: str, clips: Sequence[Any], device: str) -> tuple[Callable[[], Any], float]:
    """A call of a kernel.

    Args:
        case: one of ``CASES``, ``MIXES``, ``FILTERS`` or ``WARPS``, or ``INTERPOLATION``.
        clips: list of NumPy arrays (F, H, W, 3) uint8, all of one size.
        device: where it runs: "cpu" or "gpu".

    Returns:
        A function without arguments, and the bytes that it must move.
    """
    if case in MIXES:
        rows = mix_rows(case, clips, batch=0)
        moved, function = bytes_moved(rows, copied=device == "gpu").sum(), blend
    elif case in FILTERS:
        rows, function = filter_rows(case, clips, batch=0), FILTERS[case].run
        moved = 2 * sum(clip.nbytes for clip in clips)
    elif case in WARPS:
        rows = warp_row(case, *clips[0].shape[1:3]).repeat(len(clips))
        moved, function = 2 * sum(clip.nbytes for clip in clips), warp
    elif case == INTERPOLATION:
        count = len(clips[0]) - 1
        rows = interpolate_rows(np.tile(np.arange(count) + 0.5, (len(clips), 1)))
        moved, function = 3 * count * clips[0][0].nbytes * len(clips), partial(interpolate, num_frames=count)
    else:
        rows = case_row(case, clips[0].shape[0]).repeat(len(clips))
        moved, function = 2 * sum(clip.nbytes for clip in clips), partial(randaugment, num_ops=1)
    if device == "gpu":  # as the graph has them: all on the GPU already
        clips = [upload(clip, device) for clip in clips]
        rows = upload(rows.view(np.uint8).reshape(len(rows), -1), device)
    return partial(function, clips, rows), moved


def bytes_moved(rows: np.ndarray, copied: bool = False) -> np.ndarray:
    """What blending must move: what it writes, what it reads of the clip and of its partner.

    Args:
        rows: (B,) BLEND.
        copied: whether clips that do not change are copied, as on the GPU; on the CPU they move nothing.

    Returns:
        (B,) float64.
    """
    whole = 3.0 * rows["frames"] * rows["height"] * rows["width"]
    box = 3.0 * (rows["last"] - rows["first"])
    for low, high in (("top", "bottom"), ("left", "right")):
        box = box * (rows[high] - rows[low]).mean(1)
    read = np.zeros(len(rows))
    for name, size in (("inside", box), ("outside", whole - box)):
        weight = rows[name].max(1)
        read += size * ((weight < 1) + ((weight > 0) & (rows["partner"] >= 0)).astype(float))
    return np.where(is_neutral(rows), 2 * whole if copied else 0, read + whole)
