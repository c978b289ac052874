"""The plan of a batch: everything random about it, decided before any pixel exists. Needs only NumPy."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dali_vidaug.recipe import Recipe
from dali_vidaug.rng import Draws

PLAN_VERSION = 1  # another number: the same seed draws other plans than before


@dataclass(frozen=True, eq=False)
class Plan:
    """What is done to each clip of a batch.

    Attributes:
        recipe: what was drawn from.
        seed, epoch, view, batch: the address of the draws; what a clip gets by itself does not depend on ``batch``.
        samples: (B,) int64, manifest rows.
        frames: (B, F) int32, indices of the frames in their video, as a full decode counts them.
        args: for each op of the recipe, by name, a (B,) structured array of its arguments, or None.
    """

    recipe: Recipe
    seed: int
    epoch: int
    view: int
    batch: int
    samples: np.ndarray
    frames: np.ndarray
    args: dict[str, Any]

    def __len__(self):
        return len(self.samples)

    def row(self, i):
        """The plan of clip ``i`` alone."""
        args = {name: rows if rows is None else rows[i : i + 1] for name, rows in self.args.items()}
        return replace(self, samples=self.samples[i : i + 1], frames=self.frames[i : i + 1], args=args)

    def describe(self, i):
        """What clip ``i`` gets, as text."""
        lines = [f"sample {self.samples[i]}, seed {self.seed}, epoch {self.epoch}, view {self.view}"]
        lines.append(f"  frames {', '.join(map(str, self.frames[i]))}")
        for name, op in zip(self.recipe.names, self.recipe.ops, strict=True):
            rows = self.args[name]
            if rows is not None and hasattr(op, "describe"):
                lines += [f"  {name}", *(f"    {line}" for line in op.describe(rows[i]))]
            else:
                values = "" if rows is None else ", ".join(f"{k} {_text(rows[i][k])}" for k in rows.dtype.names)
                lines.append(f"  {name} {values}".rstrip())
        return "\n".join(lines)

    def save(self, path):
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
            "plan_version": PLAN_VERSION,
            "recipe": repr(self.recipe),
            "seed": self.seed,
            "epoch": self.epoch,
            "view": self.view,
            "batch": self.batch,
            "samples": self.samples.tolist(),
            "frames": self.frames.tolist(),
            "args": ops,
        }
        Path(path).write_text(json.dumps(document, indent=1))

    @classmethod
    def load(cls, path, classes=()):
        """Read a plan that ``save`` wrote.

        Args:
            path: the file.
            classes: the user's own op classes in its recipe.

        Raises:
            ValueError: the file is not a plan.
        """
        try:
            document = json.loads(Path(path).read_text())
            args: dict[str, Any] = {}
            for name, op in document["args"].items():
                if op is None:
                    args[name] = None
                    continue
                names = [n for n, _, _ in op["dtype"]]
                dtype = np.dtype([(n, kind, tuple(shape)) for n, kind, shape in op["dtype"]])
                args[name] = np.array([tuple(row[n] for n in names) for row in op["rows"]], dtype)
            return cls(
                recipe=Recipe.parse(document["recipe"], classes),
                seed=document["seed"],
                epoch=document["epoch"],
                view=document["view"],
                batch=document["batch"],
                samples=np.array(document["samples"], np.int64),
                frames=np.array(document["frames"], np.int32),
                args=args,
            )
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a plan saved by Plan.save: {error!r}") from error


def _text(value):
    values = np.atleast_1d(value)
    return " ".join(f"{v:.6g}" if values.dtype.kind == "f" else str(v) for v in values)


def draw_ops(recipe, draws, frames, height, width):
    """Draw every op of a recipe.

    An op sees the clips as the ops before it leave them: one that changes the frame size says so in the fields
    ``out_height`` and ``out_width`` of its arguments.

    Args:
        recipe: its ops draw, its sampling does not.
        draws: the batch's random numbers.
        frames, height, width: (B,) int, the sizes of the clips before the first op.

    Returns:
        The arguments of each op by name; (B,) int heights and widths after the last op.
    """
    frames, height, width = (np.asarray(x, np.int64) for x in (frames, height, width))
    args = {}
    for name, op in zip(recipe.names, recipe.ops, strict=True):
        rows = op.draw(draws.named(name), frames, height, width)
        if rows is not None and not (isinstance(rows, np.ndarray) and rows.dtype.names and len(rows) == len(draws)):
            raise TypeError(f"{name}.draw must return None or a structured array of {len(draws)} rows, got {rows!r}")
        args[name] = rows
        if rows is not None and "out_height" in rows.dtype.names:
            height, width = rows["out_height"].astype(np.int64), rows["out_width"].astype(np.int64)
    return args, height, width


def draw_plan(manifest, recipe, samples, seed=0, epoch=0, view=0, batch=0):
    """Decide what the clips of some samples are and what is done to them.

    A clip's plan depends on (seed, epoch, view, sample) alone: not on the other samples, the device or the decoder.
    Only ops that mix clips also depend on the batch.

    Args:
        manifest: where the videos' sizes and lengths stand.
        recipe: what to draw.
        samples: (B,) int, manifest rows.
        seed: [0, 2**64).
        epoch: [0, 2**24).
        view: [0, 256), which of several augmented views of the same sample.
        batch: number of the batch, [0, 2**32): what ops draw that mix the clips of a batch depends on it.

    Returns:
        The plan.

    Raises:
        ValueError: a number is out of range, or the recipe does not suit a video.
    """
    samples = np.asarray(samples, np.int64)
    draws = Draws(seed, epoch, samples, view, batch=batch)
    first, last = manifest.frame_ranges(samples)
    height, width = manifest.frame_sizes(samples)
    frames = recipe.sampling.draw(draws.named("ClipSampling"), first, last)
    args, _, _ = draw_ops(recipe, draws, np.full(len(samples), frames.shape[1]), height, width)
    return Plan(recipe, seed, epoch, view, batch, samples, frames, args)
