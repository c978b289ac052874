"""Batches of which DALI decodes some clips and PyAV the others."""

import io
import re
import shutil
from dataclasses import replace

import av
import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import OWN_SIZE, RECIPE, measured_video, same_batch, shown_numbers, take_batches, write_numbered

import dali_vidaug as dv
from dali_vidaug.media import load
from dali_vidaug.media.load import Encoded, load_clips
from dali_vidaug.media.storage import open_bytes
from dali_vidaug.rng import Draws


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve videos, by turns VP9, H.264, MJPEG and MPEG-4."""
    folder = tmp_path_factory.mktemp("hybrid")
    kinds = [
        ("webm", dict(codec="libvpx-vp9", options={"g": "10", "deadline": "realtime", "cpu-used": "8"})),
        ("mp4", dict(options={"g": "12", "bf": "2"})),
        ("avi", dict(codec="mjpeg", options={"q:v": "3"}, pixel_format="yuvj420p")),
        ("avi", dict(codec="mpeg4", options={"g": "12", "bf": "2", "b": "2M"})),
    ]
    for i in range(12):
        suffix, options = kinds[i % 4]
        write_numbered(folder / "ab"[i % 2] / f"{i:02d}.{suffix}", 30 + i, **options)
    return folder


@pytest.fixture(scope="module")
def manifest(folder):
    return dv.scan(folder, progress=False)


def by_dali(manifest, batch):
    return [manifest.video(s).codec in ("vp9", "mjpeg") for s in batch.samples.tolist()]


@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_every_clip_is_at_its_position(batch_size, manifest):
    with dv.VideoLoader(manifest, OWN_SIZE, batch_size, decoder="hybrid", device="cpu", drop_last=False) as loader:
        assert loader.settings.decoder == "hybrid"
        batches = list(loader)
        report = loader.report()
    assert sorted(s for b in batches for s in b.samples.tolist()) == list(range(12))
    for batch in batches:
        for i, clip in enumerate(batch.clips.permute(0, 2, 3, 4, 1).numpy()):
            assert shown_numbers(clip) == batch.plan.frames[i].tolist()
    # The next epoch may have begun: an even share of both, and whole batches
    counts = {why: n for why, (_, n) in report.fallbacks.items()}
    assert counts.keys() == {f"DALI does not decode {codec} on the CPU" for codec in ("h264", "mpeg4")}
    assert all(n >= 3 for n in counts.values()) and sum(counts.values()) <= report.clips + batch_size
    assert re.search(
        r"decoded by PyAV: \d+ clips, for example of .*: DALI does not decode mpeg4 on the CPU", str(report)
    )


def test_each_clip_is_what_its_decoder_alone_gives(manifest):
    recipe = dv.Recipe(
        RECIPE.sampling,
        (dv.RandomResizedCrop((40, 56)), dv.CenterCrop(32), dv.RandAugmentT(), dv.CubeCutMix(), dv.Normalize()),
    )
    plain = replace(recipe, ops=(*recipe.ops[:2], dv.RandomHorizontalFlip()))
    for chosen in (plain, recipe):
        hybrid, pyav, whole = (
            take_batches(dv.VideoLoader(manifest, chosen, 6, seed=1, device="cpu", **options), 3)
            for options in (dict(decoder="hybrid"), dict(decoder="pyav"), dict(decoder="pyav", resize_in_decoder=False))
        )
        both = 0
        for a, b, c in zip(hybrid, pyav, whole, strict=True):
            mixed = a.mix.partner.tolist() if a.mix else range(6)
            encoded = by_dali(manifest, a)
            for i in range(6):
                if encoded[i] == encoded[mixed[i]]:
                    # PyAV gives frames in BT.601 as DALI does, bit for bit; the resize is DALI's, in the graph
                    assert torch.equal(a.clips[i], (c if encoded[i] else b).clips[i]), (i, encoded)
            both += len(set(encoded)) == 2
            assert torch.equal(a.targets, b.targets)
        assert both


def test_the_same_batches_for_any_threads_and_after_resuming(manifest):
    def make(**options):
        return dv.VideoLoader(manifest, RECIPE, 5, decoder="hybrid", device="cpu", drop_last=False, **options)

    expected = take_batches(make(), 6)
    for options in (dict(num_threads=1, prefetch=1), dict(num_threads=4, prefetch=4), dict(workers=2)):
        assert all(same_batch(a, b) for a, b in zip(take_batches(make(**options), 6), expected, strict=True))
    resumed = make()
    resumed.load_state_dict({**resumed.state_dict(), "epoch": 1, "batch": 1})
    assert same_batch(take_batches(resumed, 1)[0], expected[4])


@pytest.mark.parametrize("crops", [(), (dv.RandomResizedCrop(24),), (dv.Resize((131, 230)), dv.CenterCrop((120, 201)))],
                         ids=["as they are", "smaller", "larger"])  # fmt: skip
@pytest.mark.parametrize("sampling", [dv.ClipSampling(4), dv.ClipSampling(4, speed=(0.4, 0.7), fractional=True)],
                         ids=["frames", "between frames"])  # fmt: skip
def test_a_flip_after_the_crops(crops, sampling, manifest):
    """PyAV's clips are flipped while they are decoded, where other ops come after."""
    manifest = turned(manifest, [1, 5, 3, 2] if crops else [1, 4, 3, 2])
    last = dv.RandAugmentT(1, ops=("Invert",), probability=1.0)
    for decoder in ("pyav", "hybrid"):
        clips = []
        for flip in ((dv.RandomHorizontalFlip(),), ()):
            recipe = dv.Recipe(sampling, (*crops, *flip, last))
            plan = dv.draw_plan(manifest, recipe, range(12), seed=2)
            clips.append(dv.VideoLoader(manifest, recipe, 12, decoder=decoder, device="cpu").apply(plan).clips)
            if flip:
                mirrored = torch.from_numpy(plan.args["RandomHorizontalFlip"]["mirrored"] != 0)
        assert 2 < mirrored.sum() < 10
        assert torch.equal(clips[0], torch.where(mirrored[:, None, None, None, None], clips[1].flip(-1), clips[1]))


def turned(manifest, orientations):
    table = manifest.table
    orientation = np.array(orientations)[np.arange(len(table)) % len(orientations)]  # both kinds get each
    table = table.set_column(table.column_names.index("orientation"), "orientation", pa.array(orientation, pa.int32()))
    return dv.Manifest(table, manifest.classes, manifest.root)


def test_videos_of_three_orientations(manifest):
    """Rotation is done by the graph for the one kind and by PyAV for the other."""
    manifest = turned(manifest, [1, 6, 3])
    plan = dv.draw_plan(manifest, OWN_SIZE, range(12))
    clips = [
        dv.VideoLoader(manifest, OWN_SIZE, 12, decoder=d, device="cpu", resize_in_decoder=False).apply(plan).clips
        for d in ("hybrid", "pyav")
    ]
    assert torch.equal(*clips)


def test_videos_for_one_decoder_only(folder, numbered_manifest):
    with dv.VideoLoader(numbered_manifest, RECIPE, 2, decoder="hybrid", device="cpu") as loader:
        assert loader.settings.decoder == "pyav"
        next(iter(loader))
        assert loader.report().fallbacks.keys() == {"DALI does not decode h264 on the CPU"}  # it says why all the same
    manifest = dv.scan(folder, progress=False)
    vp9 = dv.Manifest(manifest.table.filter([v.codec == "vp9" for v in map(manifest.video, range(12))]),
                      manifest.classes, manifest.root)  # fmt: skip
    hybrid, dali = (
        take_batches(dv.VideoLoader(vp9, RECIPE, 2, decoder=d, device="cpu"), 3) for d in ("hybrid", "dali")
    )
    assert all(same_batch(a, b) for a, b in zip(hybrid, dali, strict=True))


def test_clips_that_dali_fails_on_are_decoded_by_pyav(manifest):
    """DALI fails the batch; the clips that it cannot decode are found and decoded, none is replaced."""
    loader = dv.VideoLoader(manifest, OWN_SIZE, 6, decoder="hybrid", device="cpu", shuffle=False)
    loader.settings = replace(loader.settings, refused={})  # now H.264 and MPEG-4 are sent to DALI, too
    with loader:
        batches = list(loader)
        report = loader.report()
    for batch in batches:
        for i, clip in enumerate(batch.clips.permute(0, 2, 3, 4, 1).numpy()):
            assert shown_numbers(clip) == batch.plan.frames[i].tolist()
    assert report.replaced == 0
    assert any("DALI could not decode it" in why for why in report.fallbacks)


def test_replaying_a_plan_falls_back_too(manifest):
    plan = dv.draw_plan(manifest, OWN_SIZE, range(12))
    loader = dv.VideoLoader(manifest, OWN_SIZE, 6, decoder="hybrid", device="cpu")
    expected = loader.apply(plan).clips
    loader.settings = replace(loader.settings, refused={})
    assert torch.equal(loader.apply(plan).clips, expected)
    assert any("DALI could not decode it" in why for why in loader.report().fallbacks)
    vp9 = next(i for i in range(12) if manifest.video(i).codec == "vp9")
    one = dv.Manifest(manifest.table.slice(vp9, 1), manifest.classes, manifest.root)
    dali = dv.VideoLoader(one, OWN_SIZE, 1, decoder="dali", device="cpu")
    dali.manifest = manifest
    with pytest.raises(dv.ClipError, match=r"DALI could not decode it") as caught:
        dali.apply(plan)
    assert caught.value.sample == next(i for i in range(12) if manifest.video(i).codec in ("h264", "mpeg4"))


def test_damaged_files_are_replaced_for_both_decoders(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "v")
    manifest = dv.scan(tmp_path / "v", progress=False)
    for name in ("a/00.webm", "b/01.mp4"):
        (tmp_path / "v" / name).write_bytes(b"no video")
    with dv.VideoLoader(manifest, OWN_SIZE, 6, decoder="hybrid", device="cpu") as loader:
        assert [len(batch) for batch in loader] == [6, 6]
        assert {path.rsplit("/", 1)[1] for path, _, _ in loader.report().bad.values()} == {"00.webm", "01.mp4"}


def test_a_bad_replacement_is_replaced_again(manifest, monkeypatch):
    """One file that neither decodes: its first replacements are itself, then comes another."""
    drawn, real_remux, real_decode, real_draw = [], load.remux, load.decode_clips, Draws.integers
    bad = manifest.path(3)

    def spoil(video, frames, **options):
        made = real_remux(video, frames, **options)
        return made._replace(data=np.zeros_like(made.data)) if video.path == bad else made

    def fail(video, *arguments):
        if video.path == bad:
            raise ValueError("damaged")
        return real_decode(video, *arguments)

    def draw(self, name, *arguments, **options):
        if not name.startswith("sample."):
            return real_draw(self, name, *arguments, **options)
        drawn.append((name, int(self.samples[0])))
        return np.array([3 if len(drawn) < 4 else 5])

    monkeypatch.setattr(load, "remux", spoil)
    monkeypatch.setattr(load, "decode_clips", fail)
    monkeypatch.setattr(Draws, "integers", draw)
    loader = dv.VideoLoader(manifest, OWN_SIZE, 12, decoder="hybrid", device="cpu", shuffle=False)
    loader.settings = replace(loader.settings, refused={})
    with loader:
        batch = next(iter(loader))
    assert drawn[:4] == [(f"sample.{i}", 3) for i in range(4)]  # counted on, at the address of the clip that was wanted
    assert batch.samples.tolist() == [0, 1, 2, 5, *range(4, 12)]


def test_replacing_ends_when_no_file_can_be_decoded(manifest, monkeypatch):
    """They can all be cut, but neither DALI nor PyAV decodes them: replacements are not tried for ever."""
    real = load.remux

    def spoil(video, frames, **options):
        made = real(video, frames, **options)
        return made._replace(data=np.zeros_like(made.data))

    def fail(*arguments):
        raise ValueError("damaged")

    monkeypatch.setattr(load, "remux", spoil)
    monkeypatch.setattr(load, "decode_clips", fail)
    loader = dv.VideoLoader(manifest, OWN_SIZE, 2, decoder="hybrid", device="cpu", shuffle=False)
    loader.settings = replace(loader.settings, refused={})
    with pytest.raises(dv.ClipError, match=r"damaged \(the last of 20 replacements for sample 0, all bad\)"):
        next(iter(loader))
    loader.close()


def test_on_a_gpu_hidden_pictures_are_decoded_by_pyav(tmp_path):
    options = {"g": "20", "b": "1M", "deadline": "realtime", "cpu-used": "8"}
    video = measured_video(write_numbered(tmp_path / "v.webm", 40, codec="libvpx-vp9", options=options))
    frames = np.arange(16)
    loaded = load_clips("hybrid", True, "bt601", video, [frames], [()], None)
    assert "hidden pictures" in loaded.fallback and shown_numbers(loaded.clips[0]) == frames.tolist()
    with pytest.raises(ValueError, match="hidden pictures, or fields; use decoder='hybrid'"):
        load_clips("dali", True, "bt601", video, [frames], [()], None)
    assert isinstance(load_clips("hybrid", False, "bt601", video, [frames], [()], None).clips[0], Encoded)


def test_clips_of_other_frames_are_files_of_their_own(tmp_path):
    """Clips of the same frames have one file in common; DALI gives each clip the frames that it asked for."""
    options = {"g": "20", "b": "1M", "deadline": "realtime", "cpu-used": "8"}
    video = measured_video(write_numbered(tmp_path / "v.webm", 40, codec="libvpx-vp9", options=options))
    frames = [np.array([3, 5]), np.array([30, 28]), np.array([3, 5])]
    loaded = load_clips("dali", False, "bt601", video, frames, [()] * 3, None)
    one, other, again = loaded.clips
    assert one.data is again.data and one.data is not other.data
    for clip, wanted in zip(loaded.clips, frames, strict=True):
        assert shown_numbers(decode_small(clip.data)[clip.positions]) == wanted.tolist()


def test_a_file_for_dali_does_not_keep_the_bytes_that_it_is_made_of(tmp_path):
    """Those of an object are fetched before; a decoding process would send them back."""
    video = measured_video(write_numbered(tmp_path / "v.webm", 40, codec="libvpx-vp9"))
    frames = [np.array([3, 5])]
    with open_bytes(video.place) as source:
        (clip,) = load_clips("dali", False, "bt601", video._replace(source=source), frames, [()], None).clips
    (expected,) = load_clips("dali", False, "bt601", video, frames, [()], None).clips
    assert clip.video == video and video.source is None and (clip.data == expected.data).all()


def decode_small(data):
    """All frames of a small file, (N, H, W, 3), with PyAV."""
    with av.open(io.BytesIO(data.tobytes())) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
