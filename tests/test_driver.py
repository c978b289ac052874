"""What the NVIDIA driver and the machine say, read from libraries and files that stand in for theirs."""

import ctypes

import pytest
from stand_in_driver import BARE

from dali_vidaug.device import driver
from dali_vidaug.device.driver import Driver, Gpu, Host, read_driver, read_host


def test_the_driver_is_read(use_driver):
    use_driver(GPUS=2, CUDA=12040)
    assert read_driver() == Driver(
        0, 12040, (Gpu("NVIDIA H100 0", (9, 0), 80 << 30), Gpu("NVIDIA H100 1", (9, 1), 80 << 30))
    )
    use_driver(INIT=803)
    assert read_driver() == Driver(803, 13000, ())


def test_without_a_library_there_is_no_driver(monkeypatch):
    monkeypatch.setattr(driver, "LIBCUDA", "libcuda-that-is-not-there.so.1")
    assert read_driver() == Driver(None, 0, ())


def test_a_function_that_fails_is_named(use_driver):
    library, device = driver.load(driver.LIBCUDA), ctypes.c_int()
    driver.call(library, "cuDeviceGet", ctypes.byref(device), 0)
    with pytest.raises(RuntimeError, match="cuDeviceGet fails with CUDA error 101"):
        driver.call(library, "cuDeviceGet", ctypes.byref(device), 5)


@pytest.mark.parametrize("line, version", [
    ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023", "535.104.05"),
    ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86  Release Build", "570.86"),
    ("GCC version: gcc version 12.3.0", None),
])  # fmt: skip
def test_the_host_is_read(tmp_path, monkeypatch, line, version):
    monkeypatch.setattr(driver, "ROOT", tmp_path)
    assert read_host() == BARE
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(line + "\n")
    assert read_host() == Host(version, False, False)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    assert not read_host().devices  # there without a GPU too
    (tmp_path / "dev/nvidia0").touch()
    assert read_host() == Host(version, True, False)


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv", ".singularity.d", "var/run/secrets/kubernetes.io"])
def test_containers_are_recognised_by_their_files(tmp_path, monkeypatch, mark):
    monkeypatch.setattr(driver, "ROOT", tmp_path)
    (tmp_path / mark).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / mark).touch()
    assert read_host().container
