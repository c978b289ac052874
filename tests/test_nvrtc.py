"""What can be known of the GPU's half without a GPU: what the compiler says, and what the launcher passes."""

import re
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import stand_in

from dali_vidaug import kernels
from dali_vidaug.ops.blend import BLEND, blend
from dali_vidaug.ops.blur import FRAME_BYTES as BLUR_FRAME_BYTES
from dali_vidaug.ops.blur import blur, blur_args
from dali_vidaug.ops.color import FRAME_BYTES as COLOR_FRAME_BYTES
from dali_vidaug.ops.color import color, color_args
from dali_vidaug.ops.interpolate import interpolate, interpolate_args
from dali_vidaug.ops.motion import background, background_args, motion, motion_args
from dali_vidaug.ops.randaugment import FRAME_BYTES, args_dtype, randaugment
from dali_vidaug.ops.warp import warp, warp_dtype

nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="needs CuPy and NVRTC")

try:
    nvrtc.getVersion()
except RuntimeError as error:
    pytest.skip(f"CuPy finds no NVRTC ({error}); pip has it: nvidia-cuda-nvrtc", allow_module_level=True)

CUPYS_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")  # what CuPy 14.2 adds (cupy/cuda/compiler.py)
KERNELS = {
    "randaugment": args_dtype(2, 16),
    "blend": BLEND,
    "interpolate": interpolate_args(20),
    "color": color_args(4, 16),
    "blur": blur_args(16),
    "motion": motion_args(16),
    "background": background_args(16),
    "warp": warp_dtype(16),
}
ENTRIES = {
    "randaugment": ["randaugment_count", "randaugment_prepare", "randaugment_pixels"], "blend": ["blend"],
    "interpolate": ["interpolate"], "color": ["color_measure", "color_mean", "color_pixels"],
    "blur": ["blur_prepare", "blur_pixels"], "motion": ["motion"], "background": ["background"],
    "warp": ["warp"],
}  # fmt: skip


def build(text, architecture, *options):
    """NVRTC's result for the text: machine code for "sm_80" and the like, PTX for "compute_80"; and the log."""
    program = nvrtc.createProgram(text, "kernel.cu", [], [])
    try:
        options = (*kernels.NVRTC_OPTIONS, *CUPYS_OPTIONS, f"--gpu-architecture={architecture}", *options)
        nvrtc.compileProgram(program, options)
        code = nvrtc.getCUBIN(program) if architecture.startswith("sm_") else nvrtc.getPTX(program)
        return code, nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError as error:
        raise RuntimeError(nvrtc.getProgramLog(program)) from error
    finally:
        nvrtc.destroyProgram(program)


def test_cupy_still_adds_these_options():
    compiler = Path(import_module("cupy.cuda.compiler").__file__).read_text()
    assert all(f"'{option}'" in compiler for option in CUPYS_OPTIONS)


@pytest.mark.parametrize("architecture", [75, 80, 86, 89, 90, 100, 120])
@pytest.mark.parametrize("name", KERNELS)
def test_compiles_to_machine_code_without_spills(name, architecture):
    code, log = build(kernels.source(name, KERNELS[name]), f"sm_{architecture}", "--ptxas-options=-v")
    assert code[:4] == b"\x7fELF"
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert len(spills) == len(ENTRIES[name]), log
    assert all(size == "0" for sizes in spills for size in sizes), log
    assert all(int(n) <= 128 for n in re.findall(r"Used (\d+) registers", log)), log  # 512 threads a multiprocessor


@pytest.mark.parametrize("name", KERNELS)
def test_ptx_has_no_contraction_and_no_local_memory(name):
    text = kernels.source(name, KERNELS[name])
    asked_for = "return __fmaf_rn(a, b, c);"
    assert text.count(asked_for) == text.count("__fmaf_rn") > 0
    ptx = build(text.replace(asked_for, "return a * b + c;"), "compute_80")[0].decode()
    assert not re.search(r"\bfma\.", ptx)
    assert not re.search(r"\.local\b", ptx)
    # The check can fail: without our options the compiler contracts.
    multiply_add = 'extern "C" __global__ void f(float* x) { *x = *x * 3.7f + 1.3f; }'
    assert not re.search(r"\bfma\.", build(multiply_add, "compute_80")[0].decode())
    assert re.search(r"\bfma\.", build(multiply_add, "compute_80", "--fmad=true")[0].decode())


def entry_parameters(ptx):
    """Of each entry point's parameters: is it a pointer (the code makes one to the GPU's memory of it); its bytes."""
    found = {}
    for name, parameters, body in re.findall(r"\.entry (\w+)\(([^)]*)\)(.*?)\n}", ptx, re.DOTALL):
        found[name] = []
        for i, parameter in enumerate(parameters.split(",")):
            parts = re.fullmatch(rf"\s*\.param \.([us])(32|64) {name}_param_{i}\s*", parameter)
            assert parts, f"{name}: a parameter that this test does not know: {parameter}"
            register = re.search(rf"ld\.param\.\w+ \s*(\S+), \[{name}_param_{i}\];", body)
            pointer = register and re.search(rf"cvta\.to\.global\.u64 \s*\S+, {re.escape(register[1])};", body)
            found[name].append((bool(pointer), int(parts[2]) // 8))
    return found


def test_parameters_are_read_from_ptx():
    text = 'extern "C" __global__ void f(int a, const float* b, long long c, float* d) { d[a] = b[c]; }'
    read = entry_parameters(build(text, "compute_80")[0].decode())
    assert read == {"f": [(False, 4), (True, 8), (False, 8), (True, 8)]}
    text = 'struct S { int a[3]; }; extern "C" __global__ void f(S s, int* d) { *d = s.a[1]; }'
    with pytest.raises(AssertionError, match="does not know"):
        entry_parameters(build(text, "compute_80")[0].decode())


@pytest.mark.parametrize("i, j", [("src", "dst"), ("args", "work"), ("frames", "height"), ("index", "count"),
                                  ("src_height", "src_width")])  # fmt: skip
def test_swapped_fields_of_a_clip_are_refused(i, j, monkeypatch):
    names = [{i: j, j: i}.get(name, name) for name in kernels.CLIP.names]
    monkeypatch.setattr(kernels, "CLIP", np.dtype([(name, kernels.CLIP[name]) for name in names]))
    kernels.source.cache_clear()
    with pytest.raises(RuntimeError, match=rf"Clip\.{i} differs from its dtype"):
        build(kernels.source("blend", BLEND), "compute_80")
    kernels.source.cache_clear()


def test_swapped_fields_are_refused():
    args = KERNELS["randaugment"]
    names = list(args.names)
    i, j = names.index("fill"), names.index("bilinear")
    names[i], names[j] = names[j], names[i]
    with pytest.raises(RuntimeError, match=r"RandaugmentArgs\.fill differs from its dtype"):
        build(kernels.source("randaugment", np.dtype([(name, args[name]) for name in names])), "compute_80")


def kind_of_argument(argument):
    """Whether an argument of a launch is a pointer, and its bytes. CuPy passes NumPy's scalars at their own size."""
    if isinstance(argument, stand_in.Array):
        return True, 8
    assert type(argument) is np.int32, f"{argument!r}: Python's numbers are passed in 64 bits"
    return False, argument.nbytes


def launch(name, fake_cupy, shapes):
    """Launch a kernel for clips of these shapes; the clips, rows and outputs."""
    clips = [fake_cupy._array(shape) for shape in shapes]
    rows = [fake_cupy._array([KERNELS[name].itemsize]) for _ in shapes]
    calls = {
        "randaugment": partial(randaugment, num_ops=2),
        "blend": blend,
        "interpolate": partial(interpolate, num_frames=20),
        "color": partial(color, num_ops=4),
        "blur": blur,
        "motion": motion,
        "background": background,
        "warp": warp,
    }
    return clips, rows, calls[name](clips, rows)


@pytest.mark.parametrize("name", KERNELS)
def test_the_launcher_passes_what_the_kernels_take(name, fake_cupy):
    shapes = [(16, 30, 40, 3)] * 3 if name == "blend" else [(16, 30, 40, 3), (4, 17, 23, 3), (1, 1, 1, 3)]
    clips, rows, outputs = launch(name, fake_cupy, shapes)
    passes = 2 if name == "randaugment" else 1
    assert [(entry, int(parameters[1])) for entry, _, _, parameters in fake_cupy._launches] == [
        (entry, index) for index in range(passes) for entry in ENTRIES[name]
    ]
    assert set(fake_cupy._texts) == {kernels.source(name, KERNELS[name])}
    taken = entry_parameters(build(fake_cupy._texts[0], "compute_80")[0].decode())
    assert list(taken) == ENTRIES[name]
    for entry, grid, block, parameters in fake_cupy._launches:
        assert [kind_of_argument(parameter) for parameter in parameters] == taken[entry]
        assert block == (kernels.THREADS,) and kernels.THREADS % 32 == 0 and kernels.THREADS <= 1024
        frames = 20 if name == "interpolate" else None  # of the result, for all clips
        assert grid == (-(-(frames or 16) * 30 // 32), 3)
        table = parameters[0]._values.view(kernels.CLIP)
        assert table["src"].tolist() == [clip.data.ptr for clip in clips]
        assert table["dst"].tolist() == [out.data.ptr for out in outputs]  # all are written, whatever the rows say
        assert table["args"].tolist() == [row.data.ptr for row in rows]
        assert [tuple(row) for row in table[["frames", "height", "width"]].tolist()] == [
            (frames or s[0], *s[1:3]) for s in shapes
        ]
        assert table[["index", "count"]].tolist() == [(0, 3), (1, 3), (2, 3)]
        assert [tuple(row) for row in table[["src_height", "src_width"]].tolist()] == [s[1:3] for s in shapes]
    memory = [(array.data.ptr, array.nbytes) for array in (*clips, *rows, *outputs)]
    memory += zip(table["work"].tolist(), [work_bytes(name, shape) for shape in shapes], strict=True)
    memory.sort()
    assert all(at + size <= following for (at, size), (following, _) in pairwise(memory)), "they overlap"


def work_bytes(name, shape):
    """Scratch memory that a kernel uses: a state for each frame and, for randaugment, room for a clip."""
    if name == "randaugment":
        return shape[0] * FRAME_BYTES + int(np.prod(shape))
    return shape[0] * {"color": COLOR_FRAME_BYTES, "blur": BLUR_FRAME_BYTES}.get(name, 0)
