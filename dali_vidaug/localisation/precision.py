"""Average precision of found segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dali_vidaug.localisation.segments import AMBIGUOUS, Segments, groups, temporal_iou

THUMOS14 = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # thresholds of IoU
ACTIVITYNET = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
_TINY = 1e-9  # of IoU: 7 of 10 seconds are at least 0.7, whatever the rounding


@dataclass(frozen=True, eq=False)
class LocalisationResult:
    """How well segments were found.

    Attributes:
        thresholds: (T,) of IoU.
        classes: K names.
        average_precision: (T, K) float64, NaN of classes that have no annotated segment.
        num_segments, num_detections: (K,) int64, annotated and found ones of each class.
    """

    thresholds: tuple[float, ...]
    classes: tuple[str, ...]
    average_precision: np.ndarray
    num_segments: np.ndarray
    num_detections: np.ndarray

    @property
    def mean_average_precision(self) -> np.ndarray:
        """(T,) float64: for each threshold the mean over the classes that have annotated segments."""
        return self.average_precision[:, self.num_segments > 0].mean(1)

    @property
    def mean(self) -> float:
        """The mean of that over the thresholds."""
        return float(self.mean_average_precision.mean())

    def __str__(self) -> str:
        rows = [("mAP", self.mean_average_precision, int(self.num_segments.sum()), int(self.num_detections.sum()))]
        rows += zip(self.classes, self.average_precision.T, self.num_segments, self.num_detections, strict=True)
        width = max(len("IoU"), *(len(name) for name, *_ in rows))
        lines = ["  ".join((f"{'IoU':{width}}", *(f"{t:5.2f}" for t in self.thresholds), " mean", "segments", "found"))]
        for name, values, segments, found in rows:
            told = [f"{100 * v:5.1f}" if v == v else "    -" for v in (*values, values.mean())]
            lines.append("  ".join((f"{name:{width}}", *told, f"{segments:8}", f"{found:5}")))
        return "\n".join(lines)


def mean_average_precision(
    detections: Segments, truth: Segments, classes: Sequence[str], thresholds: Sequence[float] = THUMOS14
) -> LocalisationResult:
    """Average precision of found segments, as for THUMOS14 and ActivityNet.

    For each class, the best detection comes first, and takes the annotated segment of its class and video that it
    overlaps most, among those that no better one has taken. It is right if their IoU reaches the threshold; else it is
    wrong, as is what is found in a video without such a segment. One that is not right and overlaps an ambiguous
    segment counts neither as right nor as wrong. Precision at a recall is the best at that recall or a larger one, and
    average precision is its mean over all recalls. Detections of equal scores count together: their order does not
    matter.

    Args:
        detections: found segments.
        truth: all annotated segments of the videos, ambiguous ones too.
        classes: names, by index.
        thresholds: of IoU, in (0, 1]: ``THUMOS14`` or ``ACTIVITYNET``.

    Raises:
        ValueError: a label is not one of the classes, a segment does not end after it starts, a number is not finite,
            a threshold is out of range, or nothing is annotated.
    """
    levels = np.asarray(thresholds, np.float64)
    if not (levels.ndim == 1 and len(levels) and ((levels > 0) & (levels <= 1)).all()):
        raise ValueError(f"mean_average_precision: thresholds must be in (0, 1], got {thresholds!r}")
    _check("detections", detections, 0, len(classes))
    _check("truth", truth, AMBIGUOUS, len(classes))
    counts = [np.bincount(some.label[some.label >= 0], minlength=len(classes)) for some in (truth, detections)]
    if not counts[0].any():
        raise ValueError("mean_average_precision: truth has no segment of any class")
    ambiguous = truth.take(truth.label == AMBIGUOUS)
    precision = np.full((len(levels), len(classes)), np.nan)
    for label in np.flatnonzero(counts[0]).tolist():
        found, wanted = (some.take(some.label == label) for some in (detections, truth))
        right = _match(found, wanted, levels)
        excused = _overlaps(found, ambiguous)
        for i, hits in enumerate(right):
            counted = hits | ~excused
            precision[i, label] = _interpolated(found.score[counted], hits[counted], len(wanted.video))
    return LocalisationResult(tuple(levels.tolist()), tuple(classes), precision, *counts)


def _check(name, segments, lowest, num_classes):
    for field, column in zip(segments._fields, segments, strict=True):
        if column.shape != segments.video.shape or not np.isfinite(column).all():
            raise ValueError(f"mean_average_precision: {field} of {name} must be {len(segments.video)} finite numbers")
    bad = np.flatnonzero((segments.label < lowest) | (segments.label >= num_classes))
    if len(bad):
        raise ValueError(
            f"mean_average_precision: labels of {name} must be in [{lowest}, {num_classes}), got "
            f"{segments.label[bad[0]]} in video {segments.video[bad[0]]}"
        )
    bad = np.flatnonzero(segments.end <= segments.start)
    if len(bad):
        start, end, video = (column[bad[0]] for column in (segments.start, segments.end, segments.video))
        raise ValueError(
            f"mean_average_precision: {name} must end after they start, got {start:g} to {end:g} s in video {video}"
        )


def _match(found: Segments, wanted: Segments, levels: np.ndarray) -> np.ndarray:
    """Which detections of a class are right, at each threshold: (T, N) bool."""
    right = np.zeros((len(levels), len(found.video)), bool)
    of_video = {int(wanted.video[group[0]]): wanted.take(group) for group in groups(wanted.video)}
    for group in groups(found.video):
        there, mine = of_video.get(int(found.video[group[0]])), found.take(group)
        if there is None:
            continue
        there = there.take(np.lexsort((there.end, there.start)))
        iou = temporal_iou(mine.start, mine.end, there.start, there.end)
        taken = np.zeros((len(levels), len(there.video)), bool)
        for i in np.lexsort((mine.end, mine.start, -iou.max(1), -mine.score)).tolist():
            free = np.where(taken | (iou[i] < levels[:, None] - _TINY), -1.0, iou[i])
            best = free.argmax(1)
            hits = np.flatnonzero(free.max(1) >= 0)
            taken[hits, best[hits]] = True
            right[hits, group[i]] = True
    return right


def _overlaps(found, ambiguous):
    """Which segments overlap an ambiguous one of their video: (N,) bool."""
    overlap = np.zeros(len(found.video), bool)
    for group in groups(ambiguous.video):
        some = ambiguous.take(group)
        mine = np.flatnonzero(found.video == some.video[0])
        overlap[mine] = (temporal_iou(found.start[mine], found.end[mine], some.start, some.end) > 0).any(1)
    return overlap


def _interpolated(score: np.ndarray, right: np.ndarray, num_wanted: int) -> float:
    """Average precision of (N,) detections of a class, of which some are right."""
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True)) if len(order) else np.zeros(0, np.int64)
    hits = np.cumsum(right[order])[ends]  # after all detections of a score
    recall, precision = hits / num_wanted, hits / (ends + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * best).sum())
