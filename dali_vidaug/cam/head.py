"""Finds, in a network, the features that are pooled over all places, and the linear layers after the pool.

Nothing is known of the network but its modules: what goes into them and comes out of them is compared by value. So it
does not matter how its layers are called, or whether it pools by a module or by ``mean``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

CALLER = "cam.activation"
_NEEDS = "a class activation map needs a mean or maximum over all places, and after it only linear layers"


class Call(NamedTuple):
    """A call of a module while the network ran.

    Attributes:
        key: name of the module, and how often it had been called before.
        module: the module.
        taken, given: the first tensor that went in, and that came out; or None.
    """

    key: tuple[str, int]
    module: nn.Module
    taken: Tensor | None
    given: Tensor | None

    def __str__(self) -> str:
        return f"{type(self.module).__name__} {self.key[0]!r}" if self.key[0] else type(self.module).__name__


class Head(NamedTuple):
    """Where a network pools, and what follows.

    Attributes:
        linear: calls from the classifier down to the pool: linear layers, and normalisations after the pool.
        features: the call whose tensor is pooled.
        side: which of its tensors: "taken" or "given".
        channels_last: whether the channels are the last axis, else the second.
        grid: (T, H, W), the places of the features.
        pool: "mean", "max" or, over windows, "windows".
    """

    linear: tuple[tuple[str, int], ...]
    features: tuple[str, int]
    side: str
    channels_last: bool
    grid: tuple[int, int, int]
    pool: str


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout, no statistics of the batch; afterwards the modules train again that did before."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def run(model: nn.Module, clips: Any, wanted: Collection[tuple[str, int]] | None = None) -> tuple[Tensor, list[Call]]:
    """Run a network, and keep what its modules are called with.

    Args:
        model: the network.
        clips: its input.
        wanted: the calls that are kept; default: all.

    Returns:
        The scores, (B, K), and the calls, in the order in which they ended.

    Raises:
        ValueError: the network returns something else.
    """
    calls: list[Call] = []
    count: Counter[str] = Counter()

    def keep(name, module, args, kwargs, output):
        key = name, count[name]
        count[name] += 1
        if wanted is None or key in wanted:
            calls.append(Call(key, module, _first_tensor((*args, *kwargs.values())), _first_tensor(output)))

    hooks = [
        module.register_forward_hook(lambda *call, name=name: keep(name, *call), with_kwargs=True)
        for name, module in model.named_modules()
    ]
    try:
        output = model(clips)
    finally:
        for hook in hooks:
            hook.remove()
    scores = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        what = f"a tensor {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(output).__name__
        raise ValueError(f"{CALLER}: the model must return (B, K) scores of classes, got {what}")
    return scores, calls


def _first_tensor(found):
    """The first tensor in what a module takes or returns."""
    if isinstance(found, dict):
        found = tuple(found.values())
    if isinstance(found, (tuple, list)):
        return next((tensor for tensor in map(_first_tensor, found) if tensor is not None), None)
    return found if isinstance(found, Tensor) else None


def find_head(scores: Tensor, calls: list[Call], name: str, grid: tuple[int, int, int] | None) -> Head:
    """Go back from the scores, through linear layers, to the features that are pooled.

    Args:
        scores, calls: what ``run`` returned for all calls.
        name: of the network, for errors.
        grid: (T, H, W) of tokens; None: found by the patch embedding.

    Raises:
        ValueError: there are no such features; the message says what there is.
    """
    linear: list[Call] = []
    vector = scores
    while True:
        head = _pooled(calls, vector, grid) if linear else None
        if head is not None:
            _check_linear(calls, head, name)
            return head._replace(linear=tuple(call.key for call in linear))
        below = _linear_call(calls, vector, bool(linear))
        if below is None or below.key in [call.key for call in linear]:
            raise ValueError(f"{CALLER}: {_refusal(calls, vector, linear, name)}")
        linear.append(below)
        vector = places_mean(below.taken, not isinstance(below.module, nn.Conv3d))


def _check_linear(calls, head, name):
    """No activation is called after the features: one that changes no value of a clip would not be seen by value."""
    at = next(k for k, call in enumerate(calls) if call.key == head.features)
    for call in calls[at + 1 :]:
        if type(call.module).__module__ == nn.ReLU.__module__:
            raise ValueError(f"{CALLER}: {_NEEDS}; in {name}, {call} comes after the features of {head.features[0]!r}")


def _linear_call(calls, vector, after_pool):
    """The last call whose output is ``vector``, of a module that is linear; or None."""
    for call in reversed(calls):
        module, taken, given = call.module, call.taken, call.given
        if taken is None or given is None:
            continue
        if isinstance(module, nn.Conv3d):
            fits = (
                module.kernel_size == module.stride == (1, 1, 1) and module.groups == 1 and module.padding == (0, 0, 0)
            )
        elif isinstance(module, nn.Linear):
            fits = taken.ndim >= 2
        else:  # of features before the pool these are no layers of the head
            normalises = isinstance(module, nn.LayerNorm) or getattr(module, "running_var", None) is not None
            fits = after_pool and taken.ndim == 2 and normalises and isinstance(module, (nn.LayerNorm, nn.BatchNorm1d))
        if fits and same(places_mean(given, not isinstance(module, nn.Conv3d)), vector, given):
            return call
    return None


def places_mean(tensor: Tensor, channels_last: bool) -> Tensor:
    """The mean over all axes but those of clips and channels: (B, C), float32 or more."""
    wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    return wide.reshape(len(wide), -1, wide.shape[-1]).mean(1) if channels_last else wide.flatten(2).mean(2)


def same(a: Tensor, b: Tensor, summed: Tensor) -> bool:
    """Whether two tensors have the same values, but for what rounding makes of a sum of values like ``summed``."""
    eps = max(torch.finfo(tensor.dtype).eps for tensor in (a, b, summed))
    return a.shape == b.shape and bool(((a - b).abs() <= 64 * eps * summed.abs().max()).all())


def _pooled(calls, vector, grid):
    """The features of which ``vector``, (B, C), is the mean or the largest values; None: there are none."""
    found: list[tuple[tuple[int, bool, int], Head, Tensor]] = []
    for order, call in enumerate(calls):
        for side in ("taken", "given"):
            tensor = getattr(call, side)
            if tensor is None or not tensor.is_floating_point() or tensor.ndim not in (3, 5):
                continue
            for channels_last in (False, True)[tensor.ndim == 3 :]:
                places = tensor.shape[1:-1] if channels_last else tensor.shape[2:]
                pool = _pool_between(call, side, tensor, channels_last, vector)
                if pool and places.numel() > 1:
                    head = Head((), call.key, side, channels_last, tuple(places), pool)
                    given = side == "given"  # by the last module; else taken by the first: all after it follow it
                    found.append(((places.numel(), given, order if given else -order), head, tensor))
    if not found:
        return None
    _, head, tensor = max(found, key=lambda item: item[0])
    return head._replace(grid=_grid_of(calls, tensor, head, grid))


def _pool_between(call, side, tensor, channels_last, vector):
    """How ``vector`` is pooled of a tensor: "mean", "max", "windows", or None."""
    if tensor.shape[-1 if channels_last else 1] != vector.shape[1] or not len(tensor):
        return None
    if same(places_mean(tensor, channels_last), vector, tensor):
        return "mean"
    largest = tensor.flatten(1, -2).amax(1) if channels_last else tensor.flatten(2).amax(2)
    if same(largest, vector, tensor):
        return "max"
    windows = isinstance(call.module, nn.AvgPool3d) and side == "taken" and not channels_last
    return "windows" if windows and same(places_mean(call.given, False), vector, tensor) else None


def _grid_of(calls, tensor, head, grid):
    """(T, H, W) of features: of tokens as it is given, or by a patch embedding whose places these tokens are."""
    if tensor.ndim == 5:
        if grid is not None and tuple(grid) != head.grid:
            raise ValueError(
                f"{CALLER}: grid is {tuple(grid)}, but the features of {head.features[0]!r} are {head.grid}"
            )
        return head.grid
    (count,) = head.grid
    if grid is not None:
        if len(grid) != 3 or math.prod(grid) != count:
            raise ValueError(f"{CALLER}: grid must be (T, H, W) of the {count} tokens, got {grid!r}")
        return tuple(grid)
    tokens = [call.given for call in calls if call.given is not None and call.given.ndim == 3]
    for call in calls:
        given = call.given
        if given is not None and given.ndim == 5 and given.shape[2:].numel() == count:
            rows = given.flatten(2).transpose(1, 2)
            if any(rows.shape == other.shape and torch.equal(rows, other) for other in tokens):
                return tuple(given.shape[2:])
    raise ValueError(
        f"{CALLER}: where the {count} tokens of {head.features[0]!r} are is not known; give grid=(T, H, W), if that is "
        "their order"
    )


def _refusal(calls, vector, linear, name):
    """What is there instead of a pool before a linear layer, in a sentence."""
    made = [call for call in calls if _gives(call, vector)]
    tokens = [
        call for call in calls
        if call.given is not None and call.given.ndim == 3 and same(call.given[:, 0].float(), vector, call.given)
    ]  # fmt: skip
    if not linear:
        what = f"the scores of {name} come from {made[-1]}" if made else f"no module of {name} gives its scores"
        return f"{_NEEDS}; {what}"
    if tokens:
        what = f"the first token of {tokens[-1]}"
    else:
        what = f"what {made[-1]} gives" if made else "what no module of it gives, and what is no pool of such"
    return f"{_NEEDS}; {linear[-1]} of {name} gets {what}"


def _gives(call, vector):
    """Whether a call of a module without others in it makes ``vector``, rather than hand it on in another shape."""
    taken, given = call.taken, call.given
    if given is None or any(True for _ in call.module.children()) or not given.is_floating_point():
        return False
    if taken is not None and taken.numel() == given.numel() and torch.equal(taken.flatten(), given.flatten()):
        return False
    return same(given.flatten(1), vector, given) or same(places_mean(given, True), vector, given)
