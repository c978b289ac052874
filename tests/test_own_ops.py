"""Ops of a user's own that contradict what they declare: refused and named, never a wrong label or pixel."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import write_numbered

import dali_vidaug as dv
from dali_vidaug.ops import CROP


class Op:
    """Draws ``args``, one row for each clip, and builds nothing."""

    args: object = None

    def draw(self, draws, frames, height, width):
        return None if self.args is None else np.array([self.args[0]] * len(draws), self.args[1])

    def build(self, fn, clips, args):
        return clips


def half(self, fn, clips, args):
    return fn.sequence_rearrange(clips, new_order=[0, 2, 4, 6])


def make(**members):
    return type("Mine", (Op,), members)()


def two_clips():
    return [np.zeros((8, 16, 16, 3), np.uint8), np.full((8, 16, 16, 3), 255, np.uint8)]


@pytest.mark.parametrize("after", [(), (dv.FrameCutMix(),), (dv.RandAugmentT(),)], ids=["alone", "mixed", "ramped"])
@pytest.mark.parametrize("says", [None, 3, 8, 40])
def test_another_number_of_frames_than_the_op_says(says, after):
    """Labels and ramps are drawn for what it says: the label would be wrong."""
    op = make(build=half, args=says and ((says,), [("out_frames", "i4")]))
    with pytest.raises((RuntimeError, ValueError), match="but (its|their) arguments (are for|say)|values for"):
        dv.augment(two_clips(), (op, *after), np.eye(2), device="cpu")


def test_the_true_number_of_frames():
    op = make(build=half, args=((4,), [("out_frames", "i4")]))
    for seed in range(8):
        batch = dv.augment(two_clips(), (op, dv.FrameCutMix()), np.eye(2), seed=seed, device="cpu")
        assert batch.clips.shape == (2, 4, 16, 16, 3)
        shown = (batch.clips.float() / 255).mean((1, 2, 3, 4))  # how much of each clip is the white one's
        assert torch.allclose(shown, batch.targets[:, 1])


@pytest.mark.parametrize("build, message", [
    (lambda self, fn, clips, args: fn.resize(clips, size=[8, 8]), r"as \(3, 8, 8, 8\) .* say \(3, 8, 16, 16\)"),
    (lambda self, fn, clips, args: fn.transpose(clips, perm=[0, 3, 1, 2]), "leaves the ops Mine"),
    (lambda self, fn, clips, args: clips[:, :, :, 0:1], "leaves the ops Mine"),
    (lambda self, fn, clips, args: None, "Mine.build must return one node of DALI's graph, got None"),
    (lambda self, fn, clips, args: (clips, clips), "Mine.build must return one node"),
])  # fmt: skip
def test_another_shape_than_the_op_says(build, message):
    with pytest.raises((TypeError, ValueError), match=message):
        dv.augment(two_clips(), (make(build=build),), device="cpu")


@pytest.mark.parametrize("after", [dv.RandomResizedCrop(4), dv.Resize((4, 4))], ids=["crop", "resize"])
@pytest.mark.parametrize("side", [4, 40])
def test_another_size_that_a_crop_would_hide(side, after):
    """The crop's box is drawn for the size that the op says: DALI would read outside of the frame."""
    op = make(build=lambda self, fn, clips, args: fn.resize(clips, size=[side, side]))
    clips = [np.zeros((8, 1000, 1000, 3), np.uint8)]
    with pytest.raises(
        ValueError, match=rf"leaves the ops Mine as \(3, 8, {side}, {side}\) .* say \(3, 8, 1000, 1000\)"
    ):
        dv.augment(clips, (op, after, dv.RandomHorizontalFlip()), device="cpu")


@pytest.mark.parametrize("args, message", [
    (((0,), [("out_frames", "i4")]), r"out_frames must be in \[1, 32768\], got 0"),
    (((-4,), [("out_frames", "i4")]), "out_frames must be in .* got -4"),
    (((np.nan,), [("out_frames", "f4")]), "out_frames must be one integer for each clip, got float32"),
    (((4,), [("out_height", "i4")]), "out_height and out_width both, or neither"),
    (((4,), [("out_width", "i4")]), "out_height and out_width both, or neither"),
])  # fmt: skip
def test_sizes_that_cannot_be(args, message):
    with pytest.raises((TypeError, ValueError), match=f"Mine: .*{message}"):
        dv.augment(two_clips(), (make(args=args),), device="cpu")


@pytest.mark.parametrize("rows", [
    np.zeros(1, [("x", "f4")]), np.zeros((2, 1), [("x", "f4")]), np.zeros(2, "f4"), [1, 2], 3,
], ids=str)  # fmt: skip
def test_rows_that_are_none(rows):
    with pytest.raises(TypeError, match=r"Mine.draw must return None or a structured array of 2 rows, got"):
        dv.augment(two_clips(), (make(draw=lambda *arguments: rows),), device="cpu")


@pytest.mark.parametrize("kind", ["?", ">f4", "U4"])
def test_arguments_that_dali_does_not_have(kind):
    def build(self, fn, clips, args):
        return fn.brightness(clips, brightness=args["x"])

    with pytest.raises(TypeError, match="Mine: argument x is .*, which DALI does not have"):
        dv.augment(two_clips(), (make(build=build, args=((1,), [("x", kind)])),), device="cpu")


def test_an_argument_that_is_read_for_nothing():
    def build(self, fn, clips, args):
        args["x"]
        return clips

    with pytest.raises(TypeError, match=r"Mine.x: build reads this argument, but its result does not depend on it"):
        dv.augment(two_clips(), (make(build=build, args=((1,), [("x", "f4")])),), device="cpu")


@pytest.mark.parametrize("args", [None, ((1,), [("flipped", "i4")])])
def test_a_mirror_draws_the_field_mirrored(args):
    """Before Normalize it is not built: without the field the clip would not be mirrored."""
    op = make(mirrors=True, args=args, build=lambda self, fn, clips, args: fn.flip(clips, horizontal=1))
    with pytest.raises(TypeError, match="an op with mirrors = True draws the field mirrored"):
        dv.augment(two_clips(), (op, dv.Normalize()), device="cpu")


def test_the_name_of_an_earlier_release_is_refused():
    with pytest.raises(ValueError, match="mix_targets of Mine is not called; its name is targets now"):
        dv.Recipe(ops=(make(mix_targets=lambda self, args, targets: targets[::-1]),))


@pytest.mark.parametrize("returned", [
    lambda t: t[:1], lambda t: t.T, lambda t: t.argmax(1), lambda t: t * np.nan, lambda t: t.astype(int),
])  # fmt: skip
def test_targets_that_are_none(returned):
    op = make(targets=lambda self, args, targets: returned(targets))
    with pytest.raises(TypeError, match=r"Mine.targets must return \(2, 3\) finite floats, got"):
        dv.augment(two_clips(), (op,), np.eye(3)[:2], device="cpu")


def test_targets_in_double_precision_are_rounded():
    op = make(targets=lambda self, args, targets: targets.astype(np.float64) * 0.5)
    targets = dv.augment(two_clips(), (op,), np.eye(2), device="cpu").targets
    assert targets.dtype == torch.float32 and targets.tolist() == [[0.5, 0], [0, 0.5]]


@pytest.mark.parametrize("partner, own", [
    ([0, 2], [1, 1]), ([-1, 0], [1, 1]), ([1, 0], [7, 1]), ([1, 0], [np.nan, 1]), ([0], [1]), ([0.0, 1.0], [1, 1]),
])  # fmt: skip
def test_partners_that_are_none(partner, own):
    op = make(mixed_with=lambda self, args: (np.array(partner), np.array(own, float)))
    with pytest.raises((TypeError, ValueError), match="Mine.mixed_with"):
        dv.augment(two_clips(), (op,), np.eye(2), device="cpu")


def test_arguments_of_another_dtype_than_those_of_the_first_batch(numbered_manifest):
    @dataclass(frozen=True)
    class Sometimes:
        def draw(self, draws, frames, height, width):
            return np.full(len(draws), 2, [("factor", "f4")]) if 11 in draws.samples else None

        def build(self, fn, clips, args):
            return fn.brightness(clips, brightness=args["factor"]) if "factor" in args else clips

    recipe = dv.Recipe(dv.ClipSampling(2), (dv.Resize((16, 16)), Sometimes()))
    loader = dv.VideoLoader(numbered_manifest, recipe, 4, device="cpu", shuffle=False)
    with loader, pytest.raises(TypeError, match=r"Sometimes: arguments are .*factor.*, but .* earlier batch were \[\]"):
        list(loader)


class Crop(Op):
    """In the decoder: all but the right half, in one of several ways to read the arguments."""

    in_decoder = True

    def __init__(self, how):
        self.how = how

    def draw(self, draws, frames, height, width):
        args = np.zeros(len(draws), CROP)
        args["bottom"], args["right"] = height, width // 2
        args["out_height"], args["out_width"] = height, width // 2
        return args

    def build(self, fn, clips, args):
        assert "top" in args and "speed" not in args and args.num_threads >= 1 and args.dtype is not None
        size = args["out_height", "out_width"]
        if self.how == "rows":
            size = size + 0 * fn.reductions.sum(args.rows())
        start = args["top", "left"]
        return fn.slice(clips, start, size, axis_names="HW", normalized_anchor=False, normalized_shape=False)


@pytest.fixture(scope="module")
def both_decoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("both")
    for i in range(4):
        options = {"codec": "mjpeg", "options": {"q:v": "3"}, "pixel_format": "yuvj420p"} if i % 2 else {}
        write_numbered(folder / "a" / f"{i}.{'avi' if i % 2 else 'mp4'}", 20, **options)
    return dv.scan(folder, progress=False)


@pytest.mark.parametrize("how", ["fields", "rows"])
def test_an_op_in_the_decoder_reads_its_arguments_for_both_decoders(how, both_decoders):
    recipe = dv.Recipe(dv.ClipSampling(2), (Crop(how),))
    plan = dv.draw_plan(both_decoders, recipe, range(4))
    clips = []
    for options in (dict(decoder="hybrid"), dict(decoder="pyav"), dict(decoder="pyav", resize_in_decoder=False)):
        with dv.VideoLoader(both_decoders, recipe, 4, device="cpu", **options) as loader:
            clips.append(loader.apply(plan).clips)
    assert clips[0].shape == (4, 3, 2, 96, 80)
    for i in range(4):  # DALI decodes the odd ones, and leaves the crop to the graph
        assert torch.equal(clips[0][i], clips[2 if i % 2 else 1][i])


def test_an_op_in_the_decoder_draws_crops(numbered_manifest):
    recipe = dv.Recipe(dv.ClipSampling(2), (make(in_decoder=True, args=((1,), [("x", "f4")])),))
    with pytest.raises(TypeError, match="Mine: an op with in_decoder = True draws ops.CROP"):
        dv.VideoLoader(numbered_manifest, recipe, 2, device="cpu")
    outside = make(in_decoder=True, args=((0, 100, 50, 170, 50, 70), CROP))
    with pytest.raises(ValueError, match=r"Mine: the box of clip 0, rows \[0, 50\) and columns \[100, 170\), is not"):
        dv.VideoLoader(numbered_manifest, dv.Recipe(dv.ClipSampling(2), (outside,)), 2, device="cpu")


@dataclass(frozen=True)
class LabelSmoothing:
    """A user's own, called like one of the package."""

    amount: float = 0.5

    def draw(self, draws, frames, height, width):
        return None

    def build(self, fn, clips, args):
        return clips

    def targets(self, args, targets):
        return targets * np.float32(self.amount)


def test_a_class_that_is_named_is_used_in_place_of_the_packages(tmp_path):
    recipe = dv.Recipe(ops=(LabelSmoothing(0.25),))
    assert dv.Recipe.parse(repr(recipe), [LabelSmoothing]) == recipe
    assert dv.Recipe.parse(repr(recipe)).ops == (dv.LabelSmoothing(0.25),)


def test_num_clips_is_part_of_what_a_state_must_agree_with(numbered_manifest):
    class Several:
        num_clips = 2

        def __repr__(self):
            return "Several()"

        def draw(self, draws, videos):
            return np.stack([videos.first, videos.first + 1], 1)

    first, second = Several(), Several()
    second.num_clips = 3
    states = [dv.VideoLoader(numbered_manifest, dv.Recipe(sampler, (dv.Resize((8, 8)),)), 2, device="cpu")
              for sampler in (first, second)]  # fmt: skip
    with pytest.raises(ValueError, match="num_clips is 2, the state's 3"):
        states[0].load_state_dict(states[1].state_dict())
