"""Mixing clips of a batch: the cut, mix-up and cut-mix-up families, in space and time, and VideoMix.

Cuts of frames and of cubes, fades: Kim et al., "Learning Temporally Invariant and Localizable Features via Data
Augmentation for Video Recognition" (2020). CutMix: Yun et al. (ICCV 2019), over video as VideoMix: Yun et al. (2020).
MixUp: Zhang et al. (ICLR 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from dali_vidaug.ops import blend
from dali_vidaug.ops.blend import BLEND, exact, new_rows
from dali_vidaug.ops.check import check_choice, check_probability, is_number
from dali_vidaug.rng import Draws

_CUTS = {  # the power of the box's share that gives its length and its sides; None: as long or wide as the clip
    "CutMix": (None, 1 / 2), "FrameCutMix": (1, None), "CubeCutMix": (1 / 3, 1 / 3), "MovingCutMix": (None, 1 / 2),
    "CutMixUp": (None, 1 / 2), "FrameCutMixUp": (1, None), "CubeCutMixUp": (1 / 3, 1 / 3),
}  # fmt: skip
FAMILIES = (*_CUTS, "MixUp", "FadeMixUp")
_SPELLINGS = {name.lower(): name for name in FAMILIES} | {  # the paper's released code has these
    "framemix": "FrameCutMix", "cubemix": "CubeCutMix", "framemixup": "FrameCutMixUp", "cubemixup": "CubeCutMixUp",
}  # fmt: skip
_MIXUP_ALPHA = 2.0  # of the weight of CutMixUp and its relatives
_TABLE = 8192


@dataclass(frozen=True)
class Mix:
    """Blend another clip of the batch over each clip: one of the mixing families, by name.

    Each clip has a partner. The partners of a batch form one random cycle, so that no clip is its own partner when
    there are two clips or more; a batch of one clip is not mixed. With s the share of the partner, 1 - s ~ Beta(alpha,
    alpha):

    - "CutMix": a box with sides sqrt(s) of the frame's, in all frames. "MovingCutMix": its centre moves evenly from one
      random position to another.
    - "FrameCutMix": s of the frames. "CubeCutMix": a box with sides s^(1/3) of the clip's, in time too.
    - "MixUp": the whole clip, with the weight s. "FadeMixUp": with a weight that changes evenly from s - d to s + d,
      |d| ~ U[0, min(s, 1 - s)), either sign.
    - "CutMixUp", "FrameCutMixUp", "CubeCutMixUp": the whole clip, with a weight w ~ Beta(2, 2); with probability 1/2
      also a box as above, which shows only the clip whose weight outside of it is smaller.

    The centre of a box is uniform over the clip; the part of the box outside the clip is cut off. Labels are mixed by
    the voxels and weights that result, not by s. All clips of a batch must be of one size.

    What is drawn for a clip depends on its own address alone, except for the partner, which depends on the batch.

    Attributes:
        family: one of the above, in upper or lower case; "framemix", "cubemix", "framemixup" and "cubemixup" are other
            names of FrameCutMix, CubeCutMix, FrameCutMixUp and CubeCutMixUp.
        alpha: in (0, 1000]; 1: all shares are equally likely.
        probability: that a clip is mixed.
        granularity: "clip": share, box and whether to mix are drawn for each clip; "batch": once for the batch, as in
            the papers' code.

    Raises:
        ValueError: an option is out of range.
    """

    family: str = "CubeCutMix"
    alpha: float = 1.0
    probability: float = 1.0
    granularity: str = "clip"

    ARGS = BLEND
    blends = True
    run, check, describe, applied = blend.run, blend.check, blend.describe, blend.applied
    targets, mixed_with, partner_share = blend.targets, blend.mixed_with, blend.partner_share
    moves_pixels = False

    def __post_init__(self):
        family = _SPELLINGS.get(str(self.family).lower())
        if family is None:
            raise ValueError(f"Mix: family must be one of {', '.join(FAMILIES)}, got {self.family!r}")
        object.__setattr__(self, "family", family)
        if not (is_number(self.alpha, 0, 1000) and self.alpha > 0):
            raise ValueError(f"{family}: alpha must be in (0, 1000], got {self.alpha!r}")
        check_probability(family, self.probability)
        check_choice(family, "granularity", self.granularity, ("clip", "batch"))

    @property
    def name(self) -> str:
        """What the op is called in a recipe: the family."""
        return self.family

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) BLEND.

        Raises:
            ValueError: the clips are not of one size.
        """
        rows = new_rows(len(draws), frames, height, width)
        sizes = np.unique(rows[["frames", "height", "width"]])
        if len(sizes) > 1:
            (f, h, w), (f2, h2, w2) = sizes[0].item(), sizes[-1].item()
            raise ValueError(
                f"{self.family}: the clips of a batch must be of one size, got {f}x{h}x{w} and {f2}x{h2}x{w2} (frames "
                "x height x width); put RandomResizedCrop, CenterCrop or Resize((height, width)) before it"
            )
        common = draws if self.granularity == "clip" else draws.of_batch()
        own = beta(common.uniform("own"), self.alpha)
        if self.family in _CUTS:
            cut(rows, self.family, own, common)
        if self.family.endswith("MixUp"):
            mix_up(rows, self.family, own, common)
        rows["partner"] = partners(draws)
        applied = (common.uniform("apply") < self.probability) & (len(draws) > 1)
        for name in ("inside", "outside"):
            rows[name][~np.broadcast_to(applied, len(draws))] = 0
        return rows


def partners(draws: Draws) -> np.ndarray:
    """(B,) int64: positions in the batch, a random one of the cycles through all of it."""
    order = draws.of_batch().words("partner", len(draws))[0].argsort(kind="stable")
    partner = np.empty(len(draws), np.int64)
    partner[order] = np.roll(order, -1)
    return partner


@cache
def _beta_table(alpha):
    """The lower half of Beta(alpha, alpha)'s distribution: values of x^min(alpha, 1), where its density is finite."""
    power = min(alpha, 1.0)
    t = np.linspace(0, 0.5**power, _TABLE + 1)
    x = t ** (1 / power)
    density = (4 * (1 - x) * (x if alpha > 1 else 1)) ** (alpha - 1)  # of t, up to a factor
    mass = np.append(0.0, np.cumsum(density[1:] + density[:-1]))
    return t, 0.5 * mass / mass[-1], 1 / power


def beta(uniform: np.ndarray, alpha: float) -> np.ndarray:
    """Beta(alpha, alpha) from uniform numbers: the inverse of its distribution function, to about five digits."""
    t, mass, power = _beta_table(float(alpha))
    low = np.interp(np.minimum(uniform, 1 - uniform), mass, t) ** power
    return np.where(uniform < 0.5, low, 1 - low)


def _span(draws, purpose, length, ratio, num_ends=1):
    """[low, high) of a box along an axis: (B, num_ends) each. The centre is uniform, the part outside is cut off."""
    half = (length * ratio).astype(np.int64)[:, None] // 2
    centre = draws.integers(purpose, length, n=num_ends)
    return np.maximum(centre - half, 0), np.minimum(centre + half, length)


def cut(rows: np.ndarray, family: str, own: np.ndarray, draws: Draws) -> None:
    """Set the box of rows, which shows the partner; definition: Kim et al.'s code.

    Args:
        rows: (B,) BLEND, changed.
        family: a cut family.
        own: (B,) or (1,), share of the clip itself, [0, 1].
        draws: of length B or 1.
    """
    in_time, in_space = _CUTS[family]
    share = 1 - np.asarray(own, np.float64)
    frames, height, width = (int(rows[name][0]) for name in ("frames", "height", "width"))
    ends = 2 if family == "MovingCutMix" else 1
    if in_time:
        first, last = _span(draws, "frame", frames, share**in_time)
        rows["first"], rows["last"] = first[:, 0], last[:, 0]
    if in_space:
        rows["top"], rows["bottom"] = _span(draws, "row", height, share**in_space, ends)
        rows["left"], rows["right"] = _span(draws, "column", width, share**in_space, ends)
    rows["inside"] = 1


def mix_up(rows: np.ndarray, family: str, own: np.ndarray, draws: Draws) -> None:
    """Set the weights of rows for families that blend. Arguments as in ``cut``, which has set the box, if any."""
    own = np.asarray(own, np.float64)
    if family in _CUTS:
        # In the box: the partner if the clip has the larger weight outside, else the clip.
        drawn = beta(draws.uniform("mixup"), _MIXUP_ALPHA)  # compared before it is rounded, as the paper's code does
        with_box = draws.uniform("box") < 0.5
        outside = 1 - exact(drawn)
        inside = np.where(with_box, drawn >= 0.5, outside)
        rows["outside"], rows["inside"] = outside[:, None], inside[:, None]
        return
    if family == "FadeMixUp":
        change = np.minimum(own, 1 - own) * draws.uniform("fade") * (1 - 2 * draws.integers("sign", 2))
        own = np.stack([own - change, own + change], 1) if rows["frames"][0] > 1 else own[:, None]
    else:
        own = own[:, None]
    rows["inside"] = rows["outside"] = exact(1 - own)


def CutMix(alpha: float = 1.0, probability: float = 1.0, granularity: str = "clip") -> Mix:
    """A box of each frame from another clip: ``Mix("CutMix")``."""
    return Mix("CutMix", alpha, probability, granularity)


def MovingCutMix(alpha: float = 1.0, probability: float = 1.0, granularity: str = "clip") -> Mix:
    """CutMix with a box that moves evenly from one position to another: ``Mix("MovingCutMix")``."""
    return Mix("MovingCutMix", alpha, probability, granularity)


def FrameCutMix(alpha: float = 1.0, probability: float = 1.0, granularity: str = "clip") -> Mix:
    """Consecutive frames from another clip: ``Mix("FrameCutMix")``."""
    return Mix("FrameCutMix", alpha, probability, granularity)


def CubeCutMix(alpha: float = 1.0, probability: float = 1.0, granularity: str = "clip") -> Mix:
    """A box in consecutive frames from another clip: ``Mix("CubeCutMix")``."""
    return Mix("CubeCutMix", alpha, probability, granularity)


def MixUp(alpha: float = 1.0, probability: float = 1.0, granularity: str = "clip") -> Mix:
    """The weighted mean with another clip: ``Mix("MixUp")``."""
    return Mix("MixUp", alpha, probability, granularity)


def FadeMixUp(alpha: float = 1.0, probability: float = 1.0, granularity: str = "clip") -> Mix:
    """MixUp with a weight that changes evenly during the clip: ``Mix("FadeMixUp")``."""
    return Mix("FadeMixUp", alpha, probability, granularity)


def CutMixUp(alpha: float = 1.0, probability: float = 1.0, granularity: str = "clip") -> Mix:
    """MixUp, with probability 1/2 with a box that shows only one of the clips: ``Mix("CutMixUp")``."""
    return Mix("CutMixUp", alpha, probability, granularity)


def FrameCutMixUp(alpha: float = 1.0, probability: float = 1.0, granularity: str = "clip") -> Mix:
    """MixUp, with probability 1/2 with frames that show only one of the clips: ``Mix("FrameCutMixUp")``."""
    return Mix("FrameCutMixUp", alpha, probability, granularity)


def CubeCutMixUp(alpha: float = 1.0, probability: float = 1.0, granularity: str = "clip") -> Mix:
    """MixUp, with probability 1/2 with a box in some frames that shows only one clip: ``Mix("CubeCutMixUp")``."""
    return Mix("CubeCutMixUp", alpha, probability, granularity)


def VideoMix(mode: str = "S", alpha: float = 1.0, probability: float = 1.0, granularity: str = "clip") -> Mix:
    """VideoMix (Yun et al. 2020): cut in space "S" (CutMix), time "T" (FrameCutMix), or both "ST" (CubeCutMix)."""
    families = {"S": "CutMix", "T": "FrameCutMix", "ST": "CubeCutMix"}
    if mode not in families:
        raise ValueError(f"VideoMix: mode must be 'S', 'T' or 'ST', got {mode!r}")
    return Mix(families[mode], alpha, probability, granularity)
