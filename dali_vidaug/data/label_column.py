"""The labels of a manifest's rows: one class each, or several."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dali_vidaug.data.column import elements, take


class LabelColumn:
    """The classes of each row.

    Args:
        table: of the manifest, with the columns ``label`` and ``labels``.
        num_classes: K.

    Attributes:
        label: (N,) int32, the class of each row, -1 for none or several: a view of the column.
        several: whether rows may have several classes.
    """

    def __init__(self, table: pa.Table, num_classes: int):
        self.label: np.ndarray = table["label"].to_numpy()
        self._lists, self._num_classes = table["labels"], num_classes
        self.several = self._lists.null_count < table.num_rows

    def of(self, rows: np.ndarray) -> np.ndarray:
        """(B, K) float32: 1 for each class of a row, else 0."""
        targets = np.zeros((len(rows), self._num_classes), np.float32)
        if self.several:
            for target, labels in zip(targets, take(self._lists, rows).to_pylist(), strict=True):
                target[labels or []] = 1.0
            return targets
        labels = self.label[rows]
        known = np.flatnonzero(labels >= 0)
        targets[known, labels[known]] = 1.0
        return targets

    def counts(self) -> np.ndarray:
        """(K,) int64: how many rows each class has."""
        parts = (self.label[self.label >= 0], *elements(self._lists))
        return np.sum([np.bincount(part, minlength=self._num_classes) for part in parts], axis=0)
