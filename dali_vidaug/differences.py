"""Whether decoded frames are the right ones: noise told from wrong frames, places and colours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_PIXELS = 10_000  # of a frame; of larger ones some rows are compared
_BAND = 8  # rows
_TILES = 8  # a frame is compared in so many parts along each side, too
_LUMA_MAX = 1.5  # levels of 255, of a frame on average; rounding makes less than 0.6
_TILE_MAX = 8.0  # the same, of the part of a frame that differs most
_MOVES = 6  # levels; a pixel that differs by more between two frames tells them apart, whatever the rounding
_MOVING_MIN = 32  # pixels that must tell two frames apart
_SURE = 0.9  # share of these pixels that must speak for a frame
_CHROMA_MAX = 2.0, 1.5  # levels, and of what a pixel of shift changes: colours of each frame, on average
_SHIFT_MAX = 1.0  # pixels; where samples of chroma lie is taken in several ways, half a pixel apart
_CHROMA_FRAMES = 3  # of a clip, whose colours are looked at in that way
_SLOPE_MIN = 0.1  # levels a pixel, that colours must change to tell a shift


class Finding(NamedTuple):
    """What a comparison found.

    Attributes:
        problem: what is wrong, or None.
        shows_order: whether a clip that is shifted by one frame, either way, would have looked otherwise.
    """

    problem: str | None
    shows_order: bool = False


def compared_rows(height: int, width: int, number: int) -> np.ndarray:
    """The rows of a frame that are compared: all of a small one; of others bands, which ``number`` moves."""
    step = max(1, round((height * width / _PIXELS) ** 0.5))
    rows = np.arange(height)
    return rows[(rows + number * _BAND) % (_BAND * step) < _BAND]


def find_difference(
    pixels: np.ndarray, frames: np.ndarray, expected: np.ndarray, indices: np.ndarray, rows: np.ndarray
) -> Finding:  # fmt: skip
    """Compare the frames of a clip with what they should be.

    Two right decoders agree on luma, except for rounding. On chroma they need not, where its samples are interpolated:
    so it is asked which shift explains the difference best. Frames are told from those beside them by the
    pixels that differ between them, however few: that does not depend on how much moves, or on noise.

    Args:
        pixels: (F, h, W, 3) uint8, as decoded.
        frames: (F,) their indices in the video.
        expected: (E, h, W, 3) uint8, the frames of ``indices`` by another decoder.
        indices: (E,) int, rising: all of ``frames``, and some of the frames beside them.
        rows: (h,) int, which rows of the frames they are.

    Returns:
        What is wrong with the first bad frame, in words; and whether the order of the frames was shown.
    """
    at = np.searchsorted(indices, frames)
    (luma, *chroma), (right, *right_chroma) = _planes(pixels), _planes(expected)
    away = np.abs(luma - right[at])
    earlier = later = False
    for k, i in enumerate(at.tolist()):
        for other in (i - 1, i + 1):
            if not 0 <= other < len(indices):
                continue
            moves = np.abs(right[other] - right[i]) > _MOVES
            if np.count_nonzero(moves) < _MOVING_MIN:
                continue
            share = float((away[k][moves] < np.abs(luma[k] - right[other])[moves]).mean())
            if share < 0.5 and _is_like(luma[k], right[other]):
                return Finding(f"frame {frames[k]} is frame {indices[other]}")
            if share >= _SURE and abs(int(indices[other]) - int(frames[k])) == 1:
                earlier, later = earlier or other < i, later or other > i
    levels = away.mean((1, 2))
    tiles = [part.mean((1, 2)) for rows in np.array_split(away, _TILES, 1) for part in np.array_split(rows, _TILES, 2)
             if part.size]  # fmt: skip
    for k in np.flatnonzero((levels > _LUMA_MAX) | (np.max(tiles, 0) > _TILE_MAX)).tolist()[:1]:
        return Finding(_describe(luma[k], int(frames[k]), right, indices, float(levels[k])))
    problem = _wrong_colors(chroma, [plane[at] for plane in right_chroma], rows)
    if problem:
        return Finding(problem)
    return Finding(None, earlier and later)


def _planes(pixels):
    """Luma of BT.601, R - G and B - G of RGB: (F, h, W) int16 each."""
    red, green, blue = (np.ascontiguousarray(pixels[..., c]).astype(np.int16) for c in range(3))
    weighted = red.view(np.uint16) * np.uint16(77)  # at most 65,280 in all
    weighted += green.view(np.uint16) * np.uint16(150)
    weighted += blue.view(np.uint16) * np.uint16(29)
    return (weighted >> np.uint16(8)).view(np.int16), red - green, blue - green


def _wrong_colors(chroma, expected, rows):
    """Chroma that is shifted, or not that of its frame: in words, or None."""
    some = np.unique(np.linspace(0, len(expected[0]) - 1, _CHROMA_FRAMES).astype(int))
    whole = np.flatnonzero(rows[4:] - rows[:-4] == 4) + 2  # rows with the two above and below
    for one, other in zip(chroma, expected, strict=True):
        off, step = np.abs(one - other).mean((1, 2)), np.abs(np.diff(other, axis=2)).mean((1, 2))
        if (off > _CHROMA_MAX[0] + _CHROMA_MAX[1] * step).any():
            return f"colours differ by {off.max():.1f} of 255 on average, brightness does not"
        part, inner = other[some].astype(np.float32), (slice(None), whole, slice(2, -2))
        across, down = part[:, whole, 4:] - part[:, whole, :-4], (part[:, whole + 2] - part[:, whole - 2])[..., 2:-2]
        shift = _shift(one[some][inner] - part[inner], (across / 4, down / 4), part[inner])
        if shift > _SHIFT_MAX:
            return f"colours are shifted by {shift:.1f} pixels"
    return None


def _shift(away, slopes, plane):
    """The shift, in pixels, that explains best (with a gain and an offset) by how much a plane is away from another."""
    if not plane.size:
        return 0.0
    columns = np.stack([*(slope.ravel() for slope in slopes), plane.ravel(), np.ones(plane.size, np.float32)])
    found = np.linalg.lstsq((columns @ columns.T).astype(float), (columns @ away.ravel()).astype(float), rcond=1e-6)[0]
    steep = [float((slope**2).mean()) ** 0.5 >= _SLOPE_MIN for slope in slopes]
    return max(abs(float(found[i])) if steep[i] else 0.0 for i in range(2))


def _is_like(luma, other):
    return float(np.abs(luma - other).mean()) <= _LUMA_MAX


def _describe(luma, frame, right, indices, level):
    """A frame that is not the expected one, in words: which one it is, or how far off."""
    others = np.abs(right - luma).mean((1, 2))
    nearest = int(np.argmin(others))
    if indices[nearest] != frame and others[nearest] <= _LUMA_MAX:
        return f"frame {frame} is frame {indices[nearest]}"
    return f"frame {frame} differs by {level:.1f} of 255 on average"
