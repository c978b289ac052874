"""The training program of examples/: killed and started again, in one process and in two, with videos that are bad."""

import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_numbered

import dali_vidaug as dv
from dali_vidaug.commands.demo import make_videos

EXAMPLE = Path(__file__).parent.parent / "examples" / "train.py"
STEP = r"^epoch (\d+), step (\d+) of \d+: loss ([\d.]+)$"
# torch.nn.Conv3d with two threads gives one of two sums when the cores are busy, of the same clips
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
RESULT = r"^epoch (\d+): top-1 ([\d.]+)%, top-5 ([\d.]+)% of (\d+) videos, (\d+) left out$"


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    """Twelve videos to train on, eleven to validate with, which is odd."""
    folder = tmp_path_factory.mktemp("train")
    make_videos(folder / "train", per_class=3)
    make_videos(folder / "validation", per_class=3, seed=1)
    (folder / "validation" / "square_up" / "02.mp4").unlink()
    train = dv.scan(folder / "train", output=folder / "train.parquet", progress=False)
    dv.scan(folder / "validation", like=train, output=folder / "validation.parquet", progress=False)
    return [str(folder / "train.parquet"), str(folder / "validation.parquet")]


def command(manifests, checkpoint, *options):
    options = ["--epochs", "2", "--batch-size", "2", "--checkpoint", str(checkpoint), *options]
    return [str(EXAMPLE), *manifests, *options]


def run(*arguments, **options):
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=ONE_THREAD, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_steps(text):
    """{(epoch, step): loss}"""
    return {(int(e), int(step)): loss for e, step, loss in re.findall(STEP, text, re.MULTILINE)}


def same_state(a, b):
    """Checkpoints, bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_state(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_state, a, b))
    return a == b


@pytest.fixture(scope="module")
def undisturbed(manifests, tmp_path_factory):
    """What the program prints and saves when nothing happens to it: (text, checkpoint)."""
    checkpoint = tmp_path_factory.mktemp("undisturbed") / "checkpoint.pt"
    return run(*command(manifests, checkpoint)), torch.load(checkpoint)


def test_the_program_trains_and_validates(undisturbed, manifests):
    text, checkpoint = undisturbed
    assert list(read_steps(text)) == [(epoch, step) for epoch in range(2) for step in range(1, 7)]
    assert [found[0] for found in re.findall(RESULT, text, re.MULTILINE)] == ["0", "1"]
    assert all(found[2:] == ("100.0", "11", "0") for found in re.findall(RESULT, text, re.MULTILINE))
    assert "the loop waited" in text and checkpoint["loader"]["epoch"] == 2 and checkpoint["loader"]["batch"] == 0


def test_accuracy_is_that_of_each_video_by_itself(undisturbed, manifests):
    """The last line, against clips made one by one from plans, and a count by hand."""
    text, checkpoint = undisturbed
    assert count_right(manifests, checkpoint["model"]) == float(re.findall(RESULT, text, re.MULTILINE)[-1][1])


def count_right(manifests, weights, left_out=()):
    """Percent of videos that a model gets right, one decimal."""
    program = runpy.run_path(str(EXAMPLE))
    train, validation = map(dv.Manifest.read, manifests)
    model = program["network"](4)
    model.load_state_dict(weights)
    model.eval()
    _, loader = program["make_loaders"](train, validation, 1)
    right = []
    with loader, torch.no_grad():
        for i in range(len(validation)):
            if i in left_out:
                continue
            clip = loader.apply(dv.draw_plan(validation, loader.recipe, [i])).clips
            folder = Path(validation.path(i)).parent.name
            right.append(train.classes[int(model(clip).argmax())] == folder)
    return round(100 * np.mean(right), 1)


def test_a_run_that_is_killed_goes_on_as_if_nothing_had_been(undisturbed, manifests, tmp_path):
    """SIGKILL in the middle of the second epoch: every loss is the same, and all that is saved, bit for bit."""
    text, expected = undisturbed
    arguments = command(manifests, tmp_path / "checkpoint.pt", "--save-every", "1")
    before, process = "", [sys.executable, *arguments]
    with subprocess.Popen(
        process, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ONE_THREAD
    ) as victim:
        for line in victim.stdout:
            before += line
            if line.startswith("epoch 1, step 1 "):
                victim.kill()
    assert victim.returncode == -signal.SIGKILL
    place = torch.load(tmp_path / "checkpoint.pt")["loader"]
    assert place["epoch"] == 1 and 1 <= place["batch"] < 6
    after = run(*arguments)
    assert min(read_steps(after)) == (1, place["batch"] + 1)
    assert read_steps(before) | read_steps(after) == read_steps(text)
    assert re.findall(RESULT, before + after, re.MULTILINE) == re.findall(RESULT, text, re.MULTILINE)
    assert same_state(torch.load(tmp_path / "checkpoint.pt"), expected)


def test_a_checkpoint_that_is_being_written_when_the_run_is_killed_is_not_used(manifests, tmp_path):
    """The one before stays whole."""
    program = runpy.run_path(str(EXAMPLE))

    class Killed:
        def __reduce__(self):
            raise KeyboardInterrupt

    class Part:
        def __init__(self, state):
            self.state_dict = lambda: state

    program["save"]({"loader": Part({"epoch": 3})}, tmp_path / "c.pt")
    with pytest.raises(KeyboardInterrupt):
        program["save"]({"loader": Part({"epoch": Killed()})}, tmp_path / "c.pt")
    assert torch.load(tmp_path / "c.pt") == {"loader": {"epoch": 3}}


@pytest.mark.slow
def test_two_processes_train_together_and_count_each_video_once(manifests, tmp_path):
    """Eleven videos for two ranks, one of them bad: one is repeated, and the accuracy is that of one process."""
    train, validation = map(dv.Manifest.read, manifests)
    (tmp_path / "bad").mkdir()
    for i in range(len(validation)):
        path = Path(validation.path(i))
        (tmp_path / "v" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "v" / path.parent.name / path.name).symlink_to(path)
    copy = dv.scan(tmp_path / "v", like=train, output=tmp_path / "v.parquet", progress=False)
    bad = Path(copy.path(4))
    bad.unlink()
    write_numbered(bad, 8)
    lists = [manifests[0], str(tmp_path / "v.parquet")]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    arguments = command(lists, tmp_path / "c.pt", "--batch-size", "2", "--epochs", "1")
    text = run(*launcher, *arguments, timeout=240)
    assert len(read_steps(text)) == 3
    ((_, top1, _, seen, missing),) = re.findall(RESULT, text, re.MULTILINE)
    assert (seen, missing) == ("10", "1")
    assert count_right(lists, torch.load(tmp_path / "c.pt")["model"], {4}) == float(top1)
    # and it goes on, in two processes: the state is that of all ranks
    again = run(*launcher, *command(lists, tmp_path / "c.pt", "--batch-size", "2"), timeout=240)
    assert list(read_steps(again)) == [(1, 1), (1, 2), (1, 3)]


def test_classes_that_differ_are_refused(manifests, tmp_path):
    dv.scan(Path(manifests[1]).parent / "validation", classes=["circle_up", "circle_down", "square_up", "square_down"],
            output=tmp_path / "v.parquet", progress=False)  # fmt: skip
    arguments = command([manifests[0], str(tmp_path / "v.parquet")], tmp_path / "c.pt")
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "has other classes than" in done.stderr and "--like" in done.stderr
