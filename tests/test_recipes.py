"""Every published recipe, variant, stage and data set: against facts written by hand, and as it is printed."""

import inspect
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from recipe_facts import FACTS

import dali_vidaug as dv
from dali_vidaug.commands.cli import main
from dali_vidaug.data.schema import SCHEMA
from dali_vidaug.media.encode import write_video
from dali_vidaug.recipes import FAMILIES, as_python, program
from dali_vidaug.rng import Draws

EVERY = [(family, *asked) for family in FAMILIES.values() for asked in family.all()]


def is_new(family, variant, stage, dataset):
    """Whether the recipe is another one than that of the first data set."""
    first = family.variants[variant][0]
    recipe = family.function(variant, stage=stage, dataset=dataset)
    return dataset == first or recipe != family.function(variant, stage=stage, dataset=first)


CASES = pytest.mark.parametrize(
    "family, variant, stage, dataset", [case for case in EVERY if is_new(*case)], ids=lambda x: getattr(x, "name", x)
)
VARIANTS = pytest.mark.parametrize(
    "family, variant, dataset",
    [(f, variant, dataset) for f in FAMILIES.values() for variant, names in f.variants.items() for dataset in names],
    ids=lambda x: getattr(x, "name", x),
)
RGB = (200, 90, 40)  # of all pixels of the videos that are decoded
DRAWN = 300  # clips for what occurs often
MIXES = ("MixUp", "CutMix", "FrameCutMix", "CubeCutMix", "FadeMixUp", "CutMixUp", "FrameCutMixUp", "CubeCutMixUp")


def make(family, variant, stage, dataset, **options):
    return family.function(variant, stage=stage, dataset=dataset, **options)


def unseen_videos(count=1, length=300, fps=30.0, height=360, width=640):
    """A manifest of videos of which nothing is decoded: 10 s in 30 frames per second."""
    row = dict(
        path="v.mp4", label=0, num_frames=length, first_frame=0, last_frame=length, height=height, width=width, fps=fps,
        duration_seconds=length / fps, keyframes=[0], codec="h264", orientation=1, stream=0, time_base=1 / fps,
        pts_first=0, pts_step=1.0, regular=True, pixel_format="yuv420p",
    )  # fmt: skip
    row = {name: row.get(name) for name in SCHEMA.names}
    return dv.Manifest(pa.Table.from_pylist([row] * count, SCHEMA), ("one", "two"), Path())


@pytest.fixture(scope="module")
def plain_videos(tmp_path_factory):
    """Three videos of one colour in two classes, 90 frames at 30 per second, and their manifest as train.parquet."""
    folder = tmp_path_factory.mktemp("plain")
    for name, height, width in (("a/0.mp4", 168, 200), ("a/1.mp4", 160, 240), ("b/2.mp4", 200, 160)):
        (folder / name).parent.mkdir(exist_ok=True)
        frames = np.full((height, width, 3), RGB, np.uint8)
        write_video(folder / name, [frames] * 90, fps=30, options={"crf": "1"}, pixel_format="yuv444p")
    manifest = dv.scan(folder, progress=False)
    for stage in dv.recipes.STAGES:
        manifest.write(folder / f"{stage}.parquet")
    return folder


def test_there_are_facts_of_every_recipe_and_no_others():
    assert {(family.name, variant, dataset) for family, variant, _, dataset in EVERY} == set(FACTS)
    assert {name for name in FAMILIES if getattr(dv.recipes, name) is FAMILIES[name].function} == set(FAMILIES)
    assert set(FAMILIES) <= set(dv.recipes.__all__)


def crops_of(plan):
    """The arguments of the ops that crop or scale, in order: structured arrays."""
    return [args for args in plan.args.values() if args is not None and "out_height" in args.dtype.names]


def check_jitter(facts, recipe):
    """Short sides, by the probability of each length: 1 / n, or that 1 / length is uniform and rounds to it."""
    (op,) = [op for op in recipe.ops if isinstance(op, dv.ShortSideScale)]
    low, high = facts.short_sides
    sides = np.arange(low, high + 1)
    chance = np.full(len(sides), 1 / len(sides))
    if facts.jitter == "inverse":
        edges = 1 / np.clip(np.append(sides - 0.5, high + 0.5), low, high)
        chance = -np.diff(edges) / (1 / low - 1 / high)
    count = 20_000
    drawn = op.draw(Draws(0, 0, np.arange(count)), np.full(count, 8), np.full(count, 360), np.full(count, 640))
    mean, spread = (chance * sides).sum(), (chance * sides**2).sum() - (chance * sides).sum() ** 2
    assert abs(drawn["out_height"].mean() - mean) <= 5 * (spread / count) ** 0.5


def check_training(facts, plan):
    """What training draws of frames of 360 x 640 pixels, for DRAWN clips."""
    assert tuple(plan.recipe.names) == facts.ops
    first = crops_of(plan)[0]
    height, width = (first["bottom"] - first["top"], first["right"] - first["left"])
    if facts.short_sides:
        short = first["out_height"]
        assert (short.min(), short.max()) == pytest.approx(facts.short_sides, abs=4)
        assert (first["out_width"] == short * 640 // 360).all()
    if facts.jitter == "inverse" or "ShortSideScale" in facts.ops:
        check_jitter(facts, plan.recipe)
    if facts.scaled:
        assert {(row["out_height"].item(), row["out_width"].item()) for row in first} == {facts.scaled}
    if facts.box_sides:
        assert min(height.min(), width.min()) == facts.box_sides[0] and height.max() == facts.box_sides[1]
    if facts.box_area:
        box = crops_of(dv.draw_plan(unseen_videos(DRAWN, width=480), plan.recipe, np.arange(DRAWN)))[0]
        share = (box["bottom"] - box["top"]) * (box["right"] - box["left"]) / (360 * 480)
        assert facts.box_area[0] - 0.01 < share.min() and share.max() < facts.box_area[1] + 0.01
        assert share.min() < facts.box_area[0] + 0.05 and share.max() > facts.box_area[1] - 0.05
    if facts.places:
        many = dv.draw_plan(unseen_videos(10 * DRAWN), plan.recipe, np.arange(10 * DRAWN))
        box = crops_of(many)[0]
        box = box[(box["bottom"] - box["top"] == 270) & (box["right"] - box["left"] == 270)]
        assert len({(row["top"].item(), row["left"].item()) for row in box}) == facts.places
    assert len(plan.masks) == len(facts.masks)
    for mask, (grid, low, high) in zip(plan.masks, facts.masks, strict=True):
        share = mask.reshape(DRAWN, -1).mean(1)
        assert mask.shape == (DRAWN, *grid) and low <= share.min() and share.max() <= high
    mixed = [args for args in plan.args.values() if args is not None and "partner" in args.dtype.names]
    for args in mixed if plan.recipe.names[-2] in MIXES else ():  # one share and one box for the batch
        assert {tuple(map(str, row)) for row in args[[n for n in args.dtype.names if n not in ("partner", "key")]]} == {
            tuple(map(str, args[0][[n for n in args.dtype.names if n not in ("partner", "key")]]))
        }


@VARIANTS
def test_what_is_drawn_is_what_was_published(family, variant, dataset):
    """Frames, views, scalings, crops and flips, in the published size."""
    facts = FACTS[family.name, variant, dataset]
    for stage in family.stages:
        recipe, manifest = make(family, variant, stage, dataset), unseen_videos(DRAWN)
        views = {"test": facts.views[0] * facts.views[1], "train": facts.train_views}.get(stage, 1)
        assert recipe.num_clips == views, stage
        samples = np.zeros(views, int) if stage == "test" else np.arange(DRAWN)
        plan = dv.draw_plan(manifest, recipe, samples, views=np.arange(views) if stage == "test" else 0)
        frames = (facts.test_frames or facts.frames) if stage == "test" else facts.frames
        assert plan.frames.shape == (len(samples), frames), stage
        last, size = crops_of(plan)[-1], getattr(facts, stage)
        assert (last["out_height"] == size).all() and (last["out_width"] == size).all(), stage
        names = [name for name, args in plan.args.items() if args is not None and "mirrored" in args.dtype.names]
        if stage == "train":
            assert names == ["RandomHorizontalFlip"] * facts.flips
            assert not names or 0.4 < plan.args[names[0]]["mirrored"].mean() < 0.6
            check_training(facts, plan)
        else:
            assert names == ["TenCrop"] * (stage == "test" and facts.views[1] == 10)
        if facts.steps is not None and stage != "test":
            for row in plan.frames:
                after = row - row[0] - np.array(facts.steps)  # a start within a frame, in [0, 1), explains all frames
                assert max(0, after.max()) < min(1, after.min() + 1) + 1e-9, row
        if stage == "test":
            first = crops_of(plan)[0]
            assert facts.test_short_side is None or (first["out_height"] == facts.test_short_side).all()
            places = {tuple(row) for row in plan.frames.tolist()}
            boxes = {tuple(row.tolist()) for row in last}
            assert (len(places), len(boxes)) == facts.views
        mean_std = [(op.mean, op.std) for op in recipe.ops if isinstance(op, dv.Normalize)]
        assert mean_std == [facts.mean_std]
    training = family.training(variant, dataset)
    assert (training.repeats, training.batch_size, training.average) == (facts.repeats, facts.batch_size, facts.average)


@CASES
def test_clips_have_the_shape_and_the_values(family, variant, stage, dataset, plain_videos):
    """A small size of the recipe, of videos of one colour, of which crops and flips change no value."""
    facts = FACTS[family.name, variant, dataset]
    recipe = make(family, variant, stage, dataset, size=facts.small)
    options = dict(seed=1, device="cpu", num_threads=1, prefetch=1, shuffle=False, drop_last=False)
    with dv.VideoLoader(plain_videos / "train.parquet", recipe, 1 + (stage == "train"), **options) as loader:
        batch = next(iter(loader))
    clips = batch.clips if facts.pathways else (batch.clips,)
    side = round(facts.small * getattr(facts, stage) / facts.train)
    views = {"test": facts.views[0] * facts.views[1], "train": 2 * facts.train_views}.get(stage, 1)
    frames = (facts.test_frames or facts.frames) if stage == "test" else facts.frames
    shapes = [(views, 3, count, side, side) for count in facts.pathways or (frames,)]
    assert [tuple(clip.shape) for clip in clips] == shapes
    assert {clip.dtype for clip in clips} == {torch.float32} and len(batch) == views
    mean, std = (torch.tensor(numbers)[:, None, None, None] for numbers in facts.mean_std)
    expected = (torch.tensor(RGB)[:, None, None, None] / 255 - mean) / std
    changes = {"RandAugmentT", "Cutout", "FrameCutout", "CubeCutout", "ColorJitter"} & set(recipe.names)
    for clip in clips:
        assert ((clip - expected).abs() * std <= 2.5 / 255).all() != bool(changes)
        assert (clip >= -mean / std - 1e-5).all() and (clip <= (1 - mean) / std + 1e-5).all()


@CASES
def test_it_can_be_read_again_and_is_printed_as_a_program(
    family, variant, stage, dataset, plain_videos, monkeypatch, request
):
    recipe = make(family, variant, stage, dataset)
    assert dv.Recipe.parse(repr(recipe)) == recipe
    assert eval(as_python(recipe), {"dv": dv}) == recipe
    text = program(family, variant, stage, dataset)
    assert max(map(len, text.splitlines())) <= 120 and text.startswith(f"# {family.name} {variant}")
    told, training = " ".join(line.lstrip("# ") for line in text.splitlines()), family.training(variant, dataset)
    for part in (
        family.paper,
        family.code,
        *([training.optimizer, training.schedule, training.loss] * (stage == "train")),
    ):
        assert part in told
    monkeypatch.chdir(plain_videos)
    done: dict = {}
    if "VideoScores" in text:
        request.getfixturevalue("torchvision")  # torchmetrics imports it
        pytest.importorskip("torchmetrics")
    exec(text.replace("batch_size=8", "batch_size=2"), done)  # the videos are three
    with done["loader"] as loader:
        assert done["recipe"] == recipe == loader.recipe
        repeats = family.training(variant, dataset).repeats if stage == "train" else 1
        assert loader.schedule.repeats == repeats and loader.schedule.shuffle == (stage == "train")


def test_r3d_is_torchvisions_preset(torchvision, numbered_manifest):
    """On frames that are enlarged, where antialiasing changes nothing; their centre crop begins a column later."""
    from torchvision.transforms._presets import VideoClassification

    recipe = dv.recipes.r3d(stage="validation")
    options = dict(seed=0, device="cpu", num_threads=1, shuffle=False, resize_in_decoder=False)
    with dv.VideoLoader(numbered_manifest, recipe, 3, **options) as loader:
        batch = next(iter(loader))
    with dv.VideoLoader(numbered_manifest, dv.Recipe(recipe.sampling, ()), 3, **options) as loader:
        frames = next(iter(loader)).clips  # (3, 3, 16, 96, 160) uint8, the same
    preset = VideoClassification(crop_size=(112, 112), resize_size=(128, 171))
    expected = preset(frames.transpose(1, 2).contiguous())
    std = torch.tensor(preset.std)[:, None, None, None]
    difference = (batch.clips[..., 1:] - expected[..., :-1]).abs() * std * 255
    assert batch.clips.shape == expected.shape == (3, 3, 16, 112, 112) and difference.max() <= 1.5
    assert ((batch.clips - expected).abs() * std * 255).max() > 3


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_its_docstring_says_where_it_differs(family):
    text = inspect.getdoc(family.function)
    assert "differs from" in text and "Args:" in text and "Raises:" in text
    assert re.search(r"\((Apache-2.0|MIT|BSD|CC-BY-NC|no licence|no code)", family.code), family.code
    assert re.search(r"\d{4}\)$", family.paper) or (family.name, family.paper[:6]) == ("guide", "none: ")
    assert len(f"{family.name}: {family.summary}") <= 120
    names = set(inspect.signature(family.function).parameters)
    assert names >= {family.option, "stage", "dataset", "size"}
    assert {name for name in names if re.search(rf"^    {name}: ", text, re.MULTILINE)} == names


def test_a_literal_plan():
    plan = dv.draw_plan(unseen_videos(2), dv.recipes.slowfast("8x8"), [0, 1], seed=7, epoch=3)
    assert plan.describe(1).splitlines() == [
        "sample 1, seed 7, epoch 3, view 0",
        "  file ./v.mp4, class one",
        f"  frames {', '.join(map(str, (*range(230, 241, 2), *range(243, 294, 2))))}",
        "  ShortSideScale top 0, left 0, bottom 360, right 640, out_height 281, out_width 499",
        "  RandomCrop top 3, left 109, bottom 227, right 333, out_height 224, out_width 224",
        "  RandomHorizontalFlip mirrored 0",
        "  Normalize",
    ]


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (("9x9",), {}, "slowfast: variant must be one of '8x8', '4x16', got '9x9'"),
        ((), dict(stage="val"), "slowfast: stage must be one of 'train', 'validation', 'test', got 'val'"),
        ((), dict(dataset="ucf"), "slowfast: dataset must be one of 'kinetics400', got 'ucf'"),
        ((), dict(size=8), "slowfast: size must be None or an int in [16, 16384], got 8"),
        ((), dict(size=True), "slowfast: size must be None or an int in [16, 16384], got True"),
        ((), dict(size=16384), "slowfast: size must be so small that no length is more than 16384 pixels, got 16384: "),
    ],
)
def test_what_is_not_published_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dv.recipes.slowfast(*arguments, **options)


def test_the_command_lists_all(capsys):
    assert main(["recipes"]) == 0
    text = capsys.readouterr().out
    for family in FAMILIES.values():
        for word in (f"{family.name}: ", family.summary, *family.variants, *family.datasets):
            assert word in text
    assert family.paper[:40] in text and max(map(len, text.splitlines())) <= 120


def test_the_command_prints_a_recipe(capsys):
    assert main(["recipes", "slowfast", "4x16", "--stage", "test"]) == 0
    assert capsys.readouterr().out == program(FAMILIES["slowfast"], "4x16", "test", "kinetics400")
    assert main(["recipes", "slowfast"]) == 0
    assert capsys.readouterr().out == program(FAMILIES["slowfast"], "8x8", "train", "kinetics400")


@pytest.mark.parametrize(
    "words, message",
    [
        (["slowfst"], "there is no recipe 'slowfst'; there are "),
        (["slowfast", "1x1"], "slowfast: variant must be one of"),
        (["slowfast", "8x8", "--dataset", "ssv3"], "slowfast: dataset must be one of 'kinetics400', got 'ssv3'"),
        (["--stage", "test"], "--stage and --dataset need the name of a recipe"),
    ],
)
def test_the_command_refuses_what_is_not_published(words, message, capsys):
    assert main(["recipes", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_command_prints_what_is_only_tested(capsys):
    assert main(["recipes", "hiera"]) == 0
    assert capsys.readouterr().out == program(FAMILIES["hiera"], "base", "test", "kinetics400")
