"""How batches are made: options checked, and "auto" decided."""

import os
from dataclasses import dataclass
from importlib.util import find_spec

import torch

DALI_CODECS = {  # what DALI 2.4 decodes; which of them a GPU has is for its NVDEC to say
    "cpu": frozenset(("vp8", "vp9", "mjpeg")),
    "gpu": frozenset(("vp8", "vp9", "mjpeg", "av1", "mpeg4", "h264", "hevc")),
}


@dataclass(frozen=True)
class Settings:
    """As in ``VideoLoader``; ``fold`` is its ``resize_in_decoder``."""

    device: str
    device_id: int | None
    decoder: str
    num_threads: int
    workers: int
    prefetch: int
    dtype: str
    fold: bool
    on_error: str


def find_shard(num_shards, shard_index):
    """(num_shards, shard_index) as given, or of torch.distributed, or of the environment, or (1, 0)."""
    if (num_shards is None) != (shard_index is None):
        raise ValueError(f"VideoLoader: give num_shards and shard_index both, got {num_shards} and {shard_index}")
    if num_shards is not None:
        return num_shards, shard_index
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size(), torch.distributed.get_rank()
    try:
        return int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    except ValueError as error:
        raise ValueError(f"VideoLoader: WORLD_SIZE and RANK must be integers: {error}") from error


def make_settings(device, decoder, num_threads, workers, prefetch, dtype, on_error, fold, codecs=()):
    """Check the options and decide what "auto" stands for, given the codecs of the videos.

    Raises:
        ValueError: an option is out of range, or asks for what this machine has not.
    """
    for name, value, known in (
        ("device", device, ("auto", "cpu", "gpu")),
        ("decoder", decoder, ("auto", "dali", "pyav")),
        ("dtype", dtype, ("float32", "float16")),
        ("on_error", on_error, ("replace", "raise")),
    ):
        if value not in known:
            raise ValueError(f"VideoLoader: {name} must be {', '.join(known[:-1])} or {known[-1]}, got {value!r}")
    num_threads = len(os.sched_getaffinity(0)) if num_threads is None else num_threads
    for name, value, least in (("num_threads", num_threads, 1), ("workers", workers, 0), ("prefetch", prefetch, 1)):
        if not (isinstance(value, int) and value >= least):
            raise ValueError(f"VideoLoader: {name} must be an int >= {least}, got {value!r}")
    if device == "auto":
        device = "gpu" if torch.cuda.is_available() else "cpu"
    if device == "gpu" and not torch.cuda.is_available():
        raise ValueError("VideoLoader: device is 'gpu', but torch finds no CUDA device; run dali-vidaug doctor")
    if device == "gpu" and find_spec("cupy") is None:
        raise ModuleNotFoundError(
            "VideoLoader: on a GPU the kernels need CuPy: pip install 'dali_vidaug[cuda13]', or [cuda12] for CUDA 12",
            name="cupy",
        )
    foreign = sorted(set(codecs) - DALI_CODECS[device])
    if decoder == "dali" and foreign:
        raise ValueError(
            f"VideoLoader: decoder 'dali' on the {device} decodes {', '.join(sorted(DALI_CODECS[device]))}, but the "
            f"manifest has {', '.join(foreign)}; use decoder='pyav'"
        )
    if decoder == "auto":
        decoder = "dali" if device == "gpu" and not foreign else "pyav"
    return Settings(
        device=device,
        device_id=torch.cuda.current_device() if device == "gpu" else None,
        decoder=decoder,
        num_threads=num_threads,
        workers=workers,
        prefetch=prefetch,
        dtype=dtype,
        fold=fold,
        on_error=on_error,
    )
