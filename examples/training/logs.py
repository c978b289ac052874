"""What is written down of a run: a CSV file, TensorBoard, lines or a progress bar."""

import csv
import io
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dali_vidaug.data.atomic import written_whole
from training.ranks import num_ranks

STEP = ("step", "epoch", "loss", "lr", "grad_norm", "clips_per_second", "waiting")
VALIDATION = ("validation_loss", "validation_top1", "validation_top5", "validation_mean_class_accuracy")
COLUMNS = STEP + VALIDATION
WHOLE = ("step", "epoch")


class Log:
    """The rows of a run: one for each step, and one after each epoch with the figures of validation.

    Every rank has them; the first one writes them to ``log.csv``, where figures that a row does not have are empty, and
    others are written so that reading them gives the same floats.

    Args:
        path: of the file; None: nothing is written.
        writes: whether this rank does.

    Attributes:
        rows: from the beginning of the run.
    """

    def __init__(self, path: Path | None, writes: bool):
        self.rows: list[dict[str, float]] = []
        self._path, self._writes, self._file = path, writes and path is not None, None

    def go_on(self, step: int, epochs: int) -> None:
        """Take over the rows of the file up to a checkpoint: those behind it are made again.

        Args:
            step: that the checkpoint was written after.
            epochs: that were validated by then.
        """
        if self._path is not None and self._path.is_file():
            rows = read_log(self._path)
            self.rows = [row for row in rows if (row["epoch"] < epochs if is_validation(row) else row["step"] <= step)]

    def begin(self) -> None:
        """Write the rows so far."""
        if self._writes:
            with written_whole(self._path) as file:
                file.write(_as_csv(self.rows, header=True).encode())
            self._file = self._path.open("a")

    def add(self, rows: Iterable[dict[str, float]]) -> None:
        """Write rows, at once and together."""
        rows = list(rows)
        self.rows += rows
        if self._file:
            self._file.write(_as_csv(rows))
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
            self._file = None


def _as_csv(rows, header=False):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(COLUMNS)
    writer.writerows([["" if name not in row else repr(row[name]) for name in COLUMNS] for row in rows])
    return text.getvalue()


def read_log(path: str | Path) -> list[dict[str, float]]:
    """The rows of a log; a last line that was cut off is left out.

    Raises:
        OSError: there is no such file.
        ValueError: it is something else.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not a log of examples/train.py: it is not text") from None
    table = list(csv.reader(lines[:-1]))  # what comes after the last line's end is not whole
    if not table or tuple(table[0]) != COLUMNS:
        raise ValueError(f"{path}: is not a log of examples/train.py: its columns are not {', '.join(COLUMNS)}")
    rows = []
    for number, line in enumerate(table[1:], 2):
        if len(line) != len(COLUMNS):
            raise ValueError(f"{path}, line {number}: has {len(line)} columns instead of {len(COLUMNS)}")
        pairs = zip(COLUMNS, line, strict=True)
        try:
            row = {name: (int if name in WHOLE else float)(text) for name, text in pairs if text}
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        if not all(name in row for name in WHOLE):
            raise ValueError(f"{path}, line {number}: has no step or epoch")
        rows.append(row)
    return rows


def is_validation(row: dict[str, float]) -> bool:
    """Whether a row is of validation, and not of a step."""
    return VALIDATION[0] in row


def open_tensorboard(folder: Path, purge_step: int) -> Any:
    """A writer for TensorBoard.

    Args:
        folder: of its files.
        purge_step: from which on what is there already does not count.

    Raises:
        ImportError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("--tensorboard needs TensorBoard: pip install tensorboard") from error
    return SummaryWriter(str(folder), purge_step=purge_step)


class Progress:
    """A bar for an epoch where there is a terminal; elsewhere lines, which the files of a cluster keep.

    Args:
        shown: whether anything is.
        epoch: its number.
        total, first: batches in it, and those that were trained before.
    """

    def __init__(self, shown: bool, epoch: int, total: int, first: int):
        self._shown, self._epoch, self._total, self._done = shown, epoch, total, first
        # disable=None: no bar where stderr is not a terminal
        self._bar = tqdm(total=total, initial=first, desc=f"epoch {epoch}", unit=" batches", leave=False,
                         disable=None if shown else True)  # fmt: skip

    def batch(self) -> None:
        """Another batch is done."""
        self._done += 1
        self._bar.update()

    def figures(self, rows: list[dict[str, float]]) -> None:
        """Show the latest step's."""
        row = rows[-1]
        if self._bar.disable and self._shown:
            where = f"epoch {self._epoch}, batch {self._done} of {self._total}, step {row['step']}"
            print(f"{where}: loss {row['loss']:.6f}", flush=True)
        rate, waits = f"{row['clips_per_second']:.1f} clips/s", f"waits {row['waiting']:.0%}"
        self._bar.set_postfix_str(f"loss {row['loss']:.3f}, lr {row['lr']:.2g}, {rate}, {waits}")

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()


class Clock:
    """How many clips came since the last look, and which share of the time was spent waiting for them."""

    def __init__(self):
        self._begin()

    def _begin(self):
        self._started, self._waited, self._clips = time.perf_counter(), 0.0, 0

    def wait(self, batches):
        """The next batch."""
        started = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - started
        self._clips += len(batch)
        return batch

    def rates(self):
        """Clips a second of all ranks, and the share of this rank."""
        seconds = time.perf_counter() - self._started
        rate, waiting = self._clips * num_ranks() / seconds, self._waited / seconds
        found = {"clips_per_second": round(rate, 3), "waiting": round(waiting, 4)}
        self._begin()
        return found
