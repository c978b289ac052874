"""Options of the command line: their ranges, their help; wrong ones end the command before it does anything."""

import argparse
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

import dali_vidaug as dv
from dali_vidaug.commands import options
from dali_vidaug.commands.cli import main, make_parser
from dali_vidaug.commands.options import Number
from dali_vidaug.data.entry import Entry, Listing, no_columns
from dali_vidaug.data.rates import set_rates
from dali_vidaug.schedule import Schedule

IMAGES = Listing(Path(), [Entry(".")], {"": [()]}, no_columns(1))  # of a folder


def subparsers():
    """The parser of each command."""
    (commands,) = [a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return commands.choices


ACTIONS = [(name, action) for name, parser in subparsers().items() for action in parser._actions]
NUMBERS = [(name, action) for name, action in ACTIONS if isinstance(action.type, Number)]
OUTPUT = ["/gone", "-o", "x.parquet"]
NEEDED = {
    "scan": OUTPUT, "merge": OUTPUT, "demo": ["--videos", "/gone"], "preview": ["/gone"], "doctor": [],
    "pack": ["/gone", "-o", "x-%06d.tar"], "transcode": ["/gone", "out"],
}  # fmt: skip


def test_every_number_has_a_range():
    assert [a.dest for _, a in ACTIONS if a.type in (int, float)] == []
    assert {(name, a.dest) for name, a in NUMBERS} == {
        *(("demo", d) for d in ("batch_size", "num_frames", "stride", "size", "epochs", "num_threads", "seed")),
        *(("scan", d) for d in ("stream", "num_threads", "boxes_first_frame", "boxes_hold", "fps", "timeout")),
        *(("merge", d) for d in ("boxes_first_frame", "boxes_hold")),
        *(("pack", d) for d in ("shard_size", "shard_count", "seed", "num_workers")),
        *(("transcode", d) for d in ("short_side", "gop", "crf", "num_workers")),
        *(("preview", d) for d in ("samples", "num_clips", "epoch", "magnitude", "num_frames", "seed")),
    }  # fmt: skip


@pytest.mark.parametrize("name, action", NUMBERS, ids=lambda x: getattr(x, "dest", x))
def test_a_number_out_of_range_ends_the_command_at_once(name, action, capsys, tmp_path, monkeypatch):
    """With 2, the option's name and its value; the videos, which are not there, are not even looked for."""
    monkeypatch.chdir(tmp_path)
    kind, option = action.type, action.option_strings[-1]
    wrong = [kind.low - 1, kind.high + 1, -(10**30), 10**30, "nan", "inf", "-inf", "x", "", "1e400", "٣x"]
    wrong += ["1.5", "1e2"] if kind.kind is int else [kind.high + 0.001, -0.001]
    for value in map(str, wrong):
        with pytest.raises(SystemExit) as caught:
            main([name, *NEEDED[name], f"{option}={value}"])
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert caught.value.code == 2 and "/gone" not in error
        assert option in error and repr(value) in error and f"in [{kind.low}, {kind.high}]" in error
    assert list(tmp_path.iterdir()) == []
    for value in (kind.low, kind.high):  # these are fine: what is missing now are the videos
        assert main([name, *NEEDED[name], option, str(value)]) in (1, 2)
        assert "/gone" in capsys.readouterr().err or value == 30  # a magnitude that the suite does not have


def test_the_ranges_are_those_of_what_the_numbers_are_for():
    """What is in a range the library takes, and next to it not, where the library has a limit."""
    for make, kind, ends in (
        (lambda n: dv.ClipSampling(num_frames=n), options.FRAMES, "low"),
        (lambda n: dv.ClipSampling(stride=n), options.STRIDE, "low"),
        (dv.Resize, options.SIZE, "low high"),
        (lambda n: Schedule(100, 8, seed=n), options.SEED, "low high"),
        (lambda n: Schedule(10**6, n), options.CLIPS, "low"),
        (lambda n: dv.Draws(0, n, [0]), options.EPOCH, "low high"),
        (lambda n: dv.Draws(0, n - 1, [0]), options.EPOCHS, "low high"),
        (lambda n: dv.Draws(0, 0, [n]), options.SAMPLE, "low high"),
        (lambda n: set_rates(IMAGES, n), options.FPS, "low high"),
        (lambda n: dv.RandAugmentT(suite="kim2020", magnitude=n), options.MAGNITUDE, "low high"),
    ):
        make(kind.low), make(kind.high)
        for end in ends.split():
            with pytest.raises(ValueError):
                make(getattr(kind, end) + (1 if end == "high" else -1))


@pytest.mark.parametrize("command, message", [
    ("preview --magnitude 11", r"RandAugmentT: magnitude must be in \[0, 10\], got 11"),
    ("preview --mix nomix", "--mix: must be all or one of CutMix"),
    ("preview --mix cubemix --video a.mp4", "--video: expected two files, got 1"),
    ("preview --video a.mp4 b.mp4", "--video: expected one file, got 2"),
    ("preview /gone --mix all", "--mix: not with a manifest, folder or list"),
    ("preview /gone --time all", "--time: not with a manifest, folder or list"),
    ("preview --time slow", "--time: must be all or one of Reverse, SpeedRamp, .*, got slow"),
    ("preview --time all --mix all", "--time: --mix cannot be given, too"),
    ("preview --time all --video a.mp4 b.mp4", "--video: expected one file, got 2"),
    ("preview /gone --video a.mp4", "--video: not with a manifest, folder or list"),
    ("preview /gone --masks all", "--masks: not with a manifest, folder or list"),
    ("preview --masks tubes", r"--masks: .*tubes.*; masks are TubeMask, RandomMask, .*, or all"),
    ("preview --masks TubeMask(1.5)", r"--masks: TubeMask: ratio must be in \(0, 1\), got 1.5; masks are"),
    ("preview --masks TubeMask(", r"--masks: cannot read 'TubeMask\('; masks are"),
    ("preview --masks all --time all", "--time: --masks cannot be given, too"),
    ("preview --samples 3", "--samples: only with a manifest, folder or list"),
    ("preview --plan p.json --recipe mix", "--recipe, --plan: only with a manifest"),
    ("preview /gone --plan p.json --epoch 3 --samples 1", "--plan: --samples, --epoch cannot be given"),
    ("preview /gone --plan /gone.json", "--plan: there is no file /gone.json; plan.save"),
    ("preview /gone --recipe strong", "--recipe: must be one of validation, crop, randaugment, mix or .*, got strong"),
    ("preview /gone -o x.mp3", "--output: a picture's name must end in .png, .jpg or the like, got x.mp3"),
    ("preview -o x", "--output: a picture's name must end"),
    ("demo -o /gone/x.png", "--output: there is no folder /gone"),
    ("demo --videos /gone -o x.txt", "--output: a picture's name must end"),
    ("scan /gone -o /nowhere/x.parquet", "--output: there is no folder /nowhere; mkdir -p makes it"),
    ("scan a.mp4 b.csv / -o x.parquet", "several arguments must be videos, but there is b.csv, /; scan"),
])  # fmt: skip
def test_what_contradicts_itself_ends_the_command_at_once(command, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"dali-vidaug {command.split()[0]}: ") and re.search(message, error)
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_a_manifest_does_not_have_is_a_wrong_option(numbered, tmp_path, capsys):
    picture = tmp_path / "x.png"
    assert main(["preview", str(numbered), "--samples", "0", "12", "-o", str(picture)]) == 2
    assert "--samples: there is no row 12; " in capsys.readouterr().err and not picture.exists()


@pytest.mark.parametrize("name", NEEDED)
def test_help_says_each_default_once(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        main([name, "--help"])
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if line.startswith("  ")]
    assert lines and not [line for line in lines if line.count("default") > 1]
    assert "default: None" not in text and "default: False" not in text
    for action in subparsers()[name]._actions:
        if action.default not in (None, False, argparse.SUPPRESS) and action.help:
            assert f"(default: {action.default})" in text, action.dest


def test_threads_have_one_name():
    assert {o for _, a in ACTIONS for o in a.option_strings if "thread" in o} == {"--num-threads"}


# ---- preview of a manifest


def strips(picture):
    """How many strips with two lines of text a picture has."""
    from dali_vidaug.commands.pictures import LINE, MARGIN

    with Image.open(picture) as image:
        number, rest = divmod(image.height - MARGIN, 2 * LINE + 112 + MARGIN)
        assert rest == 0 and len(image.convert("RGB").getcolors(2**20)) > 100
        return number


@pytest.mark.parametrize("recipe, op", [("validation", "CenterCrop"), ("crop", "RandomHorizontalFlip"),
                                        ("randaugment", "RandAugmentT"), ("mix", "OneOf: ")])  # fmt: skip
def test_preview_draws_samples_of_a_manifest(recipe, op, numbered, numbered_manifest, tmp_path, capsys):
    numbered_manifest.write(tmp_path / "m.parquet")
    picture = str(tmp_path / "a.png")
    assert main(["preview", str(tmp_path / "m.parquet"), "-o", picture, "--recipe", recipe, "--samples", "7", "2"]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"^sample (\d+),", text, re.MULTILINE) == ["7", "2"] and strips(picture) == 2
    for sample in (7, 2):
        assert f"  file {numbered_manifest.path(sample)}, class " in text
    assert f"\n  {op}" in text
    assert main(["preview", str(numbered), "-o", picture, "--num-clips", "3"]) == 0  # a folder, rows evenly spread
    assert re.findall(r"^sample (\d+),", capsys.readouterr().out, re.MULTILINE) == ["0", "6", "11"]
    assert strips(picture) == 3


def test_preview_draws_what_the_loader_gives(numbered_manifest, tmp_path, capsys):
    """A recipe of one's own and a saved plan: the picture of the same batch."""
    from dali_vidaug.commands.pictures import contact_sheet

    recipe = dv.Recipe(dv.ClipSampling(4), (dv.RandomResizedCrop(48), dv.CutMix(), dv.Normalize()))
    numbered_manifest.write(tmp_path / "m.parquet")
    (tmp_path / "recipe.txt").write_text(f"{recipe!r}\n")
    with dv.VideoLoader(numbered_manifest, recipe, 3, device="cpu", seed=5) as loader:
        batch = next(iter(loader))
    contact_sheet(batch).save(tmp_path / "expected.png")
    batch.plan.save(tmp_path / "plan.json")
    assert main(["preview", str(tmp_path / "m.parquet"), "--plan", str(tmp_path / "plan.json"),
                 "-o", str(tmp_path / "a.png")]) == 0  # fmt: skip
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "expected.png").read_bytes()
    assert batch.describe(2) in capsys.readouterr().out
    rows = map(str, batch.samples.tolist())
    assert main(["preview", str(tmp_path / "m.parquet"), "--recipe", str(tmp_path / "recipe.txt"), "--seed", "5",
                 "--samples", *rows, "-o", str(tmp_path / "b.png")]) == 0  # fmt: skip
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "expected.png").read_bytes()
    table = numbered_manifest.table.slice(0, int(batch.samples.max()))  # without the last of its samples
    dv.Manifest(table, numbered_manifest.classes, numbered_manifest.root).write(tmp_path / "m.parquet")
    assert main(["preview", str(tmp_path / "m.parquet"), "--plan", str(tmp_path / "plan.json")]) == 2
    assert f"plan.json: there is no row {int(batch.samples.max())}; " in capsys.readouterr().err


def test_preview_of_one_video_of_a_broken_folder_names_it(numbered, tmp_path, capsys):
    shutil.copytree(numbered, tmp_path / "v")
    dv.scan(tmp_path / "v", output=tmp_path / "m.parquet", progress=False)
    for path in (tmp_path / "v").rglob("*.mp4"):
        path.write_bytes(bytes(path.stat().st_size))
    assert main(["preview", str(tmp_path / "m.parquet"), "-o", str(tmp_path / "x.png")]) == 1
    assert re.search(r"v/even/00.mp4 \(sample 0, epoch 0\): ", capsys.readouterr().err)
