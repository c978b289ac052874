"""`fit` of examples/training: compared with a loop written out here; interrupted anywhere; what it refuses."""

import itertools
import math
import random
from dataclasses import replace
from pathlib import Path

import example_programs  # noqa: F401 (it finds `training`)
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from training import Options, checkpoints, data, evaluate, fit, model
from training.curve import COLOURS, draw_curves
from training.evaluation import EvaluationError
from training.fitting import TrainingError, seed_torch
from training.logs import COLUMNS, Log, open_tensorboard, read_log
from training.optimization import POSITIONS, Best, learning_rate, make_optimizer

import dali_vidaug as dv

MEASURED = ("clips_per_second", "waiting")  # which differ from run to run


@pytest.fixture(autouse=True)
def one_thread():
    """With two, torch.nn.Conv3d gives one of two sums when the cores are busy, of the same clips."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def manifests(shapes):
    return [dv.Manifest.read(path) for path in shapes]


def loaders(manifests, batch_size=4, seed=0, **options):
    recipes = data.default_recipes(num_frames=4, size=32)
    return data.make_loaders(*manifests, recipes, batch_size, seed=seed, num_threads=1, **options)


def tokens(num_classes=4, **options):
    """A small network without batch norm, with dropout if that is asked for."""
    pytest.importorskip("transformers", reason="the extra [train] has transformers")
    size = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    return model("videomae", num_classes, num_frames=4, size=32, **size | options)


def train(manifests, network, options, batch_size=4, validates=True, **more):
    loader, validation = loaders(manifests, batch_size)
    with loader, validation:
        return fit(network, loader, validation if validates else None, options, progress=False, **more)


def told(rows):
    """Rows without what is measured."""
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


def same(a, b):
    """States, bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


# ---- What a step is


def by_hand(network, loader, epochs, warmup, lr, decay, smoothing, clip, ema):
    """Losses, norms of gradients and the average of the weights, without anything of examples/training."""
    flat = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": flat, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}])
    found, average, step = [], None, 0
    for _ in range(epochs):
        for clips, targets in loader:
            place = (step + 0.5) / 3  # epochs; twelve videos make three batches
            rate = place / warmup if place < warmup else 0.5 + 0.5 * math.cos(
                math.pi * (place - warmup) / (epochs - warmup)
            )  # fmt: skip
            for group in optimizer.param_groups:
                group["lr"] = lr * rate
            smooth = targets * (1 - smoothing) + smoothing / targets.shape[1]
            loss = -(smooth * network(clips).log_softmax(1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            norm = math.sqrt(sum(float(p.grad.double().square().sum()) for p in network.parameters()))
            for p in network.parameters():
                p.grad *= min(1.0, clip / norm)
            optimizer.step()
            weights = {name: p.detach().clone() for name, p in network.named_parameters()}
            average = weights if average is None else {
                name: ema * average[name] + (1 - ema) * weights[name] for name in weights
            }  # fmt: skip
            found.append((loss.item(), norm, lr * rate))
            step += 1
    return found, average


@pytest.mark.parametrize("name", ["small", "videomae"])
def test_losses_are_those_of_a_loop_that_is_written_out(name, manifests, tmp_path):
    """Learning rate, weight decay, smoothing, clipping and the average, of two epochs of three steps."""
    make = tokens if name == "videomae" else lambda: model("small", 4, num_frames=4, size=32)
    options = Options(
        epochs=2, warmup_epochs=0.5, lr=0.01, weight_decay=0.3, label_smoothing=0.2, clip_norm=1.5, ema=0.6
    )
    network = make()
    history = train(manifests, network, options, validates=False, output=tmp_path)
    loader, _ = loaders(manifests)
    with loader:
        expected, average = by_hand(make(), loader, 2, 0.5, 0.01, 0.3, 0.2, 1.5, 0.6)
    got = [(row["loss"], row["grad_norm"], row["lr"]) for row in history.steps]
    assert [row["step"] for row in history.steps] == [1, 2, 3, 4, 5, 6] and history.validations == []
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=1e-4)
    assert got[0] == pytest.approx(expected[0], rel=1e-5)  # before anything adds up
    ema = torch.load(tmp_path / "checkpoint.pt")["ema"]
    assert ema["n_averaged"] == 6
    for key, value in average.items():
        if not (name == "small" and key.endswith("0.bias")):  # before batch norm: its gradient is rounding
            assert torch.allclose(ema[f"module.{key}"], value, rtol=1e-2, atol=2e-3), key


def test_batches_that_make_up_a_step_are_as_one_batch(manifests):
    """Losses within rounding; nine batches of one clip and then three: the last step of an epoch has fewer."""
    options = Options(epochs=2, lr=0.01)
    whole = train(manifests, tokens(), options, batch_size=4, validates=False)
    parts = train(manifests, tokens(), replace(options, accumulate=4), batch_size=1, validates=False)
    for name in ("loss", "grad_norm", "lr"):
        np.testing.assert_allclose([row[name] for row in parts.steps], [row[name] for row in whole.steps], rtol=1e-4)
    uneven = train(manifests, tokens(), replace(options, accumulate=5), batch_size=2, validates=False)
    assert [(row["step"], row["epoch"]) for row in uneven.steps] == [(1, 0), (2, 0), (3, 1), (4, 1)]
    # 10 of 12 samples, then 2: learning rates are of the middle of each
    assert [row["lr"] for row in uneven.steps] == [learning_rate(place, options) for place in
                                                   (5 / 12, 11 / 12, 1 + 5 / 12, 1 + 11 / 12)]  # fmt: skip


def test_mixed_precision_rounds_and_trains(manifests):
    plain = train(manifests, tokens(), Options(epochs=1, amp="off"), validates=False).steps
    mixed = train(manifests, tokens(), Options(epochs=1, amp="bfloat16"), validates=False).steps
    assert train(manifests, tokens(), Options(epochs=1), validates=False).steps[0]["loss"] == plain[0]["loss"]  # auto
    assert mixed[0]["loss"] != plain[0]["loss"] and mixed[0]["loss"] == pytest.approx(plain[0]["loss"], rel=0.02)


def test_the_learning_rate_rises_in_a_line_and_falls_along_a_cosine():
    options = Options(epochs=10, warmup_epochs=2, lr=0.5, final_lr=0.1)
    got = [learning_rate(place, options) for place in (0, 1, 2, 6, 10)]
    assert got == pytest.approx([0, 0.25, 0.5, 0.275, 0.05])
    assert learning_rate(0, Options(epochs=3, warmup_epochs=0)) == 1e-3
    assert learning_rate(1, Options(epochs=1, warmup_epochs=1)) == 1e-3


def test_blocks_further_down_learn_more_slowly_and_vectors_do_not_decay():
    network = tokens()
    optimizer = make_optimizer(network, Options(layer_decay=0.5, weight_decay=0.3))
    scales, decays = {}, {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            (name,) = [key for key, value in network.named_parameters() if value is parameter]
            scales[name], decays[name] = group["scale"], group["weight_decay"]
    assert scales.keys() == dict(network.named_parameters()).keys()
    for begins, scale in (("videomae.embeddings.", 1 / 8), ("videomae.encoder.layer.0.", 1 / 4),
                          ("videomae.encoder.layer.1.", 1 / 2), ("fc_norm.", 1), ("classifier.", 1)):  # fmt: skip
        assert {value for name, value in scales.items() if name.startswith(begins)} == {scale}
    assert all(value == (0.0 if name.endswith("bias") or "norm" in name else 0.3) for name, value in decays.items())
    plain = make_optimizer(network, Options())
    assert not any(POSITIONS.search(name) for name in decays)  # here positions are not learned
    assert [group["scale"] for group in plain.param_groups] == [1.0, 1.0]
    with pytest.raises(ValueError, match="layer_decay needs a network of model"):
        make_optimizer(nn.Linear(3, 3), Options(layer_decay=0.5))


def test_what_dropout_draws_belongs_to_seed_step_part_and_rank():
    drawn = {}
    for address in itertools.product((0, 1, 2**40), (0, 1, 300), (0, 1), (0, 1, 2)):
        seed_torch(*address)
        drawn[address] = torch.rand(4).tolist()
    assert len({tuple(values) for values in drawn.values()}) == len(drawn)
    seed_torch(1, 300, 1, 2)
    assert torch.rand(4).tolist() == drawn[1, 300, 1, 2]


# ---- Interrupted


class Interrupted(BaseException):
    """As a signal might raise it."""


def interrupt(network, after):
    """Let a network end the program in a call."""
    calls = []

    def count(*_):
        calls.append(1)
        if len(calls) == after:
            raise Interrupted

    network.register_forward_pre_hook(count)
    return network


VARIED = dict(epochs=3, lr=0.01, ema=0.7, accumulate=2, monitor="loss", patience=2, log_every=2, save_every=1)


@pytest.fixture(scope="module")
def undisturbed(shapes, tmp_path_factory):
    """A run of three epochs with dropout: its history, and its folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    manifests = [dv.Manifest.read(path) for path in shapes]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    history = train(manifests, tokens(dropout=0.3), Options(**VARIED), batch_size=2, output=folder)
    torch.set_num_threads(threads)
    return history, folder


def test_the_same_arguments_give_the_same_run(undisturbed, manifests):
    before = torch.get_rng_state()
    again = train(manifests, tokens(dropout=0.3), Options(**VARIED), batch_size=2)
    assert told(again.rows) == told(undisturbed[0].rows)
    assert torch.equal(torch.get_rng_state(), before)
    other = train(manifests, tokens(dropout=0.3), Options(**VARIED, seed=1), batch_size=2)
    assert told(other.rows)[0]["loss"] != told(again.rows)[0]["loss"]  # dropout alone: weights and clips are the same


# An epoch is six calls, which are three steps, and six more to validate the average, which is a copy.
@pytest.mark.parametrize("calls, save_every", [([1], 1), ([3, 2, 5, 4], 1), ([8, 3], 1), ([34], 100)])
def test_a_run_that_is_interrupted_goes_on_as_if_it_had_not(calls, save_every, undisturbed, manifests, tmp_path):
    """In any call, also of validation: rows, weights, optimiser, average and best epoch are the same, bit for bit."""
    options, saved = Options(**VARIED | dict(save_every=save_every)), tmp_path / "checkpoint.pt"
    for after in [*calls, math.inf]:
        begun = saved.is_file()
        network = tokens(dropout=0.3, seed=int(begun))  # the weights of the checkpoint count, if there is one
        try:
            history = train(manifests, interrupt(network, after), options, batch_size=2, output=tmp_path)
        except Interrupted:
            assert after < math.inf and not list(tmp_path.glob("*.partial-*"))
            # in the first call of all nothing is saved; in a validation, all of its epoch is
            assert saved.is_file() == (begun or after > 2)
            if calls == [8, 3]:
                assert torch.load(saved)["step"] == 3 and torch.load(saved)["best"]["validated"] == 0
    assert begun == (calls != [1])
    check_same_run(history, tmp_path, *undisturbed)


def check_same_run(history, folder, expected, other):
    """Compare two runs in all that they say and save."""
    assert told(history.rows) == told(expected.rows)
    assert told([history.best]) == told([expected.best]) and history.stopped == expected.stopped
    assert told(read_log(folder / "log.csv")) == told(expected.rows)
    one, two = (torch.load(path / "checkpoint.pt") for path in (folder, other))
    for content in (one, two):
        del content["options"]["save_every"]
    assert same(one, two)
    assert (folder / "confusion.csv").read_text() == (other / "confusion.csv").read_text()
    assert same(torch.load(folder / "best.pt"), torch.load(other / "best.pt"))


def test_more_epochs_are_trained_and_it_is_said(manifests, tmp_path, capsys):
    train(manifests, model("small", 4, num_frames=4, size=32), Options(epochs=1), output=tmp_path)
    loader, validation = loaders(manifests)
    with loader, validation:
        history = fit(
            model("small", 4, num_frames=4, size=32, seed=1), loader, validation, Options(epochs=2), output=tmp_path
        )
    text = capsys.readouterr().out
    assert "was begun for 1 epochs, and goes on for 2" in text and "goes on with epoch 1 of 2, after step 3" in text
    assert [row["step"] for row in history.steps] == [1, 2, 3, 4, 5, 6] and len(history.validations) == 2
    # a run that is over has nothing to do
    again = train(manifests, model("small", 4, num_frames=4, size=32), Options(epochs=2), output=tmp_path)
    assert again.rows == history.rows and again.best == history.best


def test_training_stops_when_nothing_gets_better(manifests, tmp_path, capsys):
    options = Options(epochs=9, lr=1e-12, patience=2)
    loader, validation = loaders(manifests)
    with loader, validation:
        history = fit(tokens(), loader, validation, options, output=tmp_path)
    assert history.stopped and len(history.validations) == 3 and history.best == history.validations[0]
    assert "stopped: no better top1 than that of epoch 0 for 2 epochs" in capsys.readouterr().out
    again = train(manifests, tokens(), options, output=tmp_path)  # goes on with nothing
    assert again.stopped and again.rows == history.rows


def test_patience_counts_from_where_training_begins(manifests):
    """A loader at epoch 3: three epochs are trained, and not none."""
    loader, validation = loaders(manifests)
    with loader, validation:
        loader.set_epoch(3)
        history = fit(tokens(), loader, validation, Options(epochs=6, patience=2, lr=1e-12), progress=False)
    assert [row["epoch"] for row in history.validations] == [3, 4, 5]
    assert history.best == history.validations[0] and history.stopped
    never = Best("top1", 2, epoch=2, validated=3)
    assert [(never.update(float("nan")), never.stops) for _ in range(2)] == [(False, False), (False, True)]


def test_a_log_that_is_lost_or_not_one(manifests, tmp_path, capsys):
    """Without it the best epoch is still known, and it is said; another file is refused in one sentence."""
    network, log = tokens(), tmp_path / "log.csv"
    history = train(manifests, network, Options(epochs=1), output=tmp_path)
    text = log.read_text()
    for content, message in (
        (b"step,epoch\n", "log.csv: is not a log of examples/train.py: its columns are not step, epoch"),
        (text.replace("1,0,", "1,0,x", 1).encode(), "log.csv, line 2: could not convert string to float: 'x"),
        (text.replace("1,0,", ",0,", 1).encode(), "log.csv, line 2: has no step or epoch"),
        ((text + "1,2\n").encode(), "log.csv, line 6: has 2 columns instead of 11"),
        (b"\xff\xfe", "log.csv: is not a log of examples/train.py: it is not text"),
    ):
        log.write_bytes(content)
        with pytest.raises(checkpoints.CheckpointError, match=f"{message}.*; restore it, or remove it"):
            train(manifests, network, Options(epochs=2), output=tmp_path)
        assert log.read_bytes() == content
    log.unlink()
    loader, validation = loaders(manifests)
    with loader, validation:
        again = fit(tokens(), loader, validation, Options(epochs=1), output=tmp_path)
    assert again.best == history.best and again.rows == []
    told = capsys.readouterr().out
    assert "log.csv is not there: its rows up to step 3 are lost" in told
    assert "has trained 1 epochs, of 1: nothing is left to do" in told and "goes on with" not in told


def test_a_checkpoint_says_mixed_precision_and_the_size_of_batches(manifests, tmp_path, capsys):
    train(manifests, tokens(), Options(epochs=1, amp="bfloat16"), output=tmp_path)
    saved = [torch.load(tmp_path / name) for name in ("best.pt", "checkpoint.pt")]
    assert [content["amp"] for content in saved] == ["bfloat16"] * 2 and saved[1]["batch"] == 4
    loader, validation = loaders(manifests, 6)
    with loader, validation:
        history = fit(tokens(), loader, validation, Options(epochs=2, amp="bfloat16"), output=tmp_path)
    assert "its batches had 4 clips, of all processes, and have 6 from here on" in capsys.readouterr().out
    assert [row["step"] for row in history.steps] == [1, 2, 3, 4, 5]


def test_what_is_best_depends_on_the_figure():
    top1, loss = Best("top1", 2), Best("loss", None)
    values = [0.3, 0.5, 0.5, float("nan"), 0.6]
    assert [top1.update(value) for value in values] == [True, True, False, False, True]
    assert (top1.value, top1.epoch, top1.validated, top1.stops) == (0.6, 4, 5, False)
    assert [loss.update(value) for value in values] == [True, False, False, False, False]
    assert (loss.value, loss.epoch, loss.stops) == (0.3, 0, False)
    other = Best("top1", 2)
    other.load_state_dict({"value": 0.5, "epoch": 1, "validated": 4})
    assert other.stops and not Best("top1", 3).stops
    assert not Best("top1", 2).update(None)


def test_a_loss_that_is_not_finite_ends_it_and_is_not_saved(manifests, tmp_path):
    with pytest.raises(
        TrainingError, match=r"step \d, epoch 0: the loss is .*: lower lr \(here [\d.e+]+\), or set clip_norm"
    ):
        train(manifests, tokens(), Options(epochs=1, lr=1e30, warmup_epochs=0, save_every=1), output=tmp_path)
    saved = tmp_path / "checkpoint.pt"
    if saved.is_file():
        assert all(value.isfinite().all() for value in torch.load(saved)["model"].values())


# ---- Checkpoints and logs


@pytest.fixture(scope="module")
def checkpoint(undisturbed):
    return (undisturbed[1] / "checkpoint.pt").read_bytes()


def test_a_damaged_checkpoint_is_refused_in_one_sentence(checkpoint, undisturbed, manifests, tmp_path):
    """Cut at 20 places, and 60 bytes that are others: refused, or nothing of it is another."""
    path, drawn, refused = tmp_path / "checkpoint.pt", random.Random(0), 0
    expected = checkpoints.read(undisturbed[1] / "checkpoint.pt")
    cuts = [checkpoint[: drawn.randrange(len(checkpoint))] for _ in range(20)]
    flips = [(drawn.randrange(len(checkpoint)), drawn.randrange(1, 256)) for _ in range(60)]
    for data_of in cuts + [checkpoint[:at] + bytes([checkpoint[at] ^ by]) + checkpoint[at + 1 :] for at, by in flips]:
        path.write_bytes(data_of)
        try:
            assert same(checkpoints.read(path), expected)
        except checkpoints.CheckpointError as error:
            refused += 1
            text = str(error)
            assert text.startswith(f"{path}: is ") and "\n" not in text and "remove it to begin anew" in text
    assert refused >= 70
    with pytest.raises(checkpoints.CheckpointError, match="checkpoint.pt: is "):
        train(manifests, tokens(), Options(**VARIED), batch_size=2, output=tmp_path)


def test_other_files_are_no_checkpoints(manifests, tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": {}}, path)
    with pytest.raises(checkpoints.CheckpointError, match=r"checkpoint.pt: is not a checkpoint of examples/train.py"):
        train(manifests, tokens(), Options(), output=tmp_path)
    path.write_text("no checkpoint")
    with pytest.raises(
        checkpoints.CheckpointError, match=r"is no checkpoint, or is damaged \(File is not a zip file\)"
    ):
        train(manifests, tokens(), Options(), output=tmp_path)
    with pytest.raises(FileNotFoundError):
        checkpoints.read(tmp_path / "other.pt")


OF_OTHERS = {
    "is of another model: hidden_size 16 instead of 8": lambda run: run.update(
        network=tokens(dropout=0.3, hidden_size=8)
    ),
    "is of another model: .*name 'videomae' instead of 'small'": lambda run: run.update(
        network=model("small", 4, num_frames=4, size=32)
    ),
    "is of a run with other options: lr 0.01 instead of 0.02; give the same": lambda run: run.update(lr=0.02),
    "other options: ema 0.7 instead of None": lambda run: run.update(ema=None),
    "is of another data set, recipe or seed: .*seed is 1, the state's 0": lambda run: run.update(seed=1),
    "is of another data set, recipe or seed: .*recipe has .*RandomHorizontalFlip": lambda run: run.update(
        change=lambda recipes: replace(recipes, train=recipes.validation)
    ),
    "is of another validation set: .*recipe": lambda run: run.update(
        change=lambda recipes: replace(recipes, validation=data.with_views(recipes.validation, 2))
    ),
    "is of another data set, recipe or seed: .*the manifest has": lambda run: run.update(
        manifests=lambda both: [both[0].select(slice(0, 10)), both[1]]
    ),
    "is of another validation set: .*the manifest has": lambda run: run.update(
        manifests=lambda both: [both[0], both[1].select(slice(0, 10))]
    ),
}


@pytest.mark.parametrize("message", OF_OTHERS)
def test_a_checkpoint_of_another_run_is_refused(message, undisturbed, manifests):
    """Another model, options, seed, recipe or data set: one sentence, and the folder is as it was."""
    folder, run = undisturbed[1], {}
    OF_OTHERS[message](run)
    recipes = data.default_recipes(num_frames=4, size=32)
    recipes, both = run.get("change", lambda x: x)(recipes), run.get("manifests", lambda x: x)(manifests)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    loader, validation = data.make_loaders(*both, recipes, 2, seed=run.get("seed", 0), num_threads=1)
    options = Options(**VARIED | {name: run[name] for name in ("lr", "ema") if name in run})
    with loader, validation, pytest.raises(checkpoints.CheckpointError, match=message) as error:
        fit(run.get("network", tokens(dropout=0.3)), loader, validation, options, output=folder, progress=False)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(folder / "checkpoint.pt"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_weights_alone_are_not_gone_on_with_but_begun_from(undisturbed, manifests, tmp_path):
    best = undisturbed[1] / "best.pt"
    (tmp_path / "checkpoint.pt").write_bytes(best.read_bytes())
    with pytest.raises(checkpoints.CheckpointError, match="has weights alone: begin with --weights"):
        train(manifests, tokens(dropout=0.3), Options(), output=tmp_path)


def test_a_checkpoint_that_is_being_written_when_the_program_ends_is_not_used(tmp_path):
    """The one before stays whole, and nothing else is left."""

    class Ends:
        def __reduce__(self):
            raise Interrupted

    checkpoints.save({"step": 3}, tmp_path / "c.pt")
    with pytest.raises(Interrupted):
        checkpoints.save({"model": torch.zeros(10**6), "step": Ends()}, tmp_path / "c.pt")
    assert checkpoints.read(tmp_path / "c.pt")["step"] == 3 and [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_a_log_has_floats_exactly_and_forgets_what_is_made_again(tmp_path):
    path, values = tmp_path / "log.csv", [0.1, 1 / 3, 1e-300, 123456789.123456789, float(np.float32(2.3))]
    log = Log(path, True)
    log.begin()
    rows = [dict(step=i + 1, epoch=0, loss=value, lr=value, grad_norm=value) for i, value in enumerate(values)]
    validated = dict(step=5, epoch=0, validation_loss=0.1, validation_top1=0.2)
    log.add(rows[:3])
    log.add([*rows[3:], validated])
    log.close()
    assert read_log(path) == [*rows, validated] and path.read_text().splitlines()[0] == ",".join(COLUMNS)
    path.write_text(path.read_text() + "6,1,0.25,0.")  # as a machine that loses power leaves it
    assert read_log(path) == [*rows, validated]
    for step, epochs, left in ((5, 1, [*rows, validated]), (5, 0, rows), (2, 0, rows[:2]), (0, 0, [])):
        again = Log(path, False)
        again.go_on(step, epochs)
        again.begin()  # of another rank: it writes nothing
        assert again.rows == left and path.read_text().endswith("0.25,0.")
    first = Log(path, True)
    first.go_on(2, 0)
    first.begin()
    first.close()
    assert read_log(path) == rows[:2]
    path.write_text("a,b\n1,2\n")
    with pytest.raises(
        ValueError, match=r"log.csv: is not a log of examples/train.py: its columns are not step, epoch"
    ):
        read_log(path)


def test_the_curve_shows_each_run_where_its_figures_are():
    """A dot for each validation, in the colour of its run, at the height of its accuracy; colours are of the legend."""
    runs = {}
    for i, name in enumerate(("one", "two")):
        steps = [dict(step=s, epoch=0, loss=2.0 - 0.1 * s, lr=0.1, grad_norm=1.0) for s in range(1, 12)]
        figures = dict(validation_loss=1.0, validation_top1=0.25 + 0.5 * i, validation_mean_class_accuracy=0.5)
        runs[name] = [*steps, dict(step=6, epoch=0, **figures), dict(step=11, epoch=1, **figures)]
    pixels = np.asarray(draw_curves(runs))
    top = 16 + 2 * 16 + 28 + 240 + 14 + 28  # margin, legend, title and panel of the loss, gap, title
    for i, colour in enumerate(COLOURS[:2]):
        for step in (6, 11):
            x, y = round(80 + (884 - 80) * (step - 1) / 10), round(top + 180 * (0.75 - 0.5 * i))
            assert (pixels[y, x] == colour).all(), (i, step)
        assert (pixels[16 + 16 * i + 6, 20] == colour).all()
    assert draw_curves({"empty": []}).size[0] == pixels.shape[1]


def test_a_run_leaves_a_picture(undisturbed):
    with Image.open(undisturbed[1] / "curve.png") as picture:
        assert picture.format == "PNG" and len(picture.convert("RGB").getcolors(1 << 20)) > 20
    assert {path.name for path in undisturbed[1].iterdir()} == {
        "checkpoint.pt", "best.pt", "log.csv", "curve.png", "confusion.csv",
    }  # fmt: skip


def test_tensorboard_that_is_missing_is_named(tmp_path):
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="--tensorboard needs TensorBoard: pip install tensorboard"):
            open_tensorboard(tmp_path, 1)
    else:
        open_tensorboard(tmp_path, 1).close()
        assert list(tmp_path.iterdir())


# ---- Validation


def evaluate_moved(network, manifest, recipe, folder):
    """Of files that are no videos, since the scan."""
    for i in range(len(manifest)):
        path = folder / Path(manifest.path(i)).relative_to(manifest.root)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0" * Path(manifest.path(i)).stat().st_size)
    moved = dv.Manifest(manifest.table, manifest.classes, folder)
    with dv.VideoLoader(moved, recipe, 1, shuffle=False, drop_last=False, on_error="skip", device="cpu") as loader:
        evaluate(network, loader)


def test_figures_are_those_of_each_video_counted_by_hand(manifests, tmp_path):
    """Top-1, mean class accuracy, loss and the matrix of 3 places and 3 crops, against clips made one by one."""
    network = model("small", 4, num_frames=4, size=32, seed=5).train()
    recipes = data.default_recipes(num_frames=4, size=32)
    recipe = data.with_views(recipes.validation, 3, 3)
    assert recipe.num_clips == 9 and isinstance(recipe.ops[1], dv.ThreeCrop)
    train_manifest, validation = manifests
    labels = validation.labels
    _, loader = data.make_loaders(*manifests, replace(recipes, validation=recipe), 4, num_threads=1)
    with loader:
        result = evaluate(network, loader)
        assert network.training
        network.eval()
        matrix, losses = np.zeros((4, 4), int), []
        for i in range(len(validation)):
            batch = loader.apply(dv.draw_plan(validation, recipe, [i] * 9, views=range(9)))
            with torch.no_grad():
                probabilities = network(batch.clips).double().softmax(1).mean(0)
            matrix[labels[i], int(probabilities.argmax())] += 1
            losses.append(-math.log(probabilities[labels[i]]))
        again = evaluate(network, loader)
    assert (result.confusion() == matrix).all() and matrix.sum() == 11
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-5)
    figures = result.figures()
    assert figures["top1"] == pytest.approx(np.trace(matrix) / 11) and figures["top5"] == 1.0
    assert figures["mean_class_accuracy"] == pytest.approx((np.diag(matrix) / matrix.sum(1)).mean())
    assert not network.training and again.figures() == figures
    with pytest.raises(EvaluationError, match="validation: none of 11 videos has a label and could be decoded: .*: "):
        evaluate_moved(network, validation, replace(recipe), tmp_path)
    assert train_manifest.classes == result.classes or tuple(train_manifest.classes) == result.classes


def test_videos_that_training_would_be_wrong_with_are_refused(manifests, numbered_manifest):
    loader, _ = loaders(manifests)
    recipes = data.default_recipes(num_frames=4, size=32)
    for make, message in (
        (lambda: (dv.VideoLoader(manifests[0], recipes.train, 4, on_error="skip"), None), 'not have on_error="skip"'),
        (lambda: (dv.VideoLoader(manifests[0], recipes.train, 4, targets="index"), None), 'must have targets="soft"'),
        (lambda: (loader, dv.VideoLoader(numbered_manifest, recipes.validation, 4)), "has other classes than training"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            fit(tokens(), *make(), Options(epochs=1), progress=False)
    with pytest.raises(ValueError, match="patience needs videos for validation"):
        fit(tokens(), loader, None, Options(epochs=1, patience=1), progress=False)
    with pytest.raises(ValueError, match="sync_batch_norm needs GPUs"):
        fit(tokens(), loader, None, Options(epochs=1, sync_batch_norm=True), progress=False)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(epochs=0), "epochs must be a whole number >= 1, got 0"),
        (dict(lr=0), "lr must be > 0, got 0"),
        (dict(lr=float("nan")), "lr must be > 0, got nan"),
        (dict(weight_decay=-1), "weight_decay must be >= 0, got -1"),
        (dict(warmup_epochs=30), r"warmup_epochs must be in \[0, epochs=20\], got 30"),
        (dict(label_smoothing=1), r"label_smoothing must be in \[0, 1\), got 1"),
        (dict(layer_decay=0), r"layer_decay must be in \(0, 1\], got 0"),
        (dict(ema=1.0), r"ema must be in \(0, 1\), got 1.0"),
        (dict(clip_norm=0), "clip_norm must be > 0, got 0"),
        (dict(accumulate=1.5), "accumulate must be a whole number >= 1, got 1.5"),
        (dict(amp="float16"), "amp must be one of auto, off, bfloat16, got 'float16'"),
        (dict(monitor="top2"), "monitor must be one of top1, top5, mean_class_accuracy, loss, got 'top2'"),
        (dict(patience=0), "patience must be a whole number >= 1, got 0"),
        (dict(betas=(0.9,)), r"betas must be two numbers in \[0, 1\), got \(0.9,\)"),
        (dict(seed=-1), r"seed must be a whole number in \[0, 2\*\*63\), got -1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=f"Options: {message}"):
        Options(**options)
