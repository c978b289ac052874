"""Time the kernels, compared with what others offer: ``python benchmarks/kernels.py [--clips 200] [--json out.json]``.

Each kernel is first checked against tests/reference.py, then timed on clips of 16 x 224 x 224, on one CPU thread and
on the GPU if there is one. What is compared is called in turn, and compared by processor time. Memory that is freed is
kept for the next call: otherwise the allocator, by what it was asked for before, gives some calls fresh pages, which
the system must clear first. "of copy" is the least time to move the bytes that must be moved (each pixel read once and
written once), at the speed of a plain copy, divided by the time that it took. Times are medians, in ms per clip. The
calls are made in --rounds parts: a ratio is given with the range of the parts, and no verdict where the range is wider
than the gain. On the GPU also the share of the memory's peak.
"""

import argparse
import ctypes
import json
import math
import platform
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dali_vidaug import geometry
from dali_vidaug.commands.checks import device
from dali_vidaug.commands.checks.cases import (
    CASES,
    FILTERS,
    INTERPOLATION,
    MIXES,
    ROTATED,
    WARPS,
    bytes_moved,
    call_of,
    case_row,
    filter_rows,
    make_clip,
    mix_rows,
    warp_row,
)
from dali_vidaug.device import gpu
from dali_vidaug.ops.blend import blend
from dali_vidaug.ops.interpolate import interpolate, interpolate_rows
from dali_vidaug.ops.randaugment import RandAugmentT, randaugment
from dali_vidaug.ops.warp import warp
from dali_vidaug.rng import Draws

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import reference
from conftest import assert_pixels, import_torchvision

FRAMES, SIZE = 16, 224


def keep_memory():
    """glibc neither maps large blocks one by one nor gives freed memory back; True where that could be set.

    A batch of clips is 19 MB. A block of that size is mapped afresh for each call or not, as the allocator's threshold
    (up to 32 MB) was moved by what was freed before: 8,800 page faults in each CutMix of torchvision, or none, which
    is twice the processor time, and more by the clock on a busy machine. Our outputs are a block a clip.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
    return bool(mallopt and mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def calls(functions, repeat):
    """Processor time of single calls in ms, each function ``repeat`` times, in turn: disturbances affect all alike."""
    times = {name: [] for name in functions}
    for i in range(repeat + 2):
        for name, function in functions.items():
            start = time.process_time()
            kept = function(i)
            taken = 1000 * (time.process_time() - start)
            del kept
            if i >= 2:  # warm
                times[name].append(taken)
    return times


def summary(times):
    """{name: (median, middle half)}."""
    return {name: (statistics.median(t), np.subtract(*np.percentile(t, [75, 25]))) for name, t in times.items()}


def milliseconds(functions, repeat):
    """As ``calls``: {name: (median, middle half)}."""
    return summary(calls(functions, repeat))


def compare(what, ours, other, rounds):
    """The ratio of processor time, other / ours, over all calls and in parts, and what may be said of it."""
    parts = [
        part for part in zip(np.array_split(ours, rounds), np.array_split(other, rounds), strict=True) if len(part[0])
    ]
    ratios = [float(np.mean(b) / np.mean(a)) for a, b in parts]
    low, high, middle = min(ratios), max(ratios), float(np.mean(other) / np.mean(ours))
    verdict = f"at least {math.floor(low * 10) / 10} times as fast"
    if len(ratios) < 2 or high - low > abs(middle - 1):
        verdict = "no verdict: the rounds differ by more than the gain"
    elif low <= 1:
        verdict = "not always faster"
    print(f"  {what}: {middle:.1f} ({low:.2f} to {high:.2f} in {len(ratios)} rounds); {verdict}")
    return {"ratio": middle, "low": low, "high": high, "verdict": verdict}


def check(clip):
    for case in CASES:
        row, tolerance = case_row(case, FRAMES), 1 if case.endswith("bilinear") else 0
        assert_pixels(randaugment([clip], row, 1)[0], reference.randaugment(clip, row[0]), max_diff=tolerance)


def time_kernels(clip, repeat):
    functions = {
        case: partial(lambda _, row: randaugment([clip], row, 1), row=case_row(case, FRAMES)) for case in CASES
    }
    functions["a plain copy"] = lambda _: clip.copy()
    return milliseconds(functions, repeat)


def time_batch(clips, repeat, where):
    """All kernels on a batch on a device ("gpu" or "cpu"), checked there: times of a clip, and bytes moved for it."""
    copies = [device.upload(clip, where) for clip in clips]
    times, moved = {}, {}
    for case in ("a plain copy", *CASES, *MIXES, *FILTERS, *WARPS, INTERPOLATION):
        if case == "a plain copy":
            function, nbytes = lambda: [clip.copy() for clip in copies], 2 * sum(clip.nbytes for clip in clips)
        else:
            function, nbytes = call_of(case, clips, where)
            for out, expected in zip(function(), call_of(case, clips, "cpu")[0](), strict=True):
                assert_pixels(device.to_host(out), expected)
        times[case] = tuple(t / len(clips) for t in device.milliseconds(function, repeat, where))
        moved[case] = nbytes / len(clips)
    return times, moved


def time_randaugment(clip, repeat):
    """RandAugment(2, 9), nearest, one thread, other draws in each call: ours, torchvision's, Pillow's, DALI's."""
    op = RandAugmentT(2, 9.0, 0.5, interpolation="nearest")
    rows = op.draw(Draws(0, 0, np.arange(repeat + 2)), FRAMES, SIZE, SIZE)
    frame_rows = RandAugmentT(2, 9.0, 0.5, interpolation="nearest", statistics="frame").draw(
        Draws(0, 0, np.arange(repeat + 2)), FRAMES, SIZE, SIZE
    )
    functions = {
        "RandAugmentT(2), statistics of the clip": lambda i: randaugment([clip], rows[i : i + 1], 2),
        "RandAugmentT(2), statistics of each frame": lambda i: randaugment([clip], frame_rows[i : i + 1], 2),
    }
    for make in (torchvision_randaugment, dali_randaugment):
        try:
            functions |= make(clip)
        except ImportError as error:
            print(f"skipped: {error}")
    return calls(functions, repeat)


def torchvision_randaugment(clip):
    torchvision, v2, _ = import_torchvision()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    theirs = v2.RandAugment(num_ops=2, magnitude=9)
    video = torch.from_numpy(clip).permute(0, 3, 1, 2).contiguous()

    def on_pillow(_):
        """One draw for the clip, as far as torchvision can: the same seed for each frame."""
        state = torch.get_rng_state()
        for frame in clip:
            torch.set_rng_state(state)
            np.asarray(theirs(Image.fromarray(frame)))

    return {
        f"torchvision {torchvision.__version__} v2.RandAugment(2, 9)": lambda _: theirs(video),
        "the same on Pillow images, frame by frame": on_pillow,
    }


def dali_randaugment(clip):
    from nvidia.dali import __version__ as version
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.auto_aug.rand_augment import rand_augment

    @pipeline_def(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1, enable_conditionals=True)
    def theirs():
        clips = fn.external_source(lambda: [clip], layout="FHWC", dtype=types.UINT8, ndim=4)
        return rand_augment(clips, n=2, m=9, interp_type=types.INTERP_NN)

    @pipeline_def(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
    def copies():
        return fn.copy(fn.external_source(lambda: [clip], layout="FHWC", dtype=types.UINT8, ndim=4))

    pipelines = theirs(), copies()  # rand_augment warns of names that DALI itself has deprecated
    for pipeline in pipelines:
        pipeline.build()
    return {
        f"DALI {version} auto_aug.rand_augment(n=2, m=9)": lambda _: pipelines[0].run(),
        "a DALI pipeline that only copies": lambda _: pipelines[1].run(),
    }


def time_warps(clip, repeat):
    """One map of all frames, one thread, {case: {whose: times}}: ours, torchvision's, OpenCV's, DALI's."""
    found = {}
    for case in WARPS:
        row = warp_row(case, SIZE, SIZE)
        expected, unsure = reference.warp(clip[:1], row[0])
        out = warp([clip], row, 1)[0][:1]
        assert_pixels(out[~unsure], expected[~unsure], max_diff=int(row["bilinear"][0]))
        functions = {"ours": lambda _, row=row: warp([clip], row, 1)}
        for make in (torchvision_warp, opencv_warp, dali_warp):
            try:
                functions |= make(clip, case, row["matrix"][0, 0])
            except ImportError as error:
                print(f"skipped: {error}")
        found[case] = calls(functions, repeat)
    row = case_row("Rotate, bilinear", FRAMES)
    found["affine, bilinear"] |= calls({"RandAugmentT, Rotate": lambda _: randaugment([clip], row, 1)}, repeat)
    return found


def torchvision_warp(clip, case, matrix):
    torchvision, v2, _ = import_torchvision()
    torch.set_num_threads(1)
    video, functional = torch.from_numpy(clip).permute(0, 3, 1, 2).contiguous(), v2.functional
    kind, interpolation = case.split(", ")
    name = f"torchvision {torchvision.__version__} {kind}"
    if kind == "affine":
        angle, x, y, scale, shear_x, shear_y = ROTATED
        return {name: lambda _: functional.affine(video, angle, [x, y], scale, [shear_x, shear_y], interpolation)}
    corners = np.array([[0, 0], [SIZE, 0], [SIZE, SIZE], [0, SIZE]], float)
    ends = geometry.map_points(geometry.inverse(matrix), corners).round().astype(int).tolist()
    return {name: lambda _: functional.perspective(video, corners.astype(int).tolist(), ends, interpolation)}


def opencv_warp(clip, case, matrix):
    import cv2

    cv2.setNumThreads(1)
    kind, interpolation = case.split(", ")
    centres = geometry.translation(-0.5, -0.5) @ matrix @ geometry.translation(0.5, 0.5)  # OpenCV counts from centres
    flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_LINEAR if interpolation == "bilinear" else cv2.INTER_NEAREST)
    if kind == "affine":
        function = partial(cv2.warpAffine, M=centres[:2], dsize=(SIZE, SIZE), flags=flags)
    else:
        function = partial(cv2.warpPerspective, M=centres, dsize=(SIZE, SIZE), flags=flags)
    return {f"OpenCV {cv2.__version__}": lambda _: [function(frame) for frame in clip]}


def dali_warp(clip, case, matrix):
    from nvidia.dali import __version__ as version
    from nvidia.dali import fn, pipeline_def, types

    if case.startswith("perspective"):
        return {}  # DALI's is OpenCV's
    kind = types.INTERP_LINEAR if case.endswith("bilinear") else types.INTERP_NN

    @pipeline_def(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
    def theirs():
        clips = fn.external_source(lambda: [clip], layout="FHWC", dtype=types.UINT8, ndim=4)
        return fn.warp_affine(clips, matrix=matrix[:2].ravel().tolist(), fill_value=0, interp_type=kind)

    pipeline = theirs()
    pipeline.build()
    return {f"DALI {version} warp_affine": lambda _: pipeline.run()}


def print_warps(found, rounds):
    """A table for each case, and ratios with each of the others."""
    compared = {}
    for case, times in found.items():
        print_table(f"One map of all frames, {case}, one CPU thread", summary(times), statistics.median(times["ours"]))
        for name, other in times.items():
            if name != "ours" and "RandAugment" not in name:
                what = f"{case}, compared with {name}"
                compared[what] = compare(what, times["ours"], other, rounds)
    return compared


def time_interpolation(repeat):
    """16 frames, each between two of 17: ours, and torch.lerp on the same bytes, which needs floats."""
    video, torch_threads = make_clip(0, FRAMES + 1, SIZE, SIZE), torch.get_num_threads()
    positions = np.arange(FRAMES) + np.linspace(0.05, 0.95, FRAMES)
    rows, frames = interpolate_rows(positions[None]), torch.from_numpy(video)
    weight = torch.from_numpy(positions % 1).float()[:, None, None, None]

    def ours(_=0):
        return interpolate([video], rows, FRAMES, num_threads=1)[0]

    def lerp(_=0):
        return torch.lerp(frames[:-1].float(), frames[1:].float(), weight).add_(0.5).to(torch.uint8).numpy()

    torch.set_num_threads(1)
    assert_pixels(ours(), reference.interpolate(video, positions))
    assert_pixels(ours(), lerp(), max_diff=1, max_fraction=0.01)  # ties
    times = milliseconds({INTERPOLATION: ours, f"torch {torch.__version__} lerp, as floats": lerp}, repeat)
    torch.set_num_threads(torch_threads)
    return times


def time_mixing(clips, repeat):
    """A batch mixed with other draws in each call; times of its calls, and the bytes that must be moved for a clip."""
    batch = len(clips)
    functions, moved = {}, {"a plain copy": 2 * clips[0].nbytes}
    for name in MIXES:
        rows = [mix_rows(name, clips, i) for i in range(repeat + 2)]
        check_mixing(clips, rows[0])
        functions[name] = lambda i, rows=rows: blend(clips, rows[i], num_threads=1)
        # Of two clips that are blended both are read; what is not copied moves nothing.
        moved[name] = statistics.median(float(bytes_moved(r).mean()) for r in rows[2:])
    functions["a plain copy"] = lambda _: [clip.copy() for clip in clips]
    try:
        functions |= torchvision_mixing(clips)
    except ImportError as error:
        print(f"skipped: {error}")
    return {name: [t / batch for t in times] for name, times in calls(functions, repeat).items()}, moved


def time_filters(clip, repeat):
    """Ops on colour, other draws in each call: ours, and torchvision's v2 with its own draws, on a planar video."""
    functions = {}
    for name, op in FILTERS.items():
        rows = [filter_rows(name, [clip], i) for i in range(repeat + 2)]
        expected, tolerance = REFERENCES[name]
        assert_pixels(op.run([clip], rows[0])[0], expected(clip, rows[0][0]), **tolerance)
        functions[name] = lambda i, op=op, rows=rows: op.run([clip], rows[i], num_threads=1)
    try:
        functions |= torchvision_filters(clip)
    except ImportError as error:
        print(f"skipped: {error}")
    functions |= dali_filters(clip)
    return calls(functions, repeat)


# What each op must equal. In float64 a value may be on the other side of a whole level, which hue and contrast stretch.
REFERENCES = {
    "ColorJitter": (reference.color, dict(max_diff=8, max_fraction=1e-3)),
    "RandomGrayscale": (reference.color, dict(max_diff=1, max_fraction=1e-5)),
    "GaussianBlur": (reference.blur, dict(max_diff=1, max_fraction=1e-3)),
    "GaussianBlur, 5 pixels": (reference.blur, dict(max_diff=1, max_fraction=1e-3)),
    "GaussianNoise": (reference.color, dict(max_diff=1, max_fraction=1e-3)),
    "MotionBlur": (reference.motion, dict(max_diff=0)),
    "BackgroundMix": (reference.background, dict(max_diff=0)),
}


def torchvision_filters(clip):
    """On a plain tensor: RandomGrayscale of torchvision 0.28 leaves a tv_tensors.Video as it is."""
    torchvision, v2, _ = import_torchvision()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    video = torch.from_numpy(clip).permute(0, 3, 1, 2).contiguous()
    theirs = {
        "ColorJitter(0.4, 0.4, 0.4, 0.1)": v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
        "RandomGrayscale(1.0)": v2.RandomGrayscale(1.0),
        "GaussianBlur(23)": v2.GaussianBlur(23),
        "GaussianBlur(5)": v2.GaussianBlur(5),
        "GaussianNoise(sigma=0.05)": v2.GaussianNoise(sigma=0.05),
    }
    return {
        f"torchvision {torchvision.__version__} v2.{name}": lambda _, op=op: op(video) for name, op in theirs.items()
    }


def dali_filters(clip):
    """DALI's operators for the CPU that come nearest; its hue and contrast are others (docs/color.md)."""
    from nvidia.dali import __version__ as version
    from nvidia.dali import fn, pipeline_def, types

    def made(operator, **options):
        @pipeline_def(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
        def pipeline():
            return operator(fn.external_source(lambda: [clip], layout="FHWC", dtype=types.UINT8, ndim=4), **options)

        built = pipeline()
        built.build()
        return lambda _: built.run()

    return {
        f"DALI {version} color_twist": made(fn.color_twist, brightness=1.2, contrast=0.8, saturation=1.3, hue=20),
        f"DALI {version} hsv, saturation 0": made(fn.hsv, saturation=0),
        f"DALI {version} gaussian_blur, 23": made(fn.gaussian_blur, window_size=23, sigma=1.05),
        f"DALI {version} gaussian_blur, 5": made(fn.gaussian_blur, window_size=5, sigma=1.05),
        f"DALI {version} noise.gaussian": made(fn.noise.gaussian, stddev=12),
    }


def compare_filters(times, rounds):
    """Each of ours with torchvision's, where it is installed."""
    found = {}
    for name in FILTERS:
        word = "GaussianBlur(5" if name.endswith("5 pixels") else f"{name}("
        other = next((t for theirs, t in times.items() if f"v2.{word}" in theirs), None)
        if other:
            found[name] = compare(f"{name} compared with torchvision's", times[name], other, rounds)
    return found


def check_mixing(clips, rows):
    for out, expected in zip(blend(clips, rows), reference.blend(clips, rows), strict=True):
        assert_pixels(out, expected, max_diff=int(rows["spread"].any()), max_fraction=1e-3)


def torchvision_mixing(clips):
    torchvision, v2, tv_tensors = import_torchvision()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    labels = torch.arange(len(clips))
    pixels = tv_tensors.Video(torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3).contiguous())
    floats = tv_tensors.Video(pixels.float() / 255)
    cut, mix = v2.CutMix(num_classes=len(clips)), v2.MixUp(num_classes=len(clips))
    return {
        f"torchvision {torchvision.__version__} v2.CutMix on uint8": lambda _: cut(pixels, labels),
        "torchvision v2.MixUp on float32": lambda _: mix(floats, labels),
    }


def print_mixing(title, times, moved, peak=None):
    print(f"\n{title}")
    copy = moved["a plain copy"] / times["a plain copy"][0]
    for name, (median, spread) in times.items():
        line = f"  {name:<44} {median:8.3f} ms  +- {spread:.3f}"
        if name in moved:
            rate = moved[name] / median
            line += f"  {moved[name] / 1e6:5.2f} MB  {rate / 1e6:6.2f} GB/s  {rate / copy:5.0%} of copy"
            line += f"  {1000 * rate / peak:5.0%} of peak" if peak else ""
        print(line)


def compare_mixing(times, rounds):
    """CubeCutMix with torchvision's CutMix, FadeMixUp with its MixUp, where it is installed."""
    found = {}
    for ours, theirs in (("CubeCutMix", "v2.CutMix"), ("FadeMixUp", "v2.MixUp")):
        other = next((t for name, t in times.items() if theirs in name), None)
        if other:
            found[ours] = compare(f"{ours} compared with torchvision's {theirs}", times[ours], other, rounds)
    return found


def compare_randaugment(times, rounds):
    """Ours with each of the others."""
    ours, *_ = times
    return {
        name: compare(f"compared with {name}", times[ours], other, rounds)
        for name, other in times.items()
        if "v2.RandAugment" in name or "auto_aug" in name
    }


def print_table(title, times, base=None, moved=None):
    print(f"\n{title}")
    for name, (median, spread) in times.items():
        line = f"  {name:<52} {median:8.3f} ms  +- {spread:.3f}"
        if moved:
            line += f"  {moved / 1e6 / median:6.2f} GB/s  {base / median:5.0%} of copy"
        elif base:
            line += f"  {median / base:6.2f} x"
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200, help="calls of each thing that is timed (default: 200)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="parts of the calls that ratios are given for (default: 5)"
    )
    parser.add_argument("--json", type=Path, help="write the times there too")
    options = parser.parse_args()
    if not keep_memory():
        print("the allocator cannot be told to keep memory: times include page faults")
    clip = make_clip(0, FRAMES, SIZE, SIZE)
    check(clip)
    moved = 2 * clip.nbytes
    results = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}

    results["kernels"] = times = time_kernels(clip, options.clips)
    print_table(f"Kernels, one CPU thread; {moved / 1e6:.1f} MB must move", times, times["a plain copy"][0], moved)
    single = time_randaugment(clip, options.clips)
    results["randaugment"] = times = summary(single)
    print_table("RandAugment(2, 9), nearest, one CPU thread", times, next(iter(times.values()))[0])
    results["compared"] = compare_randaugment(single, options.rounds)
    single = time_filters(clip, options.clips)
    results["filters"] = times = summary(single)
    print_table("Colour, blur and noise, one CPU thread", times)
    results["compared"] |= compare_filters(single, options.rounds)
    single = time_warps(clip, options.clips)
    results["affine"] = {case: summary(times) for case, times in single.items()}
    results["compared"] |= print_warps(single, options.rounds)
    results["interpolation"] = times = time_interpolation(options.clips)
    print_table("16 frames between those of a clip, one CPU thread", times, next(iter(times.values()))[0])
    single, blended = time_mixing([make_clip(i, FRAMES, SIZE, SIZE) for i in range(8)], options.clips)
    times = summary(single)
    print_mixing("Mixing and erasing a batch of 8, one CPU thread, time of a clip", times, blended)
    results["mixing"] = times
    results["compared"] |= compare_mixing(single, options.rounds)
    reason = gpu.problem()
    if reason:
        print(f"\nNothing is timed on a GPU: {reason}")
    else:
        clips = [make_clip(i % 4, FRAMES, SIZE, SIZE) for i in range(32)]
        results["gpu"], moved = time_batch(clips, options.clips, "gpu")
        title = f"Kernels, {device.gpu_version()}, a batch of 32, time of a clip"
        print_mixing(title, results["gpu"], moved, device.peak_bandwidth())
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
