"""How batches are made: options checked, and "auto" decided."""

import logging
import os
import threading
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache

import torch

from dali_vidaug import gpu, nvdec

CPU_CODECS = frozenset(("vp8", "vp9", "mjpeg"))  # what DALI 2.4 decodes without a GPU

_MOST_REASONS = 5  # in a message

_sent_to_nvdec: dict[int, nvdec.Sizes] = {}  # by this process's loaders, for each GPU; they share DALI's decoders
_lock = threading.Lock()

log = logging.getLogger("dali_vidaug")


@dataclass(frozen=True)
class Settings:
    """As in ``VideoLoader``; ``fold`` is its ``resize_in_decoder``.

    ``unsuited``: formats that DALI does not decode here, and why; see ``Manifest.formats``.
    """

    device: str
    device_id: int | None
    decoder: str
    num_threads: int
    workers: int
    prefetch: int
    dtype: str
    fold: bool
    on_error: str
    unsuited: dict[tuple, str] = field(default_factory=dict)

    def decoder_of(self, video):
        """The decoder for a video: "dali", "pyav" or "hybrid"; and why it is pyav where that was not asked for."""
        why = self.unsuited.get((video.codec, video.pixel_format, video.width, video.height))
        return ("pyav", why) if why else (self.decoder, None)

    def stream(self):
        """The stream that torch works on in this thread; None without a GPU."""
        return torch.cuda.current_stream(self.device_id) if self.device == "gpu" else None


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


def make_settings(
    device, decoder, num_threads, workers, prefetch, dtype, on_error, fold, formats=None, caller="VideoLoader"
):
    """Check the options and decide what "auto" stands for.

    Args:
        formats: of the videos, as ``Manifest.formats`` gives them.
        caller: who is named in errors. The others are as in ``VideoLoader``.

    Raises:
        ValueError: an option is out of range, or asks for what this machine has not.
    """
    for name, value, known in (
        ("device", device, ("auto", "cpu", "gpu")),
        ("decoder", decoder, ("auto", "dali", "pyav", "hybrid")),
        ("dtype", dtype, ("float32", "float16")),
        ("on_error", on_error, ("replace", "raise")),
    ):
        if value not in known:
            raise ValueError(f"{caller}: {name} must be {', '.join(known[:-1])} or {known[-1]}, got {value!r}")
    num_threads = len(os.sched_getaffinity(0)) if num_threads is None else num_threads
    for name, value, least in (("num_threads", num_threads, 1), ("workers", workers, 0), ("prefetch", prefetch, 1)):
        if not (isinstance(value, int) and value >= least):
            raise ValueError(f"{caller}: {name} must be an int >= {least}, got {value!r}")
    problem = None if device == "cpu" else gpu.problem()
    if problem and device == "gpu":
        raise ValueError(f"{caller}: device is 'gpu', but {problem}; see dali-vidaug doctor")
    if problem:
        _warn_once(f"device 'auto' is the CPU: {problem}. With device='cpu' this is not said")
    device = "cpu" if problem or device == "cpu" else "gpu"
    device_id = torch.cuda.current_device() if device == "gpu" else None
    decoder, unsuited = _choose_decoder(decoder, device, device_id, formats or {})
    return Settings(
        device=device,
        device_id=device_id,
        decoder=decoder,
        num_threads=num_threads,
        workers=workers,
        prefetch=prefetch,
        dtype=dtype,
        fold=fold,
        on_error=on_error,
        unsuited=unsuited,
    )


@cache
def _warn_once(message):
    log.warning(message)


def _choose_decoder(decoder, device, device_id, formats):
    """The decoder, and the formats that DALI does not decode, with reasons."""
    if decoder == "pyav" or (decoder == "auto" and device == "cpu"):
        return "pyav", {}
    with _lock:
        sizes = deepcopy(_sent_to_nvdec.get(device_id, nvdec.Sizes()))
        if device == "gpu":
            reasons = _ask_nvdec(formats, device_id, sizes)
        else:
            reasons = {f: None if f[0] in CPU_CODECS else f"DALI does not decode {f[0]} on the CPU" for f in formats}
        unsuited = {f: reason for f, reason in reasons.items() if reason}
        told = _summary(unsuited, formats)
        if decoder == "dali" and unsuited:
            raise ValueError(f"VideoLoader: decoder 'dali' does not suit the manifest: {told}; use decoder='hybrid'")
        if device == "gpu":
            _sent_to_nvdec[device_id] = sizes
    if decoder == "dali":
        return "dali", {}
    if unsuited and device == "gpu":
        _warn_once(f"videos that are decoded on the CPU: {told}")
    return ("pyav" if formats and len(unsuited) == len(formats) else "hybrid"), unsuited


def _ask_nvdec(formats, device_id, sizes):
    """For each format None, or why it is not sent to NVDEC; the sizes that are go to ``sizes``."""
    decoders, problem = nvdec.decoders(device_id), nvdec.problem(device_id)
    reasons = {}
    for f in sorted(formats, key=lambda f: (-formats[f][0], f)):
        reasons[f] = problem or nvdec.refusal(f, decoders)
        other = None if reasons[f] else sizes.add(f)
        if other:
            reasons[f] = f"DALI 2.4 would mix up {f[2]}x{f[3]} with {other[1]}x{other[2]}"
    return reasons


def _summary(unsuited, formats):
    """Reasons, each with how many files it is for and one of them; the most frequent first."""
    counts: Counter = Counter()
    for video_format, why in unsuited.items():
        counts[why] += formats[video_format][0]
    examples = {why: formats[f][1] for f, why in reversed(unsuited.items())}
    told = [f"{why} ({n} file{'s' * (n > 1)}, such as {examples[why]})" for why, n in counts.most_common(_MOST_REASONS)]
    told += [f"and {len(counts) - _MOST_REASONS} more reasons"] if len(counts) > _MOST_REASONS else []
    return "; ".join(told)
