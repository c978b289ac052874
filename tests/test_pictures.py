"""Pictures: frames are where they are said to be, as the kernels made them."""

import numpy as np
import pytest
from conftest import RECIPE, assert_pixels, numbered_frame, patterned_clip

import dali_vidaug as dv
from dali_vidaug.commands import ops_picture as ops_picture_module
from dali_vidaug.commands import pictures
from dali_vidaug.commands.demo import example_clip
from dali_vidaug.commands.ops_picture import GROUPS, named_ops
from dali_vidaug.commands.pictures import contact_sheet, mix_picture, mixing_ops, ramp_picture
from dali_vidaug.ops import CubeCutout, Cutout, Mix, OneOf, RandAugmentT, RandomErasing, name_of
from dali_vidaug.ops.blend import blend, own_share
from dali_vidaug.ops.mix import FAMILIES
from dali_vidaug.rng import Draws
from dali_vidaug.strips import GAP, LINE, MARGIN, SIDE, Strip, draw_strips


def frame_at(picture, top, left, height, width):
    """A part of a picture, (height, width, 3)."""
    return np.asarray(picture)[top : top + height, left : left + width]


def test_frames_of_a_strip_are_evenly_chosen_and_below_its_text():
    clip = np.stack([numbered_frame(i) for i in range(9)])
    picture = draw_strips([Strip(clip, ["one", "two"]), Strip(clip[:3], captions=["a", "b", "c"])], 96, 5)
    assert picture.size == (2 * MARGIN + 5 * 160 + 4 * GAP, 3 * MARGIN + 3 * LINE + 2 * 96)
    for top, frames in ((MARGIN + 2 * LINE, clip[::2]), (2 * MARGIN + 3 * LINE + 96, clip[:3])):
        for i, frame in enumerate(frames):
            assert (frame_at(picture, top, MARGIN + i * (160 + GAP), 96, 160) == frame).all()
        assert np.ptp(frame_at(picture, top - LINE, MARGIN, LINE, 160)) > 100  # text


@pytest.mark.parametrize("suite, strips", [("monotonic", 15), ("kim2020", 14)])
def test_ramps_have_a_strip_for_each_op(suite, strips):
    clip = patterned_clip((5, 30, 40))
    picture = ramp_picture(clip, RandAugmentT(suite=suite, magnitude=5.0), num_frames=4, height=60)
    assert picture.size == (SIDE + 2 * MARGIN + 4 * 80 + 3 * GAP, MARGIN + strips * (LINE + 60 + MARGIN))


def test_ramps_show_what_the_kernels_make():
    clip = patterned_clip((5, 30, 40))
    picture = ramp_picture(clip, ops=("Invert",), num_frames=5, height=30)
    assert picture.height == MARGIN + LINE + 30 + MARGIN
    for i in range(5):  # at their own size
        frame = frame_at(picture, MARGIN + LINE, SIDE + MARGIN + i * (40 + GAP), 30, 40)
        assert (frame == 255 - clip[i]).all()
    assert np.ptp(frame_at(picture, MARGIN, MARGIN, LINE, SIDE - MARGIN)) > 100  # the name of the op


def kept_share(rows):
    """How much of the first clip is still there; erased pixels count like those of a partner."""
    row = rows[:1].copy()
    row["partner"] = 0
    return own_share(row)[0]


@pytest.mark.parametrize("op", [*map(Mix, FAMILIES), RandomErasing(1.0), CubeCutout(), OneOf()], ids=str)
def test_mixing_shows_the_clips_and_the_result(op):
    clips = [np.stack([numbered_frame(10 * k + i) for i in range(6)]) for k in range(3)]
    draws = [Draws(5, epoch, np.arange(3), prefix=name_of(op)) for epoch in range(50)]
    candidates = [op.draw(draw, 6, 96, 160) for draw in draws]
    picture = mix_picture([op], clips, ["boxing", "juggling", "rowing"], seed=5, num_frames=6, height=96)
    assert picture.width == 2 * MARGIN + 6 * 160 + 5 * GAP

    def frames_at(top):
        return np.stack([frame_at(picture, top, MARGIN + i * (160 + GAP), 96, 160) for i in range(6)])

    result = frames_at(picture.height - MARGIN - 96)
    rows = next(rows for rows in candidates if (blend(clips, rows)[0] == result).all())
    assert abs(kept_share(rows) - 0.6) <= min(abs(kept_share(other) - 0.6) for other in candidates) + 0.1
    partner, top = rows["partner"][0], MARGIN
    for clip in (clips[0], *([clips[partner]] if partner > 0 else [])):
        assert (frames_at(top + LINE) == clip).all()
        top += LINE + 96 + MARGIN
    assert picture.height == top + 2 * LINE + 96 + MARGIN


def test_several_ops_are_shown_below_each_other():
    clips = [np.full((4, 20, 30, 3), level, np.uint8) for level in (50, 200)]
    ops = mixing_ops("all")
    assert len(ops) == len(FAMILIES) + 4 == 13
    picture = mix_picture(ops, clips, num_frames=4, height=20)
    assert picture.height == MARGIN + 2 * (LINE + 20 + MARGIN) + 13 * (2 * LINE + 20 + MARGIN)


def test_ops_that_mix_and_erase_are_found_by_name():
    assert mixing_ops("cubemix") == [Mix("CubeCutMix")] and mixing_ops("CUTOUT") == [Cutout()]
    assert mixing_ops("RandomErasing") == [RandomErasing(1.0)]
    with pytest.raises(ValueError, match="--mix: must be all or one of CutMix, .*, Cutout, .* got nomix"):
        mixing_ops("nomix")


def test_a_contact_sheet_shows_frames_of_a_batch_with_their_colours(numbered_manifest):
    """Normalisation is undone; there is a strip for each clip."""
    ops = (dv.Resize((96, 160)), dv.Normalize((0.4, 0.5, 0.6), (0.1, 0.2, 0.3)))
    with dv.VideoLoader(numbered_manifest, dv.Recipe(RECIPE.sampling, ops), 3, device="cpu") as loader:
        batch = next(iter(loader))
        plain = loader.apply(dv.draw_plan(numbered_manifest, dv.Recipe(RECIPE.sampling, ops[:1]), batch.samples))
    picture = contact_sheet(batch, num_clips=2, num_frames=4, height=96)
    assert picture.size == (2 * MARGIN + 4 * 160 + 3 * GAP, MARGIN + 2 * (2 * LINE + 96 + MARGIN))
    for i in range(2):
        for t in range(4):
            shown = frame_at(
                picture, MARGIN + 2 * LINE + i * (2 * LINE + 96 + MARGIN), MARGIN + t * (160 + GAP), 96, 160
            )
            assert_pixels(shown, plain.clips[i, :, t].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("num_frames", [3, 4, 16])
@pytest.mark.parametrize("seed", range(0, 60, 7))
def test_no_strip_shows_a_mix_of_nothing(seed, num_frames, monkeypatch):
    """Whatever the seed, each op that can mix or erase clips of this length does so in the strip that is drawn."""
    clips = [np.full((num_frames, 24, 32, 3), level, np.uint8) for level in (40, 220)]
    drawn = []
    monkeypatch.setattr(pictures, "draw_strips", lambda strips, height, num_frames: drawn.extend(strips))
    mix_picture([*mixing_ops("all"), Mix("CutMix", probability=0.02), OneOf(weights=(0.99, 0.01))], clips, seed=seed)
    results = [strip for strip in drawn if len(strip.lines) == 2]
    assert len(results) == 15
    for strip in results:
        assert (strip.frames != clips[0]).any() and (strip.frames != clips[1]).any(), strip.lines
        assert "1.000 A + 0.000 B" not in strip.lines[1] and "0.000 A + 1.000 B" not in strip.lines[1]
        assert "unchanged" not in strip.lines[0]


def test_an_op_that_cannot_change_such_clips_says_so(monkeypatch):
    """A share of two frames, halved and rounded down, is none."""
    drawn = []
    monkeypatch.setattr(pictures, "draw_strips", lambda strips, height, num_frames: drawn.extend(strips))
    clips = [np.full((2, 24, 32, 3), level, np.uint8) for level in (40, 220)]
    mix_picture([Mix("FrameCutMix"), Mix("MixUp")], clips)
    assert drawn[-2].lines == ["FrameCutMix: unchanged in 1000 draws", "label 1.000 A"]
    assert "unchanged" not in drawn[-1].lines[0]


def test_a_strip_for_each_op_shows_what_the_op_makes(monkeypatch):
    """With its options, and what was drawn: the frames are those of the plan that is described."""
    clips, drawn = [np.stack([numbered_frame(10 * k + i) for i in range(6)]) for k in range(2)], []
    monkeypatch.setattr(ops_picture_module, "draw_strips", lambda strips, height, num_frames: drawn.extend(strips))
    ops = [
        dv.RandomRotation(20.0, ramp="temporal"),
        dv.CubeCutMix(),
        dv.Reverse(1.0),
        dv.CenterCrop(48),
        dv.ThreeCrop(48),
    ]
    ops_picture_module.ops_picture([*ops, dv.RandomVerticalFlip(1.0)], clips, seed=7)
    clip, turned, mixed, backwards, middle, views, flipped = drawn
    assert (clip.frames == clips[0]).all()
    batches = [dv.augment([clips[0]], ops[:1], layout="FHWC", seed=7, epoch=e, device="cpu").clips[0] for e in range(9)]
    spreads = [np.ptp(np.abs(b.numpy().astype(np.float32) - clips[0]).mean((1, 2, 3))) for b in batches]
    assert (turned.frames == batches[int(np.argmax(spreads))].numpy()).all()
    assert turned.lines[0] == "RandomRotation(degrees=20.0, ramp='temporal')" and "rotation " in turned.lines[1]
    own = (mixed.frames == clips[0]).all(-1)
    assert own.any() and ((mixed.frames == clips[1]).all(-1) | own).all() and "own share" in mixed.lines[1]
    assert (backwards.frames == clips[0][::-1]).all() and backwards.captions == list("543210")
    assert (
        middle.frames.shape == clips[0].shape and (middle.frames[:, :, :20] == 255).all()
    )  # 48 x 48, centred on white
    assert len(views.frames) == 3 and "view" in views.lines[1]
    assert (flipped.frames == clips[0][:, ::-1]).all() and flipped.lines == ["RandomVerticalFlip(probability=1.0)"]


def test_ops_are_found_by_name_group_and_as_they_are_written():
    assert named_ops(["randomgrayscale", "Flicker"]) == [dv.RandomGrayscale(1.0), dv.Flicker()]
    assert named_ops(["CubeCutMix()", "dv.CutMix()", "Flicker()"]) == [dv.CubeCutMix(), dv.CutMix(), dv.Flicker()]
    assert named_ops(["dv.RandomRotation(30, ramp='mix')"]) == [dv.RandomRotation(30, ramp="mix")]
    assert named_ops(["RandomApply(GaussianBlur(sigma=1.0), 0.3)"]) == [dv.RandomApply(dv.GaussianBlur(sigma=1.0), 0.3)]
    assert named_ops(["color", "GEOMETRY"]) == [*GROUPS["color"], *GROUPS["geometry"]]
    names = {dv.ops.name_of(op) for op in named_ops(["all"])}
    public = {n for n in dv.ops.__all__ if n not in ("CROP", "is_on_time", "name_of", "op_names", "register_module")}
    assert public - {"LabelSmoothing", "Normalize", "TorchModule"} <= names | {
        "Mix",
        "RandAugment",
        "TrivialAugment",
        "VideoMix",
    }
    for text, message in (
        ("Rotation", "Recipe: must be what .* got Rotation; ops are all, geometry, color, BackgroundMix,"),
        ("Normalize()", "what Normalize does cannot be drawn"),
        ("RandomRotation(400)", "RandomRotation: "),
        ("RandomRotation(", r"cannot read 'RandomRotation\('"),
        ("RandomRotation(3, degrees=4)", "an argument of RandomRotation is given twice"),
        ("__import__('os')", "Recipe: must be what"),
    ):
        with pytest.raises(ValueError, match=f"^--ops: {message}"):
            named_ops([text])


@pytest.mark.slow
@pytest.mark.parametrize("op", named_ops(["all"]), ids=dv.ops.name_of)
def test_every_op_is_seen_in_its_strip(op, monkeypatch):
    """With the options that its name stands for, the strip differs from the clip."""
    drawn = []
    monkeypatch.setattr(ops_picture_module, "draw_strips", lambda strips, height, num_frames: drawn.extend(strips))
    clips = [example_clip(6), 255 - example_clip(6)[:, :, ::-1]]
    ops_picture_module.ops_picture([op], clips)
    clip, made = drawn
    assert made.frames.shape[1:] == clip.frames.shape[1:] and made.lines[0].endswith(")")
    same = made.frames.shape == clip.frames.shape and (made.frames == clip.frames).all()
    assert not same or isinstance(
        op, (dv.FrameInterpolation, dv.FrameJitter)
    )  # next to each other, nothing lies between
