"""A picture of ops: a strip of frames for each, of one of its draws that shows what it does."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from PIL import Image

import dali_vidaug as dv
from dali_vidaug import ops as all_ops
from dali_vidaug.commands.options import with_names
from dali_vidaug.description import changes_text
from dali_vidaug.strips import Strip, draw_strips

_DRAWS = 9  # of an op; the one is drawn whose change is in the middle
_WITHOUT_PIXELS = ("LabelSmoothing", "Normalize", "TorchModule")  # what these do cannot be seen, or is the user's
_NO_OPS = ("CROP", "is_on_time", "name_of", "op_names", "register_module")  # what the package exports besides
_RAMPED = "temporal"
GROUPS: dict[str, tuple[Any, ...]] = {
    "geometry": (
        dv.RandomVerticalFlip(1.0), dv.RandomRotation(30.0), dv.RandomRotation(30.0, ramp=_RAMPED),
        dv.RandomAffine(20.0, (0.2, 0.2), (0.7, 1.3), 20.0), dv.RandomPerspective(0.5, 1.0),
        dv.RandomPerspective(0.5, 1.0, ramp=_RAMPED), dv.CameraMotion(0.15, 0.4, 12.0),
        dv.CameraMotion(0.15, 0.4, 12.0, cover=False), dv.RandomResizedCrop((240, 320), shift=True),
    ),
    "color": (
        dv.ColorJitter(0.6, 0.6, 0.8, 0.2), dv.ColorJitter(0.6, 0.6, 0.8, 0.2, ramp=_RAMPED), dv.RandomGrayscale(1.0),
        dv.ExposureRamp(0.8), dv.Flicker((0.2, 0.4)), dv.GaussianBlur(sigma=(2.0, 4.0)),
        dv.GaussianBlur(sigma=(4.0, 8.0), ramp=_RAMPED), dv.MotionBlur((5, 9)), dv.GaussianNoise((0.1, 0.2)),
        dv.BackgroundMix((0.3, 0.6)), dv.JpegArtefacts((2, 8)),
    ),
}  # fmt: skip
# Options with which an op shows what it does, where its own defaults do not.
_SHOWN: dict[str, Any] = {
    "CenterCrop": dv.CenterCrop(160), "ColorJitter": GROUPS["color"][0], "FiveCrop": dv.FiveCrop(160),
    "FrameInterpolation": dv.FrameInterpolation(), "RandomAffine": GROUPS["geometry"][3],
    "RandomCrop": dv.RandomCrop(160), "RandomResizedCrop": dv.RandomResizedCrop(160),
    "RandomRotation": GROUPS["geometry"][1], "Resize": dv.Resize((120, 320)), "TenCrop": dv.TenCrop(160),
    "ScaleJitter": dv.ScaleJitter((0.5, 1.0)),
    "ShortSideScale": dv.ShortSideScale(60, 120), "ThreeCrop": dv.ThreeCrop(160),
}  # fmt: skip


def ops_picture(
    ops: Sequence[Any], clips: Sequence[np.ndarray], *, seed: int = 0, num_frames: int = 8, height: int = 72
) -> Image.Image:
    """Draw a clip, and a strip for each op of what it makes of the clip, with its options and what was drawn.

    Of several draws of an op the one is shown whose change of pixels is in the middle; of an op that ramps, the one
    whose frames are changed most differently.

    Args:
        ops: any ops of a recipe but ``Normalize`` and ``LabelSmoothing``.
        clips: (F, H, W, 3) uint8, of one size; ops that mix take the others.
        seed: of the draws.
        num_frames: shown at most.
        height: of a frame, pixels.
    """
    strips = [Strip(clips[0], ["the clip"])]
    for op in ops:
        batch = _telling_batch(op, clips, seed)
        text, frames = changes_text(batch.plan, 0).partition(": ")[2], batch.clips[0]
        if hasattr(op, "num_crops"):
            text, frames = "a frame of each view", batch.clips[:, 0]
        captions = [f"{frame:.3g}" for frame in batch.plan.frames[0]] if dv.ops.is_on_time(op) else []
        lines = [_title(op), *([text] if text else [])]
        strips.append(Strip(_fitted(frames.numpy(), clips[0].shape[1:3]), lines, captions))
    return draw_strips(strips, height, num_frames)


def _telling_batch(op, clips, seed):
    """The batch of the draw that is shown; of an op that crops for views, all of them."""
    options: dict[str, Any] = dict(layout="FHWC", seed=seed, device="cpu")
    if views := getattr(op, "num_crops", 0):
        return dv.augment([clips[0]] * views, (op,), views=range(views), samples=[0] * views, **options)
    given, found = list(clips if hasattr(op, "mixed_with") else clips[:1]), []
    for epoch in range(_DRAWS):
        batch = dv.augment(given, (op,), epoch=epoch, **options)
        made = _fitted(batch.clips[0].numpy(), clips[0].shape[1:3]).astype(np.float32)
        found.append((np.abs(made - clips[0]).mean((1, 2, 3)), batch))
    if getattr(op, "ramp", "constant") != "constant":
        return max(found, key=lambda one: np.ptp(one[0]))[1]
    return sorted(found, key=lambda one: one[0].mean())[_DRAWS // 2][1]


def _title(op):
    """An op as it is written, with the options that are not its defaults."""
    default = {field.name: field.default for field in fields(op)}
    called = dv.ops.name_of(op)
    given = [(name, getattr(op, name)) for name, value in default.items() if getattr(op, name) not in (value, called)]
    return f"{called}({', '.join(f'{name}={value!r}' for name, value in given)})"


def _fitted(frames, shape):
    """Frames (F, h, w, 3) scaled to fit into a shape (H, W), and centred on white."""
    scale = min(shape[0] / frames.shape[1], shape[1] / frames.shape[2])
    height, width = (max(1, round(side * scale)) for side in frames.shape[1:3])
    if (height, width) == frames.shape[1:3] == shape:
        return frames
    fitted = np.full((len(frames), *shape, 3), 255, np.uint8)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    for frame, whole in zip(frames, fitted, strict=True):
        small = Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
        whole[top : top + height, left : left + width] = np.asarray(small)
    return fitted


def named_ops(names: Collection[str]) -> list[Any]:
    """The ops that a user named.

    Args:
        names: "all"; one of ``GROUPS``; the name of an op, in upper or lower case, which stands for options with which
            it shows what it does; or an op as it is written in Python: "RandomRotation(30.0, ramp='mix')".

    Raises:
        ValueError: there is no such op, or its work cannot be seen.
    """
    public = {name: getattr(all_ops, name) for name in all_ops.__all__ if name not in (*_WITHOUT_PIXELS, *_NO_OPS)}
    by_name, found = {name.lower(): name for name in public}, list[Any]()
    for name in names:
        if name.lower() == "all":
            found += [_shown(one, maker) for one, maker in sorted(public.items())]
        elif name.lower() in GROUPS:
            found += GROUPS[name.lower()]
        elif one := by_name.get(name.lower()):
            found.append(_shown(one, public[one]))
        else:
            found.append(_written(name, public))
    return found


def _shown(name, maker):
    """An op, with options with which it always does something that can be seen."""
    op = _SHOWN.get(name) or maker()
    return replace(op, probability=1.0) if any(field.name == "probability" for field in fields(op)) else op


def _written(text, public):
    known = {name: op for name, op in public.items() if isinstance(op, type)}
    call = re.fullmatch(r"(?:dv\.)?(\w+)\(\)", text.strip())
    if call and call[1] in public:  # also a function that makes ops, as CutMix
        return public[call[1]]()
    try:
        (op,) = dv.Recipe.parse(f"Recipe(ops=({with_names(text, known)},))").ops
    except (SyntaxError, ValueError) as error:
        why = f"cannot read {text!r}" if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"--ops: {why}; ops are all, {', '.join([*GROUPS, *sorted(public)])}") from error
    if type(op).__name__ in _WITHOUT_PIXELS:
        raise ValueError(f"--ops: what {type(op).__name__} does cannot be drawn")
    return op
