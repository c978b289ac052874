"""Accuracy by video, over views and processes."""

import csv
import io
from dataclasses import dataclass

import numpy as np
import torch
from torch import distributed, nn
from torch.nn import functional

import dali_vidaug as dv
from training.ranks import is_parallel

CONFUSION_CLASSES = 1000  # more are no table that anyone could read
TINY = 1e-12  # the least probability in the loss


class EvaluationError(ValueError):
    """Nothing can be evaluated."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a network did on videos; each counts once, with the mean of its views.

    Attributes:
        videos: what ``dv.VideoScores`` gave: rates, counts of what is missing, and the scores of each video.
        labels: (M,) int64, of the videos that have scores and a label, in the order of ``videos.samples``.
        scores: (M, K) float64, theirs.
        classes: the names of the K classes.
    """

    videos: dv.VideoResult
    labels: torch.Tensor
    scores: torch.Tensor
    classes: tuple[str, ...]

    @property
    def loss(self) -> float:
        """The mean over videos of the negative logarithm of the label's probability (the mean over the views)."""
        return float(functional.nll_loss(self.scores.clamp_min(TINY).log(), self.labels))

    def figures(self) -> dict[str, float]:
        """loss, top1, top5 and mean_class_accuracy."""
        names = "top1", "top5", "mean_class_accuracy"
        return {"loss": self.loss} | {name: getattr(self.videos, name) for name in names}

    def confusion(self) -> np.ndarray:
        """(K, K) int64: how many videos of each class (row) were taken for each class (column)."""
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        return multiclass_confusion_matrix(self.scores, self.labels, len(self.classes)).numpy()

    def __str__(self) -> str:
        return f"loss {self.loss:.4f}, {self.videos}"


def evaluate(
    network: nn.Module, loader: dv.VideoLoader, *, amp: str = "off", average: str = "softmax", progress=None
) -> Evaluation:
    """Validate or test a network; over all ranks, which must all call it.

    Args:
        network: itself, not the wrapper of DistributedDataParallel, which would wait in each call for ranks whose
            batch is empty; on the device of the clips. Whether it trains is as before afterwards.
        loader: of views of each video, not mixed; with ``shuffle=False, drop_last=False, on_error="skip"``.
        amp: "bfloat16" or "off".
        average: over views: "softmax", their probabilities; or "logits", their scores.
        progress: wraps the loader, to show how far it is; or None.

    Raises:
        ImportError: torchmetrics is not installed.
        EvaluationError: no video has a label and could be decoded.
    """
    scores = dv.VideoScores(loader.manifest, average)
    device = next(network.parameters()).device
    if is_parallel():
        for buffer in network.buffers():  # batch norms have other statistics on each rank
            distributed.broadcast(buffer, 0)
    training = network.training
    network.eval()
    loader.set_epoch(0)  # random views are the same each time
    try:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=amp == "bfloat16"):
            for batch in progress(loader) if progress else loader:
                if len(batch):  # else none of its videos could be decoded
                    scores.update(network(batch.clips), batch)
    finally:
        network.train(training)
    result = scores.compute()
    labels = loader.manifest.labels[result.samples]
    known = labels >= 0
    if not known.any():
        raise EvaluationError(
            f"validation: none of {len(loader.manifest)} videos has a label and could be decoded{_reason(loader)}"
        )
    means = result.scores if average == "softmax" else result.scores.softmax(1)
    return Evaluation(
        result, torch.from_numpy(labels[known]).long(), means[torch.from_numpy(known)], tuple(loader.manifest.classes)
    )


def _reason(loader):
    """Why the first of the videos could not be decoded, after a colon."""
    path, reason, _ = next(iter(loader.report().bad.values()), ("", "", 0))
    return f": {path}: {reason}" if path else ""


def confusion_csv(result: Evaluation) -> str:
    """The confusion matrix as CSV: a row for each class, in the columns what its videos were taken for."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", *result.classes])
    writer.writerows([[name, *row] for name, row in zip(result.classes, result.confusion().tolist(), strict=True)])
    return text.getvalue()
