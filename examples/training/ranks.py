"""Several processes that train together."""

import torch
from torch import distributed


def is_parallel() -> bool:
    """Whether there are several."""
    return num_ranks() > 1


def num_ranks() -> int:
    """How many there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is; the first, 0, writes all files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def mean_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """The mean of a tensor over all ranks, on each."""
    if is_parallel():
        distributed.all_reduce(values)
        values /= num_ranks()
    return values


def same_on_all(value: object) -> bool:
    """Whether all ranks have the same value."""
    if not is_parallel():
        return True
    values = [None] * num_ranks()
    distributed.all_gather_object(values, value)
    return all(other == value for other in values)


def wait_for_all() -> None:
    """Go on when all ranks are here."""
    if is_parallel():
        distributed.barrier()
