"""Scores of clips, added up by video: accuracy over views, batches and ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import distributed

from dali_vidaug.batch import Batch
from dali_vidaug.errors import printable
from dali_vidaug.rng import MAX_REPEAT, MAX_VIEW, whole_numbers

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from dali_vidaug.data.manifest import Manifest

_AVERAGES = ("softmax", "logits", "sigmoid")


@dataclass(frozen=True, eq=False)
class VideoResult:
    """How well videos were told. A video is a row of the manifest; each counts once.

    Attributes:
        top1, top5: shares of the videos whose label has the best score, or is among the five best (of fewer classes:
            among all); NaN without labelled videos, and with several labels a video.
        mean_class_accuracy: the mean, over the classes that have videos, of the share of their videos that are right.
        mean_average_precision: with several labels a video: the mean over the classes that have videos; otherwise NaN.
        num_videos: videos that the figures are of.
        missing: videos with a label of which no clip came.
        incomplete: videos that have fewer clips than others; the mean over those that came counts.
        unlabelled: videos that have scores, but no label.
        samples: (M,) int64, the videos that have scores, rising.
        scores: (M, K) float64, the mean score of each.
        num_clips: (M,) int64, how many clips the mean is of.
    """

    top1: float
    top5: float
    mean_class_accuracy: float
    mean_average_precision: float
    num_videos: int
    missing: int
    incomplete: int
    unlabelled: int
    samples: np.ndarray
    scores: torch.Tensor
    num_clips: np.ndarray

    def __str__(self) -> str:
        rates = {
            "top-1": self.top1, "top-5": self.top5, "mean class accuracy": self.mean_class_accuracy,
            "mAP": self.mean_average_precision,
        }  # fmt: skip
        told = ", ".join(f"{name} {rate:.1%}" for name, rate in rates.items() if rate == rate)
        counts = {"missing": self.missing, "incomplete": self.incomplete, "without a label": self.unlabelled}
        others = "".join(f", {count} {name}" for name, count in counts.items() if count)
        return f"{told or 'no figures'} of {self.num_videos} videos{others}"


class VideoScores:
    """Adds up the scores of clips by video, over views, batches and ranks.

    Each clip counts once, by its row of the manifest, its view and its repeat, on whichever ranks and however often it
    came; so does each video. When torch.distributed is initialised, ``compute`` puts the ranks together. Scores are
    kept on the CPU until then, 4 bytes for each clip and class.

    Args:
        manifest: has the labels; that of the loader.
        average: what is averaged over the clips of a video: "softmax", probabilities; "logits", the scores as they are;
            or "sigmoid", for several labels a video. None: sigmoid where videos have several labels, else softmax.

    Raises:
        ImportError: torchmetrics is not installed, or cannot be imported.
        ValueError: an option is out of range, or there are fewer than two classes.
    """

    def __init__(self, manifest: Manifest, average: str | None = None):
        _import_torchmetrics()
        if not hasattr(manifest, "classes"):
            raise ValueError(f"VideoScores: manifest must be a Manifest, got {manifest!r}")
        average = ("sigmoid" if manifest.multi_label else "softmax") if average is None else average
        if average not in _AVERAGES:
            raise ValueError(f"VideoScores: average must be {', '.join(_AVERAGES)} or None, got {average!r}")
        if len(manifest.classes) < 2:
            raise ValueError(f"VideoScores: the manifest must have at least 2 classes, got {len(manifest.classes)}")
        self.manifest, self.average = manifest, average
        self.reset()

    def reset(self) -> None:
        """Forget all scores."""
        self._scores: dict[int, torch.Tensor] = {}  # (K,) float32 of each clip, by its number
        self._epoch: int | None = None

    def update(self, scores: torch.Tensor, batch: Batch | tuple[ArrayLike, ArrayLike]) -> None:
        """Add the scores of clips.

        Args:
            scores: (B, K), what the network returned: before softmax or sigmoid.
            batch: the clips, as the loader gave them; or their manifest rows and their views, (B,) int each.

        Raises:
            ValueError: the scores are of another shape, or not finite; the clips are mixed, or of another epoch than
                those before; a row or a view is out of range.
        """
        if isinstance(batch, Batch):
            samples, views, repeat_index = batch.plan.samples, batch.plan.views, batch.plan.repeat_index
            for name, op in batch.plan.recipe.pixel_ops:
                if hasattr(op, "mixed_with") and (np.asarray(op.mixed_with(batch.plan.args[name])[1]) < 1).any():
                    raise ValueError(f"VideoScores: {name} has mixed clips of the batch with others; test without it")
            if self._epoch not in (None, batch.epoch):
                raise ValueError(
                    f"VideoScores: there are scores of epoch {self._epoch}, and the batch is of epoch {batch.epoch}; "
                    "call reset() before each epoch"
                )
        else:
            samples, views = (whole_numbers(f"VideoScores: {name}", column)
                              for name, column in zip(("samples", "views"), batch, strict=True))  # fmt: skip
            repeat_index = np.zeros_like(samples)
        for name, column, limit in (("samples", samples, len(self.manifest)), ("views", views, MAX_VIEW)):
            if column.shape != samples.shape or not ((column >= 0) & (column < limit)).all():
                raise ValueError(f"VideoScores: {name} must be {len(samples)} numbers in [0, {limit}), got {column}")
        rows = self._averaged(scores, samples)
        if isinstance(batch, Batch):
            self._epoch = batch.epoch
        numbers = (samples * MAX_VIEW + views) * MAX_REPEAT + repeat_index
        for number, row in zip(numbers.tolist(), rows, strict=True):
            self._scores.setdefault(number, row)

    def _averaged(self, scores, samples):
        """What is averaged over clips: (B, K) float32 on the CPU."""
        shape = len(samples), len(self.manifest.classes)
        if not isinstance(scores, torch.Tensor) or scores.shape != shape or not scores.is_floating_point():
            got = f"{tuple(scores.shape)} {scores.dtype}" if isinstance(scores, torch.Tensor) else repr(scores)
            raise ValueError(f"VideoScores: scores must be {shape} floats, of clips and classes, got {got}")
        scores = scores.detach().float().cpu()
        finite = scores.isfinite().all(1)
        if not finite.all():
            sample = int(samples[int((~finite).int().argmax())])
            path = printable(self.manifest.path(sample))
            raise ValueError(f"VideoScores: scores must be finite, got NaN or infinity for {path} (sample {sample})")
        if self.average == "logits":
            return scores.clone()
        return scores.softmax(1) if self.average == "softmax" else scores.sigmoid()

    def compute(self, missing: str = "count") -> VideoResult:
        """The figures of all ranks, the same on each. All ranks must call it.

        Args:
            missing: "count" says how many videos have no clip, or fewer than others; "raise": that is an error.

        Raises:
            ValueError: with ``missing="raise"``, a video has no clip, or fewer than others; or the option is unknown.
        """
        if missing not in ("count", "raise"):
            raise ValueError(f"VideoScores: missing must be count or raise, got {missing!r}")
        samples, means, counts = self._means()
        targets = self.manifest.targets(np.arange(len(self.manifest))) if self.manifest.multi_label else None
        labelled = np.asarray(self.manifest.labels >= 0 if targets is None else targets.any(1))
        known = labelled[samples]
        lost = np.setdiff1d(np.flatnonzero(labelled), samples)
        short = samples[counts < counts.max()] if len(samples) else samples
        for what, rows in (("no clip", lost), ("fewer clips than others", short)):
            if len(rows) and missing == "raise":
                path = printable(self.manifest.path(int(rows[0])))
                raise ValueError(f"VideoScores: {len(rows)} videos have {what}, such as {path} (sample {rows[0]})")
        chosen = means[torch.from_numpy(known)]
        names = "top1", "top5", "mean_class_accuracy", "mean_average_precision"
        rates = dict.fromkeys(names, float("nan"))
        if targets is not None:
            rates["mean_average_precision"] = _average_precision(chosen, torch.from_numpy(targets[samples[known]]))
        else:
            rates |= _accuracies(chosen, torch.from_numpy(self.manifest.labels[samples[known]]))
        return VideoResult(
            **rates, num_videos=int(known.sum()), missing=len(lost), incomplete=len(short),
            unlabelled=int((~known).sum()), samples=samples, scores=means, num_clips=counts,
        )  # fmt: skip

    def _means(self):
        """Of all ranks: the videos, (M,), their mean scores, (M, K) float64, and numbers of clips, (M,)."""
        mine = np.array(sorted(self._scores), np.int64)
        every = [mine]
        together = distributed.is_available() and distributed.is_initialized()
        if together:
            every = [mine] * distributed.get_world_size()
            distributed.all_gather_object(every, mine)
            for other in every[: distributed.get_rank()]:
                mine = np.setdiff1d(mine, other)  # a clip that several ranks have is the first one's
        clips = np.unique(np.concatenate(every))
        samples, counts = np.unique(clips // (MAX_VIEW * MAX_REPEAT), return_counts=True)
        sums = torch.zeros(len(samples), len(self.manifest.classes), dtype=torch.float64)
        places = np.searchsorted(samples, mine // (MAX_VIEW * MAX_REPEAT))
        for place, number in zip(places.tolist(), mine.tolist(), strict=True):
            sums[place] += self._scores[number]
        if together:
            on_gpu = distributed.get_backend() == "nccl"
            sums = sums.cuda() if on_gpu else sums
            distributed.all_reduce(sums)
        return samples, sums.cpu() / torch.from_numpy(counts)[:, None], counts


def _import_torchmetrics() -> Any:
    """The functions of torchmetrics for classification."""
    try:
        from torchmetrics.functional import classification
    except ImportError as error:
        raise ImportError("VideoScores needs torchmetrics: pip install 'dali_vidaug[metrics]'") from error
    except RuntimeError as error:  # of a torchvision that is for another torch, which torchmetrics imports
        raise ImportError(f"VideoScores: torchmetrics cannot be imported: {error}") from error
    return classification


def _accuracies(scores, labels):
    """Top-1, top-5 and mean class accuracy of (M, K) scores and (M,) labels, by name."""
    if not len(labels):
        return {}
    accuracy, classes = _import_torchmetrics().multiclass_accuracy, scores.shape[1]
    top1, top5 = (
        float(accuracy(scores, labels, classes, average="micro", top_k=min(k, classes))) for k in (1, 5)
    )  # fmt: skip
    # Not torchmetrics' own mean: in it, a class without videos counts as wrong once something is taken for it.
    by_class = accuracy(scores, labels, classes, average="none")
    return {"top1": top1, "top5": top5, "mean_class_accuracy": float(by_class[labels.unique()].mean())}


def _average_precision(scores, targets):
    """The mean over classes that have videos, of (M, K) scores and multi-hot targets."""
    there = targets.any(0)
    if not there.any():
        return float("nan")
    precision = _import_torchmetrics().multilabel_average_precision
    some = scores[:, there], targets[:, there].long()
    if int(there.sum()) == 1:  # torchmetrics wants two labels at least
        some = tuple(part.repeat(1, 2) for part in some)
    return float(precision(*some, some[0].shape[1], average="none").mean())
