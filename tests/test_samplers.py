"""Samplers: literal lists of frames, distributions, what they refuse."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import make_videos, read_number
from test_time_grid import draws_of, timed

import dali_vidaug as dv
from dali_vidaug.rng import Draws
from dali_vidaug.sampling import SAMPLERS

ONE_OF_EACH = (
    dv.ClipSampling(4, (1, 2), "keyframe", speed=(0.5, 2.0)),
    dv.ClipSampling(4, 2, fps=10.0, spacing="spread"),
    dv.SegmentSampling(4),
    dv.SegmentSampling(4, (0.25, 0.5, 0.75), fps=10.0),
    dv.MultiClip(dv.ClipSampling(4, 2), 5),
    dv.MultiClip(dv.ClipSampling(4, 2), 6, "dense", num_crops=3),
    dv.MultiClip(dv.SegmentSampling(4), 3, "random"),
    dv.MultiClip(dv.ClipSampling(4, speed=(0.5, 2.0)), 3, "same"),
    dv.MultiClip(dv.SlowFastSampling(4, 2, num_clips=2, training=False), 6, "own", num_crops=3),
    dv.KeyframeClip(4, 2, "when"),
    dv.Snippets(4, 10.0, 6, 2, "window"),
    dv.Snippets(4, None, 6, 1, "random"),
    dv.SlowFastSampling(4, 2),
    dv.MMAction2Sampling(4, 2, 3),
    dv.VideoMAESampling(4, 2),
    dv.VJEPA2Sampling(4, 4, 2),
    dv.VJEPA2Sampling(4, None, 2, stride=3),
    dv.DMVRSampling(4, 2, 3),
)


def views_of(sampler, length, count=1, fps=25.0, samples=1):
    """(B, V, F): the frames of all views of videos of a length."""
    total = samples * count
    videos = make_videos(np.zeros(total, int), np.full(total, length))
    videos = dataclasses.replace(videos, fps=np.full(total, fps), times_of=lambda i: np.arange(length) / fps)
    draws = Draws(0, 0, np.arange(samples).repeat(count), np.tile(np.arange(count), samples), "Sampler")
    return sampler.draw(draws, videos).reshape(samples, count, -1)


def starts_of(sampler, length, count, fps=25.0):
    return views_of(sampler, length, count, fps)[0, :, 0].tolist()


def is_uniform(values, count):
    """Chi-square: whether integers in [0, count) occur equally often; 1 in about 10,000 uniform ones fails."""
    counts = np.bincount(values, minlength=count)
    expected = len(values) / count
    return len(counts) == count and ((counts - expected) ** 2 / expected).sum() < count - 1 + 4.5 * (2 * count) ** 0.5


@pytest.fixture(scope="module")
def manifest(numbered_manifest):
    table = numbered_manifest.table.append_column("when", [np.full(len(numbered_manifest), 0.4)])
    return dv.Manifest(table, numbered_manifest.classes, numbered_manifest.root)


# ---- All of them


def test_there_is_one_of_each():
    assert {type(sampler) for sampler in ONE_OF_EACH} == set(SAMPLERS)
    assert all(getattr(dv, sampler.__name__) is sampler for sampler in SAMPLERS)


@pytest.mark.parametrize("sampler", ONE_OF_EACH, ids=repr)
def test_a_recipe_with_it_can_be_read_again(sampler):
    recipe = dv.Recipe(sampler, ())
    assert dv.Recipe.parse(repr(recipe)) == recipe and recipe.num_clips == getattr(sampler, "num_clips", 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        sampler.num_frames = 3


@pytest.mark.parametrize("sampler", ONE_OF_EACH, ids=repr)
def test_a_clip_depends_on_its_address_alone(sampler, manifest):
    """Not on the batch, its order, or which other views are drawn."""
    recipe = dv.Recipe(sampler, ())
    samples = np.arange(len(manifest)).repeat(recipe.num_clips)
    views = np.tile(np.arange(recipe.num_clips), len(manifest))
    whole = dv.draw_plan(manifest, recipe, samples, seed=3, epoch=2, views=views).frames
    order = np.random.default_rng(0).permutation(len(samples))
    mixed = dv.draw_plan(manifest, recipe, samples[order], seed=3, epoch=2, views=views[order], batch=9).frames
    assert (mixed == whole[order]).all()
    for i in order[:5]:
        assert (
            dv.draw_plan(manifest, recipe, samples[[i]], seed=3, epoch=2, views=views[[i]]).frames == whole[i]
        ).all()


@pytest.mark.parametrize("sampler", ONE_OF_EACH, ids=repr)
def test_frames_stay_within_any_part_of_any_video(sampler):
    """Property: for parts of all lengths and places, at odd rates, frames are in the part."""
    rng = np.random.default_rng(1)
    for length in [*range(2, 40), 100, 1000]:
        for first in (0, int(rng.integers(1, 50))):
            times = np.cumsum(rng.choice([0.02, 0.04, 0.08], first + length + 7))
            times -= times[0]
            count = getattr(sampler, "num_clips", 1)
            middle = times[first + length // 2]
            videos = dv.Videos(
                np.full(count, first), np.full(count, first + length), np.full(count, 24.0), lambda i, t=times: t,
                lambda i: np.arange(0, 9999, 12), lambda name, m=middle, c=count: np.full(c, m),
            )  # fmt: skip
            draws = Draws(int(rng.integers(1000)), 0, np.zeros(count, int), np.arange(count), "Sampler")
            try:
                frames = sampler.draw(draws, videos)
            except ValueError as error:
                few = isinstance(sampler, (dv.Snippets, dv.VJEPA2Sampling))
                assert few and length < 12 and type(sampler).__name__ in str(error)
                continue
            assert frames.min() >= first and frames.max() < first + length, (length, first)
            assert len(frames) == count and frames.dtype == np.int32


@pytest.mark.parametrize("sampler", ONE_OF_EACH, ids=repr)
def test_the_frames_that_are_planned_are_decoded(sampler, manifest):
    with dv.VideoLoader(manifest, dv.Recipe(sampler, ()), 2, device="cpu") as loader:
        batch = next(iter(loader))
    for clip, frames in zip(batch.clips.permute(0, 2, 3, 4, 1).numpy(), batch.plan.frames, strict=True):
        assert [read_number(frame) for frame in clip] == frames.tolist()


# ---- One clip


def test_spread_frames_are_those_of_slowfast():
    """trunc(linspace(0, stride * T - 1, T)); 32x2, 8x8, 16x4, 8x32."""

    def first(t, s):
        return views_of(dv.ClipSampling(t, s, "first", spacing="spread"), 1000)[0, 0].tolist()

    assert first(32, 2) == [*range(0, 61, 2), 63]
    assert first(8, 8) == [0, 9, 18, 27, 36, 45, 54, 63]
    assert first(16, 4) == [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]
    assert first(8, 32) == [0, 36, 72, 109, 145, 182, 218, 255]
    slow = dv.ClipSampling(8, 1, "first", fps=4.0, grid="rate", spacing="spread")  # 2 s as 8 frames: PyTorchVideo's
    assert views_of(slow, 60, fps=30.0)[0, 0].tolist() == [0, 8, 16, 25, 33, 42, 50, 59]


def test_spread_clips_begin_anywhere_that_fits():
    frames = views_of(dv.ClipSampling(8, 8, spacing="spread"), 70, samples=14_000)[:, 0]
    assert set(frames[:, -1] - frames[:, 0]) == {63} and is_uniform(frames[:, 0], 7)


def test_speed_is_log_uniform():
    """As often twice as fast as half as fast."""
    frames = views_of(dv.ClipSampling(2, 1000, "first", speed=(0.5, 2.0)), 10_000, samples=40_000)[:, 0, 1]
    assert 500 <= frames.min() <= 501 and 1997 <= frames.max() <= 1999
    assert is_uniform(np.floor(np.log2((frames + 0.5) / 500) * 10).astype(int), 20)
    fast = dv.ClipSampling(4, 2, "first", fps=10.0, speed=(3.0, 3.0))
    assert views_of(fast, 100)[0, 0].tolist() == [0, 15, 30, 45]


def test_a_random_time_is_uniform():
    """4 frames 0.2 s apart of 4 s at 25 per second: 85 starts."""
    frames = views_of(dv.ClipSampling(4, 2, fps=10.0), 100, samples=85 * 500)[:, 0]
    assert (np.diff(frames) == 5).all() and is_uniform(frames[:, 0], 85)


@pytest.mark.parametrize("fps", [None, 25.0, 12.5])
def test_clips_begin_at_key_frames(fps):
    """At each that leaves room, equally often; where none does, anywhere."""
    sampling = dv.ClipSampling(4, 2, "keyframe", fps=fps)
    videos = make_videos(np.full(9000, 5), np.full(9000, 60))
    videos = dataclasses.replace(videos, keyframes_of=lambda i: np.array([0, 12, 24, 47, 53, 59]))
    frames = sampling.draw(draws_of(9000), videos)
    last = [47] if fps == 12.5 else [47, 53]  # the last starts, 12 or 6 frames before the end
    counts = dict(zip(*np.unique(frames[:, 0], return_counts=True), strict=True))
    assert set(counts) == {12, 24, *last} and min(counts.values()) > 0.9 * 9000 / len(counts)
    none = dataclasses.replace(videos, keyframes_of=lambda i: np.array([0, 60]))
    assert len(np.unique(sampling.draw(draws_of(9000), none)[:, 0])) > 40


def test_key_frames_of_a_loader_are_the_videos(numbered_manifest):
    plan = dv.draw_plan(numbered_manifest, dv.Recipe(dv.ClipSampling(2, 1, "keyframe"), ()), range(12))
    for sample, start in zip(plan.samples.tolist(), plan.frames[:, 0].tolist(), strict=True):
        assert start in numbered_manifest.rows("keyframes", [sample])[0]


# ---- Segments


def test_middles_of_segments():
    """100 frames, 8 segments: TSN's and MMAction2's; SlowFast's SSv2; UniformSample's two; TSM's two."""
    assert views_of(dv.SegmentSampling(8, "middle"), 100)[0, 0].tolist() == [6, 18, 31, 43, 56, 68, 81, 93]
    tsn = dv.SegmentSampling(8, "middle", "tsn")
    assert views_of(tsn, 100)[0, 0].tolist() == [6, 18, 31, 43, 56, 68, 81, 93]
    assert views_of(tsn, 7)[0, 0].tolist() == [0] * 8
    assert views_of(dv.SegmentSampling(8, "middle", "slowfast"), 100)[0, 0].tolist() == [6, 18, 31, 43, 56, 68, 80, 93]
    assert views_of(dv.SegmentSampling(8, (1 / 3, 2 / 3), "slowfast"), 100, 2)[0].tolist() == [
        [4, 16, 29, 41, 54, 66, 78, 91],
        [8, 20, 33, 45, 58, 70, 82, 95],
    ]
    assert views_of(dv.SegmentSampling(8, (0.5, 0.0)), 100, 2)[0].tolist() == [
        [6, 18, 31, 43, 56, 68, 81, 93],
        [0, 12, 25, 37, 50, 62, 75, 87],
    ]


def test_few_frames_in_many_segments():
    """The first only, as TSM; or MMAction2's around(i * N / C), modulo N, and middles as of longer videos."""
    even = dv.SegmentSampling(8, bounds="tsn", short="even")
    assert views_of(even, 5)[0, 0].tolist() == [0, 1, 1, 2, 2, 3, 4, 4]
    assert views_of(even, 3)[0, 0].tolist() == [0, 0, 1, 1, 2, 2, 2, 0]  # 2.625 is 3, which is 0
    assert views_of(dv.SegmentSampling(8, bounds="tsn"), 5)[0, 0].tolist() == [0] * 8
    middles = dv.SegmentSampling(8, "middle", "tsn", "even")
    assert views_of(middles, 5)[0, 0].tolist() == [0, 0, 1, 2, 2, 3, 4, 4]
    for length in (8, 9, 100):
        assert (views_of(even, length) == views_of(dv.SegmentSampling(8, bounds="tsn"), length)).all()
    with pytest.raises(ValueError, match="short must be 'repeat' or 'raise' with bounds='equal', got 'even'"):
        dv.SegmentSampling(8, short="even")


def test_frames_from_the_first_to_the_last():
    """PyTorchVideo's UniformTemporalSubsample: 60 to 8."""
    sampler = dv.SegmentSampling(8, "ends")
    assert views_of(sampler, 60)[0, 0].tolist() == [0, 8, 16, 25, 33, 42, 50, 59]
    for length in range(1, 200):
        expected = torch.linspace(0, length - 1, 8, dtype=torch.float64).clamp(0, length - 1).long()
        assert views_of(sampler, length)[0, 0].tolist() == expected.tolist()


@pytest.mark.parametrize("length", [1, 2, 3, 8, 11, 100])
@pytest.mark.parametrize("bounds", ["equal", "slowfast", "tsn"])
def test_a_random_frame_of_each_segment(length, bounds):
    frames = views_of(dv.SegmentSampling(4, bounds=bounds), length, samples=5000)[:, 0]
    edges = {
        "equal": [i * length // 4 for i in range(5)],
        "slowfast": [round((length - 1) / 4 * i) for i in range(5)],
        "tsn": [i * (length // 4) for i in range(5)],
    }[bounds]
    for i in range(4):
        size = max(edges[i + 1] - edges[i] + (bounds == "slowfast"), 1)
        assert is_uniform(frames[:, i] - edges[i], size), (i, size)
    if bounds != "tsn":
        assert frames.max() == length - 1  # the last frame occurs


def test_segments_by_time():
    """A video that is slow in its first half: half of the segments are there."""
    times = np.concatenate([np.arange(10) * 0.4, 4 + np.arange(90) * 4 / 90])
    sampler = dv.SegmentSampling(8, "middle", fps=30.0)
    frames = sampler.draw(draws_of(1), timed(times, 12.5))[0]
    assert (frames < 10).sum() == 4
    assert np.abs(times[frames] - (np.arange(8) + 0.5)).max() <= 0.4


# ---- Several clips


def test_clips_from_the_first_start_to_the_last():
    """300 frames, 32x2: MMAction2's 10 and 4; torchcodec's 3 of 20 frames; one is the middle."""

    def even(count, **more):
        return dv.MultiClip(dv.ClipSampling(32, 2), count, **more)

    assert starts_of(even(10), 300, 10) == [0, 26, 53, 79, 105, 132, 158, 184, 211, 237]
    assert starts_of(even(4), 300, 4) == [0, 79, 158, 237]
    assert starts_of(even(1), 300, 1) == [118]
    assert starts_of(dv.MultiClip(dv.ClipSampling(4, 2), 3, rounding="down"), 20, 3) == [0, 6, 13]
    assert starts_of(even(30, num_crops=3), 300, 30)[::3] == starts_of(even(30, num_crops=3), 300, 30)[2::3]
    by_time = dv.MultiClip(dv.ClipSampling(5, 1, fps=5.0), 3)  # PyTorchVideo's constant clips: 0, 1.5, 3 s
    assert starts_of(dv.MultiClip(dv.ClipSampling(50, 1, fps=25.0), 3), 125, 3) == [0, 37, 75]
    assert starts_of(by_time, 125, 3) == [0, 52, 104]  # the last frame has just begun at the end of the clip


def test_clips_one_after_the_other():
    """PyTorchVideo's uniform clips of 2 s of 5 s, torchcodec's every second; what does not fit begins at the end."""

    def dense(clip, count, **more):
        return dv.MultiClip(clip, count, "dense", **more)

    assert starts_of(dense(dv.ClipSampling(10, 5), 2), 125, 2) == [0, 50]
    assert starts_of(dense(dv.ClipSampling(10, 5), 4), 125, 4) == [0, 50, 79, 79]
    assert starts_of(dense(dv.ClipSampling(3, 1, fps=2.0), 3, step=2), 100, 3) == [0, 25, 50]
    assert starts_of(dense(dv.ClipSampling(1, 5), 4), 100, 4) == [0, 5, 10, 15]


def test_several_clips_are_the_same_frames_or_others():
    clip = dv.ClipSampling(4, (1, 3), speed=(0.5, 2.0))
    same = views_of(dv.MultiClip(clip, 3, "same"), 200, 3, samples=300)
    assert (same == same[:, :1]).all() and len(np.unique(same[:, 0, 0])) > 100
    other = views_of(dv.MultiClip(clip, 3, "random"), 200, 3, samples=300)
    assert (other[:, 0] == same[:, 0]).all() and (other[:, 1] != other[:, 0]).any(1).mean() > 0.95


@pytest.mark.parametrize(
    "clips",
    [
        dv.SlowFastSampling(8, 4, num_clips=5, training=False),
        dv.SegmentSampling(8, (0.1, 0.5, 0.9)),
        dv.MMAction2Sampling(8, 4, num_clips=3, training=True),
        dv.SegmentSampling(8),
    ],
    ids=lambda clips: type(clips).__name__,
)
@pytest.mark.parametrize("num_crops", [1, 3])
def test_a_samplers_own_clips_come_once_for_each_crop(clips, num_crops):
    count = getattr(clips, "num_clips", 1)
    several = dv.MultiClip(clips, count * num_crops, "own", num_crops=num_crops)
    expected = views_of(clips, 200, count, samples=4)
    np.testing.assert_array_equal(views_of(several, 200, count * num_crops, samples=4), expected.repeat(num_crops, 1))
    assert several.num_frames == 8 and (count == 1 or len(np.unique(expected[0], axis=0)) == count)


def test_clips_of_a_contrastive_pair_are_independent():
    starts = views_of(dv.MultiClip(dv.ClipSampling(4), 2, "random"), 13, 2, samples=20_000)[:, :, 0]
    assert is_uniform(starts[:, 0] * 10 + starts[:, 1], 100)


# ---- Around a time, and snippets


def around(sampler, seconds, fps=30.0, first=0, last=100):
    videos = make_videos([first], [last])
    videos = dataclasses.replace(
        videos, fps=np.array([fps]), times_of=lambda i: np.arange(100) / fps,
        column_of=lambda name: np.array([seconds]), path_of=lambda i: "a.mp4",
    )  # fmt: skip
    return sampler.draw(draws_of(1), videos)[0].tolist()


def test_the_clip_around_a_time_is_slowfasts():
    """range(c - T * S / 2, c + T * S / 2, S), clamped: AVA, 8x4 around 901.5 s of a video from 900 s on."""
    sampler = dv.KeyframeClip(8, 4, offset=900.0)
    assert around(sampler, 901.5) == [29, 33, 37, 41, 45, 49, 53, 57]
    assert around(sampler, 900.1) == [0, 0, 0, 0, 3, 7, 11, 15]
    assert around(sampler, 903.3) == [83, 87, 91, 95, 99, 99, 99, 99]
    assert around(sampler, 901.5, last=50) == [29, 33, 37, 41, 45, 49, 49, 49]
    by_time = dv.KeyframeClip(8, 4, fps=30.0)
    assert around(by_time, 1.5) == [29, 33, 37, 41, 45, 49, 53, 57]
    assert around(dv.KeyframeClip(4, 1, fps=10.0, grid="near"), 1.5) == [40, 43, 46, 49]


@pytest.mark.parametrize("bad", [899.9, 903.4, np.nan, None, "soon", np.inf])
def test_an_annotation_beyond_the_video_is_refused(bad):
    with pytest.raises(ValueError, match=r"KeyframeClip: time=.* of sample 0 \(a.mp4\) must be within its frames"):
        around(dv.KeyframeClip(8, 4, offset=900.0), bad)
    with pytest.raises(ValueError, match="could have a column 'nowhere'"):
        dv.KeyframeClip(4, column="nowhere").draw(
            draws_of(1), dataclasses.replace(make_videos([0], [9]), column_of=None)
        )


def test_snippets_are_consecutive_seconds():
    """16 frames at 25 per second: 0.64 s each; 4 s at 30 have 6, in clips of two."""
    sampler = dv.Snippets(16, 25.0, 8, per_clip=2)
    frames = views_of(sampler, 120, 4, fps=30.0)[0]
    seconds = (np.arange(6 * 16) / 25).reshape(3, 32)
    assert (frames[:3] == np.floor(seconds * 30 + 1e-6)).all()
    assert (frames[3] == np.tile(frames[2, 16:], 2)).all()  # not valid: the last one again


@pytest.mark.parametrize("fps", [None, 10.0])
@pytest.mark.parametrize("partial", [False, True])
def test_spans_say_when_snippets_are_shown(fps, partial, numbered_manifest):
    sampler = dv.Snippets(4, fps, 24, per_clip=3, partial=partial)
    recipe = dv.Recipe(sampler, ())
    samples, views = np.arange(12).repeat(8), np.tile(np.arange(8), 12)
    plan = dv.draw_plan(numbered_manifest, recipe, samples, views=views)
    spans = sampler.spans(plan)
    assert spans.valid.shape == (96, 3) and spans.valid.any()
    frames = plan.frames.reshape(96, 3, 4)
    for i, sample in enumerate(samples.tolist()):
        videos = numbered_manifest.videos([sample])
        times, end = videos.times(0), len(videos.times(0)) / videos.fps[0]
        for k in range(3):
            number = views[i] * 3 + k
            assert spans.valid[i, k] == (spans.number[i, k] == number)
            if not spans.valid[i, k]:
                assert spans.number[i, k] == -1 and np.isnan([spans.start[i, k], spans.end[i, k]]).all()
                continue
            shown = times[frames[i, k]]
            assert spans.start[i, k] - 1 / videos.fps[0] - 1e-6 <= shown[0] and shown[-1] < spans.end[i, k] + 1e-6
            assert spans.start[i, k] < end
    assert (
        not partial
        or spans.valid.sum()
        > dv.Snippets.spans(
            dataclasses.replace(sampler, partial=False),
            dv.draw_plan(
                numbered_manifest, dv.Recipe(dataclasses.replace(sampler, partial=False), ()), samples, views=views
            ),
        ).valid.sum()
    )


def test_a_choice_of_many_snippets():
    """1000 frames have 100 snippets of 10; 20 of them: evenly, one of each fifth, or a window."""

    def number(placement, samples=1):
        return views_of(dv.Snippets(10, None, 20, placement=placement), 1000, 20, samples=samples)[:, :, 0] // 10

    assert number("even")[0].tolist() == list(range(0, 100, 5))
    random = number("random", 2000)
    assert all(is_uniform(random[:, i] - 5 * i, 5) for i in range(20))
    window = number("window", 8100)
    assert (np.diff(window) == 1).all() and is_uniform(window[:, 0], 81)
    with pytest.raises(ValueError, match="sample 0 has 1000 frames, 100 snippets of 10: more than count=20"):
        number("all")
    with pytest.raises(ValueError, match="has 9 frames, 0 snippets of 10: too few"):
        views_of(dv.Snippets(10, None, 4), 9, 4)


def test_spans_are_refused_where_ops_on_time_move_frames_between_snippets(numbered_manifest):
    """Reversed, the first snippet of a clip would be called the last. Alone in a clip it stays where it is."""
    for per_clip, refused in ((2, True), (1, False)):
        sampler = dv.Snippets(4, fps=None, count=2, per_clip=per_clip, placement="even")
        plan = dv.draw_plan(numbered_manifest, dv.Recipe(sampler, (dv.Reverse(1.0), dv.Resize(32))), [0])
        if refused:
            with pytest.raises(ValueError, match="Snippets: Reverse moves frames .* use per_clip=1, got 2"):
                sampler.spans(plan)
        else:
            assert sampler.spans(plan).valid.all()


def test_spans_need_the_plan_of_the_sampler(numbered_manifest):
    sampler = dv.Snippets(4, None, 12)
    plan = dv.draw_plan(numbered_manifest, dv.Recipe(sampler, ()), [0])
    with pytest.raises(ValueError, match="has no manifest"):
        sampler.spans(dataclasses.replace(plan, manifest=None))
    with pytest.raises(ValueError, match="plan must be of"):
        dv.Snippets(5, None, 12).spans(plan)


# ---- What is refused


@pytest.mark.parametrize(
    "make, field",
    [
        (lambda: dv.ClipSampling(fps=0), "fps"),
        (lambda: dv.ClipSampling(fps=float("nan")), "fps"),
        (lambda: dv.ClipSampling(fps="30"), "fps"),
        (lambda: dv.ClipSampling(fps=True), "fps"),
        (lambda: dv.ClipSampling(fps=10, grid="far"), "grid"),
        (lambda: dv.ClipSampling(grid="near"), "grid"),
        (lambda: dv.ClipSampling(speed=2.0), "speed"),
        (lambda: dv.ClipSampling(speed=(0.0, 1.0)), "speed"),
        (lambda: dv.ClipSampling(speed=(2.0, 1.0)), "speed"),
        (lambda: dv.ClipSampling(speed=(1.0, float("inf"))), "speed"),
        (lambda: dv.ClipSampling(spacing="wide"), "spacing"),
        (lambda: dv.ClipSampling(fractional=1), "fractional"),
        (lambda: dv.ClipSampling(fps=10, grid="near", fractional=True), "fractional"),
        (lambda: dv.SegmentSampling(0), "num_frames"),
        (lambda: dv.SegmentSampling(8, "last"), "place"),
        (lambda: dv.SegmentSampling(8, ()), "place"),
        (lambda: dv.SegmentSampling(8, (0.5, 1.0)), "place"),
        (lambda: dv.SegmentSampling(8, (-0.1,)), "place"),
        (lambda: dv.SegmentSampling(8, "ends", "tsn"), "bounds"),
        (lambda: dv.SegmentSampling(8, short="loop"), "short"),
        (lambda: dv.MultiClip(dv.ClipSampling(), 0), "num_clips"),
        (lambda: dv.MultiClip(dv.ClipSampling(), 257), "num_clips"),
        (lambda: dv.MultiClip(dv.ClipSampling), "clip"),
        (lambda: dv.MultiClip(dv.SegmentSampling()), "clip"),
        (lambda: dv.MultiClip(dv.SegmentSampling(8, (0.1, 0.2)), 2, "random"), "clip"),
        (lambda: dv.MultiClip(dv.ClipSampling(), 2, step=3), "step"),
        (lambda: dv.MultiClip(dv.ClipSampling(), 2, "dense", step=0), "step"),
        (lambda: dv.MultiClip(dv.ClipSampling(), 10, num_crops=3), "num_clips"),
        (lambda: dv.MultiClip(dv.SegmentSampling(8, (0.1, 0.2)), 3, "own", num_crops=3), "num_clips"),
        (lambda: dv.MultiClip(dv.ClipSampling(), 2, "own"), "num_clips"),
        (lambda: dv.KeyframeClip(8, 0), "stride"),
        (lambda: dv.KeyframeClip(8, 1, ""), "column"),
        (lambda: dv.KeyframeClip(8, 1, offset=None), "offset"),
        (lambda: dv.Snippets(count=300), "count"),
        (lambda: dv.Snippets(count=64, per_clip=3), "count"),
        (lambda: dv.Snippets(placement="some"), "placement"),
        (lambda: dv.SlowFastSampling(target_fps=0), "target_fps"),
        (lambda: dv.MMAction2Sampling(out_of_bound="error"), "out_of_bound"),
        (lambda: dv.VideoMAESampling(num_clips=0, training=False), "num_clips"),
        (lambda: dv.VJEPA2Sampling(fps=2.5), "fps"),
        (lambda: dv.VJEPA2Sampling(fps=4, stride=4), "stride or fps"),
        (lambda: dv.VJEPA2Sampling(fps=None), "stride or fps"),
        (lambda: dv.VJEPA2Sampling(fps=None, stride=0), "stride"),
        (lambda: dv.DMVRSampling(stride=0), "stride"),
        (lambda: dv.DMVRSampling(num_clips=300), "num_clips"),
        (lambda: dv.DMVRSampling(training=1), "training"),
    ],
)
def test_bad_options_are_refused(make, field):
    with pytest.raises(ValueError, match=rf"^\w+: {field} must be|^ClipSampling: grid says"):
        make()


def test_what_does_not_fit_is_refused_by_name():
    videos = dataclasses.replace(make_videos([0], [20]), path_of=lambda i: "a.mp4")
    with pytest.raises(ValueError, match=r"ClipSampling: sample 0 \(a.mp4\) has 20 frames in 0.80 s, .* at fps 10"):
        dv.ClipSampling(16, 1, short="raise", fps=10.0).draw(draws_of(1), videos)
    with pytest.raises(ValueError, match=r"sample 0 \(a.mp4\) has 20 frames, too few for 16 with stride 4"):
        dv.ClipSampling(16, 2, short="raise", speed=(2.0, 2.0)).draw(draws_of(1), videos)
    with pytest.raises(ValueError, match=r"MultiClip: sample 0 \(a.mp4\) has 20 frames, too few"):
        dv.MultiClip(dv.ClipSampling(16, 2, short="raise"), 3).draw(draws_of(1), videos)
    with pytest.raises(ValueError, match=r"SegmentSampling: sample 0 \(a.mp4\) has 20 frames, .*: some would be empty"):
        dv.SegmentSampling(21, short="raise").draw(draws_of(1), videos)
    one = dataclasses.replace(videos, last=np.array([1]))
    for placement in ("even", "dense"):
        with pytest.raises(ValueError, match=r"MultiClip: sample 0 \(a.mp4\) has one frame, which has no 3 places"):
            dv.MultiClip(dv.ClipSampling(4), 3, placement).draw(draws_of(1), one)
    assert dv.MultiClip(dv.ClipSampling(4), 3, "same").draw(draws_of(1), one).tolist() == [[0] * 4]
    with pytest.raises(ValueError, match=r"VJEPA2Sampling: fps=26 is more than 25, .* sample 0 \(a.mp4\)"):
        dv.VJEPA2Sampling(4, 26).draw(draws_of(1), videos)


def test_columns_of_a_manifest_are_found(manifest):
    plan = dv.draw_plan(manifest, dv.Recipe(dv.KeyframeClip(3, 1, "when"), ()), range(12))
    for i in range(12):
        index = np.searchsorted(manifest.videos([i]).times(0), 0.4 + 1e-6, side="right") - 1
        assert plan.frames[i].tolist() == [index - 1, index, index + 1]
    with pytest.raises(ValueError, match="no column 'who'"):
        dv.draw_plan(manifest, dv.Recipe(dv.KeyframeClip(3, 1, "who"), ()), [0])


def stretched_frames(length, num_frames, offset, stride=1):
    """Kim et al.: each frame twice, or four times, of which consecutive ones are taken, by a list of repeats."""
    span = (num_frames - 1) * stride + 1
    times = next((k for k in (1, 2, 4) if k * length >= span), 4)
    shown = [frame for frame in range(length) for _ in range(times)]
    inside = [i for i in range(offset, offset + span, stride) if i < len(shown)]
    return [shown[i] for i in inside + inside[-1:] * (num_frames - len(inside))], max(len(shown) - span + 1, 1)


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("length", [1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 40])
def test_short_videos_are_stretched(length, stride):
    """Every start in the repeated frames occurs, as often as any other, and no other clip does."""
    count = stretched_frames(length, 16, 0, stride)[1]
    expected = {tuple(stretched_frames(length, 16, offset, stride)[0]) for offset in range(count)}
    views = views_of(dv.ClipSampling(16, stride, short="stretch"), length, samples=40 * count)[:, 0]
    assert {tuple(row) for row in views.tolist()} == expected and len(expected) == count
    order = sorted(expected)
    assert is_uniform(np.array([order.index(tuple(row)) for row in views.tolist()]), count) or count == 1
    first, middle = (dv.ClipSampling(16, stride, start, "stretch") for start in ("first", "center"))
    assert views_of(first, length)[0, 0].tolist() == stretched_frames(length, 16, 0, stride)[0]
    assert views_of(middle, length)[0, 0].tolist() == stretched_frames(length, 16, (count - 1) // 2, stride)[0]
    ten = views_of(dv.MultiClip(dv.ClipSampling(16, stride, short="stretch"), 2), length, 2) if length > 1 else None
    for view, offset in ((0, 0), (1, count - 1)) if length > 1 else ():
        assert ten[0, view].tolist() == stretched_frames(length, 16, offset, stride)[0]


def test_stretched_by_time():
    """25 frames per second at fps 12.5: every second frame; of 9 frames, 4.5 steps, each is shown twice as long."""
    sampler = dv.ClipSampling(8, fps=12.5, short="stretch", start="first")
    assert views_of(sampler, 9)[0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert views_of(sampler, 40)[0, 0].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert views_of(dataclasses.replace(sampler, grid="rate"), 9)[0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
