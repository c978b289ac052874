"""Samplers that choose exactly the frames of other libraries, their faults included.

Random ones draw from the same distribution, but not the same numbers. Each counts frames, as its model does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dali_vidaug.rng import Draws
from dali_vidaug.sampling.options import check_bool, check_choice, check_clips, check_int, is_number

if TYPE_CHECKING:
    from dali_vidaug.sampling.videos import Videos


def _rates(sampler: object, draws: Draws, videos: Videos) -> np.ndarray:
    """Frames per second, (B,)."""
    fps = np.asarray(videos.fps, np.float64)
    if not (fps > 0).all():
        place = videos.place(draws, int(np.argmin(fps > 0)))
        raise ValueError(f"{type(sampler).__name__}: the frame rate of {place} is not known")
    return fps


@dataclass(frozen=True)
class SlowFastSampling:
    """SlowFast's clips of Kinetics: trunc(linspace(start, start + size - 1, T)), size = stride * T * fps / target_fps.

    Attributes:
        num_frames, stride, target_fps: as SlowFast's NUM_FRAMES, SAMPLING_RATE and TARGET_FPS.
        num_clips: NUM_ENSEMBLE_VIEWS in testing.
        training: a random start for each clip; else clip i of n begins at i / n of the room, and never at its end.
        use_offset_sampling: as SlowFast's option: in testing at i * floor(room / (n - 1)), one clip in the middle.

    Raises:
        ValueError: an option is out of range.
    """

    num_frames: int = 16
    stride: int = 4
    target_fps: float = 30.0
    num_clips: int = 1
    training: bool = True
    use_offset_sampling: bool = False

    def __post_init__(self):
        check_clips(self)
        check_bool(self, "use_offset_sampling")
        if not (is_number(self.target_fps) and self.target_fps > 0):
            raise ValueError(f"SlowFastSampling: target_fps must be a number > 0, got {self.target_fps!r}")

    def draw(self, draws: Draws, videos: Videos) -> np.ndarray:
        """Choose the frames: (B, num_frames) int32.

        Raises:
            ValueError: the frame rate of a video is not known.
        """
        first, length = videos.first, videos.lengths
        size = self.stride * self.num_frames * _rates(self, draws, videos) / self.target_fps
        room, i, n = np.maximum(length - size, 0.0), draws.views % self.num_clips, self.num_clips
        if self.training:
            start = draws.uniform("start", 0.0, room)
        elif self.use_offset_sampling:
            start = i * np.floor(room / (n - 1)) if n > 1 else np.floor(room / 2)
        else:
            start = room * i / n
        frames = np.linspace(start, start + size - 1, self.num_frames, axis=1)
        return (first[:, None] + np.clip(frames, 0, length[:, None] - 1).astype(np.int64)).astype(np.int32)


@dataclass(frozen=True)
class MMAction2Sampling:
    """MMAction2's SampleFrames; for clips of one frame (TSN) there is ``SegmentSampling(bounds="tsn")``.

    Attributes:
        num_frames, stride, num_clips: as its clip_len, frame_interval and num_clips. Each clip is a view of its own.
        training: a random start in each of ``num_clips`` parts, the last frames of the video in none; else evenly.
        out_of_bound: "loop": frame numbers modulo the length; "repeat_last": the last frame of the clip again.

    Raises:
        ValueError: an option is out of range.
    """

    num_frames: int = 32
    stride: int = 2
    num_clips: int = 1
    training: bool = True
    out_of_bound: Literal["loop", "repeat_last"] = "loop"

    def __post_init__(self):
        check_clips(self)
        check_choice(self, "out_of_bound", ("loop", "repeat_last"))

    def draw(self, draws: Draws, videos: Videos) -> np.ndarray:
        """Choose the frames: (B, num_frames) int32."""
        first, length = videos.first, videos.lengths
        i, n = draws.views % self.num_clips, self.num_clips
        start = self._random(draws, length, i) if self.training else self._even(length, i, n)
        steps = self.stride * np.arange(self.num_frames)
        frames = start[:, None] + steps
        if self.out_of_bound == "loop":
            return (first[:, None] + frames % length[:, None]).astype(np.int32)
        last = np.max(np.where(frames < length[:, None], frames, 0), 1, keepdims=True)
        return (first[:, None] + np.where(frames < length[:, None], frames, last)).astype(np.int32)

    def _even(self, length: np.ndarray, i: np.ndarray, n: int) -> np.ndarray:
        room = np.maximum(length - ((self.num_frames - 1) * self.stride + 1), 0)
        return np.rint(i * room / (n - 1)).astype(np.int64) if n > 1 else room // 2

    def _random(self, draws: Draws, length: np.ndarray, i: np.ndarray) -> np.ndarray:
        size, n = self.num_frames * self.stride, self.num_clips
        part = (length - size + 1) // n
        start = i * part + draws.integers("start", np.maximum(part, 1))
        # Too short for parts: sorted starts, which all clips of a video draw together.
        together = Draws(draws.seed, draws.epoch, draws.samples, 0, draws.prefix, draws.batch)
        starts = np.sort(together.integers("starts", np.maximum(length - size + 1, 1), n=n), 1)
        some = np.where(part == 0, np.rint(i * (length - size + 1) / n), 0).astype(np.int64)
        some = np.where(length > max(n, size), starts[np.arange(len(i)), i], some)
        return np.where(part > 0, start, some)


@dataclass(frozen=True)
class VideoMAESampling:
    """VideoMAE's clips: stretched in training, of exact stride in testing.

    Training: trunc(linspace(end - size, end, T)), end in [size, N), size = stride * T; the last start never occurs.
    Testing: T of every ``stride``-th frame of the video, from trunc(i * (n - T) / (C - 1)) on, n of them in all; one
    clip is that of VideoMAE v2's validation: in the middle, and stretched as in training.

    Attributes:
        num_frames, stride: T and its sampling_rate.
        num_clips: C, its test_num_segment.
        training: which of the two.

    Raises:
        ValueError: an option is out of range.
    """

    num_frames: int = 16
    stride: int = 4
    num_clips: int = 1
    training: bool = True

    def __post_init__(self):
        check_clips(self)

    def draw(self, draws: Draws, videos: Videos) -> np.ndarray:
        """Choose the frames: (B, num_frames) int32."""
        first, length = videos.first, videos.lengths
        if self.training or self.num_clips == 1:
            size = self.stride * self.num_frames
            room = np.maximum(length - size, 1)
            offset = draws.integers("start", room) if self.training else room // 2
            rows = [stretched(n, size, self.num_frames, self.stride, o) for n, o in zip(length, offset, strict=True)]
            return (first[:, None] + np.stack(rows)).astype(np.int32)
        taken = np.maximum(-(-length // self.stride), self.num_frames)
        start = draws.views % self.num_clips * (taken - self.num_frames) // (self.num_clips - 1)
        frames = (start[:, None] + np.arange(self.num_frames)) * self.stride
        last = (length[:, None] - 1) // self.stride * self.stride
        return (first[:, None] + np.minimum(frames, last)).astype(np.int32)


@dataclass(frozen=True)
class VJEPA2Sampling:
    """V-JEPA 2's clips: stride ceil(video's fps) // fps, or ``stride``; one clip in each of ``num_clips`` equal parts.

    Where a part is longer than a clip, the clip begins anywhere in it, in evaluation too. Where it is not, clips of
    evaluation overlap, and in training the last frame of the part is repeated.

    Attributes:
        num_frames, fps, num_clips: as its frames_per_clip, fps and num_clips.
        training: whether clips stay within their part.
        stride: its frame_step, with ``fps=None``: the same for all videos, as in its probes.

    Raises:
        ValueError: an option is out of range, or not one of ``fps`` and ``stride`` is None.
    """

    num_frames: int = 16
    fps: int | None = 4
    num_clips: int = 1
    training: bool = True
    stride: int | None = None

    def __post_init__(self):
        check_clips(self)
        if self.fps is not None:
            check_int(self, "fps", 1, 10**6)
        if (self.fps is None) == (self.stride is None):
            raise ValueError(
                f"VJEPA2Sampling: stride or fps must be None, and not both, got {self.stride!r} and {self.fps!r}"
            )

    def draw(self, draws: Draws, videos: Videos) -> np.ndarray:
        """Choose the frames: (B, num_frames) int32.

        Raises:
            ValueError: the frame rate of a video is not known, or lower than ``fps``.
        """
        first, length = videos.first, videos.lengths
        if self.fps is None:
            strides = np.full(len(length), self.stride)
        else:
            strides = (np.ceil(_rates(self, draws, videos)) // self.fps).astype(np.int64)
        if (strides < 1).any():
            i = int(np.argmin(strides))
            raise ValueError(
                f"VJEPA2Sampling: fps={self.fps} is more than {videos.fps[i]:g}, those of {videos.place(draws, i)}"
            )
        part, number, rows = length // self.num_clips, draws.views % self.num_clips, []
        offset = draws.integers("start", np.maximum(part - strides * self.num_frames, 1))
        for i, stride in enumerate(strides.tolist()):
            size = stride * self.num_frames
            if part[i] > size or self.training:
                if part[i] < 1:
                    raise ValueError(
                        f"VJEPA2Sampling: num_clips={self.num_clips} parts of {videos.place(draws, i)} are empty"
                    )
                rows.append(number[i] * part[i] + stretched(part[i], size, self.num_frames, stride, offset[i]))
                continue
            step = (length[i] - size) // max(self.num_clips - 1, 1) if length[i] > size else 0
            end = max(min(size, length[i]) - 1, 1)
            rows.append(number[i] * step + stretched(end, size, self.num_frames, stride, 0))
        return (first[:, None] + np.stack(rows)).astype(np.int32)


def stretched(length: int, size: int, num_frames: int, stride: int, offset: int) -> np.ndarray:
    """Frames as VideoMAE and V-JEPA 2 choose them: linspace over a clip and one frame more, its last one not reached.

    Args:
        length: of the video. Where ``size`` is not less, all of it is used and its last frame repeated.
        size: frames that the clip covers.
        num_frames, stride: of the clip.
        offset: of the clip in the video.

    Returns:
        (num_frames,) int64.
    """
    if length > size:
        return np.clip(np.linspace(offset, offset + size, num_frames), offset, offset + size - 1).astype(np.int64)
    found = np.linspace(0, length, min(length // stride, num_frames))
    padded = np.append(found, np.full(num_frames - len(found), length))
    return np.clip(padded, 0, length - 1).astype(np.int64)
