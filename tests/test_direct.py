"""The last ops on the CPU, without DALI: the same clips as in DALI's graph; what they return is checked."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from conftest import noise_clips
from test_gpu_graph import RECIPES

import dali_vidaug as dv
from dali_vidaug import graph, kernels, pixel_order
from dali_vidaug.direct import num_direct
from dali_vidaug.leading import num_in_decoder
from dali_vidaug.pixel_order import mirror, mirror_frame
from dali_vidaug.settings import make_settings

VARIANTS = ["baseline", *(["avx2"] if kernels._load("baseline").has_avx2() else [])]


def with_dali(monkeypatch):
    monkeypatch.setattr(graph, "num_direct", lambda steps: 0)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_clips_are_the_same_with_dali_and_without(name, monkeypatch):
    """Each op is one of DALI's or a Python operator in its graph; or runs on the arrays."""
    fixed = {"ShortSideScale": (dv.CenterCrop(224),), "ScaleJitter": (dv.CenterCrop(40),)}  # to one size
    ops = (*RECIPES[name], *fixed.get(name, ()))
    side = 256 if any(hasattr(op, "size") for op in ops) else 60
    clips = noise_clips(*[(16, side, 70 + side)] * 5)
    direct = dv.augment(clips, ops, np.eye(5), seed=3, device="cpu")
    with_dali(monkeypatch)
    other = dv.augment(clips, ops, np.eye(5), seed=3, device="cpu")
    assert torch.equal(direct.clips, other.clips) and torch.equal(direct.targets, other.targets)


@pytest.mark.parametrize("ops", [
    (dv.RandomHorizontalFlip(), dv.RandAugmentT(), dv.RandomHorizontalFlip()),
    (dv.RandomHorizontalFlip(1.0), dv.CubeCutMix(), dv.RandomHorizontalFlip(), dv.Normalize()),
    (dv.RandomVerticalFlip(), dv.RandAugmentT(), dv.RandomApply(dv.GaussianBlur(), 0.5)),
    (dv.ColorJitter(0.4), dv.RandomVerticalFlip(), dv.RandomApply(dv.RandomHorizontalFlip(1.0), 0.5), dv.MixUp()),
], ids=str)  # fmt: skip
def test_rows_of_ops_are_the_same_with_dali_and_without(ops, monkeypatch):
    clips = noise_clips(*[(4, 30, 41)] * 6)
    direct = dv.augment(clips, ops, seed=1, device="cpu")
    with_dali(monkeypatch)
    assert torch.equal(direct.clips, dv.augment(clips, ops, seed=1, device="cpu").clips)


@pytest.mark.parametrize("ops, number", [
    ((dv.RandomResizedCrop(), dv.RandomHorizontalFlip(), dv.RandAugmentT()), 2), ((dv.RandomResizedCrop(),), 0),
    ((dv.RandAugmentT(), dv.RandomVerticalFlip()), 0), ((dv.JpegArtefacts(), dv.MixUp(), dv.LabelSmoothing()), 2),
    ((dv.RandomApply(dv.JpegArtefacts()), dv.RandomApply()), 1), ((dv.RandomResizedCrop(shift=True),), 1), ((), 0),
])  # fmt: skip
def test_which_ops_need_no_dali(ops, number):
    assert num_direct([("x", op) for op in ops]) == number


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("threads", [1, 3])
def test_clips_are_mirrored(variant, threads, monkeypatch):
    library = kernels._load(variant)
    monkeypatch.setattr(pixel_order, "library", lambda: library)
    clips = noise_clips((1, 1, 1), (2, 3, 5), (3, 17, 16), (2, 9, 33), (1, 4, 257))
    before, flags = [clip.copy() for clip in clips], np.array([1, 1, 0, 1, 1])
    made = mirror(clips, flags, threads)
    for clip, old, new, flag in zip(clips, before, made, flags, strict=True):
        np.testing.assert_array_equal(new, old[:, :, ::-1] if flag else old)
        np.testing.assert_array_equal(clip, old)
    assert made[2] is clips[2]
    with pytest.raises(ValueError, match="mirror: clips must be"):
        mirror([clips[1][:, :, ::-1]], flags[:1], 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_frames_are_mirrored_where_they_are(variant, monkeypatch):
    library = kernels._load(variant)
    monkeypatch.setattr(pixel_order, "library", lambda: library)
    for width in (*range(1, 40), 224, 257):
        (memory,) = noise_clips((5, 3, width))
        before, middle = memory.copy(), memory[2]
        mirror_frame(middle)  # and not a byte before or after it
        before[2] = before[2, :, ::-1]
        np.testing.assert_array_equal(memory, before)
    for wrong in (middle[:, ::2], middle.astype("i2"), memory, middle[..., :2]):
        with pytest.raises(ValueError, match="mirror_frame: must be"):
            mirror_frame(wrong)


@dataclass(frozen=True)
class Darker:
    """An op of a user's own; what ``run`` returns is changed by ``spoil``."""

    spoil: object = None

    def draw(self, draws, frames, height, width):
        args = np.zeros(len(draws), [("factor", "f4"), ("offset", "u1", 3)])
        args["factor"], args["offset"] = draws.uniform("factor"), draws.integers("offset", 9, n=3)
        return args

    def run(self, clips, rows, num_threads):
        made = [(clip * row["factor"]).astype(np.uint8) + row["offset"] for clip, row in zip(clips, rows, strict=True)]
        return self.spoil(clips, made, rows) if self.spoil else made


@pytest.mark.parametrize("after", [(), (dv.RandomVerticalFlip(1.0),)], ids=["without DALI", "with DALI"])
def test_an_op_of_a_users_own(after):
    clips = noise_clips(*[(2, 6, 7)] * 5)
    batch = dv.augment(clips, (Darker(), *after), device="cpu")
    rows = batch.plan.args["Darker"]
    assert len(np.unique(rows["factor"])) == 5
    for clip, row, out in zip(clips, rows, batch.clips.numpy(), strict=True):
        expected = (clip * row["factor"]).astype(np.uint8) + row["offset"]
        np.testing.assert_array_equal(out, expected[:, ::-1] if after else expected)
    dv.check_op(Darker())


def in_place(clips, made, rows):
    clips[0][:] = 0
    return made


def rows_in_place(clips, made, rows):
    rows["factor"] = 0
    return made


@pytest.mark.parametrize("spoil, message", [
    (in_place, r"Darker.run: ValueError: assignment .* read-only .* batch of samples 0, 1 of epoch 0"),
    (rows_in_place, r"Darker.run: ValueError: assignment destination is read-only"),
    (lambda clips, made, rows: made[:1], r"Darker.run: TypeError: it must return 2 arrays \(F, H, W, 3\) uint8, got 1"),
    (lambda clips, made, rows: None, r"it must return 2 arrays \(F, H, W, 3\) uint8, got 1 NoneType"),
    (lambda clips, made, rows: [torch.zeros(1)] * 2, "it must return 2 arrays .* got 2 Tensor"),
    (lambda clips, made, rows: [m / 2.0 for m in made], r"it must return 2 arrays .* uint8, got .* float"),
    (lambda clips, made, rows: [m[..., :1] for m in made], r"uint8, got \(2, 6, 7, 1\) uint8"),
    (lambda clips, made, rows: [m[:, :5] for m in made], r"clip 0 leaves the ops Darker as \(3, 2, 5, 7\)"),
    (lambda clips, made, rows: 1 / 0, r"Darker.run: ZeroDivisionError: division by zero \(Darker\(spoil="),
])  # fmt: skip
@pytest.mark.parametrize("after", [(), (dv.Normalize(),), (dv.Resize((3, 3)),)], ids=["alone", "Normalize", "Resize"])
def test_what_run_returns_is_checked(spoil, message, after):
    if after == (dv.Resize((3, 3)),):  # by way of DALI's graph
        message = message.replace("Darker.run: ", "Darker: ").split(" .* of samples")[0].split(" \\(Darker")[0]
    with pytest.raises((ValueError, RuntimeError, TypeError), match=message):
        dv.augment(noise_clips(*[(2, 6, 7)] * 2), (Darker(spoil), *after), device="cpu")


def test_a_size_that_a_later_op_would_hide():
    @dataclass(frozen=True)
    class Half:
        """Says that it crops to 4 x 4."""

        says: bool

        def draw(self, draws, frames, height, width):
            args = np.zeros(len(draws), [("out_height", "i4"), ("out_width", "i4")])
            args["out_height"], args["out_width"] = (4, 4) if self.says else (height, width)
            return args

        def run(self, clips, rows, num_threads):
            return [clip[:, :4, :4] for clip in clips]

    clips = noise_clips(*[(2, 6, 7)] * 2)
    batch = dv.augment(clips, (Half(True), dv.MixUp(probability=0.0), Half(True)), device="cpu")
    np.testing.assert_array_equal(batch.clips.numpy(), np.stack([clip[:, :4, :4] for clip in clips]))
    with pytest.raises(ValueError, match=r"clip 0 leaves the ops Half as .* say \(3, 2, 6, 7\)"):
        dv.augment(clips, (Half(False), Half(True)), device="cpu")


def test_a_mixing_op_is_no_sampler():
    for sampler in (lambda: dv.Recipe(dv.MixUp(), ()), lambda: dv.MultiClip(dv.MixUp())):
        with pytest.raises(ValueError, match="must be a sampler"):
            sampler()


@pytest.mark.parametrize("ops, device, number", [
    ((dv.Resize(9), dv.RandomHorizontalFlip(), dv.MixUp(), dv.Normalize()), "cpu", 2),
    ((dv.RandomHorizontalFlip(), dv.MixUp()), "cpu", 1), ((dv.Resize(9), dv.RandomHorizontalFlip()), "cpu", 1),
    ((dv.Resize(9), dv.RandomHorizontalFlip(), dv.Normalize()), "cpu", 1), ((dv.MixUp(),), "cpu", 0), ((), "cpu", 0),
    ((dv.Resize(9), dv.RandomHorizontalFlip(), dv.MixUp()), "gpu", 1),
])  # fmt: skip
def test_a_flip_before_other_ops_is_done_in_the_decoder(ops, device, number):
    """At the end it costs nothing, and neither on a GPU before Normalize."""
    settings = replace(make_settings(device="cpu", resize_in_decoder=True), device=device)
    assert num_in_decoder(dv.Recipe(ops=ops), settings) == number
