"""Ops on time: what they do to the frames of clips, against the same written by hand, and in the loader."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from conftest import fits_distribution, make_videos, same_distribution, shown_numbers

import dali_vidaug as dv
from dali_vidaug.rng import Draws
from dali_vidaug.timing import draw_time

NAMES = ("TemporalJitter", "FrameJitter", "FrameDrop", "Reverse", "HalfCopy", "SpeedRamp", "FrameInterpolation")
SAMPLING = dv.ClipSampling(num_frames=8, stride=3)


def retime(op, frames, last=None, seed=0, samples=None):
    """What an op makes of clips (B, F), and its arguments."""
    frames = np.asarray(frames)
    samples = np.arange(len(frames)) if samples is None else samples
    videos = make_videos(0 * samples, np.ceil(frames.max(1)).astype(int) + 1 if last is None else last)
    return op.retime(Draws(seed, 0, samples, prefix="op"), frames.copy(), videos)


def clips(num, size=8, stride=3, dtype=np.int32):
    """(num, size) frames with another start for each clip."""
    return (np.arange(num)[:, None] % 7 + stride * np.arange(size)).astype(dtype)


# One op, against its definition written as a loop


def jittered(frames, times):
    shown = [frame for frame, n in zip(frames, times, strict=True) for _ in range(n)]
    return (shown + shown[-1:] * len(frames))[: len(frames)]


@pytest.mark.parametrize("drop, duplicate", [(0.1, 0.1), (0.5, 0.5), (0.9, 0.0), (0.0, 1.0), (1.0, 0.0), (0, 0)])
def test_temporal_jitter(drop, duplicate):
    given = clips(300)
    frames, rows = retime(dv.TemporalJitter(drop, duplicate), given)
    assert frames.tolist() == [jittered(*pair) for pair in zip(given.tolist(), rows["count"].tolist(), strict=True)]
    if drop == 1:
        assert (frames == given[:, :1]).all()
    if drop + duplicate == 0:
        assert (frames == given).all() and not dv.TemporalJitter().applied(rows).any()


def test_temporal_jitter_by_hand():
    """Frames that close up, that push the rest back, the cut, the last that fills; all of them dropped."""
    assert jittered([0, 3, 6, 9], [1, 0, 1, 1]) == [0, 6, 9, 9]
    frames, rows = retime(dv.TemporalJitter(0.3, 0.3), np.tile([0, 3, 6, 9], (4000, 1)))
    found = dict(zip(map(tuple, rows["count"].tolist()), map(tuple, frames.tolist()), strict=True))
    assert found[(1, 0, 1, 1)] == (0, 6, 9, 9) and found[(2, 1, 1, 1)] == (0, 0, 3, 6)
    assert found[(0, 0, 1, 0)] == (6, 6, 6, 6) and found[(1, 1, 1, 2)] == (0, 3, 6, 9)
    assert found[(1, 0, 0, 0)] == (0, 0, 0, 0) and found[(0, 2, 0, 2)] == (3, 3, 9, 9)


def test_shares_are_those_that_were_asked_for():
    _, rows = retime(dv.TemporalJitter(0.2, 0.3), clips(20000))
    shares = [(rows["count"] == n).mean() for n in (0, 1, 2)]
    np.testing.assert_allclose(shares, [0.2, 0.5, 0.3], atol=0.005)
    np.testing.assert_allclose(retime(dv.FrameDrop(0.3), clips(20000))[1]["dropped"][:, 1:].mean(0), 0.3, atol=0.015)
    for op in (dv.Reverse(0.3), dv.HalfCopy(0.3), dv.SpeedRamp(probability=0.3), dv.FrameDrop(0.9, 0.3),
               dv.TemporalJitter(0.5, 0.5, 0.3), dv.FrameJitter(0.3)):  # fmt: skip
        given = clips(20000)
        frames, rows = retime(op, given)
        assert abs(op.applied(rows).mean() - 0.3) < 0.015
        assert (frames[~op.applied(rows)] == given[~op.applied(rows)]).all()
    _, rows = retime(dv.HalfCopy(1.0), clips(20000))
    assert abs((rows["half"] == 1).mean() - 0.5) < 0.015


@pytest.mark.parametrize("stride", [1, 2, 3, 8])
def test_frame_jitter_moves_each_frame_by_less_than_the_stride(stride):
    given = clips(4000, 6, stride)
    frames, _ = retime(dv.FrameJitter(), given, given.max(1) + stride)
    moved = frames - given
    assert (np.diff(frames) > 0).all()
    for k in range(6):  # MMAction2: randint(stride) for each frame by itself
        assert same_distribution(moved[:, k], np.random.default_rng(k).integers(stride, size=4000))
    if stride > 1:
        assert abs(np.corrcoef(moved[:, 0], moved[:, 1])[0, 1]) < 0.05


def test_frame_jitter_stays_within_the_video_and_knows_what_a_gap_is():
    frames, _ = retime(dv.FrameJitter(), [[0, 4, 8, 11, 11, 11]] * 500, np.full(500, 12))
    assert frames.max() == 11 and (frames[:, 3:] == 11).all()  # reach 3, and the end
    assert set(frames[:, 0]) == {0, 1, 2}
    looped, _ = retime(dv.FrameJitter(), [[0, 4, 8, 1, 5, 9]] * 500, np.full(500, 20))
    assert set(looped[:, 0]) == {0, 1, 2, 3} == set(looped[:, 5] - 9)
    backwards, _ = retime(dv.FrameJitter(), [[8, 4, 0]] * 500, np.full(500, 20))
    assert set(backwards[:, 1]) == {4, 5, 6, 7}
    for same in ([[5, 5, 5]], [[7]], [[3, 4, 5]]):
        assert retime(dv.FrameJitter(), same, np.full(1, 90))[0].tolist() == same
    between, _ = retime(dv.FrameJitter(), [[0.25, 2.75, 5.25]] * 500, np.full(500, 7))
    assert between.dtype == np.float64 and set(between[:, 0]) == {0.25, 1.25, 2.25}
    assert between.max() == 6 and (np.diff(between) > 0).all()


def test_frame_drop_holds_the_last_frame_that_is_kept():
    given = clips(500)
    frames, rows = retime(dv.FrameDrop(), given)
    for before, after, dropped in zip(given, frames, rows["dropped"], strict=True):
        held = []
        for frame, gone in zip(before.tolist(), dropped.tolist(), strict=True):
            held.append(held[-1] if gone else frame)
        assert after.tolist() == held and not dropped[0]
    assert (retime(dv.FrameDrop(1.0), given)[0] == given[:, :1]).all()


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_reverse_and_half_copy(size):
    given, half = clips(200, size), size // 2
    frames, rows = retime(dv.Reverse(), given)
    for a, b, yes in zip(given.tolist(), frames.tolist(), rows["reversed"].tolist(), strict=True):
        assert b == (a[::-1] if yes else a)
    op = dv.HalfCopy()
    frames, rows = retime(op, given)
    for a, b, n in zip(given.tolist(), frames.tolist(), rows["half"].tolist(), strict=True):
        first, middle, second = a[:half], a[half : size - half], a[size - half :]
        assert b == {0: a, 1: first + middle + first, 2: second + middle + second}[n]
    assert set(rows["half"]) == ({0} if size == 1 else {0, 1, 2})
    assert {tuple(op.describe(row)) for row in rows} <= {
        ("no half is copied",), ("the first half is copied",), ("the second half is copied",)
    }  # fmt: skip


# SpeedRamp


def test_a_speed_ramp_is_its_formula():
    given = clips(300, 16)
    frames, rows = retime(dv.SpeedRamp(), given)
    s = np.arange(16) / 15
    for before, after, r in zip(given, frames, rows["ratio"], strict=True):
        x = s if abs(r - 1) < 1e-9 else (r**s - 1) / (r - 1)
        np.testing.assert_allclose(after, before[0] + x * (before[-1] - before[0]), atol=1e-9)
    assert (frames[:, [0, -1]] == given[:, [0, -1]]).all() and (np.diff(frames) > 0).all()


def test_the_speeds_at_the_ends_have_the_ratio():
    given = clips(50, 2001, 1)
    frames, rows = retime(dv.SpeedRamp(), given)
    speed = np.diff(frames)
    np.testing.assert_allclose(speed[:, -1] / speed[:, 0], rows["ratio"] ** (1999 / 2000), rtol=1e-4)


def test_the_ratio_is_log_uniform():
    _, rows = retime(dv.SpeedRamp((0.25, 4.0)), clips(20000))
    assert fits_distribution(np.log2(rows["ratio"]), lambda x: (x + 2) / 4, -2, 2)
    for ratio in ((1.0, 1.0), (1 - 1e-9, 1 + 1e-9)):
        np.testing.assert_allclose(retime(dv.SpeedRamp(ratio), clips(5))[0], clips(5), atol=1e-6)


def test_a_ramp_follows_its_clip_and_does_not_enter_what_it_jumps_over():
    path = [[0, 4, 8, 12, 2, 6, 10, 14]] * 300
    frames, rows = retime(dv.SpeedRamp(), path)
    at = np.arange(8.0)
    for after, ratio in zip(frames, rows["ratio"], strict=True):
        course = 7 * ((ratio ** (at / 7) - 1) / (ratio - 1))
        for place, position in zip(course, after, strict=True):
            j = min(int(place + 1e-9), 6)
            if j == 3 and 1e-6 < place - 3 < 1 - 1e-6:  # 12 to 2
                assert position == (2 if place >= 3.5 else 12)
            else:
                assert abs(position - np.interp(place, at, path[0])) < 1e-6
    reverse, _ = retime(dv.SpeedRamp(), [[14, 10, 6, 2]] * 300)
    assert (np.diff(reverse) < 0).all() and (reverse % 1 != 0).any()
    assert retime(dv.SpeedRamp(), [[5]])[0].tolist() == [[5.0]]


# Any of them


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_depends_on_its_address_alone(name):
    op, given, samples = getattr(dv, name)(), clips(40), np.arange(100, 140)
    last = given.max(1) + 3
    frames, rows = retime(op, given, last, samples=samples)
    order = np.random.default_rng(0).permutation(40)[:9]
    part, some = retime(op, given[order], last[order], samples=samples[order])
    assert (part == frames[order]).all() and (rows is None or (some == rows[order]).all())
    if rows is not None:
        assert not (retime(op, given, last, seed=1, samples=samples)[0] == frames).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 2, 3, 16])
def test_any_clip_stays_within_its_video(name, size):
    rng = np.random.default_rng(size)
    for seed in range(30):
        last = rng.integers(1, 60, 20)
        given = rng.integers(0, last[:, None], (20, size))
        for dtype in (np.int32, np.float64):
            frames, _ = retime(getattr(dv, name)(), given.astype(dtype), last, seed)
            assert frames.shape == given.shape and (frames >= given.min(1)[:, None]).all()
            assert (frames <= last[:, None] - 1).all()
            wanted = {"SpeedRamp": np.float64, "FrameInterpolation": np.float64}.get(name, dtype)
            assert frames.dtype == wanted


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: dv.TemporalJitter(drop=1.5), r"TemporalJitter: drop must be in \[0, 1\], got 1.5"),
        (lambda: dv.TemporalJitter(duplicate=-1), r"TemporalJitter: duplicate must be in \[0, 1\], got -1"),
        (lambda: dv.TemporalJitter(0.6, 0.6), r"TemporalJitter: drop \+ duplicate must be at most 1, got 0.6 \+ 0.6"),
        (lambda: dv.TemporalJitter(probability=float("nan")), "TemporalJitter: probability must be .*, got nan"),
        (lambda: dv.FrameJitter(2), r"FrameJitter: probability must be in \[0, 1\], got 2"),
        (lambda: dv.FrameDrop("x"), r"FrameDrop: drop must be in \[0, 1\], got 'x'"),
        (lambda: dv.FrameDrop(probability=None), r"FrameDrop: probability must be in \[0, 1\], got None"),
        (lambda: dv.Reverse(-0.1), r"Reverse: probability must be in \[0, 1\], got -0.1"),
        (lambda: dv.HalfCopy(7), r"HalfCopy: probability must be in \[0, 1\], got 7"),
        (lambda: dv.SpeedRamp((0, 2)), r"SpeedRamp: ratio must be 0 < low <= high <= 1e\+06, got \(0, 2\)"),
        (lambda: dv.SpeedRamp(2), "SpeedRamp: ratio must be .*, got 2"),
        (lambda: dv.SpeedRamp((4, 0.25)), r"SpeedRamp: ratio must be .*, got \(4, 0.25\)"),
        (lambda: dv.SpeedRamp(probability=3), r"SpeedRamp: probability must be in \[0, 1\], got 3"),
        (lambda: dv.FrameInterpolation("cubic"), "FrameInterpolation: method must be one of 'linear', 'nea"),
        (lambda: dv.Recipe(ops=(dv.Resize(9), dv.Reverse())), "Reverse decides which frames are decoded, so it must c"),
        (lambda: dv.Recipe(ops=(dv.Reverse,)), r"write Reverse\(...\)"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# In a recipe, in order


def test_ops_on_time_are_drawn_in_order_and_nothing_else_changes(numbered_manifest):
    """The sampler's draws stay the same, as do those of ops on pixels; each op on time has its own."""
    pixels = (dv.RandomResizedCrop(32), dv.RandAugmentT())
    chain = (dv.FrameJitter(), dv.Reverse(), dv.FrameDrop(), dv.Reverse(), dv.SpeedRamp())
    plain = dv.draw_plan(numbered_manifest, dv.Recipe(SAMPLING, pixels), range(12), seed=4)
    plan = dv.draw_plan(numbered_manifest, dv.Recipe(SAMPLING, (*chain, *pixels)), range(12), seed=4)
    for name in ("RandomResizedCrop", "RandAugmentT"):
        assert (plan.args[name] == plain.args[name]).all()
    frames, videos = plain.frames, numbered_manifest.videos(plan.samples)
    for name, op in zip(("FrameJitter", "Reverse", "FrameDrop", "Reverse_2", "SpeedRamp"), chain, strict=True):
        frames, rows = op.retime(Draws(4, 0, range(12), prefix=name), frames, videos)
        assert (plan.args[name] == rows).all()
    assert (plan.frames == frames).all() and plan.frames.dtype == np.float64
    assert not (plan.args["Reverse"] == plan.args["Reverse_2"]).all()
    nearest = dv.Recipe(SAMPLING, (*chain, dv.FrameInterpolation("nearest"), *pixels))
    rounded = dv.draw_plan(numbered_manifest, nearest, range(12), seed=4)
    assert rounded.frames.dtype == np.int32 and (rounded.frames == np.floor(frames + 0.5)).all()
    assert dv.Recipe.parse(repr(nearest)) == nearest


def test_a_plan_with_ops_on_time_is_saved_and_described(tmp_path, numbered_manifest):
    chain = tuple(getattr(dv, name)() for name in NAMES)
    plan = dv.draw_plan(numbered_manifest, dv.Recipe(SAMPLING, chain), range(12), seed=1)
    plan.save(tmp_path / "p.json")
    again = dv.Plan.load(tmp_path / "p.json")
    assert (again.frames == plan.frames).all() and again.recipe == plan.recipe
    assert all(again.args[n] is rows is None or (again.args[n] == rows).all() for n, rows in plan.args.items())
    text = plan.describe(0)
    assert "TemporalJitter" in text and "dropped" in text and "SpeedRamp ratio" in text and "half is copied" in text
    assert "Reverse (" in repr(plan) and plan.row(3).describe(0) == plan.describe(3)


def test_the_loader_shows_the_frames_of_the_plan(numbered_manifest):
    """Each frame of the videos shows its number."""
    chain = (dv.FrameJitter(), dv.Reverse(), dv.TemporalJitter(0.2, 0.2), dv.FrameInterpolation("nearest"))
    with dv.VideoLoader(numbered_manifest, dv.Recipe(SAMPLING, chain), 4, device="cpu", seed=2) as loader:
        for batch, _ in zip(loader, range(3), strict=False):
            for clip, frames in zip(batch.clips, batch.plan.frames, strict=True):
                assert shown_numbers(clip.permute(1, 2, 3, 0).numpy()) == frames.tolist()
            assert torch.equal(loader.apply(batch.plan).clips, batch.clips)
        assert "ops repeat" in str(loader.report())


def test_an_edited_plan_is_changed_by_its_frames(numbered_manifest):
    recipe = dv.Recipe(SAMPLING, (dv.Reverse(1.0),))
    plan = dv.draw_plan(numbered_manifest, recipe, [0])
    with dv.VideoLoader(numbered_manifest, recipe, 1, device="cpu") as loader:
        forward = replace(plan, frames=plan.frames[:, ::-1])
        assert (
            shown_numbers(loader.apply(forward).clips[0].permute(1, 2, 3, 0).numpy()) == plan.frames[0, ::-1].tolist()
        )


# Clips in memory


def test_clips_in_memory_are_retimed():
    given = np.random.default_rng(0).integers(0, 256, (12, 8, 20, 30, 3), dtype=np.uint8)
    batch = dv.augment(given, (dv.Reverse(), dv.FrameDrop()), device="cpu", layout="FHWC", seed=5)
    assert len({tuple(frames) for frames in batch.plan.frames.tolist()}) > 8
    for out, clip, frames in zip(batch.clips, given, batch.plan.frames, strict=True):
        assert torch.equal(out, torch.from_numpy(clip[frames]))


def test_clips_in_memory_of_other_lengths_are_refused():
    given = [np.zeros((n, 20, 30, 3), np.uint8) for n in (8, 5)]
    with pytest.raises(ValueError, match="augment: Reverse needs clips of as many frames each, got clips of 5 to 8"):
        dv.augment(given, (dv.Reverse(), dv.Normalize()), device="cpu")


# Ops on time of one's own


@dataclass(frozen=True)
class Own:
    """Every second frame; what it returns may be wrong in one way."""

    wrong: str = ""

    def retime(self, draws, frames, videos):
        rows = np.zeros(len(draws), [("x", "i4")])
        if self.wrong == "error":
            raise KeyError("pts")
        if self.wrong == "after the end":
            frames = frames + 1000
        if self.wrong == "rows":
            rows = [1, 2]
        if self.wrong == "only frames":
            return frames
        return frames[:, ::2] if self.wrong != "flat" else frames[0], rows


def test_an_op_of_ones_own_may_change_the_number_of_frames(numbered_manifest):
    recipe = dv.Recipe(SAMPLING, (Own(), dv.RandAugmentT()))
    with dv.VideoLoader(numbered_manifest, recipe, 2, device="cpu") as loader:
        assert next(iter(loader)).clips.shape == (2, 3, 4, 96, 160)
    batch = dv.augment(np.zeros((2, 8, 20, 30, 3), np.uint8), (Own(), dv.Normalize()), device="cpu")
    assert batch.clips.shape[1] == 4 or batch.clips.shape[2] == 4


@pytest.mark.parametrize(
    "wrong, message",
    [
        ("error", r"Own\.retime: KeyError: 'pts' \(Own\(wrong='error'\), for 1 clip of sample 3"),
        ("after the end", r"Own: frame \d+ of sample 3 is outside \[0, 52\)"),
        ("rows", r"Own\.retime must return frames, and None or a structured array of 1 rows"),
        ("flat", r"Own\.retime must return the frames of 1 clips"),
        ("only frames", r"Own\.retime must return frames, and None or a structured array"),
    ],
)
def test_what_an_op_of_ones_own_returns_is_checked(wrong, message, numbered_manifest):
    with pytest.raises((TypeError, ValueError), match=message):
        dv.draw_plan(numbered_manifest, dv.Recipe(SAMPLING, (Own(wrong),)), [3])


def test_draws_are_not_changed_by_what_an_op_does_to_its_input(numbered_manifest):
    @dataclass(frozen=True)
    class Vandal:
        def retime(self, draws, frames, videos):
            frames[:] = 0
            return frames + 1, None

    videos, frames = make_videos([0], [9]), np.array([[3, 4]])
    assert draw_time(dv.Recipe(ops=(Vandal(),)), Draws(0, 0, [0]), frames, videos).frames.tolist() == [[1, 1]]
    assert frames.tolist() == [[3, 4]]
