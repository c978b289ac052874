"""How a stored frame is turned and mirrored to be shown: one of eight ways, numbered as in EXIF.

| orientation | to show the stored frame | | orientation | to show the stored frame |
|---|---|---|---|---|
| 1 | as it is | | 5 | transpose |
| 2 | mirror left and right | | 6 | rotate by 90 degrees clockwise |
| 3 | rotate by 180 degrees | | 7 | transpose along the other diagonal |
| 4 | mirror top and bottom | | 8 | rotate by 270 degrees clockwise |
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np

# (transposed first, then mirrored top and bottom, mirrored left and right)
_STEPS = {
    1: (0, 0, 0),
    2: (0, 0, 1),
    3: (0, 1, 1),
    4: (0, 1, 0),
    5: (1, 0, 0),
    6: (1, 0, 1),
    7: (1, 1, 1),
    8: (1, 1, 0),
}
_NUMBERS = {steps: number for number, steps in _STEPS.items()}
_TOLERANCE = 1e-3  # of an entry of a display matrix: a rotation by 90 degrees is stored with rounding errors


class Orientation(NamedTuple):
    """An orientation, and why it is not what the file asks for, or None."""

    number: int
    note: str | None


def orientation_of(frame: Any) -> Orientation:
    """The orientation that a frame's display matrix asks for; 1 if it is none of the eight."""
    data = frame.side_data.get("DISPLAYMATRIX")
    return Orientation(1, None) if data is None else read_display_matrix(bytes(data))


def read_display_matrix(data: bytes) -> Orientation:
    """The orientation of a display matrix: nine 32-bit numbers a b u c d v x y w in native byte order.

    Point (x, y) of the stored frame is shown at (a x + c y, b x + d y), up to a shift (ISO/IEC 14496-12, 6.2.2). Scale
    is left aside.
    """
    a, b, _, c, d, *_ = (value / 65536 for value in struct.unpack("=9i", data[:36]))
    for transposed, along, across in ((0, (a, d), (b, c)), (1, (c, b), (a, d))):
        least = min(abs(value) for value in along)
        if least > 0 and all(abs(value) <= _TOLERANCE * least for value in across):
            return Orientation(_NUMBERS[transposed, int(along[1] < 0), int(along[0] < 0)], None)
    return Orientation(
        1, f"its display matrix ({a:g} {b:g} {c:g} {d:g}) is none of the eight orientations: shown as stored"
    )


def is_transposed(orientation: int) -> bool:
    """Whether height and width are exchanged."""
    return orientation >= 5


def oriented(picture: np.ndarray, orientation: int) -> np.ndarray:
    """A stored picture (H, W, ...) as it is shown: a view."""
    transposed, vertical, horizontal = _STEPS[orientation]
    picture = picture.swapaxes(0, 1) if transposed else picture
    return picture[:: -1 if vertical else 1, :: -1 if horizontal else 1]


def stored_box(box: tuple, height: int, width: int, orientation: int) -> tuple[int, int, int, int]:
    """The box (top, left, bottom, right) of a height x width frame as shown, in the frame as it is stored."""
    top, left, bottom, right = box
    transposed, vertical, horizontal = _STEPS[orientation]
    if vertical:
        top, bottom = height - bottom, height - top
    if horizontal:
        left, right = width - right, width - left
    return (left, top, right, bottom) if transposed else (top, left, bottom, right)


def to_stored(orientation: int, width: int, height: int) -> np.ndarray:
    """(2, 3) float32: the matrix from a point of the frame as shown to one of the stored frame of width x height."""
    transposed, vertical, horizontal = _STEPS[orientation]
    shown_width, shown_height = (height, width) if transposed else (width, height)
    x = (-1, 0, shown_width) if horizontal else (1, 0, 0)
    y = (0, -1, shown_height) if vertical else (0, 1, 0)
    return np.array((y, x) if transposed else (x, y), np.float32)
