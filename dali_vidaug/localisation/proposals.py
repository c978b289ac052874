"""From the activations of snippets to segments: runs at several thresholds, the best of those that overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dali_vidaug.localisation.segments import Segments, groups, make_segments, temporal_iou

_TINY = 1e-6  # seconds, of rounding


def propose(
    activation: np.ndarray, start: np.ndarray, end: np.ndarray, video: int, thresholds: Sequence[float],
    gap_seconds: float = 0.0,
) -> Segments:  # fmt: skip
    """Segments of a video in which its snippets are active: for each class and threshold the runs that reach it.

    The score is the mean activation of a run, less that of its surroundings: a quarter of its length on both sides.

    Args:
        activation: (S, K), of each snippet for each class: the class activation sequence.
        start, end: (S,) seconds of the snippets, rising.
        video: manifest row.
        thresholds: of the activation.
        gap_seconds: runs that are so close to each other are one; 0: none are.

    Raises:
        ValueError: activations are not (S, K), there are not as many snippets as seconds, or a number is not finite.
    """
    activation, start, end = np.asarray(activation), np.asarray(start), np.asarray(end)
    if activation.ndim != 2 or not start.shape == end.shape == activation.shape[:1]:
        raise ValueError(
            "propose: activation must be (S, K), start and end (S,), got "
            f"{', '.join(str(column.shape) for column in (activation, start, end))}"
        )
    for name, column in (("activation", activation), ("start", start), ("end", end), ("thresholds", thresholds)):
        if not np.isfinite(column).all():
            raise ValueError(f"propose: {name} must be finite numbers, got NaN or infinity in video {video}")
    found = []
    for label in range(activation.shape[1]):
        values, runs = activation[:, label], set()
        for threshold in thresholds:
            runs |= set(_runs(values >= threshold, start, end, gap_seconds))
        for first, last in sorted(runs):
            more = max(1, round((last - first) / 4))
            around = np.concatenate([values[max(0, first - more) : first], values[last : last + more]])
            score = values[first:last].mean() - (around.mean() if len(around) else 0.0)
            found.append((start[first], end[last - 1], label, score))
    return make_segments(video, *zip(*found, strict=True)) if found else make_segments([], [], [], [])


def _runs(active, start, end, gap_seconds) -> Iterator[tuple[int, int]]:
    """Runs [first, last) of active snippets; those with gaps of at most ``gap_seconds`` are one."""
    on = np.flatnonzero(active)
    if len(on):
        breaks = np.flatnonzero(start[on[1:]] - end[on[:-1]] > gap_seconds + _TINY) + 1
        for part in np.split(on, breaks):
            yield int(part[0]), int(part[-1]) + 1


def suppress(segments: Segments, iou: float) -> Segments:
    """Non-maximum suppression within each video and class: the best first, without what overlaps a better one.

    Args:
        segments: found ones.
        iou: those that overlap a better one by more are left out, [0, 1].
    """
    order = np.lexsort((segments.end, segments.start, -segments.score))
    kept = []
    for group in groups(segments.video[order], segments.label[order]):
        left = order[group]
        while len(left):
            best, left = left[0], left[1:]
            kept.append(best)
            some = segments.take(left)
            left = left[temporal_iou(some.start, some.end, segments.start[[best]], segments.end[[best]])[:, 0] <= iou]
    best_first = np.array(kept, np.int64)
    return segments.take(best_first[np.argsort(-segments.score[best_first], kind="stable")])
