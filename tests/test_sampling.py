"""Which frames make a clip."""

import numpy as np
import pytest
import torch
from conftest import make_videos, read_number
from test_docs import define

import dali_vidaug as dv
from dali_vidaug.ops import CROP
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


# Samplers of docs/sampling.md, against the frames that other libraries choose

PAGE = "docs/sampling.md"


def draw_views(sampler, lengths, num_views):
    """(B, V, F): the frames of all views of each video."""
    draws = Draws(0, 0, np.arange(len(lengths)).repeat(num_views), np.tile(np.arange(num_views), len(lengths)))
    lengths = np.asarray(lengths).repeat(num_views)
    return sampler.draw(draws, make_videos(np.zeros_like(lengths), lengths)).reshape(-1, num_views, sampler.num_frames)


def test_two_views_have_other_frames_or_the_same():
    clip = dv.ClipSampling(4, 2)
    other = draw_views(dv.MultiClip(clip, 2, "random"), [200] * 500, 2)
    assert (np.diff(other, axis=2) == 2).all() and (other[:, 0] != other[:, 1]).any(1).mean() > 0.95
    same = draw_views(dv.MultiClip(clip, 2, "same"), [200] * 500, 2)
    assert (same[:, 0] == same[:, 1]).all() and (same[:, 0] == other[:, 0]).all()


@pytest.mark.parametrize("same", [False, True])
def test_two_views_of_a_loader(same, numbered_manifest):
    """The frames that are planned come, each view cropped by itself, those of a video next to each other."""
    sampler = dv.MultiClip(dv.ClipSampling(3, 2), 2, "same" if same else "random")
    recipe = dv.Recipe(sampler, (dv.RandomResizedCrop(32),))
    with dv.VideoLoader(numbered_manifest, recipe, 4, device="cpu") as loader:
        batch = next(iter(loader))
        pairs = batch.clips.unflatten(0, (-1, 2))
        assert pairs.shape == (4, 2, 3, 3, 32, 32) and batch.views.tolist() == [0, 1] * 4
        assert (batch.samples[::2] == batch.samples[1::2]).all()
        assert (batch.plan.frames[::2] == batch.plan.frames[1::2]).all() == same
        boxes = batch.plan.args["RandomResizedCrop"]
        assert (boxes[::2] != boxes[1::2]).all()
    with dv.VideoLoader(numbered_manifest, dv.Recipe(sampler, ()), 4, device="cpu") as loader:
        batch = next(iter(loader))
        for clip, frames in zip(batch.clips.permute(0, 2, 3, 4, 1).numpy(), batch.plan.frames, strict=True):
            assert [read_number(frame) for frame in clip] == frames.tolist()


@pytest.mark.parametrize("size", [(96, 160), (160, 96), (97, 97), (45, 60)], ids=str)
def test_three_crops_are_the_ends_and_the_middle(size):
    crops = define(PAGE, "three crops")(32)
    height, width = size
    rows = crops.draw(Draws(0, 0, [0] * 6, range(6)), 1, np.full(6, height), np.full(6, width))
    side = min(size)
    along, across = ("left", "top") if width > height else ("top", "left")
    assert rows[along].tolist() == [0, (max(size) - side) // 2, max(size) - side] * 2 and not rows[across].any()
    assert (rows["bottom"] - rows["top"] == side).all() and (rows["right"] - rows["left"] == side).all()
    assert rows.dtype == CROP and (rows["out_height"] == 32).all() and (rows["out_width"] == 32).all()


def test_thirty_views_are_averaged(numbered_manifest):
    """All 30 clips of each video come once, and their mean is the video's."""
    recipe = dv.Recipe(
        dv.MultiClip(dv.ClipSampling(2, 3), 30, num_crops=3), (define(PAGE, "three crops")(16), dv.Normalize())
    )
    options = dict(device="cpu", shuffle=False, drop_last=False, on_error="raise")
    votes, seen = torch.zeros(len(numbered_manifest), 3), []
    with dv.VideoLoader(numbered_manifest, recipe, 5, **options) as loader:
        for batch in loader:
            votes.index_add_(0, batch.samples, batch.clips.mean((2, 3, 4)))
            seen += zip(batch.samples.tolist(), batch.views.tolist(), strict=True)
        one = loader.apply(dv.draw_plan(numbered_manifest, recipe, [7] * 30, views=range(30)))
    assert sorted(seen) == [(i, view) for i in range(len(numbered_manifest)) for view in range(30)]
    torch.testing.assert_close(votes[7], one.clips.mean((2, 3, 4)).sum(0))


def test_a_crop_of_ones_own(numbered_manifest):
    """The short side of the frames that it is cut from is within the limits, and every place occurs."""
    crop = define("docs/adding-an-op.md", "op that crops")
    op = crop(224, 256, 320)
    many = np.full(5000, 480), np.full(5000, 640)
    rows = op.draw(Draws(0, 0, np.arange(5000)), 1, *many)
    side = rows["bottom"] - rows["top"]
    assert (side == rows["right"] - rows["left"]).all()
    assert side.min() == 480 * 224 // 320 and side.max() == 480 * 224 // 256
    assert rows["top"].min() == rows["left"].min() == 0 and rows["right"].max() == 640 and rows["bottom"].max() == 480
    dv.check_op(crop(32, 40, 48), frames=2, sizes=((48, 64), (64, 48)), device="cpu")
    recipe = dv.Recipe(dv.ClipSampling(2), (crop(32, 40, 48), dv.Normalize()))
    with dv.VideoLoader(numbered_manifest, recipe, 4, device="cpu") as loader:
        assert next(iter(loader)).clips.shape == (4, 3, 2, 32, 32)
