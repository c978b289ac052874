"""Exactly the frames of other libraries: literal lists, and torchcodec's own samplers."""

import importlib.util
import sys
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from test_samplers import is_uniform, starts_of, views_of
from test_time_grid import write_moving

import dali_vidaug as dv
from dali_vidaug.rng import Draws

# ---- Literal lists


def test_slowfast_in_testing():
    """A room of 236: 10 clips at i / 10 of it, 5 with offsets, 1 in the middle."""

    def test(count, **more):
        return dv.SlowFastSampling(16, 4, 30.0, count, training=False, **more)

    expected = [int(23.6 * i) for i in range(10)]
    assert starts_of(test(10), 300, 10, fps=30.0) == expected
    assert starts_of(test(5, use_offset_sampling=True), 300, 5, fps=30.0) == [0, 59, 118, 177, 236]
    assert starts_of(test(1, use_offset_sampling=True), 300, 1, fps=30.0) == [118]
    clip = views_of(test(1), 300, fps=30.0)[0, 0].tolist()
    assert clip == [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]


def test_slowfast_by_rate_and_past_the_end():
    """At 60 per second a clip spans 128 frames; the last frame of a short video repeats."""
    sampler = dv.SlowFastSampling(8, 8, training=False)
    assert views_of(sampler, 300, fps=60.0)[0, 0].tolist() == [int(i * 127 / 7 + 1e-9) for i in range(8)]
    assert views_of(sampler, 30, fps=30.0)[0, 0].tolist() == [0, 9, 18, 27, 29, 29, 29, 29]


def test_slowfast_in_training():
    frames = views_of(dv.SlowFastSampling(8, 8), 104, fps=30.0, samples=20_000)[:, 0]
    assert is_uniform(frames[:, 0], 40) and frames.max() == 102  # a room of 40; the last frame never occurs


def test_mmaction2_in_testing():
    def test(count, **more):
        return dv.MMAction2Sampling(32, 2, count, training=False, **more)

    assert starts_of(test(10), 300, 10) == [0, 26, 53, 79, 105, 132, 158, 184, 211, 237]
    assert starts_of(test(4), 300, 4) == [0, 79, 158, 237]
    assert starts_of(test(1), 300, 1) == [118]
    loop, last = (dv.MMAction2Sampling(16, 4, 1, False, policy) for policy in ("loop", "repeat_last"))
    assert views_of(loop, 20)[0, 0].tolist() == [0, 4, 8, 12, 16] * 3 + [0]
    assert views_of(loop, 18)[0, 0].tolist()[:8] == [0, 4, 8, 12, 16, 2, 6, 10]
    assert views_of(last, 20)[0, 0].tolist() == [0, 4, 8, 12] + [16] * 12


def test_mmaction2_in_training():
    """300 frames, 4 clips of 32x2: parts of 59 starts; the last start that fits is 236, but 235 is reached."""
    starts = views_of(dv.MMAction2Sampling(32, 2, 4), 300, 4, samples=12_000)[:, :, 0]
    assert all(is_uniform(starts[:, i] - 59 * i, 59) for i in range(4))
    few = views_of(dv.MMAction2Sampling(4, 2, 6), 12, 6, samples=4000)[:, :, 0]  # 5 starts for 6 clips: sorted
    assert (np.diff(few, axis=1) >= 0).all() and is_uniform(few.ravel(), 5)
    assert views_of(dv.MMAction2Sampling(4, 2, 9), 9, 9)[0, :, 0].tolist() == [round(i * 2 / 9) for i in range(9)]
    assert not views_of(dv.MMAction2Sampling(16, 4, 2), 20, 2)[0, :, 0].any()


def test_videomae_in_training():
    frames = views_of(dv.VideoMAESampling(), 100, samples=18_000)[:, 0]
    stretched = [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]
    assert is_uniform(frames[:, 0], 36)  # 37 starts fit, the last never occurs
    assert frames[frames[:, 0] == 0][0].tolist() == stretched
    short = [0, 4, 8, 13, 17, 22, 26, 31, 35] + [39] * 7
    assert views_of(dv.VideoMAESampling(), 40)[0, 0].tolist() == short


def test_videomae_in_testing():
    """300 frames: 75 of stride 4, windows of 16 at trunc(i * 59 / 4)."""
    sampler = dv.VideoMAESampling(16, 4, 5, training=False)
    assert starts_of(sampler, 300, 5) == [0, 56, 116, 176, 236]
    assert (np.diff(views_of(sampler, 300, 5)[0]) == 4).all()
    assert views_of(sampler, 40, 5)[0].tolist() == [[*range(0, 37, 4)] + [36] * 6] * 5


def test_vjepa2():
    """29.97 per second at 4: stride 7, stretched; 25: stride 6."""
    sampler = dv.VJEPA2Sampling()
    frames = views_of(sampler, 2000, fps=29.97)[0, 0]
    assert (frames - frames[0]).tolist() == [0, 7, 14, 22, 29, 37, 44, 52, 59, 67, 74, 82, 89, 97, 104, 111]
    frames = views_of(sampler, 2000, fps=25.0, samples=200)[:, 0]
    assert set(frames[:, -1] - frames[:, 0]) == {95}
    short = views_of(sampler, 90, fps=25.0)[0, 0].tolist()
    assert short == [min(int(i * 90 / 14), 89) for i in range(15)] + [89]
    two = views_of(dv.VJEPA2Sampling(8, 4, 2), 400, 2, fps=25.0, samples=500)
    assert (two[:, 0].max(1) < 200).all() and (two[:, 1].min(1) >= 200).all()
    over = views_of(dv.VJEPA2Sampling(16, 4, 2, training=False), 160, 2, fps=25.0)[0]
    assert over[:, 0].tolist() == [0, 64]  # clips of 96 in 160 frames: they overlap
    assert (over[1] - over[0] == 64).all() and over[0].tolist() == [min(int(i * 95 / 14), 94) for i in range(15)] + [94]


def test_vjepa2_by_frames():
    """Its probes: 16 frames of stride 4, whatever the frame rate, in each of 8 parts of the video."""
    sampler = dv.VJEPA2Sampling(16, None, 8, False, 4)
    for fps in (30.0, 25.0, 3.0):
        frames = views_of(sampler, 800, 8, fps=fps)[0]
        assert (frames - frames[:, :1]).tolist() == [[0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]] * 8
        assert (frames.min(1) >= np.arange(8) * 100).all() and (frames.max(1) < np.arange(8) * 100 + 100).all()
    over = views_of(sampler, 300, 8)[0]  # parts of 37 frames: clips of 64 overlap, (300 - 64) // 7 apart
    assert over[:, 0].tolist() == [33 * i for i in range(8)]
    one = [min(int(i * 63 / 14), 62) for i in range(15)] + [62]
    assert (over - over[:, :1] == one).all()


def test_videomae_v2_validates_on_the_middle():
    """Of 301 frames, 64 from (301 - 64) // 2 on; a short video as in training."""
    middle = views_of(dv.VideoMAESampling(training=False), 301)[0, 0].tolist()
    assert middle == [118 + x for x in (0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63)]
    for length in (64, 40):
        same = [views_of(dv.VideoMAESampling(training=training), length)[0, 0].tolist() for training in (True, False)]
        assert same[0] == same[1]


def test_dmvr_repeats_the_sequence_of_a_short_video():
    for sampler in (
        dv.ClipSampling(8, 2, "first", "loop"),
        dv.DMVRSampling(8, 2),
        dv.DMVRSampling(8, 2, training=False),
    ):
        assert views_of(sampler, 10)[0, 0].tolist() == [0, 2, 4, 6, 8, 0, 2, 4]
    assert views_of(dv.DMVRSampling(8, 2), 9)[0, 0].tolist() == [0, 2, 4, 6, 8, 1, 3, 5]  # numbers modulo 9


def test_dmvr_in_training_and_testing():
    """32 frames of stride 2 cover 63; a test leaves room for 64, linspace(0, 300 - 64, 4)."""
    frames = views_of(dv.DMVRSampling(), 100, samples=20_000)[:, 0]
    assert is_uniform(frames[:, 0], 38) and (np.diff(frames) == 2).all() and frames.max() == 99
    assert starts_of(dv.DMVRSampling(32, 2, 4, training=False), 300, 4) == [0, 78, 157, 236]
    assert starts_of(dv.DMVRSampling(32, 2, training=False), 301, 1) == [118]
    assert starts_of(dv.DMVRSampling(32, 1, 4, training=False), 20, 4) == [0] * 4


# ---- torchcodec itself


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    pytest.importorskip("torchcodec", reason="torchcodec is not installed")
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:  # it needs libraries of FFmpeg
        pytest.skip(f"torchcodec does not run here: {str(error).splitlines()[0]}")
    folder = tmp_path_factory.mktemp("torchcodec")
    manifests = {}
    for name, rate in {"25": 25.0, "variable": None}.items():
        write_moving(folder / f"{name}.mp4", rate)
        manifests[name] = dv.scan(str(folder / f"{name}.mp4"), progress=False)
    return lambda name: (VideoDecoder(str(folder / f"{name}.mp4")), manifests[name])


def shown_frames(manifest, batch):
    """The frames of a torchcodec batch, by their time stamps: (clips, frames)."""
    times = manifest.videos([0]).times(0)
    seconds = batch.pts_seconds.numpy()
    frames = np.abs(seconds[..., None] - times).argmin(-1)
    assert np.abs(times[frames] - seconds).max() < 1e-6
    return frames


def our_frames(sampler, manifest, count=1):
    return dv.draw_plan(manifest, dv.Recipe(sampler, ()), [0] * count, views=range(count)).frames


@pytest.mark.parametrize("name", ["25", "variable"])
@pytest.mark.parametrize("frames, gap, clips", [(4, 2, 3), (4, 2, 10), (16, 3, 7), (1, 1, 5), (60, 1, 4), (5, 7, 40)])
def test_torchcodecs_clips_at_regular_indices(name, frames, gap, clips, decoder):
    from torchcodec.samplers import clips_at_regular_indices

    video, manifest = decoder(name)
    theirs = clips_at_regular_indices(
        video, num_clips=clips, num_frames_per_clip=frames, num_indices_between_frames=gap
    )  # fmt: skip
    sampler = dv.MultiClip(dv.ClipSampling(frames, gap), clips, rounding="down")
    assert our_frames(sampler, manifest, clips).tolist() == shown_frames(manifest, theirs).tolist()


@pytest.mark.parametrize("policy, short", [("repeat_last", "repeat"), ("wrap", "loop")])
def test_torchcodecs_policies_past_the_end(policy, short, decoder):
    from torchcodec.samplers import clips_at_random_indices, clips_at_regular_indices

    video, manifest = decoder("25")
    for gap in (1, 7, 9, 60):
        options = dict(num_clips=1, num_frames_per_clip=150, num_indices_between_frames=gap, policy=policy)
        for theirs in (clips_at_regular_indices(video, **options), clips_at_random_indices(video, **options)):
            ours = our_frames(dv.ClipSampling(150, gap, short=short), manifest)
            assert ours.tolist() == shown_frames(manifest, theirs).tolist()
    with pytest.raises(ValueError, match="too few"):
        our_frames(dv.ClipSampling(150, short="raise"), manifest)


@pytest.mark.parametrize("name", ["25", "variable"])
@pytest.mark.parametrize("frames, seconds, step", [(3, 0.5, 1.0), (8, 0.13, 0.37), (2, 0.04, 0.25), (16, 0.21, 0.7)])
def test_torchcodecs_clips_at_regular_timestamps(name, frames, seconds, step, decoder):
    from torchcodec.samplers import clips_at_regular_timestamps

    video, manifest = decoder(name)
    # Of a variable rate torchcodec knows when the last frame ends, a manifest only about: both are told one end.
    end = float(manifest.videos([0]).times(0)[-1]) - (frames - 1) * seconds
    theirs = clips_at_regular_timestamps(
        video, seconds_between_clip_starts=step, num_frames_per_clip=frames, seconds_between_frames=seconds,
        sampling_range_end=end,
    )  # fmt: skip
    clips = shown_frames(manifest, theirs)
    fps = Fraction(1) / Fraction(str(seconds))
    sampler = dv.MultiClip(dv.ClipSampling(frames, fps=float(fps)), len(clips), "dense", step=step * float(fps))
    ours = our_frames(sampler, manifest, len(clips))
    # Where a position is the time of a frame exactly, torchcodec's sum of floats may fall below it: one frame less.
    wanted = np.arange(len(clips))[:, None] * step + np.arange(frames) * seconds
    times = manifest.videos([0]).times(0)
    tied = np.abs(times[ours] - wanted) < 1e-6
    assert (ours == clips)[~tied].all() and np.isin((ours - clips)[tied], [0, 1]).all()
    assert (ours == clips).mean() > 0.9 and (times[ours] < wanted + 1e-6).all()


@pytest.mark.parametrize("name", ["25", "variable"])
def test_torchcodecs_clips_at_random_indices_and_timestamps(name, decoder):
    """Each by its own start: the same clip follows from it. Both starts are uniform over the same range."""
    from torchcodec.samplers import clips_at_random_indices, clips_at_random_timestamps

    video, manifest = decoder(name)
    torch.manual_seed(0)
    theirs = shown_frames(
        manifest, clips_at_random_indices(video, num_clips=300, num_frames_per_clip=4, num_indices_between_frames=3)
    )
    size = len(manifest.videos([0]).times(0))
    draws = Draws(0, 0, np.zeros(200, int), np.arange(200), "ClipSampling")
    ours = dv.ClipSampling(4, 3).draw(draws, manifest.videos([0] * 200))
    for frames in (theirs, ours):
        assert (np.diff(frames) == 3).all() and frames.min() <= 6 and frames.max() >= size - 7
    theirs = shown_frames(
        manifest,
        clips_at_random_timestamps(video, num_clips=400, num_frames_per_clip=4, seconds_between_frames=0.15),
    )
    draws = Draws(0, 0, np.arange(400), 0, "ClipSampling")
    ours = dv.ClipSampling(4, fps=1 / 0.15).draw(draws, manifest.videos([0] * 400))
    times = manifest.videos([0]).times(0)
    for frames in (theirs, ours):
        assert times[frames[:, 0]].max() > times[-1] - 0.45 - 0.1 and (times[frames[:, 0]] < 0.1).any()
        assert np.abs(np.diff(times[frames]) - 0.15).max() <= 0.06
    order = np.sort(ours[:, 0]), np.sort(theirs[:, 0])
    assert np.abs(order[0] - order[1]).max() < 0.12 * size  # Kolmogorov-Smirnov: 1.92 * sqrt(2 / 400)


# ---- PyTorchVideo itself


@pytest.fixture(scope="module")
def clip_sampling():
    """PyTorchVideo's file of samplers alone: its package imports parts of torchvision that are gone."""
    package = importlib.util.find_spec("pytorchvideo")
    if package is None:
        pytest.skip("pytorchvideo is not installed")
    path = Path(package.submodule_search_locations[0]) / "data" / "clip_sampling.py"
    spec = importlib.util.spec_from_file_location("clip_sampling", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["clip_sampling"] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


def clips_of(sampler, duration):
    """The starts of all clips that PyTorchVideo's sampler makes of a video, seconds."""
    starts, end = [], 0.0
    while True:
        info = sampler(end, duration, {})
        starts.append(float(info.clip_start_sec))
        end = info.clip_end_sec
        if info.is_last_clip:
            return starts


@pytest.mark.parametrize("length", [125, 130, 251, 300, 999])
@pytest.mark.parametrize("size", [10, 25, 50])
def test_pytorchvideos_clips(length, size, clip_sampling):
    """Its uniform and constant clips of a video of 25 frames per second: ours, by index and by time.

    Release 0.1.5 places constant clips as SlowFast does, the end is never reached; later code as ``MultiClip``.
    """
    duration, seconds = Fraction(length, 25), Fraction(size, 25)
    uniform = clips_of(clip_sampling.UniformClipSampler(seconds), duration)
    constant = clips_of(clip_sampling.ConstantClipsPerVideoSampler(seconds, 7), duration)
    for clip in (dv.ClipSampling(size), dv.ClipSampling(size, fps=25.0)):
        dense = starts_of(dv.MultiClip(clip, len(uniform), "dense"), length, len(uniform))
        assert dense == [int(start * 25 + 1e-6) for start in uniform]
    like_slowfast = dv.SlowFastSampling(size, 1, 25.0, 7, training=False)
    even = like_slowfast if version("pytorchvideo") == "0.1.5" else dv.MultiClip(clip, 7, rounding="down")
    assert starts_of(even, length, 7) == [int(start * 25 + 1e-6) for start in constant]
