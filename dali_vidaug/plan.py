"""The plan of a batch: everything random about it, decided before any pixel exists. Needs only NumPy."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dali_vidaug.description import as_html, as_text, clip_index, describe_clip, plan_lines
from dali_vidaug.drawn_masks import check_grids, check_masks, masks_from_text, masks_to_text
from dali_vidaug.ops.sizes import sizes_after
from dali_vidaug.recipe import Recipe, UnknownClassError, class_list
from dali_vidaug.repeats import clip_column
from dali_vidaug.rng import MAX_REPEAT, MAX_SAMPLE, MAX_VIEW, whole_numbers

if TYPE_CHECKING:
    import os

    from numpy.typing import ArrayLike

    from dali_vidaug.data.manifest import Manifest

PLAN_VERSION = 3  # another number: the same seed draws other plans than before
PLAN_FORMAT = 2  # of the files that ``Plan.save`` writes; format 1 had one view for the whole plan


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """What is done to each clip of a batch.

    Attributes:
        recipe: what was drawn from.
        seed, epoch: part of the address of the draws.
        batch: (B,) int64, the group that each clip is mixed in, part of the address of what its clips have in common.
        samples: (B,) int64, manifest rows. A sample may have several clips.
        views: (B,) int64, which of the clips of its sample each clip is.
        frames: (B, F), positions of the frames in their video, as a full decode counts them: int32, or float64 where a
            position may lie between two frames.
        args: for each op of the recipe, by name, a (B,) structured array of its arguments, or None.
        manifest: of the samples, for ``describe``; None for clips in memory, and in a plan that was saved or pickled.
        repeat_index: (B,) int64, which of the clips of the same frames each is.
        masks: for each mask of the recipe (B, T', H', W') bool, True where a token is masked; None where it is drawn
            when the clips are decoded.
        step: number of the training step, part of the address of what all its clips have in common.

    Raises:
        ValueError: the columns differ in length.
    """

    recipe: Recipe
    seed: int
    epoch: int
    batch: Any
    samples: np.ndarray
    views: np.ndarray
    frames: np.ndarray
    args: dict[str, Any]
    manifest: Manifest | None = None
    repeat_index: Any = 0
    masks: tuple[np.ndarray | None, ...] = ()
    step: int = 0

    def __post_init__(self):
        for name in ("samples", "views"):
            object.__setattr__(self, name, whole_numbers(f"Plan: {name}", getattr(self, name)))
        if not ((self.views >= 0) & (self.views < MAX_VIEW)).all():
            raise ValueError(f"Plan: views must be in [0, {MAX_VIEW}), got {self.views.min()} to {self.views.max()}")
        for name, limit in (("repeat_index", MAX_REPEAT), ("batch", MAX_SAMPLE)):
            object.__setattr__(self, name, clip_column(name, getattr(self, name), len(self.samples), limit))
        frames = np.asarray(self.frames)
        if frames.dtype.kind not in "iuf":
            raise ValueError(f"Plan: frames must be numbers, got {frames.dtype}")
        if not (np.abs(frames) < 2**31).all():  # NaN is not, either
            raise ValueError(f"Plan: frames must be finite and fit into int32, got {frames.min()} to {frames.max()}")
        object.__setattr__(self, "frames", frames.astype(np.float64 if frames.dtype.kind == "f" else np.int32))
        if set(self.args) != set(self.recipe.names):
            raise ValueError(
                f"Plan: it has arguments for {', '.join(self.args) or 'no op'}, but the recipe's ops are "
                f"{', '.join(self.recipe.names) or 'none'}"
            )
        columns = {"views": self.views, "frames": self.frames, **self.args}
        for name, column in columns.items():
            if column is not None and len(column) != len(self.samples):
                raise ValueError(f"Plan: {len(self.samples)} samples, but {len(column)} rows of {name}")
        if self.frames.ndim != 2:
            raise ValueError(f"Plan: frames must be (B, F), got {self.frames.shape}")
        object.__setattr__(self, "masks", check_masks(self.recipe, self.masks, len(self.samples)))

    def __len__(self) -> int:
        return len(self.samples)

    def row(self, i: int) -> Plan:
        """The plan of clip ``i`` alone, which can then only be mixed with itself."""
        plan = self.part(slice(i := clip_index(self, i), i + 1))
        for rows in plan.args.values():
            if rows is not None and "partner" in rows.dtype.names:
                rows["partner"] = np.minimum(rows["partner"], 0)
        return plan

    def part(self, part: slice) -> Plan:
        """The plan of some clips; their partners are still positions in the whole plan."""
        columns = {name: getattr(self, name)[part] for name in ("batch", "samples", "views", "frames", "repeat_index")}
        args = {name: rows if rows is None else rows[part].copy() for name, rows in self.args.items()}
        masks = tuple(mask if mask is None else mask[part] for mask in self.masks)
        return replace(self, **columns, args=args, masks=masks)

    def check(self, height: ArrayLike, width: ArrayLike) -> None:
        """Refuse a plan, such as an edited one, whose arguments contradict each other or the clips.

        Args:
            height, width: (B,) int, the sizes of the clips before the first op.

        Raises:
            TypeError, ValueError: the arguments of an op are of another kind than it draws, or out of range; or a mask
                has another grid than the clips.
        """
        frames = np.full(len(self), self.frames.shape[1])
        sizes = np.stack(np.broadcast_arrays(frames, height, width), 1).astype(np.int64)
        for name, op in self.recipe.pixel_ops:
            sizes = sizes_after(name, op, self.args[name], sizes)
        check_grids(self.recipe, self.masks, sizes)

    def describe(self, i: int, manifest: Manifest | None = None) -> str:
        """What clip ``i`` is and gets, as text: file, class, frames, each op's arguments.

        Args:
            i: position in the batch.
            manifest: of the samples; default: the plan's own.
        """
        return describe_clip(self, i, self.manifest if manifest is None else manifest)

    def __repr__(self) -> str:
        return as_text(plan_lines(self))

    def _repr_html_(self) -> str:
        return as_html(plan_lines(self), self, self.manifest)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "manifest": None}  # it may be large, and is the same for all plans

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON, which can be read, edited, and replayed with ``Plan.load``."""
        ops = {
            name: None
            if rows is None
            else {
                "dtype": [[n, rows.dtype[n].base.str, list(rows.dtype[n].shape)] for n in rows.dtype.names],
                "rows": [{n: row[n].tolist() for n in rows.dtype.names} for row in rows],
            }
            for name, rows in self.args.items()
        }
        document = {
            "format": PLAN_FORMAT, "plan_version": PLAN_VERSION, "recipe": repr(self.recipe), "seed": self.seed,
            "epoch": self.epoch, "batch": _one_or_all(self.batch), "samples": self.samples.tolist(),
            "views": self.views.tolist(), "repeat_index": self.repeat_index.tolist(), "frames": self.frames.tolist(),
            "args": ops, "step": self.step,
        }  # fmt: skip
        if self.masks:
            document["masks"] = masks_to_text(self.masks)
        Path(path).write_text(json.dumps(document, indent=1))

    @classmethod
    def load(cls, path: str | os.PathLike[str], classes: Iterable[type] = ()) -> Plan:
        """Read a plan that ``save`` wrote, in this format or in format 1.

        Args:
            path: the file.
            classes: your own ops, samplers and masks in its recipe.

        Raises:
            ValueError: the file is not a plan, or its recipe has a class that is not known.
        """
        classes = class_list(classes)
        try:
            document = json.loads(Path(path).read_text())
            if (number := document.get("format", 1)) not in (1, PLAN_FORMAT):
                raise ValueError(f"plan format {number!r}; this release reads 1 and {PLAN_FORMAT}")
            samples, frames = document["samples"], document["frames"]
            return cls(
                recipe=Recipe.parse(document["recipe"], classes),
                seed=document["seed"],
                epoch=document["epoch"],
                batch=document["batch"],
                samples=samples,
                views=document["views"] if number > 1 else np.full(len(samples), document["view"]),
                frames=np.array(frames) if frames else np.zeros((0, 1), np.int32),
                args={name: _read_rows(op) for name, op in document["args"].items()},
                repeat_index=document.get("repeat_index", 0),
                masks=masks_from_text(document.get("masks", ())),
                step=document.get("step", 0),
            )
        except UnknownClassError as error:
            raise ValueError(f"{path}: {error}; name your own: dv.Plan.load(path, [{error.name}])") from error
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            reason = "it is not text" if isinstance(error, UnicodeDecodeError) else repr(error)
            raise ValueError(f"{path} is not a plan saved by Plan.save: {reason}") from error


def _read_rows(op):
    if op is None:
        return None
    dtype = np.dtype([(n, kind, tuple(shape)) for n, kind, shape in op["dtype"]])
    rows = np.zeros(len(op["rows"]), dtype)
    for name in dtype.names or ():
        for i, row in enumerate(op["rows"]):
            rows[name][i] = row[name]
            if dtype[name].base.kind in "iu" and (rows[name][i] != np.asarray(row[name])).any():
                raise ValueError(f"{name} of row {i} must be whole numbers, got {row[name]}")
    return rows


def _one_or_all(batch):
    return int(batch[0]) if len(batch) and (batch == batch[0]).all() else batch.tolist()
