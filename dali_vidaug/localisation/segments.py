"""Segments of videos: those that are annotated, and what they say of snippets."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dali_vidaug.data.schema import SEGMENTS
from dali_vidaug.errors import printable

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from dali_vidaug.data.manifest import Manifest
    from dali_vidaug.sampling.snippets import Spans

AMBIGUOUS = -1  # label of annotated segments of which nobody can say whether they show a class
_SLACK = 0.1  # seconds that a segment may end after its video: lists have one decimal place

log = logging.getLogger("dali_vidaug")


class Segments(NamedTuple):
    """Segments of videos, annotated or found. N of them, in any order.

    Attributes:
        video: (N,) int64, manifest rows.
        start, end: (N,) float64, [start, end) in seconds after the first frame that may be used, as of
            ``Snippets.spans``.
        label: (N,) int64, index of a class; ``AMBIGUOUS`` of annotated segments without one.
        score: (N,) float64, larger is more certain; 1 of annotated segments.
    """

    video: np.ndarray
    start: np.ndarray
    end: np.ndarray
    label: np.ndarray
    score: np.ndarray

    def take(self, which: ArrayLike) -> Segments:
        """Some of them, by index or truth value."""
        return Segments(*(column[np.asarray(which)] for column in self))


def make_segments(
    video: ArrayLike, start: ArrayLike, end: ArrayLike, label: ArrayLike, score: ArrayLike = 1.0
) -> Segments:
    """Segments of columns that are broadcast to one length; arguments as of ``Segments``.

    Raises:
        ValueError: columns are of different lengths or no numbers, or a video or label is no whole number.
    """
    given = dict(zip(Segments._fields, map(np.atleast_1d, (video, start, end, label, score)), strict=True))
    for name, column in given.items():
        if column.ndim != 1 or column.dtype.kind not in "biuf":
            raise ValueError(f"make_segments: {name} must be numbers in one column, got {column.dtype} {column.shape}")
        if name in ("video", "label") and not (column == np.round(column)).all():  # NaN is not equal
            bad = column[column != np.round(column)][0]
            raise ValueError(f"make_segments: {name} must be whole numbers, got {bad}")
    try:
        columns = np.broadcast_arrays(*given.values())
    except ValueError:
        sizes = ", ".join(f"{len(column)} of {name}" for name, column in given.items())
        raise ValueError(f"make_segments: columns must be of one length, or of one value, got {sizes}") from None
    kinds = np.int64, np.float64, np.float64, np.int64, np.float64
    return Segments(*(column.astype(kind) for column, kind in zip(columns, kinds, strict=True)))


def join_segments(parts: Sequence[Segments]) -> Segments:
    """All segments of several; of none, no segments."""
    return Segments(*map(np.concatenate, zip(make_segments([], [], [], []), *parts, strict=True)))


def annotated_segments(manifest: Manifest) -> Segments:
    """The segments that are annotated in the videos of a manifest, in the order of its rows.

    They stay as annotated where they end after their video, which is warned about, as are videos without any: what is
    found in those counts as wrong.

    Args:
        manifest: of a list that was scanned with format "activitynet_videos" or "thumos14_videos".

    Raises:
        ValueError: it has no segments, or they have classes that it has not.
    """
    if SEGMENTS.name not in manifest.table.column_names or manifest.table[SEGMENTS.name].type != SEGMENTS.type:
        raise ValueError(
            "localisation: the manifest has no annotated segments of whole videos; scan a list with "
            "format='activitynet_videos' or 'thumos14_videos'"
        )
    number = {name: i for i, name in enumerate(manifest.classes)} | {None: AMBIGUOUS}
    rows, empty, after = [], [], []
    lengths = manifest.rows("duration_seconds")
    for row, parts in enumerate(manifest.rows(SEGMENTS.name)):
        begin, length = _first_second(manifest, row), lengths[row]
        for part in parts or ():
            if part["label"] not in number:
                raise ValueError(
                    f"localisation: {printable(manifest.path(row))} has a segment of {part['label']!r}, which is not "
                    f"among the {len(manifest.classes)} classes of the manifest"
                )
            rows.append((row, part["start"] - begin, part["end"] - begin, number[part["label"]]))
            after += [row] if length is not None and part["end"] > length + _SLACK else []
        empty += [] if parts else [row]
    for what, some in (("segments end after their video does", after), ("videos have no annotated segment", empty)):
        if some:
            log.warning("localisation: %d %s, such as %s", len(some), what, printable(manifest.path(some[0])))
    return make_segments(*(zip(*rows, strict=True) if rows else ([], [], [], [])))


def _first_second(manifest: Manifest, row: int) -> float:
    """When the first frame of a row that may be used is shown: 0, unless frames before it are damaged."""
    videos = manifest.videos([row])
    first = int(videos.first[0])
    return float(videos.times(0)[first]) if first else 0.0


def snippet_targets(truth: Segments, samples: ArrayLike, spans: Spans, num_classes: int) -> np.ndarray:
    """What each snippet shows: 1 for each class of which a segment has the middle of the snippet in it, else 0.

    Args:
        truth: annotated segments.
        samples: (B,) manifest rows of the clips, ``batch.samples``.
        spans: where their snippets are, ``snippets.spans(batch.plan)``.
        num_classes: K.

    Returns:
        (B, P, K) float32; zeros for snippets that are not valid.
    """
    targets = np.zeros((*spans.start.shape, num_classes), np.float32)
    middle = (spans.start + spans.end) / 2  # NaN is in no segment
    for i, sample in enumerate(np.asarray(samples).tolist()):
        for start, end, label in zip(*_of_video(truth, sample), strict=True):
            if label != AMBIGUOUS:
                targets[i, (start <= middle[i]) & (middle[i] < end), label] = 1
    return targets


def _of_video(segments, video):
    chosen = segments.take(segments.video == video)
    return chosen.start.tolist(), chosen.end.tolist(), chosen.label.tolist()


def temporal_iou(start: ArrayLike, end: ArrayLike, other_start: ArrayLike, other_end: ArrayLike) -> np.ndarray:
    """Intersection over union of N and M segments: (N, M) float64, 0 where they do not overlap."""
    start, end = (np.asarray(side, np.float64)[:, None] for side in (start, end))
    other_start, other_end = (np.asarray(side, np.float64)[None] for side in (other_start, other_end))
    common = np.maximum(np.minimum(end, other_end) - np.maximum(start, other_start), 0)
    return common / ((end - start) + (other_end - other_start) - common)


def groups(*keys: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of rows whose keys are the same, a group after the other; in a group in order."""
    order = np.lexsort(keys)
    if len(order):
        new = np.any([key[order[1:]] != key[order[:-1]] for key in keys], axis=0)
        yield from np.split(order, np.flatnonzero(new) + 1)
