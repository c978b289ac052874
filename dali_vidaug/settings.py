"""How batches are made: options checked, and "auto" decided."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from dali_vidaug.boxes import BoxRules
from dali_vidaug.clip_motion import check_motion_known
from dali_vidaug.device import driver, gpu
from dali_vidaug.device.cores import local_rank, own_cores
from dali_vidaug.device.decoders import add_coded, choose_decoder
from dali_vidaug.device.nvdec import Files, Format
from dali_vidaug.media.colors import COLORS
from dali_vidaug.media.object_options import Storage, given_storage
from dali_vidaug.media.video import Video
from dali_vidaug.ops.check import is_number
from dali_vidaug.report import warn_once
from dali_vidaug.targets import KINDS

_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Settings:
    """The options of ``VideoLoader``, checked, in one form each, without "auto".

    Attributes:
        device: "cpu" or "gpu".
        device_id: which GPU, as CUDA counts them in this process; None without one.
        decoder: "dali", "pyav" or "hybrid".
        num_threads, workers, prefetch, dtype, on_error, resize_in_decoder, color, box_rules, timeout, targets, storage,
            motion: as in ``VideoLoader``.
        check_files: "size_and_time", "size" or "off"; the bytes of files are compared too, unless it is "off".
        refused: formats that are not sent to DALI, with the reason.
        decode_batch: as in ``VideoLoader``.
        verify: of each coding how many clips are compared with PyAV at first, and one in how many later; None: none.
        cpu_share: of the clips that DALI could decode, the share that PyAV decodes, [0, 1]; None: measured and chosen.
    """

    device: str
    device_id: int | None
    decoder: str
    num_threads: int
    workers: int
    prefetch: int
    dtype: str
    on_error: str
    resize_in_decoder: bool
    check_files: str = "size_and_time"
    color: str = "bt601"
    box_rules: BoxRules = field(default_factory=BoxRules)
    timeout: float | None = None
    targets: str = "soft"
    storage: Storage = field(default_factory=Storage)
    motion: bool = False
    refused: Mapping[Format, str] = field(default_factory=dict)
    verify: tuple[int, int] | None = None
    decode_batch: int | None = None
    cpu_share: float | None = 0.0

    def decoder_of(self, video: Video) -> tuple[str, str | None]:
        """The decoder of a video, "dali", "pyav" or "hybrid"; and why it is pyav although dali was asked for."""
        why = self.refused.get(video.format)
        return ("pyav", why) if why else (self.decoder, None)

    def confused(self, codec: str, size: tuple[int, int] | None) -> str | None:
        """Why DALI must not decode whole coded frames, (width, height), or None; ``decoders.add_coded`` says when."""
        return None if size is None else add_coded(self.device_id, codec, size)

    def trusted(self, video: Video) -> Video:
        """The video, without what its file is not compared with."""
        if self.check_files == "size_and_time":
            return video
        if self.check_files == "size":
            return video._replace(mtime_ns=None)
        if video.shard is not None:  # its size says where it ends in the tar file
            return video._replace(mtime_ns=None, content_digest=None, etag=None)
        return video._replace(mtime_ns=None, bytes=None, etag=None)

    def stream(self) -> Any:
        """The stream that torch works on in this thread; None without a GPU."""
        return torch.cuda.current_stream(self.device_id) if self.device == "gpu" else None


def make_settings(
    *,
    device: torch.device | str,
    decoder: str = "pyav",
    num_threads: int | None = None,
    workers: int = 0,
    prefetch: int = 1,
    dtype: torch.dtype | str = "float32",
    on_error: str = "raise",
    check_files: str = "size_and_time",
    resize_in_decoder: bool = False,
    color: str = "bt601",
    box_rules: BoxRules | None = None,
    timeout: float | None = None,
    targets: str = "soft",
    storage: Storage | None = None,
    motion: bool = False,
    motion_masks: bool = False,
    verify: tuple[int, int] | None = None,
    decode_batch: int | None = None,
    cpu_share: float | str = 0.0,
    formats: Mapping[Format, Files] | None = None,
    caller: str = "VideoLoader",
) -> Settings:
    """Check the options and decide what "auto" means.

    Args:
        motion_masks: whether masks need motion.
        formats: of the videos, as ``Manifest.formats`` gives them.
        caller: named in errors. The others: of ``VideoLoader``.

    Raises:
        ValueError: an option is out of range, or asks for what this machine does not have.
    """
    asked, device_id = _read_device(device, caller)
    for name, value, known in (
        ("decoder", decoder, ("auto", "dali", "pyav", "hybrid")),
        ("on_error", on_error, ("replace", "skip", "raise")),
        ("check_files", check_files, ("auto", "size_and_time", "size", "off")),
        ("color", color, COLORS),
        ("targets", targets, KINDS),
    ):
        if value not in known:
            raise ValueError(f"{caller}: {name} must be {', '.join(known[:-1])} or {known[-1]}, got {value!r}")
    if not (verify is None or _is_verify(verify)):
        raise ValueError(
            f"{caller}: verify must be (clips of each format, one in how many later), ints >= 0 and >= 1, or None, got "
            f"{verify!r}"
        )
    share = _read_share(cpu_share, decoder, caller)
    if not isinstance(motion, bool):
        raise ValueError(f"{caller}: motion must be True or False, got {motion!r}")
    if not isinstance(box_rules, BoxRules | None):
        raise ValueError(f"{caller}: box_rules must be dv.BoxRules(...), got {box_rules!r}")
    num_threads = own_cores() if num_threads is None else num_threads
    if decode_batch is not None and not (type(decode_batch) is int and decode_batch >= 1):
        raise ValueError(f"{caller}: decode_batch must be None or an int >= 1, got {decode_batch!r}")
    for name, number, least in (("num_threads", num_threads, 1), ("workers", workers, 0), ("prefetch", prefetch, 1)):
        if not (isinstance(number, int) and number >= least):
            raise ValueError(f"{caller}: {name} must be an int >= {least}, got {number!r}")
    if not (timeout is None or is_number(timeout, 1e-3, 1e6)):
        raise ValueError(f"{caller}: timeout must be None or seconds in [0.001, 1e6], got {timeout!r}")
    where = _find_device(device, asked, device_id, caller)
    device_id = torch.cuda.current_device() if where == "gpu" and device_id is None else device_id
    if motion or motion_masks:
        decoder = _vectors_decoder(decoder, caller)
        check_motion_known(caller, formats or {})
    decoder, refused = choose_decoder(decoder, where, device_id, formats or {})
    return Settings(
        device=where, device_id=device_id, decoder=decoder, num_threads=num_threads, workers=workers, prefetch=prefetch,
        dtype=_read_dtype(dtype, caller), on_error=on_error, check_files=check_files, color=color, refused=refused,
        resize_in_decoder=resize_in_decoder, box_rules=box_rules or BoxRules(), storage=given_storage(storage, caller),
        timeout=timeout, targets=targets, motion=motion, verify=None if decoder == "pyav" else verify,
        decode_batch=decode_batch,
        cpu_share=share if decoder == "hybrid" else 0.0,
    )  # fmt: skip


def _is_verify(verify: Any) -> bool:
    pair = isinstance(verify, tuple) and len(verify) == 2 and all(type(n) is int for n in verify)
    return pair and verify[0] >= 0 and 1 <= verify[1] <= 1 << 32


def _read_share(share: Any, decoder: str, caller: str) -> float | None:
    """The share of the clips that PyAV decodes although DALI could; None for "auto"."""
    is_auto = isinstance(share, str) and share == "auto"
    if not is_auto and (isinstance(share, bool) or not is_number(share, 0, 1)):
        raise ValueError(f"{caller}: cpu_share must be a number in [0, 1] or 'auto', got {share!r}")
    if decoder in ("pyav", "dali") and (is_auto or share):
        alone = "PyAV" if decoder == "pyav" else "DALI"
        raise ValueError(
            f"{caller}: with decoder {decoder!r}, {alone} decodes all clips: cpu_share must be 0, got {share!r}; "
            "decoder='hybrid' shares them"
        )
    return None if is_auto else float(share)


def _vectors_decoder(decoder: str, caller: str) -> str:
    """The decoder where motion is asked for: DALI's give no motion vectors, on a GPU neither."""
    if decoder not in ("auto", "pyav"):
        raise ValueError(
            f"{caller}: motion is read by PyAV on the CPU, DALI's decoders do not give it; decoder must be 'auto' or "
            f"'pyav' with motion=True or a MotionMask, got {decoder!r}"
        )
    return "pyav"


def _find_device(device: Any, asked: str, device_id: int | None, caller: str) -> str:
    """ "cpu" or "gpu", of what ``_read_device`` read."""
    problem = None if asked == "cpu" else gpu.problem(device_id)
    if problem and asked == "gpu":
        raise ValueError(
            f"{caller}: device is {str(device)!r}, but {problem}; see dali-vidaug doctor. device='auto' takes the CPU "
            "where there is no GPU"
        )
    if problem and _speaks():
        warn_once(f"device 'auto' is the CPU: {problem}. device='cpu' avoids this message")
    return "cpu" if problem or asked == "cpu" else "gpu"


def _read_device(device: Any, caller: str) -> tuple[str, int | None]:
    """What a user calls a device, as ("auto", "cpu" or "gpu"; which GPU, None for the current one)."""
    name = str(device) if isinstance(device, torch.device) else device
    if name in ("auto", "cpu"):
        return name, None
    if name in ("gpu", "cuda"):
        return "gpu", None
    number = name.removeprefix("cuda:") if isinstance(name, str) and name.startswith("cuda:") else ""
    if not (number.isascii() and number.isdigit()):
        raise ValueError(f"{caller}: device must be auto, cpu, gpu, cuda, cuda:N or a torch.device, got {device!r}")
    return "gpu", int(number)


def _read_dtype(dtype: Any, caller: str) -> str:
    """A dtype of torch, NumPy, or its name, as a name."""
    name = dtype
    if isinstance(dtype, torch.dtype):
        name = str(dtype).removeprefix("torch.")
    elif isinstance(dtype, (type, np.dtype)):  # NumPy's
        name = getattr(dtype, "__name__", None) or getattr(dtype, "name", None)
    if name not in _DTYPES:
        raise ValueError(
            f"{caller}: dtype must be {', '.join(_DTYPES[:-1])} or {_DTYPES[-1]}, as torch's dtype or as its name, "
            f"got {dtype!r}"
        )
    return name


def _speaks() -> bool:
    """Whether this process says what holds for the whole machine: the first of its ranks does.

    That there is no driver holds for all of them. Any other problem may be that of a single rank's GPU, which says so.
    """
    return local_rank(os.environ) == 0 or driver.read_driver().error is not None
