"""Which matrix turns a file's YUV into RGB: BT.601 for all, or what the file says."""

from __future__ import annotations

from typing import Any

import numpy as np

from dali_vidaug.errors import NotForDaliError
from dali_vidaug.media.video import Video

COLORS = ("bt601", "file")
# By the number of the matrix coefficients in a stream (ITU-T H.273, table 4): libswscale's name, and the weights of red
# and blue in luma. Number 2 is "unspecified", for which FFmpeg and torchcodec take BT.601; 0 is RGB, without a matrix.
_MATRICES = {
    0: ("bt601", 0.299, 0.114),
    1: ("bt709", 0.2126, 0.0722),
    2: ("bt601", 0.299, 0.114),
    4: ("fcc", 0.3, 0.11),
    5: ("bt601", 0.299, 0.114),
    6: ("bt601", 0.299, 0.114),
    7: ("smpte240m", 0.212, 0.087),
    9: ("bt2020", 0.2627, 0.0593),
    10: ("bt2020", 0.2627, 0.0593),
}
_BT601 = (0.299, 0.114)
_TRANSFERS = {16: "PQ, SMPTE ST 2084", 18: "HLG, ARIB STD-B67"}  # table 3: of high dynamic range


def matrix_name(color: str, number: int) -> str:
    """libswscale's name of the matrix for a frame.

    Args:
        color: of ``COLORS``.
        number: the frame's matrix coefficients.

    Raises:
        ValueError: the file asks for one that is not known.
    """
    return "bt601" if color == "bt601" else _matrix(number)[0]


def matrix_weights(color: str, number: int) -> tuple[float, float]:
    """The weights of red and blue in luma, of the matrix for a frame; arguments and errors as of ``matrix_name``."""
    return _matrix(number)[1:] if color == "file" else _BT601


def colors_of(video: Video, color: str) -> np.ndarray:
    """(3, 3) float32: from RGB that was made with BT.601, as DALI makes it, to that of ``matrix_name``.

    Raises:
        NotForDaliError: the matrix of the video's frames is not known before they are decoded.
        ValueError: as ``matrix_name``.
    """
    if color == "bt601":
        return np.eye(3, dtype=np.float32)
    if video.colorspace is None:
        raise NotForDaliError(
            "not for DALI's decoder with color='file': its colour matrix changes, or an older release scanned it: "
            "scan again"
        )
    right, taken = (_yuv_to_rgb(*weights) for weights in (_matrix(video.colorspace)[1:], _BT601))
    return (right @ np.linalg.inv(taken)).astype(np.float32)


def hdr_note(number: int) -> str | None:
    """What to say of a file with these transfer characteristics, or None."""
    name = _TRANSFERS.get(number)
    return f"HDR ({name}): colours are shown as they are stored, without tone mapping" if name else None


def _matrix(number: Any):
    if int(number) not in _MATRICES:
        raise ValueError(
            f"its colour matrix (number {int(number)} of ITU-T H.273) is not supported with color='file'; "
            "color='bt601' takes BT.601 for all files"
        )
    return _MATRICES[int(number)]


def _yuv_to_rgb(red, blue):
    """(3, 3) float64: Y, Cb, Cr to R, G, B, where luma has these weights (ITU-T H.273, 8.3)."""
    green = 1 - red - blue
    return np.array(
        [
            [1, 0, 2 * (1 - red)],
            [1, -2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green],
            [1, 2 * (1 - blue), 0],
        ]
    )
