"""What a plan is: pinned draws, addresses, crops and their distributions, files."""

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from conftest import make_videos

import dali_vidaug as dv
from dali_vidaug.drawing import draw_ops
from dali_vidaug.plan import Plan
from dali_vidaug.rng import Draws


class EqualVideos:
    """Stands for a manifest of a million equal videos: draw_plan needs only lengths and sizes."""

    def videos(self, samples):
        return make_videos([0] * len(samples), [300] * len(samples))

    def frame_sizes(self, samples):
        return np.full(len(samples), 256), np.full(len(samples), 340)


PINNED_RECIPE = dv.Recipe(
    sampling=dv.ClipSampling(num_frames=4, stride=(1, 3)),
    ops=(dv.RandomResizedCrop(224), dv.RandomHorizontalFlip(), dv.Normalize()),
)

# first frame, stride; top, left, bottom, right; mirrored: of samples 0 to 9, seed 42, epoch 1. A change of these is a
# change of everybody's training: raise PLAN_VERSION and say so in the changelog.
PINNED = [
    (132, 1, 23, 118, 211, 339, 0),
    (239, 2, 7, 74, 240, 297, 0),
    (63, 1, 8, 4, 241, 200, 0),
    (74, 1, 29, 82, 235, 245, 1),
    (269, 1, 26, 27, 248, 262, 0),
    (291, 1, 51, 60, 241, 242, 1),
    (288, 2, 59, 96, 198, 250, 0),
    (51, 1, 34, 72, 218, 261, 1),
    (290, 2, 56, 46, 255, 257, 0),
    (45, 1, 12, 241, 128, 338, 0),
]


def numbers_of(plan, i):
    """What a clip gets, as numbers in the order of ``PINNED``."""
    frames = plan.frames[i]
    crop = plan.args["RandomResizedCrop"][i]
    mirrored = plan.args["RandomHorizontalFlip"][i]["mirrored"]
    box = [int(crop[n]) for n in ("top", "left", "bottom", "right")]
    return (int(frames[0]), int(frames[1] - frames[0]), *box, int(mirrored))


def test_ten_plans_are_pinned():
    plan = dv.draw_plan(EqualVideos(), PINNED_RECIPE, np.arange(10), seed=42, epoch=1)
    assert [numbers_of(plan, i) for i in range(10)] == PINNED


def test_the_plan_of_a_clip_does_not_depend_on_its_batch():
    whole = dv.draw_plan(EqualVideos(), PINNED_RECIPE, np.arange(100), seed=1, epoch=2)
    for samples in ([7], [99, 7, 3], [7, 7]):
        part = dv.draw_plan(EqualVideos(), PINNED_RECIPE, samples, seed=1, epoch=2)
        for i, sample in enumerate(samples):
            assert numbers_of(part, i) == numbers_of(whole, sample)


def test_seed_epoch_sample_and_view_each_change_it():
    plans = [
        dv.draw_plan(EqualVideos(), PINNED_RECIPE, [5, 6], seed, epoch, views=view)
        for seed, epoch, view in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    assert len({numbers_of(p, i) for p in plans for i in range(2)}) == 8


def test_adding_an_op_does_not_change_the_draws_of_the_others():
    @dataclass(frozen=True)
    class Extra:
        def draw(self, draws, frames, height, width):
            return draws.integers("x", 9).astype([("value", "i4")])

        def build(self, fn, clips, args):
            return clips

    more = dv.Recipe(
        PINNED_RECIPE.sampling,
        (Extra(), *PINNED_RECIPE.ops[:2], Extra(), dv.RandomHorizontalFlip(), PINNED_RECIPE.ops[2]),
    )
    a, b = (dv.draw_plan(EqualVideos(), r, np.arange(50)) for r in (PINNED_RECIPE, more))
    assert (a.frames == b.frames).all()
    for name in ("RandomResizedCrop", "RandomHorizontalFlip"):
        assert (a.args[name] == b.args[name]).all()
    assert list(b.args) == [
        "Extra",
        "RandomResizedCrop",
        "RandomHorizontalFlip",
        "Extra_2",
        "RandomHorizontalFlip_2",
        "Normalize",
    ]
    assert (b.args["Extra"] != b.args["Extra_2"]).any()  # two of one kind draw differently
    assert (b.args["RandomHorizontalFlip"] != b.args["RandomHorizontalFlip_2"]).any()


def test_random_resized_crop_in_distribution():
    n = 40_000
    draws, size = Draws(3, 0, np.arange(n)), np.full(n, 240)
    args = dv.RandomResizedCrop(112, scale=(0.25, 0.75), ratio=(0.5, 2.0)).draw(draws, size, size, np.full(n, 320))
    height, width = args["bottom"] - args["top"], args["right"] - args["left"]
    assert (args["top"] >= 0).all() and (args["left"] >= 0).all()
    assert (args["bottom"] <= 240).all() and (args["right"] <= 320).all()
    area, ratio = height * width / (240 * 320), width / height
    assert area.min() > 0.24 and area.max() < 0.76 and ratio.min() > 0.49 and ratio.max() < 2.03
    # where every draw fits (a small box), area is uniform and log ratio is too
    small = dv.RandomResizedCrop(112, scale=(0.01, 0.11), ratio=(0.5, 2.0)).draw(draws, size, size, np.full(n, 320))
    height, width = small["bottom"] - small["top"], small["right"] - small["left"]
    for values, low, high in (
        (height * width / (240 * 320), 0.01, 0.11),
        (np.log(width / height), np.log(0.5), np.log(2)),
    ):
        mean, sd = (low + high) / 2, (high - low) / np.sqrt(12)
        assert abs(values.mean() - mean) < 6 * sd / np.sqrt(n)
        assert abs(values.std() - sd) < 0.02 * sd
    free = 240 - height
    assert abs((small["top"] / np.maximum(free, 1)).mean() - 0.5) < 0.01


def test_random_resized_crop_falls_back_to_the_middle():
    """A frame so flat that no drawn box fits: the largest box of an allowed ratio, centred."""
    draws = Draws(0, 0, np.arange(20))
    args = dv.RandomResizedCrop(8, scale=(0.9, 1.0)).draw(draws, np.full(20, 4), np.full(20, 30), np.full(20, 900))
    assert {tuple(r) for r in args.tolist()} == {(0, 430, 30, 470, 8, 8)}  # 30 x 40: ratio 4/3


def test_resize_and_center_crop():
    draws = Draws(0, 0, [0, 1])
    sizes = np.array([4, 4]), np.array([240, 640]), np.array([426, 360])
    assert dv.Resize(256).draw(draws, *sizes).tolist() == [(0, 0, 240, 426, 256, 454), (0, 0, 640, 360, 455, 256)]
    assert dv.Resize((50, 60)).draw(draws, *sizes)[0].tolist() == (0, 0, 240, 426, 50, 60)
    assert dv.CenterCrop((100, 201)).draw(draws, *sizes).tolist() == [
        (70, 112, 170, 313, 100, 201),
        (270, 79, 370, 280, 100, 201),
    ]
    with pytest.raises(ValueError, match="CenterCrop: size 300x300 is larger than the 240x426 frames .* of sample 0"):
        dv.CenterCrop(300).draw(draws, *sizes)


def test_ops_see_the_sizes_that_the_ops_before_them_leave():
    ops = (dv.Resize(100), dv.CenterCrop((80, 90)), dv.RandomResizedCrop((64, 32)))
    args, frames, height, width = draw_ops(dv.Recipe(ops=ops), Draws(0, 0, [0]), [1], [200], [400])
    assert args["CenterCrop"][0].tolist() == (10, 55, 90, 145, 80, 90)
    assert args["RandomResizedCrop"][0]["bottom"] <= 80 and (frames[0], height[0], width[0]) == (1, 64, 32)


def test_flip_probability():
    flips = dv.RandomHorizontalFlip(0.25).draw(Draws(0, 0, np.arange(20_000)), *[np.ones(20_000)] * 3)["mirrored"]
    assert abs(flips.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 20_000)
    for p in (0, 1):
        assert (dv.RandomHorizontalFlip(p).draw(Draws(0, 0, np.arange(99)), *[np.ones(99)] * 3)["mirrored"] == p).all()


def test_save_load_describe(tmp_path):
    plan = dv.draw_plan(EqualVideos(), PINNED_RECIPE, [4, 9], seed=2**63, epoch=7, views=3)
    plan.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    assert again.recipe == PINNED_RECIPE and (again.seed, again.epoch, again.views.tolist()) == (2**63, 7, [3, 3])
    assert (again.samples == plan.samples).all() and (again.frames == plan.frames).all()
    assert again.args.keys() == plan.args.keys() and again.args["Normalize"] is plan.args["Normalize"] is None
    for name in ("RandomResizedCrop", "RandomHorizontalFlip"):
        assert again.args[name].dtype == plan.args[name].dtype and (again.args[name] == plan.args[name]).all()
    text = again.describe(1)
    crop = plan.args["RandomResizedCrop"][1]
    assert "sample 9, seed 9223372036854775808, epoch 7, view 3" in text
    assert f"top {crop['top']}, left {crop['left']}" in text and ", ".join(map(str, plan.frames[1])) in text
    assert json.loads((tmp_path / "plan.json").read_text())["format"] == 2
    (tmp_path / "no.json").write_text('{"samples": []}')
    with pytest.raises(ValueError, match="is not a plan"):
        Plan.load(tmp_path / "no.json")
    (tmp_path / "no.json").write_bytes(b"PAR1\xff" * 1000)
    with pytest.raises(ValueError, match=r"no\.json is not a plan saved by Plan\.save: it is not text$"):
        Plan.load(tmp_path / "no.json")


def test_a_clip_that_a_plan_does_not_have_is_an_error():
    plan = dataclasses.replace(dv.draw_plan(EqualVideos(), PINNED_RECIPE, [4, 9, 5], seed=0, epoch=0), manifest=None)
    for i in (3, -4):
        for ask in (plan.row, plan.describe):
            with pytest.raises(IndexError, match=f"plan: there is no clip {i}; it has 3"):
                ask(i)
    assert plan.row(-1).samples.tolist() == [5] and plan.row(-1).describe(-1) == plan.describe(2)


def test_repr_of_a_recipe_is_python_and_is_read_back():
    recipe = dv.Recipe(dv.ClipSampling(8, (1, 4), short="loop"), (dv.Resize((20, 30)), dv.RandomHorizontalFlip(0.1)))
    assert eval(repr(recipe), vars(dv) | {"RandomResizedCrop": dv.RandomResizedCrop}) == recipe
    assert dv.Recipe.parse(repr(recipe)) == recipe


@pytest.mark.parametrize(
    "text, message",
    [
        ("__import__('os').getcwd()", "must be what repr.recipe. gives, got __import__"),
        ("Recipe(ops=(open('x'),))", "must be what repr.recipe. gives, got open"),
        ("Recipe(ops=(RandomResizedCrop(224),))", "arguments must have names, .* got RandomResizedCrop.224.$"),
        ("Recipe(ops=(Resize(sise=8),))", "Recipe: .*unexpected keyword argument 'sise'"),
        ("Resize(size=3)", "is not a Recipe"),
        ("Recipe(", "cannot read 'Recipe\\('"),
        ("Recipe(ops=(Nope(),))", "Nope is not known; known are .*CenterCrop"),
    ],
)
def test_parse_runs_no_code(text, message):
    with pytest.raises(ValueError, match=message):
        dv.Recipe.parse(text)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: dv.RandomHorizontalFlip(probability=1.5), r"Flip: probability must be in \[0, 1\], got 1.5"),
        (lambda: dv.RandomHorizontalFlip(probability=float("nan")), "probability"),
        (lambda: dv.RandomResizedCrop(0), "RandomResizedCrop: size .* got 0"),
        (lambda: dv.RandomResizedCrop(8, scale=(0.5, 0.1)), r"RandomResizedCrop: scale .* got \(0.5, 0.1\)"),
        (lambda: dv.RandomResizedCrop(8, ratio=(0, 1)), "RandomResizedCrop: ratio"),
        (lambda: dv.Resize((1, 2, 3)), "Resize: size"),
        (lambda: dv.CenterCrop("big"), "CenterCrop: size"),
        (lambda: dv.Normalize(std=(0, 1, 1)), "Normalize: std"),
        (lambda: dv.Normalize(mean=(2, 0, 0)), "Normalize: mean"),
        (lambda: dv.Recipe(ops=(dv.Normalize(), dv.Resize(3))), "Normalize must be the last"),
        (lambda: dv.Recipe(ops=("flip",)), "an op needs draw, and build or run; or retime; got 'flip'"),
        (lambda: dv.Recipe(ops=(dv.Resize,)), r"or retime; got <class .*Resize'>: write Resize\(...\)"),
        (lambda: dv.Recipe(ops=dv.Resize(8)), r"Recipe: ops must be several, such as .*, got Resize\(size=8\)"),
        (lambda: dv.Recipe.parse("Recipe()", dv.Resize), "classes must be a list of classes, .* got <class"),
        (lambda: dv.Recipe.parse("Recipe()", [dv.Resize()]), "classes must be a list of classes, .* got .Resize"),
        (lambda: Draws(0, 0, [0], prefix="Op").uniform(0.6, 1.4), "Op: the purpose of draws must be a word, .* 0.6$"),
        (lambda: dv.Recipe(sampling=16), "sampling must be a sampler, such as ClipSampling\\(\\), got 16"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_planning_needs_only_numpy():
    code = (
        "import sys, types; sys.modules['dali_vidaug'] = p = types.ModuleType('dali_vidaug');"
        f"p.__path__ = [{str(next(iter(dv.__path__)))!r}];"
        "import dali_vidaug.drawing; print(sorted(m for m in sys.modules if m.split('.')[0] in "
        "('torch', 'nvidia', 'cupy', 'av', 'pyarrow', 'PIL')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout
