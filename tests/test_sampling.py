"""Which frames make a clip."""

import numpy as np
import pytest
from conftest import make_videos

from dali_vidaug.rng import Draws
from dali_vidaug.sampling import ClipSampling, clip_frames


def draw_frames(sampling, lengths, firsts=0):
    """The frames of clips of videos of these lengths, of which the frames before ``firsts`` are not used."""
    lengths = np.asarray(lengths)
    firsts = np.broadcast_to(firsts, len(lengths))
    return sampling.draw(Draws(0, 0, np.arange(len(lengths))), make_videos(firsts, firsts + lengths))


@pytest.mark.parametrize("past_end, expected", [("repeat", [2, 4, 6, 6, 6]), ("loop", [2, 4, 6, 2, 4])])
def test_clip_frames_past_the_end(past_end, expected):
    assert clip_frames([0], [8], 5, [2], [2], past_end).tolist() == [expected]


def test_random_starts_cover_all_that_fit_and_only_those():
    frames = draw_frames(ClipSampling(4, 3), [20] * 22_000)
    assert (np.diff(frames) == 3).all() and frames.min() == 0 and frames.max() == 19
    counts = np.bincount(frames[:, 0])
    assert len(counts) == 11  # 20 - 3 * 3
    assert ((counts - 2000) ** 2 / 2000).sum() < 36  # 10 degrees of freedom: 1 in 10,000


def test_a_stride_range_draws_each_stride():
    frames = draw_frames(ClipSampling(4, (1, 3)), [100] * 9000)
    strides = frames[:, 1] - frames[:, 0]
    assert (np.diff(frames) == strides[:, None]).all()
    counts = np.bincount(strides)[1:]
    assert len(counts) == 3 and ((counts - 3000) ** 2 / 3000).sum() < 19


def test_first_and_center():
    assert draw_frames(ClipSampling(4, 2, start="first"), [20]).tolist() == [[0, 2, 4, 6]]
    assert draw_frames(ClipSampling(4, 2, start="center"), [20]).tolist() == [[6, 8, 10, 12]]
    assert draw_frames(ClipSampling(4, 2, start="center"), [7]).tolist() == [[0, 2, 4, 6]]


@pytest.mark.parametrize(
    "short, expected",
    [("repeat", [0, 3, 3, 3]), ("loop", [0, 3, 0, 3]), ("shrink", [0, 1, 2, 3])],
)
def test_short_videos(short, expected):
    assert draw_frames(ClipSampling(4, 3, short=short), [5 if short != "shrink" else 4]).tolist() == [expected]


def test_shrink_repeats_when_even_stride_one_is_too_long():
    assert draw_frames(ClipSampling(4, 3, short="shrink"), [2]).tolist() == [[0, 1, 1, 1]]
    assert draw_frames(ClipSampling(1, 3, short="shrink"), [1]).tolist() == [[0]]


def test_short_raise_names_the_sample():
    with pytest.raises(ValueError, match=r"sample 1 has 3 frames, too few for 4 with stride 1"):
        draw_frames(ClipSampling(4, short="raise"), [9, 3])


def test_segments_are_kept():
    frames = draw_frames(ClipSampling(4, 2, short="loop"), [5] * 50, [30] * 50)
    assert frames.min() >= 30 and frames.max() < 35


@pytest.mark.parametrize(
    "bad",
    [
        dict(num_frames=0),
        dict(num_frames=1.5),
        dict(stride=0),
        dict(stride=(3, 1)),
        dict(stride=(1, 2, 3)),
        dict(start="x"),
        dict(short="x"),
    ],
    ids=str,
)
def test_bad_options_are_refused(bad):
    with pytest.raises(ValueError, match=f"ClipSampling: {next(iter(bad))}"):
        ClipSampling(**bad)
