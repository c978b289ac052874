"""What can be known of the GPU's half without a GPU: the compiler's word, and what the launcher hands over."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from dali_vidaug import kernels
from dali_vidaug.ops.blend import BLEND, blend
from dali_vidaug.ops.randaugment import FRAME_BYTES, args_dtype, randaugment

nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="needs CuPy and NVRTC")

try:
    nvrtc.getVersion()
except RuntimeError as error:
    pytest.skip(f"CuPy finds no NVRTC ({error}); pip has it: nvidia-cuda-nvrtc", allow_module_level=True)

KERNELS = {"randaugment": args_dtype(2, 16), "blend": BLEND}
ENTRIES = {"randaugment": ["randaugment_count", "randaugment_prepare", "randaugment_pixels"], "blend": ["blend"]}


def build(text, architecture, *options):
    """NVRTC's result for the text: machine code for "sm_80" and the like, PTX for "compute_80"; and the log."""
    program = nvrtc.createProgram(text, "kernel.cu", [], [])
    try:
        options = (*kernels.NVRTC_OPTIONS, f"--gpu-architecture={architecture}", *options)
        nvrtc.compileProgram(program, options)
        code = nvrtc.getCUBIN(program) if architecture.startswith("sm_") else nvrtc.getPTX(program)
        return code, nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError as error:
        raise RuntimeError(nvrtc.getProgramLog(program)) from error
    finally:
        nvrtc.destroyProgram(program)


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
    code, _ = build(kernels.source(name, KERNELS[name]), "compute_80")
    ptx = code.decode()
    assert not re.search(r"\bfma\.", ptx)
    assert not re.search(r"\.local\b", ptx)
    # The check can fail: without our options the compiler contracts.
    multiply_add = 'extern "C" __global__ void f(float* x) { *x = *x * 3.7f + 1.3f; }'
    assert not re.search(r"\bfma\.", build(multiply_add, "compute_80")[0].decode())
    assert re.search(r"\bfma\.", build(multiply_add, "compute_80", "--fmad=true")[0].decode())


def entry_parameters(ptx):
    """The sizes of each entry point's parameters, in bytes."""
    sizes = {}
    for name, parameters in re.findall(r"\.entry (\w+)\(([^)]*)\)", ptx):
        sizes[name] = [int(bits) // 8 for bits in re.findall(r"\.param \.[ubs](\d+)", parameters)]
    return sizes


def test_swapped_fields_are_refused():
    args = KERNELS["randaugment"]
    names = list(args.names)
    i, j = names.index("fill"), names.index("bilinear")
    names[i], names[j] = names[j], names[i]
    with pytest.raises(RuntimeError, match=r"RandaugmentArgs\.fill differs from its dtype"):
        build(kernels.source("randaugment", np.dtype([(name, args[name]) for name in names])), "compute_80")


class Device:
    """Stands in for CuPy and keeps what it is given."""

    def __init__(self):
        self.launches, self.memory, self.texts = [], {}, []

    def array(self, shape, values=None, dtype=np.uint8):
        address = 0x1000 * (len(self.memory) + 1)
        self.memory[address] = values
        size = int(np.prod(shape))
        return SimpleNamespace(
            shape=tuple(np.atleast_1d(shape)), dtype=np.dtype(dtype), ndim=np.ndim(np.empty(shape)), size=size,
            nbytes=size, flags=SimpleNamespace(c_contiguous=True), data=SimpleNamespace(ptr=address),
        )  # fmt: skip

    def asarray(self, values):
        return self.array(values.shape, values.copy())

    def empty(self, shape, dtype):
        return self.array(shape)

    def empty_like(self, array):
        return self.array(array.shape)

    def RawModule(self, code, options):
        assert options == kernels.NVRTC_OPTIONS
        self.texts.append(code)
        return SimpleNamespace(get_function=lambda entry: lambda *args: self.launches.append((entry, *args)))


@pytest.fixture
def device(monkeypatch):
    device = Device()
    monkeypatch.setitem(sys.modules, "cupy", device)
    kernels._module.cache_clear()
    yield device
    kernels._module.cache_clear()


def test_the_launcher_hands_over_what_the_kernels_take(device):
    shapes = [(16, 30, 40, 3), (4, 17, 23, 3), (1, 1, 1, 3)]
    args = args_dtype(2, 16)
    clips = [device.array(shape) for shape in shapes]
    rows = [device.array(args.itemsize) for _ in shapes]
    outputs = randaugment(clips, rows, 2)

    assert [(entry, int(parameters[1])) for entry, _, _, parameters in device.launches] == [
        (entry, index) for index in range(2) for entry in ENTRIES["randaugment"]
    ]
    assert set(device.texts) == {kernels.source("randaugment", args)}
    taken = entry_parameters(build(device.texts[0], "compute_80")[0].decode())
    for entry, grid, block, (table, index) in device.launches:
        assert taken[entry] == [8, index.nbytes]  # a pointer, a number
        assert block == (kernels.THREADS,) and kernels.THREADS % 32 == 0
        assert grid == (-(-16 * 30 // 32), 3)
        clip_table = device.memory[table.data.ptr].view(kernels.CLIP)
        assert clip_table["src"].tolist() == [clip.data.ptr for clip in clips]
        assert clip_table["dst"].tolist() == [out.data.ptr for out in outputs]
        assert clip_table["args"].tolist() == [row.data.ptr for row in rows]
        assert [tuple(row) for row in clip_table[["frames", "height", "width"]].tolist()] == [s[:3] for s in shapes]
    assert FRAME_BYTES % 8 == 0  # the 64-bit fields of the next frame stay aligned


def test_a_kernel_finds_the_other_clips_of_the_batch(device):
    clips = [device.array((4, 17, 23, 3)) for _ in range(3)]
    outputs = blend(clips, [device.array(BLEND.itemsize) for _ in clips])
    assert set(device.texts) == {kernels.source("blend", BLEND)}
    ((entry, grid, block, (table, index)),) = device.launches
    assert (entry, int(index), grid, block) == ("blend", 0, (-(-4 * 17 // 32), 3), (kernels.THREADS,))
    assert entry_parameters(build(device.texts[0], "compute_80")[0].decode()) == {"blend": [8, index.nbytes]}
    clip_table = device.memory[table.data.ptr].view(kernels.CLIP)
    assert clip_table["index"].tolist() == [0, 1, 2]
    # All are written: the rows, which say what is neutral, are on the GPU.
    assert clip_table["dst"].tolist() == [out.data.ptr for out in outputs]
    assert not {out.data.ptr for out in outputs} & {clip.data.ptr for clip in clips}
