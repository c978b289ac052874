"""Change single tokens in the kernels and see that the tests fail: ``python tests/mutate_kernels.py``.

A test that cannot fail is worth nothing. Each mutant is compiled and tested in a copy of the project, where the tests
must pass without it.
"""

import os
import queue
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = [
    "tests/test_kernels.py", "tests/test_blend.py", "tests/test_emulated_gpu.py", "tests/test_interpolate.py",
    "tests/test_warp.py",
]  # fmt: skip
TESTS_OF = {
    "blend.cu": "tests/test_blend.py",
    "weight.h": "tests/test_blend.py",
    "interpolate.cu": "tests/test_interpolate.py",
    "warp.cu": "tests/test_warp.py",
    "gather.h": "tests/test_warp.py",
}
MUTANTS = [  # file, what is there, what it becomes
    ("common.h", "(frame * clip.height + y) * clip.width * 3", "(frame * clip.width + y) * clip.height * 3"),
    ("gather.h", "(uint64_t)x < right", "(uint64_t)x <= right"),
    ("gather.h", "m[1] * row + m[2] - ONE / 2", "m[1] * row + m[2]"),
    ("gather.h", "0 <= y0 && y0 < bottom ?", "0 <= y0 && y0 <= bottom ?"),
    ("gather.h", "first = x0 < 0 ? (int32_t)-x0 : 0", "first = x0 < 0 ? (int32_t)-x0 - 1 : 0"),
    ("gather.h", "frame.width - 1 - (int32_t)x0 < width ?", "frame.width - 1 - (int32_t)x0 > width ?"),
    ("gather.h", "a * 2048 + (b - a) * wx", "a * 2048 + (b - a) * wy"),
    ("gather.h", "soft && x0 == right", "soft && x0 == right - 1"),
    ("gather.h", "left || low ? fill", "left || top ? fill"),
    ("gather.h", "at < -FAR ? -FAR", "at < -FAR ? 0"),
    ("gather.h", "at > FAR ? FAR", "at > FAR ? 0"),
    ("gather.h", "at > 0 ? at : 0", "at > FAR ? at : FAR"),
    ("gather.h", "wx << 16 | (2048 - wx)", "wx << 16 | (2047 - wx)"),
    ("gather.h", "lowest = 1 - high", "lowest = -2 * high"),
    ("gather.h", "(below % step > 0)", "(below % step < 0)"),
    ("gather.h", "first = 0, last = width - 1;", "first = 0, last = width;"),
    ("gather.h", "0, (frame.width - 2) * ONE", "0, frame.width * ONE"),
    ("gather.h", "0, (frame.height - 1) * ONE", "0, frame.height * ONE"),
    ("gather.h", "outside[count - 1] = 1", "outside[count - 1] = 0"),
    ("gather.h", "frame.smooth ? 0 : 1024", "1024"),
    ("gather.h", "frame.smooth ? frame.height - 1 : frame.height", "frame.height"),
    ("gather.h", "const double y = row + 0.5", "const double y = row"),
    ("gather.h", "1 / (row.z + row.dz * centre)", "row.z + row.dz * centre"),
    ("warp.cu", "frame < args.num_matrices ? frame : args.num_matrices - 1", "0"),
    ("warp.cu", "small && -limit < m[i] && m[i] < limit", "small"),
    ("warp.cu", "m[6] == 0 && m[7] == 0", "m[6] == 0"),
    ("warp.cu", "clip.src + frame * size", "clip.src"),
    ("randaugment.cu", "c < 3; ++c) ADD(", "c < 2; ++c) ADD("),
    ("randaugment.cu", "i + 1 < pixels ? 2 : 1", "i < pixels ? 2 : 1"),
    ("randaugment.cu", "down[i + 3] + 6)", "down[i + 3] + 7)"),
    ("randaugment.cu", "2 * sum + pixels", "2 * sum"),
    ("randaugment.cu", "args.per_clip ? 0 : frame", "args.per_clip ? frame : 0"),
    ("randaugment.cu", "look_up(dst, dst, width, state.after)", "look_up(dst, dst, width, state.before)"),
    (
        "randaugment.h",
        "uint8_t bilinear;    // otherwise nearest\n  uint8_t per_clip;",
        "uint8_t per_clip;\n  uint8_t bilinear;",
    ),
    ("randaugment.h", "value < 0 ? 0 : value", "value < 1 ? 1 : value"),
    ("randaugment.h", "!looks_up || op == CONTRAST", "!looks_up"),
    ("randaugment.h", "(args.per_clip && is_counted(op))", "(!args.per_clip && is_counted(op))"),
    ("randaugment.h", "(passes - 1 - pass) % 2", "pass % 2"),
    ("randaugment_tables.h", "m[1] = -m[3]", "m[1] = m[3]"),
    ("randaugment_tables.h", "(float)v < value", "(float)v <= value"),
    ("randaugment_tables.h", "below = share / 2", "below = share"),
    ("blend.cu", "int32_t top[2], bottom[2], left[2], right[2];", "int32_t top[2], left[2], bottom[2], right[2];"),
    ("blend.cu", "first * (steps - frame) + last * frame", "first * frame + last * (steps - frame)"),
    ("blend.cu", "+ steps) / (2 * steps)", ") / (2 * steps)"),
    ("blend.cu", "first == last || frames == 1", "first == last"),
    ("weight.h", "weight ? other : own;", "weight ? own : other;"),
    ("weight.h", "(((difference * part >> 14) + 1) >> 1)", "(difference * part >> 15)"),
    ("interpolate.cu", "before < last ? before + 1 : last", "before"),
    ("interpolate.cu", "args.at[frame][1] < 0 ? 0 :", "args.at[frame][1] < 0 ? WHOLE :"),
    ("interpolate.cu", "args.at[frame][1] > WHOLE ? WHOLE :", "args.at[frame][1] > WHOLE ? 0 :"),
    ("interpolate.cu", "asked > last ? last : asked", "asked"),
    ("blend.cu", "(word >> 8 & 0x00FF00FFu)", "(word & 0x00FF00FFu)"),
    ("blend.cu", "(int32_t)(value + 0.5f), 0, 255", "(int32_t)value, 0, 255"),
    ("blend.cu", "(other - own) * weight + WHOLE / 2", "(other - own) * weight"),
    ("blend.cu", "{(uint32_t)x, (uint32_t)y, (uint32_t)frame, 0u}", "{(uint32_t)y, (uint32_t)x, (uint32_t)frame, 0u}"),
    ("blend.cu", "level(b, sb, words.c)", "level(b, sb, words.d)"),
    ("blend.cu", "args.first <= frame && frame < args.last", "args.first <= frame && frame <= args.last"),
    ("blend.cu", "frame, frames) <= y &&", "frame, frames) < y &&"),
    (
        "blend.cu",
        "blend_clip(own, other, dst, 3 * left, 3 * right, inside)",
        "blend_clip(own, other, dst, left, right, inside)",
    ),
    ("blend.cu", "&clip + (partner - clip.index)", "&clip + partner"),
    ("blend.cu", "partner >= clip.count", "partner > clip.count"),
    ("blend.cu", "other->height == clip.height && other->width == clip.width", "true"),
    ("common.h", "row += gridDim.x * teams", "row += 2 * gridDim.x * teams"),
    ("common.h", "frame += gridDim.x", "frame += 2 * gridDim.x"),
    (
        "blend.cu",
        "blend_color(own, dst, right, width, outside, args",
        "blend_color(own, dst, right, width, inside, args",
    ),
    ("philox.h", "^ counter.b ^ key0", "^ counter.b ^ key1"),
    ("philox.h", "round < 10", "round < 9"),
    ("randaugment_tables.h", "SYNC();\n      for (int32_t c = THREAD; c < 3", "for (int32_t c = THREAD; c < 3"),
    ("common.h", "threadIdx.x % 32", "threadIdx.x % 16"),
]
AS_IT_IS = ("common.h", "threadIdx.x % 32", "threadIdx.x % 32")  # no mutant


def survives(folder, file, before, after):
    """Whether the tests of the copy in ``folder`` pass with a mutant in place."""
    path = folder / "kernels" / file
    text = path.read_text()
    if text.count(before) != 1:
        raise ValueError(f"{file}: {before!r} must be there once, not {text.count(before)} times")
    path.write_text(text.replace(before, after))
    try:
        # without real videos, which say nothing about a kernel that the others do not
        environment = os.environ | {"PYTHONPATH": str(folder), "DALI_VIDAUG_TEST_VIDEOS": ""}
        build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        subprocess.run(build, cwd=folder, env=environment, check=True, capture_output=True)
        first = sorted(TESTS, key=lambda test: test != TESTS_OF.get(file))  # most likely to notice it
        test = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *first]
        result = subprocess.run(test, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    finally:
        path.write_text(text)
    if result.returncode > 1:  # the tests could not run; below 0 they crashed, which counts as caught
        raise RuntimeError(result.stdout + result.stderr)
    return result.returncode == 0


def copy_sources(folder):
    for part in ("dali_vidaug", "kernels", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for part in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / part, folder)
    setup = folder / "setup.py"
    setup.write_text(setup.read_text().replace('"-O3"', '"-O1"'))  # compiles four times as fast
    return folder


def main():
    survivors, workers = 0, os.cpu_count() or 1
    folders: queue.SimpleQueue = queue.SimpleQueue()

    def run(mutant):
        folder = folders.get()
        try:
            return survives(folder, *mutant)
        finally:
            folders.put(folder)

    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(workers) as pool:
        for i in range(workers):
            (Path(name) / str(i)).mkdir()
            folders.put(copy_sources(Path(name) / str(i)))
        if not run(AS_IT_IS):
            raise RuntimeError("the tests fail without a mutant")
        for mutant, alive in zip(MUTANTS, pool.map(run, MUTANTS), strict=True):
            survivors += alive
            print("SURVIVED" if alive else "caught  ", *mutant[0:1], repr(mutant[1]), "->", repr(mutant[2]), flush=True)
    print(f"{len(MUTANTS) - survivors} of {len(MUTANTS)} mutants caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
