"""TorchModule: a network, or any function on tensors, as an op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dali_vidaug.ops.check import are_numbers, check_choice, check_probability, make_plain
from dali_vidaug.ops.mix import partners
from dali_vidaug.ops.ramp import RAMPS, draw_strengths
from dali_vidaug.ops.registry import check_module_name, fingerprint_of
from dali_vidaug.rng import Draws

NOISE_MAX = 1 << 16  # numbers for each clip, which plans have
_GIVEN = ("partners", "labels", "noise")  # what a module gets by these names
_CALLS = ("clip", "frame", "batch")


@dataclass(frozen=True)
class TorchModule:
    """Call a network, or any function on tensors, which ``register_module`` has given a name.

    It is called without gradients, where the clips are, as ``module(clips, **drawn)``, and returns a tensor like
    ``clips``. Everything random about it is drawn, so that plans can be replayed.

    Attributes:
        name: of the module. It is the name of the op in the recipe, too.
        per: what a call gets. "clip": a clip, (1, 3, F, H, W); "frame": the frames of a clip, (F, 3, H, W); "batch":
            all clips of the batch to which it is applied, (B, 3, F, H, W), which must be of one size. With "batch" a
            clip may depend on the others of its batch.
        dtype: "float32", values in [0, 1], rounded and clamped when they become bytes again; or "uint8".
        arguments: for each argument that is drawn its name and its range: (("strength", 0.0, 1.0),). The module gets
            it as keyword argument ``strength``, (B, F) float32, uniform in [low, high): a value for each frame.
        noise: how many standard normal numbers are drawn for each clip: ``noise``, (B, noise) float32.
        partner: the module gets another clip of the batch for each clip, as mixing does: ``partners``, like ``clips``.
            A batch of one clip is not changed.
        num_classes: where it is not 0, a class is drawn for each clip: ``labels``, (B,) int64 in [0, num_classes). The
            label of the clip becomes this class: for modules that make clips of a class.
        ramp: how the arguments change during the clip: "constant" or another of ``ramp.draw_ramps``, each within
            [0, high].
        probability: that the module is applied to a clip.
        moves_pixels: False says that every pixel stays in its place, as in a change of style. Otherwise it is not known
            where boxes go, and a recipe with the module is refused where there are any.

    With ``per="frame"``, F stands in place of B and (F,) in place of (B, F) in all of these.

    Raises:
        ValueError: an option is out of range.
    """

    name: str
    per: str = "clip"
    dtype: str = "float32"
    arguments: tuple[tuple[str, float, float], ...] = ()
    noise: int = 0
    partner: bool = False
    num_classes: int = 0
    ramp: str = "constant"
    probability: float = 1.0
    moves_pixels: bool = True

    of_batch = True

    def __post_init__(self):
        make_plain(self, "arguments", "noise", "num_classes", "probability")
        check_module_name("TorchModule", "name", self.name)
        check_choice("TorchModule", "per", self.per, _CALLS)
        check_choice("TorchModule", "dtype", self.dtype, ("float32", "uint8"))
        check_choice("TorchModule", "ramp", self.ramp, RAMPS)
        _check_arguments(self.arguments, self.ramp)
        for field, most in (("noise", NOISE_MAX), ("num_classes", 1 << 24)):
            value = getattr(self, field)
            if isinstance(value, bool) or not (isinstance(value, int) and 0 <= value <= most):
                raise ValueError(f"TorchModule: {field} must be an int in [0, {most}], got {value!r}")
        for field in ("partner", "moves_pixels"):
            if not isinstance(getattr(self, field), bool):
                raise ValueError(f"TorchModule: {field} must be True or False, got {getattr(self, field)!r}")
        check_probability("TorchModule", self.probability)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) of dtype ``row_dtype(F)``, F the longest clip's."""
        frames = np.broadcast_to(np.asarray(frames, np.int64), len(draws))
        rows = np.zeros(len(draws), self.row_dtype(int(frames.max(initial=1))))
        rows["num_values"] = frames.max(initial=1)
        rows["applied"] = draws.uniform("apply") < self.probability
        if self.partner:
            rows["partner"] = partners(draws)
            rows["applied"] *= len(draws) > 1
        if self.num_classes:
            rows["label"] = draws.integers("label", self.num_classes)
        if self.noise:
            rows["noise"] = _normal(draws, self.noise)
        for k, (name, low, high) in enumerate(self.arguments):
            purpose = f"argument.{name}"
            if self.ramp == "constant":
                rows["value"][:, k] = draws.uniform(purpose, low, high)[:, None]
            else:
                own = draws.named(f"{draws.prefix}.{name}")  # each argument ramps by itself
                rows["value"][:, k] = draw_strengths(own, purpose, (low, high), self.ramp, frames)
        return rows

    def row_dtype(self, frames: int) -> np.dtype:
        """The dtype of a row, for clips of up to ``frames`` frames."""
        fields: list[tuple] = [("num_values", "i4"), ("applied", "i4")]
        fields += [("partner", "i4")] * self.partner + [("label", "i4")] * bool(self.num_classes)
        fields += [("noise", "f4", (self.noise,))] * bool(self.noise)
        fields += [("value", "f4", (len(self.arguments), frames))] * bool(self.arguments)
        return np.dtype(fields)

    @property
    def run(self) -> Any:
        """The module on arrays. Whoever keeps this keeps the module that is registered at the first call."""
        return _Call(self)

    def fingerprint(self) -> str:
        """The module and its weights, as text; a ``ValueError`` where the module is not registered."""
        return fingerprint_of("TorchModule", self.name)

    def check(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> None:
        """Refuse arguments, such as those of an edited plan, that the module cannot be given."""
        most, names = int(frames.max(initial=1)), args.dtype.names or ()
        count = args["num_values"][0] if "num_values" in names and len(args) else most
        if args.dtype != self.row_dtype(int(count)) or count < most or (args["num_values"] != count).any():
            raise ValueError(f"TorchModule: arguments must be {self.row_dtype(most)}, got {args.dtype}")
        for field, limit in (("partner", len(args)), ("label", self.num_classes)):
            if field in names and not ((args[field] >= 0) & (args[field] < limit)).all():
                i = int((~((args[field] >= 0) & (args[field] < limit))).argmax())
                raise ValueError(f"TorchModule: {field} of row {i} must be in [0, {limit}), got {args[field][i]}")
        for field in ("noise", "value"):
            if field in names and not np.isfinite(args[field]).all():
                i = int((~np.isfinite(args[field].reshape(len(args), -1)).all(1)).argmax())
                raise ValueError(f"TorchModule: {field} of row {i} must be finite, got {args[field][i]}")
        sizes = np.unique(np.stack([frames, height, width], 1)[args["applied"] != 0], axis=0)
        if self.per == "batch" and len(sizes) > 1:
            one, other = ("x".join(map(str, size)) for size in sizes[[0, -1]].tolist())
            raise ValueError(
                f"TorchModule: with per='batch' the clips of a batch must be of one size, got {one} and {other} "
                "(frames x height x width); put RandomResizedCrop, CenterCrop or Resize((height, width)) before it"
            )

    @property
    def targets(self) -> Any:
        """With ``num_classes``: a method that gives the class that was drawn where the module is applied."""
        if not self.num_classes:
            raise AttributeError("TorchModule without num_classes changes no labels")
        return self._drawn_classes

    def _drawn_classes(self, args: np.ndarray, targets: np.ndarray) -> np.ndarray:
        if not targets.shape[1]:
            return targets
        if targets.shape[1] != self.num_classes:
            raise ValueError(
                f"TorchModule: num_classes must be that of the labels, {targets.shape[1]}, got {self.num_classes}"
            )
        made = np.eye(self.num_classes, dtype=np.float32)[args["label"]]
        return np.where(args["applied"][:, None] != 0, made, targets).astype(np.float32)

    def describe(self, row: Any) -> list[str]:
        """A row as lines of text."""
        if not row["applied"]:
            return ["not applied"]
        lines = []
        for k, (name, *_) in enumerate(self.arguments):
            values = row["value"][k]
            lines.append(f"{name} {' '.join(f'{v:.4g}' for v in (values[:1] if np.ptp(values) == 0 else values))}")
        if self.num_classes:
            lines.append(f"class {row['label']}")
        if self.partner:
            lines.append(f"partner: clip {row['partner']} of the batch")
        return lines or ["applied"]

    def applied(self, args: np.ndarray) -> np.ndarray:
        """(B,) bool: the module gets the clip."""
        return args["applied"] != 0


class _Call:
    """``run`` of an op: looks its module up once, when it is first called. Plans are drawn without torch."""

    def __init__(self, op):
        self._op, self._module = op, None

    def __call__(self, clips, rows, num_threads=None):
        from dali_vidaug.ops.module_call import Module, run_module

        self._module = self._module or Module("TorchModule", self._op.name)
        return run_module(self._op, self._module, clips, rows, num_threads or 1)


def _check_arguments(arguments, ramp):
    """Each has a name of its own, and a range."""
    named = isinstance(arguments, tuple) and all(isinstance(one, tuple) and len(one) == 3 for one in arguments)
    if not named:
        raise ValueError(f"TorchModule: arguments must be (name, low, high), ..., got {arguments!r}")
    seen: set[object] = set(_GIVEN)
    for name, *limits in arguments:
        check_module_name("TorchModule", "names of arguments", name)
        if name in seen:
            raise ValueError(f"TorchModule: names of arguments must differ, also from {', '.join(_GIVEN)}, got {name}")
        seen.add(name)
        least = -3e38 if ramp == "constant" else 0
        if not (are_numbers(limits, 2, least, 3e38) and limits[0] <= limits[1]):
            why = "" if ramp == "constant" else ", not below 0 with a ramp"
            raise ValueError(f"TorchModule: argument {name} must have low <= high, finite{why}, got {tuple(limits)}")


def _normal(draws, count):
    """(B, count) standard normal numbers, by Box and Muller's way."""
    radius = np.sqrt(-2 * np.log(1 - draws.uniform("noise.radius", n=count)))
    return radius * np.cos(2 * np.pi * draws.uniform("noise.angle", n=count))
