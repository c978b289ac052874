"""RandomApply: the op where it is applied, the clip itself elsewhere; for DALI's operators, kernels and own ops."""

from dataclasses import dataclass

import numpy as np
import pytest
from conftest import SIGMAS, assert_pixels, draw_rows, noise_clips, same_content

import dali_vidaug as dv


@dataclass(frozen=True)
class Negative:
    """Draws nothing; DALI's arithmetic."""

    def draw(self, draws, frames, height, width):
        return None

    def build(self, fn, clips, args):
        return fn.cast_like(255 - clips, clips)


@dataclass(frozen=True)
class Shifted:
    """DALI's operator with a field of its own, another that it does not use, and labels."""

    def draw(self, draws, frames, height, width):
        rows = np.zeros(len(draws), [("unused", "u1", 3), ("shift", "f4")])
        rows["shift"] = draws.uniform("shift", 10, 20)
        return rows

    def build(self, fn, clips, args):
        assert "shift" in args and "applied" not in args
        return fn.brightness(clips, brightness_shift=args["shift"] / 255)

    def targets(self, args, targets):
        return targets * args["shift"][:, None]

    def check(self, args, frames, height, width):
        if (args["shift"] < 10).any():
            raise ValueError("Shifted: shift must be at least 10")

    def matrices(self, args, frames):
        return np.tile(2 * np.eye(3), (len(args), frames, 1, 1))


@dataclass(frozen=True)
class Padded:
    """Its arguments are not packed."""

    def draw(self, draws, frames, height, width):
        rows = np.zeros(len(draws), np.dtype([("a", "u1"), ("shift", "f4")], align=True))
        rows["shift"] = draws.uniform("shift", 10, 20)
        return rows

    def build(self, fn, clips, args):
        return fn.brightness(clips, brightness_shift=args["shift"] / 255)


APPLIED = [
    dv.RandomHorizontalFlip(1.0), dv.RandAugmentT(), dv.ColorJitter(0.4, 0.4, 0.4, 0.1), dv.GaussianBlur(sigma=2.0),
    dv.RandomErasing(1.0), dv.MotionBlur(3), dv.GaussianNoise(0.1), Negative(), Shifted(), Padded(),
    dv.RandomApply(dv.GaussianBlur(sigma=2.0), 0.6), dv.RandomApply(Negative(), 0.6),
]  # fmt: skip


def flags_of(plan):
    rows = plan.args["RandomApply"]
    return rows[rows.dtype.names[-1]] != 0


def always(op, clips, plan, **options):
    """What the op alone makes of all clips, with the draws that it has in a RandomApply."""
    always_applied = dv.RandomApply(op, 1.0)
    return dv.augment(clips, (always_applied,), layout="FHWC", **options)


@pytest.mark.parametrize("op", APPLIED, ids=lambda op: repr(op)[:40])
def test_some_clips_are_changed_as_the_op_changes_them_and_the_others_are_not(op, device):
    clips, labels = noise_clips(*[(3, 24, 32)] * 12), np.eye(12, dtype=np.float32)
    for seed in range(2):
        options = dict(targets=labels, seed=seed, device=device)
        batch = dv.augment(clips, (dv.RandomApply(op, 0.5),), layout="FHWC", **options)
        whole = always(op, clips, batch.plan, **options)
        flags = flags_of(batch.plan)
        assert 0 < flags.sum() < 12 and flags_of(whole.plan).all()
        for i in range(12):
            expected = whole.clips[i].cpu().numpy() if flags[i] else clips[i]
            assert_pixels(batch.clips[i].cpu().numpy(), expected)
            label = whole.targets[i].cpu().numpy() if flags[i] else labels[i]
            assert (batch.targets[i].cpu().numpy() == label).all()
        assert any(not np.array_equal(whole.clips[i].cpu().numpy(), clips[i]) for i in range(12))


def test_with_probability_1_it_is_the_op():
    """The same arguments as the op alone has under the name that it has here."""
    clips = noise_clips(*[(3, 24, 32)] * 4)
    jitter = dv.ColorJitter(0.4, 0.4, 0.4, 0.1)
    batch = dv.augment(clips, (dv.RandomApply(jitter, 1.0),), layout="FHWC", device="cpu")
    rows = jitter.draw(dv.Draws(0, 0, np.arange(4), prefix="RandomApply.ColorJitter"), *np.array([[3, 24, 32]] * 4).T)
    for out, expected in zip(batch.clips, jitter.run(clips, rows), strict=True):
        assert_pixels(out.numpy(), expected)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_none_or_all(probability):
    clips = noise_clips(*[(3, 24, 32)] * 3)
    batch = dv.augment(clips, (dv.RandomApply(Negative(), probability),), layout="FHWC", device="cpu")
    for out, clip in zip(batch.clips.numpy(), clips, strict=True):
        assert_pixels(out, 255 - clip if probability else clip)


def test_the_share_is_the_probability_and_other_draws_stay():
    op = dv.RandomApply(Shifted(), 0.3)
    rows = draw_rows(op, 5000, (3, 8, 8))
    assert abs(rows["applied"].mean() - 0.3) < SIGMAS * (0.21 / 5000) ** 0.5
    assert (draw_rows(dv.RandomApply(Shifted(), 0.9), 5000, (3, 8, 8))["shift"] == rows["shift"]).all()
    nested = draw_rows(dv.RandomApply(op, 0.5), 5000, (3, 8, 8))
    assert nested.dtype.names == ("unused", "shift", "applied", "applied_2")
    both = (nested["applied"] & nested["applied_2"]).mean()
    assert abs(both - 0.15) < SIGMAS * (0.15 * 0.85 / 5000) ** 0.5


def test_boxes_of_clips_that_are_left_alone_do_not_move():
    rows = draw_rows(dv.RandomApply(Shifted(), 0.5), 20, (3, 8, 8))
    found = dv.RandomApply(Shifted()).matrices(rows, 3)
    for flag, matrices in zip(rows["applied"], found, strict=True):
        assert (matrices == (2 if flag else 1) * np.eye(3)).all()
    assert not hasattr(dv.RandomApply(Negative()), "matrices")


def test_edited_arguments_are_checked_where_they_are_applied():
    op, sizes = dv.RandomApply(Shifted(), 0.5), np.array([[3, 8, 8]] * 20).T
    rows = draw_rows(op, 20, (3, 8, 8))
    rows["shift"][rows["applied"] == 0] = 1
    op.check(rows, *sizes)
    rows["shift"] = 1
    with pytest.raises(ValueError, match="Shifted: shift must be at least 10"):
        op.check(rows, *sizes)


def test_plans_are_printed_saved_and_replayed(tmp_path):
    clips = noise_clips(*[(3, 24, 32)] * 6)
    ops = (dv.RandomApply(dv.GaussianBlur(9), 0.5), dv.RandomApply(dv.ColorJitter(0.4), 0.5))
    recipe = dv.Recipe(ops=ops)
    assert dv.Recipe.parse(repr(recipe)) == recipe and recipe.names == ["RandomApply", "RandomApply_2"]
    batch = dv.augment(clips, ops, layout="FHWC", device="cpu")
    text = "\n".join(batch.plan.describe(i) for i in range(6))
    assert "RandomApply\n    GaussianBlur: sigma " in text and "RandomApply_2\n    not applied" in text
    batch.plan.save(tmp_path / "plan.json")
    again = dv.Plan.load(tmp_path / "plan.json")
    for name in recipe.names:
        assert again.args[name].dtype == batch.plan.args[name].dtype
        assert again.args[name].tobytes() == batch.plan.args[name].tobytes()
    repeated = dv.augment(clips, ops, layout="FHWC", device="cpu")
    assert same_content(repeated, batch)


def test_in_a_loader(numbered_manifest):
    ops = (
        dv.RandomResizedCrop(32),
        dv.RandomApply(dv.GaussianBlur(sigma=2.0)),
        dv.RandomApply(dv.RandomHorizontalFlip(1.0)),
    )
    recipe = dv.Recipe(dv.ClipSampling(num_frames=4), (*ops, dv.RandomHorizontalFlip(), dv.Normalize()))
    with dv.VideoLoader(numbered_manifest, recipe, batch_size=4, device="cpu") as loader:
        batches = list(loader)
        assert len(batches) == 3
        for batch in batches:
            assert same_content(loader.apply(batch.plan), batch)


@pytest.mark.parametrize("op", APPLIED, ids=lambda op: repr(op)[:40])
def test_it_keeps_the_contract(op):
    if isinstance(op, Padded):
        pytest.skip("a saved plan packs arguments")
    classes = (Negative, Shifted)
    if not (isinstance(op, classes) or isinstance(getattr(op, "op", None), classes)):
        dv.check_op(dv.RandomApply(op), frames=2, sizes=((24, 32), (32, 24)), device="cpu")


@pytest.mark.parametrize(
    "op, message",
    [
        (
            dv.CutMix(),
            "op must be one that .*, got Mix.*: it mixes the clips of a batch; give it a probability of its own",
        ),
        (dv.OneOf(), "it mixes the clips of a batch"),
        (dv.Normalize(), "its clips are no uint8"),
        (dv.Resize(20), "it changes the size of clips, and those of a batch must be equal"),
        (dv.RandomResizedCrop(20), "it changes the size of clips"),
        (dv.Reverse(), "it decides which frames are decoded"),
        (dv.GaussianBlur, r"op must be an op, got <class .*: write GaussianBlur\(...\)"),
        ("GaussianBlur", "op must be an op, with draw and build or run, got 'GaussianBlur'"),
        (None, "op must be an op"),
    ],
)
def test_ops_that_cannot_be_left_out_are_refused(op, message):
    with pytest.raises(ValueError, match=f"RandomApply: .*{message}"):
        dv.RandomApply(op)


def test_an_op_of_ones_own_that_changes_sizes_is_refused():
    @dataclass(frozen=True)
    class Half:
        def draw(self, draws, frames, height, width):
            rows = np.zeros(len(draws), [("out_frames", "i4")])
            rows["out_frames"] = frames // 2
            return rows

        def build(self, fn, clips, args):
            return clips[: 4 // 2]

    with pytest.raises(ValueError, match="RandomApply: op must be one that .*: it changes the size of clips"):
        dv.augment(noise_clips((4, 8, 8)), (dv.RandomApply(Half()),), layout="FHWC", device="cpu")


def test_bad_probability_is_refused():
    with pytest.raises(ValueError, match=r"RandomApply: probability must be in \[0, 1\], got 2"):
        dv.RandomApply(dv.GaussianBlur(), 2)
