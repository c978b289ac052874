"""Positions between two frames: the kernel against the reference, and the loader against a full decode."""

import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
import reference
import torch
from conftest import _real, assert_pixels, extreme_clips, noise_clips, numbered_frame, shown_numbers
from full_decode import full_decode

import dali_vidaug as dv
from dali_vidaug import kernels
from dali_vidaug.graph import Graph
from dali_vidaug.media.encode import write_video
from dali_vidaug.ops.interpolate import (
    decoded_frames,
    interpolate,
    interpolate_args,
    interpolate_rows,
)
from dali_vidaug.settings import make_settings

SHAPES = [(1, 1, 1), (2, 1, 1), (4, 17, 23), (5, 8, 64), (16, 56, 48)]
WEIGHTS = (0.0, 2**-15, 0.5 - 2**-15, 0.5, 0.5 + 2**-15, 0.3, 1 - 2**-15, 1 - 1e-9)


def run(clips, rows, num_frames, device="cpu", **options):
    if device == "cpu":
        return interpolate(clips, rows, num_frames, **options)
    import cupy

    rows = [cupy.asarray(row.reshape(1).view(np.uint8)) for row in rows]
    clips = [cupy.asarray(clip) for clip in clips]
    return [cupy.asnumpy(out) for out in interpolate(clips, rows, num_frames)]


def positions_in(num_frames, count, size, seed=0):
    """(count, size) positions in [0, num_frames - 1]: any, with weights that matter, and those of frames."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, max(num_frames - 1, 1), (count, size)) + rng.choice(
        [*WEIGHTS, *rng.random(8)], (count, size)
    )
    frames[0] = np.floor(frames[0])
    return np.clip(frames, 0, num_frames - 1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [1, 7, 20])
def test_the_kernel_matches_the_reference(shape, size, device):
    for seed in range(4):
        videos = extreme_clips(shape, seed=seed)
        videos[2][0], videos[2][-1] = 0, 255
        frames = positions_in(shape[0], len(videos), size, seed)
        clips = [video[decoded_frames(p)] for video, p in zip(videos, frames, strict=True)]
        given = [clip.copy() for clip in clips]
        outputs = run(clips, interpolate_rows(frames), size, device)
        for out, video, p in zip(outputs, videos, frames, strict=True):
            assert_pixels(out, reference.interpolate(video, p))  # equal, not within one level
        assert all((a == b).all() for a, b in zip(clips, given, strict=True))


def test_all_pairs_of_values_and_many_weights(device):
    """Within half a level of the exact blend, which with weights in steps of 1 / 32768 may become 0.51."""
    pair = np.stack([*np.mgrid[:256, :256]])[..., None].repeat(3, -1).astype(np.uint8)
    for weight in (*WEIGHTS, 1 / 3, 0.123456789):
        (out,) = run(
            [pair], interpolate_rows(np.array([[weight]] if weight else [[0.0, 1.0]])), 1 if weight else 2, device
        )
        exact = pair[0] * (1 - weight) + pair[1] * weight
        assert np.abs(out[0] - exact).max() <= 0.51


def test_both_builds_for_the_cpu_give_the_same(libraries, monkeypatch):
    clips, frames = extreme_clips((9, 37, 43), 6), positions_in(9, 6, 12)
    taken, results = [clip[decoded_frames(p)] for clip, p in zip(clips, frames, strict=True)], []
    for library in libraries:
        monkeypatch.setattr(kernels, "library", lambda library=library: library)
        results.append(interpolate(taken, interpolate_rows(frames), 12, num_threads=3))
    for a, b in zip(*results, strict=True):
        assert_pixels(a, b)


def test_each_neighbour_is_decoded_once():
    assert decoded_frames(np.array([3.0, 3.5, 4.25, 9.0, 3.5, 0.1])).tolist() == [0, 1, 3, 4, 5, 9]
    assert decoded_frames(np.array([7, 3, 7], np.int32)).tolist() == [7, 3, 7]
    assert decoded_frames(np.array([7.0, 3.0, 7.0])).tolist() == [3, 7]


@pytest.mark.parametrize(
    "change",
    [{"frames": 5}, {"at": [[-1, 0]] * 3}, {"at": [[4, 0]] * 3}, {"at": [[0, -1]] * 3}, {"at": [[0, 32769]] * 3}],
)
def test_rows_for_other_clips_are_refused_and_read_no_other_memory(change):
    (clip,) = noise_clips((4, 5, 6))
    rows = interpolate_rows(np.array([[0.5, 1.5, 2.5]]))
    for name, value in change.items():
        rows[name][0] = value
    with pytest.raises(ValueError, match="interpolate: clip 0 has 4 frames; its row is for others"):
        interpolate([clip], rows, 3)
    if "at" in change:  # what the GPU would do, where rows cannot be looked at
        (out,) = kernels.launch("interpolate", [clip], rows, interpolate_args(3), out_frames=[3])
        nearest = {-1: 0, 4: 3}.get(change["at"][0][0], 1 if change["at"][0][1] > 0 else 0)
        assert_pixels(out, clip[[nearest] * 3])


def test_a_result_that_is_too_large_is_refused():
    clip = np.zeros((2, 1024, 2, 3), np.uint8)
    frames = np.zeros((1, 2**20 + 1))
    with pytest.raises(ValueError, match="interpolate: clip 0 is too large"):
        interpolate([clip[:1]], interpolate_rows(frames), frames.shape[1])


# The loader


def blend_of(video, positions):
    """The exact blend, as floats."""
    before = np.floor(positions).astype(int)
    weight = (positions - before)[:, None, None, None]
    after = np.minimum(before + 1, len(video) - 1)
    return (1 - weight) * video[before] + weight * video[after]


@pytest.fixture(scope="module")
def smooth(tmp_path_factory):
    """Two videos of a pattern that moves, VP9, which DALI decodes without a GPU, and H.264; and all their frames."""
    folder = tmp_path_factory.mktemp("smooth")
    (folder / "a").mkdir()
    y, x = np.mgrid[:96, :160]
    for i in range(2):
        frames = (
            np.stack([128 + 100 * np.sin((x + 3 * t * (i + 1)) / 9), 128 + 90 * np.cos((y - t) / 7), x + 2 * t], -1)
            for t in range(60)
        )
        vp9 = dict(codec="libvpx-vp9", options={"g": "10", "deadline": "realtime", "cpu-used": "8"})
        name, options = [("0.webm", vp9), ("1.mp4", {})][i]
        write_video(folder / "a" / name, (np.clip(f, 0, 255).astype(np.uint8) for f in frames), **options)
    manifest = dv.scan(folder, progress=False)
    recipe = dv.Recipe(dv.ClipSampling(num_frames=60, stride=1), ())
    with dv.VideoLoader(manifest, recipe, 2, device="cpu", decoder="pyav") as loader:
        whole = loader.apply(dv.draw_plan(manifest, recipe, [0, 1])).clips.permute(0, 2, 3, 4, 1).numpy()
    return manifest, whole


def for_decoder(decoder, manifest):
    """The manifest, or the part of it that DALI decodes without a GPU; and its rows."""
    rows = [0] if decoder == "dali" else [0, 1]
    return manifest.select(rows), rows


RAMP = dv.SpeedRamp((0.2, 5.0))
SAMPLING = dv.ClipSampling(num_frames=12, stride=(1, 4))


@pytest.mark.parametrize("decoder", ["pyav", "dali", "hybrid"])
def test_the_loader_blends_the_frames_of_a_full_decode(decoder, smooth):
    (manifest, rows), whole = for_decoder(decoder, smooth[0]), smooth[1]
    recipe = dv.Recipe(SAMPLING, (RAMP, dv.RandomHorizontalFlip()))
    with dv.VideoLoader(manifest, recipe, len(rows), device="cpu", decoder=decoder) as loader:
        for epoch in range(3):
            plan = dv.draw_plan(manifest, recipe, rows, seed=1, epoch=epoch)
            clips = loader.apply(plan).clips.permute(0, 2, 3, 4, 1).numpy()
            assert (plan.frames % 1 != 0).any()
            for clip, video, positions, row in zip(
                clips, whole[rows], plan.frames, plan.args["RandomHorizontalFlip"], strict=True
            ):
                exact = blend_of(video, positions)
                exact = exact[:, :, ::-1] if row["mirrored"] else exact
                assert np.abs(clip - exact).max() <= (0.51 if decoder == "pyav" else 2)


@pytest.mark.parametrize("in_decoder", [True, False])
@pytest.mark.parametrize("decoder", ["pyav", "hybrid", "dali"])
def test_leading_crops_are_done_before_blending(decoder, in_decoder, smooth):
    manifest, rows = for_decoder(decoder, smooth[0])
    recipe = dv.Recipe(SAMPLING, (RAMP, dv.CenterCrop(64), dv.Resize((40, 48)), dv.RandAugmentT(), dv.Normalize()))
    options = dict(device="cpu", decoder=decoder, resize_in_decoder=in_decoder and decoder != "dali")
    with dv.VideoLoader(manifest, recipe, len(rows), **options) as loader:
        plan = dv.draw_plan(manifest, recipe, rows, seed=1)
        assert loader.apply(plan).clips.shape == (len(rows), 3, 12, 40, 48)
    recipe = dv.Recipe(SAMPLING, (RAMP, dv.CenterCrop(64), dv.Resize((40, 48))))
    with dv.VideoLoader(manifest, recipe, len(rows), **options) as loader:
        plan = dv.draw_plan(manifest, recipe, rows, seed=1)
        clips = loader.apply(plan).clips.permute(0, 2, 3, 4, 1).numpy()
        whole = (
            loader.apply(replace(plan, frames=np.tile(np.arange(60), (len(rows), 1))))
            .clips.permute(0, 2, 3, 4, 1)
            .numpy()
        )
    for clip, video, positions in zip(clips, whole, plan.frames, strict=True):
        assert np.abs(clip - blend_of(video, positions)).max() <= 0.51


def test_positions_of_frames_are_those_frames(numbered_manifest):
    """Whole numbers, as float64: the same clips as of integers, repeated and backwards, in the same loader."""
    recipe = dv.Recipe(dv.ClipSampling(num_frames=6, stride=3), ())
    plan = dv.draw_plan(numbered_manifest, recipe, range(4))
    frames = plan.frames[:, [5, 5, 0, 3, 1, 4]]
    with dv.VideoLoader(numbered_manifest, recipe, 4, device="cpu") as loader:
        whole, floats = (loader.apply(replace(plan, frames=frames.astype(kind))) for kind in (np.int32, np.float64))
        again = loader.apply(replace(plan, frames=frames))
        assert torch.equal(whole.clips, floats.clips) and torch.equal(whole.clips, again.clips)
        assert shown_numbers(floats.clips[2].permute(1, 2, 3, 0).numpy()) == frames[2].tolist()


def test_an_edited_position_is_blended(numbered_manifest):
    recipe = dv.Recipe(dv.ClipSampling(num_frames=3, stride=3), ())
    plan = dv.draw_plan(numbered_manifest, recipe, [0])
    with dv.VideoLoader(numbered_manifest, recipe, 1, device="cpu") as loader:
        shown = loader.apply(replace(plan, frames=np.array([[4, 5, 9]]))).clips[0].permute(1, 2, 3, 0).numpy()
        clip = loader.apply(replace(plan, frames=np.array([[4.75, 4.0, 9.0]]))).clips[0].permute(1, 2, 3, 0).numpy()
        assert_pixels(clip[1:], shown[[0, 2]])
        assert np.abs(clip[0] - (0.25 * shown[0].astype(float) + 0.75 * shown[1])).max() <= 0.51
        for wrong in (39.5, -0.5):  # of 40 frames
            with pytest.raises(dv.ClipError, match=r"are not all in \[0, 40\)"):
                loader.apply(replace(plan, frames=np.array([[4.75, 4.0, wrong]])))


def test_a_sampler_may_draw_fractions(numbered_manifest):
    sampling = dv.ClipSampling(num_frames=8, fps=60, fractional=True)
    with dv.VideoLoader(numbered_manifest, dv.Recipe(sampling, (dv.Resize((24, 32)),)), 4, device="cpu") as loader:
        batch = next(iter(loader))
        assert (batch.plan.frames % 1 != 0).any() and batch.clips.shape == (4, 3, 8, 24, 32)
        assert torch.equal(loader.apply(batch.plan).clips, batch.clips)


def test_a_bad_clip_is_replaced_where_frames_are_blended(smooth, tmp_path):
    """The replacement is blended at its own positions."""
    manifest, _ = smooth
    shutil.copytree(manifest.root, tmp_path, dirs_exist_ok=True)
    copied = dv.scan(tmp_path, progress=False)
    recipe = dv.Recipe(SAMPLING, (RAMP,))
    (tmp_path / "a" / "0.webm").write_bytes(b"no video")
    with dv.VideoLoader(copied, recipe, 2, device="cpu", on_error="replace", check_files="off") as loader:
        batch = next(iter(loader))
        assert batch.samples.tolist() == [1, 1] and (batch.plan.frames % 1 != 0).any()
        assert torch.equal(loader.apply(batch.plan).clips, batch.clips)


FRACTIONS = (  # a sampler and ops that give positions between frames
    (dv.ClipSampling(num_frames=8, stride=2, fps=100, fractional=True), ()),
    (dv.ClipSampling(num_frames=8, stride=3, fps=24, speed=(0.3, 3.0), fractional=True), (dv.Reverse(), RAMP)),
    (dv.SegmentSampling(8), (dv.FrameJitter(), dv.SpeedRamp((0.1, 10.0)))),
)


def check_against_a_full_decode(manifest, samples):
    """Clips of real files: blends of the frames that PyAV alone gives, one by one, from the first packet."""
    for sample in samples:
        one, full = manifest.select([sample]), full_decode(manifest.path(sample))
        for sampling, ops in FRACTIONS:
            recipe = dv.Recipe(sampling, ops)
            with dv.VideoLoader(one, recipe, 1, device="cpu", on_error="raise") as loader:
                batch = next(iter(loader))
            positions, (clip,) = batch.plan.frames[0], batch.clips.permute(0, 2, 3, 4, 1).numpy()
            needed = decoded_frames(positions)
            video = np.stack([full.shown(i) for i in needed])
            places = np.interp(positions, needed, np.arange(len(needed)))
            assert_pixels(clip, reference.interpolate(video, places), max_diff=1), manifest.path(sample)
            assert sampling == FRACTIONS[2][0] or (positions % 1 != 0).any() or full.num_frames == 1


def test_the_loader_blends_real_videos():
    manifest = dv.scan(sorted(_real("fight").glob("*/*.mp4"))[::150], progress=False)
    check_against_a_full_decode(manifest, range(len(manifest)))


@pytest.mark.slow
def test_the_loader_blends_files_with_troubles(real_videos):
    manifest = dv.scan(real_videos, progress=False)
    videos = [manifest.video(i) for i in range(len(manifest))]
    short = [i for i, v in enumerate(videos) if v.num_frames * v.width * v.height < 15e6]  # of the oracle: in memory
    assert len(short) > 15
    check_against_a_full_decode(manifest, short)


def test_frames_in_memory_are_blended():
    given = np.random.default_rng(0).integers(0, 256, (3, 9, 20, 30, 3), dtype=np.uint8)
    batch = dv.augment(given, (dv.Reverse(), RAMP), device="cpu", layout="FHWC", seed=5)
    for out, clip, positions in zip(batch.clips.numpy(), given, batch.plan.frames, strict=True):
        assert_pixels(out, reference.interpolate(clip, positions))


@dataclass(frozen=True)
class Changing:
    """Integers, floats, or another number of floats, from epoch to epoch."""

    def draw(self, draws, videos):
        frames = np.tile([4, 5, 9], (len(draws), 1))
        return [frames, frames + 0.5, np.tile([4.75, 4.0, 9.0, 3.5], (len(draws), 1))][draws.epoch % 3]


def test_a_sampler_may_return_other_positions_in_each_batch(numbered_manifest):
    recipe = dv.Recipe(Changing(), ())
    with dv.VideoLoader(numbered_manifest, recipe, 4, device="cpu") as loader:
        for _ in range(2):
            for epoch in range(3):
                batches = list(loader)
                assert len(batches) == 3 and batches[0].epoch % 3 == epoch
                for batch in batches:
                    assert torch.equal(batch.clips, loader.apply(batch.plan).clips)
                    assert batch.clips.shape[2] == (3, 3, 4)[epoch]


def test_a_graph_refuses_other_positions(numbered_manifest):
    """Where it is used by itself: a plan with other positions than it was built for would be blended wrongly."""
    settings = make_settings(device="cpu", caller="test")
    plan = dv.draw_plan(numbered_manifest, dv.Recipe(Changing(), ()), [0], epoch=1)
    graph = Graph(plan, settings, 1)
    clip = np.zeros((5, 8, 8, 3), np.uint8)  # frames 4, 5, 6, 9 and 10
    assert graph.run(plan, [clip]).shape == (1, 3, 3, 8, 8)
    for epoch in (0, 2):
        with pytest.raises(TypeError, match="positions|frames are int32"):
            graph.run(dv.draw_plan(numbered_manifest, dv.Recipe(Changing(), ()), [0], epoch=epoch), [clip])


def test_the_middle_of_two_frames_is_their_mean():
    a, b = numbered_frame(3).astype(int), numbered_frame(8).astype(int)
    (out,) = interpolate([np.stack([a, b]).astype(np.uint8)], interpolate_rows(np.array([[0.5]])), 1)
    assert_pixels(out[0], ((a + b + 1) // 2).astype(np.uint8))
