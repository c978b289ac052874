"""The clips of DMVR, which Scenic's models (ViViT) are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dali_vidaug.sampling.options import check_clips

if TYPE_CHECKING:
    from dali_vidaug.rng import Draws
    from dali_vidaug.sampling.videos import Videos


@dataclass(frozen=True)
class DMVRSampling:
    """DMVR's clips, every ``stride``-th frame; a short video begins again at its start (frame numbers modulo length).

    Attributes:
        num_frames, stride: T and S, its num_frames and stride.
        num_clips: C, its num_test_clips.
        training: a random start in [0, N - (T - 1) * S), or 0 where none fits. Otherwise clip i begins at
            trunc(i * (N - T * S) / (C - 1)), which leaves S - 1 frames after the last clip, and one clip in the middle.

    Raises:
        ValueError: an option is out of range.
    """

    num_frames: int = 32
    stride: int = 2
    num_clips: int = 1
    training: bool = True

    def __post_init__(self):
        check_clips(self)

    def draw(self, draws: Draws, videos: Videos) -> np.ndarray:
        """Choose the frames: (B, num_frames) int32."""
        first, length = videos.first, videos.lengths
        room = np.maximum(length - self.num_frames * self.stride, 0)
        if self.training:
            start = draws.integers("start", np.maximum(length - (self.num_frames - 1) * self.stride, 1))
        elif self.num_clips == 1:
            start = room // 2
        else:
            start = room * (draws.views % self.num_clips) // (self.num_clips - 1)
        frames = start[:, None] + self.stride * np.arange(self.num_frames)
        return (first[:, None] + frames % length[:, None]).astype(np.int32)
