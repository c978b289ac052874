"""What was published of each recipe, written by hand from papers and repositories: no code of the package makes it.

``FACTS`` has a row for each family, variant and data set.
"""

from typing import NamedTuple

from recipe_facts_transformers import rows

SLOWFAST = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KINETICS_R3D = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))  # torchvision's
HALF = ((0.5019607843137255,) * 3, (0.5019607843137255,) * 3)  # 128 / 255: (x - 128) / 128 of x in [0, 255]


class Facts(NamedTuple):
    """Of a family, a variant and a data set. Lengths are in pixels of the published size."""

    frames: int  # of a clip
    train: int  # height and width of the clips
    validation: int
    test: int
    views: tuple[int, int]  # of the test: clips x crops
    mean_std: tuple  # of R, G, B in [0, 1]
    ops: tuple[str, ...]  # of training, in order
    test_short_side: int | None = None  # that a test scales to; None: it does not scale
    short_sides: tuple[int, int] | None = None  # that training scales to: the least and the most
    # The sides of the boxes that training cuts out of a frame of 360 x 640 pixels, the least and the most.
    box_sides: tuple[int, int] | None = None
    box_area: tuple[float, float] | None = None  # of the boxes, as a share of a frame of 360 x 480 pixels
    places: int | None = None  # how many places there are for a box of 270 x 270 pixels in that frame
    jitter: str = "uniform"  # how the short side is distributed, or its inverse
    scaled: tuple[int, int] | None = None  # height and width that any frame is scaled to
    flips: bool = True  # in training
    train_views: int = 1  # clips of each video
    test_frames: int | None = None  # of a clip, where a test has another number
    pathways: tuple[int, ...] = ()  # frames of each
    # Positions from the first frame on, in training and validation, rounded down when the start is added, which need
    # be no whole frame; of a video of 300 frames in 30 per second. None: they are random.
    steps: tuple[float, ...] | None = None
    repeats: int = 1
    batch_size: int | None = None
    average: str = "softmax"
    small: int = 32  # pixels of the crops where pixels are made; masks need some patches
    # For each mask of training: the tokens along time and in a frame, and the share of them that is masked, the least
    # and the most.
    masks: tuple[tuple[tuple[int, int, int], float, float], ...] = ()
    train_clips: int = 1


def spread(num_frames, stride):
    """SlowFast's linspace(start, start + size - 1, T), at 30 frames per second."""
    return tuple(i * (num_frames * stride - 1) / (num_frames - 1) for i in range(num_frames))


_JITTERED = ("ShortSideScale", "RandomCrop", "RandomHorizontalFlip", "Normalize")
_SLOWFAST = Facts(
    32, 224, 224, 256, (10, 3), SLOWFAST, _JITTERED, 256, (256, 320), pathways=(8, 32), steps=spread(32, 2),
    batch_size=64,
)  # fmt: skip
_TSM = Facts(
    8, 224, 224, 224, (1, 1), IMAGENET, ("MultiScaleCrop", "RandomHorizontalFlip", "Normalize"), 256,
    box_sides=(237, 360), places=13, batch_size=128, average="logits",
)  # fmt: skip
_TSM_DIRECTED = _TSM._replace(ops=("MultiScaleCrop", "Normalize"), flips=False)
_TSN = Facts(
    3, 224, 224, 224, (1, 10), IMAGENET, ("MultiScaleCrop", "RandomHorizontalFlip", "Normalize"), 256,
    box_sides=(237, 360), places=5, test_frames=25, batch_size=256,
)  # fmt: skip
_R3D = Facts(
    16, 112, 112, 112, (5, 1), KINETICS_R3D, ("Resize", "RandomCrop", "RandomHorizontalFlip", "Normalize"),
    scaled=(128, 171), steps=tuple(2.0 * i for i in range(16)),
)  # fmt: skip
_KIM = Facts(
    64, 160, 160, 160, (10, 1), HALF, (), box_sides=(160, 200), steps=tuple(map(float, range(64))), batch_size=16
)
_KIM_ROWS = {
    "baseline": None, "spatial": "RandAugmentT", "temporal": "RandAugmentT", "temporal+": "RandAugmentT",
    "mix": "RandAugmentT", "cutout": "Cutout", "framecutout": "FrameCutout", "cubecutout": "CubeCutout",
    "cutmix": "CutMix", "framecutmix": "FrameCutMix", "cubecutmix": "CubeCutMix", "mixup": "MixUp",
    "fademixup": "FadeMixUp", "cutmixup": "CutMixUp", "framecutmixup": "FrameCutMixUp", "cubecutmixup": "CubeCutMixUp",
}  # fmt: skip
_GUIDE = Facts(
    16, 224, 224, 224, (5, 1), SLOWFAST,
    ("TemporalJitter", "RandomResizedCrop", "RandomHorizontalFlip", "LabelSmoothing", "Normalize"),
    box_area=(0.8, 1.0),
)  # fmt: skip

FACTS = {
    ("slowfast", "4x16", "kinetics400"): _SLOWFAST._replace(pathways=(4, 32)),
    ("slowfast", "8x8", "kinetics400"): _SLOWFAST,
    ("x3d", "XS", "kinetics400"): Facts(
        4, 160, 160, 182, (10, 3), SLOWFAST, _JITTERED, 182, (182, 228), steps=spread(4, 12), batch_size=128
    ),
    ("x3d", "S", "kinetics400"): Facts(
        13, 160, 160, 182, (10, 3), SLOWFAST, _JITTERED, 182, (182, 228), steps=spread(13, 6), batch_size=128
    ),
    ("x3d", "M", "kinetics400"): Facts(
        16, 224, 224, 256, (10, 3), SLOWFAST, _JITTERED, 256, (256, 320), steps=spread(16, 5), batch_size=128
    ),
    ("x3d", "L", "kinetics400"): Facts(
        16, 312, 312, 356, (10, 3), SLOWFAST, _JITTERED, 356, (356, 446), steps=spread(16, 5), batch_size=64
    ),
    ("tsm", "8", "kinetics400"): _TSM,
    ("tsm", "8", "ssv2"): _TSM_DIRECTED._replace(test=256, views=(2, 3)),
    ("tsm", "8", "jester"): _TSM_DIRECTED,
    ("tsm", "8-dense", "kinetics400"): _TSM._replace(
        test=256, views=(10, 3), steps=tuple(8.0 * i for i in range(8))
    ),
    ("tsn", "3", "kinetics400"): _TSN,
    ("tsn", "5", "kinetics400"): _TSN._replace(frames=5),
    ("tsn", "8", "kinetics400"): _TSN._replace(frames=8),
    **{("r3d", name, "kinetics400"): _R3D for name in ("r3d_18", "mc3_18", "r2plus1d_18")},
    **{
        ("kim2020", row, dataset): _KIM._replace(
            ops=("RandomCrop", "RandomHorizontalFlip", *([op] if op else []), "Normalize")
        )
        for row, op in _KIM_ROWS.items()
        for dataset in ("ucf101", "hmdb51")
    },
    **{
        ("videomix", mode, "kinetics400"): _SLOWFAST._replace(ops=(*_JITTERED[:3], op, "Normalize"))
        for mode, op in (("S", "CutMix"), ("T", "FrameCutMix"), ("ST", "CubeCutMix"))
    },
    ("guide", "mild", "own"): _GUIDE,
    ("guide", "mixup", "own"): _GUIDE._replace(ops=(*_GUIDE.ops[:3], "MixUp", *_GUIDE.ops[3:])),
    ("simclr", "8x8", "kinetics400"): Facts(
        8, 224, 0, 0, (0, 0), SLOWFAST,
        ("RandomResizedCrop", "RandomHorizontalFlip", "ColorJitter", "RandomGrayscale", "GaussianBlur", "Normalize"),
        box_area=(0.2, 0.766), train_views=4, steps=spread(8, 8),
    ),
}  # fmt: skip
FACTS |= rows(Facts)
