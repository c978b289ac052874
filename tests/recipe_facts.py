"""What was published of each recipe, written by hand from papers and repositories: no code of the package makes it.

``FACTS`` has a row for each family, variant and data set. Lengths of frames are those of the published size.
"""

from typing import NamedTuple

KINETICS = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Facts(NamedTuple):
    """Of a family, a variant and a data set."""

    frames: int  # of a clip
    train: int  # height and width of the clips
    validation: int
    test: int
    views: tuple[int, int]  # of the test: clips x crops
    mean_std: tuple  # of R, G, B in [0, 1]
    flips: bool = True  # in training
    short_sides: tuple[int, int] | None = None  # that training scales to, if it does
    pathways: tuple[int, ...] = ()  # frames of each
    repeats: int = 1
    batch_size: int | None = None
    test_short_side: int | None = None
    # Positions from the first frame on, in training and validation, rounded down when the start is added, which need
    # be no whole frame; of a video of 300 frames in 30 per second. None: they are random.
    steps: tuple[float, ...] | None = None
    average: str = "softmax"


SPREAD_32X2 = tuple(i * 63 / 31 for i in range(32))  # SlowFast's linspace(start, start + 64 - 1, 32)
FACTS = {
    ("slowfast", "4x16", "kinetics400"): Facts(
        32, 224, 224, 256, (10, 3), KINETICS, short_sides=(256, 320), pathways=(4, 32), batch_size=64,
        test_short_side=256, steps=SPREAD_32X2,
    ),
    ("slowfast", "8x8", "kinetics400"): Facts(
        32, 224, 224, 256, (10, 3), KINETICS, short_sides=(256, 320), pathways=(8, 32), batch_size=64,
        test_short_side=256, steps=SPREAD_32X2,
    ),
}  # fmt: skip
