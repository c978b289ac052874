"""Calls of registered modules: tensors of clips in, checked tensors out, bytes again, all where the clips are."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from dali_vidaug.errors import OpError, one_line
from dali_vidaug.ops.operator import structured
from dali_vidaug.ops.registry import is_network, kind_of, registered
from dali_vidaug.pixel_order import put_together, take_apart
from dali_vidaug.recycled import Recycled

LOWEST, HIGHEST = -1.0, 2.0  # of floats for values in [0, 1]: what is outside has another range
_memory = Recycled(kept=4)  # of floats: fresh pages would cost more than the pass over them
_PIECE = 1 << 16  # values
_TABLES: dict[str, np.ndarray] = {
    "float32": (np.arange(256, dtype=np.float32) / 255)[None].repeat(3, 0),
    "uint8": np.arange(256, dtype=np.uint8)[None].repeat(3, 0),
}


class Module:
    """A registered module that is called on the device of its inputs.

    Args:
        op: the class of the op that calls it, for messages.
        name: of the module.

    Raises:
        ValueError: there is no such module.
    """

    def __init__(self, op: str, name: str):
        self._module = registered(op, name)
        self._title = f"{op}: module {name!r} ({kind_of(self._module)})"
        self._on = cache(partial(_placed, self._module))

    def __call__(
        self, inputs: Sequence[torch.Tensor], arguments: Mapping[str, torch.Tensor], shape: Sequence[int], place: str
    ) -> torch.Tensor:
        """What the module makes of its inputs, checked.

        Args:
            inputs: positional arguments, all on one device and of one dtype.
            arguments: keyword arguments.
            shape: of what it must return.
            place: which clips these are, for messages.

        Returns:
            A tensor of this shape, on the device and of the dtype of the inputs; floats are finite and near [0, 1].

        Raises:
            OpError: the module raised an exception, or returned something else.
        """
        module: Any = self._on(inputs[0].device)
        device, kind = inputs[0].device, inputs[0].dtype
        if is_network(module) and any(part.training for part in module.modules()):
            raise OpError(
                f"{self._title} is in training mode, in which its results depend on chance and on the batch; call its "
                "eval(), or register a function that calls it"
            )
        try:
            with torch.no_grad():
                made = module(*inputs, **arguments)
        except (Exception, SystemExit) as error:
            raise OpError(f"{self._title} failed on {place}: {type(error).__name__}: {one_line(error)}") from error
        if not isinstance(made, torch.Tensor):
            raise OpError(f"{self._title} must return a tensor, got {type(made).__name__} for {place}")
        made = made.detach()
        found = (("shape", tuple(made.shape), tuple(shape)), ("dtype", made.dtype, kind))
        for what, got, wanted in (*found, ("device", made.device, device), ("layout", made.layout, torch.strided)):
            if got != wanted:
                raise OpError(f"{self._title} must return {what} {wanted}, got {got} for {place}")
        if made.is_floating_point():
            self._check_values(made, place)
        return made

    def _check_values(self, made, place):
        low, high = torch.stack(made.aminmax()).tolist()
        if not (low >= LOWEST and high <= HIGHEST):  # NaN is neither
            wrong = ~((made >= LOWEST) & (made <= HIGHEST))
            at = wrong.nonzero()[0].tolist()
            raise OpError(
                f"{self._title} must return values in [0, 1], got {made[tuple(at)].item():g} at {at} of "
                f"{list(made.shape)} for {place}; what goes beyond is clamped only within [{LOWEST:g}, {HIGHEST:g}]"
            )


def _placed(module: Callable, device: torch.device) -> Callable:
    """A module on a device: a copy of it, if its weights are elsewhere. They are there when this returns."""
    if is_network(module):
        network: Any = module
        if any(tensor.device != device for tensor in (*network.parameters(), *network.buffers())):
            module = copy.deepcopy(network).to(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return module


def run_module(op: Any, module: Module, clips: Sequence[Any], rows: Any, num_threads: int = 1) -> list[Any]:
    """Apply a ``TorchModule`` to clips.

    Args:
        op: its options.
        module: what is called.
        clips: B arrays (F, H, W, 3) uint8, NumPy's or CuPy's. Not changed.
        rows: B arrays of the bytes of the clips' rows, on the device of the clips.
        num_threads: of the CPU, for bytes to tensors.

    Returns:
        B arrays; of clips to which the module is not applied, the clips themselves.

    Raises:
        OpError: see ``Module``.
    """
    with stream_of(clips):
        rows = _host_rows(op, rows, clips)
        todo, outputs = np.flatnonzero(rows["applied"]).tolist(), list(clips)
        for group in [todo] if op.per == "batch" and todo else [[i] for i in todo]:
            given = [clips[i] for i in group]
            inputs = as_tensors(given, op.dtype, op.per == "frame", num_threads)
            drawn = _drawn(op, rows[group], inputs)
            if op.partner:
                others = [clips[i] for i in rows["partner"][group].tolist()]
                drawn["partners"] = as_tensors(others, op.dtype, op.per == "frame", num_threads)
            made = module([inputs], drawn, inputs.shape, f"clip{'s' * (len(group) > 1)} {', '.join(map(str, group))}")
            for i, out in zip(group, as_arrays(made, given), strict=True):
                outputs[i] = out
    return outputs


def _host_rows(op, rows, clips):
    """(B,) rows in NumPy's memory. They begin with the number of frames for which they have values."""
    if isinstance(rows, np.ndarray):
        return rows
    if not isinstance(clips[0], np.ndarray):
        rows = list(torch.stack([torch.from_dlpack(row) for row in rows]).cpu().numpy())
    return structured(rows, op.row_dtype(int(rows[0][:4].view(np.int32)[0])))


def _drawn(op, rows, inputs):
    """What is drawn for clips, as tensors where the clips are."""
    found = {}
    frames = len(inputs) if op.per == "frame" else inputs.shape[2]
    for k, (name, *_) in enumerate(op.arguments):
        found[name] = rows["value"][:, k, :frames]
    for name, field in (("noise", op.noise), ("labels", op.num_classes)):
        if field:
            column = rows["noise"] if name == "noise" else rows["label"].astype(np.int64)
            found[name] = column.repeat(frames, 0) if op.per == "frame" else column
    if op.per == "frame":
        found |= {name: found[name][0] for name, *_ in op.arguments}
    return {name: torch.from_numpy(np.ascontiguousarray(a)).to(inputs.device) for name, a in found.items()}


def stream_of(clips: Sequence[Any]) -> AbstractContextManager:
    """Let torch work on the stream on which DALI runs the operator; nothing on the CPU."""
    if isinstance(clips[0], np.ndarray):
        return nullcontext()
    stream = sys.modules["cupy"].cuda.get_current_stream()
    return torch.cuda.stream(torch.cuda.ExternalStream(stream.ptr, device=clips[0].data.device_id))


def as_tensors(clips: Sequence[Any], dtype: str, by_frame: bool = False, num_threads: int = 1) -> torch.Tensor:
    """Clips of one size as a tensor of their own, contiguous.

    Args:
        clips: B arrays (F, H, W, 3) uint8, NumPy's or CuPy's.
        dtype: "uint8", or "float32": values in [0, 1].
        by_frame: of one clip: its frames as a batch.
        num_threads: of the CPU.

    Returns:
        (B, 3, F, H, W); with ``by_frame`` (F, 3, H, W).
    """
    if isinstance(clips[0], np.ndarray):
        parts = list(clips[0][:, None]) if by_frame else list(clips)
        out = _memory.take((len(parts), 3, *parts[0].shape[:3]), _TABLES[dtype].dtype)
        take_apart(parts, _TABLES[dtype], np.zeros(len(parts), bool), out, num_threads)
        tensor = torch.from_numpy(out)
        return tensor[:, :, 0] if by_frame else tensor
    packed = torch.stack([torch.from_dlpack(clip) for clip in clips])
    tensor = packed[0].permute(0, 3, 1, 2) if by_frame else packed.permute(0, 4, 1, 2, 3)
    if dtype == "uint8":
        return tensor.contiguous()
    # Divided by a tensor: by a number, a GPU multiplies with the reciprocal, which gives other bits.
    return tensor.float().contiguous() / torch.full((), 255.0, device=tensor.device)


def as_arrays(made: torch.Tensor, clips: Sequence[Any]) -> list[Any]:
    """What a module has made as arrays like the clips that it was given: (F, H, W, 3) uint8."""
    if made.is_floating_point():
        made = _levels(made)
    if made.ndim == 4:  # frames
        made = made.transpose(0, 1)[None]
    if isinstance(clips[0], np.ndarray):
        return [put_together(planes.contiguous().numpy()) for planes in made]
    from_dlpack = sys.modules["cupy"].from_dlpack
    return [from_dlpack(clip) for clip in made.permute(0, 2, 3, 4, 1).contiguous()]


def _levels(made):
    """Values in [0, 1] as bytes: rounded half up, clamped. On the CPU by pieces that stay in the cache."""
    out = torch.empty(made.shape, dtype=torch.uint8, device=made.device)
    size = _PIECE if made.device.type == "cpu" else max(made.numel(), 1)
    for part, levels in zip(made.reshape(-1).split(size), out.view(-1).split(size), strict=True):
        levels.copy_(part.mul(255).add_(0.5).clamp_(0, 255))
    return out


def interpolate_by(
    module: Module, clips: Sequence[Any], rows: Any, dtype: np.dtype, whole: int, num_threads: int = 1
) -> list[Any]:
    """Make the frames between two frames by a module; frames at whole positions are taken as they are.

    Args:
        module: called as ``module(first, last, times)``: two frames (1, 3, H, W) float32 in [0, 1] that follow each
            other, and (T,) float32 times in (0, 1), rising; it returns T frames, (T, 3, H, W).
        clips: B arrays (U, H, W, 3) uint8, NumPy's or CuPy's: the decoded frames of each clip.
        rows: B arrays of bytes, of ``interpolate.interpolate_args``, on the device of the clips.
        dtype: of the rows.
        whole: what their weights are multiples of.
        num_threads: of the CPU, for bytes to tensors.

    Returns:
        B arrays (F, H, W, 3).

    Raises:
        OpError: see ``Module``.
    """
    with stream_of(clips):
        if not isinstance(clips[0], np.ndarray):
            rows = list(torch.stack([torch.from_dlpack(row) for row in rows]).cpu().numpy())
        at = structured(rows, dtype)["at"]
        return [_between(module, i, clip, at[i], whole, num_threads) for i, clip in enumerate(clips)]


def _between(module, i, clip, at, whole, num_threads):
    """(F, H, W, 3): frame t of the clip where a position is that of a frame, otherwise what the module makes."""
    before, weights = at.T
    frames = [clip[t] for t in (before + (weights == whole)).tolist()]
    between = (weights > 0) & (weights < whole)
    for t in np.unique(before[between]).tolist():
        wanted = np.flatnonzero(between & (before == t))
        found, place = np.unique(weights[wanted], return_inverse=True)
        pair = as_tensors([clip[t : t + 2]], "float32", True, num_threads)
        times = torch.from_numpy((found / whole).astype(np.float32)).to(pair.device)
        where = f"clip {i}, between its decoded frames {t} and {t + 1}"
        made = module([pair[:1], pair[1:], times], {}, (len(found), *pair.shape[1:]), where)
        (made,) = as_arrays(made, [clip])
        for k, number in zip(wanted.tolist(), place.tolist(), strict=True):
            frames[k] = made[number]
    xp = np if isinstance(clip, np.ndarray) else sys.modules["cupy"]
    return xp.stack(frames)
