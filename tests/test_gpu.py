"""The checks that find out on a GPU whether everything works; here they compare the CPU with itself.

With ``pytest -m gpu`` on a machine with a GPU they run as ``dali-vidaug doctor --gpu`` runs them.
"""

import ast
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

import dali_vidaug as dv
from dali_vidaug.commands.checks import decoder, decoding, loading, pixels, run
from dali_vidaug.commands.checks import device as device_module
from dali_vidaug.commands.checks.cases import bytes_moved
from dali_vidaug.commands.checks.context import Context, Lacking, agree
from dali_vidaug.commands.checks.device import GPU_VERSIONS, VERSIONS
from dali_vidaug.commands.checks.numbered import ENCODINGS
from dali_vidaug.commands.checks.pixels import OPS
from dali_vidaug.commands.checks.run import CHECKS, run_check, run_checks, summary
from dali_vidaug.commands.cli import main
from dali_vidaug.device import gpu, nvdec
from dali_vidaug.media import load
from dali_vidaug.media.decode import decode
from dali_vidaug.ops.blend import new_rows

NOT_ON_CPU = {*GPU_VERSIONS, "decode h264", "decode hevc", "decode av1", "decode mpeg4"}  # DALI's CPU decoder has none
NOT_ON_CPU |= {"no waiting, PyAV", "no waiting, auto", "decode h264, cropped"}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checks")


@pytest.fixture
def context(device, folder):
    return Context(device, folder, small=device == "cpu")


@pytest.fixture
def cpu(folder):
    return Context("cpu", folder, small=True)


@pytest.mark.parametrize("name", CHECKS)
def test_check(name, context):
    if context.device == "cpu" and name in NOT_ON_CPU:
        with pytest.raises(Lacking, match="on the CPU"):
            CHECKS[name](context)
        return
    try:
        finding = CHECKS[name](context)
    except Lacking as error:
        pytest.skip(str(error))
    assert finding and "\n" not in finding
    print(finding)


def test_every_public_op_is_checked():
    names = {name for name in dv.__all__ if hasattr(dv.ops, name)} - {"register_module"}
    assert len(names) > 20
    assert names <= {name.split(",")[0] for name in OPS}


# A check that is given something wrong must say so. What comes from the device is changed, not what compares it.


def change(monkeypatch, module, name, at, change_result):
    """Let a function of a module, in its call number ``at``, return ``change_result`` of what it would return."""
    original, calls = getattr(module, name), []

    def changed(*args, **options):
        result = original(*args, **options)
        calls.append(name)
        return change_result(result) if len(calls) == at else result

    monkeypatch.setattr(module, name, changed)


def flip_a_byte(array):
    array = np.array(array)
    array.view(np.uint8).reshape(-1)[array.nbytes // 2] ^= 1
    return array


def swap_two_frames(clips):
    clips = clips.copy()
    clips[:, :, [3, 4]] = clips[:, :, [4, 3]]
    return clips


@pytest.mark.parametrize(
    "name, module, at",
    [
        ("decode vp8", decoding, 1),
        ("decode, both decoders", decoding, 2),
        ("decode av1, hidden pictures", decoding, 1),
        ("kernel randaugment, 1 op", pixels, 1000),
        ("kernel randaugment, 2 ops", pixels, 50),
        ("kernel randaugment, 3 ops", pixels, 1),
        ("kernel blend", pixels, 1),  # a clip of one pixel
        ("kernel interpolate", pixels, 1),
        ("kernel warp", pixels, 1),
        ("op CenterCrop", pixels, 3),
        ("op CenterCrop", pixels, 1),  # its labels
        ("op MixUp", pixels, 7),
        ("loader, same again", loading, 41),
        ("loader, resumed", loading, 7),
        ("streams, PyAV", loading, 25),
    ],
)
def test_a_wrong_byte_is_found(name, module, at, cpu, monkeypatch):
    change(monkeypatch, module, "to_host", at, flip_a_byte)
    assert run_check(name, cpu).state == run.BAD


def test_a_wrong_pixel_compared_with_the_cpu_is_found(cpu, monkeypatch):
    """There the last bits of a float may differ."""
    for wrong, state in ((lambda clips: clips + np.float32(1e-6), run.OK), (lambda x: x + 0.1, run.BAD)):
        with monkeypatch.context() as patch:
            change(patch, loading, "to_host", 5, wrong)
            row = run_check("loader, compared with the CPU", cpu)
        assert row.state == state, row


def test_wrong_frames_are_found(cpu, monkeypatch):
    change(monkeypatch, decoding, "to_host", 1, swap_two_frames)
    row = run_check("decode vp9", cpu)
    assert row.state == run.BAD and "frames [20, 21, 4, 8, 56, 55] show [21, 20, 8, 4, 55, 56]" in row.finding


def test_clips_in_another_order_and_wrong_frames_of_mixed_batches_are_found(cpu, monkeypatch):
    for name, words in (("both decoders", "clip 0, in orientation 1, shows frames"), ("fallback", "] show [[")):
        with monkeypatch.context() as patch:
            change(patch, decoding, "to_host", 1, lambda clips: clips[::-1])
            row = run_check(f"decode, {name}", cpu)
        assert row.state == run.BAD and words in row.finding, row


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda batches: batches[1:], " batches, expected "),
        (lambda batches: [*batches[:-2], batches[-1], batches[-2]], "has a different plan"),
    ],
)
@pytest.mark.parametrize("name", ["loader, same again", "loader, resumed", "loader, compared with the CPU"])
def test_a_lost_batch_and_a_different_order_are_found(name, wrong, message, cpu, monkeypatch):
    change(monkeypatch, loading, "read_epochs", 1, wrong)
    row = run_check(name, cpu)
    assert row.state == run.BAD and message in row.finding


def test_what_dalis_decoder_does_wrong_is_found(cpu, monkeypatch):
    """A byte of a part; frames that are others; batches in turn; more memory than was estimated."""
    with monkeypatch.context() as patch:
        change(patch, decoder, "to_host", 5, flip_a_byte)
        row = run_check("decode, in parts", cpu)
    assert row.state == run.BAD and "with decode_batch=1 clips are others" in row.finding
    with monkeypatch.context() as patch:
        real = load.remux
        patch.setattr(
            load, "remux", lambda *args, **options: (made := real(*args, **options))._replace(
                positions=np.maximum(made.positions - 1, 0)),
        )  # fmt: skip
        row = run_check("decode, compared with PyAV", cpu)
    assert row.state == run.BAD
    with monkeypatch.context() as patch:
        change(patch, decoder, "to_host", 8, flip_a_byte)
        row = run_check("decode, CPU besides", cpu)
    assert row.state == run.BAD and "neither DALI's nor PyAV's" in row.finding
    with monkeypatch.context() as patch:
        times = iter([1.0, 1.9] * 4)
        patch.setattr(decoder, "_seconds_a_batch", lambda *args: next(times))
        row = run_check("decode, ahead of the ops", cpu)
    assert row.state == run.BAD and "in turns it would be 2" in row.finding
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "POOLS_MB", -1e6)
        row = run_check("decode, memory", cpu)
    assert row.state == run.BAD and "rose by" in row.finding


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_that_fails_says_what_to_do(name, cpu, monkeypatch):
    def fail(context):
        raise AssertionError("it is wrong")

    monkeypatch.setitem(CHECKS, name, fail)
    row = run_check(name, cpu)
    assert row.state == run.BAD and re.fullmatch(r"AssertionError: it is wrong\. What to do: .{10,}", row.finding)
    assert ("install it" in row.finding) == (name in GPU_VERSIONS | VERSIONS)


def test_memory_that_is_reused_too_early_is_found(cpu, monkeypatch):
    """As if the copy had been made after the batch was overwritten."""
    monkeypatch.setattr(torch.Tensor, "clone", lambda tensor: tensor)
    row = run_check("streams, PyAV", cpu)
    assert row.state == run.BAD and "gave different pixels in 6 batches: [0, 1, 2, 3, 4, 5]" in row.finding


@pytest.mark.parametrize(
    "answers, state, words",
    [
        ([False] * 5, run.OK, "5 batches returned while the GPU was busy"),
        ([False, True, False, False, False], run.BAD, "of 5 batches 4 were returned while the GPU was busy"),
    ],
)
def test_a_loader_that_waits_is_found(answers, state, words, cpu, monkeypatch):
    """As on a GPU that has, or has not, reached the end of its queue when a batch is returned."""
    marks, open_loader = iter(answers), loading.open_loader
    monkeypatch.setattr(loading, "Queued", lambda device: SimpleNamespace(done=lambda: next(marks)))
    monkeypatch.setattr(loading, "open_loader", lambda context, decoder: open_loader(cpu, decoder=decoder))
    monkeypatch.setattr(loading.time, "sleep", lambda seconds: None)
    for module, name in ((loading, "keep_busy"), (loading, "wait"), (run, "wait")):
        monkeypatch.setattr(module, name, lambda device: None)
    row = run_check("no waiting, PyAV", Context("gpu", cpu.folder, small=True))
    assert row.state == state and words in row.finding, row


def test_a_leak_is_found(cpu, monkeypatch):
    leaked, take = [], loading.take

    def leak(loader, num_batches):
        for batch in take(loader, num_batches):
            leaked.append(np.ones(8 << 20, np.uint8))
            yield batch

    monkeypatch.setattr(loading, "take", leak)
    row = run_check("memory", cpu)
    assert row.state == run.BAD and "memory grew: host +1" in row.finding


def test_tolerances_are_kept():
    expected = np.zeros(1000, np.uint8)
    actual = expected.copy()
    actual[:10] = 9
    assert agree("x", expected, expected).most == 0
    assert agree("x", actual, expected, within=9) == (9, 0.09)
    assert str(agree("x", actual, expected, within=8, share=0.99)) == "mean difference 0.09, at most 9"
    for limits in ({}, dict(within=8), dict(within=8, share=0.991), dict(within=9, mean=0.08)):
        with pytest.raises(AssertionError, match=r"worst at \(0,\): 9, expected 0"):
            agree("x", actual, expected, **limits)
    for other in (expected[:-1], expected.astype(int)):
        with pytest.raises(AssertionError, match=r"x: \(1000,\) uint8, expected \("):
            agree("x", actual, other, within=255)
    with pytest.raises(AssertionError, match="x: 0.000% of the values within 9"):
        agree("x", np.full(3, np.nan), np.zeros(3), within=9)


BT601, BT709 = (0.299, 0.114), (0.2126, 0.0722)


def rgb_of(frame, weights=BT601, offset=0.5):
    """RGB of a limited-range 4:2:0 frame, as DALI makes it on a GPU: bilinear, (height, width, 3) uint8.

    Args:
        frame: av.VideoFrame.
        weights: of red and blue in luma.
        offset: where the first colour sample lies, in pixels from the first pixel's centre, down and right.
    """
    height, width = frame.height, frame.width
    planes = frame.to_ndarray(format="yuv420p").astype(np.float64)
    luma = (planes[:height] - 16) / 219
    row, column = ((np.arange(n) - offset).clip(0) / 2 for n in (height, width))

    def spread(plane):
        (y, x), (h, w) = (row.astype(int), column.astype(int)), plane.shape
        fy, fx = (row - y)[:, None], column - x
        top, bottom = (plane[z.clip(max=h - 1)] for z in (y, y + 1))
        lines = top * (1 - fy) + bottom * fy
        return lines[:, x] * (1 - fx) + lines[:, (x + 1).clip(max=w - 1)] * fx

    blue, red = ((spread(p.reshape(height // 2, -1)) - 128) / 224 for p in np.split(planes[height:].ravel(), 2))
    kr, kb = weights
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    return (255 * np.stack([r, g, b], -1)).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("encoding", ["vp9", "av1"])
def test_the_limits_for_colours_allow_only_rounding(encoding, cpu):
    video = decoding.make_manifest(cpu, encoding).video(0)
    wanted = np.arange(30, 36)
    expected = decode(video, wanted).pixels
    with av.open(video.path) as container:
        frames = [frame for i, frame in enumerate(container.decode(video=0)) if i in wanted]
    assert agree("x", np.stack([rgb_of(f) for f in frames]), expected, **decoding.COLORS).most <= 2
    for wrong in (dict(weights=BT709), dict(offset=0.0), dict(offset=1.0)):
        with pytest.raises(AssertionError, match="of the values within 4"):
            agree("x", np.stack([rgb_of(f, **wrong) for f in frames]), expected, **decoding.COLORS)
    with pytest.raises(AssertionError, match="of the values within 8"):  # the next frame's colours
        agree("x", np.stack([rgb_of(f) for f in frames[1:]]), expected[:-1], **decoding.ROUNDED)


# What is not there is no failure.


def test_a_missing_encoder_is_not_a_failure(cpu, monkeypatch, tmp_path):
    monkeypatch.setitem(ENCODINGS, "h264", ("h264.mp4", dict(codec="libnone")))
    row = run_check("decode h264", Context("cpu", tmp_path, small=True))
    assert row.state == run.MISSING and "no encoder libnone" in row.finding
    assert run_check("loader, resumed", Context("cpu", tmp_path, small=True)).state == run.OK  # in MPEG-4


def test_every_gpu_decodes_h264(cpu, monkeypatch):
    """A codec that a GPU may lack is no failure; H.264 and H.265, which all have, are; a GPU without NVDEC is none."""
    monkeypatch.setattr(gpu, "problem", lambda device_id: "there is no GPU")  # so that the loader refuses
    monkeypatch.setattr(nvdec, "problem", lambda device_id: None)
    for codec in ("h264", "hevc"):
        with pytest.raises(ValueError, match="(?i)gpu"):
            CHECKS[f"decode {codec}"](Context("gpu", cpu.folder))
    with pytest.raises(Lacking, match="(?i)gpu"):
        CHECKS["decode vp9"](Context("gpu", cpu.folder))
    for why, error in (("this instance has no NVDEC", Lacking), ("no libnvcuvid.so.1: install it", AssertionError)):
        monkeypatch.setattr(nvdec, "problem", lambda device_id, why=why: why)
        for name in ("decode h264", "decode, both decoders", "decode, fallback"):
            with pytest.raises(error, match=why):
                CHECKS[name](Context("gpu", cpu.folder))


def packets(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def num_av1_pictures(packet):
    """How many pictures an AV1 packet has: units (OBU) of type frame or frame header; AV1 specification 5.3."""
    count = at = 0
    while at < len(packet):
        count += packet[at] >> 3 & 15 in (3, 6)
        at += 1 + (packet[at] >> 2 & 1)
        size = shift = 0
        more = True
        while more:
            size, shift, more, at = size | (packet[at] & 127) << shift, shift + 7, packet[at] >> 7, at + 1
        at += size
    return count


def test_encodings_have_hidden_pictures_where_their_names_say_so(cpu):
    for codec, has_hidden in (
        ("vp9", lambda packet: packet[-1] >> 5 == 6),  # a superframe: several pictures in a packet
        ("av1", lambda packet: num_av1_pictures(packet) > 1),
    ):
        for encoding, hidden in ((codec, False), (f"{codec}, hidden pictures", True)):
            path = decoding.make_manifest(cpu, encoding).path(0)
            assert any(map(has_hidden, packets(path))) == hidden, encoding


# What only a GPU runs


def test_cupy_and_torch_have_what_the_lines_for_a_gpu_call():
    """Every name that device.py takes from torch.cuda and from CuPy is there."""
    cupy = pytest.importorskip("cupy")
    known = {"cupy": cupy, "cuda": cupy.cuda, "runtime": cupy.cuda.runtime, "torch": torch}
    found = []
    for node in ast.walk(ast.parse(Path(device_module.__file__).read_text())):
        chain: list[str] = []
        while isinstance(node, ast.Attribute):
            chain, node = [node.attr, *chain], node.value
        if chain and isinstance(node, ast.Name) and node.id in known:
            found.append(f"{node.id}.{'.'.join(chain)}")
            thing = known[node.id]
            for name in chain:
                assert hasattr(thing, name), found[-1]
                thing = getattr(thing, name)
    for name in ("cuda.Event", "cuda.get_elapsed_time", "runtime.deviceGetAttribute", "torch.cuda.mem_get_info"):
        assert name in found
    assert (cupy.cuda.runtime.cudaDevAttrMemoryClockRate, cupy.cuda.runtime.cudaDevAttrGlobalMemoryBusWidth) == (36, 37)


def test_bytes_moved():
    """What each row reads and writes, counted; on the GPU a clip that does not change is copied."""
    rows = new_rows(5, 4, 10, 20)  # 2400 bytes each
    rows["partner"] = [1, 2, 3, 4, -1]
    rows["inside"] = np.array([0, 0.5, 1, 1, 1])[:, None]
    rows["last"][3:] = 2  # half of the clip
    assert bytes_moved(rows).tolist() == [0, 7200, 4800, 4800, 3600]
    assert bytes_moved(rows, copied=True).tolist() == [4800, 7200, 4800, 4800, 3600]


# The command and the marker


def test_doctor_without_a_gpu(capsys, monkeypatch):
    monkeypatch.setattr(gpu, "problem", lambda: "there is none")
    monkeypatch.delenv("DALI_VIDAUG_REQUIRE_GPU", raising=False)
    assert main(["doctor", "--gpu"]) == 0
    assert "the GPU is not checked: there is none" in capsys.readouterr().out
    monkeypatch.setenv("DALI_VIDAUG_REQUIRE_GPU", "1")
    assert main(["doctor", "--gpu"]) == 1
    assert main(["doctor"]) == 0


def test_doctor_prints_a_table(capsys, monkeypatch):
    """As on a GPU, but the checks compare the CPU with itself."""
    few = {name: CHECKS[name] for name in ("DALI", "CuPy", "op Mix", "op MixUp", "speed MixUp")}
    monkeypatch.setattr(run, "CHECKS", few)
    monkeypatch.setattr(run, "run_checks", lambda device, show: run_checks("cpu", small=True, show=show))
    monkeypatch.setattr(gpu, "problem", lambda: None)
    assert main(["doctor", "--gpu"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()[-6:]
    assert [line[:19].rstrip() for line in lines[:5]] == [
        "ok   DALI", "--   CuPy", "ok   op Mix", "ok   op MixUp", "ok   speed MixUp",
    ]  # fmt: skip
    assert len({line.index(" s  ") for line in lines[:5]}) == 1  # columns stand one below the other
    assert "GB/s" in lines[4] and lines[5] == "4 ok, 1 not possible here (--), 0 failed (BAD)"
    assert "3 of 5: op Mix" in printed.err and "5 of 5: speed MixUp" in printed.err
    change(monkeypatch, pixels, "to_host", 4, flip_a_byte)
    assert main(["doctor", "--gpu"]) == 1
    assert "BAD  op Mix" in capsys.readouterr().out


def test_when_the_time_is_up_no_more_checks_are_started(monkeypatch, capsys):
    monkeypatch.setattr(run, "SECONDS_MAX", -1)
    rows = run_checks("cpu", small=True)
    assert [row.name for row in rows] == list(CHECKS)
    assert {row[::2] for row in rows} == {(run.MISSING, "skipped: the time is up")}
    late = f"{len(CHECKS)} skipped because the time was up"
    assert summary(rows) == f"0 ok, 0 not possible here (--), 0 failed (BAD), {late}"
    monkeypatch.setattr(run, "run_checks", lambda device, show: rows)
    monkeypatch.setattr(gpu, "problem", lambda: None)
    for required, code in (("0", 0), ("1", 1)):
        monkeypatch.setenv("DALI_VIDAUG_REQUIRE_GPU", required)
        assert main(["doctor", "--gpu"]) == code
    assert late in capsys.readouterr().out


def test_an_error_is_a_row(cpu, monkeypatch):
    def broken(context):
        raise OSError("the disk\nis full")

    monkeypatch.setitem(CHECKS, "memory", broken)
    row = run_check("memory", cpu)
    assert row[:2] == (run.BAD, "memory") and row.finding.startswith("OSError: the disk is full. What to do: smaller")
    assert summary([row, row]) == "0 ok, 0 not possible here (--), 2 failed (BAD)"


def run_pytest(*arguments, **environment):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTEST_ADDOPTS": ""} | environment
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=Path(__file__).parent.parent, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_marker_selects_what_needs_a_gpu_and_nothing_else():
    found = run_pytest("-m", "gpu", "--collect-only", "tests/test_gpu.py", "tests/test_blend.py").stdout
    for name in CHECKS:
        assert f"tests/test_gpu.py::test_check[gpu-{name}]\n" in found
    tests = [line for line in found.splitlines() if "::" in line]
    assert "tests/test_blend.py::test_all_pairs_of_values_and_many_weights[gpu]" in tests
    assert all("gpu" in re.split(r"[\[\]-]", test) for test in tests)


def test_without_a_gpu_the_tests_for_it_say_why_they_are_skipped():
    pytest_with = partial(run_pytest, "-m", "gpu", "-rs", "tests/test_blend.py", "-k", "all_pairs or noise_has")
    done = pytest_with(DALI_VIDAUG_REQUIRE_GPU="0")
    assert done.returncode == 0 and re.search(r"SKIPPED.*no GPU: \w+", done.stdout) and " passed" not in done.stdout
    done = pytest_with("-x", DALI_VIDAUG_REQUIRE_GPU="1")
    assert done.returncode == 1 and re.search(r"DALI_VIDAUG_REQUIRE_GPU=1, but no GPU: \w+", done.stdout)
