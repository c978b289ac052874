import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import dali_vidaug as dv
from dali_vidaug.cli import main


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


def test_demo_of_ones_own_videos(numbered, tmp_path, capsys):
    arguments = ["--videos", str(numbered), "-o", str(tmp_path / "x.png"), "--size", "32", "--batch-size", "5"]
    assert main(["demo", *arguments]) == 0
    assert "12 clips in" in capsys.readouterr().out


def test_scan_writes_a_manifest(numbered, tmp_path, capsys):
    assert main(["scan", str(numbered), "-o", str(tmp_path / "m.parquet")]) == 0
    assert "12 videos, 2 classes" in capsys.readouterr().out
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
        (["demo", "--batch-size", "0"], "batch_size must be >= 1, got 0"),
        (["demo", "--epochs", "0"], "--epochs must be >= 1, got 0"),
        (["demo", "--num-frames", "0"], "ClipSampling: num_frames"),
        (["scan", "EMPTY", "-o", "x.parquet", "--threads", "0"], "--threads must be >= 1, got 0"),
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


@pytest.mark.parametrize("command", [[], ["demo"], ["scan"], ["doctor"]])
def test_help_teaches(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0 and "usage: dali-vidaug" in text and len(text) > 150


def test_without_dali_one_sentence_names_the_extra():
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
    for name, strips in (("a.png", 15), ("b.png", 14)):
        with Image.open(tmp_path / name) as picture:
            assert picture.height > strips * 96
    assert main(["preview", "-o", str(tmp_path / "c.png"), "--mix", "all"]) == 0
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.height > 13 * 300  # nine that mix, four that erase
    assert main(["preview", "-o", str(tmp_path / "d.png"), "--mix", "cubemix", "--video", video, video]) == 0
    assert main(["preview", "--mix", "cubemix", "--video", video]) == 1
    assert "--video: two files wanted, got 1" in capsys.readouterr().err
    assert main(["preview", "--mix", "nomix"]) == 1
    assert "family must be one of CutMix" in capsys.readouterr().err
    assert main(["preview", "--magnitude", "11"]) == 1
    assert "magnitude must be in [0, 10], got 11" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["kernels", "loader"])
def test_benchmarks_start(name):
    program = Path(__file__).parent.parent / "benchmarks" / f"{name}.py"
    done = subprocess.run([sys.executable, program, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr


@pytest.mark.slow
def test_the_benchmark_of_the_kernels_runs_to_its_end(tmp_path):
    """What it times on a GPU it times here on the CPU, through the same function."""
    folder = Path(__file__).parent.parent / "benchmarks"
    command = [sys.executable, folder / "kernels.py", "--clips", "1", "--json", tmp_path / "times.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and (tmp_path / "times.json").stat().st_size > 1000, done.stderr
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); import kernels as k; "
        "times, moved = k.time_batch([k.make_clip(i, 4, 32, 40) for i in range(4)], 2, 'cpu'); "
        "print(len(times)); k.print_mixing('title', times, moved, 1e12)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and int(done.stdout.split()[0]) > 20, done.stderr
