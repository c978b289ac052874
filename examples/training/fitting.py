"""The loop: trains, validates, writes down, and goes on after whatever ended it, as if it had not."""

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

import dali_vidaug as dv
from dali_vidaug.data.atomic import written_whole
from training import checkpoints
from training.checks import check_loaders
from training.curve import draw_curves
from training.evaluation import CONFUSION_CLASSES, Evaluation, confusion_csv, evaluate
from training.logs import Clock, Log, Progress, is_validation, open_tensorboard
from training.optimization import Best, learning_rate, make_optimizer, set_learning_rate
from training.options import Options
from training.ranks import is_parallel, mean_over_ranks, rank, same_on_all, wait_for_all


class TrainingError(RuntimeError):
    """Training cannot go on."""


@dataclass(frozen=True, eq=False)
class History:
    """What became of a run.

    Attributes:
        rows: of its log (``logs.COLUMNS``), from the beginning, also when it was interrupted.
        best: the row of validation with the best figure, also of a log that was deleted; None without validation.
        stopped: whether patience ended it.
    """

    rows: list[dict[str, float]]
    best: dict[str, float] | None
    stopped: bool

    @property
    def steps(self) -> list[dict[str, float]]:
        """The rows of steps."""
        return [row for row in self.rows if not is_validation(row)]

    @property
    def validations(self) -> list[dict[str, float]]:
        """The rows of validation, one for each epoch."""
        return [row for row in self.rows if is_validation(row)]


def fit(
    network: nn.Module, loader: dv.VideoLoader, validation: dv.VideoLoader | None = None,
    options: Options | None = None, *, output: str | Path | None = None, average: str = "softmax",
    progress: bool = True, tensorboard: bool = False,
) -> History:  # fmt: skip
    """Train a network; in several processes, if torch.distributed is initialised.

    On a CPU the result is the same, bit for bit, for the same arguments, if torch computes with one thread; torch's own
    random numbers stay as they were.

    Args:
        network: takes clips, (B, 3, F, H, W), and returns scores, (B, K). Holds the last weights afterwards.
        loader: the clips to train on. Goes on where it is.
        validation: those to validate with after each epoch, as for ``evaluate``; or None.
        options: default: ``Options()``.
        output: folder for checkpoint.pt, best.pt, log.csv, curve.png and confusion.csv. With a checkpoint in it, the
            run goes on from there. None: nothing is written.
        average: over views, as for ``evaluate``.
        progress: show a bar, or lines.
        tensorboard: write for TensorBoard too, in ``output``.

    Raises:
        checkpoints.CheckpointError: the checkpoint or the log in ``output`` is damaged, or of another run.
        EvaluationError: no video for validation could be decoded.
        ImportError: TensorBoard or torchmetrics is not installed.
        TrainingError: the loss or the gradients are no longer finite.
        ValueError: the options do not suit the network, or the videos have no labels.
    """
    options = options or Options()
    check_loaders(loader, validation, options)
    run = _Run(network, loader, validation, options, None if output is None else Path(output), average, progress)
    run.resume()
    if tensorboard and output is not None and rank() == 0:
        run.board = open_tensorboard(run.output / "tensorboard", run.step + 1)
    devices = [run.device] if run.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            while run.best.validated < options.epochs and not run.best.stops:
                if loader.epoch <= run.best.validated:  # else it was trained, and the end came before its validation
                    run.train_epoch(run.best.validated)
                run.finish_epoch()
    finally:
        run.log.close()
        if run.board:
            run.board.close()
    if run.best.stops and run.shows:
        than = f"than that of epoch {run.best.epoch}" if run.best.row else "than none at all"
        print(f"stopped: no better {options.monitor} {than} for {options.patience} epochs")
    return History(run.log.rows, run.best.row, run.best.stops)


class _Run:
    """What a run consists of, and its steps."""

    def __init__(self, network, loader, validation, options, output, average, progress):
        self.loader, self.validation, self.options, self.output = loader, validation, options, output
        self.average, self.shows, self.step, self.board = average, progress and rank() == 0, 0, None
        gpu = loader.device == "gpu"
        self.device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
        amp = options.amp
        if amp == "auto":
            amp = "bfloat16" if gpu and torch.cuda.is_bf16_supported() else "off"
        self.amp = amp
        network.to(self.device)
        if options.sync_batch_norm and is_parallel():
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self.network = self.wrapped = network.train()
        if is_parallel():
            self.wrapped = nn.parallel.DistributedDataParallel(network, [self.device.index] if gpu else None)
        self.optimizer = make_optimizer(network, options)
        self.ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(options.ema)) if options.ema else None
        self.best = Best(options.monitor, options.patience, epoch=loader.epoch - 1, validated=loader.epoch)
        self.log = Log(None if output is None else output / "log.csv", rank() == 0)
        self.about = getattr(network, "about", {"name": type(network).__name__})

    # ---- Checkpoints

    def resume(self):
        """Go on from the checkpoint in ``output``, if there is one."""
        path = self.output and self.output / "checkpoint.pt"
        if path and rank() == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        wait_for_all()
        found = path is not None and path.is_file()
        if found:
            content = checkpoints.read(path)
            said = checkpoints.check(path, content, self.about, asdict(self.options), self._batch)
            self._take_over(path, content)
            said += self._take_over_log()
        if not same_on_all((self.step, self.loader.epoch)):
            raise checkpoints.CheckpointError(
                f"{path}: the processes found different ones: the folder must be one that all of them reach"
            )
        self.log.begin()
        if found and self.shows:
            for sentence in said:
                print(f"{path}: {sentence}")
            if self.best.validated < self.options.epochs:
                epochs = f"epoch {self.loader.epoch} of {self.options.epochs}"
                print(f"{path}: goes on with {epochs}, after step {self.step}", flush=True)

    @property
    def _batch(self):
        """Clips in a batch, of all processes."""
        return self.loader.schedule.step

    def _take_over_log(self):
        """The rows of the log up to the checkpoint; sentences on what is missing."""
        path = self.output / "log.csv"
        try:
            self.log.go_on(self.step, self.best.validated)
        except ValueError as error:
            raise checkpoints.CheckpointError(f"{error}; restore it, or remove it to go on without its rows") from error
        if self.step and not self.log.rows:
            return [f"{path.name} is not there: its rows up to step {self.step} are lost"]
        return []

    def _take_over(self, path, content):
        parts = {"loader": (self.loader, "another data set, recipe or seed")}
        if self.validation is not None and content["validation"] is not None:
            parts["validation"] = self.validation, "another validation set"
        for name, (part, what) in parts.items():
            try:
                part.load_state_dict(content[name])
            except ValueError as error:
                told = str(error).removeprefix("VideoLoader: the state is of another loader: ")
                raise checkpoints.CheckpointError(f"{path}: is of {what}: {told}") from error
        try:
            self.network.load_state_dict(content["model"])
            if self.ema:
                self.ema.load_state_dict(content["ema"])
        except RuntimeError as error:
            told = str(error).splitlines()[-1].strip()
            raise checkpoints.CheckpointError(f"{path}: is of another model: {told}") from error
        try:
            self.optimizer.load_state_dict(content["optimizer"])
        except ValueError as error:  # of an older version, which has other groups
            raise checkpoints.CheckpointError(f"{path}: is of another optimiser: {error}") from error
        self.best.load_state_dict(content["best"])
        self.step = content["step"]

    def save(self):
        """Write checkpoint.pt: all that changes."""
        if self.output is None or rank():
            return
        content = {
            "about": self.about,
            "options": asdict(self.options),
            "classes": list(self.loader.manifest.classes),
            "recipe": self.validation and repr(self.validation.recipe),
            "average": self.average,
            "amp": self.amp,
            "batch": self._batch,
            "model": self.network.state_dict(),
            "ema": self.ema and self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loader": self.loader.state_dict(),
            "validation": self.validation and self.validation.state_dict(),
            "best": self.best.state_dict(),
            "step": self.step,
        }
        checkpoints.save(content, self.output / "checkpoint.pt")

    # ---- Training

    def train_epoch(self, epoch):
        """The rest of an epoch, which is all of it unless the run was interrupted there."""
        self.loader.set_epoch(epoch)  # keeps the place of a checkpoint in this epoch
        schedule, options = self.loader.schedule, self.options
        total, done = schedule.batches_in(epoch), self.loader.state_dict()["batch"]
        bar = Progress(self.shows, epoch, total, done)
        batches, clock, rows = iter(self.loader), Clock(), []
        while done < total:
            parts = min(options.accumulate, total - done)
            samples = schedule.given_before(epoch) + (done + parts / 2) * schedule.step  # up to the middle of the step
            lr = learning_rate(epoch + samples / schedule.num_samples, options)
            set_learning_rate(self.optimizer, lr)
            figures = self.make_step(batches, parts, clock, bar)
            done += parts
            rows.append(({"step": self.step, "epoch": epoch, "lr": lr}, figures))
            saves = self.step % options.save_every == 0 or done == total  # validation may take long
            if saves or self.step % options.log_every == 0:
                bar.figures(self.write_down(rows, clock))
                rows = []
            if saves:
                self.save()
        next(batches, None)  # the loader's own figures are complete then
        bar.close()

    def make_step(self, batches, parts, clock, bar):
        """Take some batches, and a step with the mean of their gradients: its loss and the norm of the gradients."""
        losses = []
        for part in range(parts):
            batch = clock.wait(batches)
            seed_torch(self.options.seed, self.step, part, rank())
            waits = is_parallel() and part < parts - 1  # with the exchange of gradients, for the last one
            with self.wrapped.no_sync() if waits else nullcontext():
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp == "bfloat16"):
                    scores = self.wrapped(batch.clips)
                smoothing = self.options.label_smoothing
                loss = functional.cross_entropy(scores.float(), batch.targets, label_smoothing=smoothing)
                (loss / parts).backward()
            losses.append(loss.detach())
            bar.batch()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip_norm or float("inf"))
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update_parameters(self.network)
        self.step += 1
        return torch.stack((torch.stack(losses).mean(), norm))

    def write_down(self, rows, clock):
        """Fetch the figures of steps, which are on the device until then, and write them down; returns the rows."""
        figures = mean_over_ranks(torch.stack([figures for _, figures in rows])).tolist()
        rates = clock.rates()
        for (row, _), (loss, norm) in zip(rows, figures, strict=True):
            if not np.isfinite((loss, norm)).all():
                raise TrainingError(
                    f"step {row['step']}, epoch {row['epoch']}: the loss is {loss}, the norm of its gradients {norm}: "
                    f"lower lr (here {row['lr']:.2g}), or set clip_norm"
                )
            row |= {"loss": loss, "grad_norm": norm, **rates}
        found = [row for row, _ in rows]
        self._add(found)
        return found

    def finish_epoch(self):
        """Validate, keep what is best, and write a checkpoint."""
        epoch, result = self.best.validated, None
        if self.validation is not None:
            shown = self.shows and (lambda loader: tqdm(loader, "validation", leave=False, disable=None))
            network = self.ema.module if self.ema else self.network
            result = evaluate(network, self.validation, amp=self.amp, average=self.average, progress=shown or None)
        figures = result.figures() if result else {}
        row = {"step": self.step, "epoch": epoch} | {f"validation_{name}": value for name, value in figures.items()}
        better = self.best.update(figures.get(self.options.monitor), row)
        if result:
            self._add([row])
            if self.shows:
                print(f"epoch {epoch}: {result}{', the best so far' if better else ''}", flush=True)
        if better and self.output and rank() == 0:
            self._save_best(network, result, epoch)
        self.save()
        if self.output and rank() == 0:
            with written_whole(self.output / "curve.png") as file:
                draw_curves({str(self.output): self.log.rows}).save(file, "PNG")

    def _save_best(self, network, result: Evaluation, epoch):
        content: dict[str, Any] = {
            "about": self.about, "classes": list(result.classes), "epoch": epoch, "figures": result.figures(),
            "recipe": repr(self.validation.recipe), "average": self.average, "amp": self.amp,
            "model": network.state_dict(),
        }  # fmt: skip
        checkpoints.save(content, self.output / "best.pt")
        if len(result.classes) <= CONFUSION_CLASSES:
            with written_whole(self.output / "confusion.csv") as file:
                file.write(confusion_csv(result).encode())

    def _add(self, rows):
        self.log.add(rows)
        for row in rows if self.board else ():
            for name in row.keys() - {"step", "epoch"}:
                self.board.add_scalar(name, row[name], row["step"])


def seed_torch(*address: int) -> None:
    """Let dropout and the like draw what belongs to an address: nothing of torch's has to be saved to go on."""
    torch.manual_seed(int(np.random.SeedSequence(address).generate_state(1, np.uint64)[0] >> np.uint64(1)))
