"""What the training loop gets: clips and their labels, mixed in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from dali_vidaug.boxes import Boxes
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.description import as_html, as_text, batch_lines
from dali_vidaug.plan import Plan
from dali_vidaug.recipe import Recipe
from dali_vidaug.targets import mix_targets
from dali_vidaug.tokens import token_lists


class BatchMix(NamedTuple):
    """Which clips are mixed, for a loss of two terms: ``own * loss(clip's label) + (1 - own) * loss(partner's)``.

    Attributes:
        partner: (B,) int64, position in the batch of the clip that each is mixed with, or its own.
        own: (B,) float32, weight of the clip's own label, [0, 1].
    """

    partner: torch.Tensor
    own: torch.Tensor


class Motion(NamedTuple):
    """What moves in clips, on cells of 16 x 16 pixels, of which the last ones may be smaller: docs/motion.md.

    Attributes:
        dx, dy: (B, F, h, w) float32, by how many pixels of the clip what is shown in a cell moves to the right and down
            per frame of the video, since the frame that its blocks refer to: mostly the one before. NaN where that is
            not known, as in key frames.
    """

    dx: torch.Tensor
    dy: torch.Tensor

    @property
    def magnitude(self) -> torch.Tensor:
        """(B, F, h, w) float32, how far it moves; NaN where that is not known."""
        return torch.hypot(self.dx, self.dy)


class Tokens(NamedTuple):
    """Which tokens of each clip a mask leaves, and which it masks: positions in the grid, frame by frame, row by row.

    Attributes:
        visible: (B, V) int64, rising.
        masked: (B, M) int64, rising.
    """

    visible: torch.Tensor
    masked: torch.Tensor


@dataclass(eq=False, repr=False)
class Batch:
    """Clips and what belongs to them. Unpacks into ``clips, targets``.

    Trainers may move it (``to``, ``pin_memory``) and replace its tensors: it is a dataclass that is not frozen.

    Attributes:
        clips: (B, 3, F, H, W) float32, float16 or bfloat16 after ``Normalize``, otherwise uint8. Those of ``augment``
            have the layout of the clips that it was given. A tuple of such tensors if the recipe has ``pathways``.
        targets: (B, K) float32, soft labels, mixed as the clips are; a sample without a label has zeros. With
            ``targets="index"``: (B,) int64, each clip's own label, -1 without one; ``mix`` says what to do with them.
        samples: (B,) int64, manifest rows of the clips.
        epoch, index: the batch's number.
        mix: which clips are mixed, when the recipe has one op that can mix; None when it has none, or several.
        repeated: (B,) bool, clips that this epoch has had already: they make the ranks even, and a metric must not
            count them twice.
        skipped: (S,) int64, manifest rows whose clips are missing here, because they could not be decoded
            (``on_error="skip"``); a row comes as often as it has clips.
        boxes: around what is in the frames of the clips, moved and mixed as the clips are; None where the manifest has
            none, and ``augment`` was given none. Those of a mixed clip are of both clips.
        masks: for each mask of the recipe (B, T', H', W') bool, True where a token of a clip is masked.
        motion: what moves in the clips; None where it was not asked for (``VideoLoader(motion=True)``).
        lr_scale: the batch size of this stage of training, compared with the loader's ``batch_size``: a factor of the
            learning rate, by linear scaling. In a cycle of recipes it is that of the last one.
        plan: what was drawn for the clips.
        manifest: of the samples; None for clips in memory, and in a batch that was pickled.
    """

    clips: torch.Tensor | Any
    targets: torch.Tensor
    samples: torch.Tensor
    epoch: int
    index: int
    mix: BatchMix | None
    repeated: torch.Tensor
    skipped: torch.Tensor
    # not given to the constructor: whoever maps over the fields of a dataclass leaves these as they are. So a trainer
    # that makes float16 of all floats does not round boxes by a pixel; it moves batches by ``to``.
    boxes: Boxes | None = field(init=False, default=None)
    masks: tuple[torch.Tensor, ...] = field(init=False, default=())
    motion: Motion | None = field(init=False, default=None)
    lr_scale: float = field(init=False, default=1.0)
    plan: Plan = field(init=False)
    manifest: Manifest | None = field(init=False, repr=False, default=None)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "manifest": None}  # it may be large, and is the same for all batches

    def __repr__(self) -> str:
        return as_text(batch_lines(self))

    def _repr_html_(self) -> str:
        return as_html(batch_lines(self), self.__dict__.get("plan"), self.manifest)

    def describe(self, i: int) -> str:
        """What clip ``i`` is and gets, as text: file, class, frames, each op's arguments."""
        return self.plan.describe(i, self.manifest)

    def __iter__(self) -> Iterator[torch.Tensor | Any]:
        return iter((self.clips, self.targets))

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def views(self) -> torch.Tensor:
        """(B,) int64, which of the clips of its sample each clip is."""
        return torch.from_numpy(self.plan.views.copy())

    @property
    def repeat_index(self) -> torch.Tensor:
        """(B,) int64, which of several clips of the same frames each clip is (``VideoLoader(repeats=)``)."""
        return torch.from_numpy(self.plan.repeat_index.copy())

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> Batch:
        """The batch on another device: ``clips``, ``targets``, ``mix``, ``boxes``, ``masks`` and ``motion``.

        These are where the loader works. ``samples``, ``repeated`` and ``skipped`` stay on the CPU.
        """
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self, device: torch.device | str | None = None) -> Batch:
        """The batch with what ``to`` moves in pinned memory, where it is on the CPU."""
        return self._map(lambda tensor: tensor if tensor.device.type != "cpu" else tensor.pin_memory())

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        other = Batch.__new__(Batch)
        several = isinstance(self.clips, (tuple, list))
        clips = tuple(map(function, self.clips)) if several else function(self.clips)
        other.__dict__.update(self.__dict__, clips=clips, targets=function(self.targets))
        other.mix = self.mix and BatchMix(*map(function, self.mix))
        other.boxes = self.boxes and Boxes(*map(function, self.boxes))
        other.masks = tuple(map(function, self.masks))
        other.motion = self.motion and Motion(*map(function, self.motion))
        return other

    def tokens(self, index: int = 0) -> Tokens:
        """A mask as lists of tokens, of the same lengths for all clips, on the device of ``masks``.

        Where masks of clips differ in their number of tokens, as those of ``MultiBlockMask``, the longer lists lose
        random tokens, wherever these are: the same for the same plan.

        Args:
            index: of the mask in the recipe.

        Raises:
            IndexError: the recipe has no such mask.
        """
        return Tokens(*(_to(self.masks[index].device, column) for column in token_lists(self.plan, index)))

    def rows(self, name: str) -> np.ndarray:
        """A column of the manifest, for the clips: one of your own, such as a caption, or a measured one.

        Returns:
            (B,): numbers and truth values as they are, times as datetime64 and timedelta64; else, and where a value is
            missing, objects: str, list, None.

        Raises:
            ValueError: there is no such column, or no manifest.
        """
        if self.manifest is None:
            raise ValueError(f"Batch: no column {name!r}: clips in memory and batches that were pickled have none")
        return self.manifest.rows(name, self.plan.samples)


def as_tensor(clips: Any, dtype: str) -> torch.Tensor:
    """The clips of a batch as a tensor.

    Args:
        clips: what ``Graph.run`` returned: a tensor, or DALI's tensor list.
        dtype: of normalised clips; "bfloat16", which DALI does not have, is rounded from its float32 (to the nearest,
            ties to even), which takes the memory of both for a moment on a GPU.

    Returns:
        (B, 3, F, H, W), without a copy except for bfloat16 of DALI's.
    """
    tensor = clips if isinstance(clips, torch.Tensor) else torch.from_dlpack(clips.as_tensor())
    return tensor.to(torch.bfloat16) if dtype == "bfloat16" and tensor.is_floating_point() else tensor


def pathways_of(clips: torch.Tensor, recipe: Recipe) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """The clips (B, 3, F, H, W) as the recipe's pathways have them; as they are if it has none, or for all frames."""
    if not recipe.pathways:
        return clips
    found = recipe.pathway_frames(clips.shape[2])
    return tuple(
        clips if len(frames) == clips.shape[2] else clips.index_select(2, _to(clips.device, frames)) for frames in found
    )


def no_clips(recipe: Recipe, shape: tuple[int, ...], dtype: str, device: int | None) -> torch.Tensor:
    """The clips of a batch that has none: (0, 3, F, H, W).

    Args:
        recipe: of the clips.
        shape: (F, H, W).
        dtype: of normalised clips.
        device: which GPU, or None.
    """
    floats = bool(recipe.ops) and getattr(recipe.ops[-1], "channels_first", False)
    kind = getattr(torch, dtype) if floats else torch.uint8
    return torch.empty((0, 3, *shape), dtype=kind, device="cpu" if device is None else device)


def make_batch(
    clips: torch.Tensor, targets: np.ndarray, plan: Plan, index: int, manifest: Manifest | None = None,
    repeated: np.ndarray | None = None, skipped: np.ndarray | None = None, boxes: Boxes | None = None,
    motion: np.ndarray | None = None,
) -> Batch:  # fmt: skip
    """Put a batch together; its labels are mixed as the ops of the plan have mixed the clips.

    Args:
        clips: of the batch, as they leave the graph.
        targets: (B, K) float32 or (B,) int64: the labels before any op.
        plan, index: of the batch.
        manifest: of the samples.
        repeated, skipped: as in ``Batch``; default: none are.
        boxes: of the clips after all ops, NumPy arrays; or None.
        motion: (B, 2, F, h, w) float32; or None.

    Returns:
        The batch, on the device of the clips.

    Raises:
        TypeError, ValueError: an op returns something else than labels or partners.
    """
    targets, mixed = mix_targets(plan, targets, () if manifest is None else manifest.classes)
    mix = None if mixed is None else BatchMix(*(_to(clips.device, column) for column in mixed))
    samples = torch.from_numpy(plan.samples.copy())
    again = torch.from_numpy(np.zeros(len(plan), bool) if repeated is None else repeated)
    missing = torch.from_numpy(np.zeros(0, np.int64) if skipped is None else skipped)
    paths = pathways_of(clips, plan.recipe)
    batch = Batch(paths, _to(clips.device, targets), samples, plan.epoch, index, mix, again, missing)
    batch.boxes = None if boxes is None else _box_tensors(clips.device, boxes)
    batch.masks = tuple(_to(clips.device, mask) for mask in plan.masks)
    batch.motion = None if motion is None else Motion(*_to(clips.device, motion).unbind(1))
    batch.plan, batch.manifest = plan, manifest
    return batch


def _box_tensors(device, boxes):
    """Boxes as tensors, which go to the device in one piece."""
    columns = [np.ascontiguousarray(column) for column in boxes]
    if not len(boxes.clip):
        return Boxes(*(_to(device, column) for column in columns))
    data, tensors, end = _to(device, np.concatenate([column.reshape(-1).view(np.uint8) for column in columns])), [], 0
    for column in columns:  # of 8 bytes first, or after as many of 4 as make up whole ones: all are aligned
        first, end = end, end + column.nbytes
        tensors.append(data[first:end].view(getattr(torch, column.dtype.name)).reshape(column.shape))
    return Boxes(*tensors)


def _to(device, array):
    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    # From pinned memory, which torch keeps until the copy is done; from other memory the copy may wait for the stream.
    return tensor.pin_memory().to(device, non_blocking=True)
