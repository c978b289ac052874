"""What is done on the CPU without DALI: the last ops of a recipe, those that run on arrays.

In DALI's graph such an op costs a copy of each clip that it returns, and one where the batch leaves the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from dali_vidaug.errors import OpError, naming
from dali_vidaug.ops.operator import checked_clips, read_only
from dali_vidaug.pixel_order import mirror
from dali_vidaug.plan import Plan
from dali_vidaug.planes import Planes
from dali_vidaug.results import batch_text, op_error

Step = tuple[str, Any]  # the name of an op, and the op
BLENDING = "positions between frames"  # the name of a step that no recipe has


def num_direct(steps: Sequence[Step]) -> int:
    """How many of the last steps need no DALI on the CPU: they ``run``, or do nothing but mirror."""
    needs = [not (hasattr(op, "run") or getattr(op, "mirrors", False)) for _, op in reversed(steps)]
    return [*needs, True].index(True)


class Direct:
    """The last steps of a recipe, and the tensor of a batch.

    Args:
        steps: those that ``num_direct`` counts.
        planes: makes the tensor.
        num_threads: they share the clips.
    """

    def __init__(self, steps: Sequence[Step], planes: Planes, num_threads: int):
        self._steps, self._planes, self._num_threads = list(steps), planes, num_threads
        self._runs = {name: op.run for name, op in steps if not getattr(op, "mirrors", False)}
        self._last: str | None = None  # the name of an op whose flip is done with the last pass
        if self._steps and getattr(self._steps[-1][1], "mirrors", False):
            self._last = self._steps.pop()[0]

    def __call__(
        self, clips: Sequence[np.ndarray], plan: Plan, args: dict[str, Any],
        check: Callable[[Sequence[np.ndarray], str], None],
    ) -> torch.Tensor:  # fmt: skip
        """The tensor, (B, 3, F, H, W).

        Args:
            clips: B arrays (F, H, W, 3) uint8; they stay as they are.
            plan: of the batch.
            args: the arguments of each op, (B,), by its name.
            check: called after each op with its clips and its name.

        Raises:
            ValueError: an op returns no clips, or raises an exception (``OpError``); the clips differ in size.
        """
        for name, op in self._steps:
            if getattr(op, "mirrors", False):
                clips = mirror(clips, args[name]["mirrored"] != 0, self._num_threads)
            else:
                clips = self._run(name, op, clips, args[name], plan)
                if name != BLENDING:
                    check(clips, name)
        mirrored = args[self._last]["mirrored"] != 0 if self._last else np.zeros(len(clips), bool)
        return self._planes(clips, mirrored)

    def _run(self, name, op, clips, rows, plan):
        given = [read_only(clip) for clip in clips]
        with naming(name, op, "run", lambda: f"for {batch_text(plan)}"):
            try:
                made = self._runs[name](given, None if rows is None else read_only(rows), self._num_threads)
            except OpError as error:  # of a module that the op calls
                raise op_error(name, error, plan) from error
            return [np.ascontiguousarray(clip) for clip in checked_clips(made, given)]
