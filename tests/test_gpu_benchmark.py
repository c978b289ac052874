"""benchmarks/gpu.py: its figures counted by hand, its checks with planted faults, all of it on the CPU, small."""

import copy
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch_ranks
from conftest import REALTIME_VP9, write_numbered
from torch import distributed

import dali_vidaug as dv

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import gpu
import gpu_ceiling
import gpu_figures
import gpu_peers
import gpu_recipes
import peer_worker
import peers
import usage

ROOT = Path(__file__).parent.parent
SMALL = [
    "--device",
    "cpu",
    "--clips",
    "8",
    "--batch-size",
    "4",
    "--num-frames",
    "4",
    "--size",
    "32",
    "--num-threads",
    "1",
]
VP9 = REALTIME_VP9 | {"options": REALTIME_VP9["options"] | {"lag-in-frames": "0"}}


# ---- Figures


def measured(clips, seconds, cpu_seconds, **load):
    return {"clips": clips, "seconds": seconds, "cpu_seconds": cpu_seconds, "gpu": load}


def row(what, kind, where, rounds, note=None, published=None):
    """Of clips of 8 frames, for which 20 are decoded, on 4 cores."""
    kept = [gpu_figures.with_rates(one, 8, 20.0, 4) for one in rounds]
    return {"videos": "v", "recipe": "r", "about": "about r", "what": what, "kind": kind, "where": where, "note": note,
            "rounds": kept, "published": published}  # fmt: skip


@pytest.fixture
def ranks():
    """Two GPUs, two rounds; of the second, a peer failed."""
    where = ["GPU, rank 0: H100", "GPU, rank 1: H100"]
    record = {"rate": 171, "what": "training", "machine": "8 others", "source": "a page", "unlike": "in all"}
    loads = dict(decoder=90, busy=40, memory=10, received=2e6, sent=1e6)
    return [
        [
            row("alone", "ceiling", where[0], [measured(100, 2.0, 4.0, **loads), measured(100, 1.0, 1.0, **loads)]),
            row("ours", "ours", where[0], [measured(80, 2.0, 4.0, **loads), measured(50, 1.0, 1.0, **loads)],
                published=record),
            row("peer", "peer", where[0], [measured(10, 1.0, 4.0), measured(30, 1.0, 4.0)]),
            row("published", "published", where[0], [], published=record),
        ],
        [
            row("alone", "ceiling", where[1], [measured(50, 1.0, 2.0, **loads), measured(200, 1.0, 2.0, **loads)]),
            row("ours", "ours", where[1], [measured(50, 1.0, 2.0, **loads), measured(100, 1.0, 2.0, **loads)],
                published=record),
            row("peer", "peer", where[1], [], note="failed: no memory"),
            row("published", "published", where[1], [], published=record),
        ],
    ]  # fmt: skip


def test_figures_by_hand(ranks):
    """Rank 0: 40 and 50 clips/s of 50 and 100; rank 1: 50 and 100 of 50 and 200."""
    alone, ours, peer, published = gpu_figures.summarise(ranks)
    first, second = ours["ranks"]
    assert (first["clips_per_second"], first["lowest"], first["highest"]) == (45.0, 40.0, 50.0)
    assert first["frames_per_second"] == 8 * 45.0 and first["decoded_per_second"] == 20 * 45.0
    assert first["of_ceiling"] == pytest.approx((0.8 + 0.5) / 2) and second["of_ceiling"] == pytest.approx(0.75)
    assert first["cpu_share"] == pytest.approx((4 / 8 + 1 / 4) / 2) and first["decoder"] == 90
    together = ours["all"]
    assert together["clips_per_second"] == (90 + 150) / 2 and (together["lowest"], together["highest"]) == (90, 150)
    assert together["frames_per_second"] == 8 * 120 and together["received"] == 4e6
    assert together["of_ceiling"] == pytest.approx((0.65 + 0.75) / 2)
    assert alone["ranks"][0]["of_ceiling"] == 1 and peer["all"] is None
    assert peer["ranks"][1]["clips_per_second"] is None and published["ranks"][0]["rounds"] == []


def test_the_table(ranks):
    text = gpu_figures.table(gpu_figures.summarise(ranks))
    lines = [line for line in text if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1 and len(lines) == 2 + 3 + 3 + 2 + 1
    assert (
        "| v | r | ours | GPU, rank 0: H100 | 45.0 | 40.0 to 50.0 | 360 | 900 | 65% | 90% | 40% | 10% | 2, 1 | 38% |"
        in text
    )
    assert (
        "| v | r | ours | all 2 GPUs | 120.0 | 90.0 to 150.0 | 960 | 2400 | 70% | 90% | 40% | 10% | 4, 2 | 44% |"
        in text
    )
    assert f"| v | r | peer | GPU, rank 1: H100 | {' | '.join('-' * 10)} |" in text
    assert f"| v | r | published | 8 others | 171 a GPU | {' | '.join('-' * 9)} |" in text
    assert "v, r, peer, GPU, rank 1: H100: failed: no memory" in text and "r: about r" in text
    assert "r, published: training, on 8 others; a page. Not the same: in all" in text


def test_lines_for_the_docs_are_of_gpus_only(ranks):
    head, _, line = gpu_figures.docs_lines(gpu_figures.summarise(ranks), 16)
    expected = "| r | 2 x H100, 16 | v | 60.0 | 120.0 | 70% | 90% | 40% | 44% | 171 on 8 others: training |"
    page = (ROOT / "docs" / "gpu.md").read_text()
    assert line == expected and head in page.splitlines()
    for name in gpu_recipes.NAMES:
        (told,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        setting = gpu_recipes.setting_of(name, gpu.parse(["--device", "cpu"]))
        cells = [cell.strip() for cell in told.strip("|").split("|")]
        assert int(cells[3]) == setting.batch_size and f"{setting.size}" in cells[1] + cells[2]
        assert (f"{setting.published.rate} " in cells[4]) if setting.published else not cells[4]
    for rank in ranks:
        for one in rank:
            one["where"] = "CPU, rank 0"
    with pytest.raises(ValueError, match="figures of GPUs only"):
        gpu_figures.docs_lines(gpu_figures.summarise(ranks), 16)


# ---- Checks, with faults planted


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two videos of numbered frames, which DALI decodes on the CPU, eight times each."""
    folder = tmp_path_factory.mktemp("vp9")
    for name, first in (("a", 0), ("b", 1)):
        write_numbered(folder / name / f"{name}.mp4", 40 + first, **VP9)
    return dv.scan(folder, progress=False).select(np.arange(16) % 2)


@pytest.fixture(scope="module")
def prepared(videos):
    """A loader, the clips of an epoch, the small files of these for DALI."""
    recipe = dv.Recipe(dv.ClipSampling(4, 2), (dv.RandomResizedCrop(32), dv.Normalize()))
    with dv.VideoLoader(videos, recipe, 4, device="cpu", decoder="hybrid", num_threads=1) as loader:
        plan = dv.draw_plan(videos, recipe, np.arange(16))
        yield loader, plan, gpu_ceiling.cuts_of(loader, plan)


def test_decoding_alone_decodes_what_the_loader_does(prepared):
    loader, plan, (cuts, others) = prepared
    assert len(cuts) == 16 and not others
    assert gpu_ceiling.check(loader, plan, cuts, "cpu") == (gpu_ceiling.CHECKED, {})
    steps = gpu_ceiling.DecodingAlone(loader.settings, 5).steps(cuts)
    assert [next(steps) for _ in range(8)] == [5] * 8


def other_position(cut, other):
    return cut.clip._replace(positions=np.abs(cut.clip.positions - 1))


def other_order(cut, other):
    return cut.clip._replace(positions=cut.clip.positions[::-1])


def other_video(cut, other):
    return cut.clip._replace(data=other.clip.data, positions=np.arange(len(cut.frames)))


@pytest.mark.parametrize("fault", [other_position, other_order, other_video])
def test_a_wrong_frame_ends_it(prepared, fault):
    """One clip of those that are looked at has other frames."""
    loader, plan, (cuts, _) = prepared
    wrong = list(cuts)
    wrong[1] = cuts[1]._replace(clip=fault(cuts[1], cuts[0]))
    with pytest.raises(SystemExit, match=r"b\.mp4: the frames \[.*\] of decoding alone are not those that the loader"):
        gpu_ceiling.check(loader, plan, wrong, "cpu")


def test_a_wrong_frame_ends_the_program(videos, tmp_path, monkeypatch, process_group):
    """Nothing is measured, and nothing is printed that looks as if."""
    videos.write(tmp_path / "m.parquet")
    right = gpu_ceiling.load_clips

    def late(*args, **options):
        loaded = right(*args, **options)
        clip = loaded.clips[0]
        return loaded._replace(clips=[clip._replace(positions=np.abs(clip.positions - 1))])

    monkeypatch.setattr(gpu_ceiling, "load_clips", late)
    monkeypatch.setattr(sys, "argv", ["gpu.py", *SMALL, "--videos", str(tmp_path / "m.parquet"), "--peers"])
    with pytest.raises(SystemExit, match="Nothing is measured"):
        gpu.main()


def test_frames_of_peers_are_compared(videos):
    """With those of a full decode: levels may differ, frames may not."""
    video, frames = videos.video(0), np.array([3, 5, 9, 30])
    right = dv.VideoLoader(videos, dv.Recipe(dv.ClipSampling(40), ()), 1, device="cpu", decoder="pyav")
    with right as loader:
        whole = loader.apply(dv.draw_plan(videos, loader.recipe, [0])).clips[0].permute(1, 2, 3, 0).numpy()
    assert gpu_peers.disagreement(whole[frames], video, frames) == (None, 0.0)
    brighter = np.clip(whole[frames].astype(int) + 4, 0, 255).astype(np.uint8)
    why, away = gpu_peers.disagreement(brighter, video, frames)
    assert why is None and 3 < away <= 4
    for wrong in (whole[frames + 1], whole[frames - 1], whole[[3, 5, 9, 31]]):
        assert "frames are others" in gpu_peers.disagreement(wrong, video, frames)[0]
    assert gpu_peers.disagreement(whole[frames[:3]], video, frames)[0] == "4 frames were asked for, 3 came"
    much = np.clip(whole[frames].astype(int) * 0.8, 0, 255).astype(np.uint8)
    assert "of 255 on average" in gpu_peers.disagreement(much, video, frames)[0]


def test_batches_of_threads(videos, v2):
    """As those of NVDEC are made: in the order of the clips, normalised where they are wanted, whole frames scaled."""
    plan = dv.draw_plan(videos, dv.Recipe(dv.ClipSampling(4, 2), ()), np.arange(5))
    spec = {
        "batch_size": 3,
        "workers": 2,
        "classes": 2,
        "jobs": peers.jobs_of(videos, plan),
        "size": 32,
        "cropped": False,
    }
    batches = peer_worker.batches("pyav CUDA", spec, "basic")
    there = peer_worker.batches("pyav CUDA", spec | {"device": "cpu:0"}, "basic")
    labels = []
    for _ in range(4):
        (clips, mine), (others, _) = next(batches), next(there)
        labels += mine.tolist()
        assert clips.shape == (3, 3, 4, 32, 32) and clips.dtype == others.dtype == torch.float32
        torch.testing.assert_close(clips, others)
    assert labels == [0, 1, 0, 1, 0] * 2 + [0, 1]
    batches.close()
    there.close()


# ---- All of it


@pytest.fixture
def process_group():
    """Ends what the program leaves when it fails."""
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


def run(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *map(str, arguments)])
    gpu.main()
    return capsys.readouterr().out


def check_rounds(told, world=1):
    """Figures of rounds do not contradict each other."""
    for one in told["rows"]:
        for rank in one["ranks"]:
            for r in rank["rounds"]:
                assert r["clips"] >= 1 and r["clips_per_second"] * r["seconds"] == pytest.approx(r["clips"])
                assert r["frames"] == r["clips"] * 4 and r["frames_per_second"] == pytest.approx(
                    r["frames"] / r["seconds"]
                )
                assert (r["decoded"] is None) == (one["kind"] == "peer") and (r["decoded"] or r["frames"]) >= r[
                    "frames"
                ]
                assert r["seconds"] >= float(told["options"]["seconds"]) and 0 <= r["cpu_share"] < 4
                assert r["gpu"] == {"missing": "no GPU"}
    assert told["device"] == "cpu" and all(len(one["ranks"]) == world for one in told["rows"])


def test_it_runs(tmp_path, monkeypatch, capsys, process_group):
    """On made videos, beside PyAV by hand, and peers that are not there."""
    options = ["--seconds", 0.3, "--rounds", 1, "--made-frames", 40, "--sizes", "160x120"]
    options += ["--json", tmp_path / "out.json"]
    out = run([*SMALL, *options, "--peers", "pyav", "torchcodec CUDA exact"], monkeypatch, capsys)
    told = json.loads((tmp_path / "out.json").read_text())
    check_rounds(told)
    alone, ours, pyav, cuda = told["rows"]
    assert [len(one["ranks"][0]["rounds"]) for one in told["rows"]] == [1, 1, 1, 0]
    assert alone["ranks"][0]["note"] == "checked: the frames of 8 clips are the loader's, bit for bit"
    assert ours["kind"] == "ours" and ours["ranks"][0]["of_ceiling"] > 0
    per_clip = [[r["decoded"] / r["clips"] for r in one["ranks"][0]["rounds"]] for one in (alone, ours)]
    assert np.ptp(per_clip) < 12  # of 40 frames: other epochs have other starts
    assert "checked: the frames that were asked for" in pyav["ranks"][0]["note"]
    assert cuda["ranks"][0]["note"] == "no GPU"
    lines = [line for line in out.splitlines() if line.startswith("| ")]
    assert len(lines) == 1 + 4 and all("| CPU, rank 0 |" in line for line in lines[1:])
    assert all(line.split(" | ")[9:13] == ["-"] * 4 for line in lines[1:])  # what NVML would say
    assert "no GPU: no figure below is one of a GPU" in out


def test_records_of_others_stand_beside(videos, tmp_path, monkeypatch, capsys, process_group):
    """Marked as theirs; a peer that is not installed has its row, and hides nothing."""
    videos.write(tmp_path / "m.parquet")
    options = ["--videos", tmp_path / "m.parquet", "--seconds", 0.1, "--rounds", 2, "--recipe", "spdl-k400"]
    nobody = ["--peers", "torchcodec exact", "--peer-python", tmp_path / "python"]
    out = run([*SMALL, *options, *nobody, "--json", tmp_path / "out.json"], monkeypatch, capsys)
    assert "| m.parquet | spdl-k400 | published by others, not measured here | 8 H100 | 171 a GPU |" in out
    assert "pull request 1499" in out and "not installed: pip install torchcodec" in out
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [len(one["ranks"][0]["rounds"]) for one in rows] == [2, 2, 0, 0] and rows[1]["kind"] == "ours"


def test_without_a_clip_for_dali_there_is_no_ceiling(numbered_manifest, tmp_path, monkeypatch, capsys, process_group):
    """H.264 on the CPU: the loader is measured, and the reason is given."""
    numbered_manifest.write(tmp_path / "m.parquet")
    options = ["--videos", tmp_path / "m.parquet", "--seconds", 0.1, "--rounds", 1, "--peers"]
    out = run([*SMALL, *options], monkeypatch, capsys)
    assert "DALI decodes 0 of 8 clips, PyAV the others: DALI does not decode h264 on the CPU (8 clips)" in out
    ours = next(line for line in out.splitlines() if line.startswith("| m.parquet | basic | dali_vidaug"))
    assert float(ours.split(" | ")[4]) > 0 and ours.split(" | ")[8] == "-"


@pytest.mark.slow
def test_two_ranks(tmp_path):
    options = ["--nproc-per-node", 2, *torch_ranks.HERE, ROOT / "benchmarks" / "gpu.py", *SMALL, "--peers"]
    options += ["--seconds", 0.3, "--rounds", 1, "--made-frames", 40, "--sizes", "160x120"]
    options += ["--json", tmp_path / "out.json"]
    ranks = torch_ranks.torchrun(*options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = ranks.communicate(timeout=torch_ranks.MINUTES)
    assert ranks.returncode == 0, err
    told = json.loads((tmp_path / "out.json").read_text())
    check_rounds(told, 2)
    for one in told["rows"]:
        each = [rank["rounds"][0]["clips_per_second"] for rank in one["ranks"]]
        assert one["all"]["clips_per_second"] == pytest.approx(sum(each))
    assert out.count("| all 2 ranks |") == 2 and "| CPU, rank 1 |" in out


def test_what_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for options, why in (
        (["--markdown"], "there is none here"),
        (["--device", "cuda:1"], "would be the GPU of all ranks"),
        (["--sizes", "340"], "WIDTHxHEIGHT"),
        (["--rounds", "0"], "must be positive"),
    ):
        with pytest.raises(SystemExit):
            gpu.parse(options)
        assert why in capsys.readouterr().err


def test_rows_are_spread_over_a_manifest(videos):
    few, many = gpu.chosen_rows(videos, 4), gpu.chosen_rows(videos, 40)
    assert [few.path(i) for i in range(4)] == [videos.path(i) for i in (0, 4, 8, 12)]
    assert [many.path(i) for i in range(40)] == [videos.path(i % 16) for i in range(40)]


def test_a_worker_sees_one_gpu(monkeypatch):
    for visible, device, expected in (("", 2, "2"), ("5,MIG-7", 1, "MIG-7"), ("5,6", None, ""), (None, 0, "0")):
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert gpu_peers.environment_of(device)["CUDA_VISIBLE_DEVICES"] == expected


# ---- What NVML says, where there is none: a stand-in with the functions of nvidia-ml-py


class NVMLError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch):
    """Says that the GPU is busier each time, and nothing about its bus."""
    looks = iter(range(0, 1000, 10))

    def throughput(handle, counter):
        raise NVMLError("Not Supported")

    stand_in = SimpleNamespace(
        NVMLError=NVMLError, NVML_PCIE_UTIL_TX_BYTES=0, NVML_PCIE_UTIL_RX_BYTES=1, nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=next(looks), memory=7),
        nvmlDeviceGetDecoderUtilization=lambda handle: [95, 167_000], nvmlDeviceGetPcieThroughput=throughput,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="0-1"))
    return stand_in


def test_nvml_is_looked_at(nvml):
    device = usage.Gpu("gpu")
    device.look(bus=False)
    device.look(bus=False)  # asked twice each time, of "busy" and "memory": 0, 20
    assert device.figures() == {"busy": 10.0, "memory": 7.0, "decoder": 95.0}
    device.look()
    assert "Not Supported" in device.figures()["missing"] and device.figures()["decoder"] == 95.0
    nvml.nvmlDeviceGetPcieThroughput = lambda handle, counter: 2 + counter
    with device.watched():
        before = device.figures()
        until = time.monotonic() + 30
        while "sent" not in device.figures() and time.monotonic() < until:
            time.sleep(0.01)
    assert before == {"missing": device.missing}  # what was seen before is forgotten
    assert device.figures()["received"] == 3000 and device.figures()["sent"] == 2000


def test_nvml_that_is_not_there_is_said(nvml, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    device = usage.Gpu("gpu")
    device.look()
    assert "pip install nvidia-ml-py" in device.figures()["missing"] and len(device.figures()) == 1


def test_the_stand_in_is_like_nvidia_ml_py(nvml, monkeypatch):
    names = copy.copy(vars(nvml))
    monkeypatch.delitem(sys.modules, "pynvml")
    real = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    assert all(hasattr(real, name) for name in names)
    assert (real.NVML_PCIE_UTIL_TX_BYTES, real.NVML_PCIE_UTIL_RX_BYTES) == (0, 1)
