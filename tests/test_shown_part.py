"""The graph shows a part of the frames that DALI decodes: with DALI's CPU decoder, VP9 in the place of H.264."""

import gc
import time
import weakref
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import REALTIME_VP9, write_numbered

import dali_vidaug as dv
from dali_vidaug import decode_stage, settings
from dali_vidaug.device import decoders
from dali_vidaug.media import load
from dali_vidaug.media.decode import decode
from dali_vidaug.media.orientation import oriented
from dali_vidaug.media.uncrop import Box

BOX = Box(34, 20, 100, 62)
RECIPE = dv.Recipe(dv.ClipSampling(4), (dv.CenterCrop((48, 56)),))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Six VP9 videos of 160x96 and one of H.264."""
    folder = tmp_path_factory.mktemp("shown")
    for i in range(6):
        write_numbered(folder / f"{i}.webm", 20 + i, **REALTIME_VP9)
    write_numbered(folder / "6.mp4", 30)
    return dv.scan(folder, progress=False)


@pytest.fixture
def manifest(whole, monkeypatch):
    """As if samples 1, 2 and 4 were cropped: the manifest says the size of ``BOX``; 2 is turned besides."""
    return cropped(whole, monkeypatch, {1: BOX, 2: BOX, 4: BOX._replace(left=0)}, {2: 6})


def cropped(whole, monkeypatch, boxes, turned=()):
    table = whole.table
    for name in ("width", "height", "orientation"):
        values = table.column(name).to_pylist()
        for sample, box in boxes.items():
            values[sample] = dict(turned).get(sample, 1) if name == "orientation" else getattr(box, name)
        kind = table.schema.field(name).type
        table = table.set_column(table.column_names.index(name), name, pa.array(values, kind))
    by_path, real = {whole.path(sample): box for sample, box in boxes.items()}, load.remux

    def remux(video, frames, **options):
        box = by_path.get(video.path)
        return real(video, frames, **options)._replace(size=(160, 96), box=box)

    monkeypatch.setattr(load, "remux", remux)
    return dv.Manifest(table, whole.classes, whole.root)


def loader_of(manifest, recipe=RECIPE, batch_size=6, **options):
    options = {"decoder": "hybrid", "shuffle": False, "resize_in_decoder": False, "verify": None, **options}
    return dv.VideoLoader(manifest, recipe, batch_size, device="cpu", drop_last=False, **options)


def expected(whole, manifest, plan, crop=(48, 56)):
    """By a decode of the whole frames, and slices."""
    for sample, frames in zip(plan.samples.tolist(), plan.frames, strict=True):
        video, box = manifest.video(sample), Box(0, 0, 160, 96)
        if (video.width, video.height) != (160, 96):
            box = BOX._replace(left=0) if sample == 4 else BOX
        clip = decode(whole.video(sample), frames).pixels
        clip = clip[:, box.top : box.top + box.height, box.left : box.left + box.width]
        clip = np.stack([oriented(frame, video.orientation) for frame in clip])
        top, left = ((size - want) // 2 for size, want in zip(clip.shape[1:3], crop, strict=True))
        yield torch.from_numpy(clip[:, top : top + crop[0], left : left + crop[1]].copy()).permute(3, 0, 1, 2)


def assert_shown(batch, whole, manifest):
    for i, (clip, right) in enumerate(zip(batch.clips, expected(whole, manifest, batch.plan), strict=True)):
        assert torch.equal(clip, right), (i, batch.samples[i])


@pytest.mark.parametrize("decoder", ["dali", "hybrid"])
def test_clips_are_the_shown_part(decoder, whole, manifest):
    samples = [0, 1, 2, 3, 4, 5] if decoder == "dali" else [6, 4, 6, 2, 1, 0]
    chosen = dv.Manifest(manifest.table.slice(0, 6), manifest.classes, manifest.root) if decoder == "dali" else manifest
    loader = loader_of(chosen, decoder=decoder)
    batch = loader.apply(dv.draw_plan(chosen, RECIPE, samples, seed=3))
    assert_shown(batch, whole, manifest)
    if decoder == "hybrid":
        assert set(loader.report().fallbacks) == {"DALI does not decode h264 on the CPU"}


def test_clips_that_share_a_file(whole, manifest):
    """Two clips of the same frames: decoded once, both sliced."""
    plan = dv.draw_plan(manifest, RECIPE, [0, 0, 1, 1, 2, 2])
    batch = loader_of(manifest).apply(plan)
    assert_shown(batch, whole, manifest)


def test_the_graph_is_made_anew_for_the_first_clip_that_needs_it(whole, manifest):
    """Until then nothing is sliced; files that need no slice give the same bits before and after."""
    loader = loader_of(manifest)
    plain, mixed = (dv.draw_plan(manifest, RECIPE, samples) for samples in ([0, 3, 5], [0, 1, 4]))
    first = loader.apply(plain).clips
    assert_shown(loader.apply(mixed), whole, manifest)
    assert torch.equal(loader.apply(plain).clips, first)


def test_batches_before_and_after_the_first_clip_that_needs_it(whole, manifest):
    seen = 0
    with loader_of(manifest, batch_size=1) as loader:
        for batch in loader:
            assert_shown(batch, whole, manifest)
            seen += 1
    assert seen == len(manifest)


@pytest.mark.parametrize("num_graphs", [1, 2])
def test_the_first_that_needs_it_may_be_begun_ahead_or_be_a_replacement(num_graphs, whole, monkeypatch):
    monkeypatch.setattr(decode_stage, "NUM_GRAPHS", {"cpu": num_graphs})
    begin, real = decode_stage.DecodeStage._begin, load.remux

    def begin_late(stage, following):
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline and not ((one := following()) and stage._gathering.is_loaded(one)):
            time.sleep(0.001)
        begin(stage, following)

    monkeypatch.setattr(decode_stage.DecodeStage, "_begin", begin_late)
    six = dv.Manifest(whole.table.slice(0, 6), whole.classes, whole.root)
    manifest = cropped(six, monkeypatch, {3: BOX, 5: BOX})
    options = dict(batch_size=1, decoder="dali", prefetch=3)
    with loader_of(manifest, **options) as loader:
        for _ in range(2):
            for batch in loader:
                assert_shown(batch, whole, manifest)

    by_size = load.remux
    monkeypatch.setattr(load, "remux", lambda video, frames, **more: (made := by_size(video, frames, **more))._replace(
        data=np.zeros(100, np.uint8) if video.path == whole.path(0) else made.data))  # fmt: skip
    seen = set()
    for seed in range(8):  # the first clip is replaced by one of the others, at random
        with loader_of(manifest, seed=seed, on_error="replace", **options) as loader:
            for batch in loader:
                assert_shown(batch, whole, manifest)
                seen.add((batch.index, int(batch.samples[0])))
    assert {(0, 3), (0, 5)} & seen and real is not by_size


def test_graphs_that_show_whole_frames_are_gone_before_the_others_are_made(whole, monkeypatch):
    """Both would take memory; the first batch that needs the others waits, though it is there to be begun ahead."""
    monkeypatch.setattr(decode_stage, "NUM_GRAPHS", {"cpu": 2})
    begin, graph, made, looked = decode_stage.DecodeStage._begin, decode_stage.DecodeGraph, [], []

    def begin_late(stage, following):
        deadline = time.monotonic() + 20
        while not looked and not ((one := following()) and stage._gathering.is_loaded(one)):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        looked.append(None)
        begin(stage, following)

    def make(plan, settings, files_max, oriented, boxed, is_whole):
        gc.collect()
        alive = [one for one, is_boxed in made if one() is not None and is_boxed != boxed]
        assert not alive
        new = graph(plan, settings, files_max, oriented, boxed, is_whole)
        made.append((weakref.ref(new), boxed))
        return new

    monkeypatch.setattr(decode_stage.DecodeStage, "_begin", begin_late)
    monkeypatch.setattr(decode_stage, "DecodeGraph", make)
    manifest = cropped(dv.Manifest(whole.table.slice(0, 3), whole.classes, whole.root), monkeypatch, {1: BOX})
    with loader_of(manifest, batch_size=1, decoder="dali", prefetch=3) as loader:
        for batch in loader:
            assert_shown(batch, whole, manifest)
    assert looked and {boxed for _, boxed in made} == {False, True}


def test_batches_of_an_epoch_and_their_colours(whole, manifest):
    by_file = replace(RECIPE, ops=(*RECIPE.ops, dv.RandomHorizontalFlip(1.0)))
    with loader_of(manifest, by_file, color="file") as loader:
        batch = next(iter(loader))
    for clip, right in zip(batch.clips, expected(whole, manifest, batch.plan), strict=True):
        assert (clip.flip(-1).int() - right.int()).abs().max() <= 1  # BT.601: the matrix changes nothing, in floats


def test_a_part_that_is_not_inside_goes_to_pyav(whole, monkeypatch):
    """DALI fails on it: nothing is made up."""
    cropped(whole, monkeypatch, {1: Box(100, 20, 100, 62)})
    loader = loader_of(whole)
    batch = loader.apply(dv.draw_plan(whole, RECIPE, [0, 1, 3]))
    assert_shown(batch, whole, whole)
    assert any("DALI could not decode it" in why for why in loader.report().fallbacks)


@pytest.mark.parametrize("decoder", ["hybrid", "dali"])
def test_coded_sizes_that_dali_may_confuse(decoder, whole, monkeypatch):
    """As H.265 of 160x88 and 160x96, of which the first to come is DALI's for good."""
    manifest = dv.Manifest(whole.table.slice(0, 4), whole.classes, whole.root)
    real, sizes = load.remux, {whole.path(0): (160, 88), whole.path(2): (160, 88)}

    def remux(video, frames, **options):
        return real(video, frames, **options)._replace(size=sizes.get(video.path, (160, 96)))

    monkeypatch.setattr(load, "remux", remux)
    monkeypatch.setattr(decoders, "_sent_to_nvdec", {})
    monkeypatch.setattr(settings, "add_coded", lambda _, codec, size: decoders.add_coded(0, "hevc", size))
    loader = loader_of(manifest, decoder=decoder)
    plan = dv.draw_plan(manifest, RECIPE, [0, 1, 2, 3])
    if decoder == "dali":
        with pytest.raises(dv.ClipError, match="may confuse 160x96 with 160x88"):
            loader.apply(plan)
        return
    batch = loader.apply(plan)
    assert_shown(batch, whole, manifest)
    (found,) = loader.report().fallbacks.items()
    assert found == ("DALI 2.4 may confuse 160x96 with 160x88", (whole.path(1), 2))
