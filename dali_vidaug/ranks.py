"""Which share of an epoch is this process's: its rank, as torch.distributed or the program that started it says.

Several processes that take themselves for the same rank train on the same clips without an error, so what cannot be
told is refused.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import NamedTuple

import torch

log = logging.getLogger("dali_vidaug")

# Launchers that tell a process its rank, the innermost first: each may be started by one further down.
_TORCH = ("WORLD_SIZE", "RANK")  # torchrun, accelerate, DeepSpeed, Ray Train, Kubeflow
_LAUNCHERS = {
    "torchrun": _TORCH,
    "Horovod": ("HOROVOD_SIZE", "HOROVOD_RANK"),
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    "MVAPICH": ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    "MPICH or Intel MPI": ("PMI_SIZE", "PMI_RANK"),
    "jsrun": ("JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK"),
    "srun": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
}
_GIVEN = "num_shards and shard_index"
_CURE = "initialise torch.distributed before the first batch, or give num_shards and shard_index"


class Shard(NamedTuple):
    """A share of the epoch.

    Attributes:
        num_shards: >= 1.
        shard_index: [0, num_shards).
        source: where the numbers come from.
    """

    num_shards: int
    shard_index: int
    source: str


def find_shard(num_shards: int | None, shard_index: int | None, environ: Mapping[str, str] | None = None) -> Shard:
    """The shard of this process: as given, or of torch.distributed when initialised, or of the environment, or all.

    Args:
        num_shards, shard_index: as in ``VideoLoader``; both or neither.
        environ: the environment; default: this process's.

    Raises:
        ValueError: only one number is given, or the rank cannot be told.
    """
    if (num_shards is None) != (shard_index is None):
        raise ValueError(f"VideoLoader: give num_shards and shard_index both, got {num_shards} and {shard_index}")
    if num_shards is not None and shard_index is not None:
        return Shard(num_shards, shard_index, _GIVEN)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return Shard(torch.distributed.get_world_size(), torch.distributed.get_rank(), "torch.distributed")
    shard = _environment_shard(os.environ if environ is None else environ)
    if shard.num_shards > 1:
        log.warning(
            "shard %d of %d (%s). If these processes train independently of each other, give num_shards=1 and "
            "shard_index=0", shard.shard_index, shard.num_shards, shard.source,
        )  # fmt: skip
    return shard


def check_shard(shard: Shard) -> None:
    """Refuse to go on with a shard that was found before torch.distributed was initialised, when that says otherwise.

    Raises:
        RuntimeError: it does.
    """
    if shard.source == _GIVEN or not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    number, index = torch.distributed.get_world_size(), torch.distributed.get_rank()
    if (number, index) != (shard.num_shards, shard.shard_index):
        raise RuntimeError(
            f"VideoLoader: torch.distributed says rank {index} of {number}, but this loader is shard "
            f"{shard.shard_index} of {shard.num_shards} ({shard.source}) since its length, state or first batch was "
            "asked for; initialise torch.distributed before that, or make a new loader"
        )


def _environment_shard(environ: Mapping[str, str]) -> Shard:
    found = {}
    for launcher, names in _LAUNCHERS.items():
        shard = _slurm_shard(environ) if launcher == "srun" else _numbers(environ, launcher, *names)
        if shard is not None:
            found[launcher] = shard
    for launcher, shard in found.items():
        if not 0 <= shard.shard_index < shard.num_shards:
            raise ValueError(f"VideoLoader: {shard.source}: a rank must be in [0, {shard.num_shards}); {_CURE}")
        if launcher == "torchrun" and "TORCHELASTIC_RUN_ID" in environ:
            break  # started by torchrun itself: one of several independent runs, if anything around it is larger
        for other in found.values():
            if other.num_shards > shard.num_shards:
                raise ValueError(f"VideoLoader: {shard.source}, but {other.source}: which is right? {_CURE}")
        break
    world = _number(environ, _TORCH[0])
    if "torchrun" not in found and world is not None and (world > 1 or found):
        return _lightning_shard(environ, world, next(iter(found.values()), None))
    if found:
        return next(iter(found.values()))
    for name in (*dict(_LAUNCHERS.values()).values(), "LOCAL_RANK"):
        if value := _number(environ, name):
            raise ValueError(f"VideoLoader: {name} is {value}, but nothing says how many ranks there are; {_CURE}")
    return Shard(1, 0, "a single process")


def _lightning_shard(environ, world, other):
    """The rank where WORLD_SIZE is set without RANK, as Lightning does for the processes that it starts itself."""
    if other is not None and other.num_shards == world:
        return other
    local_rank, local_world = _number(environ, "LOCAL_RANK"), _number(environ, "LOCAL_WORLD_SIZE")
    node = _number(environ, "NODE_RANK", "GROUP_RANK")
    one_node = local_world == world or _number(environ, "NNODES", "SLURM_JOB_NUM_NODES") == 1
    known = (
        local_rank is not None
        and (one_node or node == 0 or (node is not None and local_world is not None))
        and not (one_node and node)
    )
    if not known or other is not None:
        names = ("WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "LOCAL_WORLD_SIZE", "NNODES")
        told = ", ".join(f"{name} is {environ[name]}" for name in names if environ.get(name))
        told += f", {other.source}" if other is not None else ""
        raise ValueError(
            f"VideoLoader: {told}, but RANK is not set: this process's rank is not known, and every rank would get the "
            f"same samples; {_CURE}, or set RANK"
        )
    rank = local_rank + (node or 0) * (local_world or 0)
    if not 0 <= rank < world or (local_world is not None and not local_rank < local_world):
        raise ValueError(f"VideoLoader: LOCAL_RANK is {local_rank}, but WORLD_SIZE is {world}; {_CURE}")
    return Shard(world, rank, f"WORLD_SIZE is {world}, LOCAL_RANK is {local_rank}")


def _slurm_shard(environ):
    """Of a task that srun started. A batch script and a shell have SLURM_NTASKS too, but are one process."""
    tasks, rank = _number(environ, "SLURM_STEP_NUM_TASKS"), _number(environ, "SLURM_PROCID")
    if rank is None:
        return None
    if tasks is None and (rank > 0 or "SLURM_STEP_ID" in environ):
        tasks = _number(environ, "SLURM_NTASKS", "SLURM_NPROCS")
    if tasks is None:
        return None
    return Shard(tasks, rank, f"srun says that this is task {rank} of {tasks}")


def _numbers(environ, launcher, size_name, rank_name):
    size, rank = _number(environ, size_name), _number(environ, rank_name)
    if size is None or rank is None:
        return None
    return Shard(size, rank, f"{size_name} is {size}, {rank_name} is {rank}")


def _number(environ, *names):
    """The first of these variables that is set, as an int; None if none is."""
    for name in names:
        text = environ.get(name, "").strip()
        if text:
            try:
                return int(text)
            except ValueError:
                raise ValueError(f"VideoLoader: {name} must be an integer, got {text!r}") from None
    return None
