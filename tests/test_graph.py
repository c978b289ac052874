"""The ops through DALI's graph, against plain NumPy."""

import gc
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import assert_pixels, make_plan, noise_clips

import dali_vidaug as dv
from dali_vidaug.graph import Columns, Graph
from dali_vidaug.settings import make_settings


def smooth(frames, height, width):
    """A clip without sharp edges, so that a resize can be compared loosely."""
    f, y, x = np.mgrid[:frames, :height, :width].astype(float)
    planes = [128 + 100 * np.sin(x / width * 5 + f / 3 + c) * np.cos(y / height * 4 + c) for c in range(3)]
    return np.stack(planes, -1).round().astype(np.uint8)


def channels_first(clips):
    return np.stack([clip.transpose(3, 0, 1, 2) for clip in clips])


def test_without_ops_clips_stay():
    clips = noise_clips((4, 17, 23), (4, 17, 23))
    batch = dv.augment(clips, ())
    assert batch.clips.dtype == torch.uint8
    assert_pixels(batch.clips.numpy(), np.stack(clips))


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 17, 23), (16, 64, 48)], ids=str)
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("float16", 2e-3)])
@pytest.mark.parametrize("fused", [True, False])
def test_flip_and_normalize(shape, dtype, tolerance, fused):
    """The flip right before Normalize is done in its pass; elsewhere by itself: the same numbers."""
    clips = noise_clips(*[shape] * 6)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    flip, between = dv.RandomHorizontalFlip(), () if fused else (dv.Resize(shape[1:]),)
    batch = dv.augment(clips, (flip, *between, dv.Normalize(mean, std)), seed=3, dtype=dtype)
    mirrored = batch.plan.args["RandomHorizontalFlip"]["mirrored"]
    assert 0 < mirrored.sum() < 6
    flipped = [clip[:, :, ::-1] if m else clip for clip, m in zip(clips, mirrored, strict=True)]
    expected = (np.stack(flipped) / 255 - np.array(mean)) / np.array(std)
    assert batch.clips.dtype == getattr(torch, dtype)
    np.testing.assert_allclose(batch.clips.numpy(), expected, rtol=tolerance, atol=tolerance)


def test_center_crop_is_exact_for_mixed_sizes():
    clips = noise_clips((5, 20, 31), (5, 17, 40))
    batch = dv.augment(clips, (dv.CenterCrop((10, 21)),))
    assert_pixels(batch.clips.numpy(), np.stack([clips[0][:, 5:15, 5:26], clips[1][:, 3:13, 9:30]]))


def test_resize_against_torch():
    """Bilinear with antialias, as torch does it: within 1 level."""
    clips = [smooth(5, 90, 120), smooth(5, 64, 50)]
    batch = dv.augment(clips, (dv.Resize((40, 56)),))
    for actual, clip in zip(batch.clips.numpy(), clips, strict=True):
        source = torch.from_numpy(clip).permute(0, 3, 1, 2).float()
        expected = torch.nn.functional.interpolate(source, (40, 56), mode="bilinear", antialias=True)
        expected = expected.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        assert_pixels(actual, expected, max_diff=1)


def test_random_resized_crop_takes_the_planned_box():
    clips = [smooth(5, 90, 120)] * 4
    batch = dv.augment(clips, (dv.RandomResizedCrop((48, 48)),), seed=2)
    for actual, row in zip(batch.clips.numpy(), batch.plan.args["RandomResizedCrop"], strict=True):
        part = clips[0][:, row["top"] : row["bottom"], row["left"] : row["right"]]
        source = torch.from_numpy(part.copy()).permute(0, 3, 1, 2).float()
        expected = torch.nn.functional.interpolate(source, (48, 48), mode="bilinear", antialias=True)
        expected = expected.permute(0, 2, 3, 1)
        # DALI's filter sees the pixels around the box, torch's ends at its edge
        inner = (slice(None), slice(4, -4), slice(4, -4))
        assert_pixels(actual[inner], expected.round().clamp(0, 255).byte().numpy()[inner], max_diff=2)


@dataclass(frozen=True)
class Stamp:
    """Writes its arguments into the clip's corner: tells whether clip i gets row i."""

    def draw(self, draws, frames, height, width):
        args = np.zeros(len(draws), [("value", "u1"), ("pair", "u1", 2), ("scale", "f4")])
        args["value"], args["pair"] = draws.samples % 251, np.stack([draws.samples % 7, draws.samples % 11], 1)
        args["scale"] = draws.samples
        return args

    def build(self, fn, clips, args):
        def stamp(batch, values, pairs, vectors, rows):
            out = [clip.copy() for clip in batch]
            for clip, value, pair, vector, row in zip(out, values, pairs, vectors, rows, strict=True):
                clip[0, 0, 0] = value, pair[0], pair[1]
                clip[0, 0, 1] = (
                    vector[0],
                    vector[1] % 256,
                    row.view([("v", "u1"), ("p", "u1", 2), ("s", "f4")])["s"][0] % 256,
                )
            return out

        vector = args["value", "scale"]
        inputs = clips, args["value"], args["pair"], vector, args.rows()
        return fn.python_function(*inputs, function=stamp, batch_processing=True, output_layouts="FHWC")


def test_clip_i_gets_row_i():
    samples = np.array([5, 250, 3, 999, 42])
    batch = dv.augment(noise_clips(*[(2, 4, 5)] * 5), (Stamp(),), samples=samples)
    for i, sample in enumerate(samples):
        assert batch.clips[i, 0, 0, 0].tolist() == [sample % 251, sample % 7, sample % 11]
        assert batch.clips[i, 0, 0, 1].tolist() == [sample % 251, sample % 256, sample % 256]


def test_unknown_arguments_are_named():
    with pytest.raises(KeyError, match="Stamp: no argument 'speed'; there are value, pair"):
        Columns("Stamp", np.dtype([("value", "u1"), ("pair", "u1", 2)]), make_settings(device="cpu"))["speed"]


def test_an_op_that_draws_no_arguments_is_refused():
    @dataclass(frozen=True)
    class Wrong:
        def draw(self, draws, frames, height, width):
            return 3

        def build(self, fn, clips, args):
            return clips

    with pytest.raises(TypeError, match=r"Wrong.draw must return None or a structured array of 1 rows, got 3"):
        dv.augment(noise_clips((1, 2, 2)), (Wrong(),))


def test_augment_draws_by_sample_and_does_not_change_its_input():
    clips = noise_clips((2, 30, 40), (2, 30, 40))
    before = [clip.copy() for clip in clips]
    ops = (dv.RandomResizedCrop(16), dv.RandomHorizontalFlip(), dv.Normalize())
    both = dv.augment(clips, ops, samples=[11, 12], seed=9, epoch=4)
    alone = dv.augment([torch.from_numpy(clips[1])], ops, samples=[12], seed=9, epoch=4)
    assert torch.equal(both.clips[1], alone.clips[0])
    assert all((a == b).all() for a, b in zip(clips, before, strict=True))
    targets = torch.eye(2)
    assert torch.equal(dv.augment(np.stack(clips), ops, targets).targets, targets)


@pytest.mark.parametrize(
    "clips, options, message",
    [
        ([], {}, "no clips"),
        ([np.zeros((2, 5, 4, 3))], {}, r"clip 0 must be .* or \(F, H, W, 3\) uint8, got \(2, 5, 4, 3\) float64"),
        ([np.zeros((3, 4, 3), np.uint8)], {}, "clip 0 must be"),
        (noise_clips((2, 6, 4), (2, 5, 4)), {}, "different sizes"),
        (noise_clips((2, 5, 4), (1, 5, 4)), {}, "different sizes"),
        (noise_clips((2, 5, 4)), {"samples": [1, 2]}, r"samples must be \(1,\)"),
        (
            noise_clips((2, 5, 4)),
            {"targets": [[1.0], [0.0]]},
            r"targets must be \(1, K\), or \(1,\) class",
        ),
        (noise_clips((2, 5, 4)), {"targets": [1.0]}, r"or \(1,\) class numbers, got \(1,\) torch.float32"),
        (noise_clips((2, 5, 4)), {"targets": [1, 2]}, r"or \(1,\) class numbers, got \(2,\) torch.int64"),
        (noise_clips((2, 5, 4)), {"targets": [-2]}, "targets must be class numbers, or -1 for none, got -2"),
        (noise_clips((2, 5, 4)), {"targets": ["a"]}, r"targets must be \(1, K\) or \(1,\) numbers, got \['a'\]"),
        ([*np.zeros((4, 6, 5, 3), np.uint8)], {}, r"got \(6, 5, 3\) uint8; frames become one clip by np.stack"),
        ("a.mp4", {}, "clips must be arrays or tensors of decoded frames, got 'a.mp4'"),
        (None, {}, "clips must be arrays or tensors of decoded frames, got None"),
        (noise_clips((2, 5, 4)), {"dtype": "int8"}, "dtype must be float32, float16 or bfloat16, .*, got 'int8'"),
        (
            noise_clips((2, 5, 4)),
            {"device": "tpu"},
            "device must be auto, cpu, gpu, cuda, cuda:N or a torch.device, got 'tpu'",
        ),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_augment_refuses_what_it_cannot_take(clips, options, message):
    with pytest.raises(ValueError, match=message):
        dv.augment(clips, (), **options)


@pytest.mark.parametrize("ops, hint", [
    (dv.Resize(8), r"or \(op,\) for one; got Resize"),
    (dv.Recipe(ops=()), "or recipe.ops; got Recipe"),
    (None, "got None"),
])  # fmt: skip
def test_augment_refuses_what_is_not_ops(ops, hint):
    with pytest.raises(ValueError, match=f"augment: ops must be several, such as .*{hint}"):
        dv.augment(noise_clips((2, 5, 4)), ops)


def test_targets_with_a_gradient_are_taken():
    assert dv.augment(noise_clips((2, 5, 4)), (), torch.ones(1, 2, requires_grad=True)).targets.tolist() == [[1, 1]]


def test_dali_keeps_what_it_has_not_copied():
    """Inputs with ``no_copy``: the graph's thread may drop them before they are read, and DALI keeps them alive."""
    plan = make_plan(dv.Recipe(ops=()), [(4, 17, 23)] * 2)
    graph = Graph(plan, make_settings(device="cpu", num_threads=1), batch_size=2)
    clips = noise_clips((4, 17, 23), (4, 17, 23))
    expected, references = np.stack(clips), [weakref.ref(clip) for clip in clips]
    graph.pipeline.feed_input("clips", clips)
    del clips
    gc.collect()
    assert all(reference() is not None for reference in references)
    graph.pipeline.schedule_run()
    (out,) = graph.pipeline.share_outputs()
    assert_pixels(np.array(out.as_tensor()), expected)
