"""How batches are made: options checked, and "auto" decided."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from dali_vidaug.device import gpu
from dali_vidaug.device.decoders import choose_decoder
from dali_vidaug.device.nvdec import Files, Format
from dali_vidaug.media.video import Video
from dali_vidaug.report import warn_once


@dataclass(frozen=True)
class Settings:
    """The options of ``VideoLoader``, checked, without "auto".

    Attributes:
        device: "cpu" or "gpu".
        device_id: which GPU, as CUDA counts them in this process; None without one.
        decoder: "dali", "pyav" or "hybrid".
        num_threads, workers, prefetch, dtype, on_error, resize_in_decoder: as in ``VideoLoader``.
        check_files: "size_and_time", "size" or "off".
        refused: formats that are not sent to DALI, with the reason.
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
    refused: Mapping[Format, str] = field(default_factory=dict)

    def decoder_of(self, video: Video) -> tuple[str, str | None]:
        """The decoder of a video, "dali", "pyav" or "hybrid"; and why it is pyav although dali was asked for."""
        why = self.refused.get(video.format)
        return ("pyav", why) if why else (self.decoder, None)

    def trusted(self, video: Video) -> Video:
        """The video, without what its file is not compared with."""
        if self.check_files == "size_and_time":
            return video
        return video._replace(mtime_ns=None, bytes=video.bytes if self.check_files == "size" else None)

    def stream(self) -> Any:
        """The stream that torch works on in this thread; None without a GPU."""
        return torch.cuda.current_stream(self.device_id) if self.device == "gpu" else None


def make_settings(
    *,
    device: str,
    decoder: str = "pyav",
    num_threads: int | None = None,
    workers: int = 0,
    prefetch: int = 1,
    dtype: str = "float32",
    on_error: str = "raise",
    check_files: str = "size_and_time",
    resize_in_decoder: bool = False,
    formats: Mapping[Format, Files] | None = None,
    caller: str = "VideoLoader",
) -> Settings:
    """Check the options and decide what "auto" means.

    Args:
        formats: of the videos, as ``Manifest.formats`` gives them.
        caller: named in errors. The other options are those of ``VideoLoader``.

    Raises:
        ValueError: an option is out of range, or asks for what this machine does not have.
    """
    for name, value, known in (
        ("device", device, ("auto", "cpu", "gpu")),
        ("decoder", decoder, ("auto", "dali", "pyav", "hybrid")),
        ("dtype", dtype, ("float32", "float16")),
        ("on_error", on_error, ("replace", "skip", "raise")),
        ("check_files", check_files, ("auto", "size_and_time", "size", "off")),
    ):
        if value not in known:
            raise ValueError(f"{caller}: {name} must be {', '.join(known[:-1])} or {known[-1]}, got {value!r}")
    num_threads = len(os.sched_getaffinity(0)) if num_threads is None else num_threads
    for name, number, least in (("num_threads", num_threads, 1), ("workers", workers, 0), ("prefetch", prefetch, 1)):
        if not (isinstance(number, int) and number >= least):
            raise ValueError(f"{caller}: {name} must be an int >= {least}, got {number!r}")
    problem = None if device == "cpu" else gpu.problem()
    if problem and device == "gpu":
        raise ValueError(f"{caller}: device is 'gpu', but {problem}; see dali-vidaug doctor")
    if problem:
        warn_once(f"device 'auto' is the CPU: {problem}. device='cpu' avoids this message")
    device = "cpu" if problem or device == "cpu" else "gpu"
    device_id = torch.cuda.current_device() if device == "gpu" else None
    decoder, refused = choose_decoder(decoder, device, device_id, formats or {})
    return Settings(
        device=device,
        device_id=device_id,
        decoder=decoder,
        num_threads=num_threads,
        workers=workers,
        prefetch=prefetch,
        dtype=dtype,
        on_error=on_error,
        resize_in_decoder=resize_in_decoder,
        check_files=check_files,
        refused=refused,
    )
