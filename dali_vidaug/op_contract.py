"""A test for ops of your own: what would make batches wrong without a word is found, and named."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from dali_vidaug.batch import as_tensor
from dali_vidaug.drawing import draw_ops
from dali_vidaug.graph import Graph
from dali_vidaug.in_memory import augment, recipe_of, taken_frames
from dali_vidaug.ops import RandomVerticalFlip, Resize, is_on_time, name_of
from dali_vidaug.recipe import Recipe
from dali_vidaug.rng import Draws
from dali_vidaug.sampling.videos import Videos
from dali_vidaug.settings import make_settings
from dali_vidaug.timing import draw_time

_NUM_CLIPS = 6  # of each size


def check_op(
    op: Any, *, frames: int = 8, sizes: tuple[tuple[int, int], ...] = ((240, 320), (320, 240)), device: str = "auto"
) -> None:
    """Try an op of your own on clips of noise, and refuse it when it does not keep the contract of ops.

    It is drawn several times, for other samples, orders, batch sizes and clip sizes, and built and run. Found are:
    random numbers that are not of ``draws``; draws that depend on the other clips of the batch (unless the op mixes
    clips); arguments whose dtype changes; a size that is changed without being said in the arguments; a result that is
    not uint8; inputs, arguments or labels that are modified; results that differ from run to run; options that a saved
    recipe would lose. Of an op on time, ``retime`` is tried in place of ``draw``.

    Args:
        op: an op.
        frames: of each clip.
        sizes: heights and widths of the clips to try, each at least as large as the op needs.
        device: "cpu", "gpu" or "auto".

    Raises:
        ValueError: it does not keep the contract; the message lists everything that was found.
    """
    name, found = name_of(op), _declaration_faults(op)
    try:
        found += _time_faults(op, frames) if is_on_time(op) else _draw_faults(op, frames, sizes)
        for size in sizes:
            found += _run_faults(op, (frames, *size), device)
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}")
    if found:
        raise ValueError(f"check_op: {name}:" + "".join(f"\n- {fault}" for fault in dict.fromkeys(found)))


def _declaration_faults(op):
    params = getattr(op, "__dataclass_params__", None)
    if params is None or not params.frozen:
        return ["it must be a frozen dataclass: @dataclass(frozen=True)"]
    recipe = recipe_of((op,))
    try:
        same = Recipe.parse(repr(recipe), [type(op)]) == recipe
    except (TypeError, ValueError) as error:
        return [f"its repr must be readable by Recipe.parse, for saved plans: {error}"]
    return [] if same else ["what Recipe.parse reads of its repr must be equal to it, for saved plans"]


def _draw_faults(op, frames, sizes):
    """What is wrong with ``draw``."""
    recipe, faults = recipe_of((op,)), []
    if hasattr(op, "mixed_with"):
        sizes = sizes[:1]  # clips that are mixed with each other are of one size
    samples = np.arange(100, 100 + _NUM_CLIPS * len(sizes))
    height, width = np.array(sizes).repeat(_NUM_CLIPS, 0).T
    count = np.full(len(samples), frames)

    def draw(order, epoch=3):
        given = [column[order].copy() for column in (count, height, width)]
        rows = draw_ops(recipe, Draws(7, epoch, samples[order], batch=5), *given).args[recipe.names[0]]
        return None if rows is None else rows.copy()

    everything = np.arange(len(samples))
    before = _global_state()
    first = draw(everything)
    if _global_state() != before:
        faults.append("draw uses or seeds the generators of numpy, random or torch: use draws.uniform, draws.integers")
    if not _same(first, draw(everything)):
        faults.append("draw returns something else for the same draws: all random numbers must be of draws")
    given = [column.copy() for column in (count, height, width)]
    op.draw(Draws(7, 3, samples, prefix=recipe.names[0], batch=5), *given)
    if not all((a == b).all() for a, b in zip(given, (count, height, width), strict=True)):
        faults.append("draw modifies the sizes that it is given")
    others = [draw(everything[:1]), draw(everything[-1:]), draw(everything[::-1]), draw(everything, epoch=4)]
    kinds = {None if rows is None else rows.dtype for rows in (first, *others)}
    if len(kinds) > 1:
        faults.append(f"the dtype of the arguments changes from batch to batch: {', '.join(map(str, kinds))}")
    elif first is not None:
        mixes = hasattr(op, "mixed_with") or "partner" in first.dtype.names
        alone = _same(others[0], first[:1]) and _same(others[1], first[-1:]) and _same(others[2], first[::-1])
        if not (mixes or alone):
            faults.append(
                "draw depends on the other clips of the batch, or on their order: a row must depend on its clip alone"
            )
        faults += [
            f"argument {field} is not finite"
            for field in first.dtype.names
            if first[field].dtype.kind == "f" and not np.isfinite(first[field]).all()
        ]
    return faults


def _time_faults(op, count):
    """What is wrong with ``retime``, for clips of ``count`` frames."""
    recipe, faults = recipe_of((op,)), []
    samples = np.arange(100, 100 + 2 * _NUM_CLIPS)
    first = np.arange(len(samples)) % 5
    given = (first[:, None] + 3 * np.arange(count)).astype(np.int32)
    last = given[:, -1] + 3

    def draw(order, epoch=3, kind=np.int32):
        videos = Videos(first[order], last[order], np.full(len(order), 25.0), lambda i: np.arange(last[order][i]) / 25)
        return draw_time(recipe, Draws(7, epoch, samples[order], batch=5), given[order].astype(kind), videos)

    def same(a, b):
        return _same(a.frames, b.frames) and _same(a.args[recipe.names[0]], b.args[recipe.names[0]])

    def part(drawn, rows):
        args = {name: None if column is None else column[rows] for name, column in drawn.args.items()}
        return drawn._replace(frames=drawn.frames[rows], args=args)

    everything = np.arange(len(samples))
    before = _global_state()
    whole = draw(everything)
    if _global_state() != before:
        faults.append(
            "retime uses or seeds the generators of numpy, random or torch: use draws.uniform, draws.integers"
        )
    if not same(whole, draw(everything)):
        faults.append("retime returns something else for the same draws: all random numbers must be of draws")
    kinds = {(drawn.frames.dtype, drawn.frames.shape[1]) for drawn in (whole, draw(everything, epoch=4))}
    if len(kinds) > 1:
        faults.append("the dtype of the frames, or their number, changes from batch to batch")
    draw(everything, kind=np.float64)  # as an op before may leave them
    alone = [
        (draw(everything[rows]), part(whole, rows)) for rows in (slice(0, 1), slice(-1, None), slice(None, None, -1))
    ]
    if not all(same(a, b) for a, b in alone):
        faults.append(
            "retime depends on the other clips of the batch, or on their order: a clip's frames must depend on it alone"
        )
    return faults


def _run_faults(op, shape, device):
    """What is wrong with ``build`` and ``targets``, for clips of a shape (F, H, W)."""
    faults = []
    noise = Draws(1, 0, np.arange(_NUM_CLIPS)).words("noise", -(-int(np.prod(shape)) * 3 // 4))
    clips = noise.view(np.uint8)[:, : int(np.prod(shape)) * 3].reshape(_NUM_CLIPS, *shape, 3)
    given, labels = clips.copy(), np.eye(_NUM_CLIPS, dtype=np.float32)
    sizes = draw_ops(recipe_of((op,)), Draws(7, 0, np.arange(_NUM_CLIPS)), *shape)[1:]
    # where results differ in size, they are scaled to one size, so that they can be stacked
    ops = (op,) if all((side == side[0]).all() for side in sizes) else (op, Resize(tuple(shape[1:])))
    first = augment(list(given), ops, labels, layout="FHWC", seed=7, device=device)
    settings = make_settings(device=device, caller="check_op")
    graph = Graph(first.plan, settings, _NUM_CLIPS)
    runs = [
        as_tensor(graph.run(first.plan, taken_frames(list(given), first.plan)), settings.dtype).clone()
        for _ in range(2)
    ]
    if not (given == clips).all():
        faults.append("build's function modifies the clips that it is given: it must return new arrays")
        return faults
    wanted = torch.uint8 if not getattr(op, "channels_first", False) else first.clips.dtype
    if first.clips.dtype != wanted:
        faults.append(f"build must return uint8, got {first.clips.dtype}".replace("torch.", ""))
    if not all(torch.equal(first.clips, clips.permute(0, 2, 3, 4, 1)) for clips in runs):
        faults.append("the same plan gives other clips from run to run: what is random must be drawn in draw")
    rows = first.plan.args[name_of(op)]
    mixes = hasattr(op, "mixed_with") or (rows is not None and "partner" in rows.dtype.names)
    alone = augment(given[-1], ops, layout="FHWC", samples=[_NUM_CLIPS - 1], seed=7, device=device)
    if not mixes and not torch.equal(alone.clips[0], first.clips[-1]):
        faults.append("a clip depends on the other clips of its batch")
    if hasattr(op, "run") and hasattr(op, "build"):
        shown = augment(list(given), (*ops, RandomVerticalFlip(1.0)), layout="FHWC", seed=7, device=device)
        if not torch.equal(shown.clips.flip(2), first.clips):
            faults.append("build and run give other clips for the same plan")
    return faults + _label_faults(op, rows, labels, first)


def _label_faults(op, rows, labels, batch):
    """What is wrong with ``targets`` and ``mixed_with``, by a batch of clips of which each was a class of its own."""
    faults = []
    if hasattr(op, "targets"):
        passed, kept = labels.copy(), None if rows is None else rows.copy()
        op.targets(rows, passed)
        if not (passed == labels).all() or not _same(rows, kept):
            faults.append("targets modifies the labels or the arguments that it is given: it must return a new array")
    if hasattr(op, "mixed_with"):
        own, partner = batch.mix.own.cpu().numpy(), batch.mix.partner.cpu().numpy()
        expected = np.diag(own)
        np.add.at(expected, (np.arange(len(own)), partner), 1 - own)
        if not np.allclose(batch.targets.cpu().numpy(), expected, atol=1e-5):
            faults.append("targets must mix labels as mixed_with says: own share * label + the rest * the partner's")
    return faults


def _same(a, b):
    """Whether two arrays of arguments are the same, byte for byte."""
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _global_state():
    """The state of the generators that a program has in common."""
    numbers: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    return numbers[1].tobytes(), numbers[2:], random.getstate(), torch.get_rng_state().numpy().tobytes()
