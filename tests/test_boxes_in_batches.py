"""Boxes of a manifest in the batches of a loader: of the right clip and frame, at the right place, and counted."""

import copy
import functools
import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RECIPE, take_batches
from dirty import edit_boxes, set_matrix

import dali_vidaug as dv
from dali_vidaug.commands.pictures import contact_sheet
from dali_vidaug.media.encode import write_video

SIDE, LENGTH = 36, 30
SIZES = ((110, 140), (140, 110), (96, 160))  # height, width


def places(number, height, width):
    """(F, 2) int: left and top of the square in each frame of video ``number``; no two videos have the same."""
    rng = np.random.default_rng(number)
    ends = rng.uniform(0, 1, (2, 2)) * (width - SIDE, height - SIDE)
    return np.linspace(*ends, LENGTH).round().astype(int)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder with 6 videos of a white square each, and its boxes, whose class and track are the video's number."""
    folder, table = tmp_path_factory.mktemp("squares"), []
    for number in range(6):
        height, width = SIZES[number % len(SIZES)]
        frames = np.zeros((LENGTH, height, width, 3), np.uint8)
        for t, (x, y) in enumerate(places(number, height, width).tolist()):
            frames[t, y : y + SIDE, x : x + SIDE] = 255
            table.append((f"{number}.mp4", t, x, y, x + SIDE, y + SIDE, number, number))
        write_video(folder / f"{number}.mp4", frames, options={"g": "8", "crf": "5"})
    names = ("path", "frame", "x1", "y1", "x2", "y2", "label", "track")
    return folder, dict(zip(names, map(list, zip(*table, strict=True)), strict=True))


@pytest.fixture(scope="module")
def squares(videos):
    """Their manifest."""
    return dv.scan(videos[0], boxes=videos[1], box_classes=[f"square {i}" for i in range(6)], progress=False)


@pytest.fixture(scope="module")
def plain(videos):
    """The same without boxes."""
    return dv.scan(videos[0], progress=False)


def load(manifest, ops, sampling=None, batches=3, **options):
    sampling = sampling or dv.ClipSampling(6, stride=3)
    options = dict(batch_size=4, device="cpu", num_threads=2, dtype="float32") | options
    loader = dv.VideoLoader(manifest, dv.Recipe(sampling, ops), **options)
    return take_batches(loader, batches), loader


def compare(batch):
    """How many boxes of a batch are around the bright pixels of their frame; where a square is seen there is one."""
    compared, boxes = 0, dv.Boxes(*(column.numpy() for column in batch.boxes))
    keys = list(zip(boxes.clip.tolist(), boxes.frame.tolist(), strict=True))
    assert keys == sorted(keys)
    for i, t in np.ndindex(len(batch), batch.clips.shape[2]):
        bright = batch.clips[i, :, t].numpy().max(0) > 127
        rows = boxes.rows((boxes.clip == i) & (boxes.frame == t))
        assert (rows.label == int(batch.samples[i])).all() and (rows.track == rows.label).all()
        assert len(rows.clip) <= 1 and (rows.weight == 1).all()
        if not len(rows.clip):
            assert min(np.count_nonzero(bright.any(axis)) for axis in (0, 1)) < 5, (i, t)
            continue
        size = (rows.xyxy[0, 2:] - rows.xyxy[0, :2]).min()
        if size >= 8:
            columns, lines = np.flatnonzero(bright.any(0)), np.flatnonzero(bright.any(1))
            shown = [columns[0], lines[0], columns[-1] + 1, lines[-1] + 1]
            assert np.abs(rows.xyxy[0] - shown).max() <= 1.5, (i, t, rows.xyxy[0], shown)  # a decoder blurs edges
            compared += 1
    return compared


OPS = {
    "in the decoder": (dv.RandomResizedCrop((90, 100), scale=(0.4, 1.0)), dv.RandomHorizontalFlip()),
    "after it": (dv.RandomAffine(10.0, (0.2, 0.2)), dv.Resize((90, 100)), dv.RandomVerticalFlip()),
    "two in the decoder": (dv.Resize((120, 130)), dv.RandomCrop(90), dv.CameraMotion(0.1)),
    "one that moves": (dv.RandomResizedCrop((90, 100), scale=(0.4, 1.0), shift=True), dv.RandomRotation(20.0)),
    "RandAugmentT": (dv.RandomResizedCrop((90, 100), scale=(0.4, 1.0)),
                     dv.RandAugmentT(2, ops=("Rotate", "TranslateX", "ShearY", "Identity"), fill=(0, 0, 0))),
    "on time": (dv.Reverse(0.5), dv.TemporalJitter(), dv.FrameJitter(), dv.Resize((90, 100))),
    "nearest": (dv.SpeedRamp(), dv.FrameInterpolation("nearest"), dv.RandomResizedCrop(80, scale=(0.4, 1.0))),
}  # fmt: skip


@pytest.mark.parametrize("name, resize_in_decoder", [*((name, True) for name in OPS), ("in the decoder", False)])
def test_boxes_are_around_the_squares(squares, name, resize_in_decoder):
    batches, loader = load(squares, OPS[name], batches=2, resize_in_decoder=resize_in_decoder)
    compared = sum(compare(batch) for batch in batches)
    assert 20 < compared <= loader.report().boxes
    assert [column.dtype for column in batches[0].boxes] == [torch.int64, torch.int64, torch.float32, torch.int64,
                                                             torch.int64, torch.float32]  # fmt: skip


def test_between_two_frames_boxes_are_between_those_of_both(squares):
    sampling = dv.ClipSampling(7, stride=1)
    (batch, *_), _ = load(squares, (dv.SpeedRamp((0.3, 0.3)), dv.Resize((96, 160))), sampling)
    found = dict(
        zip(
            zip(batch.boxes.clip.tolist(), batch.boxes.frame.tolist(), strict=True),
            batch.boxes.xyxy.numpy(),
            strict=True,
        )
    )
    between = 0
    for i, t in np.ndindex(4, 7):
        sample, position = int(batch.samples[i]), batch.plan.frames[i, t]
        height, width = SIZES[sample % 3]
        at = places(sample, height, width)
        low, high = int(np.floor(position)), int(np.ceil(position))
        corner = at[low] + (position - low) * (at[high] - at[low])
        expected = np.array([*corner, *(corner + SIDE)]) * np.tile([160 / width, 96 / height], 2)
        np.testing.assert_allclose(found[i, t], expected, atol=1e-3)
        between += low != high
    assert between > 10


def test_boxes_without_tracks_are_in_blended_frames_too(videos):
    """Those of the nearer frame: none is lost for want of a track."""
    boxes = {name: column for name, column in videos[1].items() if name != "track"}
    manifest = dv.scan(videos[0], boxes=boxes, box_classes=[str(i) for i in range(6)], progress=False)
    blended, nearest = (
        load(manifest, (dv.SpeedRamp((0.3, 0.3)), *more, dv.Resize((96, 160))))[0][0]
        for more in ((), (dv.FrameInterpolation("nearest"),))
    )
    assert len(blended.boxes.clip) == 4 * 6 and (blended.plan.frames % 1 > 0).any()
    assert all(torch.equal(a, b) for a, b in zip(blended.boxes, nearest.boxes, strict=True))


@pytest.mark.parametrize("op, count", [(dv.ThreeCrop(80), 3), (dv.TenCrop(80), 10)], ids=["three", "ten"])
def test_each_view_has_the_boxes_of_its_crop(squares, op, count):
    sampling = dv.MultiClip(dv.ClipSampling(4, stride=2), num_clips=2 * count, num_crops=count)
    (batch, *_), _ = load(squares, (op,), sampling, batch_size=2, shuffle=False)
    assert len(batch) == 4 * count and batch.views.tolist() == [*range(2 * count)] * 2
    assert compare(batch) > 30
    first = [batch.boxes.of_clip(i).xyxy.numpy().tobytes() for i in range(count)]
    assert len(set(first)) > 2


def test_repeats_have_boxes_of_their_own(squares):
    (batch, *_), _ = load(squares, (dv.RandomResizedCrop(80, scale=(0.4, 1.0)),), repeats=3)
    assert len(batch) == 12 and compare(batch) > 30
    assert len({batch.boxes.of_clip(i).xyxy.numpy().tobytes() for i in range(3)}) == 3
    (mixed, *_), _ = load(squares, (dv.Resize((90, 100)), dv.MixUp()), repeats=2)
    partner = mixed.mix.partner
    for i in range(8):
        found = set(mixed.boxes.of_clip(i).label.tolist())
        assert found == {int(mixed.samples[i]), int(mixed.samples[partner[i]])}
        assert int(partner[i]) % 2 == i % 2, "a clip is mixed with one of the same repeat"


@pytest.fixture
def damaged(squares, tmp_path):
    """The same videos, of which two are cut off after the scan."""
    for number in range(6):
        source = (Path(squares.root) / f"{number}.mp4").read_bytes()
        (tmp_path / f"{number}.mp4").write_bytes(source)
    manifest = dv.Manifest(squares.table, squares.classes, tmp_path, box_classes=squares.box_classes)
    for number in (1, 4):
        data = (tmp_path / f"{number}.mp4").read_bytes()
        (tmp_path / f"{number}.mp4").write_bytes(data[:400] + bytes(len(data) - 400))
    return manifest


def test_replaced_clips_have_the_boxes_of_the_replacement(damaged):
    batches, loader = load(damaged, OPS["in the decoder"], check_files="off", batch_size=6, drop_last=False)
    assert loader.report().replaced > 0 and sum(compare(batch) for batch in batches) > 60
    assert not {1, 4} & set(torch.cat([batch.boxes.label for batch in batches]).tolist())


def test_clips_that_are_left_out_have_no_boxes(damaged):
    options = dict(check_files="off", on_error="skip", shuffle=False)
    batches, loader = load(damaged, OPS["in the decoder"], batch_size=6, drop_last=False, **options)
    assert all(batch.samples.tolist() == [0, 2, 3, 5] and compare(batch) > 15 for batch in batches)
    assert loader.report().skipped > 0
    bad = damaged.select([1, 4])
    (batch, *_), _ = load(bad, OPS["in the decoder"], batch_size=2, batches=1, **options)
    assert len(batch) == 0 and batch.boxes.xyxy.shape == (0, 4)


def test_boxes_of_turned_videos_are_where_they_are_shown(tmp_path):
    """A display matrix turns the stored frames by 90 degrees; boxes are of the frames as shown, and so are sizes."""
    table = {"path": [], "frame": [], "x1": [], "y1": [], "x2": [], "y2": [], "label": []}
    for number in range(4):
        frames = np.zeros((LENGTH, 96, 160, 3), np.uint8)
        for t, (x, y) in enumerate(places(number, 96, 160).tolist()):
            frames[t, y : y + SIDE, x : x + SIDE] = 255
            shown = (96 - y - SIDE, x, 96 - y, x + SIDE)
            for name, value in zip(table, (f"{number}.mp4", t, *shown, number), strict=True):
                table[name].append(value)
        write_video(tmp_path / f"stored {number}.mp4", frames, options={"g": "8", "crf": "5"})
        turn = functools.partial(set_matrix, a=0, b=1, c=-1, d=0)
        edit_boxes(tmp_path / f"stored {number}.mp4", turn, tmp_path / f"{number}.mp4")
        (tmp_path / f"stored {number}.mp4").unlink()
    manifest = dv.scan(tmp_path, boxes=table | {"track": table["label"]}, progress=False)
    assert manifest.frame_sizes([0])[0].tolist() == [160]
    for ops in (OPS["in the decoder"], OPS["after it"]):
        batches, _ = load(manifest, ops)
        assert sum(compare(batch) for batch in batches) > 35


@pytest.mark.slow
def test_boxes_of_files_that_dali_decodes_are_the_same(tmp_path):
    """VP8, on the CPU: the ops that PyAV does in its conversion are then DALI's."""
    table = {"path": [], "frame": [], "x1": [], "y1": [], "x2": [], "y2": [], "label": []}
    for number in range(4):
        frames = np.zeros((LENGTH, 96, 160, 3), np.uint8)
        for t, (x, y) in enumerate(places(number, 96, 160).tolist()):
            frames[t, y : y + SIDE, x : x + SIDE] = 255
            for name, value in zip(table, (f"{number}.webm", t, x, y, x + SIDE, y + SIDE, number), strict=True):
                table[name].append(value)
        write_video(tmp_path / f"{number}.webm", frames, codec="libvpx", options={"g": "8", "b": "3M"})
    manifest = dv.scan(tmp_path, boxes=table | {"track": table["label"]}, progress=False)
    dali, pyav = (load(manifest, OPS["in the decoder"], decoder=decoder)[0] for decoder in ("dali", "pyav"))
    for a, b in zip(dali, pyav, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.boxes, b.boxes, strict=True)) and compare(a) > 10


def test_mixed_clips_have_the_boxes_of_both(squares):
    ops = (dv.Resize((90, 100)), dv.MixUp(), dv.RandomHorizontalFlip(), dv.Normalize())
    (batch, *_), _ = load(squares, ops, batch_size=6)
    for i, (partner, own) in enumerate(zip(*map(torch.Tensor.tolist, batch.mix), strict=True)):
        boxes = batch.boxes.of_clip(i)
        for source, weight in ((i, own), (partner, 1 - own)):
            theirs = boxes.rows(boxes.label == batch.samples[source])
            assert theirs.frame.tolist() == list(range(6))
            assert torch.allclose(theirs.weight, torch.tensor(weight), atol=1e-4)


def test_all_boxes_are_counted(squares):
    for rules, ops in ((None, OPS["in the decoder"]), (dv.BoxRules(0.9), OPS["in the decoder"]),
                       (None, (dv.Resize((90, 100)), dv.FrameCutMix()))):  # fmt: skip
        batches, loader = load(squares, ops, batches=4, prefetch=1, box_rules=rules)
        loader.close()  # a batch in the making is counted to its end
        report = loader.report()
        mixed, total = hasattr(ops[-1], "mixed_with"), report.boxes + report.boxes_dropped + report.boxes_covered
        assert report.frames < total <= 2 * report.frames if mixed else total == report.frames
        assert bool(report.boxes_covered) == bool(mixed) and bool(report.boxes_dropped) == (not mixed)
        line = f"boxes: {report.boxes}; {report.boxes_dropped} more were dropped, too little of them is in the frame"
        assert line in str(report) and f"{report.boxes_covered} are covered by clips that are mixed in" in str(report)
        assert sum(len(batch.boxes.clip) for batch in batches) <= report.boxes


def test_rules_are_those_of_the_loader_and_of_its_copies(squares):
    options = dict(batch_size=4, device="cpu", box_rules=dv.BoxRules(min_size=30.0))
    recipe = dv.Recipe(dv.ClipSampling(4), OPS["in the decoder"])
    with (
        dv.VideoLoader(squares, recipe, **options) as loader,
        dv.VideoLoader(squares, recipe, 4, device="cpu") as other,
    ):
        copies = copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))
        batch, all_boxes = next(iter(loader)), next(iter(other)).boxes
        sides = all_boxes.xyxy[:, 2:] - all_boxes.xyxy[:, :2]
        kept = all_boxes.rows(sides.min(1).values >= 30)
        assert 0 < len(kept.clip) < len(sides)
        for found in (batch, loader.apply(batch.plan), *(take_batches(one, 1)[0] for one in copies)):
            assert all(torch.equal(a, b) for a, b in zip(found.boxes, kept, strict=True))
        stored = pickle.loads(pickle.dumps(batch))
        assert stored.boxes.xyxy.equal(batch.boxes.xyxy)
    with pytest.raises(ValueError, match=r"VideoLoader: box_rules must be dv.BoxRules\(...\), got 1"):
        dv.VideoLoader(squares, recipe, 4, device="cpu", box_rules=1)


def test_boxes_do_not_depend_on_threads(squares):
    one, two = (load(squares, OPS["RandAugmentT"], num_threads=n)[0] for n in (1, 3))
    for a, b in zip(one, two, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.boxes, b.boxes, strict=True))


def test_a_manifest_without_boxes_gives_none(plain):
    with dv.VideoLoader(plain, RECIPE, 4, device="cpu") as loader:
        batch = next(iter(loader))
        assert batch.boxes is None and "boxes" not in repr(batch) and "boxes" not in str(loader.report())


@dataclass(frozen=True)
class Own:
    def draw(self, draws, frames, height, width):
        return None

    def build(self, fn, clips, args):
        return clips


def test_an_op_that_does_not_say_where_boxes_go_is_refused_when_the_loader_is_made(squares, plain):
    recipe = dv.Recipe(RECIPE.sampling, (dv.Resize((32, 48)), Own()))
    with pytest.raises(ValueError, match="VideoLoader: Own does not say where it moves pixels, so that boxes cannot"):
        dv.VideoLoader(squares, recipe, 2, device="cpu")
    dv.VideoLoader(plain, recipe, 2, device="cpu").close()
    plan = dv.draw_plan(squares, recipe, [0, 1])
    with (
        dv.VideoLoader(squares, dv.Recipe(RECIPE.sampling, recipe.ops[:1]), 2, device="cpu") as loader,
        pytest.raises(ValueError, match="VideoLoader: Own does not say where it moves pixels"),
    ):
        loader.apply(plan)


def test_pictures_have_the_boxes(squares):
    """Outlines in the colour of the class around the squares, and not elsewhere; weights as text."""
    (batch, *_), _ = load(squares, (dv.Resize((112, 128)), dv.Normalize()), shuffle=False)
    picture = np.asarray(contact_sheet(batch, num_frames=6))
    plain = copy.copy(batch)
    plain.boxes = None
    changed = (picture != np.asarray(contact_sheet(plain, num_frames=6))).any(-1)
    colors = {tuple(color) for color in picture[changed].tolist()}
    assert {(255, 214, 10), (10, 200, 255), (255, 80, 160), (90, 220, 80)} <= colors
    x1, y1, x2, y2 = batch.boxes.of_clip(0).xyxy[0].round().int().tolist()
    top, left = 8 + 2 * 16, 8
    part = changed[top : top + 112, left : left + 128]
    outline = np.zeros_like(part)
    outline[y1:y2, x1:x2] = True
    outline[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] = False
    assert part[outline].all() and not part[:y1].any() and not part[y2:].any() and not part[:, :x1].any()


def test_real_boxes_are_moved_as_by_hand(real_videos, tmp_path):
    """A boy with a ball, boxed in all 240 frames: a crop, a flip, and the frames that were drawn."""
    name = "v_SoccerJuggling_g23_c01"
    data = json.loads((real_videos / f"{name}.boxes.json").read_text())
    (tmp_path / f"{name}.avi").symlink_to(real_videos / f"{name}.avi")
    given = np.array(data["tubes"][0]["boxes"], float)
    given[:, 2:] += given[:, :2]
    columns = {column: given[:, k].tolist() for k, column in enumerate(("x1", "y1", "x2", "y2"))}
    boxes = {"path": [f"{name}.avi"] * 240, "frame": list(range(240)), **columns, "track": [0] * 240}
    manifest = dv.scan(tmp_path, boxes=boxes, progress=False)
    sampling = dv.ClipSampling(16, stride=4)
    ops = (dv.Reverse(0.5), dv.RandomResizedCrop(112, scale=(0.3, 1.0)), dv.RandomHorizontalFlip())
    with dv.VideoLoader(manifest, dv.Recipe(sampling, ops), 1, device="cpu") as loader:
        batch = loader.apply(dv.draw_plan(manifest, loader.recipe, [0] * 4, views=np.arange(4)))
    found = dict(zip(zip(batch.boxes.clip.tolist(), batch.boxes.frame.tolist(), strict=True), batch.boxes.xyxy.numpy(),
                     strict=True))  # fmt: skip
    crops, flips = (batch.plan.args[name] for name in ("RandomResizedCrop", "RandomHorizontalFlip"))
    for i, t in np.ndindex(4, 16):
        top, left, bottom, right = (int(crops[name][i]) for name in ("top", "left", "bottom", "right"))
        x1, y1, x2, y2 = given[batch.plan.frames[i, t]]
        x1, x2 = (np.clip((x - left) * 112 / (right - left), 0, 112) for x in (x1, x2))
        y1, y2 = (np.clip((y - top) * 112 / (bottom - top), 0, 112) for y in (y1, y2))
        x1, x2 = (112 - x2, 112 - x1) if flips["mirrored"][i] else (x1, x2)
        assert ((i, t) in found) == (min(x2 - x1, y2 - y1) >= 1 and (x2 - x1) * (y2 - y1) >= 1)
        np.testing.assert_allclose(found.get((i, t), [x1, y1, x2, y2]), [x1, y1, x2, y2], atol=1e-4)
    assert len(found) > 40
