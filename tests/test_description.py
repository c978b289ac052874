"""What is printed of plans and batches: short, complete, and true."""

import copy
import dataclasses
import html.parser
import pickle
import re

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import RECIPE, make_plan, take_batches

import dali_vidaug as dv
from dali_vidaug.batch import Batch

CROP = dv.RandomResizedCrop((24, 32))
LINES, WIDTH = 9, 300  # of what is printed of one plan or batch
CHOICES = {  # what a row of each op looks like, from its definition alone
    "CubeCutMix": lambda r: r["partner"] >= 0 and r["inside"][0] == 1 and not r["outside"].any(),
    "FadeMixUp": lambda r: r["partner"] >= 0 and (r["inside"] == r["outside"]).all() and r["inside"][0] not in (0, 1),
    "Cutout": lambda r: r["partner"] < 0,
}
ONE_OF = (dv.CubeCutMix(), dv.FadeMixUp(), dv.Cutout())


def changes(row):
    """Whether a row of BLEND changes any voxel: a weight is not 0, outside or in a box that is not empty."""
    box = row["first"] < row["last"] and (row["top"] < row["bottom"]).any() and (row["left"] < row["right"]).any()
    return bool(row["outside"].any() or (box and row["inside"].any()))


def first_batch(manifest, recipe, size=4, **options):
    return take_batches(dv.VideoLoader(manifest, recipe, size, device="cpu", **options), 1)[0]


@pytest.mark.parametrize("size", [1, 5, 40, 300])
def test_plans_and_batches_are_printed_in_a_few_lines(size, numbered_manifest):
    """However many clips there are; today's numbers are all in them."""
    ops = (CROP, dv.RandomHorizontalFlip(), dv.RandAugmentT(), dv.OneOf(ONE_OF), dv.LabelSmoothing(), dv.Normalize())
    recipe = dv.Recipe(dv.ClipSampling(6, stride=2), ops)
    samples = np.arange(size) % 12
    plan = dv.draw_plan(numbered_manifest, recipe, samples, seed=3, epoch=4, batch=5)
    text = repr(plan)
    assert len(text.splitlines()) <= LINES and max(map(len, text.splitlines())) <= WIDTH
    assert f"Plan: {size} clip{'s' * (size > 1)} of 6 frames, seed 3, epoch 4, batch 5" in text
    flips = int((plan.args["RandomHorizontalFlip"]["mirrored"] == 1).sum())
    assert f"RandomHorizontalFlip ({flips} of {size})" in text
    for op in ops:
        assert type(op).__name__ in text
    assert f"frames: {plan.frames.min()} to {plan.frames.max()}" in text


def test_a_batch_says_shapes_dtypes_device_samples_classes(numbered_manifest):
    recipe = dv.Recipe(RECIPE.sampling, (CROP, dv.CutMix(probability=0.5), dv.Normalize()))
    batch = first_batch(numbered_manifest, recipe, 8, seed=2, dtype=torch.float16)
    text = repr(batch)
    assert len(text.splitlines()) <= LINES
    assert "Batch: 8 clips, epoch 0, index 0" in text and "clips: (8, 3, 4, 24, 32) float16 on cpu" in text
    assert "targets: (8, 2) float32 on cpu" in text
    assert f"samples: {', '.join(map(str, batch.samples.tolist()))}\n" in text
    odd = sum("/odd/" in path for path in map(numbered_manifest.path, batch.samples.tolist()))
    for name, count in (("odd", odd), ("even", 8 - odd)):
        assert (f"{name} {count}" in text) == (count > 0)
    partner, own = batch.mix
    assert f"CutMix ({int((own < 1).sum())} of 8)" in text
    assert "repeated" not in text and "skipped" not in text and partner.shape == (8,)


def test_repeated_and_skipped_clips_are_printed(numbered_manifest):
    loader = dv.VideoLoader(numbered_manifest, RECIPE, 8, device="cpu", drop_last=False, num_shards=5, shard_index=4)
    (batch,) = take_batches(loader, 1)
    assert int(batch.repeated.sum()) == 3 and "repeated: 3" in repr(batch)
    batch.skipped = torch.tensor([7, 7])
    assert "skipped: 7, 7" in repr(batch)


def test_what_a_trainer_made_of_a_batch_is_printed_too(numbered_manifest):
    """Pickled, copied, without a plan, with other things in place of tensors, empty."""
    batch = first_batch(numbered_manifest, RECIPE)
    for other in (pickle.loads(pickle.dumps(batch)), copy.deepcopy(batch), batch.to("cpu")):
        assert repr(other).splitlines()[:4] == repr(batch).splitlines()[:4]
    fields = {f.name: getattr(batch, f.name) for f in dataclasses.fields(Batch) if f.init}
    bare = Batch(**fields)
    assert "Batch: 4 clips" in repr(bare) and "Batch: 4 clips" in bare._repr_html_()
    bare.clips, bare.samples = None, batch.samples.to("meta")
    assert "clips: NoneType" in repr(bare) and "samples: none" in repr(bare)
    empty = dv.draw_plan(numbered_manifest, RECIPE, [])
    assert "Plan: 0 clips of 4 frames" in repr(empty) and "0 clips" in empty._repr_html_()


def test_nothing_on_a_gpu_is_waited_for(numbered_manifest):
    """Tensors without values stand for those on a GPU: whoever looks at a value fails."""
    batch = first_batch(numbered_manifest, RECIPE)
    batch.clips, batch.targets = batch.clips.to("meta"), batch.targets.to("meta")
    assert "clips: (4, 3, 4, 32, 32) float32 on meta" in repr(batch) and "float32 on meta" in batch._repr_html_()


# ---- describe


def test_describe_names_file_and_class(numbered_manifest, tmp_path):
    plan = dv.draw_plan(numbered_manifest, RECIPE, [0, 11])
    batch = first_batch(numbered_manifest, RECIPE, 12, shuffle=False)
    for i, sample in enumerate((0, 11)):
        path = numbered_manifest.path(sample)
        expected = f"\n  file {path}, class {'even' if '/even/' in path else 'odd'}\n"
        assert expected in plan.describe(i) and expected in batch.describe(sample)
    plan.save(tmp_path / "plan.json")
    loaded = dv.Plan.load(tmp_path / "plan.json")
    assert "file" not in loaded.describe(0) and loaded.describe(0, numbered_manifest) == plan.describe(0)
    assert "file" not in pickle.loads(pickle.dumps(plan)).describe(0)
    assert plan.row(1).describe(0) == plan.describe(1)
    assert plan.row(-1).describe(0) == plan.describe(-1) == plan.describe(len(plan) - 1)
    for read, i in ((plan.describe, len(plan)), (plan.row, len(plan)), (plan.row, -len(plan) - 1)):
        with pytest.raises(IndexError, match=f"plan: there is no clip {i}; it has {len(plan)}, counted from 0"):
            read(i)


def test_describe_names_several_classes_and_none(numbered_manifest):
    table = numbered_manifest.table
    several = pa.array([[0, 1], [], *[[1]] * 10], pa.list_(pa.int32()))
    for name, values in (("labels", several), ("label", pa.array([-1] * 12, pa.int32()))):
        table = table.set_column(table.column_names.index(name), table.schema.field(name), [values])
    manifest = dv.Manifest(table, ("even", "odd"), numbered_manifest.root)
    plan = dv.draw_plan(manifest, RECIPE, [0, 1, 2])
    for i, text in enumerate(("classes even, odd", "no label", "class odd")):
        assert plan.describe(i).splitlines()[1].endswith(f".mp4, {text}")


@pytest.mark.parametrize("seed", range(5))
def test_describe_marks_every_frame_that_comes_again(seed, numbered_manifest):
    sampling = dv.ClipSampling(16, stride=(1, 7), short=("repeat", "loop", "shrink")[seed % 3])
    plan = dv.draw_plan(numbered_manifest, dv.Recipe(sampling, (CROP,)), np.arange(12), seed=seed)
    marked = 0
    for i, frames in enumerate(plan.frames.tolist()):
        (line,) = [line for line in plan.describe(i).splitlines() if line.startswith("  frames ")]
        texts = line.removeprefix("  frames ").partition(" (")[0].split(", ")
        assert [int(text.rstrip("*")) for text in texts] == frames
        stars = [text.endswith("*") for text in texts]
        assert stars == [frame in frames[:t] for t, frame in enumerate(frames)]
        assert (f"(*: {sum(stars)} of 16 come again" in line) == any(stars)
        marked += sum(stars)
    assert marked > 0 or sampling.short == "shrink"
    padded = sum(len(set(frames)) < 16 for frames in plan.frames.tolist())
    assert (f"{padded} clip{'s' * (padded != 1)} with a frame more than once" in repr(plan)) == (padded > 0)


@pytest.mark.parametrize("granularity", ["clip", "batch"])
@pytest.mark.parametrize("seed", range(4))
def test_describe_and_repr_name_the_op_that_one_of_took(seed, granularity, numbered_manifest, tmp_path):
    """What the rows are says which it was. Also of a loaded plan, of clips in memory, and of a clip alone."""
    op = dv.OneOf(ONE_OF, weights=(1, 2, 1), granularity=granularity)
    recipe = dv.Recipe(RECIPE.sampling, (CROP, op, op))
    plan = dv.draw_plan(numbered_manifest, recipe, np.arange(12), seed=seed, epoch=1, batch=9)
    plan.save(tmp_path / "plan.json")
    for drawn in (plan, dv.Plan.load(tmp_path / "plan.json"), make_plan(recipe, [(4, 24, 32)] * 12, seed=seed)):
        counts = dict.fromkeys(CHOICES, 0)
        for i in range(12):
            for name in ("OneOf", "OneOf_2"):
                (taken,) = [word for word, fits in CHOICES.items() if fits(drawn.args[name][i])]
                assert f"\n  {name}: {taken}\n" in drawn.describe(i)
                assert f"\n  {name}: {taken}\n" in drawn.row(i).describe(0)
                counts[taken] += name == "OneOf" and changes(drawn.args[name][i])
        number, found = re.search(r"OneOf \((\d+) of 12: ([^)]*)\)", repr(drawn)).groups()
        said = {word: int(n) for word, n in (part.split() for part in found.split(", "))}
        assert int(number) == sum(said.values())
        assert said == {word: n for word, n in counts.items() if n}
        assert len([n for n in counts.values() if n]) > 1 or granularity == "batch"


def test_no_op_is_named_for_a_row_that_was_edited(numbered_manifest):
    plan = dv.draw_plan(numbered_manifest, dv.Recipe(RECIPE.sampling, (CROP, dv.OneOf(ONE_OF))), np.arange(4))
    for field, value in (("inside", 0.123), ("left", 1), ("height", 99)):
        edited = copy.deepcopy(plan)
        edited.args["OneOf"][field][2] = value
        assert "\n  OneOf\n" in edited.describe(2)
        if field != "height":  # with other sizes, none can be drawn again
            assert "\n  OneOf: " in edited.describe(1)


def test_describe_names_the_sample_that_is_mixed_in(numbered_manifest):
    plan = dv.draw_plan(numbered_manifest, dv.Recipe(RECIPE.sampling, (CROP, dv.MixUp())), [3, 8, 5])
    for i in range(3):
        partner = int(plan.args["MixUp"]["partner"][i])
        assert f"clip {partner} of the batch (sample {plan.samples[partner]}), own share" in plan.describe(i)
        assert "    itself, own share" in plan.row(i).describe(0)  # its partner is not in it


# ---- Notebooks


class Cells(html.parser.HTMLParser):
    """The texts of the cells of all tables, row by row; fails where a tag is not closed."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_notebooks_show_a_row_for_each_clip(numbered_manifest):
    recipe = dv.Recipe(RECIPE.sampling, (CROP, dv.RandomHorizontalFlip(), dv.RandAugmentT(), dv.Normalize()))
    batch = first_batch(numbered_manifest, recipe, 6)
    for thing in (batch, batch.plan):
        rows = Cells(thing._repr_html_()).rows
        head = rows.index(["clip", "sample", "file", "class", "frames", "ops"])
        assert len(rows) == head + 7
        for i, (number, sample, path, label, frames, ops) in enumerate(rows[head + 1 :]):
            assert (int(number), int(sample)) == (i, int(batch.samples[i]))
            assert path == numbered_manifest.path(int(sample)) and f"/{label}/" in path
            first, last = batch.plan.frames[i][[0, -1]]
            assert frames.startswith(f"{first} to {last}")
            assert ("RandomHorizontalFlip" in ops) == bool(batch.plan.args["RandomHorizontalFlip"]["mirrored"][i])
            assert "RandAugmentT: " in ops
    many = Cells(dv.draw_plan(numbered_manifest, recipe, np.arange(1000) % 12)._repr_html_())
    assert len(many.rows) < 30


def test_notebooks_show_names_as_they_are(numbered_manifest):
    manifest = dv.Manifest(numbered_manifest.table, ("<b>&", "<script>"), "/<i>&amp;")
    rows = Cells(dv.draw_plan(manifest, RECIPE, range(12))._repr_html_()).rows
    assert {row[3] for row in rows[-12:]} == {"<b>&", "<script>"} and all(
        row[2].startswith("/<i>&amp;/") for row in rows[-12:]
    )
