"""Published recipes at the edges: short videos, mirrored clips, sizes; by the definitions, and what docs say."""

import re
from pathlib import Path

import numpy as np
import pytest
from test_recipes import EVERY, unseen_videos
from test_samplers import views_of

import dali_vidaug as dv
from dali_vidaug.commands.cli import main
from dali_vidaug.recipes import FAMILIES, program

DOCS = Path(__file__).parent.parent / "docs"
DIRECTED = ("ssv2", "jester", "diving48")  # their labels have classes such as "moving something to the left"
CROPS = {"RandomResizedCrop", "RandomCrop", "MultiScaleCrop"}


def text_of(name):
    return " ".join((DOCS / name).read_text().split())


def names_in(text):
    """The families that are named in code style."""
    return {name for name in re.findall(r"`(\w+)", text) if name in FAMILIES}


def trainings():
    """(family, variant, dataset, recipe) of all that are trained."""
    for family, variant, stage, dataset in EVERY:
        if stage == "train":
            yield family, variant, dataset, family.function(variant, stage=stage, dataset=dataset)


# ---- Short videos


def modulo(count, stride):
    return lambda n: [[i * stride % n for i in range(count)]]


def last_again(count, stride):
    return lambda n: [[min(i * stride, (n - 1) // stride * stride) for i in range(count)]]


def stretched_to_the_end(n):
    """SlowFast's 32 x 2: trunc(clip(linspace(0, 63, 32), 0, N - 1))."""
    return [[min(int(i * 63 / 31 + 1e-9), n - 1) for i in range(32)]]


def first_only(count):
    return lambda n: [[0] * count]


def middles(count):
    return lambda n: [[int(n / count / 2 + n / count * i) for i in range(count)]]


def twice(count):
    """TSM's twice_sample: the middles of the segments, and their beginnings."""
    return lambda n: [*middles(count)(n), [int(n / count * i) for i in range(count)]]


def rounded(count):
    """MMAction2's SampleFrames in training: around(i * N / C), and frame numbers modulo N."""
    return lambda n: [[round(i * (n / count)) % n for i in range(count)]]


DENSE = (1, 2, 5, 7, 19, 20, 40, 50, 56)
FEW = (1, 2, 3, 4, 5, 6, 7)


@pytest.mark.parametrize(
    "recipe, lengths, expected",
    [
        *((dv.recipes.tsm("8-dense", stage=stage), DENSE, modulo(8, 8)) for stage in dv.recipes.STAGES),
        (dv.recipes.tsm(), FEW, first_only(8)),
        (dv.recipes.tsm(stage="validation"), FEW, first_only(8)),
        (dv.recipes.tsm(stage="test"), (*FEW, 8, 9, 100), middles(8)),
        *((dv.recipes.tsm(dataset=name), FEW, first_only(8)) for name in ("ssv2", "jester")),
        (dv.recipes.tsm(dataset="jester", stage="test"), FEW, middles(8)),
        (dv.recipes.tsm(dataset="ssv2", stage="test"), (*FEW, 8, 9, 100), twice(8)),
        (dv.recipes.tsn("8"), FEW, rounded(8)),
        (dv.recipes.tsn("5"), (1, 2, 3, 4), rounded(5)),
        (dv.recipes.tsn("3"), (1, 2), rounded(3)),
        (dv.recipes.tsn("8", stage="validation"), (*FEW, 100), middles(8)),
        (dv.recipes.tsn("3", stage="test"), (*FEW, 20, 24, 100), middles(25)),
        (dv.recipes.videomae(dataset="ssv2"), (*FEW, 15), first_only(16)),
        (dv.recipes.videomae_v2("giant", dataset="ssv2"), (*FEW, 15), first_only(16)),
        (dv.recipes.videomae_pretrain(), DENSE, last_again(16, 4)),
        (dv.recipes.video_swin(), DENSE, modulo(32, 2)),
        (dv.recipes.video_swin(stage="validation"), DENSE, modulo(32, 2)),
        *((dv.recipes.vivit(stage=stage), DENSE, modulo(32, 2)) for stage in dv.recipes.STAGES),
        *((dv.recipes.slowfast(stage=stage), DENSE, stretched_to_the_end) for stage in dv.recipes.STAGES),
    ],
)
def test_short_videos_are_read_as_published(recipe, lengths, expected):
    for length in lengths:
        drawn = views_of(recipe.sampling, length, recipe.num_clips, fps=30.0)[0].tolist()
        clips = expected(length)
        each = len(drawn) // len(clips)  # clips x crops; where only one clip is expected, all have its frames
        assert drawn == [clips[i // each] for i in range(len(drawn))], length


def test_dense_clips_of_long_videos_begin_as_published():
    """TSM's linspace(0, N - 64, 10) as whole numbers in testing; in training from 0 to N - 64."""
    for length in (64, 65, 77, 100, 301):
        starts = views_of(dv.recipes.tsm("8-dense", stage="test").sampling, length, 30)[0, ::3, 0].tolist()
        assert starts == np.linspace(0, length - 64, 10, dtype=int).tolist()
    train = views_of(dv.recipes.tsm("8-dense").sampling, 80, samples=2000)[:, 0]
    assert set(train[:, 0].tolist()) == set(range(17)) and (np.diff(train) == 8).all()


def test_docs_say_which_recipes_begin_a_short_video_again():
    """Of 20 frames, a clip that ever goes back is one of those."""
    back = set()
    for family, variant, stage, dataset in EVERY:
        recipe = family.function(variant, stage=stage, dataset=dataset)
        frames = views_of(recipe.sampling, 20, recipe.num_clips, fps=30.0)[0]
        if (np.diff(frames) < 0).any():
            back.add(family.name)
    (row,) = re.findall(r"\| ([^|]*) \| numbers modulo the length of the video", text_of("recipes.md"))
    assert back == names_in(row)


def test_docs_say_which_recipes_have_one_frame_of_a_short_video():
    """Of 3 frames in 8 segments and more: training has the first only, or others, too."""
    first = set()
    for family, _, _, recipe in trainings():
        if isinstance(recipe.sampling, dv.SegmentSampling) and not views_of(recipe.sampling, 3).any():
            first.add(family.name)
    (row,) = re.findall(r"fewer frames than these \| training of (.*?); validation of `tsm`", text_of("recipes.md"))
    assert first == names_in(row)


# ---- Left and right


def mirrored_share(recipe):
    plan = dv.draw_plan(unseen_videos(100), recipe, np.arange(100))
    rows = [args["mirrored"] for args in plan.args.values() if args is not None and "mirrored" in args.dtype.names]
    return float(np.mean(rows)) if rows else 0.0


def test_recipes_warn_of_clips_that_are_mirrored_against_their_labels(capsys):
    """The program that is printed, the list of all recipes, and docs/recipes.md, by what is drawn."""
    wrong = set()
    for family, variant, dataset, recipe in trainings():
        mirrors = mirrored_share(recipe) > 0
        against = mirrors and dataset in DIRECTED
        text = program(family, variant, "train", dataset)
        assert ("WARNING: half of the clips are mirrored" in text) == against, (family.name, variant, dataset)
        assert family.mirrors(variant, dataset) == against
        wrong |= {(family.name, variant, dataset)} if against else set()
    assert wrong  # ViViT's, as published
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert listed.count("WARNING") == len({name for name, _, _ in wrong})
    said = re.search(r"two exceptions, which are as published: (.*?) With labels of", text_of("recipes.md"))[1]
    for name, variant, dataset in wrong:
        assert f'`{name}("{variant}", dataset="{dataset}")` mirrors' in said
        block = next(part for part in listed.split("\n\n") if part.startswith(f"{name}: "))
        assert f"{variant} of {dataset} is mirrored" in block
    assert names_in(said) == {name for name, _, _ in wrong} | {"vjepa2_pretrain"}
    assert mirrored_share(dv.recipes.vjepa2_pretrain()) > 0.3


def test_a_label_map_is_no_reason_for_a_warning():
    """The same flip, with a map: labels stay right."""
    family = FAMILIES["vivit"]
    mapped = dv.RandomHorizontalFlip(label_map={"left": "right"})
    recipe = dv.Recipe(dv.ClipSampling(4), (dv.RandomCrop(32), mapped))
    other = type(family)(
        lambda *a, **k: recipe, family.variants, family.stages, family.paper, family.code, family.training
    )
    assert family.mirrors("large-fe", "ssv2") and not other.mirrors("large-fe", "ssv2")


# ---- Order, sizes, arguments


def test_docs_say_which_recipes_augment_before_the_crop():
    """docs/crops.md: RandAugment on whole frames, or on the crop."""
    before, after = set(), set()
    for family, _, _, recipe in trainings():
        if "RandAugmentT" in recipe.names:
            crop = min(recipe.names.index(name) for name in CROPS & set(recipe.names))
            (before if recipe.names.index("RandAugmentT") < crop else after).add(family.name)
    said = re.search(r"do as their authors: (.*) before the crop; (.*?) have it on the crop", text_of("crops.md"))
    assert (names_in(said[1]), names_in(said[2])) == (before, after)


def boxes_of(recipe, height=240, width=320):
    """The corners of what the first op cuts out of frames, as (top, bottom, left, right), and the size of the clips."""
    plan = dv.draw_plan(unseen_videos(50, height=height, width=width), recipe, np.arange(50))
    crops = [args for args in plan.args.values() if args is not None and "out_height" in args.dtype.names]
    corners = [crops[0][name].tolist() for name in ("top", "bottom", "left", "right")]
    return corners, {(row["out_height"].item(), row["out_width"].item()) for row in crops[-1]}


@pytest.mark.parametrize("stage", dv.recipes.STAGES)
@pytest.mark.parametrize("size", [32, 80, 112, 224])
def test_another_size_of_kim2020_shows_as_much_of_the_frame(stage, size):
    published, shown = (boxes_of(dv.recipes.kim2020("cutout", stage=stage, size=s)) for s in (None, size))
    assert published[0] == shown[0] and published[1] == {(160, 160)} and shown[1] == {(size, size)}
    (top, bottom, left, right), _ = boxes_of(dv.recipes.kim2020(stage=stage, size=size), 128, 171)
    assert set(top) == {0} and set(bottom) == {128}  # all that is square, where there is no more
    assert set(np.subtract(right, left)) == {128} and (stage == "train" or set(left) == {21})


def all_asked():
    return {(f.name, variant, dataset) for f, variant, _, dataset in EVERY}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_what_was_published_beside_a_recipe_is_told_only_where_there_is_one(family):
    for variant in (*family.variants, "none"):
        for dataset in (*family.datasets, "none"):
            if (family.name, variant, dataset) in all_asked():
                assert isinstance(family.training(variant, dataset), dv.recipes.Training)
                continue
            wrong = "dataset" if variant in family.variants else family.option
            with pytest.raises(ValueError, match=f"^{family.name}: {wrong} must be one of .*, got '"):
                family.training(variant, dataset)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_a_size_that_is_none_is_told_by_the_recipe(family):
    """Never by one of its ops, whose names and values nobody gave, nor by another recipe."""
    for stage in family.stages:
        for size in (0, 15, True, "224", 224.0, 16384, 16385, 2**40):
            try:
                recipe = family.function(stage=stage, size=size)
            except ValueError as error:
                assert str(error).startswith(f"{family.name}: size must be ") and f"got {size!r}" in str(error)
            else:
                assert size == 16384 and recipe
