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
    "tests/test_color.py", "tests/test_blur.py", "tests/test_motion.py",
    "tests/test_warp.py", "tests/test_codec_motion.py",
]  # fmt: skip
TESTS_OF = {
    "blend.cu": "tests/test_blend.py",
    "weight.h": "tests/test_blend.py",
    "interpolate.cu": "tests/test_interpolate.py",
    "color.cu": "tests/test_color.py",
    "blur.cu": "tests/test_blur.py",
    "motion.cu": "tests/test_motion.py",
    "background.cu": "tests/test_motion.py",
    "warp.cu": "tests/test_warp.py",
    "vectors.cpp": "tests/test_codec_motion.py",
    "masks.cpp": "tests/test_codec_motion.py",
    "gather.h": "tests/test_warp.py",
    "gather_avx2.h": "tests/test_warp.py",
    "avx2.h": "tests/test_warp.py",
}
MUTANTS = [  # file, what is there, what it becomes
    ("common.h", "(frame * clip.height + y) * clip.width * 3", "(frame * clip.width + y) * clip.height * 3"),
    ("gather.h", "k - after, after}}", "k + after, after}}"),
    ("gather.h", "clamped(x - 1 + i, right)", "clamped(x - 1 + i, right - 1)"),
    ("gather.h", "first = x0 < 1 ? (int32_t)(1 - x0) : 0", "first = x0 < 1 ? (int32_t)(-x0) : 0"),
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
    ("gather.h", "!is_inside(x, frame.width - 1) ||", "!is_inside(x, frame.width) ||"),
    ("gather.h", "!is_inside(y, frame.height - 1)", "!is_inside(y, frame.height)"),
    ("gather.h", "i < BLOCK && first + i < width", "i < BLOCK"),
    ("gather_avx2.h", "_mm256_sub_epi32(all(2048), right)", "_mm256_sub_epi32(all(2047), right)"),
    ("gather_avx2.h", "_mm256_srli_epi32(rest, 21)", "all(0)"),
    ("gather_avx2.h", "rest = _mm256_and_si256(rest, all((1 << 21) - 1));", ""),
    ("gather_avx2.h", "rest_of_step = all(GROUP * part)", "rest_of_step = all(0)"),
    ("gather_avx2.h", "-FAR <= at >> 21 && at >> 21 <= FAR", "true || at"),
    ("gather_avx2.h", "is_near(row.x + row.dx * width)", "is_near(row.x + row.dx)"),
    ("gather_avx2.h", "centre = _mm256_add_pd(centre, _mm256_set1_pd(4));", ""),
    ("gather_avx2.h", "SMOOTH ? stride + 16 : 4", "SMOOTH ? stride : 4"),
    ("gather_avx2.h", "SMOOTH ? stride + 16 : 4", "SMOOTH ? stride + 16 : 0"),
    ("gather_avx2.h", "all(right - more)", "all(right)"),
    ("gather_avx2.h", "_mm256_srai_epi32(either(x, y), 31)", "_mm256_srai_epi32(x, 31)"),
    ("gather_avx2.h", "_mm256_cmpgt_epi32(all(-1), x)", "_mm256_cmpgt_epi32(all(0), x)"),
    ("gather_avx2.h", "either(_mm256_cmpgt_epi32(x, all(right))", "either(_mm256_cmpgt_epi32(x, all(0))"),
    ("gather_avx2.h", "i < GROUP - 1 ? 4 : 3", "4"),
    ("gather_avx2.h", "if (alone >> k & 1)", "if (alone >> k & 2)"),
    ("gather_avx2.h", "width / GROUP * GROUP, width, row", "width / GROUP * GROUP + 1, width, row"),
    ("avx2.h", "_mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7)", "_mm256_setr_epi32(0, 1, 2, 4, 5, 3, 6, 7)"),
    ("avx2.h", "_mm_storel_epi64((__m128i*)(dst + 16)", "_mm_storeu_si128((__m128i*)(dst + 16)"),
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
        "uint8_t bilinear;    // 0: nearest; 1: bilinear; 2: bicubic\n  uint8_t per_clip;",
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
    ("color.cu", "p.r[i] = src[3 * i], p.g[i] = src[3 * i + 1]", "p.r[i] = src[3 * i + 1], p.g[i] = src[3 * i]"),
    ("color.cu", "i < 3 * count; ++i) part[i] = src[i]", "i < count; ++i) part[i] = src[i]"),
    ("color.cu", "i < 3 * count; ++i) dst[i] = part[i]", "i < 2 * count; ++i) dst[i] = part[i]"),
    ("color.cu", "whole < 0 ? 0 : whole", "whole"),
    ("color.cu", "positive > 255 ? 255 : positive", "positive"),
    ("color.cu", "fused((float)g, 0.587f, (float)r * 0.2989f)", "fused((float)g, 0.587f, (float)r * 0.299f)"),
    ("color.cu", "_mm256_set1_ps(0.587f), red", "_mm256_set1_ps(0.5870001f), red"),
    ("color.cu", "load_halves(src, src + 8)", "load_halves(src, src + 9)"),
    ("color.cu", "first + GROUP <= width", "first < width"),
    ("color.cu", "fused(grey, rest, (float)value * factor)", "fused(grey, rest, (float)value * factor) + 0.5f"),
    ("color.cu", "no ^ ((yes ^ no) & -is)", "yes ^ ((yes ^ no) & -is)"),
    ("color.cu", "is_g = (most == g) & (most != r)", "is_g = most == g"),
    ("color.cu", "4 - 4 * is_r - 2 * is_g", "4 - 2 * is_r - 4 * is_g"),
    ("color.cu", "(h < 0.0f) - (h >= 1.0f)", "(h < 0.0f)"),
    ("color.cu", "(sextant == 0) | (sextant == 6)", "sextant == 0"),
    ("color.cu", "(1.0f - part) * v * levels", "(1.0f - part) * levels"),
    ("color.cu", "pick(at4, up, none)", "pick(at4, down, none)"),
    ("color.cu", "pick(at0, up, pick(at3, down, none))", "pick(at0, down, pick(at3, up, none))"),
    ("color.cu", "- 510)) + 0.5f)", "- 510)))"),
    ("color.cu", "(uint32_t)(x + i), (uint32_t)y", "(uint32_t)i, (uint32_t)y"),
    ("color.cu", "noisy(p.b[i], spread, words.c)", "noisy(p.b[i], spread, words.a)"),
    ("color.cu", "k * args.num_values + frame", "k * args.num_values"),
    ("color.cu", "op == GREY && value != 0.0f", "op == GREY"),
    ("color.cu", "for (int32_t i = count; i < CHUNK; ++i) p.r[i] = 0;", "{}"),
    ("color.cu", "args.per_clip ? clip.frames : frame + 1", "frame + 1"),
    ("color.cu", "frame_of(clip, args.per_clip ? 0 : frame).mean", "frame_of(clip, frame).mean"),
    (
        "color.cu",
        "last == 1 && args.op[0] == GREY && value_of(args, 0, frame) != 0.0f",
        "last == 1 && args.op[0] == GREY",
    ),
    ("color.cu", "while (last > 0 && args.op[last - 1] == IDENTITY) --last;", "--last;"),
    ("color.cu", "any_op(args, 0, first) ? clip.dst : clip.src", "clip.src"),
    ("color.cu", "apply(p, args, first, last, mean", "apply(p, args, 0, last, mean"),
    ("color.cu", "ADD(&total, mine);\n  SYNC();", "ADD(&total, mine);"),
    ("color.cu", "x += LANES * CHUNK", "x += 2 * LANES * CHUNK"),
    ("motion.cu", "frame < before ? 0 : frame - before", "frame - before"),
    ("motion.cu", "clip.frames - 1 : frame + after", "clip.frames - 1 : frame"),
    ("motion.cu", "asked > WINDOW_MAX ? WINDOW_MAX", "asked > WINDOW_MAX ? 1"),
    ("motion.cu", "asked < 1 ? 1", "asked < 1 ? 2"),
    ("motion.cu", "args.window[frame]", "args.window[0]"),
    ("motion.cu", "(window - 1) / 2", "window / 2"),
    ("motion.cu", "(2 * count) + 1", "(2 * count)"),
    ("motion.cu", "(2u * sum[i] + (uint32_t)count)", "(2u * sum[i])"),
    ("motion.cu", "src[f * size + left + i]", "src[f * size + i]"),
    ("background.cu", "args.frame > last ? last", "args.frame > last ? 0"),
    ("background.cu", "args.frame < 0 ? 0", "args.frame < 0 ? last"),
    ("background.cu", "asked < 1.0f ? asked : 1.0f", "asked < 1.0f ? asked : 0.0f"),
    ("background.cu", "WHOLE + 0.5f", "WHOLE"),
    ("background.cu", "args.weight[frame]", "args.weight[0]"),
    ("blur.cu", "args.radius > RADIUS_MAX ? RADIUS_MAX", "args.radius > RADIUS_MAX ? 1"),
    ("blur.cu", "(2 * sigma * sigma)", "(sigma * sigma)"),
    ("blur.cu", "if (!(t < 20.7)) return 0;", "if (!(t < 5)) return 0;"),
    ("blur.cu", "for (int32_t i = 0; i < 6; ++i) sum *= sum;", "for (int32_t i = 0; i < 5; ++i) sum *= sum;"),
    ("blur.cu", "total += 2 * bell[k]", "total += bell[k]"),
    ("blur.cu", "if (size == 1) return 0;", "if (size == 1) return at;"),
    ("blur.cu", "2 * (size - 1)", "2 * size"),
    ("blur.cu", "at < size ? at : period - at", "at < size ? at : size - 1"),
    ("blur.cu", "  at %= period;\n", ""),
    ("blur.cu", "far * (float)(up2[i] + down2[i])", "near * (float)(up2[i] + down2[i])"),
    ("blur.cu", "mirrored(y + k + 1, clip.height)", "mirrored(y + k, clip.height)"),
    ("blur.cu", "far * (left[i - 3] + right[i + 3])", "far * (left[i - 3] + right[i])"),
    (
        "blur.cu",
        "const float *left = line - 3 * k, *right = line + 3 * k;\n    const float near = state.weight[k];",
        "const float *left = line - 3, *right = line + 3;\n    const float near = state.weight[k];",
    ),
    ("blur.cu", "(int32_t)(sum[i] + 0.5f)", "(int32_t)sum[i]"),
    ("blur.cu", "left < radius ? 0 : left - radius", "left < radius ? 0 : left"),
    ("blur.cu", "SYNC_ROW();\n    sum_columns", "sum_columns"),
    ("blur.cu", "SYNC();\n  double total", "double total"),
    ("vectors.cpp", "if (f == 0 || std::memcmp(", "if (f == 0 && std::memcmp("),
    ("vectors.cpp", "points[same - 1].times++;", "{}"),
    ("vectors.cpp", "const size_t alike = affine ? first : points.size();", "const size_t alike = first;"),
    (
        "vectors.cpp",
        "int64_t row = (int64_t)(r0 - blocks.top) * blocks.columns() - blocks.left;",
        "int64_t row = (int64_t)r0 * blocks.columns() - blocks.left;",
    ),
    ("vectors.cpp", "region[2] + BLOCK - 1) / BLOCK))", "region[2]) / BLOCK))"),
    (
        "vectors.cpp",
        "(row - blocks.top) * blocks.columns() + column - blocks.left;",
        "row * blocks.columns() + column;",
    ),
    ("vectors.cpp", "multiply(stored, matrices + 9 * f, m), invert", "multiply(matrices + 9 * f, stored, m), invert"),
    ("vectors.cpp", "if (error < least) least = error, chosen", "if (error > least) least = error, chosen"),
    ("vectors.cpp", "(top + dy) * other.stride + left + dx", "top * other.stride + left"),
    ("vectors.cpp", "w > 0 ? std::max(most[k], at) : INFINITY", "std::max(most[k], at)"),
    ("vectors.cpp", "if (mean < best[row + c])", "if (mean > best[row + c])"),
    ("masks.cpp", "const int ROUNDS = 2;", "const int ROUNDS = 1;"),
    ("masks.cpp", "- tokens.some.begin() - 1, 0) / 2", "- tokens.some.begin(), 0) / 2"),
    ("masks.cpp", "any ? weights[i] : 1.0", "1.0"),
    ("masks.cpp", "far[i] == least && wanted-- > 0", "far[i] == least && wanted > 0"),
    ("masks.cpp", "const bool begun = t >= first", "const bool begun = t > first"),
    ("masks.cpp", "usually == usually ? usually : speed[k]", "usually == usually ? usually : 0"),
    ("masks.cpp", "speed[k] * (times[t + 1] - times[t])", "speed[k]"),
    ("masks.cpp", "size[k] - box[k] / 2);", "size[k]);"),
    ("masks.cpp", "motion[i] - usual[2 * t],", "motion[i],"),
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
        # a folder of its own: runs that share one disturb each other, which would pass for a mutant that is caught
        own = [f"--basetemp={folder / 'tmp'}", "-p", "no:cacheprovider"]
        test = [sys.executable, "-m", "pytest", "-qx", *own, *first]
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


def main(step=1):
    """Try every ``step``-th mutant; returns 0 if all are caught."""
    mutants = MUTANTS[::step]
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
        for mutant, alive in zip(mutants, pool.map(run, mutants), strict=True):
            survivors += alive
            print("SURVIVED" if alive else "caught  ", *mutant[0:1], repr(mutant[1]), "->", repr(mutant[2]), flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} mutants caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
