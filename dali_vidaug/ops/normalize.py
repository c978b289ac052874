"""The end of a recipe: uint8 frames become normalised floats, channels first."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Normalize:
    """(F, H, W, 3) uint8 to (3, F, H, W) float: (value / 255 - mean) / std. Comes last.

    Attributes:
        mean, std: of R, G and B, for values in [0, 1]. The defaults are those of SlowFast's Kinetics models;
            ImageNet's are (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225).

    Raises:
        ValueError: an option is out of range.
    """

    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)

    def __post_init__(self):
        if not (len(self.mean) == 3 and all(0 <= m <= 1 for m in self.mean)):
            raise ValueError(f"Normalize: mean must be three numbers in [0, 1], got {self.mean}")
        if not (len(self.std) == 3 and all(0 < s < float("inf") for s in self.std)):
            raise ValueError(f"Normalize: std must be three numbers > 0, got {self.std}")

    def draw(self, draws, frames, height, width):
        """Nothing is drawn."""
        return

    def build(self, fn, clips, args, dtype, mirrored=None):
        """``dtype``: DALI's type of the result. ``mirrored``: a flip right before this op, done in the same pass."""
        return fn.crop_mirror_normalize(
            clips,
            dtype=dtype,
            output_layout="CFHW",
            mean=[255 * m for m in self.mean],
            std=[255 * s for s in self.std],
            mirror=0 if mirrored is None else mirrored,
        )
