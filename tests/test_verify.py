"""DALI's clips are compared with PyAV's: what is found, what is no fault, what is done then."""

import json
import logging
import re
from collections import Counter

import av
import numpy as np
import pytest
from conftest import measured_video, same_batch, take_batches

import dali_vidaug as dv
from dali_vidaug import trust
from dali_vidaug.differences import compared_rows, find_difference
from dali_vidaug.media import expected, load
from dali_vidaug.media.decode import decode
from dali_vidaug.media.encode import write_video
from dali_vidaug.media.expected import coding_of
from dali_vidaug.media.load import Encoded
from dali_vidaug.media.remux import remux

HEIGHT, WIDTH = 64, 96
VP9 = dict(codec="libvpx-vp9", options={"g": "10", "b": "400k", "deadline": "realtime", "cpu-used": "8"})
RECIPE = dv.Recipe(dv.ClipSampling(num_frames=4, stride=(1, 3)), (dv.Resize((HEIGHT, WIDTH)),))


def scene(count, seed, height=HEIGHT, width=WIDTH, step=2):
    """Frames of a smooth coloured picture that moves by ``step`` pixels from each to the next."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 226, (height // 8 + 2, (width + step * count) // 8 + 2, 3)).astype(float)
    for axis in (0, 1):
        coarse = np.repeat(coarse, 8, axis)
        coarse = sum(np.roll(coarse, k, axis) for k in range(-3, 4)) / 7
    whole = coarse.round().astype(np.uint8)
    return [whole[8 : 8 + height, step * i : step * i + width] for i in range(count)]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Six videos of VP9, which DALI decodes on the CPU."""
    folder = tmp_path_factory.mktemp("verify")
    for i in range(6):
        write_video(folder / f"{i}.webm", scene(30 + i, seed=i), **VP9)
    return dv.scan(folder, progress=False)


def loader_of(manifest, batch_size=4, **options):
    options = {"decoder": "hybrid", "seed": 3, "drop_last": False, **options}
    return dv.VideoLoader(manifest, RECIPE, batch_size, device="cpu", **options)


def by_pyav(manifest, batch):
    """The clips of a batch by a decoder that is not DALI's, (B, 3, F, H, W)."""
    clips = [decode(manifest.video(int(s)), f).pixels for s, f in zip(batch.samples, batch.plan.frames, strict=True)]
    return np.stack(clips).transpose(0, 4, 1, 2, 3)


# ---- Faults, planted in the frames that the comparison gets


def shifted_by_one(pixels, whole, frames):
    return whole[np.minimum(frames + 1, len(whole) - 1)]


def stale(pixels, whole, frames):
    return np.concatenate([pixels[:1], pixels[:1], pixels[2:]])


def dropped(pixels, whole, frames):
    return np.concatenate([pixels[:1], whole[np.minimum(frames[1:] + 1, len(whole) - 1)]])


def another_video(pixels, whole, frames):
    return np.stack(scene(len(frames), seed=99))


def cropped_elsewhere(pixels, whole, frames):
    return np.roll(pixels, 2, 1)


def shifted_chroma(pixels, whole, frames):
    luma, cb, cr = to_yuv(pixels)
    return to_rgb(luma, np.roll(cb, 2, 2), np.roll(cr, 2, 2))


def full_range(pixels, whole, frames):
    """Limited range taken for full: no stretching of 16 to 235."""
    luma, cb, cr = to_yuv(pixels)
    return to_rgb(luma * 219 / 255 + 16, cb * 224 / 255, cr * 224 / 255)


def memory_as_it_was(pixels, whole, frames):
    """The lower fifth of the last frame was never written."""
    spoilt = pixels.copy()
    at = spoilt.shape[1] * 4 // 5
    spoilt[-1, at:] = np.random.default_rng(0).integers(0, 256, spoilt[-1, at:].shape)
    return spoilt


FAULTS = [
    shifted_by_one,
    stale,
    dropped,
    another_video,
    cropped_elsewhere,
    shifted_chroma,
    full_range,
    memory_as_it_was,
]


def to_yuv(rgb):
    red, green, blue = np.moveaxis(rgb.astype(float), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return luma, (blue - luma) / 1.772, (red - luma) / 1.402


def to_rgb(luma, cb, cr):
    rgb = np.stack([luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb], -1)
    return np.floor(rgb + 0.5).clip(0, 255).astype(np.uint8)


def plant(monkeypatch, manifest, fault, after=0):
    """Spoil what the comparison gets, from comparison ``after`` on; returns the count of comparisons."""
    wholes, counts, real = {}, Counter(), trust._compare

    def compare(pixels, frames, expected):
        counts["compared"] += 1
        if counts["compared"] > after:
            for i in range(len(manifest)):
                if i not in wholes:
                    wholes[i] = decode(manifest.video(i), np.arange(manifest.video(i).num_frames)).pixels
            whole = next(w for w in wholes.values() if len(w) > frames.max() and (w[frames] == pixels).all())
            pixels = fault(pixels, whole, frames)
        return real(pixels, frames, expected)

    monkeypatch.setattr(trust, "_compare", compare)
    return counts


def found(caplog):
    return [r.getMessage() for r in caplog.records if "wrongly" in r.getMessage()]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_fault_is_found_in_the_first_clips(fault, manifest, monkeypatch, caplog):
    plant(monkeypatch, manifest, fault)
    with loader_of(manifest) as loader:
        batch = next(iter(loader))
        report = loader.report()
    (message,) = found(caplog)
    assert "none was delivered before" in message and "profile 0 yuv420p 96x64, frames in order wrongly" in message
    assert list(report.wrong) == ["vp9 profile 0 yuv420p 96x64, frames in order"]
    if fault is shifted_by_one:
        assert re.search(r"frame (\d+) is frame (\d+),", message)
    assert (batch.clips.numpy() == by_pyav(manifest, batch)).all()


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_fault_that_begins_later_is_found_within_500_clips(fault, manifest, monkeypatch, caplog):
    """By one clip in 50 alone, ten of which come in 500 on average. The first three compared ones are right."""
    counts, clips = plant(monkeypatch, manifest, fault, after=3), 0
    began = None
    with loader_of(manifest, 6, verify=(0, 50)) as loader:
        while not found(caplog):
            for _ in loader:
                clips += 6
                began = clips if began is None and counts["compared"] >= 3 else began
            assert clips < 1500
    assert clips - began <= 500


# ---- What is no fault


def test_ways_to_convert_colours_are_no_faults():
    """Of noise in chroma, what nearest and bilinear interpolation make, samples in the middle or at the left."""
    rng, rows = np.random.default_rng(0), np.arange(HEIGHT)
    luma = np.stack([f[..., 1] for f in scene(6, seed=1)]).astype(float)
    chroma = rng.normal(0, 12, (2, 6, HEIGHT // 2, WIDTH // 2))
    chroma = sum(np.roll(chroma, k, 3) + np.roll(chroma, k, 2) for k in range(3)) / 2

    def clip(how, moved=0):
        planes = np.roll(chroma, moved, 3)
        if how == "nearest":
            return to_rgb(luma, *planes.repeat(2, 2).repeat(2, 3))
        for axis, offset in ((2, -0.25), (3, -0.25 if how == "middle" else 0.0)):
            size = planes.shape[axis]
            at = np.clip(np.arange(2 * size) / 2 + offset, 0, size - 1)
            first = np.floor(at).astype(int)
            part = (at - first).reshape([-1 if a == axis else 1 for a in range(4)])
            after = np.minimum(first + 1, size - 1)
            planes = planes.take(first, axis) * (1 - part) + planes.take(after, axis) * part
        return to_rgb(luma, *planes)

    right, indices = clip("left"), np.arange(6)
    for how in ("left", "middle", "nearest"):
        for darker in (0, 1):  # rounding down
            seen = np.maximum(clip(how), darker) - darker
            finding = find_difference(seen[1:5], indices[1:5], right, indices, rows)
            assert finding == (None, True), (how, darker)
        for moved in (-1, 1):
            finding = find_difference(clip(how, moved)[1:5], indices[1:5], right, indices, rows)
            assert finding.problem, (how, moved)


def test_a_small_part_that_was_never_written():
    """One part in 128 of a frame, whose difference is small on average."""
    frames = np.stack(scene(6, seed=4, height=128, width=128))
    spoilt = frames[1:5].copy()
    spoilt[2, 120:, 112:] = 0
    arguments = np.arange(1, 5), frames, np.arange(6), np.arange(128)
    assert find_difference(frames[1:5], *arguments) == (None, True)
    assert "frame 3 differs by" in find_difference(spoilt, *arguments).problem


def test_rows_that_are_compared():
    assert compared_rows(64, 96, 5).tolist() == list(range(64))
    covered = set()
    for number in range(20):
        rows = compared_rows(1080, 1920, number)
        assert 0.05 < len(rows) / 1080 < 0.2
        covered |= set(rows.tolist())
    assert covered == set(range(1080))


def test_clips_in_which_nothing_moves_show_no_order(tmp_path, monkeypatch, caplog):
    """They are compared, but do not count as proof of the order: others are, up to a limit."""
    write_video(tmp_path / "still.webm", scene(1, seed=5) * 30, **VP9)
    write_video(tmp_path / "moves.webm", scene(30, seed=5), **VP9)
    manifest = dv.scan(tmp_path, progress=False)
    still = dv.Manifest(manifest.table.slice(1, 1), manifest.classes, manifest.root)
    assert "still" in still.path(0)
    with loader_of(still, 1, verify=(2, 1 << 30)) as loader:
        take_batches(loader, 40)
        report = loader.report()
    assert report.compared == report.compared_still == 16
    with loader_of(manifest, 2, verify=(2, 1 << 30)) as loader:
        take_batches(loader, 20)
        report = loader.report()
    assert report.compared - report.compared_still == 2 and report.compared_still >= 1
    assert "are too still to show the order" in str(report) and not found(caplog)


@pytest.mark.slow
def test_a_clean_run_never_warns(manifest, caplog):
    clips = 0
    with loader_of(manifest, 6, verify=(4, 5)) as loader:
        while clips < 1000:
            clips += sum(len(batch) for batch in loader)
        assert loader.report().compared > 150 and not loader.report().wrong
    assert not found(caplog)


# ---- What is done then


def spoil(monkeypatch, names=("",)):
    """Small files whose frames are said to be one further on than they are: DALI really decodes other ones."""
    real = load.remux

    def shifted(video, frames, **options):
        made = real(video, frames, **options)
        if not any(name in video.path for name in names):
            return made
        return made._replace(positions=np.maximum(made.positions - 1, 0))

    monkeypatch.setattr(load, "remux", shifted)


def test_frames_that_dali_really_gets_wrong_are_not_delivered(manifest, monkeypatch, caplog):
    spoil(monkeypatch)
    with loader_of(manifest) as loader:
        for batch in take_batches(loader, 5):
            assert (batch.clips.numpy() == by_pyav(manifest, batch)).all()
        report = loader.report()
    assert len(found(caplog)) == len(report.wrong) == 1 and report.replaced == 0
    assert any("wrongly: frame" in why and n >= 10 for why, (_, n) in report.fallbacks.items())
    assert "not decoded by DALI: vp9 profile 0" in str(report)


def test_clips_delivered_before_are_counted_in_the_warning(manifest, monkeypatch, caplog):
    plant(monkeypatch, manifest, shifted_by_one, after=2)
    with loader_of(manifest, 3, verify=(1, 4), shuffle=False) as loader:
        take_batches(loader, 12)
        report = loader.report()
    (message,) = found(caplog)
    delivered = int(re.search(r"; (\d+) were delivered before, of which 2 were compared and right", message)[1])
    assert delivered % 3 == 0 and delivered > 2 and report.compared == 2


def test_only_the_coding_that_is_wrong_goes_to_pyav(manifest, tmp_path, monkeypatch):
    for i in range(3):
        write_video(tmp_path / f"small{i}.webm", scene(30, seed=i, height=48, width=64), **VP9)
        write_video(tmp_path / f"large{i}.webm", scene(30, seed=i), **VP9)
    both = dv.scan(tmp_path, progress=False)
    spoil(monkeypatch, ("small",))
    with loader_of(both) as loader:
        take_batches(loader, 6)
        report = loader.report()
    assert [coding.split()[4] for coding in report.wrong] == ["64x48,"]
    assert 6 <= sum(n for _, n in report.fallbacks.values()) < report.clips and report.compared >= 4


def test_which_clips_are_compared_does_not_depend_on_threads(manifest, monkeypatch):
    real, seen = trust._compare, []

    def compare(pixels, frames, expected):
        seen.append((frames.tolist(), int(pixels.astype(int).sum())))
        return real(pixels, frames, expected)

    monkeypatch.setattr(trust, "_compare", compare)
    lists = []
    for options in (dict(num_threads=1, prefetch=1), dict(num_threads=3, prefetch=4), dict(workers=1)):
        seen.clear()
        with loader_of(manifest, verify=(2, 3), **options) as loader:
            taken = []
            while len(taken) < 9:
                taken += list(loader)
        lists.append(list(seen))
    least = min(map(len, lists))
    assert least > 8 and lists[0][:least] == lists[1][:least] == lists[2][:least]


def test_a_resumed_run_does_the_same(manifest, monkeypatch, caplog):
    """The state has what was found before its batch, not what was found in batches made ahead."""
    plant(monkeypatch, manifest, cropped_elsewhere, after=3)
    states, batches = [], []
    loader = loader_of(manifest, 3, verify=(0, 3), shuffle=False)
    with loader:
        while len(batches) < 16:
            states.append(loader.state_dict())
            for batch in loader:
                batches.append(batch)
                states.append(loader.state_dict())
        copied = loader_of(manifest, 3, verify=(0, 3), shuffle=False)
        copied.load_state_dict(json.loads(json.dumps(states[-1])))
    assert "wrong" not in states[0] and states[-1]["wrong"] == loader.report().wrong != {}
    with copied:
        next(iter(copied))
        assert copied.report().wrong == loader.report().wrong and copied.report().compared == 0
        assert any("wrongly" in why for why in copied.report().fallbacks)
        assert copied.state_dict()["wrong"] == states[-1]["wrong"]
    assert [m for m in found(caplog) if m.startswith("by the loaded state, DALI decodes vp9")]
    with pytest.raises(ValueError, match=r"wrong of the state must be texts by texts, got \[1\]"):
        loader_of(manifest, 3, shuffle=False).load_state_dict({**states[-1], "wrong": [1]})


def test_with_decoder_dali_wrong_clips_are_bad(manifest, monkeypatch):
    spoil(monkeypatch)
    with loader_of(manifest, decoder="dali", on_error="raise") as loader:
        with pytest.raises(dv.ClipError, match=r"DALI decodes vp9 .* wrongly: .*; use decoder='hybrid'"):
            next(iter(loader))


def test_with_decoder_dali_the_wrong_coding_is_replaced(tmp_path, monkeypatch):
    for i in range(3):
        write_video(tmp_path / f"small{i}.webm", scene(30, seed=i, height=48, width=64), **VP9)
        write_video(tmp_path / f"large{i}.webm", scene(30, seed=i), **VP9)
    both = dv.scan(tmp_path, progress=False)
    spoil(monkeypatch, ("small",))
    with loader_of(both, 6, decoder="dali") as loader:
        (batch,) = list(loader)
        assert {both.video(s).width for s in batch.samples.tolist()} == {WIDTH}
        assert (batch.clips.numpy() == by_pyav(both, batch)).all() and loader.report().replaced >= 3


@pytest.mark.parametrize("on_error", ["replace", "skip"])
def test_a_clip_that_pyav_calls_damaged(on_error, manifest, monkeypatch):
    bad, real = manifest.path(2), expected.decode

    def fail(video, frames):
        if video.path == bad:
            raise ValueError("frame 3 is damaged")
        return real(video, frames)

    monkeypatch.setattr(expected, "decode", fail)
    with loader_of(manifest, 6, on_error=on_error, shuffle=False, verify=(6, 1)) as loader:
        (batch,) = list(loader)
        assert 2 not in batch.samples.tolist() and len(batch) == (6 if on_error == "replace" else 5)
        assert loader.report().bad[2][1] == "frame 3 is damaged"
    with loader_of(manifest, 6, shuffle=False, verify=None) as loader:
        (batch,) = list(loader)
        assert 2 in batch.samples.tolist() and loader.report().compared == 0


def test_the_clips_are_the_same_with_and_without(manifest):
    options = dict(seed=5, num_threads=2)
    with_it, without = (take_batches(loader_of(manifest, verify=v, **options), 6) for v in ((2, 2), None))
    assert all(same_batch(a, b) for a, b in zip(with_it, without, strict=True))
    fractional = dv.Recipe(dv.ClipSampling(4, speed=(0.4, 0.7), fractional=True), RECIPE.ops)
    with dv.VideoLoader(manifest, fractional, 3, decoder="hybrid", device="cpu", repeats=2, verify=(4, 1)) as loader:
        take_batches(loader, 4)
        assert loader.report().compared >= 6 and not loader.report().wrong


def test_the_part_that_is_compared(manifest, monkeypatch):
    """Of clips that are drawn: all frames of 40 %, else the first quarter, two at least; of new codings all."""
    real, seen = trust._compare, []

    def compare(pixels, frames, expected):
        seen.append(np.isin(frames, expected.indices).sum())
        assert np.isin(frames, expected.indices)[: seen[-1]].all() and len(set(frames.tolist())) == 8
        return real(pixels, frames, expected)

    monkeypatch.setattr(trust, "_compare", compare)
    recipe = dv.Recipe(dv.ClipSampling(num_frames=8), RECIPE.ops)
    for verify, share in (((0, 1), 0.4), ((8, 1 << 30), 1.0)):
        seen.clear()
        with dv.VideoLoader(manifest, recipe, 6, decoder="hybrid", device="cpu", verify=verify) as loader:
            while len(seen) < (150 if share < 1 else 8):
                list(loader)
        assert set(seen) == ({2, 8} if share < 1 else {8})
        assert abs(np.mean([n == 8 for n in seen]) - share) < 5 * (share * (1 - share) / len(seen)) ** 0.5 + 1e-9


@pytest.mark.parametrize("verify", [(4,), [4, 50], (-1, 50), (4, 0), (4, 2.0), True, (True, 2)], ids=str)
def test_what_is_no_such_option(verify, manifest):
    with pytest.raises(ValueError, match=r"VideoLoader: verify must be \(clips of each format"):
        loader_of(manifest, verify=verify)


@pytest.mark.parametrize("options, words", [
    (dict(options={"bf": "0", "profile": "baseline"}), "h264 profile 66 yuv420p 96x64, frames in order"),
    (dict(options={"bf": "2", "b-pyramid": "none", "profile": "high"}),
     "h264 profile 100 yuv420p 96x64, frames up to 1 late"),
    (dict(codec="libx265", options={"x265-params": "bframes=3:b-adapt=0:log-level=none:pools=1"}),
     "hevc profile 1 yuv420p 96x64, frames up to 2 late"),
])  # fmt: skip
def test_codings(options, words, tmp_path):
    video = measured_video(write_video(tmp_path / "v.mp4", scene(20, seed=0), **options) or tmp_path / "v.mp4")
    assert coding_of(video, remux(video, np.arange(2, 14))) == words
    with av.open(str(tmp_path / "v.mp4")) as container:
        name = {66: "Baseline", 100: "High", 1: "Main"}[int(words.split()[2])]
        assert name in container.streams.video[0].codec_context.profile
    for indexed in (video, video._replace(packet_index=None)):
        loaded = load.load_clips("hybrid", False, "bt601", indexed, [np.arange(4)], [()], None).clips[0]
        assert isinstance(loaded, Encoded) and loaded.coding == words and loaded.expected is None


def test_colours_as_the_file_says_are_compared_too(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    options = {**VP9["options"], "colorspace": "bt709"}
    write_video(tmp_path / "v.webm", scene(30, seed=1), **{**VP9, "options": options})
    manifest = dv.scan(tmp_path, progress=False)
    assert manifest.video(0).colorspace == 1
    with loader_of(manifest, 1, color="file", verify=(4, 1)) as loader:
        take_batches(loader, 4)
        assert loader.report().compared >= 4
    assert not found(caplog)
