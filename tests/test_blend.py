"""The kernel that mixes and erases, against the reference and itself."""

import shutil
import subprocess

import numpy as np
import pytest
import reference
from conftest import PHILOX_ANSWERS, assert_pixels, blend_rows, extreme_clips, parse_words

from dali_vidaug import kernels
from dali_vidaug.ops.blend import BLEND, blend, is_neutral, mix_targets, new_rows, own_share, partners_of

SHAPES = [(1, 1, 1), (4, 17, 23), (5, 8, 64), (16, 56, 48)]


def run(clips, rows, device="cpu", **options):
    if device == "cpu":
        return blend(clips, rows, **options)
    import cupy

    rows = [cupy.asarray(row.reshape(1).view(np.uint8)) for row in rows]
    return [cupy.asnumpy(out) for out in blend([cupy.asarray(clip) for clip in clips], rows)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", range(12))
def test_mixing_matches_the_reference(shape, seed, device):
    clips, rows = extreme_clips(shape, seed=seed), blend_rows(shape, seed=seed)
    for out, expected in zip(run(clips, rows, device), reference.blend(clips, rows), strict=True):
        assert_pixels(out, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", range(12))
def test_erasing_matches_the_reference(shape, seed, device):
    clips, rows = extreme_clips(shape, seed=seed), blend_rows(shape, seed=seed, erased=True)
    for out, expected in zip(run(clips, rows, device), reference.blend(clips, rows), strict=True):
        # The kernel counts in single precision: noise near the middle of two levels may become the other one.
        assert_pixels(out, expected, max_diff=1, max_fraction=1e-3 if out.size > 1000 else 0.0)


def test_all_pairs_of_values_and_many_weights(device):
    """Exact for every own value, every other value, and weights of all sizes."""
    own, other = (
        np.ascontiguousarray(x)[None, :, :, None].repeat(3, -1).astype(np.uint8) for x in np.mgrid[:256, :256]
    )
    for weight in (1, 2, 4095, 16383, 16384, 16385, 23456, 32767):
        rows = new_rows(2, 1, 256, 256)
        rows["partner"], rows["outside"] = [1, 0], weight / 32768
        rows["bottom"] = 0
        expected = (own.astype(int) * (32768 - weight) + other.astype(int) * weight + 16384) // 32768
        assert_pixels(run([own, other], rows, device)[0], expected.astype(np.uint8))


@pytest.mark.parametrize("erased", [False, True])
def test_noise_and_weights_do_not_depend_on_the_cpu(libraries, erased, monkeypatch):
    clips, rows = extreme_clips((4, 37, 43), 40), blend_rows((4, 37, 43), 40, 3, erased)
    results = []
    for library in libraries:
        monkeypatch.setattr(kernels, "library", lambda library=library: library)
        results.append(run(clips, rows))
    for a, b in zip(*results, strict=True):
        assert_pixels(a, b)


def test_noise_has_its_mean_and_deviation(device):
    clip = np.zeros((8, 60, 70, 3), np.uint8)
    rows = new_rows(2, 8, 60, 70)
    rows["partner"], rows["inside"], rows["key"] = -1, 1, [[1, 2], [1, 3]]
    rows["color"], rows["spread"] = (100, 120, 140), (10, 20, 30)
    a, b = run([clip, clip], rows, device)
    assert np.abs(a.mean((0, 1, 2)) - (100, 120, 140)).max() < 1
    assert np.abs(a.std((0, 1, 2)) - (10, 20, 30)).max() < 0.5
    # Other channels, frames, keys, neighbours in space: nothing in common.
    fields = [a[0, :, :60, 0], a[0, :, :60, 1], a[0, :, :60, 2], a[1, :, :60, 0], b[0, :, :60, 0], a[0, :, 1:61, 0]]
    fields += [a[0, :, :60, 0].T, np.roll(a[0, :, :60, 0], 1, 0)]
    correlation = np.corrcoef([field.ravel() for field in fields])[np.triu_indices(len(fields), 1)]
    assert np.abs(correlation).max() < 5 / 60


def test_neutral_rows_change_nothing_and_copy_nothing():
    clips = extreme_clips((4, 17, 23), 3)
    for rows in (np.zeros(3, BLEND), new_rows(3, 4, 17, 23)):
        assert is_neutral(rows).all()
        assert all(out is clip for out, clip in zip(run(clips, rows), clips, strict=True))
    rows = blend_rows((4, 17, 23), 3, 1)
    rows["inside"] = rows["outside"] = 0
    rows["inside"][1] = rows["outside"][1] = 1
    outputs = run(clips, rows)
    assert outputs[0] is clips[0] and outputs[2] is clips[2]
    assert_pixels(outputs[1], clips[rows["partner"][1]])


def test_neutral_rows_are_copied_by_the_kernel(device):
    """As the GPU does: there all clips go through the kernel."""
    clips, rows = extreme_clips((4, 17, 23), 3), np.zeros(3, BLEND)
    if device == "gpu":
        outputs = run(clips, rows, device)
    else:
        outputs = kernels.launch("blend", clips, rows, BLEND)
    for out, clip in zip(outputs, clips, strict=True):
        assert out is not clip
        assert_pixels(out, clip)


@pytest.mark.parametrize("seed", range(5))
def test_neutral_is_what_changes_no_pixel(seed):
    rows = blend_rows((4, 9, 7), 40, seed)
    rows["outside"][::2] = 0
    rows["inside"][::4] = 0
    for low, high, i in (("first", "last", 2), ("top", "bottom", 6), ("left", "right", 10)):
        rows[high][i::16] = rows[low][i::16]  # an empty box
    rows["inside"][14::16] = 0
    clips = [np.full((4, 9, 7, 3), 6 * i, np.uint8) for i in range(40)]
    changed = [not np.array_equal(a, b) for a, b in zip(reference.blend(clips, rows), clips, strict=True)]
    assert is_neutral(rows)[::2].all() and not (is_neutral(rows) & changed).any() and sum(changed) > 10


def test_the_inputs_are_not_changed():
    clips, rows = extreme_clips((4, 17, 23)), blend_rows((4, 17, 23))
    before = [clip.copy() for clip in clips], rows.copy()
    for array in (*clips, rows):
        array.flags.writeable = False
    run(clips, rows)
    assert all(np.array_equal(a, b) for a, b in zip(clips, before[0], strict=True)) and (rows == before[1]).all()


def test_threads_do_not_matter():
    clips, rows = extreme_clips((4, 17, 23), 9), blend_rows((4, 17, 23), 9)
    for a, b in zip(*(run(clips, rows, num_threads=threads) for threads in (1, 4)), strict=True):
        assert_pixels(a, b)


def test_bad_partners_are_refused():
    clips, rows = extreme_clips((2, 3, 4), 2), new_rows(2, 2, 3, 4)
    rows["partner"] = [1, 2]
    with pytest.raises(ValueError, match="clip 1 has partner 2, but there are 2 clips"):
        blend(clips, rows)
    rows["partner"] = [1, 0]
    rows["inside"] = 0.5
    with pytest.raises(ValueError, match="clip 1 is 2x4x4, but its arguments are for 2x3x4"):
        blend([clips[0], np.zeros((2, 4, 4, 3), np.uint8)], rows)
    rows["height"][1] = 4
    with pytest.raises(ValueError, match="clip 0 is 2x3x4, its partner 2x4x4"):
        blend([clips[0], np.zeros((2, 4, 4, 3), np.uint8)], rows)
    rows["inside"] = 0  # changes nothing
    rows["partner"] = -1
    assert blend(clips, rows)[1] is clips[1]
    with pytest.raises(ValueError, match="32768 frames at most, got 32769"):
        new_rows(1, 32769, 1, 1)


def test_a_partner_that_is_not_possible_counts_as_none(monkeypatch):
    """For the kernel, which may get rows that nobody has looked at."""
    clips = extreme_clips((2, 17, 5), 6)
    clips[3] = extreme_clips((2, 5, 17), 2)[1]
    rows = blend_rows((2, 17, 5), 6, 1)
    rows["height"][3], rows["width"][3] = 5, 17
    rows["outside"] = np.maximum(rows["outside"], 0.25)
    rows["partner"] = [1, 3, 5, 0, 2**31 - 1, -2]
    expected = rows.copy()
    expected["partner"] = [1, -1, -1, -1, -1, -1]
    run = kernels._run_cpu

    def with_fewer(table, sizes, calls, num_threads):
        table["count"] = 5  # the last looks like a clip, but is none of theirs
        run(table, sizes, calls, num_threads)

    monkeypatch.setattr(kernels, "_run_cpu", with_fewer)
    outputs = kernels.launch("blend", clips, rows, BLEND)
    monkeypatch.undo()
    for out, one in zip(outputs, blend(clips, expected), strict=True):
        assert_pixels(out, one)


@pytest.mark.parametrize("seed", range(8))
def test_shares_are_counted_from_pixels(seed):
    """Own clip all 0, others all 255: in a cut, the own share is that of the zeros; in a blend, 1 - mean / 255."""
    shape = (5, 9, 14)
    rows = blend_rows(shape, 6, seed)
    for name in ("inside", "outside"):
        rows[name] = np.round(rows[name][:, :1])
    clips = [np.zeros((*shape, 3), np.uint8)] + [np.full((*shape, 3), 255, np.uint8)] * 5
    rows["partner"] = 1
    outputs = blend([clips[0], clips[1]] * 3, rows)[::2]  # the clips of zeros
    for out, own in zip(outputs, own_share(rows)[::2], strict=True):
        assert abs((out == 0).mean() - own) < 1e-12
    rows = blend_rows(shape, 6, seed)
    rows["partner"] = 1
    for out, own in zip(blend([clips[0], clips[1]] * 3, rows)[::2], own_share(rows)[::2], strict=True):
        assert abs(1 - out.mean() / 255 - own) < 0.5 / 255


def test_own_shares_of_erased_clips_and_of_no_clips():
    rows = blend_rows((5, 9, 14), 6, erased=True)
    assert (own_share(rows) == 1).all() and partners_of(rows)[0].tolist() == [0, 1, 2, 3, 4, 5]
    targets = np.eye(6, 4, dtype=np.float32)
    assert np.array_equal(mix_targets(rows, targets), targets)
    assert own_share(rows[:0]).shape == (0,)


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")


@needs_compiler
def test_philox_known_answers(tmp_path):
    """The kernels' generator gives what Random123 published, as the one of rng.py does."""
    calls = []
    for inputs, _ in PHILOX_ANSWERS:
        a, b, c, d, *key = (f"{word:#x}u" for word in parse_words(inputs))
        calls.append(f"print(philox4x32({{{a}, {b}, {c}, {d}}}, {key[0]}, {key[1]}));")
    text = '#include <cstdio>\n#include "philox.h"\n'
    text += 'void print(PhiloxWords w) { printf("%08x %08x %08x %08x\\n", w.a, w.b, w.c, w.d); }\n'
    text += f"int main() {{ {' '.join(calls)} }}"
    command = ["g++", "-x", "c++", "-", "-std=c++17", "-O3", "-I", kernels.SOURCES, "-o", tmp_path / "known"]
    subprocess.run(command, input=text, text=True, check=True)
    output = subprocess.run([tmp_path / "known"], capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == [answer for _, answer in PHILOX_ANSWERS]


@needs_compiler
def test_the_struct_matches_the_dtype():
    def compiled(dtype):
        command = ["g++", "-x", "c++", "-", "-fsyntax-only", "-std=c++17", "-Wall", "-Wextra", "-Werror"]
        return subprocess.run(
            command, input=kernels.source("blend", dtype), text=True, capture_output=True, check=False
        )

    good = compiled(BLEND)
    assert good.returncode == 0, good.stderr
    names = [{"top": "left", "left": "top"}.get(name, name) for name in BLEND.names]
    swapped = compiled(np.dtype([(name, BLEND[name]) for name in names]))
    assert swapped.returncode != 0 and "BlendArgs.left differs from its dtype" in swapped.stderr
