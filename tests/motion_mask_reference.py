"""Motion-guided masks in plain NumPy, for the whole batch at once: what kernels/masks.cpp does clip by clip."""

import numpy as np

ROUNDS = 2


def follow_motion(motion, times, boxes, random, count):
    """(B, T, H, W) bool; motion (B, 2, T, H, W), times (B, T), boxes (B, 2) and random (B,) as the kernel has them."""
    vectors, shape = motion.swapaxes(1, 2), np.array(motion.shape[3:])
    places = np.stack(np.meshgrid(*(np.arange(side) + 0.5 for side in shape), indexing="ij"))
    usual, known = usual_motion(vectors), ~np.isnan(vectors)
    apart = np.where(known, vectors - usual[..., None, None], 0)
    vectors = np.where(known, vectors, 0)
    weights = np.sqrt((apart**2).sum(2))
    first = weights.any((2, 3)).argmax(1)
    centre = start(random, places, weights[np.arange(len(weights)), first])
    masks, speed = np.empty((*times.shape, *shape), bool), np.zeros((len(weights), 2))
    for t in range(times.shape[1]):
        begun = (t >= first)[:, None]
        for _ in range(ROUNDS):
            middle, total = mean_inside(boxes, centre, weights[:, t], places)
            centre = np.where(begun & (total > 0), middle, centre)
        centre = np.minimum(np.maximum(centre, boxes / 2), shape - boxes / 2)
        masks[:, t] = nearest(boxes, centre, places, count)
        mean, total = mean_inside(boxes, centre, weights[:, t], vectors[:, t])
        speed = np.where(total > 0, mean, np.where(np.isnan(usual[:, t]), speed, usual[:, t]))
        if t + 1 < times.shape[1]:
            centre = np.where(begun, centre + speed * (times[:, t + 1] - times[:, t])[:, None], centre)
    return masks


def usual_motion(vectors):
    flat = np.sort(vectors.reshape(*vectors.shape[:3], -1), -1)  # NaN last
    middle = np.maximum((~np.isnan(flat)).sum(-1) - 1, 0) // 2
    return np.take_along_axis(flat, middle[..., None], -1)[..., 0]


def start(random, places, weights):
    flat = weights.reshape(len(weights), -1)
    until = np.cumsum(np.where(flat.any(1)[:, None], flat, 1.0), 1)
    chosen = (until <= (random * until[:, -1])[:, None]).sum(1)
    return places.reshape(2, -1)[:, np.minimum(chosen, flat.shape[1] - 1)].T


def mean_inside(boxes, centre, weights, values):
    """The weighted mean of values within boxes, (B, 2), and the sum of the weights, (B, 1)."""
    height, width = weights.shape[1:]
    near = np.abs(np.arange(max(height, width)) + 0.5 - centre[..., None]) <= boxes[..., None] / 2
    inside = weights * (near[:, 0, :height, None] & near[:, 1, None, :width])
    total = inside.sum((1, 2))[:, None]
    return (inside[:, None] * values).sum((2, 3)) / np.maximum(total, 1e-12), total


def nearest(boxes, centre, places, count):
    far = np.abs(places - centre[..., None, None]) / boxes[..., None, None]
    order = far.max(1).reshape(len(boxes), -1).argsort(1, kind="stable")
    masked = np.zeros(order.shape, bool)
    np.put_along_axis(masked, order[:, :count], True, 1)
    return masked.reshape(len(boxes), *places.shape[1:])
