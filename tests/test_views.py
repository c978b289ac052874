"""Several clips of a sample, samplers and columns of a user's own, ops that change the number of frames, plan files."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import read_number

import dali_vidaug as dv
from dali_vidaug.drawing import draw_ops
from dali_vidaug.rng import Draws

FORMAT_1 = Path(__file__).parent / "plan_format_1.json"  # written by the release before format 2


class Equal:
    """Stands for a manifest of equal videos: 40 frames of 96x160, 25 per second."""

    def videos(self, samples):
        size = len(samples)
        times = np.arange(40) / 25
        return dv.Videos(np.zeros(size, int), np.full(size, 40), np.full(size, 25.0), lambda i: times)

    def frame_sizes(self, samples):
        return np.full(len(samples), 96), np.full(len(samples), 160)

    def path(self, sample):
        return f"{sample}.mp4"

    def targets(self, samples):
        return np.zeros((len(samples), 0), np.float32)


# Views


def test_draws_of_a_view_do_not_depend_on_the_other_views():
    samples, views = [3, 3, 5, 3], [0, 2, 1, 1]
    many = Draws(9, 4, samples, views, "p").words("x", 5)
    for i in range(4):
        assert (Draws(9, 4, samples[i : i + 1], views[i], "p").words("x", 5) == many[i]).all()
    assert len(np.unique(many)) == many.size
    assert (Draws(9, 4, samples, 0, "p").words("x", 5)[0] == many[0]).all()


def test_random_numbers_of_a_batch_do_not_depend_on_views():
    assert (Draws(1, 2, [3], [7], "p", batch=4).of_batch().words("x") == Draws(1, 2, [9], 0, "p", batch=4).of_batch().words("x")).all()  # fmt: skip  # noqa: E501


def test_a_plan_may_have_several_clips_of_a_sample(tmp_path):
    recipe = dv.Recipe(dv.ClipSampling(4), (dv.RandomResizedCrop(32), dv.CutMix()))
    plan = dv.draw_plan(Equal(), recipe, [6, 6, 6, 2], seed=1, views=[0, 1, 2, 0])
    assert len({*map(tuple, plan.frames.tolist())}) > 2 and plan.views.tolist() == [0, 1, 2, 0]
    for i in range(4):
        alone = dv.draw_plan(Equal(), recipe, plan.samples[i : i + 1], seed=1, views=plan.views[i])
        assert (alone.frames[0] == plan.frames[i]).all()
        assert alone.args["RandomResizedCrop"][0] == plan.args["RandomResizedCrop"][i]
    assert "sample 6, seed 1, epoch 0, view 2" in plan.describe(2) and plan.row(2).views.tolist() == [2]
    plan.save(tmp_path / "plan.json")
    assert dv.Plan.load(tmp_path / "plan.json").views.tolist() == [0, 1, 2, 0]


# Plan files


def test_a_plan_of_format_1_loads_and_is_what_is_drawn_today():
    plan = dv.Plan.load(FORMAT_1)
    drawn = dv.draw_plan(Equal(), plan.recipe, plan.samples, plan.seed, plan.epoch, 0, plan.batch)
    assert plan.views.tolist() == [0, 0] and plan.frames.dtype == np.int32
    assert (drawn.frames == plan.frames).all() and drawn.args.keys() == plan.args.keys()
    for name, rows in plan.args.items():
        assert rows is None if drawn.args[name] is None else (rows == drawn.args[name]).all(), name


def test_a_plan_of_format_1_is_replayed(numbered_manifest):
    """Its frames are those that it names, with its crops: as the same plan, drawn today, gives them."""
    plan = dv.Plan.load(FORMAT_1)
    drawn = dv.draw_plan(Equal(), plan.recipe, plan.samples, plan.seed, plan.epoch, 0, plan.batch)
    whole = dv.Plan(dv.Recipe(plan.recipe.sampling, ()), 0, 0, 0, plan.samples, plan.views, plan.frames, {})
    with dv.VideoLoader(numbered_manifest, plan.recipe, 2, device="cpu") as loader:
        assert torch.equal(loader.apply(plan).clips, loader.apply(drawn).clips)
        for clip, frames in zip(loader.apply(whole).clips, plan.frames, strict=True):
            assert [read_number(frame) for frame in clip.permute(1, 2, 3, 0).numpy()] == frames.tolist()


def test_a_view_of_format_1_is_that_of_every_clip(tmp_path):
    document = json.loads(FORMAT_1.read_text())
    assert "format" not in document and document["view"] == 0
    (tmp_path / "p.json").write_text(json.dumps(document | {"view": 5}))
    assert dv.Plan.load(tmp_path / "p.json").views.tolist() == [5, 5]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"format": 3}, "plan format 3; this release reads 1 and 2"),
        ({"views": [0]}, "2 samples, but 1 rows of views"),
        ({"frames": [[2**40] * 3] * 2}, "frames must be finite and fit into int32, got 1099511627776"),
        ({"frames": [1, 2, 3]}, "is not a plan"),
        ({"samples": 3}, "is not a plan"),
        ({"args": {"OneOf": 3}}, "is not a plan"),
        ({"recipe": "Recipe(ops=(Nope(),))"}, "Nope is not known"),
    ],
)
def test_what_is_no_plan_is_refused(change, message, tmp_path):
    dv.Plan.load(FORMAT_1).save(tmp_path / "p.json")
    document = json.loads((tmp_path / "p.json").read_text())
    (tmp_path / "p.json").write_text(json.dumps(document | change))
    with pytest.raises(ValueError, match=message) as caught:
        dv.Plan.load(tmp_path / "p.json")
    assert str(tmp_path / "p.json") in str(caught.value)


# Samplers


@dataclass(frozen=True)
class OneEachHalfSecond:
    """Frames at 0, 0.5, 1.0 ... s after a random time, by the videos' time stamps; between two frames where need be."""

    num_frames: int = 3

    def draw(self, draws, videos):
        frames = np.empty((len(videos), self.num_frames))
        for i, share in enumerate(draws.uniform("start")):
            times = videos.times(i)[videos.first[i] : videos.last[i]]
            start = share * (times[-1] - 0.5 * (self.num_frames - 1))
            wanted = start + 0.5 * np.arange(self.num_frames)
            frames[i] = videos.first[i] + np.interp(wanted, times, np.arange(len(times)))
        return frames


def test_frames_may_lie_between_two(tmp_path, numbered_manifest):
    recipe = dv.Recipe(OneEachHalfSecond(), ())
    plan = dv.draw_plan(numbered_manifest, recipe, [4, 7], seed=2)
    assert plan.frames.dtype == np.float64 and (plan.frames % 1 != 0).any()
    np.testing.assert_allclose(np.diff(plan.frames), 12.5)  # 25 frames a second
    plan.save(tmp_path / "p.json")
    again = dv.Plan.load(tmp_path / "p.json", [OneEachHalfSecond])
    assert again.frames.dtype == np.float64 and (again.frames == plan.frames).all() and again.recipe == recipe
    assert f"frames {plan.frames[0, 0]:g}, " in plan.describe(0)
    with dv.VideoLoader(numbered_manifest, recipe, 2, device="cpu") as loader:
        assert loader.apply(plan).clips.shape == (2, 3, 3, 96, 160)


@dataclass(frozen=True)
class Wrong:
    result: str = "text"

    def draw(self, draws, videos):
        n = len(videos)
        return {
            "text": "frames 3 to 5",
            "flat": np.zeros(n, int),
            "short": np.zeros((n - 1, 4), int),
            "none": np.zeros((n, 0), int),
            "late": np.full((n, 4), 62),
            "early": np.full((n, 4), -1),
            "nan": np.full((n, 4), np.nan),
            "last": np.full((n, 4), 61.5),
        }[self.result]


@pytest.mark.parametrize(
    "result, error, message",
    [
        ("text", TypeError, "Wrong.draw must return the frames of 2 clips"),
        ("flat", TypeError, r"\(B, F\) integers or float64, got int64 \(2,\)"),
        ("short", TypeError, r"got int64 \(1, 4\)"),
        ("none", TypeError, r"got int64 \(2, 0\)"),
        ("late", ValueError, r"Wrong: frame 62 of sample 11 is outside \[0, 62\)"),
        ("early", ValueError, r"Wrong: frame -1 of sample 11 is outside \[0, 62\)"),
        ("nan", ValueError, r"Wrong: frame nan of sample 11 is outside"),
        ("last", ValueError, r"Wrong: frame 61.5 of sample 11 is outside"),  # there is no frame 62 to blend with
    ],
)
def test_a_sampler_that_draws_nonsense_is_told_so(result, error, message, numbered_manifest):
    longest = [i for i in range(12) if numbered_manifest.path(i).endswith("11.mp4")] * 2
    with pytest.raises(error, match=message):
        dv.draw_plan(numbered_manifest, dv.Recipe(Wrong(result), ()), longest)


@pytest.mark.parametrize("sampling", [16, dv.ClipSampling, dv.CenterCrop(8), None])
def test_what_is_no_sampler_is_refused(sampling):
    with pytest.raises(ValueError, match="Recipe: sampling must be a sampler, such as ClipSampling"):
        dv.Recipe(sampling=sampling)


@pytest.mark.parametrize("count", [0, 257, 1.5])
def test_a_number_of_clips_that_cannot_be_is_refused(count):
    sampler = Wrong()
    object.__setattr__(sampler, "num_clips", count)
    with pytest.raises(ValueError, match=rf"num_clips of .* must be an int in \[1, 256\], got {count}"):
        dv.Recipe(sampling=sampler)


def test_samplers_are_read_back_by_name():
    recipe = dv.Recipe(OneEachHalfSecond(5), (dv.Resize(8),))
    assert dv.Recipe.parse(repr(recipe), [OneEachHalfSecond]) == recipe
    with pytest.raises(ValueError, match="OneEachHalfSecond is not known; known are .*ClipSampling"):
        dv.Recipe.parse(repr(recipe))


# What a sampler may know


def test_times_of_frames(tmp_path, numbered_manifest):
    """By the file's own time stamps: a regular grid, one time stamp for each frame, only a rate, and nothing."""
    table, n = numbered_manifest.table.slice(0, 4), numbered_manifest.table["num_frames"][0].as_py()
    assert table["pts_step"].null_count == 0
    irregular = [100, 130, *range(200, 200 + 10 * (n - 2), 10)]
    columns = {
        "num_frames": [n] * 4,
        "last_frame": [n] * 4,
        "fps": [25.0, 12.0, 10.0, None],
        "time_base": [0.01] * 4,
        "pts_first": [7, None, None, None],
        "pts_step": [4.0, None, None, None],
        "pts": [None, irregular, None, None],
    }
    for name, values in columns.items():
        field = table.schema.field(name)
        table = table.set_column(table.column_names.index(name), field, pa.array(values, field.type))
    videos = dv.Manifest(table, numbered_manifest.classes).videos([0, 1, 2, 3])
    np.testing.assert_allclose(videos.times(0), np.arange(n) * 0.04)
    np.testing.assert_allclose(videos.times(1), (np.array(irregular) - 100) * 0.01)
    np.testing.assert_allclose(videos.times(2), np.arange(n) / 10)
    assert np.isnan(videos.times(3)).all()
    assert videos.fps[:3].tolist() == [25, 12, 10] and np.isnan(videos.fps[3])
    assert videos.first.tolist() == [0] * 4 and videos.last.tolist() == [n] * 4


# Ops that change the number of frames


@dataclass(frozen=True)
class EverySecondFrame:
    """Half the frames; the ops after it see shorter clips."""

    def draw(self, draws, frames, height, width):
        order = np.arange(0, frames.max(), 2)
        args = np.zeros(len(draws), [("out_frames", "i4"), ("order", "i4", len(order))])
        args["out_frames"], args["order"] = len(order), order
        return args

    def build(self, fn, clips, args):
        return fn.sequence_rearrange(clips, new_order=args["order"])


def test_ops_see_the_number_of_frames_that_the_op_before_leaves():
    seen = []

    class Look:
        def draw(self, draws, frames, height, width):
            seen.append((frames.tolist(), height.tolist(), width.tolist()))

        def build(self, fn, clips, args):
            return clips

    recipe = dv.Recipe(ops=(dv.Resize((20, 30)), EverySecondFrame(), Look(), EverySecondFrame(), dv.MixUp()))
    drawn = draw_ops(recipe, Draws(0, 0, [0, 1]), [7, 7], [96, 96], [160, 160])
    assert seen == [([4, 4], [20, 20], [30, 30])] and drawn.frames.tolist() == [2, 2]
    assert drawn.args["MixUp"]["frames"].tolist() == [2, 2]


def test_clips_may_become_shorter(numbered_manifest):
    """In memory and from the loader: the frames that are left, and what is mixed is of the new length."""
    clips = np.random.default_rng(0).integers(0, 256, (3, 7, 20, 30, 3), dtype=np.uint8)
    batch = dv.augment(clips, (EverySecondFrame(), dv.FrameCutMix(), dv.RandAugmentT()), np.eye(3))
    assert batch.clips.shape == (3, 4, 20, 30, 3) and (batch.plan.args["FrameCutMix"]["frames"] == 4).all()
    plain = dv.augment(clips, (EverySecondFrame(),)).clips.numpy()
    assert (plain == clips[:, ::2]).all()
    recipe = dv.Recipe(dv.ClipSampling(7), (dv.Resize((96, 160)), EverySecondFrame()))
    with dv.VideoLoader(numbered_manifest, recipe, 2, device="cpu") as loader:
        batch = next(iter(loader))
        for clip, frames in zip(batch.clips.permute(0, 2, 3, 4, 1).numpy(), batch.plan.frames, strict=True):
            assert [read_number(frame) for frame in clip] == frames[::2].tolist()


def test_clips_that_become_of_different_lengths_are_refused(numbered_manifest):
    class Uneven(EverySecondFrame):
        def draw(self, draws, frames, height, width):
            args = super().draw(draws, frames, height, width)
            args["out_frames"] -= height > 10
            return args

    clips = [np.zeros((4, 8, 9, 3), np.uint8), np.zeros((4, 16, 9, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"different sizes \(F, H, W\) .* \[\(1, 5, 5\), \(2, 5, 5\)\]"):
        dv.augment(clips, (Uneven(), dv.CenterCrop(5)))


# Columns of one's own


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_lists_own_columns_stay_with_their_rows(kind, numbered, tmp_path):
    rows = [
        ("odd/03.mp4", "b", "jumps, then falls", "007", 1.5, 0.2),
        ("even/gone.mp4", "a", "lost", "013", 2.5, None),
        ("even/02.mp4", "a", "", "0042", 3.5, None),
        ("odd/03.mp4", "b", "lands", "100", 4.5, 0.8),
    ]
    names = ["path", "label", "caption", "subject", "fps", "start"]
    if kind == "csv":
        text = "".join(f'{p},{c},"{t}",{s},{f},{"" if b is None else b}\n' for p, c, t, s, f, b in rows)
        (tmp_path / "list.csv").write_text(",".join(names) + "\n" + text)
    else:
        table = pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)))
        pq.write_table(table.append_column("tags", [[["x", "y"], [], ["z"], None]]), tmp_path / "list.parquet")
    manifest = dv.scan(tmp_path / f"list.{kind}", root=numbered, output=tmp_path / "m.parquet", progress=False)
    assert manifest.columns[:4] == ("caption", "subject", "list_fps", "start")
    assert [b.path.rsplit("/", 1)[1] for b in manifest.broken] == ["gone.mp4"]
    for one in (manifest, dv.Manifest.read(tmp_path / "m.parquet")):
        assert one.rows("caption", [0, 1, 2]).tolist() == ["jumps, then falls", "", "lands"]
        assert one.rows("subject", [2, 0]).tolist() == ["100", "007"]  # text stays text
        assert one.rows("start", [0, 1, 2]).tolist() == [0.2, None, 0.8]
        assert one.rows("fps", [0]).tolist() == [25.0]  # measured; the list's is kept beside it
        values = one.rows("list_fps", [0, 1, 2]).tolist()
        assert values == (["1.5", "3.5", "4.5"] if kind == "csv" else [1.5, 3.5, 4.5])
        if kind == "parquet":
            assert one.rows("tags", [0, 1, 2]).tolist() == [["x", "y"], ["z"], None]
    recipe = dv.Recipe(dv.ClipSampling(4), (dv.Resize((96, 160)),))
    with dv.VideoLoader(manifest, recipe, 3, device="cpu", seed=1) as loader:
        for batch in loader:
            captions = ["jumps, then falls", "", "lands"]
            assert batch.rows("caption").tolist() == [captions[s] for s in batch.samples.tolist()]
        with pytest.raises(ValueError, match="no column 'captions'; there are path, label, .*caption, subject"):
            batch.rows("captions")
    with pytest.raises(ValueError, match="no column 'caption': clips in memory and batches that were pick"):
        dv.augment(np.zeros((1, 2, 4, 4, 3), np.uint8), ()).rows("caption")


def test_numbers_of_a_column_are_not_changed():
    """Large ids beside missing ones must not become floats."""
    ids = [2**60 + 1, None, 3]
    table = pa.table(
        {"id": pa.array(ids, pa.int64()), "whole": pa.array([2**60 + 1, 2, 3]), "yes": [True, False, True]}
    )
    manifest = dv.Manifest.__new__(dv.Manifest)
    manifest.table = table
    assert manifest.rows("id", [0, 1]).tolist() == ids[:2]
    assert manifest.rows("whole", [0, 2]).dtype == np.int64 and manifest.rows("whole", [0])[0] == 2**60 + 1
    assert manifest.rows("yes", [1, 2]).dtype == bool and manifest.rows("yes", [1, 2]).tolist() == [False, True]


@pytest.mark.parametrize(
    "text, message",
    [
        ("path,label,label\na.mp4,x,y\n", "the header has label more than once"),
        ("path,fps,list_fps\neven/00.mp4,1,2\n", "x.csv: the header has fps and list_fps; rename one of them"),
    ],
)
def test_columns_that_cannot_be_kept_apart_are_refused(text, message, numbered, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        dv.scan(tmp_path / "x.csv", root=numbered, progress=False)


def test_a_manifest_is_no_list(numbered_manifest, tmp_path):
    numbered_manifest.write(tmp_path / "m.parquet")
    with pytest.raises(ValueError, match="m.parquet is a manifest already: dv.Manifest.read"):
        dv.scan(tmp_path / "m.parquet", progress=False)
    (tmp_path / "x.parquet").write_text("no Parquet")
    with pytest.raises(ValueError, match="x.parquet cannot be read as Parquet"):
        dv.scan(tmp_path / "x.parquet", progress=False)
