"""Which file goes to which decoder: DALI, that is NVDEC on a GPU, or PyAV on the CPU."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from typing import NamedTuple

from dali_vidaug.device import nvdec
from dali_vidaug.device.nvdec import Files, Format
from dali_vidaug.report import warn_once

WHOLE_CODECS = frozenset(("h264", "hevc"))  # NVDEC gives whole coded frames of these, see media/uncrop.py
CPU_CODECS = frozenset(("vp8", "vp9", "mjpeg"))  # what DALI 2.4 decodes without a GPU

_REASONS_SHOWN = 5  # in a message

_sent_to_nvdec: dict[int, nvdec.Sizes] = {}  # by GPU; the loaders of a process share DALI's decoders
_lock = threading.Lock()


class Choice(NamedTuple):
    """Who decodes the videos of a manifest.

    Attributes:
        decoder: "dali", "pyav" or "hybrid" (DALI, except for some clips).
        refused: formats that are not sent to DALI, with the reason.
    """

    decoder: str
    refused: dict[Format, str]


def choose_decoder(decoder: str, device: str, device_id: int | None, formats: Mapping[Format, Files]) -> Choice:
    """Decide who decodes.

    Args:
        decoder: as in ``VideoLoader``, "auto" included.
        device: "cpu" or "gpu".
        device_id: which GPU; None without one.
        formats: of the videos, as ``Manifest.formats`` gives them.

    Raises:
        ValueError: ``decoder`` is "dali", and DALI does not decode some of the formats.
    """
    if decoder == "pyav" or (decoder == "auto" and device == "cpu"):
        return Choice("pyav", {})
    with _lock:
        sizes = deepcopy(_sent_to_nvdec.get(device_id, nvdec.Sizes())) if device_id is not None else nvdec.Sizes()
        reasons = _ask_dali(device, device_id, formats, sizes)
        refused = {f: reason for f, reason in reasons.items() if reason}
        summary = _summary(refused, formats)
        if decoder == "dali" and refused:
            other = "auto" if device == "cpu" else "hybrid"
            raise ValueError(
                f"VideoLoader: decoder 'dali' does not suit the manifest: {summary}; use decoder='{other}'"
            )
        if device_id is not None:
            _sent_to_nvdec[device_id] = sizes
    if decoder == "dali":
        return Choice("dali", {})
    if refused and device == "gpu":
        warn_once(f"videos that are decoded on the CPU: {summary}")
    return Choice("pyav" if formats and len(refused) == len(formats) else "hybrid", refused)


def _ask_dali(device, device_id, formats, sizes) -> dict[Format, str | None]:
    """For each format None, or why DALI does not decode it; the sizes that go to NVDEC are added to ``sizes``."""
    if device == "cpu":
        return {f: None if f.codec in CPU_CODECS else f"DALI does not decode {f.codec} on the CPU" for f in formats}
    known, problem = nvdec.decoders(device_id), nvdec.problem(device_id)
    reasons: dict[Format, str | None] = {}
    for f in sorted(formats, key=lambda f: (-formats[f].number, f)):
        reasons[f] = problem or nvdec.refusal(f, known)
        if not reasons[f] and f.codec not in WHOLE_CODECS:
            reasons[f] = _confused(f, sizes.add(f))
    return reasons


def add_coded(device_id: int | None, codec: str, size: tuple[int, int]) -> str | None:
    """Add the size of whole coded frames of one of ``WHOLE_CODECS`` that NVDEC is to decode.

    Args:
        device_id: which GPU.
        codec: as FFmpeg names it.
        size: (width, height), as the parameter sets say.

    Returns:
        None, or why they must not be sent to NVDEC. That is so for H.265 in sizes that are not multiples of 16, where
        it is not known whether NVDEC's driver rounds them up, if the larger size was sent before; and the reverse.
    """
    video_format = Format(codec, "", *size)
    with _lock:
        if device_id is None:
            return None
        return _confused(video_format, _sent_to_nvdec.setdefault(device_id, nvdec.Sizes()).add(video_format))


def _confused(video_format, other):
    width, height = video_format.width, video_format.height
    return f"DALI 2.4 may confuse {width}x{height} with {other[1]}x{other[2]}" if other else None


def _summary(refused: Mapping[Format, str], formats: Mapping[Format, Files]) -> str:
    """The reasons, each with how many files it concerns and one of them; the most frequent first."""
    counts: Counter = Counter()
    for video_format, why in refused.items():
        counts[why] += formats[video_format].number
    examples = {why: formats[f].example for f, why in reversed(list(refused.items()))}
    texts = [
        f"{why} ({n} file{'s' * (n > 1)}, for example {examples[why]})" for why, n in counts.most_common(_REASONS_SHOWN)
    ]
    texts += [f"and {len(counts) - _REASONS_SHOWN} more reasons"] if len(counts) > _REASONS_SHOWN else []
    return "; ".join(texts)
