"""RandAugment-T: RandAugment (Cubuk et al. 2020) with magnitudes that change during the clip.

Ramps: Kim et al., "Learning Temporally Invariant and Localizable Features via Data Augmentation for Video Recognition"
(2020), and DynaAugment (Kim et al., ICLR 2023). A clip's row of the plan holds the ops in order and, for each, its
strength in every frame, in physical units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dali_vidaug import geometry
from dali_vidaug.kernels import launch
from dali_vidaug.ops.check import are_numbers, check_choice, check_color, check_probability, is_number
from dali_vidaug.ops.operator import check_frame_values, frames_of
from dali_vidaug.ops.ramp import RAMPS, draw_ramps, position
from dali_vidaug.ops.suites import CODES, NAMES, RANGES, SUITES, UNITS, WHOLE, WITHOUT_VALUE
from dali_vidaug.rng import Draws

MAX_OPS = 8
FRAME_BYTES = 4696  # of struct RandaugmentFrame
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


def args_dtype(num_ops: int, frames: int) -> np.dtype:
    """The dtype of a row: ``num_ops`` ops, a value of each for ``frames`` frames. Zeros do not change the clip."""
    return np.dtype(
        [  # the same as struct RandaugmentArgs
            ("op", "u1", MAX_OPS),  # CODES, in order; Identity is 0
            ("fill", "u1", 3),
            ("bilinear", "u1"),  # position in INTERPOLATIONS
            ("per_clip", "u1"),
            ("reserved", "u1", 3),
            ("num_values", "i4"),
            ("value", "f4", (num_ops, frames)),  # by op: bits, degrees, pixels, a factor, ... (UNITS)
        ]
    )


def randaugment(clips: Sequence[Any], rows: Any, num_ops: int, num_threads: int | None = None) -> list[Any]:
    """Apply rows of the plan to clips.

    Args:
        clips: B arrays (F, H, W, 3) uint8, NumPy or CuPy.
        rows: (B,) of dtype ``args_dtype(num_ops, frames)``, or B arrays of their bytes, on the device of the clips.
            ``frames`` is at least the longest clip's F.
        num_ops: ops for each clip.
        num_threads: as in ``kernels.launch``.

    Returns:
        B new arrays.
    """
    if not len(clips):
        return []
    frames = frames_of("RandAugmentT", rows, partial(args_dtype, num_ops), clips)
    return launch(
        "randaugment", clips, rows, args_dtype(num_ops, frames),
        entries=("randaugment_count", "randaugment_prepare", "randaugment_pixels"), passes=num_ops,
        work_bytes=lambda frames, height, width: frames * (FRAME_BYTES + (height * width * 3 if num_ops > 1 else 0)),
        num_threads=num_threads,
    )  # fmt: skip


def op_matrices(codes: np.ndarray, values: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
    """The matrices of one op of each clip, from output to input pixels; of ops that move no pixels, the identity.

    Args:
        codes: (B,) of ``CODES``.
        values: (B, F), of the op in each frame.
        height, width: (B,) or numbers, of the frames.

    Returns:
        (B, F, 3, 3) float64: what ``make_matrix`` of kernels/randaugment_tables.h makes, before it is made fixed-point.
    """
    height, width = (np.broadcast_to(np.asarray(n), len(codes))[:, None] for n in (height, width))
    v = values.astype(np.float64)
    one, turned = np.broadcast_to(np.eye(3), (*v.shape, 3, 3)), geometry.rotation(v, height, width)
    made = {
        "Rotate": turned,
        "ShearX": geometry.matrix_of(1, v, 0, 0, 1, 0),
        "ShearY": geometry.matrix_of(1, 0, 0, v, 1, 0),
        "TranslateX": geometry.translation(v, 0),
        "TranslateY": geometry.translation(0, v),
    }
    names = np.array(CODES)[codes]
    return np.select([(names == name)[:, None, None, None] for name in made], list(made.values()), one)


@dataclass(frozen=True)
class RandAugmentT:
    """Apply ``num_ops`` ops, drawn uniformly and with replacement, each with a magnitude that may ramp over the frames.

    The sign of a rotation, shear, translation or enhancement is drawn once for each op of a clip: no ramp crosses zero.
    Ends of a ramp that lie outside the suite's magnitudes are clipped.

    Attributes:
        num_ops: ops for each clip, [1, 8].
        magnitude: the strength, or (low, high) to draw it uniformly for each op and clip; in [0, 10] for the suites
            "monotonic", "wide" and "timm", in [0, 30] for the others. None: 5 for "kim2020", 20 for "scenic", else 9.
        magnitude_std: standard deviation of (nearly normal) noise on the magnitude, for each op and clip. None: 0.5
            for magnitudes in [0, 10], else 0.
        probability: that an op is applied, for each op and clip.
        ramp: "constant", "temporal", "temporal+", "mix" (Kim et al.) or "fourier" (DynaAugment); see
            ``ramp.draw_ramps``.
        ops: names of the ops to draw from; None: all of the suite. An op named twice is drawn twice as often.
        suite: the ranges of the values: "monotonic" (magnitude 0 changes no pixel), "kim2020" (ops, ranges, magnitude
            and resampling of the paper's code), "wide" (TrivialAugment's) or "torchvision" (v2.RandAugment's).
        statistics: whether AutoContrast, Equalize and Contrast measure each "frame" by itself, which may flicker, or
            the whole "clip". None: "frame" for "kim2020" and "torchvision", else "clip".
        interpolation: of the geometric ops, "nearest" or "bilinear". None: "nearest" for "kim2020" and "torchvision",
            else "bilinear".
        fill: R, G, B in [0, 255], for pixels that a geometric op moves in from outside the frame. None: black for
            "kim2020" and "torchvision", else grey (128).

    Raises:
        ValueError: an option is out of range.
    """

    num_ops: int = 2
    magnitude: float | tuple[float, float] | None = None
    magnitude_std: float | None = None
    probability: float = 1.0
    ramp: str = "temporal+"
    ops: tuple[str, ...] | None = None
    suite: str = "monotonic"
    statistics: str | None = None
    interpolation: str | None = None
    fill: tuple[int, int, int] | None = None

    def __post_init__(self):
        for field, known in (
            ("suite", tuple(SUITES)), ("ramp", RAMPS), ("statistics", (None, "clip", "frame")),
            ("interpolation", (None, *INTERPOLATIONS)),
        ):  # fmt: skip
            check_choice("RandAugmentT", field, getattr(self, field), known)
        if not (isinstance(self.num_ops, int) and 1 <= self.num_ops <= MAX_OPS):
            raise ValueError(f"RandAugmentT: num_ops must be in [1, {MAX_OPS}], got {self.num_ops!r}")
        highest, magnitude = SUITES[self.suite].highest, self.magnitude
        if isinstance(magnitude, tuple):
            if not (are_numbers(magnitude, 2, 0, highest) and magnitude[0] <= magnitude[1]):
                raise ValueError(f"RandAugmentT: magnitude must be 0 <= low <= high <= {highest}, got {magnitude}")
        elif magnitude is not None and not is_number(magnitude, 0, highest):
            raise ValueError(f"RandAugmentT: magnitude must be in [0, {highest}], got {magnitude!r}")
        if self.magnitude_std is not None and not is_number(self.magnitude_std, 0, highest):
            raise ValueError(f"RandAugmentT: magnitude_std must be in [0, {highest}], got {self.magnitude_std!r}")
        check_probability("RandAugmentT", self.probability)
        if self.ops is not None:
            names = tuple(self.ops) if isinstance(self.ops, (tuple, list)) else (self.ops,)
            unknown = [name for name in names if not (isinstance(name, str) and name in NAMES)]
            if unknown or not isinstance(self.ops, (tuple, list)) or not names:
                every = ", ".join(NAMES)
                raise ValueError(f"RandAugmentT: ops must be some of {every}, got {unknown or self.ops!r}")
            object.__setattr__(self, "ops", names)
        if self.fill is not None:
            check_color("RandAugmentT", "fill", self.fill, highest=255)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) of dtype ``args_dtype(num_ops, F)``, F the longest clip's. A clip's ramps end at its own last frame."""
        suite, num_ops = SUITES[self.suite], self.num_ops
        pool = self.ops or suite.ops
        frames, height, width = (np.broadcast_to(np.asarray(n, np.int64), len(draws)) for n in (frames, height, width))
        num_frames = int(frames.max())
        mean = suite.magnitude if self.magnitude is None else self.magnitude
        std = suite.magnitude_std if self.magnitude_std is None else self.magnitude_std
        if isinstance(mean, tuple):
            magnitude = draws.uniform("magnitude", *mean, n=num_ops)
        else:
            # The sum of twelve uniform numbers has variance 1 and is the same on every machine, unlike a logarithm.
            noise = draws.uniform("noise", n=12 * num_ops).reshape(-1, num_ops, 12).sum(-1) - 6
            magnitude = np.clip(mean + std * noise, 0, suite.highest)
        magnitude = draw_ramps(draws, self.ramp, magnitude, suite.highest, frames, num_frames)
        choice = draws.integers("op", len(pool), n=num_ops)
        sign = 1 - 2 * draws.integers("sign", 2, n=num_ops)[..., None]
        applied = draws.uniform("apply", n=num_ops) < self.probability

        args = np.zeros(len(draws), args_dtype(num_ops, num_frames))
        for i, name in enumerate(pool):
            chosen = (choice == i) & applied
            args["op"][:, :num_ops][chosen] = CODES.index(name.removesuffix("Abs"))
            if name in WITHOUT_VALUE:
                continue
            low, high, signed = RANGES[self.suite][name]
            values = low + (high - low) * (magnitude / suite.highest) * (sign if signed else 1)
            if name in ("TranslateX", "TranslateY"):
                values *= (width if name == "TranslateX" else height)[:, None, None]
            if name == "Posterize" and self.suite == "kim2020":
                values = self._bits(values, frames, num_frames)
            elif name in WHOLE[self.suite]:
                values = WHOLE[self.suite][name](values)
            args["value"][chosen] = values[chosen]
        args["fill"] = self.fill or suite.fill
        args["bilinear"] = INTERPOLATIONS.index(self.interpolation or suite.interpolation)
        args["per_clip"] = (self.statistics or suite.statistics) == "clip"
        args["num_values"] = num_frames
        return args

    def _bits(self, values, frames, num_frames):
        """Whole bits of Kim et al., who truncate both ends of a ramp to at least 1, and round down between them."""
        bits = np.maximum(np.trunc(values), 1)
        if self.ramp == "fourier":
            return bits
        first, last = bits[..., :1], bits[..., -1:]
        return np.floor(first + (last - first) * position(frames, num_frames)[:, None] + 1e-9)

    def run(self, clips: Sequence[Any], rows: Any, num_threads: int | None = None) -> list[Any]:
        """``randaugment`` with the op's number of ops."""
        return randaugment(clips, rows, self.num_ops, num_threads)

    def check(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> None:
        """Refuse arguments, such as those of an edited plan, for which the kernel would read past the end of a row."""
        what = f"{self.num_ops} ops with values for"
        check_frame_values("RandAugmentT", "value", what, args, frames, partial(args_dtype, self.num_ops))
        for i, row in enumerate(args):
            if row["op"][self.num_ops :].any() or row["op"].max() >= len(CODES):
                codes = row["op"].tolist()
                raise ValueError(
                    f"RandAugmentT: row {i} must have {self.num_ops} ops, [0, {len(CODES)}), then 0, got {codes}"
                )
        if not np.isfinite(args["value"]).all():
            raise ValueError("RandAugmentT: values must be finite")

    def matrices(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B, F, 3, 3) float64: those of the ops one after the other, as the kernel makes them."""
        product = np.broadcast_to(np.eye(3), (len(args), int(np.max(frames, initial=1)), 3, 3))
        for one in self.matrix_steps(args, frames, height, width):
            product = product @ one
        return product

    def matrix_steps(
        self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray
    ) -> list[np.ndarray]:
        """For each op (B, F, 3, 3) float64."""
        count = int(np.max(frames, initial=1))
        ops = range(args["value"].shape[1])
        return [op_matrices(args["op"][:, i], args["value"][:, i, :count], height, width) for i in ops]

    def describe(self, row: np.void) -> list[str]:
        """A line for each op of a row: its name and value, frame by frame where it changes."""
        lines = []
        for code, values in zip(row["op"], row["value"], strict=False):
            name = CODES[code]
            text = " ".join(f"{v:.4g}" for v in (values[:1] if (values == values[0]).all() else values))
            lines.append(name if name in WITHOUT_VALUE else f"{name} {text} {UNITS.get(name, 'times')}")
        return lines


def RandAugment(
    num_ops: int = 2,
    magnitude: float | tuple[float, float] | None = None,
    magnitude_std: float | None = None,
    probability: float = 1.0,
    ops: tuple[str, ...] | None = None,
    suite: str = "monotonic",
    statistics: str | None = None,
    interpolation: str | None = None,
    fill: tuple[int, int, int] | None = None,
) -> RandAugmentT:
    """RandAugment, the same in every frame of a clip: a ``RandAugmentT`` with ``ramp="constant"``."""
    return RandAugmentT(
        num_ops, magnitude, magnitude_std, probability, "constant", ops, suite, statistics, interpolation, fill
    )


def TrivialAugment(
    ramp: str = "constant",
    ops: tuple[str, ...] | None = None,
    statistics: str | None = None,
    interpolation: str | None = None,
    fill: tuple[int, int, int] | None = None,
) -> RandAugmentT:
    """TrivialAugment, "wide": a ``RandAugmentT`` with one op, its magnitude uniform over the whole range; any ramp."""
    highest = float(SUITES["wide"].highest)
    return RandAugmentT(1, (0.0, highest), 0.0, 1.0, ramp, ops, "wide", statistics, interpolation, fill)
