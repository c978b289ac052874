"""The command dali-vidaug: what it prints, draws and writes, and how it ends."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import dali_vidaug as dv
from dali_vidaug.commands.checks.cases import CASES, FILTERS, INTERPOLATION, MIXES, WARPS
from dali_vidaug.commands.cli import main
from dali_vidaug.strips import LINE, MARGIN


def test_demo_makes_streams_and_draws(tmp_path, capsys):
    picture = tmp_path / "demo.png"
    assert main(["demo", "-o", str(picture), "--size", "64", "--num-frames", "8"]) == 0
    text = capsys.readouterr().out
    assert "32 videos, 4 classes" in text and "device cpu, decoder pyav" in text
    assert re.search(r"32 clips in [\d.]+ s: [\d.]+ clips/s", text)
    assert re.search(r"read \d+%, decode \d+%, convert \d+%, graph \d+%", text)
    with Image.open(picture) as image:
        assert image.width > 8 * 112 and image.height > 8 * 112
        colours = image.convert("RGB").getcolors(2**20)
        assert len(colours) > 500  # pictures, not blanks


def test_demo_of_your_own_videos(numbered, tmp_path, capsys):
    arguments = ["--videos", str(numbered), "-o", str(tmp_path / "x.png"), "--size", "32", "--batch-size", "5"]
    assert main(["demo", *arguments]) == 0
    assert "12 clips in" in capsys.readouterr().out


def test_scan_writes_a_manifest(numbered, tmp_path, capsys):
    assert main(["scan", str(numbered), "-o", str(tmp_path / "m.parquet")]) == 0
    text = capsys.readouterr().out
    assert "12 videos, 2 classes" in text and f"wrote {tmp_path / 'm.parquet'}" in text
    assert len(dv.Manifest.read(tmp_path / "m.parquet")) == 12


def test_doctor(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for word in ("python", "torch", "DALI", "CUDA driver", "NVDEC", "CuPy", "PyAV", "the loader runs on this machine"):
        assert word in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["scan", "/gone", "-o", "x.parquet"], "scan: no folder or file /gone"),
        (["demo", "--videos", "/gone"], "no folder or file /gone"),
        (["demo", "--videos", "EMPTY"], "no videos in"),
    ],
)
def test_errors_are_one_sentence(arguments, message, tmp_path, capsys):
    assert main([str(tmp_path) if a == "EMPTY" else a for a in arguments]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("dali-vidaug: ") and message in error


def test_wrong_options_exit_with_2(capsys):
    for arguments in ([], ["demo", "--decoder", "x"], ["fly"], ["scan"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


@pytest.mark.parametrize("command, words", [
    ([], ["stream a data set and draw the clips", "measure videos and write a manifest", "draw samples of a manifest",
          "examples:", "dali-vidaug doctor --gpu", "exit codes: 0 done, 1 it failed"]),
    (["demo"], ["--videos DIR", "contact sheet", "--decoder {auto,dali,pyav,hybrid}", "(default: 224)"]),
    (["scan"], ["DIR|LIST", "path[, label, start, end]", "ucf101", "--root DIR", "--deep", "where it stopped"]),
    (["transcode"], ["--preset {h264,hevc,av1,nvdec}", "no video grows", "--no-fast-decode", "(default: 16)", "Sound"]),
    (["preview"], ["--magnitude", "temporal+", "kim2020", "--mix OP", "--time OP", "(default: 16)"]),
    (["doctor"], ["--gpu", "CUDA driver", "DALI_VIDAUG_REQUIRE_GPU=1", "Exit code 1: the loader cannot run here"]),
])  # fmt: skip
def test_help_lists_commands_and_options(command, words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0 and text.startswith(f"usage: {' '.join(['dali-vidaug', *command])} [-h]")
    for word in words:
        assert word in text


def test_without_dali_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['nvidia.dali'] = None\n"
        "import dali_vidaug as dv\n"
        "dv.scan, dv.Recipe()\n"  # these do without
        "try: dv.VideoLoader\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "dali_vidaug.VideoLoader needs NVIDIA DALI: pip install 'dali_vidaug[cuda13]'" in done.stdout


def test_preview_draws_a_strip_for_each_op(numbered, tmp_path, capsys):
    assert main(["preview", "-o", str(tmp_path / "a.png")]) == 0
    video = str(next((numbered / "even").glob("*.mp4")))
    assert main(["preview", "-o", str(tmp_path / "b.png"), "--video", video, "--suite", "kim2020"]) == 0
    assert main(["preview", "-o", str(tmp_path / "t.png"), "--suite", "torchvision", "--magnitude", "30"]) == 0
    assert main(["preview", "-o", str(tmp_path / "o.png"), "--ops", "Reverse", "CubeCutMix()", "--video", video]) == 0
    with Image.open(tmp_path / "o.png") as picture:
        assert picture.height == MARGIN + 3 * (72 + MARGIN) + (1 + 2 + 2) * LINE
    for name, strips in (("a.png", 15), ("b.png", 14), ("t.png", 13)):
        with Image.open(tmp_path / name) as picture:
            assert picture.height == MARGIN + strips * (LINE + 96 + MARGIN)
    assert main(["preview", "-o", str(tmp_path / "c.png"), "--mix", "all"]) == 0
    clips, result = 2 * (LINE + 112 + MARGIN), 2 * LINE + 112 + MARGIN
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.height == MARGIN + clips + 13 * result  # nine that mix, four that erase
    assert main(["preview", "-o", str(tmp_path / "d.png"), "--mix", "cubemix", "--video", video, video]) == 0
    with Image.open(tmp_path / "d.png") as picture:
        assert picture.height == MARGIN + clips + result


def test_scan_prints_a_remark_once(numbered, tmp_path, capsys, caplog):
    (tmp_path / "list.csv").write_text("path,label\neven/00.mp4,a;b\nodd/01.mp4,b\neven/gone.mp4,b\n")
    output = str(tmp_path / "x.parquet")
    assert main(["scan", str(tmp_path / "list.csv"), "--root", str(numbered), "-o", output]) == 0
    printed, logged = capsys.readouterr(), caplog.text
    for remark in dv.Manifest.read(output).remarks:
        assert (printed.out + printed.err + logged).count(remark) == 1
    assert "look like several in one" in printed.out and "files that do not exist" in printed.out


@pytest.mark.parametrize(
    "name",
    "cpu_share decoding frame_folders frames gpu interpolation kernels large_manifest loader masks peers repeats "
    "transcode verify".split(),
)
def test_benchmarks_start(name):
    program = Path(__file__).parent.parent / "benchmarks" / f"{name}.py"
    done = subprocess.run([sys.executable, program, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr


@pytest.mark.slow
def test_the_benchmark_of_large_manifests_runs(numbered, tmp_path):
    """With a copy and without one; what it leaves is the scan."""
    program = Path(__file__).parent.parent / "benchmarks" / "large_manifest.py"
    command = [sys.executable, program, numbered, "--rows", "1000", "300000", "--folder", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("second, while the first goes on") == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["scanned.parquet", "scanned.parquet.packets"]


@pytest.mark.slow
def test_the_kernel_benchmark_runs(tmp_path):
    """What it times on a GPU it times here on the CPU, through the same function."""
    folder = Path(__file__).parent.parent / "benchmarks"
    command = [sys.executable, folder / "kernels.py", "--clips", "1", "--json", tmp_path / "times.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "times.json").read_text())
    assert {"kernels", "randaugment", "affine", "mixing"} <= results.keys()
    assert results["affine"].keys() == set(WARPS) and all("ours" in times for times in results["affine"].values())
    assert INTERPOLATION in results["interpolation"] and len(results["interpolation"]) == 2
    assert FILTERS.keys() <= results["filters"].keys()
    for name, cases in (("kernels", CASES), ("mixing", MIXES)):
        assert {*cases, "a plain copy"} <= results[name].keys()
        assert all(len(time) == 2 and time[0] > 0 for time in results[name].values())
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); import kernels as k; "
        "times, moved = k.time_batch([k.make_clip(i, 4, 32, 40) for i in range(4)], 2, 'cpu'); "
        "print(*times, sep='|'); k.print_mixing('title', times, moved, 1e12)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = {"a plain copy", *CASES, *MIXES, *FILTERS, *WARPS, INTERPOLATION}
    assert set(done.stdout.splitlines()[0].split("|")) == listed
