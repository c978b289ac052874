"""Where pixels come from: 3x3 matrices, and points and boxes under them. NumPy only.

A matrix maps output to input coordinates, in pixels: pixel (x, y) covers [x, x+1) x [y, y+1), its centre is (x+1/2,
y+1/2). (x, y, 1) times the matrix's transpose is (u, v, w), and the input is at (u/w, v/w). Matrices are (..., 3, 3)
float64; those of ops one after the other are multiplied in the order of the ops, ``first @ second``.

Nothing here calls a library's sine, cosine or solver, whose last bits differ from machine to machine: plans are the
same on all, and ``fixed`` is what the kernels make of a matrix (kernels/gather.h), bit for bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

DEGREE = 0.017453292519943295  # radians


def cos_sin(radians: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine by their series, within 1e-15 for angles in [-pi, pi]; as in kernels/randaugment_tables.h."""
    angle = np.asarray(radians, np.float64)
    term, sums = np.ones_like(angle), [np.ones_like(angle), np.zeros_like(angle)]
    for n in range(1, 32):
        term = term * (angle / n)
        sums[n % 2] = sums[n % 2] + (-term if n // 2 % 2 else term)
    return sums[0], sums[1]


def matrix_of(a: ArrayLike, b: ArrayLike, c: ArrayLike, d: ArrayLike, e: ArrayLike, f: ArrayLike) -> np.ndarray:
    """(..., 3, 3): x' = a x + b y + c, y' = d x + e y + f. The arguments are broadcast."""
    rows = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (a, b, c, d, e, f, 0, 0, 1)))
    return np.stack(rows, -1).reshape(*rows[0].shape, 3, 3)


def translation(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """(..., 3, 3): the output at (0, 0) comes from (x, y) of the input."""
    return matrix_of(1, 0, x, 0, 1, y)


def rotation(degrees: ArrayLike, height: ArrayLike, width: ArrayLike) -> np.ndarray:
    """(..., 3, 3): counter-clockwise about the centre of frames of this size; degrees in [-180, 180]."""
    cosine, sine = cos_sin(np.asarray(degrees, np.float64) * DEGREE)
    x, y = np.asarray(width) / 2, np.asarray(height) / 2
    return matrix_of(cosine, -sine, x - cosine * x - -sine * y, sine, cosine, y - sine * x - cosine * y)


def wrapped(degrees: ArrayLike) -> np.ndarray:
    """The same angles in [-180, 180)."""
    return (np.asarray(degrees, np.float64) + 180) % 360 - 180


def affine(
    degrees: ArrayLike, x: ArrayLike, y: ArrayLike, scale: ArrayLike, shear_x: ArrayLike, shear_y: ArrayLike,
    height: ArrayLike, width: ArrayLike,
) -> np.ndarray:  # fmt: skip
    """(..., 3, 3): torchvision's affine about the centre of frames of this size.

    The frame is sheared (angles in degrees), turned clockwise, scaled, and moved by (x, y) pixels.
    """
    turn, along_x, along_y = (cos_sin(wrapped(angle) * DEGREE) for angle in (degrees, shear_x, shear_y))
    cosine, sine = turn[0] * along_y[0] + turn[1] * along_y[1], turn[1] * along_y[0] - turn[0] * along_y[1]
    tangent = along_x[1] / along_x[0]
    a, b = cosine / along_y[0], -cosine / along_y[0] * tangent - turn[1]  # forward, with cosine and sine of the
    c, d = sine / along_y[0], -sine / along_y[0] * tangent + turn[0]  # difference of both angles
    back = matrix_of(d / scale, -b / scale, 0, -c / scale, a / scale, 0)
    middle_x, middle_y = np.asarray(width) / 2, np.asarray(height) / 2
    return translation(middle_x, middle_y) @ back @ translation(-middle_x - np.asarray(x), -middle_y - np.asarray(y))


def crop(
    top: ArrayLike, left: ArrayLike, bottom: ArrayLike, right: ArrayLike, out_height: ArrayLike, out_width: ArrayLike
) -> np.ndarray:
    """(..., 3, 3): the box [top, bottom) x [left, right), scaled to out_height x out_width."""
    across = np.subtract(right, left) / np.asarray(out_width, np.float64)
    down = np.subtract(bottom, top) / np.asarray(out_height, np.float64)
    return matrix_of(across, 0, left, 0, down, top)


def inverse(matrices: ArrayLike) -> np.ndarray:
    """(..., 3, 3): from input to output. Of a matrix without inverse, infinite or NaN."""
    m = np.asarray(matrices, np.float64)
    (a, b, c), (d, e, f), (g, h, i) = (np.moveaxis(m, (-2, -1), (0, 1))[k] for k in range(3))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        adjugate = np.stack(
            [e * i - f * h, c * h - b * i, b * f - c * e, f * g - d * i, a * i - c * g, c * d - a * f,
             d * h - e * g, b * g - a * h, a * e - b * d], -1,
        ).reshape(m.shape)  # fmt: skip
        determinant = a * adjugate[..., 0, 0] + b * adjugate[..., 1, 0] + c * adjugate[..., 2, 0]
        return adjugate / determinant[..., None, None]


def square_to_quad(corners: ArrayLike) -> np.ndarray:
    """The projective map from the unit square to four points (Heckbert 1989).

    Args:
        corners: (..., 4, 2), where (0, 0), (1, 0), (1, 1) and (0, 1) go.

    Returns:
        (..., 3, 3); infinite or NaN where three of the points are on a line.
    """
    points = np.asarray(corners, np.float64)
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = (np.moveaxis(points[..., k, :], -1, 0) for k in range(4))
    sum_x, sum_y = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    with np.errstate(divide="ignore", invalid="ignore"):
        area = (x1 - x2) * (y3 - y2) - (x3 - x2) * (y1 - y2)
        g = (sum_x * (y3 - y2) - (x3 - x2) * sum_y) / area
        h = ((x1 - x2) * sum_y - sum_x * (y1 - y2)) / area
        rows = [x1 - x0 + g * x1, x3 - x0 + h * x3, x0, y1 - y0 + g * y1, y3 - y0 + h * y3, y0, g, h, np.ones_like(g)]
    return np.stack(rows, -1).reshape(*g.shape, 3, 3)


def from_quad(corners: ArrayLike, width: ArrayLike, height: ArrayLike) -> np.ndarray:
    """(..., 3, 3): the rectangle [0, width] x [0, height] of the input is shown between four corners (..., 4, 2).

    The third coordinate is positive between them, and 1 at their mean.
    """
    to_quad = inverse(square_to_quad(corners))
    with np.errstate(invalid="ignore", divide="ignore"):
        matrices = matrix_of(width, 0, 0, 0, height, 0) @ to_quad
        mean = np.asarray(corners, np.float64).mean(-2)
        weight = (matrices[..., 2, :2] * mean).sum(-1) + matrices[..., 2, 2]
        return matrices / weight[..., None, None]


def is_convex(corners: ArrayLike) -> np.ndarray:
    """(...,) bool: four points (..., 4, 2) make a convex shape, in the order of the hands of a clock, y downwards."""
    points = np.asarray(corners, np.float64)
    ahead = np.roll(points, -1, -2) - points
    turn = np.roll(ahead, -1, -2)
    return np.asarray((ahead[..., 0] * turn[..., 1] - ahead[..., 1] * turn[..., 0] > 0).all(-1))


def fixed(matrices: ArrayLike) -> np.ndarray:
    """(..., 6) int64: affine matrices as the kernels have them (``fixed_matrix`` in kernels/gather.h)."""
    m = np.asarray(matrices, np.float64)[..., :2, :].copy()
    m[..., 2] += (m[..., 0] + m[..., 1]) / 2  # of the centres of pixels
    scaled = m * 2.0**32
    return np.trunc(scaled + np.where(m < 0, -0.5, 0.5)).astype(np.int64).reshape(*m.shape[:-2], 6)


def map_points(matrices: ArrayLike, points: ArrayLike) -> np.ndarray:
    """Points (..., N, 2) under matrices (..., 3, 3): (..., N, 2)."""
    m, p = np.asarray(matrices, np.float64), np.asarray(points, np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mapped = p @ np.swapaxes(m[..., :, :2], -1, -2) + m[..., None, :, 2]
        return mapped[..., :2] / mapped[..., 2:]


def map_boxes(matrices: ArrayLike, boxes: ArrayLike) -> np.ndarray:
    """Where boxes of the input are in the output: the hulls of their four corners.

    Args:
        matrices: (..., 3, 3), output to input.
        boxes: (..., N, 4), x1, y1, x2, y2 in pixels, half open.

    Returns:
        (..., N, 4), not clipped to the frame.
    """
    b = np.asarray(boxes, np.float64)
    corners = np.stack([b[..., [0, 2, 2, 0]], b[..., [1, 1, 3, 3]]], -1)  # (..., N, 4, 2)
    shape = (*corners.shape[:-3], -1, 2)
    mapped = map_points(inverse(matrices), corners.reshape(shape))
    mapped = mapped.reshape(*mapped.shape[:-2], *corners.shape[-3:])
    return np.concatenate([mapped.min(-2), mapped.max(-2)], -1)


def clip_boxes(boxes: ArrayLike, height: ArrayLike, width: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Cut boxes off at the edges of a frame.

    Args:
        boxes: (..., 4), x1, y1, x2, y2.
        height, width: of the frames: numbers, or (...,).

    Returns:
        (..., 4) the boxes within [0, width] x [0, height], and (...,) in [0, 1] which share of each box that is; 0 for
        boxes without an area.
    """
    b = np.asarray(boxes, np.float64)
    limits = np.stack(np.broadcast_arrays(width, height, width, height), -1)
    clipped = np.clip(b, 0, limits)
    area, left = (np.prod(np.maximum(box[..., 2:] - box[..., :2], 0), -1) for box in (b, clipped))
    return clipped, np.where(area > 0, left / np.where(area > 0, area, 1), 0.0)


def cut_polygons(polygons: ArrayLike, lines: ArrayLike) -> np.ndarray:
    """What is left of convex polygons on one side of lines.

    Args:
        polygons: (N, K, 2), corners in order; one may come several times.
        lines: (N, 3), a, b and c for each polygon: points with a x + b y + c >= 0 stay.

    Returns:
        (N, L, 2), with as many corners as the polygon with the most of them; others, and polygons of which nothing is
        left, have one several times, so that the latter have no area.
    """
    p, line = np.asarray(polygons, np.float64), np.asarray(lines, np.float64)
    value = (p * line[:, None, :2]).sum(-1) + line[:, None, 2]
    inside = value >= 0
    if inside.all():
        return p
    next_value = np.roll(value, -1, 1)
    crosses = inside != (next_value >= 0)
    share = np.where(crosses, value, 0) / np.where(crosses, value - next_value, 1)
    crossing = p + share[..., None] * (np.roll(p, -1, 1) - p)
    corners = np.stack([p, crossing], 2).reshape(len(p), -1, 2)
    kept = np.stack([inside, crosses], 2).reshape(len(p), -1)
    order, count = np.argsort(~kept, 1, kind="stable"), kept.sum(1)
    places = np.arange(max(1, count.max(initial=1)))
    chosen = np.where(places < count[:, None], order[:, : len(places)], order[:, :1])
    return np.take_along_axis(corners, chosen[..., None], 1)


def polygon_areas(polygons: ArrayLike) -> np.ndarray:
    """Areas (N,) of polygons (N, K, 2)."""
    p = np.asarray(polygons, np.float64)
    p = p - p[:, :1]  # far from the origin, differences of products would be rounded
    (x, y), (next_x, next_y) = np.moveaxis(p, -1, 0), np.moveaxis(np.roll(p, -1, 1), -1, 0)
    return np.abs((x * next_y - next_x * y).sum(1)) / 2
