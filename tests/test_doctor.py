"""What stands between a process and its GPU: facts and advice, and libraries that stand in for the driver's."""

import ctypes
import os
import subprocess
import sys
import threading
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from dali_vidaug import doctor, gpu, nvdec, settings

STAND_IN_CUDA_H = """
#define CUDA_VERSION 13000
#define CUDAAPI
typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUarray_st *CUarray;
"""

STAND_IN_LIBCUDA = """
#include <cuda.h>
#include <cstdio>
#include <cstdlib>
static int number(const char *name) { const char *text = getenv(name); return text ? atoi(text) : 0; }
static int retained = 0;
static thread_local int depth = 0;
static int gpus() { return number("STAND_IN_GPUS"); }
#define KNOWN(device) if (device < 0 || device >= gpus()) return 101
extern "C" {
CUresult cuInit(unsigned flags) { return number("STAND_IN_INIT"); }
CUresult cuDriverGetVersion(int *version) { *version = number("STAND_IN_CUDA"); return 0; }
CUresult cuDeviceGetCount(int *count) { *count = gpus(); return 0; }
CUresult cuDeviceGet(CUdevice *device, int index) { KNOWN(index); *device = index; return 0; }
CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    KNOWN(device); snprintf(name, length, "%s %d", getenv("STAND_IN_NAME"), device); return 0;
}
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) { KNOWN(device); *bytes = 80ull << 30; return 0; }
CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
    KNOWN(device);
    if (attribute != 75 && attribute != 76) return 1;
    *value = attribute == 76 ? device : device == number("STAND_IN_OLD_GPU") ? 7 : 9;
    return 0;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    KNOWN(device); ++retained; *context = (CUcontext)(0x123456789abcull + device); return 0;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) { KNOWN(device); --retained; return 0; }
CUresult cuCtxPushCurrent_v2(CUcontext context) {
    if (number("STAND_IN_PUSH")) return number("STAND_IN_PUSH");
    if (((unsigned long long)context >> 8) != 0x123456789aull) return 201;
    ++depth; return 0;
}
CUresult cuCtxPopCurrent_v2(CUcontext *context) { if (!depth) return 201; --depth; return 0; }
int stand_in_retained() { return retained; }
int stand_in_depth() { return depth; }
}
"""

STAND_IN_LIBNVCUVID = """
#include <cuda.h>
#include "cuviddec.h"
#include <cstdlib>
extern "C" int stand_in_depth();
extern "C" CUresult cuvidGetDecoderCaps(CUVIDDECODECAPS *caps) {
    for (unsigned word : caps->reserved1) if (word) return 1;
    for (unsigned word : caps->reserved3) if (word) return 1;
    if (stand_in_depth() != 1) return 201;
    if (caps->eChromaFormat != cudaVideoChromaFormat_420 || caps->nBitDepthMinus8 != 0) return 1;
    caps->nNumNVDECs = 7;
    caps->nMinWidth = 48; caps->nMinHeight = 16;
    caps->nMaxWidth = 4096; caps->nMaxHeight = 4080; caps->nMaxMBCount = 65536;
    caps->nOutputFormatMask = 1 << cudaVideoSurfaceFormat_NV12 | 1 << cudaVideoSurfaceFormat_P016;
    caps->bIsSupported = !getenv("STAND_IN_NO_NVDEC");
    switch (caps->eCodecType) {
        case cudaVideoCodec_H264: case cudaVideoCodec_MPEG4: case cudaVideoCodec_VP8: return 0;
        case cudaVideoCodec_HEVC: caps->nMinWidth = 144; caps->nMinHeight = 143; return 0;
        case cudaVideoCodec_JPEG: caps->nOutputFormatMask = 1 << cudaVideoSurfaceFormat_P016; return 0;
        case cudaVideoCodec_VP9: return 801;
        default: caps->bIsSupported = 0; return 0;
    }
}
"""

HEADERS = Path(find_spec("nvidia.dali").submodule_search_locations[0], "include/dali/operators/video/dynlink_nvcuvid")
needs_header = pytest.mark.skipif(not (HEADERS / "cuviddec.h").is_file(), reason="DALI's wheel has no cuviddec.h")

H100 = gpu.Gpu("NVIDIA H100 80GB HBM3", (9, 0), 80 * 2**30)
V100 = gpu.Gpu("Tesla V100-SXM2-16GB", (7, 0), 16 * 2**30)
SLICE = gpu.Gpu("NVIDIA A100-SXM4-40GB MIG 1g.5gb", (8, 0), 5 * 2**30)
BARE = gpu.Host(None, False, False)
MACHINE = gpu.Host("580.65.06", True, False)
BOX = gpu.Host("580.65.06", True, True)
TORCH13 = gpu.Torch("2.12.0+cu130", "13.0", 0, "")
TORCH12 = gpu.Torch("2.9.1+cu126", "12.6", 0, "")
NO_CUDA = gpu.Torch("2.13.0+cpu", None, 0, "")
WHEELS13 = {"DALI": {"nvidia-dali-cuda130": 13}, "CuPy": {"cupy-cuda13x": 13}}
WHEELS12 = {"DALI": {"nvidia-dali-cuda120": 12}, "CuPy": {"cupy-cuda12x": 12}}
NVDEC = {  # of an H100
    "h264": nvdec.Decoder(7, 48, 16, 4096, 4096, 65536),
    "hevc": nvdec.Decoder(7, 144, 144, 8192, 8192, 262144),
    "vp9": nvdec.Decoder(7, 128, 128, 8192, 8192, 262144),
    "mpeg4": nvdec.Decoder(7, 48, 16, 2032, 2032, 8192),
}


def driver(cuda=13000, gpus=(H100,), error=0):
    return gpu.Driver(error, cuda, tuple(gpus))


def build(folder, name, source, *flags):
    (folder / "cuda.h").write_text(STAND_IN_CUDA_H)
    (folder / f"{name}.cpp").write_text(source)
    command = ["g++", "-w", f"-I{folder}", f"-I{HEADERS}", folder / f"{name}.cpp", "-o", folder / name, *flags]
    subprocess.run(command, check=True)
    return str(folder / name)


@pytest.fixture(scope="session")
def libcuda(tmp_path_factory):
    return build(tmp_path_factory.mktemp("driver"), "libcuda.so.1", STAND_IN_LIBCUDA, "-shared", "-fPIC")


@pytest.fixture(scope="session")
def libnvcuvid(libcuda):
    flags = ("-shared", "-fPIC", libcuda, f"-Wl,-rpath,{Path(libcuda).parent}")
    return build(Path(libcuda).parent, "libnvcuvid.so.1", STAND_IN_LIBNVCUVID, *flags)


@pytest.fixture
def stand_in(libcuda, monkeypatch):
    """A function that puts a driver in the place of the machine's: stand_in(INIT=100)."""
    monkeypatch.setattr(gpu, "LIBCUDA", libcuda)

    def configure(**facts):
        usual = {"GPUS": 1, "CUDA": 13000, "INIT": 0, "NAME": "NVIDIA H100", "OLD_GPU": -1, "PUSH": 0}
        for name, value in (usual | facts).items():
            monkeypatch.setenv(f"STAND_IN_{name}", str(value))

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    configure()
    return configure


# The driver


def test_the_driver_is_read(stand_in):
    stand_in(GPUS=2, CUDA=12040)
    assert gpu.read_driver() == gpu.Driver(
        0, 12040, (gpu.Gpu("NVIDIA H100 0", (9, 0), 80 << 30), gpu.Gpu("NVIDIA H100 1", (9, 1), 80 << 30))
    )
    stand_in(INIT=803)
    assert gpu.read_driver() == gpu.Driver(803, 13000, ())


def test_no_library(monkeypatch):
    monkeypatch.setattr(gpu, "LIBCUDA", "libcuda-that-is-not-there.so.1")
    assert gpu.read_driver() == gpu.Driver(None, 0, ())
    assert "no libcuda-that-is-not-there.so.1" in gpu.problem() and nvdec.decoders(0) == {}
    assert "no libcuda-that-is-not-there.so.1" in nvdec.problem(0)


@pytest.mark.parametrize("code, words", [
    (2, "free GPU memory"), (3, "'spawn'"), (34, "stubs"), (802, "nvidia-fabricmanager"), (803, "reboot"),
    (804, "'compat'"), (805, "nvidia-cuda-mps-control"), (999, "nvidia_uvm"), (777, "see cuda.h"),
])  # fmt: skip
def test_errors_of_cuinit_are_named(stand_in, code, words):
    stand_in(INIT=code)
    assert f"CUDA error {code} (" in gpu.problem() and words in gpu.problem()
    assert f"CUDA error {code}" in doctor.driver_rows(gpu.read_driver(), MACHINE, None)[0][2]


@pytest.mark.parametrize("facts", [dict(INIT=100), dict(GPUS=0)])
def test_hidden_gpus(stand_in, monkeypatch, facts):
    stand_in(**facts)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpu.problem().startswith("CUDA_VISIBLE_DEVICES is '-1' and leaves this process no GPU")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpu.problem().startswith("the NVIDIA driver finds no GPU")


@pytest.mark.parametrize("host, visible, words", [
    (MACHINE, "", "CUDA_VISIBLE_DEVICES is ''"),
    (MACHINE, "7", "CUDA_VISIBLE_DEVICES is '7'"),
    (BARE, "0", "nvidia-smi -L must list one"),  # no device file: the variable is not to blame
    (MACHINE, None, "nvidia-smi -L must list one"),
    (BOX, None, "docker run --gpus all"),
])  # fmt: skip
def test_no_gpu_whose_fault(host, visible, words):
    assert words in gpu.driver_problem(driver(gpus=(), error=100), host, visible)


@pytest.mark.parametrize("host, words", [
    (BARE, "this machine has no GPU, or its driver is not installed"),
    (gpu.Host(None, False, True), "if the machine has a GPU, start it with docker run --gpus all"),
    (BOX, "this container does not see it (no libcuda.so.1): start it with docker run --gpus all"),
    (gpu.Host(None, True, True), "this container does not see it"),
    (MACHINE, "the kernel has NVIDIA's driver 580.65.06, but libcuda.so.1 does not load"),
    (gpu.Host(None, True, False), "driver (version unknown), but libcuda.so.1 does not load"),
])  # fmt: skip
def test_no_driver_whose_fault(host, words):
    found = gpu.driver_problem(gpu.Driver(None, 0, ()), host, None)
    assert words in found
    assert doctor.driver_rows(gpu.Driver(None, 0, ()), host, None) == [(doctor.MISSING, "CUDA driver", found)]


@pytest.mark.parametrize("line, version", [
    ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023", "535.104.05"),
    ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86  Release Build", "570.86"),
    ("GCC version: gcc version 12.3.0", None),
])  # fmt: skip
def test_the_host_is_read(tmp_path, monkeypatch, line, version):
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    assert gpu.read_host() == BARE
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(line + "\n")
    assert gpu.read_host() == gpu.Host(version, False, False)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    assert not gpu.read_host().devices  # there without a GPU too
    (tmp_path / "dev/nvidia0").touch()
    assert gpu.read_host() == gpu.Host(version, True, False)


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv", ".singularity.d", "var/run/secrets/kubernetes.io"])
def test_containers_are_known_by_their_marks(tmp_path, monkeypatch, mark):
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    (tmp_path / mark).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / mark).touch()
    assert gpu.read_host().container


# Wheels


@pytest.mark.parametrize("name, package, major", [
    ("nvidia_dali_cuda120", "DALI", 12), ("nvidia-dali-nightly-cuda130", "DALI", 13), ("cupy-cuda12x", "CuPy", 12),
    ("cupy-cuda117", "CuPy", 11), ("cupy", "CuPy", None), ("cupy-rocm-7-0", "CuPy", None), ("cupy-xarray", None, None),
    ("nvidia-dali-tf-plugin-cuda130", None, None),
])  # fmt: skip
def test_wheels_are_read_from_their_names(tmp_path, monkeypatch, name, package, major):
    folder = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    empty = {"DALI": {}, "CuPy": {}}
    assert gpu.read_wheels() == (empty | {package: {name.replace("_", "-"): major}} if package else empty)


@pytest.mark.parametrize("cuda, wheels, torch_, words", [
    (12080, WHEELS13, TORCH12, [
        "supports CUDA 12.8, but nvidia-dali-cuda130 and cupy-cuda13x are built for CUDA 13: update the driver to 580",
        "or newer, or pip uninstall -y nvidia-dali-cuda130 cupy-cuda13x && pip install 'dali_vidaug[cuda12]'"]),
    (12080, WHEELS12, TORCH13, [
        "torch 2.12.0+cu130 is built for CUDA 13",
        "newer, or pip install --force-reinstall torch (the build for CUDA 12: see pytorch.org/get-started)"]),
    (12080, WHEELS13, TORCH13, ["'dali_vidaug[cuda12]' && pip install --force-reinstall torch (the build"]),
    (11080, WHEELS12, TORCH12, ["supports CUDA 11.8", "update the driver to 525 or newer"]),
    (13020, {"DALI": {"nvidia-dali-cuda140": 14}}, NO_CUDA, ["update the driver to one for CUDA 14, or pip uninstall"]),
    (12080, WHEELS13 | {"CuPy": {"cupy-cuda14x": 14}}, NO_CUDA, ["update the driver to one for CUDA 14"]),
    (12100, WHEELS13, NO_CUDA, ["supports CUDA 12.10, but"]),
])  # fmt: skip
def test_a_driver_older_than_the_wheels(cuda, wheels, torch_, words):
    found = gpu.age_problem(cuda, gpu.built_for(wheels, torch_))
    for word in words:
        assert word in found
    if cuda < 12000:
        assert "pip" not in found  # nothing to install helps
    (state, _, finding), *_ = doctor.wheels_rows(wheels, torch_, driver(cuda))
    assert state == doctor.MISSING and finding.endswith(found)


@pytest.mark.parametrize("cuda, wheels, torch_", [
    (12000, WHEELS12, TORCH12), (13000, WHEELS13, TORCH13), (13020, WHEELS12, TORCH13), (13000, WHEELS13, NO_CUDA),
    (12000, {"DALI": {}, "CuPy": {"cupy": None}}, NO_CUDA),
])  # fmt: skip
def test_a_driver_of_the_same_major_version_will_do(cuda, wheels, torch_):
    assert gpu.age_problem(cuda, gpu.built_for(wheels, torch_)) is None
    assert [row[0] for row in doctor.wheels_rows(wheels, torch_, driver(cuda))] == [doctor.OK]


def test_a_gpu_that_cuda_13_has_left_behind():
    built = gpu.built_for(WHEELS13, TORCH13)
    found = gpu.capability_problem(V100, built)
    assert "Tesla V100-SXM2-16GB has compute capability 7.0" in found and "needs 7.5" in found
    assert "pip install 'dali_vidaug[cuda12]'" in found and "the build for CUDA 12" in found
    assert gpu.capability_problem(V100, gpu.built_for(WHEELS12, TORCH12)) is None
    assert gpu.capability_problem(V100._replace(capability=(7, 5)), built) is None
    assert found in doctor.wheels_rows(WHEELS13, TORCH13, driver(gpus=(H100, V100)))[0][2]


def test_wheels_that_overwrite_each_other():
    both = {"cupy-cuda12x": 12, "cupy-cuda13x": 13}
    found = "pip uninstall -y cupy-cuda12x cupy-cuda13x && pip install 'dali_vidaug[cuda12]'"
    assert gpu.cupy_problem(both, 12040).endswith(found)
    dali = {"nvidia-dali-cuda120": 12, "nvidia-dali-cuda130": 13}
    rows = doctor.wheels_rows({"DALI": dali, "CuPy": both}, NO_CUDA, gpu.Driver(None, 0, ()))
    assert [row[:2] for row in rows] == [(doctor.BAD, "wheels")] * 2
    assert rows[0][2].startswith("nvidia-dali-cuda120 and nvidia-dali-cuda130 overwrite each other")
    assert gpu.double_problem({"cupy-cuda13x": 13}, 13000) is None and gpu.double_problem({}, 13000) is None


def test_wheels_are_listed_without_a_driver():
    rows = doctor.wheels_rows(WHEELS13 | {"CuPy": {"cupy": None}}, TORCH12, gpu.Driver(None, 0, ()))
    assert rows == [(doctor.OK, "wheels", "DALI for CUDA 13, CuPy for an unknown CUDA (cupy), torch for CUDA 12.6")]


# torch, CuPy


def test_problems_of_torch():
    command = "pip install --force-reinstall torch (the build for CUDA"
    assert gpu.torch_problem(NO_CUDA, driver(13000)).endswith(
        f"is built without CUDA: {command} 13: see pytorch.org/get-started)"
    )
    assert gpu.torch_problem(NO_CUDA, driver(12040)).endswith(f"{command} 12: see pytorch.org/get-started)")
    blind = TORCH13._replace(error="CUDA unknown error")
    assert gpu.torch_problem(blind, driver()) == "torch 2.12.0+cu130 cannot use the GPU: CUDA unknown error"
    assert "; set CUDA_VISIBLE_DEVICES to the UUID" in gpu.torch_problem(blind, driver(gpus=(SLICE,)))
    for device_id in (-1, 1):
        found = gpu.torch_problem(TORCH13, driver(), device_id)
        assert found == f"device_id must be in [0, 1), the GPUs that this process sees, got {device_id}"
    assert gpu.torch_problem(TORCH13, driver()) is None and gpu.torch_problem(TORCH13, driver(), 0) is None


def test_torch_is_read():
    found = gpu.read_torch()
    assert (found.version, found.cuda) == (torch.__version__, torch.version.cuda)
    usable = torch.cuda.is_available()
    assert found.current == (torch.cuda.current_device() if usable else 0)
    assert bool(found.error) == (torch.version.cuda is not None and not usable)


def environment(folder, left_out):
    """A virtual environment with links to the packages of this one but for some; gives its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for place in Path(find_spec("numpy").origin).parents[1].iterdir():
        if place.name not in left_out:
            (packages / place.name).symlink_to(place)
    return folder / "bin/python"


HAS_TOOLKIT = find_library("nvrtc") or [*Path("/usr/local").glob("cuda*/lib64/libnvrtc.so*")]


@pytest.mark.parametrize("left_out, cuda, words", [
    pytest.param(["nvidia"], 13000, ["CuPy cannot compile kernels (NVRTC: ", "pip install nvidia-cuda-nvrtc"],
                 marks=pytest.mark.skipif(bool(HAS_TOOLKIT), reason="CuPy finds the toolkit's NVRTC")),
    (["cupy", "cupy_backends"], 12040, ["CuPy is not installed: pip install 'dali_vidaug[cuda12]'"]),
    (["cupy", "cupy_backends"], 0, ["[cuda13]' (driver 580 or newer) or 'dali_vidaug[cuda12]' (525 or newer)"]),
    ([], 13000, ["None"]),
])  # fmt: skip
def test_cupy_and_its_compiler(tmp_path, left_out, cuda, words):
    pytest.importorskip("cupy")
    code = f"from dali_vidaug import gpu; print(gpu.cupy_problem({{'cupy-cuda13x': 13}}, {cuda}))"
    variables = {"PYTHONPATH": str(Path(gpu.__file__).parents[1])}
    done = subprocess.run(
        [environment(tmp_path, left_out), "-c", code], env=variables, capture_output=True, text=True, check=True
    )
    for word in words:
        assert word in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_nvrtc_of_cuda_12(monkeypatch):
    pytest.importorskip("cupy")
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs.nvrtc", None)
    monkeypatch.delattr("cupy_backends.cuda.libs.nvrtc", raising=False)
    assert gpu.cupy_problem({"cupy-cuda12x": 12}, 13000).endswith("pip install nvidia-cuda-nvrtc-cu12")


@pytest.mark.parametrize("name, wheel", [
    ("cupy-cuda13x", "nvidia-cuda-runtime"), ("cupy-cuda12x", "nvidia-cuda-runtime-cu12"),
])  # fmt: skip
def test_cupy_compiles_nothing_without_cudas_headers(name, wheel):
    pytest.importorskip("cupy")
    pytest.importorskip("cuda.pathfinder")
    assert gpu.cupy_problem({name: 13}, 13000) is None
    code = (  # in a process of its own: CuPy looks once
        "import cuda.pathfinder as p; p.find_nvidia_header_directory = lambda *names: None; "
        f"from dali_vidaug import gpu; print(gpu.cupy_problem({{{name!r}: {name[9:11]}}}, 13000))"
    )
    variables = os.environ | {"PYTHONPATH": str(Path(gpu.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)
    found = done.stdout.strip()
    assert found, done.stderr
    assert found.startswith("CuPy cannot compile kernels (") and found.endswith(f"pip install {wheel}")


def test_memory_that_is_read_when_it_is_freed(monkeypatch):
    monkeypatch.setenv("CUPY_ENABLE_UMP", "1")
    assert gpu.cupy_problem({"cupy-cuda13x": 13}, 13000).endswith("unset it")


# All of it, in order


@pytest.fixture
def facts(stand_in, monkeypatch):
    """A function that sets what problem() reads; torch and the wheels as given, the driver a library that stands in."""

    def inject(wheels, torch_, **driver_facts):
        stand_in(**driver_facts)
        monkeypatch.setattr(gpu, "read_wheels", lambda: wheels)
        monkeypatch.setattr(gpu, "read_torch", lambda: torch_)
        return gpu.problem()

    return inject


def test_the_first_problem_speaks(facts):
    pytest.importorskip("cupy")
    double = WHEELS13 | {"CuPy": {"cupy-cuda12x": 12, "cupy-cuda13x": 13}}
    assert "CUDA error 803" in facts(double, NO_CUDA, INIT=803, CUDA=12000)
    assert "update the driver" in facts(double, NO_CUDA, CUDA=12000)
    assert "is built without CUDA" in facts(double, NO_CUDA)
    assert "overwrite each other" in facts(double, TORCH13)
    assert facts(WHEELS13, TORCH13) is None
    assert doctor._device() == [(doctor.OK, "device auto", "gpu")]


def test_the_gpu_asked_for_is_the_one_examined(facts):
    pytest.importorskip("cupy")
    assert "NVIDIA H100 1 has compute capability 7.1" in facts(WHEELS13, TORCH13._replace(current=1), GPUS=2, OLD_GPU=1)
    assert gpu.problem(0) is None and "7.1" in gpu.problem(1) and "got 2" in gpu.problem(2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_driver_alone_is_not_enough(stand_in):
    found = gpu.problem()
    assert found and "torch" in found
    assert (doctor.MISSING, "device auto", f"cpu: {found}") in doctor.examine()
    stand_in(CUDA=11080)
    assert "supports CUDA 11.8" in gpu.problem()


def test_problem_never_raises(monkeypatch, libcuda, tmp_path):
    monkeypatch.setattr(gpu, "LIBCUDA", build(tmp_path, "libempty.so", "", "-shared", "-fPIC"))
    assert gpu.problem().startswith("looking for a GPU failed with AttributeError")
    assert gpu.problem().endswith("run dali-vidaug doctor")


# NVDEC


@needs_header
def test_the_struct_is_the_headers(tmp_path):
    fields = [name for name, *_ in nvdec.DecoderCaps._fields_]
    enums = {
        "h264": "H264",
        "hevc": "HEVC",
        "vp8": "VP8",
        "vp9": "VP9",
        "av1": "AV1",
        "mpeg4": "MPEG4",
        "mjpeg": "JPEG",
    }
    values = ["sizeof(CUVIDDECODECAPS)", "cudaVideoChromaFormat_420", "cudaVideoSurfaceFormat_NV12"]
    values += [f"cudaVideoCodec_{enums[codec]}" for codec in nvdec.CODECS]
    values += [f"offsetof(CUVIDDECODECAPS, {name})" for name in fields]
    values += [f"sizeof(CUVIDDECODECAPS::{name})" for name in fields]
    prints = "".join(f'printf("%d\\n", int({value}));' for value in values)
    source = f'#include <cstddef>\n#include <cstdio>\n#include "cuviddec.h"\nint main() {{ {prints} }}'
    told = subprocess.run([build(tmp_path, "caps", source)], capture_output=True, text=True, check=True)
    expected = [ctypes.sizeof(nvdec.DecoderCaps), nvdec.CHROMA_420, nvdec.NV12, *nvdec.CODECS.values()]
    expected += [getattr(nvdec.DecoderCaps, name).offset for name in fields]
    expected += [getattr(nvdec.DecoderCaps, name).size for name in fields]
    assert dict(zip(values, map(int, told.stdout.split()), strict=True)) == dict(zip(values, expected, strict=True))


@pytest.fixture
def ask(stand_in, libnvcuvid, monkeypatch):
    monkeypatch.setattr(nvdec, "LIBNVCUVID", libnvcuvid)
    return stand_in


@needs_header
def test_decoders_are_read_in_any_thread(ask, libcuda):
    ask(GPUS=2)
    usual = nvdec.Decoder(7, 48, 16, 4096, 4080, 65536)
    expected = {"h264": usual, "hevc": usual._replace(min_width=144, min_height=143), "vp8": usual, "mpeg4": usual}
    found = []
    thread = threading.Thread(target=lambda: found.append(nvdec.decoders(1)))
    thread.start()
    thread.join()
    assert found == [expected] and nvdec.decoders(0) == expected and nvdec.problem(0) is None
    library = ctypes.CDLL(libcuda)
    assert library.stand_in_retained() == 0 and library.stand_in_depth() == 0


@needs_header
def test_why_there_are_no_decoders(ask, libcuda, monkeypatch):
    ask(INIT=999)
    assert nvdec.decoders(0) == {} and nvdec.problem(0) == "NVDEC cannot be asked: cuInit fails with CUDA error 999"
    ask()
    assert nvdec.problem(1) == "NVDEC cannot be asked: cuDeviceGet fails with CUDA error 101"
    ask(PUSH=2)
    assert "cuCtxPushCurrent_v2 fails with CUDA error 2" in nvdec.problem(0)
    assert ctypes.CDLL(libcuda).stand_in_retained() == 0
    ask(NO_NVDEC=1)
    assert nvdec.decoders(0) == {} and nvdec.problem(0) == "NVIDIA H100 0 has no NVDEC, or none that decodes video"
    ask(NAME=SLICE.name)
    assert "has no NVDEC: choose a profile with decoders" in nvdec.problem(0)
    monkeypatch.setattr(nvdec, "LIBNVCUVID", libcuda)
    assert "cuvidGetDecoderCaps" in nvdec.problem(0)


def test_no_library_for_decoding(stand_in, tmp_path, monkeypatch):
    monkeypatch.setattr(nvdec, "LIBNVCUVID", "libnvcuvid-that-is-not-there.so.1")
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    assert nvdec.decoders(0) == {}
    assert nvdec.problem(0) == "no libnvcuvid-that-is-not-there.so.1: install the driver's library for decoding"
    (tmp_path / ".dockerenv").touch()
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,video,utility" in nvdec.problem(0)
    rows = doctor._nvdec()
    assert rows[0][0] == doctor.MISSING and nvdec.problem(0) in rows[0][2]


@pytest.mark.parametrize("video_format", [
    ("h264", "yuv420p", 48, 16), ("h264", "yuvj420p", 4096, 4096), ("hevc", "yuv420p", 144, 144),
    ("hevc", "yuv420p", 8192, 8192), ("mpeg4", "yuv420p", 2032, 1000), ("h264", "yuv420p", 1918, 1078),
])  # fmt: skip
def test_nvdec_takes(video_format):
    assert nvdec.refusal(video_format, NVDEC) is None


@pytest.mark.parametrize("video_format, reason", [
    (("av1", "yuv420p", 640, 480), "this GPU's NVDEC does not decode av1, only h264, hevc, mpeg4, vp9"),
    (("h264", "yuv420p10le", 640, 480), "only 8-bit 4:2:0 is sent to NVDEC, and this is yuv420p10le"),
    (("h264", "yuv422p", 640, 480), "this is yuv422p"),
    (("h264", None, 640, 480), "this is None"),
    (("h264", "yuv420p", 47, 480), "47x480 is smaller than the 48x16 that NVDEC takes of h264"),
    (("h264", "yuv420p", 640, 15), "640x15 is smaller"),
    (("hevc", "yuv420p", 143, 480), "143x480 is smaller than the 144x144"),
    (("vp9", "yuv420p", 160, 120), "160x120 is smaller than the 128x128"),
    (("h264", "yuv420p", 4097, 480), "4097x480 is larger than the 4096x4096 that NVDEC takes of h264"),
    (("h264", "yuv420p", 480, 4098), "480x4098 is larger"),
    (("vp9", "yuv420p", 161, 128), "161x128 is odd"),
    (("vp9", "yuv420p", 160, 129), "160x129 is odd"),
    (("mjpeg", "yuvj420p", 640, 480), "DALI 2.4 does not decode MJPEG on a GPU"),
    (("mpeg4", "yuv420p", 2032, 1030), "2032x1030 has 8255 macroblocks; NVDEC takes 8192 of mpeg4"),
])  # fmt: skip
def test_nvdec_refuses(video_format, reason):
    assert reason in nvdec.refusal(video_format, NVDEC)


@pytest.mark.parametrize("one, other, clashes", [
    ((480, 270), (480, 272), True),
    ((1920, 1080), (1920, 1088), True),
    ((426, 238), (432, 240), True),  # the width is rounded up, too
    ((426, 240), (432, 240), False),  # colours begin at the same line
    ((480, 270), (480, 288), False),
    ((480, 270), (640, 272), False),
    ((340, 240), (340, 256), False),
    ((480, 272), (480, 272), False),
    ((480, 250), (480, 256), True),
])  # fmt: skip
def test_sizes_that_dali_mixes_up(one, other, clashes):
    for first, second in ((one, other), (other, one)):
        sizes = nvdec.Sizes()
        assert sizes.add(("h264", "yuv420p", *first)) is None
        assert sizes.add(("hevc", "yuv420p", *second)) is None
        assert sizes.add(("h264", "yuv420p", *second)) == (("h264", *first) if clashes else None)
        assert sizes.add(("h264", "yuvj420p", *first)) is None  # itself


@needs_header
def test_of_sizes_that_are_mixed_up_the_most_frequent_is_sent(ask, monkeypatch):
    ask(GPUS=2)
    monkeypatch.setattr(settings, "_sent_to_nvdec", {})
    wide, high, other = (("h264", "yuv420p", 480, height) for height in (270, 272, 360))
    why = "DALI 2.4 would mix up 480x270 with 480x272"

    def choose(decoder, device_id=0, **counts):
        named = dict(a=wide, b=high, c=other)
        formats = {named[name]: (count, f"{name}.mp4") for name, count in counts.items()}
        return settings._choose_decoder(decoder, "gpu", device_id, formats)

    with pytest.raises(ValueError, match=rf"{why} \(3 files, such as a.mp4\)"):
        choose("dali", a=3, b=5)
    assert choose("hybrid", device_id=1, a=3) == ("hybrid", {})  # nothing was sent, and GPUs are apart
    assert choose("hybrid", a=3, b=5, c=1) == ("hybrid", {wide: why})
    # Another loader of the process shares the decoders, even if it has more of the other size.
    assert choose("hybrid", a=9) == ("pyav", {wide: why}) and choose("hybrid", b=1) == ("hybrid", {})
    ask(NO_NVDEC=1)
    assert choose("hybrid", b=1) == ("pyav", {high: nvdec.problem(0)})


def test_coded_sizes_are_multiples_of_16():
    narrow = {"h264": nvdec.Decoder(1, 48, 16, 1000, 1000, 65536)}  # 62.5 macroblocks
    assert nvdec.refusal(("h264", "yuv420p", 992, 992), narrow) is None
    assert "larger" in nvdec.refusal(("h264", "yuv420p", 993, 100), narrow)
    assert "larger" in nvdec.refusal(("h264", "yuv420p", 100, 993), narrow)
    few = {"h264": nvdec.Decoder(1, 48, 16, 1000, 1000, 100)}
    assert nvdec.refusal(("h264", "yuv420p", 160, 146), few) is None
    assert "161x145 has 110 macroblocks" in nvdec.refusal(("h264", "yuv420p", 161, 145), few)


def test_without_nvdec_everything_is_refused():
    assert nvdec.refusal(("h264", "yuv420p", 640, 480), {}) == "NVDEC cannot be used here; run dali-vidaug doctor"


# Rows


def test_rows_of_gpus():
    assert doctor.gpu_rows((), 0) == []
    one = (doctor.OK, "GPU 0", "NVIDIA H100 80GB HBM3, compute capability 9.0, 80.0 GiB")
    assert doctor.gpu_rows((H100,), 0) == [one]
    assert "to use all 2" in doctor.gpu_rows((H100, H100), 0)[2][2]
    rows = doctor.gpu_rows((H100, V100, H100), 2)
    assert [row[1] for row in rows] == ["GPU 0", "GPU 1", "GPU 2", "GPUs"]
    assert "uses GPU 2; torch.cuda.set_device(local_rank)" in rows[3][2] and "--nproc-per-node 3" in rows[3][2]
    assert doctor.gpu_rows((SLICE,), 0)[0][2].endswith("5.0 GiB; a MIG instance: CUDA shows a process only one")


def test_rows_of_nvdec_and_driver():
    expected = "7 engines, decodes H.264 to 4096x4096, H.265 to 8192x8192, MPEG-4 to 2032x2032, VP9 to 8192x8192; "
    assert doctor.nvdec_rows(NVDEC, None) == [(doctor.OK, "NVDEC", expected + "VP8, AV1, MJPEG on the CPU")]
    one = dict.fromkeys(doctor.CODECS, nvdec.Decoder(1, 48, 16, 4096, 4096, 65536))
    finding = doctor.nvdec_rows(one, None)[0][2]
    assert finding.startswith("1 engine, ") and "CPU" not in finding
    assert doctor.nvdec_rows({}, "why") == [(doctor.MISSING, "NVDEC", "videos are decoded on the CPU: why")]
    found = doctor.driver_rows(driver(12080), MACHINE, "0")
    assert found == [(doctor.OK, "CUDA driver", "580.65.06, supports CUDA 12.8")]
    assert doctor.driver_rows(driver(), BARE, None)[0][2] == "of unknown version, supports CUDA 13.0"


@pytest.mark.parametrize("quota, state, words", [
    (None, doctor.OK, "16 of the machine's 64 may be used"),
    (16.0, doctor.OK, "may be used"),
    (3.5, doctor.MISSING, "the CPU quota is 3.5: VideoLoader(..., num_threads=3)"),
    (0.5, doctor.MISSING, "num_threads=1)"),
])  # fmt: skip
def test_row_of_cores(quota, state, words):
    ((found, subject, finding),) = doctor.cores_rows(16, 64, quota)
    assert (found, subject) == (state, "cores") and finding.endswith(words)


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


V1, V2, CPU = "sys/fs/cgroup/cpu", "sys/fs/cgroup", "proc/self/cgroup"


@pytest.mark.parametrize("files, quota", [
    ({}, None),
    ({CPU: "0::/", f"{V2}/cpu.max": "max 100000"}, None),
    ({CPU: "0::/", f"{V2}/cpu.max": "250000 100000"}, 2.5),
    ({CPU: "0::/a/b", f"{V2}/a/b/cpu.max": "max 100000", f"{V2}/a/cpu.max": "400000 100000"}, 4.0),
    ({CPU: "0::/a/b", f"{V2}/a/b/cpu.max": "300000 100000", f"{V2}/a/cpu.max": "200000 100000"}, 2.0),
    ({CPU: "0::/../x", f"{V2}/cpu.max": "100000 100000"}, 1.0),
    ({CPU: "4:memory:/m\n3:cpu,cpuacct:/docker/1\n0::/", f"{V1}/cpu.cfs_quota_us": "150000",
      f"{V1}/cpu.cfs_period_us": "50000"}, 3.0),
    ({CPU: "3:cpu:/", f"{V1}/cpu.cfs_quota_us": "-1", f"{V1}/cpu.cfs_period_us": "100000"}, None),
    ({CPU: "3:cpuset:/", f"{V1}/cpu.cfs_quota_us": "100000", f"{V1}/cpu.cfs_period_us": "100000"}, None),
])  # fmt: skip
def test_quota_is_read(tmp_path, files, quota):
    write(tmp_path, files)
    assert doctor.read_quota(tmp_path) == quota


def test_a_check_that_breaks_is_a_row(monkeypatch):
    def broken():
        raise OSError("no such thing")

    monkeypatch.setattr(gpu, "read_driver", broken)
    rows = doctor.examine()
    assert (doctor.BAD, "driver", "OSError: no such thing") in rows
    assert [row[1] for row in rows if row[0] == doctor.OK][:2] == ["python", "torch"]
    assert "looking for a GPU failed with OSError: no such thing" in rows[-1][2]


def test_this_machine():
    rows = doctor.examine()
    subjects = [row[1] for row in rows]
    for subject in (
        "python",
        "torch",
        "DALI",
        "PyAV",
        "CuPy",
        "wheels",
        "CUDA driver",
        "NVDEC",
        "cores",
        "device auto",
    ):
        assert subjects.count(subject) == 1, subjects
    assert not [row for row in rows if row[0] == doctor.BAD]
    found = gpu.problem()
    assert rows[-1][2] == ("gpu" if found is None else f"cpu: {found}")
    assert (found is None) <= torch.cuda.is_available()
    assert all("\n" not in finding for _, _, finding in rows)
