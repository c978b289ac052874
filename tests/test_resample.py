"""Frames of YUV to RGB of another size: compared with the definition in floating point, and with libswscale."""

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from dali_vidaug import kernels, resample
from dali_vidaug.media.convert import Converter
from dali_vidaug.media.orientation import is_transposed, oriented, stored_box
from dali_vidaug.ops import CROP
from dali_vidaug.resample import SHIFTS, Resampler

FLAGS = "flags=bilinear+accurate_rnd+full_chroma_int:in_color_matrix=bt601"
BASELINE = kernels._load("baseline")
LIBRARIES = [BASELINE, *([kernels._load("avx2")] if BASELINE.has_avx2() else [])]
WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def make_frame(rng, width, height, pixel_format):
    """Noise, or areas of one value."""
    frame = av.VideoFrame(width, height, pixel_format)
    for plane in frame.planes:
        size = int(rng.choice([1, 16]))
        values = rng.integers(0, 4 if "10" in pixel_format else 256, plane.buffer_size // size + 1, np.uint8)
        plane.update(values.repeat(size)[: plane.buffer_size].tobytes())
    return frame


def axis(low, high, origin, step, count):
    """(count, high - low) float64: the triangle filter, normalised, samples beyond the edge being the edge."""
    reach, at = max(1.0, step), origin + (np.arange(count) + 0.5) * step - 0.5
    samples = np.arange(int(np.floor(at[0] - reach)) - 1, int(np.ceil(at[-1] + reach)) + 2)
    weights = np.clip(1 - np.abs(samples - at[:, None]) / reach, 0, None)
    matrix = np.zeros((count, high - low))
    np.add.at(matrix.T, samples.clip(low, high - 1) - low, weights.T)
    return matrix / matrix.sum(1, keepdims=True)


def exact(frame, box, full, weights=WEIGHTS["bt601"], full_range=False):
    """(H, W, 3) float64: the definition."""
    (top, left, bottom, right), (height, width), planes = box, full, []
    for number, plane in enumerate(frame.planes):
        rows, columns = SHIFTS[frame.format.name] if number else (0, 0)
        values = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        ends = top >> rows, -(-bottom >> rows), left >> columns, -(-right >> columns)
        part = values[ends[0] : ends[1], ends[2] : ends[3]].astype(float)
        down = axis(*ends[:2], top / 2**rows, (bottom - top) / 2**rows / height, height)
        across = axis(*ends[2:], left / 2**columns, (right - left) / 2**columns / width, width)
        planes.append(down @ part @ across.T)
    y, u, v = planes[0], planes[1] - 128, planes[2] - 128
    if not full_range:
        y, u, v = (y - 16) * 255 / 219, u * 255 / 224, v * 255 / 224
    red, blue = weights
    green = 1 - red - blue
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    return np.stack([r, (y - red * r - blue * b) / green, b], -1).clip(0, 255)


def random_box(rng, height, width):
    top, left = int(rng.integers(height)), int(rng.integers(width))
    return top, left, int(rng.integers(top + 1, height + 1)), int(rng.integers(left + 1, width + 1))


@pytest.mark.parametrize("pixel_format", SHIFTS)
def test_pictures_are_those_of_the_definition(pixel_format, monkeypatch):
    """Within 0.05 levels before rounding, in all libraries: boxes at odd places, of one pixel, parts of the scaled."""
    rng = np.random.default_rng(len(pixel_format))
    for _ in range(60):
        frame = make_frame(rng, *(int(n) for n in rng.integers(2, 300, 2)), pixel_format)
        box, full = random_box(rng, frame.height, frame.width), tuple(int(n) for n in rng.integers(1, 260, 2))
        view, mirrored, full_range = random_box(rng, *full), bool(rng.integers(2)), bool(rng.integers(2))
        weights = WEIGHTS[str(rng.choice(list(WEIGHTS)))]
        expected = exact(frame, box, full, weights, full_range)[view[0] : view[2], view[1] : view[3]]
        pictures = []
        for library in LIBRARIES:
            monkeypatch.setattr(resample, "library", lambda library=library: library)
            made = Resampler(box, full, view, pixel_format, mirrored)
            pictures.append(np.full(made.shape, 7, np.uint8))
            made(frame, weights, full_range, pictures[-1])
            np.testing.assert_array_equal(pictures[-1], pictures[0])
            monkeypatch.undo()
        picture = pictures[0][:, ::-1] if mirrored else pictures[0]
        assert np.abs(picture - expected).max() <= 0.55, (box, full, view)


def test_large_frames_become_small():
    """Hundreds of samples for each pixel."""
    rng = np.random.default_rng(1)
    for size in ((1920, 1080), (1079, 1917)):
        frame = make_frame(rng, *size, "yuv420p")
        box = (0, 0, frame.height, frame.width)
        for full in ((1, 1), (2, 9), (16, 12), (224, 224)):
            made = Resampler(box, full, (0, 0, *full), "yuv420p", False)
            picture = np.empty(made.shape, np.uint8)
            made(frame, WEIGHTS["bt601"], False, picture)
            assert np.abs(picture - exact(frame, box, full)).max() <= 0.7


GUARDED = """
import ctypes, mmap, types
import numpy as np
from dali_vidaug import kernels, resample

PAGE, libc, kept = mmap.PAGESIZE, ctypes.CDLL(None), []

def guarded(size):
    "Memory before a page that must not be touched."
    memory = mmap.mmap(-1, (-(-size // PAGE) + 1) * PAGE)
    whole = np.frombuffer(memory, np.uint8)
    last = whole.ctypes.data + len(whole) - PAGE
    assert libc.mprotect(ctypes.c_void_p(last), ctypes.c_size_t(PAGE), 0) == 0
    kept.append(memory)
    return whole[len(whole) - PAGE - size : len(whole) - PAGE]

for name in ("baseline", "avx2") if kernels._load("baseline").has_avx2() else ("baseline",):
    library = kernels._load(name)
    resample.library = lambda: library
    for width in (1, 2, 3, 8, 15, 16, 17, 31, 32, 33, 62, 63, 64, 65, 66, 97):
        for out_width in (1, 3, 4, 5, 16, 33):
            planes = []
            for number in range(3):
                rows, columns = (5, width) if not number else (3, -(-width // 2))
                memory = guarded(rows * columns)
                memory[:] = 200
                planes.append(types.SimpleNamespace(buffer_ptr=memory.ctypes.data, line_size=columns))
            yuv = types.SimpleNamespace(name="yuv420p")
            frame = types.SimpleNamespace(format=yuv, height=5, width=width, planes=planes)
            out = guarded(7 * out_width * 3).reshape(7, out_width, 3)
            resample.Resampler((0, 0, 5, width), (7, out_width), (0, 0, 7, out_width), "yuv420p", False)(
                frame, (0.299, 0.114), True, out)
            assert (out[..., 0] == 255).all() and (out[..., 2] == 255).all()
            kept.clear()
print("done")
"""


def test_nothing_beyond_a_frame_is_touched():
    done = subprocess.run([sys.executable, "-c", GUARDED], capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr[-1000:]


def by_libswscale(frame, *filters):
    """A frame through filters of libavfilter to packed RGB: (H, W, 3)."""
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25))]
    for name, arguments in (*filters, ("format", "rgb24"), ("buffersink", None)):
        nodes.append(graph.add(name, arguments))
        nodes[-2].link_to(nodes[-1])
    graph.configure()
    graph.vpush(frame)
    return graph.vpull().to_ndarray()


@pytest.mark.parametrize("pixel_format", [*SHIFTS, "nv12", "yuv420p10le", "gray"])
def test_pictures_are_those_of_libswscale(pixel_format, case_video):
    """Planar YUV in each range within a level, but for a value in two hundred; other formats have its bytes.

    It rounds positions: at the edges of some pictures of noise it is off by up to 12 levels.
    """
    rng, base, off = np.random.default_rng(6), case_video("h264_bframes"), []
    for _ in range(40):
        frame = make_frame(rng, *(2 * int(n) for n in rng.integers(12, 200, 2)), pixel_format)
        frame.color_range = int(rng.integers(0, 3))
        top, left, bottom, right = (2 * n for n in random_box(rng, frame.height // 2 - 8, frame.width // 2 - 8))
        bottom, right = bottom + 16, right + 16
        height, width = (int(n) for n in rng.integers(8, 300, 2))
        crop = "crop", f"{right - left}:{bottom - top}:{left}:{top}:exact=1"
        expected = by_libswscale(frame, crop, ("scale", f"{width}:{height}:{FLAGS}"))
        video = base._replace(width=frame.width, height=frame.height, orientation=1)
        row = np.array([(top, left, bottom, right, height, width)], CROP)[0]
        convert = Converter(video, [row])
        for _ in range(2):  # what it made for the format is kept
            got = np.full(convert.shape, 7, np.uint8)
            convert(frame, got)
            off.append(np.abs(got.astype(int) - expected))
    if pixel_format in SHIFTS:
        assert np.mean([(part > 1).mean() for part in off]) < 0.005 and np.mean([part.mean() for part in off]) < 0.1
    else:
        assert not any(part.any() for part in off)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_crops_before_and_after_one_scaling(orientation, case_video):
    """Of the frame as shown, mirrored in the end; of two scalings, libswscale makes the first."""
    rng = np.random.default_rng(orientation)
    frame = make_frame(rng, 90, 60, "yuv420p")
    video = case_video("h264_bframes")._replace(width=90, height=60, orientation=orientation)
    height, width = (90, 60) if is_transposed(orientation) else (60, 90)
    first, scaled, last = (4, 6, height - 2, width - 8), (40, 46), (3, 5, 33, 41)
    flip = np.array([(True,)], [("mirrored", "?")])[0]
    whole = exact(frame, (0, 0, 60, 90), scaled[::-1] if is_transposed(orientation) else scaled)
    for boxes, mirrored in (([first, last], False), ([first, last], True), ([last], True), ([first], False)):
        crops, size = [], (height, width)
        if boxes[0] is first:
            crops.append((*first, *scaled))
            size = scaled
        else:
            crops.append((0, 0, *size, *scaled))
        if boxes[-1] is last:
            crops.append((*last, last[2] - last[0], last[3] - last[1]))
        rows = [np.array([crop], CROP)[0] for crop in crops] + [flip] * mirrored
        convert = Converter(video, rows)
        got = np.empty(convert.shape, np.uint8)
        convert(frame, got)
        if boxes[0] is first:
            stored = stored_box(first, height, width, orientation)
            expected = exact(frame, stored, scaled[::-1] if is_transposed(orientation) else scaled)
        else:
            expected = whole
        expected = oriented(expected, orientation)
        if boxes[-1] is last:
            expected = expected[last[0] : last[2], last[1] : last[3]]
        expected = expected[:, ::-1] if mirrored else expected
        assert np.abs(got - expected).max() <= 0.55, (boxes, mirrored)


def test_what_does_not_fit_is_refused():
    frame, other = (av.VideoFrame(30, 20, name) for name in ("yuv420p", "yuv444p"))
    made = Resampler((0, 0, 20, 30), (10, 12), (0, 0, 10, 12), "yuv420p", False)
    out = np.empty((10, 12, 3), np.uint8)
    made(frame, WEIGHTS["bt601"], False, out)
    for bad in (other, av.VideoFrame(28, 20, "yuv420p"), av.VideoFrame(30, 18, "yuv420p")):
        with pytest.raises(ValueError, match=r"resample: \(0, 0, 20, 30\) of yuv420p is not in a frame"):
            made(bad, WEIGHTS["bt601"], False, out)
    for bad in (np.empty((10, 13, 3), np.uint8), out[:, ::-1], out.astype(np.int8)):
        with pytest.raises(ValueError, match=r"resample: out must be \(10, 12, 3\) uint8"):
            made(frame, WEIGHTS["bt601"], False, bad)


def test_a_program_ends_while_a_thread_converts():
    """What the thread uses is not freed under it; it was, and the program crashed or wrote anywhere."""
    code = f"""
import threading, av, numpy
from dali_vidaug.resample import Resampler
frame, begun = av.VideoFrame(3840, 2160, "yuv420p"), threading.Event()
made = Resampler((0, 0, 2160, 3840), (1000, 2000), (0, 0, 1000, 2000), "yuv420p", False)
out = numpy.empty(made.shape, numpy.uint8)
def work():
    while True:
        begun.set()
        made(frame, {WEIGHTS["bt601"]}, False, out)
threading.Thread(target=work, daemon=True).start()
begun.wait()
"""
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
