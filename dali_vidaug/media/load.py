"""Clips of a video as the graph takes them: frames that PyAV has decoded, or small files for DALI.

This is all that a decoding thread or process does. It needs neither torch nor DALI.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.errors import NotForDaliError
from dali_vidaug.media.claims import is_claim, prove
from dali_vidaug.media.colors import colors_of
from dali_vidaug.media.decode import decode_clips
from dali_vidaug.media.expected import Expected, coding_of, expect
from dali_vidaug.media.remux import remux
from dali_vidaug.media.uncrop import Box
from dali_vidaug.media.vectors import View
from dali_vidaug.media.video import Video


class Encoded(NamedTuple):
    """A clip that DALI decodes.

    Attributes:
        data: (N,) uint8, a small video file.
        positions: (F,) int32, where the clip's frames are in it.
        video: its row of the manifest.
        colors: (3, 3) float32, applied to the RGB values that DALI makes; used only with ``color="file"``.
        size, box: as of ``Remuxed``.
        coding: how it is coded, as ``coding_of`` says it.
        expected: what DALI should make of it; None where nobody asked for that.
    """

    data: np.ndarray
    positions: np.ndarray
    video: Video
    colors: np.ndarray
    size: tuple[int, int] | None = None
    box: Box | None = None
    coding: str = ""
    expected: Expected | None = None


class Doubt(NamedTuple):
    """How far DALI is trusted when clips are loaded.

    Attributes:
        wrong: codings that DALI decodes wrongly, and what is wrong.
        part: of the frames of the clips, the first ones, for which what DALI should make of them is wanted; 0.0: none.
    """

    wrong: Mapping[str, str]
    part: float = 0.0


class Loaded(NamedTuple):
    """Clips of a video as a decoding thread returns them.

    Attributes:
        clips: for each its input of the graph. What is the same for several of them is there once.
        num_decoded: frames that are decoded for all of them.
        seconds: processor time by stage.
        elapsed: seconds that passed.
        fallback: why PyAV decoded them although DALI was asked to, or None.
        measured: of a video of which only the header was read, its row as it is now known; else None.
        motion: what moves in each, (2, F, h, w) float32; None where it was not asked for.
    """

    clips: list[Any]
    num_decoded: int
    seconds: dict[str, float]
    elapsed: float
    fallback: str | None = None
    measured: Video | None = None
    motion: list[np.ndarray] | None = None


_NO_DOUBT = Doubt({})


def load_clips(
    decoder: str, on_gpu: bool, color: str, video: Video, frames: Sequence[np.ndarray],
    crops: Sequence[Sequence[np.void]], why: str | None, views: Sequence[View] | None = None, *,
    doubt: Doubt = _NO_DOUBT,
) -> Loaded:  # fmt: skip
    """Load clips of a video together; runs in a decoding thread or process.

    Args:
        decoder: "dali" cuts them out for DALI; "pyav" decodes them; "hybrid" does the first if DALI gets them right.
        on_gpu: where DALI runs.
        color: as in ``VideoLoader``.
        video: its row of the manifest.
        frames: for each clip its frame indices, (F,) int.
        crops: for each clip rows of ``ops.CROP``, which PyAV applies.
        why: why PyAV decodes them although DALI was asked to, or None.
        views: of each clip, where PyAV decodes them: for a map of what moves in it.
        doubt: how far DALI is trusted.

    Raises:
        EOFError, OSError, ValueError, av.error.FFmpegError: the file is bad or was changed, it is not what its header
            says, or only DALI may decode it and would get it wrong.
    """
    started, measured = time.perf_counter(), None
    if is_claim(video):
        video = prove(video)
        measured = video._replace(source=None)
    if decoder != "pyav":
        try:
            colors = colors_of(video, color)
            row = video._replace(source=None)  # not the bytes that were fetched for it, which need not stay
            different = {f.tobytes(): f for f in frames}
            files = {key: remux(video, f, on_gpu=on_gpu) for key, f in different.items()}
            made = {key: _encoded(video, row, f, files[key], colors, doubt) for key, f in different.items()}
            num_decoded = sum(int(file.positions.max()) + 1 for file in files.values())
            seconds = {"read": sum(file.seconds for file in files.values())}
            clips = [made[f.tobytes()] for f in frames]
            return Loaded(clips, num_decoded, seconds, time.perf_counter() - started, measured=measured)
        except NotForDaliError as error:
            if decoder == "dali":
                raise ValueError(f"{error}; use decoder='hybrid'") from error
            why = str(error)
    decoded = decode_clips(video, frames, crops, color, views)
    elapsed = time.perf_counter() - started
    return Loaded(decoded.pixels, decoded.num_decoded, decoded.seconds, elapsed, why, measured, decoded.motion)


def _encoded(video, row, frames, file, colors, doubt):
    """A small file as the graph takes it, and what DALI should make of it, if that is wanted."""
    coding = coding_of(video, file)
    if coding in doubt.wrong:
        raise NotForDaliError(f"DALI decodes {coding} wrongly: {doubt.wrong[coding]}")
    expected = expect(video, frames, colors, doubt.part) if doubt.part else None
    return Encoded(file.data, file.positions, row, colors, file.size, file.box, coding, expected)
