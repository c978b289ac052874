"""Are the tests awake? Each of these small faults, planted in a copy of the package, must make a test fail."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# file, what stands there, what is put in its place, the tests that must notice
MUTATIONS = [
    ("cut.py", "elif 0 <= index < key:", "elif 0 <= index < key - 3:", "test_decode.py"),
    ("cut.py", 'keys = video.keyframes[np.searchsorted(video.keyframes, wanted, "right") - 1]',
     'keys = video.keyframes[np.searchsorted(video.keyframes, wanted, "left") - 1]', "test_decode.py"),
    ("cut.py", "if index in wanted or is_reference(packet, stream):", "if index in wanted or True:", "test_decode.py"),
    ("decode.py", "return width - right, top, width - left, bottom", "return left, top, right, bottom", "test_decode.py"),
    ("decode.py", "if frame.is_corrupt:", "if False:", "test_decode.py"),
    ("bitstream.py", "return not slices or any(first >> 5 & 3 for first in slices)", "return False", "test_decode.py"),
    ("bitstream.py", "== 0xC0", "!= 0", "test_decode.py"),
    ("schedule.py", "left, right = right, left ^ (_mix(right, key) & half_mask)", "left, right = right, left", "test_schedule.py"),
    ("schedule.py", "walking = values >= np.uint64(size)", "walking = values > np.uint64(size)", "test_schedule.py"),
    ("schedule.py", "low, high = self._share(min(step, self.num_samples - first))", "low, high = self._share(step)",
     "test_schedule.py"),
    ("plan.py", "op.draw(draws.named(name), frames, height, width)", "op.draw(draws.named(type(op).__name__), frames, height, width)",
     "test_plan.py"),
    ("plan.py", 'height, width = rows["out_height"].astype(np.int64), rows["out_width"].astype(np.int64)', "pass", "test_plan.py"),
    ("rng.py", "counter[..., 2] = self.samples[:, None]", "counter[..., 2] = np.arange(len(self))[:, None]", "test_rng.py"),
    ("sampling.py", "room = np.maximum(room, 1)", "room = np.maximum(room - 1, 1)", "test_sampling.py"),
    ("producer.py", "samples[i] = draws.integers", "samples[0] = draws.integers", "test_bad_clips.py"),
    ("plan.py", 'rows["partner"] = np.minimum(rows["partner"], 0)', "pass", "test_mixing_loader.py"),
    ("batch.py", "targets = op.mix_targets(plan.args[name], targets)", "op.mix_targets(plan.args[name], targets)", "test_mixing_loader.py"),
    ("ops/blend.py", "(1 - own) * targets[partner]", "(1 - own) * targets", "test_mixing_loader.py"),
    ("ops/blend.py", "skip = np.flatnonzero(is_neutral(rows)).tolist()", "skip = np.flatnonzero(~is_neutral(rows)).tolist()", "test_blend.py"),
    ("ops/mix.py", "np.roll(order, -1)", "np.roll(order, 0)", "test_mix.py"),
    ("ops/mix.py", "common = draws if self.granularity", "common = draws.of_batch() if self.granularity", "test_mix.py"),
    ("ops/mix.py", "own >= 0.5, outside", "own < 0.5, outside", "test_mix.py"),
    ("ops/mix.py", "share**in_time)", "share)", "test_mix.py"),
    ("ops/erase.py", "(area * ratio, area / ratio)", "(area / ratio, area * ratio)", "test_erase.py"),
    ("ops/one_of.py", "rows[choice == i] = drawn[choice == i]", "rows[choice == i] = drawn[choice == 0][:1]", "test_mix.py"),
    ("graph.py", 'mirrored = args["mirrored"]', "mirrored = None", "test_graph.py"),
    ("kernels.py", "-(-int(part.max()) // _ROWS_PER_BLOCK)", "int(part.max()) // _ROWS_PER_BLOCK", "test_launch.py"),
    ("kernels.py", "range(0, len(rows), _MOST_BLOCKS_DOWN)", "range(0, len(rows), _MOST_BLOCKS_DOWN + 1)", "test_launch.py"),
    ("kernels.py", "rows[first : first + _MOST_BLOCKS_DOWN]", "rows[first : first + _MOST_BLOCKS_DOWN - 1]", "test_launch.py"),
    ("kernels.py", "clips[first * CLIP.itemsize :]", "clips[first:]", "test_launch.py"),
    ("kernels.py", "height * width * 3) > 2**30", "height * width) > 2**30", "test_launch.py"),
    ("kernels.py", "(part, np.int32(index))", "(part,)", "test_nvrtc.py"),
    ("kernels.py", "(part, np.int32(index))", "(np.int32(index), part)", "test_nvrtc.py"),
    ("kernels.py", "(part, np.int32(index))", "(part, np.int64(index))", "test_nvrtc.py"),
    ("kernels.py", '("src", "u8"),\n        ("dst", "u8"),', '("dst", "u8"),\n        ("src", "u8"),', "test_nvrtc.py"),
    ("kernels.py", 'np.arange(len(clips)), len(clips)', 'np.arange(len(clips)), len(clips) + 1', "test_launch.py"),
    ("kernels.py", "cupy.empty(size, np.uint8)", "cupy.empty(size, np.uint8, pinned=True)", "test_launch.py"),
    ("kernels.py", "_on_dalis_stream(function) if on_gpu else function", "function", "test_launch.py"),
    ("kernels.py", "            stream.ptr = 0\n", "", "test_launch.py"),
    ("kernels.py", "            cuda.runtime.setDevice(inputs[0][0].data.device_id)\n", "", "test_launch.py"),
    ("kernels.py", "            with stream:\n", "            if True:\n", "test_launch.py"),
    ("ops/flip.py", 'horizontal=args["mirrored"]',
     'horizontal=args["mirrored"].gpu() if clips.device == "gpu" else args["mirrored"]', "test_gpu_graph.py"),
    ("ops/crop.py", "return fn.slice(", 'return (fn.slice if clips.device == "cpu" else fn.slise)(', "test_gpu_graph.py"),
    ("graph.py", 'where = "mixed" if device == "gpu" else "cpu"', 'where = device', "test_gpu_graph.py"),
    ("graph.py", 'return clips.gpu() if device == "gpu" else clips', "return clips", "test_gpu_graph.py"),
    ("graph.py", "for name, op in zip(recipe.names[:num_folded], recipe.ops, strict=False):", "for name, op in ():", "test_hybrid.py"),
    ("graph.py", "[file is not _NO_FILE for file in files]", "[file is _NO_FILE for file in files]", "test_hybrid.py"),
    ("clip.py", 'if decoder == "dali":', "if True:", "test_hybrid.py"),
    ("producer.py", "plan, attempt = self._collect(plan, i, job, media, origin, attempt)",
     "plan, attempt = self._collect(plan, i, job, media, plan.row(i), attempt)", "test_hybrid.py"),
    ("bitstream.py", "shown.append(not show_existing and show == 1)", "shown.append(show == 1)", "test_nvdec_cuts.py"),
    ("bitstream.py", 'if mpeg4_picture(packet) == "B":', "if False:", "test_nvdec_cuts.py"),
    ("settings.py", "None if reasons[f] else sizes.add(f)", "None", "test_doctor.py"),
    ("nvdec.py", "heights - {height}", "heights", "test_doctor.py"),
    ("nvdec.py", "widths | {width}", "[width]", "test_doctor.py"),
    ("nvdec.py", ", self._coded.get(size))", ", None)", "test_doctor.py"),
    ("graph.py", "            self._done.synchronize()\n", "            pass\n", "test_streams.py"),
    ("loader.py", 'media[i] = self._load(plan, i, "pyav", why)', "pass", "test_hybrid.py"),
    ("settings.py", 'return ("pyav", why) if why else', 'return ("pyav", why) if False else', "test_hybrid.py"),
    ("cut.py", "elif delay > NVDEC_DELAY_MAX:", "elif False:", "test_nvdec_cuts.py"),
    ("kernels.py", "rows.gpu() if on_gpu else rows", "rows", "test_gpu_graph.py"),
    ("ops/blend.py", "args.rows(check_rows)", "args.rows()", "test_launch.py"),
    ("ops/randaugment.py", "args.rows(check_rows)", "args.rows()", "test_launch.py"),
    ("graph.py", "columns.check(plan.args[name])", "pass", "test_launch.py"),
]  # fmt: skip


def plant(folder, file, old, new, tests):
    """Run tests in a copy of the package that has a fault: their exit code, and what they printed."""
    for name in ("dali_vidaug", "kernels", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    target = folder / "dali_vidaug" / file
    text = target.read_text()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
    target.write_text(text.replace(old, new))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/{tests}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."})
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory):
    """The runs of all selected faults, side by side: by fault, a future."""
    chosen = [item.callspec.params for item in request.session.items if item.path == Path(__file__)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {tuple(p.values()): pool.submit(plant, tmp_path_factory.mktemp("fault"), **p) for p in chosen}


@pytest.mark.slow
@pytest.mark.parametrize("file, old, new, tests", MUTATIONS, ids=lambda x: str(x)[:40])
def test_a_planted_fault_is_noticed(file, old, new, tests, runs):
    code, printed = runs[file, old, new, tests].result()
    assert code == 1, f"no test noticed:\n{printed[-2000:]}"
