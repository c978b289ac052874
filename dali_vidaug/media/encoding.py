"""How videos are encoded anew: presets, their options, and the size that a frame gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

_X264 = "ultrafast superfast veryfast faster fast medium slow slower veryslow".split()
_SVT = [str(number) for number in range(14)]


class Preset(NamedTuple):
    """An encoder, and what an ``Encoding`` leaves open.

    Attributes:
        encoder: FFmpeg's name.
        codec: FFmpeg's name of what it writes.
        crf, crf_range: the default, and the least and the largest.
        speed, speeds: the default, and those that there are.
        fast_decode: the default.
        unit: widths and heights are multiples of this.
        options: FFmpeg's options for the encoder.
    """

    encoder: str
    codec: str
    crf: float
    crf_range: tuple[float, float]
    speed: str
    speeds: list[str]
    fast_decode: bool
    unit: int
    options: Callable[[int, bool], dict[str, str]]


def _x264(gop, fast):
    tune = {"tune": "fastdecode"} if fast else {}
    return {**tune, "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0"}


def _nvdec(gop, fast):
    # few frames are delayed, since DALI orders them among eight
    return {**_x264(gop, fast), "profile": "high", "bf": "2"}


def _x265(gop, fast):
    tune = {"tune": "fastdecode"} if fast else {}
    keys = f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0"
    return {**tune, "x265-params": f"{keys}:pools=none:frame-threads=1:log-level=none"}


def _svt(gop, fast):
    return {"g": str(gop), "svtav1-params": f"lp=1:irefresh-type=2:scd=0:fast-decode={int(fast)}"}


# The least crf of x264 is 1: with 0 it writes a lossless profile, which NVDEC does not decode.
PRESETS = {
    "h264": Preset("libx264", "h264", 23, (1, 51), "medium", _X264, True, 2, _x264),
    "hevc": Preset("libx265", "hevc", 25, (0, 51), "medium", _X264, True, 2, _x265),
    "av1": Preset("libsvtav1", "av1", 35, (1, 63), "8", _SVT, True, 2, _svt),
    "nvdec": Preset("libx264", "h264", 23, (1, 51), "medium", _X264, False, 16, _nvdec),
}


@dataclass(frozen=True)
class Encoding:
    """How to encode: arguments as of ``dv.transcode``.

    Raises:
        ValueError: an argument is not one of those.
    """

    preset: str = "h264"
    short_side: int = 256
    gop: int = 16
    crf: float | None = None
    speed: str | None = None
    fast_decode: bool | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"transcode: preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")
        chosen = PRESETS[self.preset]
        for name, value, unit, low, high in (
            ("short_side", self.short_side, chosen.unit, 16, 16384),
            ("gop", self.gop, 1, 1, 1000),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high or value % unit:
                of = f" multiple of {unit}" if unit > 1 else " whole number"
                raise ValueError(f"transcode: {name} must be a{of} in [{low}, {high}], got {value!r}")
        (least, most), crf = chosen.crf_range, self.crf
        if crf is not None and (isinstance(crf, bool) or not isinstance(crf, (int, float)) or not least <= crf <= most):
            raise ValueError(
                f"transcode: crf of preset {self.preset!r} must be a number in [{least}, {most}], got {crf!r}"
            )
        if self.speed is not None and self.speed not in chosen.speeds:
            speeds = ", ".join(chosen.speeds)
            raise ValueError(
                f"transcode: speed of preset {self.preset!r} must be one of {speeds}, as text, got {self.speed!r}"
            )
        if self.fast_decode is not None and not isinstance(self.fast_decode, bool):
            raise ValueError(f"transcode: fast_decode must be True or False, got {self.fast_decode!r}")

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder."""
        return PRESETS[self.preset].encoder

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec."""
        return PRESETS[self.preset].codec

    def options(self) -> dict[str, str]:
        """FFmpeg's options for the encoder; all defaults are filled in."""
        chosen = PRESETS[self.preset]
        fast = chosen.fast_decode if self.fast_decode is None else self.fast_decode
        crf = chosen.crf if self.crf is None else self.crf
        return {"crf": f"{crf:g}", "preset": self.speed or chosen.speed, **chosen.options(self.gop, bool(fast))}

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a frame of height x width as shown.

        The short side becomes ``short_side`` at most, the long one as long as the shape asks for; both are rounded to
        even numbers, or to what the preset asks for where the frame is large enough. No side grows, but from 1 to 2.

        >>> Encoding().size(1080, 1920), Encoding().size(121, 161), Encoding("nvdec").size(1080, 1920)
        ((256, 456), (120, 160), (256, 448))
        """
        scale, unit = min(1.0, self.short_side / min(height, width)), PRESETS[self.preset].unit
        return _fit(height, scale, unit), _fit(width, scale, unit)


def _fit(side, scale, unit):
    wanted = int(side * scale / unit + 0.5) * unit
    if wanted > side:
        wanted -= unit
    return wanted or max(2, int(side * scale) // 2 * 2)
