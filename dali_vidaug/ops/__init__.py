"""The augmentations, one file for each op or family; and the contract that an op keeps, a user's own included.

An op is a frozen dataclass. It must have ``draw``, and ``run`` or ``build``:

``draw(draws, frames, height, width)``
    Decide, for a batch, what happens to each clip. ``draws`` gives random numbers (``rng.Draws``); ``frames``,
    ``height`` and ``width`` are (B,) int64, the sizes of the clips as the ops before leave them. Returns a (B,)
    structured array, the op's *arguments*: one row for each clip, in physical units (pixels, frames, degrees, factors),
    where a neutral row (factor 1, empty box) means that the op is not applied; or None when nothing is drawn. An op
    that changes the size of clips says so in the fields ``out_height`` and ``out_width``, or ``out_frames``. All random
    numbers are drawn whether or not the op is applied.

``run(clips, rows, num_threads)``
    Change arrays: B clips (F, H, W, 3) uint8, contiguous, and their rows of the arguments, (B,), or None. Returns B
    clips, new arrays or, where nothing changes, the same; it must not change those that it is given, nor keep them:
    their memory is used again. On the CPU, NumPy; the rows are not changed either. On a GPU, CuPy arrays, with B arrays
    of the rows' bytes: ``kernels.launch`` takes both. At the end of a recipe it is called directly on the CPU,
    elsewhere as an operator of DALI's graph; ``op.run`` is looked up once for each graph.

``build(fn, clips, args)``
    Extend DALI's graph. ``fn`` is nvidia.dali.fn, ``clips`` a node (F, H, W, 3) uint8; returns such a node. ``args``
    gives the arguments as nodes on the CPU: ``args["factor"]`` is one value for each clip, ``args["top", "left"]`` one
    float vector, ``args.rows()`` the whole rows as bytes (for kernels). ``args.dtype`` is DALI's type for normalised
    clips, ``args.num_threads`` how many threads the graph has. An op that has ``run``, too, says the same twice.

It may have:

``name``
    What it is called in a recipe, in a plan and in the addresses of its draws; otherwise the name of its class.
``targets(args, targets)``
    Labels after the op, (B, K) float32, from its arguments and the labels before. For ops that mix clips or change
    labels. Called for each batch, in the order of the recipe.
``label_map``
    Pairs of classes, each a name or an index, or None: they trade places in the labels of the clips that the op
    changes, which ``applied`` tells. ``label_map.make_label_map`` makes the pairs of what a user gives.
``mixed_with(args)``
    For ops that mix pairs of clips: for each clip the position of its partner in the batch, (B,) int, and the share of
    its own label, (B,) float in [0, 1]. This becomes ``batch.mix``. The arguments have the position of the partner, or
    -1, in a field ``partner``: a loader with ``repeats`` draws each repeat by itself, and moves these positions.
``partner_share(args, clip, frame, boxes)``
    For ops that mix, with boxes: which share of each box shows the partner of its clip, (N,) float in [0, 1]. ``clip``
    and ``frame`` are (N,) int, ``boxes`` (N, 4) float, x1, y1, x2, y2 in pixels of the clip that the op makes. A recipe
    with boxes needs this of each op that has ``mixed_with``.
``check(args, frames, height, width)``
    Raise a ``ValueError`` when arguments contradict each other or the sizes of the clips, which are as in ``draw``.
    Called for what is drawn, and for plans that a user has edited, before any pixel is touched.
``describe(row)``
    Lines of text for one row, for ``Plan.describe``.
``applied(args)``
    Which clips the op changes, (B,) bool, for the ``repr`` of plans and batches.
``chosen(draws, args)``
    For an op that chooses between others: for each clip the name of the one that it got, or None, for the same.
    ``draws`` are those that ``draw`` had, without the batch's other clips.
``matrices(args, frames, height, width)``
    For an op that moves pixels: (B, F, 3, 3) float64, for each frame the matrix from coordinates in its result to those
    in its input (``geometry`` has the convention), F being the longest clip's. The sizes are as in ``draw``: those of
    its input. Boxes and points follow by it. An op that moves no pixel has none, and says ``moves_pixels = False``.
``matrix_steps(args, frames, height, width)``
    For an op that moves pixels several times, which loses what is out of the frame in between: a list of such arrays,
    whose product is what ``matrices`` returns.

``fingerprint()``
    A text that stands for what the options do not have, such as the weights of a network, or "". Loaders compare it
    with that of a saved state. Raises a ``ValueError`` when that is missing, which a loader says when it is made.

and may declare, as class attributes:

``moves_pixels = False``
    Every pixel stays where it is, and so do boxes. A recipe with boxes needs this or ``matrices`` of each op.
``in_decoder = True``
    The arguments are crops (``crop.CROP``), which PyAV can do in its conversion to RGB. Such ops at the beginning of a
    recipe are done there.
``blends = True``
    The arguments are blends (``blend.BLEND``), and ``run`` is that of ``blend``: ``OneOf`` can choose among such ops.
``num_crops = 3``
    The op chooses what it does by ``draws.views % num_crops``: the sampler must have as many views of the same frames
    (``MultiClip(num_crops=)``).
``of_batch = True``
    Its ``build`` counts the clips of the batch, in arguments or messages: ``RandomApply``, which would give it a part
    of the batch, refuses it.
``mirrors = True``
    The op does nothing except mirror the clips whose argument ``mirrored``, which it always draws, is 1. At the end of
    a recipe that is done on the CPU without DALI.
``mirrors_first = True``
    ``build`` takes a flip over from the op before: when that op ``mirrors``, it is not built, and ``args`` has its
    argument ``mirrored``.
``lookup()``
    What becomes of each value of a channel, (3, 256) floats, for an op that ``build``s just that, channels first, after
    an optional flip. On the CPU this is done by a table, outside of DALI's graph.
``channels_first = True``
    ``build`` returns (3, F, H, W), so the op must be the last one.

An op on time decides which frames are decoded. It comes before all other ops, and has, in place of ``draw``
and ``build`` or ``run``:

``retime(draws, frames, videos)``
    The frames of each clip, (B, F) int32 or float64 (positions between two frames, which are blended), from those that
    the sampler or the op on time before it chose; and its arguments, a structured array as ``draw`` returns, or None.
    ``draws`` are as for ``draw``, ``videos`` as for samplers (``sampling.Videos``). What is decoded is what
    ``Plan.frames`` says in the end; the arguments only serve ``describe``, ``applied`` and ``targets``, so that an
    edited plan changes frames by ``Plan.frames``. What belongs to a frame of the video (boxes, masks, labels of single
    frames) follows ``Plan.frames``, too: whatever brings such things takes them at these positions, and an op on time
    need not know of them.
``frame_module``
    The name of a registered module that makes the frames between two others, or None: they are blended. Of several ops
    that have it, the last one's counts.
"""

from dali_vidaug.ops.affine import RandomAffine, RandomPerspective, RandomRotation
from dali_vidaug.ops.blur import GaussianBlur
from dali_vidaug.ops.camera import CameraMotion
from dali_vidaug.ops.color_jitter import ColorJitter, RandomGrayscale
from dali_vidaug.ops.crop import CROP, CenterCrop, RandomResizedCrop, Resize
from dali_vidaug.ops.erase import CubeCutout, Cutout, FrameCutout, RandomErasing
from dali_vidaug.ops.exposure import ExposureRamp, Flicker, GaussianNoise
from dali_vidaug.ops.flip import RandomHorizontalFlip, RandomVerticalFlip
from dali_vidaug.ops.interpolate import FrameInterpolation
from dali_vidaug.ops.jitter import FrameDrop, FrameJitter, TemporalJitter
from dali_vidaug.ops.jpeg import JpegArtefacts
from dali_vidaug.ops.mix import (
    CubeCutMix,
    CubeCutMixUp,
    CutMix,
    CutMixUp,
    FadeMixUp,
    FrameCutMix,
    FrameCutMixUp,
    Mix,
    MixUp,
    MovingCutMix,
    VideoMix,
)
from dali_vidaug.ops.motion import BackgroundMix, MotionBlur
from dali_vidaug.ops.names import is_on_time, name_of, op_names
from dali_vidaug.ops.normalize import Normalize
from dali_vidaug.ops.one_of import OneOf
from dali_vidaug.ops.randaugment import RandAugment, RandAugmentT, TrivialAugment
from dali_vidaug.ops.random_apply import RandomApply
from dali_vidaug.ops.random_crop import MultiScaleCrop, RandomCrop, ShortSideScale
from dali_vidaug.ops.registry import register_module
from dali_vidaug.ops.smoothing import LabelSmoothing
from dali_vidaug.ops.speed import HalfCopy, Reverse, SpeedRamp
from dali_vidaug.ops.torch_module import TorchModule
from dali_vidaug.ops.view_crops import FiveCrop, TenCrop, ThreeCrop

__all__ = [
    "CROP",
    "BackgroundMix",
    "CameraMotion",
    "CenterCrop",
    "ColorJitter",
    "CubeCutMix",
    "CubeCutMixUp",
    "CubeCutout",
    "CutMix",
    "CutMixUp",
    "Cutout",
    "ExposureRamp",
    "FadeMixUp",
    "FiveCrop",
    "Flicker",
    "FrameCutMix",
    "FrameCutMixUp",
    "FrameCutout",
    "FrameDrop",
    "FrameInterpolation",
    "FrameJitter",
    "GaussianBlur",
    "GaussianNoise",
    "HalfCopy",
    "JpegArtefacts",
    "LabelSmoothing",
    "Mix",
    "MixUp",
    "MotionBlur",
    "MovingCutMix",
    "MultiScaleCrop",
    "Normalize",
    "OneOf",
    "RandAugment",
    "RandAugmentT",
    "RandomAffine",
    "RandomApply",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomPerspective",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
    "Reverse",
    "ShortSideScale",
    "SpeedRamp",
    "TemporalJitter",
    "TenCrop",
    "ThreeCrop",
    "TorchModule",
    "TrivialAugment",
    "VideoMix",
    "is_on_time",
    "name_of",
    "op_names",
    "register_module",
]
