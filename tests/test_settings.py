"""What users call devices, dtypes and processes, and what is said once a machine."""

import logging
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import RECIPE, same_batch, take_batches

import dali_vidaug as dv
from dali_vidaug import settings
from dali_vidaug.device import gpu
from dali_vidaug.report import warn_once
from dali_vidaug.settings import make_settings


@pytest.fixture
def two_gpus(monkeypatch):
    """As on a machine with two GPUs that work, of which the second is torch's current one."""
    asked = []
    monkeypatch.setattr(gpu, "problem", asked.append)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    return asked


@pytest.mark.parametrize("given, asked", [
    ("gpu", None), ("cuda", None), (torch.device("cuda"), None), ("auto", None), ("cuda:0", 0), ("cuda:1", 1),
    (torch.device("cuda", 0), 0), (torch.device("cuda:1"), 1),
])  # fmt: skip
def test_every_name_of_a_gpu_is_kept_in_one_form(given, asked, two_gpus):
    """A GPU that is named, or else torch's current one."""
    made = make_settings(device=given)
    assert (made.device, made.device_id) == ("gpu", 1 if asked is None else asked) and two_gpus == [asked]


def test_every_name_of_the_cpu_is_kept_in_one_form(two_gpus):
    for given in ("cpu", torch.device("cpu")):
        made = make_settings(device=given)
        assert (made.device, made.device_id, two_gpus) == ("cpu", None, [])


@pytest.mark.parametrize("given", ["tpu", "mps", torch.device("mps"), "cuda:", "cuda:x", "cuda:-1", "gpu:1", "CUDA", 0,
                                   None, True, "cuda:²", ["cuda"]])  # fmt: skip
def test_other_devices_are_refused_with_what_was_given(given):
    with pytest.raises(ValueError, match=rf"^VideoLoader: device must be .*, got {re.escape(repr(given))}$"):
        make_settings(device=given)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("given", ["gpu", "cuda", "cuda:1", torch.device("cuda")])
def test_a_gpu_that_is_not_there_is_missed_under_its_name(given):
    message = rf"device is {re.escape(repr(str(given)))}, but .*; see dali-vidaug doctor. device='auto' takes the CPU"
    with pytest.raises(ValueError, match=message):
        dv.augment(np.zeros((1, 2, 8, 8, 3), np.uint8), (), device=given)


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_every_name_of_a_dtype_is_kept_in_one_form(name):
    others = [] if name == "bfloat16" else [getattr(np, name), np.dtype(name)]
    assert {make_settings(device="cpu", dtype=d).dtype for d in (name, getattr(torch, name), *others)} == {name}


@pytest.mark.parametrize(
    "given", ["half", "uint8", torch.float64, torch.uint8, np.float64, np.dtype("u1"), None, 16, []]
)
def test_other_dtypes_are_refused_with_what_was_given(given):
    with pytest.raises(ValueError, match=rf"^augment: dtype must be float32, .*, got {re.escape(repr(given))}$"):
        dv.augment(np.zeros((1, 2, 8, 8, 3), np.uint8), (dv.Normalize(),), device="cpu", dtype=given)


def test_bfloat16_is_the_float32_rounded_as_torch_rounds(numbered_manifest):
    batches = {}
    for dtype in (torch.float32, torch.bfloat16):
        loader = dv.VideoLoader(numbered_manifest, RECIPE, 4, device=torch.device("cpu"), dtype=dtype)
        batches[dtype] = take_batches(loader, 3)
    for exact, rounded in zip(batches[torch.float32], batches[torch.bfloat16], strict=True):
        assert rounded.clips.dtype == torch.bfloat16
        assert torch.equal(rounded.clips, exact.clips.to(torch.bfloat16)) and torch.equal(
            rounded.targets, exact.targets
        )
        assert not torch.equal(rounded.clips.float(), exact.clips)
    clips = np.random.default_rng(0).integers(0, 256, (2, 5, 9, 8, 3), dtype=np.uint8)
    exact, rounded = (
        dv.augment(clips, (dv.Normalize(),), device="cpu", dtype=d).clips for d in ("float32", "bfloat16")
    )
    assert torch.equal(rounded, exact.to(torch.bfloat16))
    assert dv.augment(clips, (), device="cpu", dtype="bfloat16").clips.dtype == torch.uint8  # without Normalize


def test_how_a_dtype_is_called_changes_neither_state_nor_batches(numbered_manifest):
    a, b = (dv.VideoLoader(numbered_manifest, RECIPE, 4, device=device, dtype=dtype)
            for device, dtype in (("cpu", "float16"), (torch.device("cpu"), torch.float16)))  # fmt: skip
    assert a.state_dict() == b.state_dict() and a.settings == b.settings
    assert same_batch(*(take_batches(loader, 1)[0] for loader in (a, b)))


# ---- What holds for the machine


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_one_of_a_machines_ranks_says_that_auto_is_the_cpu():
    code = "from dali_vidaug.settings import make_settings; make_settings(device='auto')"
    ranks = [
        subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"LOCAL_RANK": str(i)}, stderr=subprocess.PIPE)
        for i in range(3)
    ]
    said = ["device 'auto' is the CPU" in rank.communicate()[1].decode() for rank in ranks]
    assert said == [True, False, False] and not any(rank.returncode for rank in ranks)


def test_a_rank_whose_own_gpu_does_not_work_says_so(use_driver, monkeypatch, caplog):
    """There is a driver: the others may be on their GPUs."""
    use_driver(INIT=999)
    monkeypatch.setenv("LOCAL_RANK", "3")
    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "dali_vidaug"):
        assert settings.make_settings(device="auto").device == "cpu"
    assert "CUDA error 999" in caplog.text
    warn_once.cache_clear()
