"""The training program of examples/: killed and started again, in one process and in two, with videos that are bad."""

import random
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import example_programs
import numpy as np
import pytest
import torch
from conftest import write_numbered
from test_fit import check_same_run, told
from training import data, model
from training.curve import main as draw_main
from training.fitting import History
from training.logs import is_validation, read_log

import dali_vidaug as dv

TRAIN, EVALUATE = (str(example_programs.EXAMPLES / name) for name in ("train.py", "evaluate.py"))
LINE = r"^epoch (\d+), batch (\d+) of \d+, step (\d+): loss ([\d.]+)$"
RESULT = r"^epoch (\d+): loss ([\d.]+), top-1 ([\d.]+)%, top-5 ([\d.]+)%, .* of (\d+) videos(, 1 missing)?"
LAUNCHER = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
SMALL = [f"--model-option={name}={value}" for name, value in dict(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32).items()]  # fmt: skip
TOKENS = ["--model", "videomae", *SMALL]


def command(shapes, output, *options):
    given = ["--epochs", "2", "--batch-size", "2", "--log-every", "1", "--output", str(output), "--threads", "1"]
    return [TRAIN, *shapes, *given, *options]


def run(*arguments, code=0, **options):
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False,
                          env=example_programs.ENVIRONMENT, **options)  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def history_of(folder):
    """What `fit` would have returned."""
    rows, best = read_log(folder / "log.csv"), torch.load(folder / "best.pt")["epoch"]
    return History(rows, next(row for row in rows if is_validation(row) and row["epoch"] == best), False)


@pytest.fixture(scope="module")
def undisturbed(shapes, tmp_path_factory):
    """What the program prints and leaves when nothing happens to it: (text, folder)."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return run(*command(shapes, folder)), folder


def test_the_program_trains_and_validates(undisturbed):
    text, folder = undisturbed
    lines = [(int(epoch), int(batch), int(step)) for epoch, batch, step, _ in re.findall(LINE, text, re.MULTILINE)]
    assert lines == [(epoch, batch, 6 * epoch + batch) for epoch in range(2) for batch in range(1, 7)]
    results = re.findall(RESULT, text, re.MULTILINE)
    assert [found[0] for found in results] == ["0", "1"] and all(found[3:5] == ("100.0", "11") for found in results)
    assert "small, 0.2 million parameters; 12 videos of 4 classes, 11 for validation; clips of 8x64x64" in text
    checkpoint, rows = torch.load(folder / "checkpoint.pt"), read_log(folder / "log.csv")
    assert "the loop waited" in text and checkpoint["loader"]["epoch"] == 2 and checkpoint["loader"]["batch"] == 0
    assert [f"{row['loss']:.6f}" for row in rows if not is_validation(row)] == [
        loss for *_, loss in re.findall(LINE, text, re.MULTILINE)
    ]
    assert all(0 <= row["waiting"] <= 1 and row["clips_per_second"] > 0 for row in rows if not is_validation(row))


def test_accuracy_is_that_of_each_video_by_itself(undisturbed, shapes):
    """The last line, against clips made one by one from plans, and a count by hand."""
    text, folder = undisturbed
    weights = torch.load(folder / "checkpoint.pt")["model"]
    assert count_right(shapes, weights) == float(re.findall(RESULT, text, re.MULTILINE)[-1][2])


def count_right(shapes, weights, left_out=()):
    """Percent of videos that a model gets right, one decimal."""
    train, validation = map(dv.Manifest.read, shapes)
    network = model("small", 4)
    network.load_state_dict(weights)
    network.eval()
    _, loader = data.make_loaders(train, validation, data.default_recipes(), 1, num_threads=1)
    right = []
    with loader, torch.no_grad():
        for i in range(len(validation)):
            if i in left_out:
                continue
            clip = loader.apply(dv.draw_plan(validation, loader.recipe, [i])).clips
            folder = Path(validation.path(i)).parent.name
            right.append(train.classes[int(network(clip).argmax())] == folder)
    return round(100 * np.mean(right), 1)


def test_the_mean_over_views_is_evaluated(undisturbed, shapes, monkeypatch, capsys):
    """examples/evaluate.py: the figures of the mean over the clips of each video, one by one."""
    best = undisturbed[1] / "best.pt"
    monkeypatch.setattr(sys, "argv", ["evaluate.py", str(best), shapes[1], "--views", "3"])
    runpy.run_path(EVALUATE, run_name="__main__")
    manifest, network = dv.Manifest.read(shapes[1]), model("small", 4)
    network.load_state_dict(torch.load(best)["model"])
    network.eval()
    one = data.default_recipes().validation
    recipe, right = dv.Recipe(dv.MultiClip(one.sampling, 3), one.ops), 0
    with dv.VideoLoader(manifest, recipe, 1, device="cpu") as loader, torch.no_grad():
        for sample, label in enumerate(manifest.labels):
            clips = [loader.apply(dv.draw_plan(manifest, recipe, [sample], views=v)).clips for v in range(3)]
            right += int(torch.stack([network(clip).softmax(1)[0] for clip in clips]).mean(0).argmax() == label)
    assert f"top-1 {right / len(manifest):.1%}, " in capsys.readouterr().out


def run_evaluate(monkeypatch, capsys, *arguments, code=None):
    """What examples/evaluate.py prints; of an error its last line."""
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
    if code is None:
        runpy.run_path(EVALUATE, run_name="__main__")
        return capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        runpy.run_path(EVALUATE, run_name="__main__")
    assert end.value.code == code
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_the_same_network_has_the_same_figures_under_mixed_precision(
    undisturbed, shapes, monkeypatch, capsys, tmp_path
):
    """As training says; --amp chooses otherwise, and a checkpoint that does not say is not mixed."""
    content, path = torch.load(undisturbed[1] / "best.pt"), tmp_path / "best.pt"
    assert content["amp"] == "off"
    told = {}
    for amp in ("off", "bfloat16", None):
        torch.save({key: value for key, value in {**content, "amp": amp}.items() if value is not None}, path)
        for given in ("off", "bfloat16", None):
            options = ["--amp", given] if given else []
            told[amp, given] = run_evaluate(monkeypatch, capsys, path, shapes[1], *options).splitlines()[-1]
    off, mixed = told["off", None], told["bfloat16", None]
    assert off != mixed and f"loss {content['figures']['loss']:.4f}, " in off
    assert all(line == (mixed if "bfloat16" in (given, given or amp) else off) for (amp, given), line in told.items())


def test_a_table_that_cannot_be_written_is_said_before_the_evaluation(
    undisturbed, shapes, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    best = undisturbed[1] / "best.pt"
    told = run_evaluate(monkeypatch, capsys, best, shapes[1], "--confusion", "nodir/x.csv", code=2)
    assert told.endswith("error: --confusion nodir/x.csv: there is no such folder")
    told = run_evaluate(monkeypatch, capsys, best, shapes[1], "--confusion", tmp_path, code=2)
    assert told.endswith(f"error: --confusion {tmp_path}: is a folder")
    run_evaluate(monkeypatch, capsys, best, shapes[1], "--confusion", "x.csv")
    assert (tmp_path / "x.csv").read_text().startswith("class,circle_down,")


def test_curves_are_refused_in_one_sentence(undisturbed, monkeypatch, capsys, tmp_path):
    log = str(undisturbed[1] / "log.csv")
    (tmp_path / "other.csv").write_text("a,b\n")
    for arguments, message in (
        (["no.csv", "c.png"], "no.csv"),
        ([str(tmp_path / "other.csv"), "c.png"], "other.csv: is not a log of examples/train.py"),
        ([log, "c.txt"], "c.txt: the last name is that of the picture, such as curve.png"),
        ([log, "nodir/c.png"], "nodir/c.png"),
    ):
        monkeypatch.setattr(sys, "argv", ["curve.py", *arguments])
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as end:
            draw_main()
        told = capsys.readouterr().err
        assert (
            end.value.code == 2 and told.startswith("curve.py: error: ") and message in told and told.count("\n") == 1
        )
    monkeypatch.setattr(sys, "argv", ["curve.py", log, "c.PNG"])
    draw_main()
    assert (tmp_path / "c.PNG").stat().st_size > 1000


def test_a_run_that_is_killed_goes_on_as_if_nothing_had_been(undisturbed, shapes, tmp_path):
    """SIGKILL in the middle of the second epoch: every loss is the same, and all that is saved, bit for bit."""
    arguments = command(shapes, tmp_path, "--save-every", "1")
    environment = example_programs.ENVIRONMENT
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          env=environment) as victim:  # fmt: skip
        for line in victim.stdout:
            if line.startswith("epoch 1, batch 1 "):
                victim.kill()
    assert victim.returncode == -signal.SIGKILL
    place = torch.load(tmp_path / "checkpoint.pt")["loader"]
    assert place["epoch"] == 1 and place["batch"] < 6
    text = run(*arguments)
    assert f"goes on with epoch 1 of 2, after step {6 + place['batch']}" in text
    folder = undisturbed[1]
    check_same_run(history_of(tmp_path), tmp_path, history_of(folder), folder)


@pytest.mark.slow
def test_a_run_that_is_killed_at_three_random_moments(shapes, tmp_path):
    """With dropout, an average of the weights, steps of several batches, mixed clips: the log and all that is saved are
    bit for bit those of a run that was not killed."""
    (tmp_path / "recipe.py").write_text(
        "recipe = dv.Recipe(sampling=dv.ClipSampling(4, stride=2), ops=(dv.RandomResizedCrop(32), dv.CubeCutMix(), "
        "dv.Normalize()))"
    )
    options = [*TOKENS, "--recipe", str(tmp_path / "recipe.py"), "--epochs", "16", "--lr", "0.01", "--clip-norm", "1",
               "--dropout", "0.2", "--ema", "0.9", "--accumulate", "2", "--layer-decay", "0.8"]  # fmt: skip
    whole, cut, drawn = tmp_path / "whole", tmp_path / "cut", random.Random()
    run(*command(shapes, whole, *options))
    arguments, seen = [sys.executable, *command(shapes, cut, *options, "--save-every", "4")], []
    for first in (3, 18, 33):
        moment = drawn.randrange(first, first + 12), drawn.uniform(0, 0.1)  # rows of the log, of 64, and seconds
        with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              env=example_programs.ENVIRONMENT) as victim:  # fmt: skip
            while victim.poll() is None and num_rows(cut) < moment[0]:
                time.sleep(0.005)
            time.sleep(moment[1])
            victim.kill()
        assert victim.returncode == -signal.SIGKILL, moment
        seen.append((moment, torch.load(cut / "checkpoint.pt")["step"]))
    print("killed at (rows, seconds), with a checkpoint of step:", seen)
    run(*command(shapes, cut, *options, "--save-every", "4"))
    check_same_run(history_of(cut), cut, history_of(whole), whole)
    assert len(read_log(cut / "log.csv")) == 16 * 3 + 16


def num_rows(folder):
    """Of a log that is being written."""
    path = folder / "log.csv"
    return path.read_text().count("\n") if path.is_file() else 0


@pytest.mark.slow
def test_two_processes_are_as_one_with_batches_twice_as_large(shapes, tmp_path):
    """Losses, norms of gradients and figures of validation agree to rounding, step by step, with mixed clips, too."""
    (tmp_path / "recipe.py").write_text(
        "dv.Recipe(dv.ClipSampling(4, 2), (dv.RandomResizedCrop(32), dv.CutMix(), dv.Normalize()))"
    )
    options = [*TOKENS, "--recipe", str(tmp_path / "recipe.py"), "--lr", "0.01", "--mix-group", "2", "--dropout", "0"]
    one, two = tmp_path / "one", tmp_path / "two"
    run(*command(shapes, one, *options, "--batch-size", "4"))
    run(*LAUNCHER, *command(shapes, two, *options, "--batch-size", "2"), timeout=240)
    rows, others = told(read_log(one / "log.csv")), told(read_log(two / "log.csv"))
    assert len(rows) == len(others) == 3 + 1 + 3 + 1
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            assert value == pytest.approx(other[name], rel=2e-4, abs=1e-6), (name, row, other)
    weights, theirs = (torch.load(folder / "checkpoint.pt")["model"] for folder in (one, two))
    assert all(torch.allclose(weights[key], theirs[key], rtol=1e-2, atol=1e-3) for key in weights)
    # and one process goes on where two were
    text = run(*command(shapes, two, *options, "--batch-size", "4", "--epochs", "3"))
    assert "goes on with epoch 2 of 3, after step 6" in text
    assert [row["step"] for row in read_log(two / "log.csv")[8:]] == [7, 8, 9, 9]


@pytest.mark.slow
def test_two_processes_train_together_and_count_each_video_once(shapes, tmp_path):
    """Eleven videos for two ranks, one of them bad: one is repeated, and the accuracy is that of one process."""
    train, validation = map(dv.Manifest.read, shapes)
    for i in range(len(validation)):
        path = Path(validation.path(i))
        (tmp_path / "v" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "v" / path.parent.name / path.name).symlink_to(path)
    copy = dv.scan(tmp_path / "v", like=train, output=tmp_path / "v.parquet", progress=False)
    bad = Path(copy.path(4))
    bad.unlink()
    write_numbered(bad, 8)
    lists, folder = [shapes[0], str(tmp_path / "v.parquet")], tmp_path / "run"
    text = run(*LAUNCHER, *command(lists, folder, "--epochs", "1"), timeout=240)
    assert len(re.findall(LINE, text, re.MULTILINE)) == 3
    ((_, _, top1, _, seen, missing),) = re.findall(RESULT, text, re.MULTILINE)
    assert (seen, missing) == ("10", ", 1 missing")
    assert count_right(lists, torch.load(folder / "checkpoint.pt")["model"], {4}) == float(top1)
    # and it goes on, in two processes: the state is that of all ranks
    again = run(*LAUNCHER, *command(lists, folder), timeout=240)
    assert [(row[0], row[2]) for row in re.findall(LINE, again, re.MULTILINE)] == [("1", "4"), ("1", "5"), ("1", "6")]
    # the same figure of what was saved, by two processes; a file that changed is left out there, too
    tested = run(*LAUNCHER, EVALUATE, str(folder / "best.pt"), lists[1], timeout=240)
    best = torch.load(folder / "best.pt")
    assert f"loss {best['figures']['loss']:.4f}, top-1 {best['figures']['top1']:.1%}" in tested


# ---- What is refused


def test_one_sentence_and_exit_code_2(shapes, undisturbed, numbered_manifest, tmp_path, monkeypatch, capsys):
    """Of lists, recipes, models, options and checkpoints that are wrong; nothing is written."""
    folder = undisturbed[1]
    manifest, other = dv.Manifest.read(shapes[0]), tmp_path / "other.parquet"
    dv.scan(sorted(Path(shapes[0]).parent.glob("train/*/*.mp4"))[:3], output=tmp_path / "none.parquet", progress=False)
    dv.scan(Path(shapes[1]).parent / "validation", output=other, progress=False,
            classes=["circle_up", "circle_down", "square_up", "square_down"])  # fmt: skip
    dv.scan(Path(shapes[0]).parent / "train" / "circle_up", output=tmp_path / "one.parquet", progress=False)
    (tmp_path / "two.py").write_text("a = dv.Recipe()\nb = dv.Recipe()\n")
    (tmp_path / "bytes.py").write_text("dv.Recipe(ops=(dv.RandomResizedCrop(64),))")
    (tmp_path / "run.py").write_text("import os\nrecipe = dv.Recipe(ops=(os.getcwd(),))")
    (tmp_path / "latin.py").write_bytes(b"# \xe9\n")
    (tmp_path / "zero.py").write_bytes(b"dv.Recipe()\0")
    good, none = list(shapes), str(tmp_path / "none.parquet")
    cases = [
        ([shapes[0]], "give two manifests: TRAIN VALIDATION"),
        ([shapes[0], "no.parquet"], "no.parquet"),
        ([none, shapes[1]], "none of its 3 videos has a label"),
        ([shapes[0], none], "none of its 3 videos has a label"),
        ([shapes[0], str(other)], f"{other}: has other classes than {shapes[0]}: scan it with --like"),
        ([str(tmp_path / "one.parquet")] * 2, "has "),
        ([*good, "--model", "r3d"], "there is no model 'r3d'; there are small, r3d_18"),
        ([*good, "--model-option", "a"], "--model-option: must be NAME=VALUE, got 'a'"),
        ([*good, "--model", "r3d_18", "--model-option", "num_classes=7"],
         "--model-option: TRAIN says num_classes, got 'num_classes=7'"),
        ([*good, "--model-option", "dropout=0.1"], "--model-option: --dropout says dropout"),
        ([*good, "--recipe", str(tmp_path / "latin.py")], "latin.py: is not Python: byte 2 is not UTF-8 text"),
        ([*good, "--recipe", str(tmp_path / "zero.py")], "zero.py: is not Python: "),
        ([*good, "--recipe", "tsm", "--views", "2"], "views: SegmentSampling has one clip of each video; give"),
        ([*good, "--recipe", "slowfest"], "there is no file and no recipe 'slowfest'; recipes are "),
        ([*good, "--recipe", "slowfast"], "training: the recipe has 2 pathways, and these models take one clip"),
        ([*good, "--recipe", "slowfast", "--variant", "9x9"], "--variant: slowfast has 8x8, 4x16, got '9x9'"),
        ([*good, "--variant", "8x8"], "--variant: is for a published recipe"),
        ([*good, "--recipe", str(tmp_path / "two.py")], "two.py: has 2 recipes, and must have one"),
        ([*good, "--recipe", str(tmp_path / "run.py")], "run.py: "),
        ([*good, "--recipe", str(tmp_path / "bytes.py")], "give --validation-recipe"),
        ([*good, "--recipe", str(tmp_path / "bytes.py"), "--validation-recipe", str(tmp_path / "bytes.py")],
         "training: the recipe must end with Normalize"),
        ([*good, "--epochs", "0"], "epochs must be a whole number >= 1, got 0"),
        ([*good, "--sync-batch-norm"], "sync_batch_norm needs GPUs"),
        ([*good, "--weights", "no.pt"], "no.pt: there is no such file"),
        ([*good, "--batch-size", "2", "--epochs", "2", "--output", str(folder), "--seed", "1"],
         "is of a run with other options: seed 0 instead of 1"),
        ([*good, "--batch-size", "2", "--epochs", "2", "--output", str(folder), "--model", "mc3_18"],
         "checkpoint.pt: is of another model: name 'small' instead of 'mc3_18'"),
    ]  # fmt: skip
    assert len(manifest) == 12
    monkeypatch.chdir(tmp_path)
    main, before = load_main(), {path.name: path.read_bytes() for path in folder.iterdir()}
    for arguments, message in cases:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert end.value.code == 2 and said.startswith("train.py: error: ") and message in said, (arguments, said)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before and not (tmp_path / "run").exists()


@pytest.mark.parametrize("which, code, message", [
    (1, 2, "validation: none of 11 videos has a label and could be decoded: "), (0, 1, "")])  # fmt: skip
def test_videos_that_cannot_be_decoded_end_it_in_one_sentence(
    which, code, message, shapes, tmp_path, monkeypatch, capsys
):
    """None of those for validation, or for training, is a video any more."""
    given, good = list(shapes), dv.Manifest.read(shapes[which])
    for i in range(len(good)):
        path = tmp_path / "v" / Path(good.path(i)).relative_to(good.root)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0" * Path(good.path(i)).stat().st_size)
    dv.Manifest(good.table, good.classes, tmp_path / "v").write(tmp_path / "moved.parquet")
    given[which] = str(tmp_path / "moved.parquet")
    monkeypatch.setattr(sys, "argv", command(given, tmp_path / "run", "--epochs", "1", "--batch-size", "4"))
    with pytest.raises(SystemExit) as end:
        load_main()()
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert end.value.code == code and said.startswith("train.py: ") and message in said and "/v/" in said, said


def load_main():
    """The function of the program that a command line starts."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("train_program", TRAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_videos_without_a_label_are_left_out_and_counted(shapes, tmp_path):
    manifest = dv.Manifest.read(shapes[0])
    rows = [f"{manifest.path(i)},{manifest.classes[manifest.labels[i]] if i % 4 else ''}" for i in range(12)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
    some = dv.scan(tmp_path / "list.csv", like=manifest, output=tmp_path / "some.parquet", progress=False)
    assert (some.labels < 0).sum() == 3
    left, said = data.open_manifest(str(tmp_path / "some.parquet"))
    assert len(left) == 9 and (left.labels >= 0).all()
    assert said == [f"{tmp_path / 'some.parquet'}: 3 of 12 videos have no label, and are left out"]


# ---- Recipes


def test_a_recipe_is_read_from_what_repr_and_the_command_write(tmp_path):
    recipe = data.default_recipes().train
    for text in (repr(recipe), f"recipe = {recipe!r}\n",
                 f"# what it is\nimport dali_vidaug as dv\n\nrecipe = {recipe!r}\nloader = dv.VideoLoader(8)\n",
                 f"other = dv.Recipe(dv.ClipSampling(3))\nrecipe = {recipe!r}\n"):  # fmt: skip
        (tmp_path / "recipe.py").write_text(text)
        assert data.read_recipe(tmp_path / "recipe.py") == recipe
    family = dv.recipes.FAMILIES["slowfast"]
    for stage in ("train", "validation", "test"):
        (tmp_path / "recipe.py").write_text(dv.recipes.program(family, "4x16", stage, "kinetics400"))
        assert data.read_recipe(tmp_path / "recipe.py") == dv.recipes.slowfast("4x16", stage=stage)
    (tmp_path / "recipe.py").write_text("dv.Recipe(dv.ClipSampling(8), [dv.Resize(64), dv.CutMix(), dv.Normalize()])")
    mixed = dv.Recipe(dv.ClipSampling(8), (dv.Resize(64), dv.CutMix(), dv.Normalize()))
    assert data.read_recipe(tmp_path / "recipe.py") == mixed
    for text, message in {
        "recipe = (": "is not Python",
        "": "has 0 recipes",
        "dv.Recipe(ops=(f(),))": "f is no sampler or op",
        "dv.Recipe(ops=(dv.scan('x'),))": "scan is no sampler or op",
        "dv.Recipe(dv.ClipSampling(n))": "must be written out, got n",
        "dv.Recipe(*x)": "Recipe is no",
        "dv.Recipe(**x)": "must be written out, got x",
        "dv.Recipe(a=1)": "'a'",
    }.items():
        (tmp_path / "recipe.py").write_text(text)
        with pytest.raises(ValueError, match=message):
            data.read_recipe(tmp_path / "recipe.py")


def test_published_recipes_come_with_their_settings():
    found = data.published_recipes("slowfast", "4x16")
    assert found.train == dv.recipes.slowfast("4x16") and found.repeats == 1 and found.average == "softmax"
    assert found.validation == dv.recipes.slowfast("4x16", stage="validation")
    assert data.published_recipes("slowfast", size=64).train == dv.recipes.slowfast(size=64)


def test_validation_is_the_middle_of_each_video_scaled_as_in_training():
    clip = dv.ClipSampling(16, stride=(2, 5), speed=(0.5, 2.0))
    recipe = dv.Recipe(clip, (dv.RandomResizedCrop(112), dv.RandAugmentT(), dv.Normalize(mean=(0.5, 0.5, 0.5))))
    found = data.validation_of(recipe)
    assert found == dv.Recipe(
        dv.ClipSampling(16, stride=3, start="center"),
        (dv.Resize(128), dv.CenterCrop(112), dv.Normalize(mean=(0.5, 0.5, 0.5))),
    )
    views = data.with_views(found, 4, 3)
    assert views.num_clips == 12 and views.ops[1] == dv.ThreeCrop(112) and data.with_views(found, 1, 1) == found
    assert isinstance(data.with_views(found, 1, 5).ops[1], dv.FiveCrop)
    for recipe, message in ((views, "has 12 views already"), (dv.Recipe(), "has 0 CenterCrop")):
        with pytest.raises(ValueError, match=message):
            data.with_views(recipe, 2, 3)


def test_published_recipes_have_the_views_of_their_own_samplers():
    """Of every family that can be trained: as many views as asked for; with its own numbers, the frames of its test."""
    tried = []
    for name, family in dv.recipes.FAMILIES.items():
        if not set(family.stages) >= {"validation", "test"}:
            continue
        validation, test = (family.function(stage=stage) for stage in ("validation", "test"))
        crops = getattr(test.sampling, "num_crops", 1)
        clips = test.num_clips // crops
        crops = 3 if any(isinstance(op, dv.CenterCrop) for op in validation.ops) and crops <= 3 else 1
        for count in (1, 3):
            if isinstance(validation.sampling, dv.SegmentSampling) and count > 1:
                with pytest.raises(ValueError, match="SegmentSampling has one clip of each video; give crops alone"):
                    data.with_views(validation, count, crops)
            else:
                assert data.with_views(validation, count, crops).num_clips == count * crops, name
        if name in ("videomae", "videomae_v2", "vivit"):
            one, two = (plan_frames(recipe) for recipe in (data.with_views(validation, clips, crops), test))
            assert (one == two).all() and clips > 1, name
            tried.append(name)
    assert tried == ["videomae", "videomae_v2", "vivit"]


def plan_frames(recipe):
    """The frames of all views of a video of 300 frames."""
    count = recipe.num_clips
    video = dv.Videos(np.zeros(count, int), np.full(count, 300), np.full(count, 25.0), lambda i: np.arange(300) / 25)
    return recipe.sampling.draw(dv.Draws(0, 0, [0] * count, views=range(count)), video)
