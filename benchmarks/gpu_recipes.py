"""The settings of benchmarks/gpu.py: recipes of our own, and those of published records with what was published."""

from argparse import Namespace
from typing import NamedTuple

from cluster import recipe_of

import dali_vidaug as dv


class Published(NamedTuple):
    """A record of others, on their machine; never measured here.

    Attributes:
        rate: clips per second of a GPU.
        what: was measured.
        machine: it was measured on.
        source: where it stands.
        unlike: in what the measurement here differs, and what is not known of theirs.
    """

    rate: float
    what: str
    machine: str
    source: str
    unlike: str


class Setting(NamedTuple):
    """A recipe, and how it is run.

    Attributes:
        recipe: what the loader does.
        batch_size: of each GPU.
        size: of the clips, pixels.
        cropped: whether peers crop and flip; else they scale whole frames.
        about: in a few words.
        published: a record that it repeats, as far as it is known; None for a recipe of our own.
    """

    recipe: dv.Recipe
    batch_size: int
    size: int
    cropped: bool
    about: str
    published: Published | None = None


SPDL = Published(
    rate=171,
    what="training of R3D-18 on Kinetics-400 with clips of NVDEC, 1,368 clips/s in all",
    machine="8 H100",
    source="github.com/facebookresearch/spdl, pull request 1499, docs/ and examples/video_classification",
    unlike="their figure has the training step in it, and this loader's has none; the settings are the defaults of "
    "their example (batches of 16, 16 frames of the first 0.5 s scaled to 112x112, no crop, no flip), and whether the "
    "record was measured with them, and how large the videos were, is not known; here it is the first 16 frames",
)
V_SWIFT = Published(
    rate=331.8,
    what="pre-training of VideoMAE (ViT-B) on Something-Something V2, decord on the CPU, DALI's ops on the GPU",
    machine="8 H800, 200 CPU threads",
    source="github.com/deepglint/V-SWIFT, README",
    unlike="their figure has the training step in it, and this loader's has none; batches of 256 and 16 frames of "
    "224x224 are theirs, the videos VP9 of 240 pixels in height; the stride of 2 and the crops are those of VideoMAE, "
    "and whether they are V-SWIFT's is not known",
)


def setting_of(name, args):
    """A setting by its name; ``args`` has num_frames, stride and size of those of our own."""
    if name == "spdl-k400":
        recipe = dv.Recipe(
            dv.ClipSampling(16, stride=1, start="first"),
            (dv.Resize((112, 112)), dv.Normalize((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
        )
        return Setting(recipe, 16, 112, False, "16 frames from the start, 112x112", SPDL)
    if name == "vswift-ssv2":
        recipe = dv.recipes.videomae_pretrain(dataset="ssv2")
        return Setting(recipe, 256, 224, True, "VideoMAE's pre-training, 16x2, 224x224", V_SWIFT)
    if name == "r3d-k400":
        return Setting(dv.recipes.r3d(), 16, 112, True, "torchvision's R3D-18, 16 at 15 fps, 112x112")
    more = ", RandAugmentT, mixing" if name == "full" else ""
    about = f"{args.num_frames}x{args.stride}, crop, flip{more}, {args.size}x{args.size}"
    return Setting(recipe_of(Namespace(**{**vars(args), "recipe": name})), 16, args.size, True, about)


NAMES = ("basic", "full", "r3d-k400", "spdl-k400", "vswift-ssv2")
