"""What ``dali-vidaug doctor`` finds, row by row."""

import pytest
import torch
from stand_in_driver import (
    BARE,
    CONTAINER,
    H100,
    MACHINE,
    NO_CUDA,
    NO_DRIVER,
    NVDEC,
    SLICE,
    TORCH12,
    TORCH13,
    V100,
    WHEELS12,
    WHEELS13,
    driver_of,
)

from dali_vidaug.commands import doctor
from dali_vidaug.commands.doctor import BAD, MISSING, OK
from dali_vidaug.device import driver, gpu, nvdec
from dali_vidaug.device.driver import Host
from dali_vidaug.device.nvdec import Decoder

# The driver, wheels


@pytest.mark.parametrize("found, host, visible", [
    (NO_DRIVER, BARE, None), (NO_DRIVER, CONTAINER, None), (NO_DRIVER, MACHINE, None),
    (NO_DRIVER, Host(None, True, False), None), (driver_of(gpus=(), error=803), MACHINE, None),
    (driver_of(gpus=(), error=777), MACHINE, None), (driver_of(gpus=()), MACHINE, "-1"),
])  # fmt: skip
def test_the_row_of_the_driver_says_its_problem(found, host, visible):
    why = gpu.driver_problem(found, host, visible)
    assert why and doctor.driver_rows(found, host, visible) == [(MISSING, "CUDA driver", why)]


def test_the_row_of_a_driver_says_its_versions():
    assert doctor.driver_rows(driver_of(12080), MACHINE, "0") == [
        (OK, "CUDA driver", "580.65.06, supports CUDA 12.8"),
    ]
    assert doctor.driver_rows(driver_of(), BARE, None)[0][2] == "of unknown version, supports CUDA 13.0"


@pytest.mark.parametrize("cuda, wheels, torch_", [
    (12080, WHEELS13, TORCH12), (12080, WHEELS12, TORCH13), (12080, WHEELS13, TORCH13), (11080, WHEELS12, TORCH12),
    (13020, {"DALI": {"nvidia-dali-cuda140": 14}}, NO_CUDA), (12100, WHEELS13, NO_CUDA),
    (12080, WHEELS13 | {"CuPy": {"cupy-cuda14x": 14}}, NO_CUDA),
])  # fmt: skip
def test_the_row_of_wheels_says_that_the_driver_is_older(cuda, wheels, torch_):
    why = gpu.age_problem(cuda, gpu.built_for(wheels, torch_))
    ((state, subject, finding),) = doctor.wheels_rows(wheels, torch_, driver_of(cuda))
    assert (state, subject) == (MISSING, "wheels") and finding.endswith(f"; {why}")


@pytest.mark.parametrize("cuda, wheels, torch_", [
    (12000, WHEELS12, TORCH12), (13000, WHEELS13, TORCH13), (13020, WHEELS12, TORCH13), (13000, WHEELS13, NO_CUDA),
    (12000, {"DALI": {}, "CuPy": {"cupy": None}}, NO_CUDA),
])  # fmt: skip
def test_the_row_of_wheels_that_suit_the_driver(cuda, wheels, torch_):
    assert [row[:2] for row in doctor.wheels_rows(wheels, torch_, driver_of(cuda))] == [(OK, "wheels")]


def test_the_row_of_wheels_says_that_a_gpu_is_too_old():
    why = gpu.capability_problem(V100, gpu.built_for(WHEELS13, TORCH13))
    assert why in doctor.wheels_rows(WHEELS13, TORCH13, driver_of(gpus=(H100, V100)))[0][2]


def test_wheels_that_overwrite_each_other_are_bad():
    both = {"cupy-cuda12x": 12, "cupy-cuda13x": 13}
    dali = {"nvidia-dali-cuda120": 12, "nvidia-dali-cuda130": 13}
    rows = doctor.wheels_rows({"DALI": dali, "CuPy": both}, NO_CUDA, NO_DRIVER)
    assert [row[:2] for row in rows] == [(BAD, "wheels")] * 2
    assert rows[0][2].startswith("nvidia-dali-cuda120 and nvidia-dali-cuda130 overwrite each other")


def test_wheels_are_listed_without_a_driver():
    rows = doctor.wheels_rows(WHEELS13 | {"CuPy": {"cupy": None}}, TORCH12, NO_DRIVER)
    assert rows == [(OK, "wheels", "DALI for CUDA 13, CuPy for an unknown CUDA (cupy), torch for CUDA 12.6")]


# GPUs, NVDEC, cores


def test_rows_of_gpus():
    assert doctor.gpu_rows((), 0) == []
    one = (OK, "GPU 0", "NVIDIA H100 80GB HBM3, compute capability 9.0, 80.0 GiB")
    assert doctor.gpu_rows((H100,), 0) == [one]
    assert "to use all 2" in doctor.gpu_rows((H100, H100), 0)[2][2]
    rows = doctor.gpu_rows((H100, V100, H100), 2)
    assert [row[1] for row in rows] == ["GPU 0", "GPU 1", "GPU 2", "GPUs"]
    assert "uses GPU 2; torch.cuda.set_device(local_rank)" in rows[3][2] and "--nproc-per-node 3" in rows[3][2]
    assert doctor.gpu_rows((SLICE,), 0)[0][2].endswith("5.0 GiB; a MIG instance: CUDA shows a process only one")


def test_row_of_nvdec():
    expected = "7 engines, decodes H.264 to 4096x4096, H.265 to 8192x8192, MPEG-4 to 2032x2032, VP9 to 8192x8192; "
    assert doctor.nvdec_rows(NVDEC, None) == [(OK, "NVDEC", expected + "VP8, AV1, MJPEG on the CPU")]
    one = dict.fromkeys(doctor.CODECS, Decoder(1, 48, 16, 4096, 4096, 65536))
    finding = doctor.nvdec_rows(one, None)[0][2]
    assert finding.startswith("1 engine, ") and "CPU" not in finding
    assert doctor.nvdec_rows({}, "why") == [(MISSING, "NVDEC", "videos are decoded on the CPU: why")]


def test_row_of_nvdec_without_a_library_for_decoding(use_driver, monkeypatch, tmp_path):
    monkeypatch.setattr(nvdec, "LIBNVCUVID", "libnvcuvid-that-is-not-there.so.1")
    monkeypatch.setattr(driver, "ROOT", tmp_path)
    ((state, _, finding),) = doctor._nvdec()
    assert state == MISSING and nvdec.problem(0) in finding and "that-is-not-there" in finding


@pytest.mark.parametrize("quota, mine, finding", [
    (None, 16, "16 of the machine's 64 may be used"),
    (16.0, 16, "16 of the machine's 64 may be used"),
    (3.5, 3, "16 of the machine's 64 may be used, with a CPU quota of 3.5: 3 threads by default"),
    (None, 1, "16 of the machine's 64 may be used: 1 thread by default"),
])  # fmt: skip
def test_row_of_cores(quota, mine, finding):
    assert doctor.cores_rows(16, 64, quota, mine) == [(OK, "cores", finding)]


# All of it


def test_a_check_that_breaks_is_a_row(monkeypatch):
    def broken():
        raise OSError("no such thing")

    for module in (driver, gpu):
        monkeypatch.setattr(module, "read_driver", broken)
    rows = doctor.examine()
    assert (BAD, "driver", "OSError: no such thing") in rows
    assert [row[1] for row in rows if row[0] == OK][:2] == ["python", "torch"]
    assert "looking for a GPU failed with OSError: no such thing" in rows[-1][2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_the_row_of_device_auto(use_driver, monkeypatch):
    """It is what ``problem`` says: at first torch has no GPU, then everything seems to be there."""
    pytest.importorskip("cupy")
    monkeypatch.setattr(gpu, "read_torch", lambda: TORCH13._replace(error="no GPU"))
    assert (MISSING, "device auto", f"cpu: {gpu.problem()}") in doctor.examine()
    monkeypatch.setattr(gpu, "read_torch", lambda: TORCH13)
    monkeypatch.setattr(gpu, "read_wheels", lambda: WHEELS13)
    assert doctor._device() == [(OK, "device auto", "gpu")]


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
    assert not [row for row in rows if row[0] == BAD]
    found = gpu.problem()
    assert rows[-1][2] == ("gpu" if found is None else f"cpu: {found}")
    assert (found is None) <= torch.cuda.is_available()
    assert all("\n" not in finding for _, _, finding in rows)


def test_how_many_clips_are_decoded_at_once():
    """By hand: 20 GiB of 80; a frame of 1080p is 6.2 MB, of which a clip takes 8 + 10 + 3 * 16."""
    ((state, subject, text),) = doctor.decode_memory_rows(20 << 30, 80 << 30)
    number = (20 << 30) // (1920 * 1080 * 3 * (8 + 10 + 3 * 16))
    assert (state, subject) == (doctor.OK, "memory") and f"{number} of 1920x1080" in text and "20.0 of 80.0 GiB" in text
    ((_, _, text),) = doctor.decode_memory_rows(1 << 30, None)
    assert "in 1.0 GiB" in text and "(decode_batch)" in text
