"""The kernels against the reference, Pillow and themselves."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import reference
from conftest import ENHANCE, assert_pixels, patterned_clip, randaugment_rows, random_chains
from PIL import Image, ImageEnhance, ImageOps

from dali_vidaug import kernels
from dali_vidaug.ops.randaugment import CODES, FRAME_BYTES, RandAugmentT, args_dtype, randaugment
from dali_vidaug.rng import Draws

SHAPES = [(1, 1, 1), (4, 17, 23), (2, 3, 2), (16, 224, 224)]
SMALL = SHAPES[:3]
BILINEAR, BICUBIC = 1, 2  # of the rows
GATHERS = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")


def run(clips, rows, device="cpu", **options):
    num_ops = rows.dtype["value"].shape[0]
    if device == "cpu":
        return randaugment(clips, rows, num_ops, **options)
    import cupy

    return [cupy.asnumpy(out) for out in randaugment([cupy.asarray(clip) for clip in clips], rows, num_ops)]


@pytest.mark.parametrize("per_clip", [False, True], ids=["frame", "clip"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", CODES)
def test_each_op_matches_the_reference(name, shape, per_clip, device):
    clip = patterned_clip(shape)
    for seed in range(1 if shape[1] > 100 else 6):
        (row,) = rows = randaugment_rows([[name]], len(clip), per_clip=per_clip, seed=seed)
        assert_pixels(run([clip], rows, device)[0], reference.randaugment(clip, row))


@pytest.mark.parametrize("kind", [BILINEAR, BICUBIC], ids=["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", GATHERS)
def test_smooth_gathers_match_the_reference(name, shape, kind, device):
    clip = patterned_clip(shape)
    for seed in range(1 if shape[1] > 100 else 6):
        (row,) = rows = randaugment_rows([[name]], len(clip), bilinear=kind, seed=seed)
        # The kernel's weights have 11 bits: a value near the middle between two levels may round to the other one.
        # Weights of bilinear are exact, if their position is.
        share = (0.04 if kind == BILINEAR else 0.1) if shape[1] > 10 else 1.0  # in a few pixels one is a large share
        assert_pixels(run([clip], rows, device)[0], reference.randaugment(clip, row), max_diff=1, max_fraction=share)


@pytest.mark.parametrize("per_clip", [False, True], ids=["frame", "clip"])
@pytest.mark.parametrize("length", [2, 3, 8])
def test_chains_match_the_reference(length, per_clip, device):
    shapes = [SMALL[i % 3] for i in range(60)]
    clips = [patterned_clip(shape, i) for i, shape in enumerate(shapes)]
    rows = randaugment_rows(random_chains(60, length, length), 4, per_clip=per_clip)
    for out, clip, row in zip(run(clips, rows, device), clips, rows, strict=True):
        assert_pixels(out, reference.randaugment(clip, row))


@pytest.mark.parametrize("bilinear", [0, BILINEAR, BICUBIC], ids=["nearest", "bilinear", "bicubic"])
def test_a_chain_is_its_ops_one_by_one(bilinear, device):
    names = [[a, b] for a in CODES for b in CODES]
    clips = [patterned_clip((2, 17, 23), i) for i in range(len(names))]
    rows = randaugment_rows(names, 2, bilinear=bilinear)
    step = clips
    for i in range(2):
        single = np.zeros(len(rows), args_dtype(1, 2))
        for field in ("fill", "bilinear", "per_clip", "num_values"):
            single[field] = rows[field]
        single["op"][:, 0], single["value"][:, 0] = rows["op"][:, i], rows["value"][:, i]
        step = run(step, single, device)
    for out, expected, pair in zip(run(clips, rows, device), step, names, strict=True):
        assert np.array_equal(out, expected), pair


def pillow_op(name, image, value, bilinear=False, fill=(200, 100, 7)):
    resample = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)[int(bilinear)]
    if name in ENHANCE:
        return getattr(ImageEnhance, name)(image).enhance(value)
    if name == "Rotate":
        return image.rotate(value, resample, fillcolor=fill)
    if name in GATHERS:
        data = [1, 0, 0, 0, 1, 0]
        data[{"ShearX": 1, "ShearY": 3, "TranslateX": 2, "TranslateY": 5}[name]] = value
        return image.transform(image.size, Image.Transform.AFFINE, data, resample, fillcolor=fill)
    if name == "SolarizeAdd":
        return image.point([min(v + int(value), 255) if v < 128 else v for v in range(256)] * 3)
    if name == "Identity":
        return image
    if name == "Posterize" and value == 0:  # Pillow refuses no bits
        return Image.new("RGB", image.size)
    function = getattr(ImageOps, name.lower())
    return function(image, *{"Posterize": [int(value)], "Solarize": [value]}.get(name, []))


@pytest.mark.parametrize("bilinear", [0, BILINEAR, BICUBIC], ids=["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("name", CODES)
def test_each_op_matches_pillow(name, bilinear):
    for shape in SHAPES:
        clip = patterned_clip(shape)
        (row,) = rows = randaugment_rows([[name]], len(clip), bilinear=bilinear)
        frames = zip(clip, row["value"][0].tolist(), strict=True)
        expected = np.stack([np.asarray(pillow_op(name, Image.fromarray(f), v, bilinear)) for f, v in frames])
        (out,) = run([clip], rows)
        if name not in GATHERS:
            assert_pixels(out, expected)
        elif bilinear:  # Pillow rounds towards zero. Its coordinates are double: the edge to the fill may differ
            far = np.abs(out.astype(int) - expected).max(-1) > 1
            assert far.mean() <= 0.001, f"{far.mean():.2%} of the pixels differ by more than a level"
        else:  # Pillow's coordinates have 16 bits of fraction, ours 32
            assert (out != expected).any(-1).mean() <= 0.005


def test_kim2020_is_pillow_frame_by_frame():
    clip = patterned_clip((4, 160, 160))
    op = RandAugmentT(1, (0.0, 30.0), 0.0, suite="kim2020")
    rows = op.draw(Draws(0, 0, np.arange(100)), 4, 160, 160)
    assert len(set(rows["op"][:, 0])) == 15
    for out, row in zip(run([clip] * 100, rows), rows, strict=True):
        name = CODES[row["op"][0]]
        values = row["value"][0].tolist()
        frames = [pillow_op(name, Image.fromarray(f), v, fill=(0, 0, 0)) for f, v in zip(clip, values, strict=True)]
        differs = (out != np.stack([np.asarray(frame) for frame in frames])).any(-1).mean()
        assert differs <= (0.005 if name in GATHERS else 0), name


@pytest.mark.parametrize("device", [pytest.param("gpu", marks=pytest.mark.gpu)], indirect=True)
def test_the_gpu_gives_the_bytes_of_the_cpu(device):
    clips = [patterned_clip(SHAPES[i % 4], i) for i in range(64)]
    for bilinear in (0, BILINEAR, BICUBIC):
        rows = randaugment_rows(random_chains(64, 3, 4), 16, bilinear=bilinear, per_clip=bilinear > 0)
        for a, b in zip(run(clips, rows, device), run(clips, rows), strict=True):
            assert_pixels(a, b)


def test_a_mixed_batch_is_each_clip_alone(device):
    clips = [patterned_clip(shape, i) for i, shape in enumerate(SHAPES * 2)]
    rows = randaugment_rows(random_chains(len(clips), 2, 5), 16)
    for i, out in enumerate(run(clips, rows, device)):
        assert_pixels(out, run(clips[i : i + 1], rows[i : i + 1], device)[0])


@pytest.mark.parametrize("num_ops", [1, 2, 8])
def test_a_row_of_zeros_changes_nothing(num_ops, device):
    clips = [patterned_clip(shape) for shape in SHAPES]
    for out, clip in zip(run(clips, np.zeros(len(clips), args_dtype(num_ops, 16)), device), clips, strict=True):
        assert_pixels(out, clip)


def test_the_inputs_are_not_changed():
    clips = [patterned_clip(shape) for shape in SMALL]
    rows = randaugment_rows([["Invert", "Rotate", "Equalize"]] * 3, 4, bilinear=True)
    before = [clip.copy() for clip in clips], rows.copy()
    for array in (*clips, rows):
        array.flags.writeable = False
    outputs = run(clips, rows)
    assert all(np.array_equal(a, b) for a, b in zip(clips, before[0], strict=True)) and (rows == before[1]).all()
    assert not any(np.shares_memory(out, clip) for out, clip in zip(outputs, clips, strict=True))


def test_threads_do_not_matter(monkeypatch):
    asked, pool = [], kernels._pool
    monkeypatch.setattr(kernels, "_pool", lambda process, threads: asked.append(threads) or pool(process, threads))
    clips = [patterned_clip((4, 17, 23), i) for i in range(9)]
    rows = randaugment_rows(random_chains(9, 3, 1), 4)
    for a, b in zip(*(run(clips, rows, num_threads=threads) for threads in (1, 4)), strict=True):
        assert_pixels(a, b)
    assert asked == [4]  # one thread needs no pool


def test_both_libraries_give_the_same(libraries, monkeypatch):
    clips = [patterned_clip((4, 37, 43), i) for i in range(64)]
    rows = randaugment_rows(random_chains(64, 2, 2), 4, bilinear=True)
    results = []
    for library in libraries:
        monkeypatch.setattr(kernels, "library", lambda library=library: library)
        results.append(run(clips, rows))
    for a, b in zip(*results, strict=True):
        assert_pixels(a, b)


@pytest.mark.parametrize(
    "bad, message",
    [
        (np.zeros((4, 5, 6, 3), np.float32), "uint8"),
        (np.zeros((4, 5, 6), np.uint8), r"\(F, H, W, 3\)"),
        (np.zeros((4, 5, 6, 4), np.uint8), r"\(F, H, W, 3\)"),
        (np.zeros((4, 0, 6, 3), np.uint8), "not empty"),
        (np.zeros((4, 5, 6, 3), np.uint8)[:, ::2], "contiguous"),
        (np.zeros((5, 5, 6, 3), np.uint8), "values for 4 frames, but a clip has 5"),
    ],
)
def test_bad_clips_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        run([patterned_clip((4, 17, 23)), bad], randaugment_rows([["Invert"]] * 2, 4))


def test_bad_rows_are_refused():
    clip = patterned_clip((4, 17, 23))
    with pytest.raises(ValueError, match="1 clips but 2 rows"):
        run([clip], randaugment_rows([["Invert"]] * 2, 4))
    with pytest.raises(ValueError, match="row 1 must have 36 bytes, got 35"):
        randaugment([clip] * 2, [np.zeros(36, np.uint8), np.zeros(35, np.uint8)], 1)
    assert randaugment([], randaugment_rows([["Invert"]], 4)[:0], 1) == []


def compile_text(text):
    command = ["g++", "-x", "c++", "-", "-fsyntax-only", "-std=c++17", "-Wall", "-Wextra", "-Werror"]
    return subprocess.run(command, input=text, text=True, capture_output=True, check=False)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_structs_match_the_dtypes():
    args = args_dtype(2, 16)
    text = kernels.source("randaugment", args)
    text += f'static_assert(sizeof(RandaugmentFrame) == {FRAME_BYTES}, "FRAME_BYTES");'
    good = compile_text(text)
    assert good.returncode == 0, good.stderr
    names = list(args.names)
    i, j = names.index("bilinear"), names.index("per_clip")
    names[i], names[j] = names[j], names[i]
    swapped = np.dtype([(name, args[name]) for name in names])
    bad = compile_text(kernels.source("randaugment", swapped))
    assert bad.returncode != 0 and "RandaugmentArgs.bilinear differs from its dtype" in bad.stderr


def test_a_library_built_from_other_sources_is_refused(monkeypatch):
    monkeypatch.setattr(kernels, "digest", lambda: "0" * 16)
    with pytest.raises(RuntimeError, match="built from other sources"):
        kernels._load("baseline")


GUARDED = """
import ctypes, mmap
import numpy as np
from dali_vidaug import geometry, kernels
from dali_vidaug.ops.color import CODES, FRAME_BYTES, color_args
from dali_vidaug.ops.warp import warp_rows

PAGE, libc, kept = mmap.PAGESIZE, ctypes.CDLL(None), []

def guarded(shape):
    '''Memory that ends where memory begins that nobody may read or write.'''
    size = int(np.prod(shape))
    memory = mmap.mmap(-1, (-(-size // PAGE) + 1) * PAGE)
    kept.append(memory)
    whole = np.frombuffer(memory, np.uint8)
    last = whole.ctypes.data + len(memory) - PAGE
    assert libc.mprotect(ctypes.c_void_p(last), ctypes.c_size_t(PAGE), 0) == 0
    return whole[len(memory) - PAGE - size : len(memory) - PAGE].reshape(shape)

def run_guarded(clip, rows, entry, work=0):
    src, dst, table = guarded(clip.shape), guarded(clip.shape), np.zeros(1, kernels.CLIP)
    src[:] = clip
    table["src"], table["dst"], table["args"] = (array.ctypes.data for array in (src, dst, rows))
    for axis, name in enumerate(("frames", "height", "width")):
        table[name] = clip.shape[axis]
    table["src_height"], table["src_width"] = clip.shape[1:3]
    kernels._run_cpu(table, [work], [(entry, 0)], 1)

for name in ("baseline", "avx2") if kernels._load("baseline").has_avx2() else ("baseline",):
    kernels.library = lambda: kernels._load(name)
    for width in range(1, 34):
        clip, grey = np.full((2, 3, width, 3), 200, np.uint8), np.zeros(1, color_args(1, 2))
        grey["op"][0, 0], grey["value"], grey["num_values"] = CODES.index("grey"), 1, 2
        run_guarded(clip, grey, "color_pixels", 2 * FRAME_BYTES)
        for moved in (0, 0.25, 1, -0.75):
            for matrix in (geometry.translation(moved, moved), geometry.affine(moved, 0, 0, 1, 0, 0, 3, width)):
                tilted = matrix + [[0, 0, 0], [0, 0, 0], [1e-9, 0, 0]]  # next to nothing, but a perspective
                for each in (matrix, tilted):
                    for interpolation in ("nearest", "bilinear"):
                        run_guarded(clip, warp_rows(each[None, None], 3, width, (9, 8, 7), interpolation), "warp")
print("done")
"""


def test_no_memory_beyond_a_clip_is_read_or_written():
    """The fast ways read more bytes than a pixel has. A process that reads beyond its memory is killed."""
    done = subprocess.run([sys.executable, "-c", GUARDED], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr


def test_the_pixel_check_can_fail():
    source = patterned_clip((4, 17, 23))
    other = source.copy()
    other[2, 3, 4, 1] ^= 1
    with pytest.raises(AssertionError, match=r"differs by 1 at \(2, 3, 4, 1\)"):
        assert_pixels(other, source)
    assert_pixels(other, source, max_diff=1)
    with pytest.raises(AssertionError, match="of the values differ"):
        assert_pixels(other, source, max_diff=1, max_fraction=0.0)
    with pytest.raises(AssertionError, match="int64"):
        assert_pixels(source.astype(int), source)
