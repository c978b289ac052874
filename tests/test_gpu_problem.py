"""Why a process cannot use its GPU: what is wrong with the driver, the wheels, torch or CuPy, and the advice."""

import os
import subprocess
import sys
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from stand_in_driver import (
    BARE,
    CONTAINER,
    H100,
    MACHINE,
    NO_CUDA,
    NO_DRIVER,
    SLICE,
    TORCH12,
    TORCH13,
    V100,
    WHEELS12,
    WHEELS13,
    build,
    driver_of,
)

import dali_vidaug
from dali_vidaug.device import driver, gpu
from dali_vidaug.device.driver import Host

ROOT = Path(dali_vidaug.__file__).parents[1]

# The driver


def test_a_missing_library_is_named(monkeypatch):
    for module in (driver, gpu):
        monkeypatch.setattr(module, "LIBCUDA", "libcuda-that-is-not-there.so.1")
    assert "no libcuda-that-is-not-there.so.1" in gpu.problem()


@pytest.mark.parametrize("code, words", [
    (2, "free GPU memory"), (3, "'spawn'"), (34, "stubs"), (802, "nvidia-fabricmanager"), (803, "reboot"),
    (804, "'compat'"), (805, "nvidia-cuda-mps-control"), (999, "nvidia_uvm"), (777, "see cuda.h"),
])  # fmt: skip
def test_errors_of_cuinit_are_named(use_driver, code, words):
    use_driver(INIT=code)
    assert f"CUDA error {code} (" in gpu.problem() and words in gpu.problem()


@pytest.mark.parametrize("facts", [dict(INIT=100), dict(GPUS=0)])
def test_hidden_gpus(use_driver, monkeypatch, facts):
    use_driver(**facts)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpu.problem().startswith("CUDA_VISIBLE_DEVICES is '-1' and hides all GPUs from this process")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpu.problem().startswith("the NVIDIA driver finds no GPU")


@pytest.mark.parametrize("host, visible, words", [
    (MACHINE, "", "CUDA_VISIBLE_DEVICES is ''"),
    (MACHINE, "7", "CUDA_VISIBLE_DEVICES is '7'"),
    (BARE, "0", "nvidia-smi -L must list one"),  # no device file: the variable is not to blame
    (MACHINE, None, "nvidia-smi -L must list one"),
    (CONTAINER, None, "docker run --gpus all"),
])  # fmt: skip
def test_why_there_is_no_gpu(host, visible, words):
    assert words in gpu.driver_problem(driver_of(gpus=(), error=100), host, visible)


@pytest.mark.parametrize("host, words", [
    (BARE, "this machine has no GPU, or its driver is not installed"),
    (Host(None, False, True), "if the machine has a GPU, start it with docker run --gpus all"),
    (CONTAINER, "this container does not see it (no libcuda.so.1): start it with docker run --gpus all"),
    (Host(None, True, True), "this container does not see it"),
    (MACHINE, "the kernel has NVIDIA's driver 580.65.06, but libcuda.so.1 does not load"),
    (Host(None, True, False), "driver (version unknown), but libcuda.so.1 does not load"),
])  # fmt: skip
def test_why_there_is_no_driver(host, words):
    assert words in gpu.driver_problem(NO_DRIVER, host, None)


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
    assert ("pip" in found) == (cuda >= 12000)  # for an older driver nothing to install helps


@pytest.mark.parametrize("cuda, wheels, torch_", [
    (12000, WHEELS12, TORCH12), (13000, WHEELS13, TORCH13), (13020, WHEELS12, TORCH13), (13000, WHEELS13, NO_CUDA),
    (12000, {"DALI": {}, "CuPy": {"cupy": None}}, NO_CUDA),
])  # fmt: skip
def test_a_driver_of_the_same_major_version_is_enough(cuda, wheels, torch_):
    assert gpu.age_problem(cuda, gpu.built_for(wheels, torch_)) is None


def test_a_gpu_that_cuda_13_does_not_support():
    built = gpu.built_for(WHEELS13, TORCH13)
    found = gpu.capability_problem(V100, built)
    assert "Tesla V100-SXM2-16GB has compute capability 7.0" in found and "needs 7.5" in found
    assert "pip install 'dali_vidaug[cuda12]'" in found and "the build for CUDA 12" in found
    assert gpu.capability_problem(V100, gpu.built_for(WHEELS12, TORCH12)) is None
    assert gpu.capability_problem(V100._replace(capability=(7, 5)), built) is None
    assert gpu.capability_problem(H100, built) is None


def test_wheels_that_overwrite_each_other():
    both = {"cupy-cuda12x": 12, "cupy-cuda13x": 13}
    found = "pip uninstall -y cupy-cuda12x cupy-cuda13x && pip install 'dali_vidaug[cuda12]'"
    assert gpu.cupy_problem(both, 12040).endswith(found)
    assert gpu.double_problem({"cupy-cuda13x": 13}, 13000) is None and gpu.double_problem({}, 13000) is None


# torch, CuPy


def test_problems_of_torch():
    command = "pip install --force-reinstall torch (the build for CUDA"
    assert gpu.torch_problem(NO_CUDA, driver_of(13000)).endswith(
        f"is built without CUDA: {command} 13: see pytorch.org/get-started)"
    )
    assert gpu.torch_problem(NO_CUDA, driver_of(12040)).endswith(f"{command} 12: see pytorch.org/get-started)")
    blind = TORCH13._replace(error="CUDA unknown error")
    assert gpu.torch_problem(blind, driver_of()) == "torch 2.12.0+cu130 cannot use the GPU: CUDA unknown error"
    assert "; set CUDA_VISIBLE_DEVICES to the UUID" in gpu.torch_problem(blind, driver_of(gpus=(SLICE,)))
    for device_id in (-1, 1):
        found = gpu.torch_problem(TORCH13, driver_of(), device_id)
        assert found == f"device_id must be in [0, 1), the GPUs that this process sees, got {device_id}"
    assert gpu.torch_problem(TORCH13, driver_of()) is None and gpu.torch_problem(TORCH13, driver_of(), 0) is None


def test_torch_is_read():
    found = gpu.read_torch()
    assert (found.version, found.cuda) == (torch.__version__, torch.version.cuda)
    usable = torch.cuda.is_available()
    assert found.current == (torch.cuda.current_device() if usable else 0)
    assert bool(found.error) == (torch.version.cuda is not None and not usable)


def make_environment(folder, left_out):
    """A virtual environment with links to the packages of this one except for some; returns its Python."""
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
    code = f"from dali_vidaug.device import gpu; print(gpu.cupy_problem({{'cupy-cuda13x': 13}}, {cuda}))"
    done = subprocess.run(
        [make_environment(tmp_path, left_out), "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
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
        f"from dali_vidaug.device import gpu; print(gpu.cupy_problem({{{name!r}: {name[9:11]}}}, 13000))"
    )
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)
    found = done.stdout.strip()
    assert found, done.stderr
    assert found.startswith("CuPy cannot compile kernels (") and found.endswith(f"pip install {wheel}")


def test_kernels_must_not_read_host_memory(monkeypatch):
    monkeypatch.setenv("CUPY_ENABLE_UMP", "1")
    assert gpu.cupy_problem({"cupy-cuda13x": 13}, 13000).endswith("unset it")


# All of it, in order


@pytest.fixture
def problem_of(use_driver, monkeypatch):
    """A function that returns ``problem()`` for wheels and torch as given, and a driver that stands in."""

    def find(wheels, torch_, **facts):
        use_driver(**facts)
        monkeypatch.setattr(gpu, "read_wheels", lambda: wheels)
        monkeypatch.setattr(gpu, "read_torch", lambda: torch_)
        return gpu.problem()

    return find


def test_the_first_problem_is_the_one_reported(problem_of):
    pytest.importorskip("cupy")
    double = WHEELS13 | {"CuPy": {"cupy-cuda12x": 12, "cupy-cuda13x": 13}}
    assert "CUDA error 803" in problem_of(double, NO_CUDA, INIT=803, CUDA=12000)
    assert "update the driver" in problem_of(double, NO_CUDA, CUDA=12000)
    assert "is built without CUDA" in problem_of(double, NO_CUDA)
    assert "overwrite each other" in problem_of(double, TORCH13)
    assert problem_of(WHEELS13, TORCH13) is None


def test_the_requested_gpu_is_the_one_examined(problem_of):
    pytest.importorskip("cupy")
    found = problem_of(WHEELS13, TORCH13._replace(current=1), GPUS=2, OLD_GPU=1)
    assert "NVIDIA H100 1 has compute capability 7.1" in found
    assert gpu.problem(0) is None and "7.1" in gpu.problem(1) and "got 2" in gpu.problem(2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_driver_alone_is_not_enough(use_driver):
    found = gpu.problem()
    assert found and "torch" in found
    use_driver(CUDA=11080)
    assert "supports CUDA 11.8" in gpu.problem()


def test_problem_never_raises(monkeypatch, tmp_path):
    monkeypatch.setattr(driver, "LIBCUDA", build(tmp_path, "libempty.so", "", "-shared", "-fPIC"))
    assert gpu.problem().startswith("looking for a GPU failed with AttributeError")
    assert gpu.problem().endswith("run dali-vidaug doctor")
