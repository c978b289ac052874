"""How many cores this process should use: those that it may, and its share where ranks have them together."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What launchers call the number of their processes on this machine.
_LOCAL_SIZES = (
    "LOCAL_WORLD_SIZE", "HOROVOD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE",
    "MPI_LOCALNRANKS", "JSM_NAMESPACE_LOCAL_SIZE",
)  # fmt: skip
# What launchers call the number of a process on its machine.
_LOCAL_RANKS = (
    "LOCAL_RANK", "HOROVOD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID",
    "JSM_NAMESPACE_LOCAL_RANK", "SLURM_LOCALID",
)  # fmt: skip


def own_cores() -> int:
    """The cores of this process, >= 1: a number of threads that does not take those of other ranks."""
    mine = os.sched_getaffinity(0)
    try:
        parents = os.sched_getaffinity(os.getppid())
    except OSError:  # it is gone, or another user's
        parents = set()
    of_job = os.environ.get("SLURM_CPUS_ON_NODE", "") if "SLURM_STEP_TASKS_PER_NODE" in os.environ else ""
    together = int(of_job) if of_job.isdigit() else len(parents if mine < parents else mine)
    return share_of_cores(len(mine), together, read_quota(), local_size(os.environ))


def share_of_cores(mine: int, together: int, quota: float | None, size: int) -> int:
    """The share of a rank in the cores of a machine, >= 1.

    Args:
        mine: cores that this process may use: all that the ranks have together, or some of them, perhaps its own.
        together: cores of all ranks on this machine: of Slurm's job, or those that the program may use which started
            this one.
        quota: of processor time, in cores, of all ranks together; None without one.
        size: ranks on this machine.
    """
    return max(1, int(min(mine, together / size, mine if quota is None else quota / size)))


def read_quota(root: Path = Path("/")) -> float | None:
    """The smallest CPU quota, in cores, of this process's control groups; None if none is set."""
    quotas = []
    membership = root / "proc/self/cgroup"
    for line in membership.read_text().splitlines() if membership.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        folder = mount / path.lstrip("/")  # in a container the path may be the host's: then only the mount exists
        for group in (folder, *folder.parents):
            quotas.append(_quota_v1(group) if controllers else _quota_v2(group))
            if group == mount:
                break
    return min((quota for quota in quotas if quota), default=None)


def _quota_v2(group):
    """cpu.max is "max 100000", or the CPU time in each period and the length of the period, in microseconds."""
    limit = group / "cpu.max"
    quota, period = limit.read_text().split() if limit.is_file() else ("max", "1")
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(group):
    limit = group / "cpu.cfs_quota_us"
    quota = int(limit.read_text()) if limit.is_file() else -1
    return None if quota < 0 else quota / int((group / "cpu.cfs_period_us").read_text())


def local_rank(environ: Mapping[str, str]) -> int:
    """Which of the ranks on this machine a process is, as its launcher or ``torch.distributed`` says; else 0."""
    for name in _LOCAL_RANKS:
        if environ.get(name, "").strip().isdigit():
            return int(environ[name])
    if _all_are_here(environ):
        if distributed := _initialized():
            return distributed.get_rank()
        return int(environ["RANK"]) if environ.get("RANK", "").strip().isdigit() else 0
    return 0


def local_size(environ: Mapping[str, str]) -> int:
    """How many ranks are on this machine, as the launcher or ``torch.distributed`` says; 1 where nothing does.

    Slurm's ``srun`` says how many each node has, such as "4(x2),3", and which node this is.
    """
    for name in (*_LOCAL_SIZES, *(("LOCAL_SIZE",) if "LOCAL_RANK" in environ else ())):  # the last is DeepSpeed's
        if environ.get(name, "").strip().isdigit():
            return max(1, int(environ[name]))
    sizes = _slurm_sizes(environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    node = environ.get("SLURM_NODEID", "").strip()
    # else a launcher was started in the step
    is_task = environ.get("RANK", environ.get("SLURM_PROCID")) == environ.get("SLURM_PROCID")
    if is_task and node.isdigit() and int(node) < len(sizes):
        return max(1, sizes[int(node)])
    if _all_are_here(environ):
        if distributed := _initialized():
            return distributed.get_world_size()
        if {"RANK", "LOCAL_RANK"} & set(environ) and environ.get("WORLD_SIZE", "").strip().isdigit():
            return max(1, int(environ["WORLD_SIZE"]))
    return 1


def _all_are_here(environ):
    """Whether all ranks are on this machine. In Kubernetes the first pod is told of itself as localhost."""
    return "KUBERNETES_SERVICE_HOST" not in environ and environ.get("MASTER_ADDR") in ("localhost", "127.0.0.1", "::1")


def _slurm_sizes(text):
    """Tasks of each node; none if the text is something else."""
    sizes: list[int] = []
    for part in text.split(",") if text else ():
        count, _, times = part.removesuffix(")").partition("(x")
        if not (count.isdigit() and (times or "1").isdigit()):
            return []
        sizes += [int(count)] * int(times or 1)
    return sizes


def _initialized() -> Any:
    """``torch.distributed`` where it is initialised, which only a process can have done that has imported torch."""
    torch = sys.modules.get("torch")
    there = torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed if torch is not None and there else None
