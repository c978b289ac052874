"""The last step on the CPU: channels first, normalised, in memory that is used again."""

import gc
import threading

import numpy as np
import pytest
import torch
from conftest import noise_clips
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline

import dali_vidaug as dv
from dali_vidaug import kernels, pixel_order
from dali_vidaug.batch import as_tensor
from dali_vidaug.pixel_order import take_apart
from dali_vidaug.planes import Planes
from dali_vidaug.recycled import Recycled

VARIANTS = ["baseline", *(["avx2"] if kernels._load("baseline").has_avx2() else [])]
SHAPES = [(1, 1, 1), (2, 3, 5), (3, 17, 23), (2, 9, 256), (1, 4, 257), (2, 2, 600), (4, 16, 16)]


def expected(clips, table, mirrored):
    """By NumPy alone."""
    made = []
    for clip, flip in zip(clips, mirrored, strict=True):
        clip = clip[:, :, ::-1] if flip else clip
        made.append([table[c][clip[..., c]] for c in range(3)])
    return np.array(made)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", ["u1", "i2", "f2", "f4"])
def test_clips_are_taken_apart_and_looked_up(variant, dtype, monkeypatch):
    library = kernels._load(variant)
    monkeypatch.setattr(pixel_order, "library", lambda: library)
    rng = np.random.default_rng(0)
    table = rng.integers(-100 if dtype != "u1" else 0, 100, (3, 256)).astype(dtype)
    for shape in SHAPES:
        clips, mirrored = noise_clips(*[shape] * 5), np.array([0, 1, 1, 0, 1], bool)
        for threads, shift in ((1, 0), (3, 1)):  # aligned to 16 bytes, or not
            memory = np.full(15 * int(np.prod(shape)) + 1, 7, dtype)
            out = memory[shift : shift + 15 * int(np.prod(shape))].reshape(5, 3, *shape)
            take_apart(clips, table, mirrored, out, threads)
            np.testing.assert_array_equal(out, expected(clips, table, mirrored))
            assert memory[-1 if not shift else 0] == 7


def test_what_does_not_fit_is_refused():
    table, out = np.zeros((3, 256), np.float32), np.zeros((2, 3, 4, 5, 6), np.float32)
    clips, flips = noise_clips(*[(4, 5, 6)] * 2), np.zeros(2, bool)
    take_apart(clips, table, flips, out, 1)
    for bad in (
        (clips[:1], table, flips, out), ([clips[0], clips[1][:3]], table, flips, out), (clips, table[:2], flips, out),
        ([clip.astype(np.int8) for clip in clips], table, flips, out), (clips, table.astype("f8"), flips, out),
        (clips, table, flips[:1], out), (clips, table, flips, out.astype("f2")), (clips, table.T.copy().T, flips, out),
        ([clip[:, :, ::-1] for clip in clips], table, flips, out), (clips, table, flips, out[..., ::-1]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="take_apart: [12] clips .* do not make"):
            take_apart(*bad, 1)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_values_are_those_of_the_definition(dtype):
    op = dv.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    (clip,) = Planes(op, dtype, 1, "clips")([ramp], np.array([False]))
    values = np.stack([(np.arange(256) / 255 - m) / s for m, s in zip(op.mean, op.std, strict=True)])
    wanted = torch.from_numpy(values).to(torch.float32).to(getattr(torch, dtype))
    assert clip.dtype == wanted.dtype and torch.equal(clip.flatten(1), wanted)


class Arguments(dict):
    """What ``build`` gets."""

    dtype = types.FLOAT


def test_values_are_dalis():
    """Those of ``Normalize.build``, which a GPU runs, with the flip that it takes over."""
    clips, op = noise_clips(*[(3, 20, 30)] * 2), dv.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pipeline = Pipeline(2, 1, None, prefetch_queue_depth=1)
    with pipeline:
        source = fn.external_source(name="clips", dtype=types.UINT8, ndim=4, layout="FHWC")
        flips = fn.external_source(name="flips", dtype=types.INT32, ndim=0)
        pipeline.set_outputs(op.build(fn, source, Arguments(mirrored=flips)))
    pipeline.feed_input("clips", clips)
    pipeline.feed_input("flips", np.array([0, 1], np.int32))
    (theirs,) = pipeline.run()
    ours = Planes(op, "float32", 2, "clips")(clips, np.array([0, 1]))
    np.testing.assert_allclose(ours, np.array(theirs.as_tensor()), atol=2e-6)


def test_floats_of_dali_become_bfloat16():
    """On a GPU, where DALI normalises."""
    values = torch.tensor([[1.00390625, -0.3]])
    assert torch.equal(as_tensor(values, "bfloat16"), values.to(torch.bfloat16))
    assert as_tensor(values, "bfloat16").dtype == torch.bfloat16 and as_tensor(values, "float32") is values
    assert as_tensor(torch.ones(2, dtype=torch.uint8), "bfloat16").dtype == torch.uint8


def test_an_op_that_leaves_floats_is_named():
    class Floats(dv.Normalize):
        channels_first = mirrors_first = False
        lookup = property()

        def build(self, fn, clips, args):
            return clips / 255.0

    with pytest.raises(ValueError, match="Floats: build must return uint8, got float32"):
        dv.augment(noise_clips((2, 4, 5)), (Floats(), dv.Normalize()), device="cpu")


def test_clips_of_different_sizes_are_told():
    with pytest.raises(ValueError, match=r"Mine leaves clips of different sizes .*: \(1, 4, 5\), \(2, 4, 5\); add"):
        Planes(None, "float32", 1, "Mine")(noise_clips((2, 4, 5), (1, 4, 5)), np.zeros(2, bool))


# Memory


def test_memory_is_used_again_when_nothing_is_left_of_an_array():
    memory = Recycled()
    first = memory.take((2, 3), np.float32)
    assert first.ctypes.data % 64 == 0 and first.flags.c_contiguous
    place = first.ctypes.data
    tensor = torch.from_numpy(first).view(torch.int32)
    part = tensor[1]
    del first, tensor
    gc.collect()
    assert memory.take((2, 3), np.float32).ctypes.data != place  # a part is left
    whole = np.asarray(part)
    del part
    gc.collect()
    second = memory.take((6,), np.float32)
    assert second.ctypes.data != place
    del whole, second
    gc.collect()
    places = {array.ctypes.data for array in [memory.take((3, 2), np.int32) for _ in range(3)]}
    assert place in places  # of as many bytes
    row = memory.take((2, 50), np.uint8)[1]
    row[:] = 5
    memory.take((2, 50), np.uint8)[:] = 6
    assert (row == 5).all()  # a view of a view
    third = memory.take((3, 3), np.float32)
    assert third.shape == (3, 3)


def test_little_memory_is_kept():
    memory = Recycled()
    arrays = [memory.take((100,), np.uint8) for _ in range(9)]
    del arrays
    assert len(memory._free) == 3
    memory.take((101,), np.uint8)
    assert {piece.size for piece in memory._free} == {101 + 64}


def test_arrays_may_go_in_any_thread():
    memory, wrong = Recycled(), []

    def work(number):
        for i in range(300):
            array = memory.take((257,), np.int32)
            array[:] = 1000 * number + i
            kept = array[::2]
            del array
            if (kept != 1000 * number + i).any():
                wrong.append((number, i))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("keep", [lambda b: b.clips, lambda b: b.clips[1, 2], lambda b: b.clips.numpy()[:, 0]],
                         ids=["whole", "part", "NumPy"])  # fmt: skip
def test_batches_that_are_kept_do_not_change(keep, numbered_manifest):
    recipe = dv.Recipe(dv.ClipSampling(2), (dv.RandomResizedCrop(32), dv.RandomHorizontalFlip(), dv.Normalize()))
    with dv.VideoLoader(numbered_manifest, recipe, 2, device="cpu", num_threads=2) as loader:
        kept, copies, places = [], [], set()
        for _ in range(4):
            for batch in loader:
                places.add(batch.clips.data_ptr())
                kept.append(keep(batch))
                copies.append(np.asarray(kept[-1]).copy())
        assert len(places) == len(kept) == 24  # nothing was overwritten
        for one, copy in zip(kept, copies, strict=True):
            np.testing.assert_array_equal(one, copy)
        del batch, one
        kept.clear()
        places = {batch.clips.data_ptr() for _ in range(4) for batch in loader}
        assert len(places) < 12  # and what nobody has is used again


@pytest.mark.parametrize("ops", [
    (dv.RandomHorizontalFlip(1.0), dv.Normalize()), (dv.RandomHorizontalFlip(0.0), dv.Normalize()), (dv.Normalize(),),
    (dv.RandomHorizontalFlip(1.0),), (), (dv.RandAugmentT(), dv.RandomHorizontalFlip(), dv.Normalize()),
], ids=str)  # fmt: skip
def test_flips_and_levels_with_and_without_normalisation(ops):
    clips = noise_clips(*[(3, 20, 33)] * 4)
    plain = tuple(op for op in ops if not isinstance(op, (dv.RandomHorizontalFlip, dv.Normalize)))
    got = dv.augment(clips, ops, device="cpu", layout="FHWC")
    pixels = dv.augment(clips, plain, device="cpu", layout="FHWC").clips.numpy()
    flips = got.plan.args.get("RandomHorizontalFlip")
    mirrored = np.zeros(4, bool) if flips is None else flips["mirrored"] == 1
    wanted = np.stack([pixel[:, :, ::-1] if flip else pixel for pixel, flip in zip(pixels, mirrored, strict=True)])
    if ops and isinstance(ops[-1], dv.Normalize):
        wanted = ((wanted / 255 - 0.45) / 0.225).astype(np.float32)
    np.testing.assert_array_equal(got.clips, wanted)
