"""JpegArtefacts: the blocks and blurred colours of strong compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dali_vidaug.ops.check import check_probability, make_plain
from dali_vidaug.rng import Draws

_BEST = 100
JPEG = np.dtype([("applied", "i4"), ("quality", "i4")])


@dataclass(frozen=True)
class JpegArtefacts:
    """Compress each frame as JPEG and decompress it, by DALI's operator; on the CPU as Pillow does, bit for bit.

    Colours have half the resolution (4:2:0), so that even the best quality changes pixels. All frames of a clip have
    one quality: DALI's operator has no ramps.

    Attributes:
        quality: of the compression, an int, or a pair of ints: uniform in low, ..., high for each clip; [1, 100].
        probability: that a clip is compressed.

    Raises:
        ValueError: an option is out of range.
    """

    quality: int | tuple[int, int] = (25, 100)
    probability: float = 1.0

    ARGS = JPEG
    moves_pixels = False

    def __post_init__(self):
        make_plain(self, "quality", "probability")
        pair = self.quality if isinstance(self.quality, tuple) else (self.quality, self.quality)
        whole = len(pair) == 2 and all(isinstance(q, int) and 1 <= q <= _BEST for q in pair)
        if not (whole and pair[0] <= pair[1]):
            raise ValueError(
                f"JpegArtefacts: quality must be an int in [1, {_BEST}] or 1 <= low <= high <= {_BEST}, got "
                f"{self.quality!r}"
            )
        check_probability("JpegArtefacts", self.probability)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) JPEG."""
        low, high = self.quality if isinstance(self.quality, tuple) else (self.quality, self.quality)
        rows = np.zeros(len(draws), JPEG)
        rows["applied"] = draws.uniform("apply") < self.probability
        rows["quality"] = low + draws.integers("quality", high - low + 1)
        return rows

    def build(self, fn: Any, clips: Any, args: Any) -> Any:
        """DALI's operator, on the part of the batch that is compressed."""
        applied = args["applied"] != 0
        changed, others = fn._conditional.split(clips, predicate=applied)
        quality = fn._conditional.split(args["quality"], predicate=applied)[0]
        changed = fn.jpeg_compression_distortion(changed, quality=quality)
        return fn._conditional.merge(changed, others, predicate=applied)

    def check(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> None:
        """Refuse qualities, such as those of an edited plan, that JPEG does not have."""
        good = (args["quality"] >= 1) & (args["quality"] <= _BEST)
        if not good.all():
            i = int((~good).argmax())
            raise ValueError(f"JpegArtefacts: quality of row {i} must be in [1, {_BEST}], got {args['quality'][i]}")

    def describe(self, row: Any) -> list[str]:
        """A row as a line of text."""
        return [f"quality {row['quality']}" if row["applied"] else "unchanged"]

    def applied(self, args: np.ndarray) -> np.ndarray:
        """(B,) bool: the clip is compressed."""
        return args["applied"] != 0
