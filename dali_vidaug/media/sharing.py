"""Which clips of a video are decoded together: those of the same frames, or that need frames of the same GOP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dali_vidaug.media.video import IMAGES, Video, is_counted


def share_decoding(video: Video, clips: Sequence[np.ndarray]) -> list[list[int]]:
    """Group clips so that no two groups decode a frame twice, and groups can be decoded at the same time.

    Args:
        video: its row of the manifest.
        clips: for each clip its frames, (F,) int.

    Returns:
        The positions of the clips of each group, rising; groups in the order of their first clips.
    """
    if is_counted(video) or not video.regular:  # read on from one place, whatever is wanted
        return [list(range(len(clips)))]
    group_of_gop: dict[int, int] = {}
    groups: dict[int, list[int]] = {}
    for i, frames in enumerate(clips):
        alone = video.codec == IMAGES  # each frame is a file
        gops = np.unique(frames if alone else np.searchsorted(video.keyframes, frames, "right")).tolist()
        joined = sorted({group_of_gop[gop] for gop in gops if gop in group_of_gop})
        first = joined[0] if joined else i
        for other in joined[1:]:
            groups[first] += groups.pop(other)
            group_of_gop = {gop: first if group == other else group for gop, group in group_of_gop.items()}
        groups.setdefault(first, []).append(i)
        group_of_gop |= dict.fromkeys(gops, first)
    return [sorted(groups[first]) for first in sorted(groups)]


def same_frames(clips: Sequence[np.ndarray]) -> list[list[int]]:
    """Group clips of the same frames, in the same order: as ``share_decoding``, otherwise."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, frames in enumerate(clips):
        groups.setdefault(tuple(frames.tolist()), []).append(i)
    return list(groups.values())
