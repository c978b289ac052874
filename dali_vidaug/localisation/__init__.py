"""Temporal localisation: annotated segments, labels of snippets, proposals, and average precision."""

from __future__ import annotations

from dali_vidaug.localisation.precision import ACTIVITYNET, THUMOS14, LocalisationResult, mean_average_precision
from dali_vidaug.localisation.proposals import propose, suppress
from dali_vidaug.localisation.segments import (
    AMBIGUOUS,
    Segments,
    annotated_segments,
    join_segments,
    make_segments,
    snippet_targets,
    temporal_iou,
)

__all__ = [
    "ACTIVITYNET",
    "AMBIGUOUS",
    "THUMOS14",
    "LocalisationResult",
    "Segments",
    "annotated_segments",
    "join_segments",
    "make_segments",
    "mean_average_precision",
    "propose",
    "snippet_targets",
    "suppress",
    "temporal_iou",
]
