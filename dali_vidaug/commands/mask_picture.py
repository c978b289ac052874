"""Masks on the frames of a clip, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

import dali_vidaug as dv
from dali_vidaug.commands.options import with_names
from dali_vidaug.commands.pictures import Strip, draw_strips, masked_frames
from dali_vidaug.drawn_masks import masks_text
from dali_vidaug.masks import MASKS

_SIDE = 224  # of the frames
_SHOWN: dict[str, Any] = {"MultiBlockMask": (dv.MultiBlockMask(), dv.MultiBlockMask(2, 0.7))}  # as V-JEPA 2 has them


def mask_picture(
    masks: Sequence[Any], clip: np.ndarray, *, seed: int = 0, num_frames: int = 8, height: int = 112
) -> Image.Image:
    """Draw a clip, and what masks leave of it.

    Args:
        masks: of a recipe.
        clip: (F, H, W, 3) uint8; the middle of its frames is shown, scaled to 224 x 224 pixels.
        seed: of the draws.
        num_frames: shown at most.
        height: of a frame, pixels.

    Raises:
        ValueError: the tokens of a mask do not divide such a clip.
    """
    ops = (dv.Resize(_SIDE), dv.CenterCrop(_SIDE))
    batch = dv.augment([clip], ops, layout="FHWC", seed=seed, device="cpu", masks=masks)
    frames = batch.clips[0].numpy()
    strips = [Strip(frames, ["the clip"])]
    texts = masks_text(batch.plan.recipe, batch.plan.masks)
    for mask, text, drawn in zip(batch.plan.recipe.masks, texts, batch.masks, strict=True):
        strips.append(Strip(masked_frames(frames, drawn[0].numpy()), [repr(mask), text]))
    return draw_strips(strips, height, num_frames)


def named_masks(texts: Sequence[str]) -> list[Any]:
    """Masks by their names, or as a user wrote them in Python; with "all" each kind.

    Raises:
        ValueError: one is none.
    """
    known, found = {mask.__name__: mask for mask in MASKS if not hasattr(mask, "after_decoding")}, list[Any]()
    for text in texts:
        if text.lower() == "all":
            found += [mask for name, kind in known.items() for mask in _SHOWN.get(name, (kind(),))]
            continue
        written = next((f"{name}()" for name in known if name.lower() == text.lower()), text)
        try:
            found += dv.Recipe.parse(f"Recipe(ops=(), masks=({with_names(written, known)},))").masks
        except (SyntaxError, ValueError) as error:
            why = f"cannot read {text!r}" if isinstance(error, SyntaxError) else str(error)
            raise ValueError(f"--masks: {why}; masks are {', '.join(known)}, or all") from error
    return found
