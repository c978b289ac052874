"""A DALI pipeline that decodes small files, and does the ops that belong to decoding: leading crops and scalings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from nvidia.dali.pipeline import Pipeline

from dali_vidaug.columns import Columns, build_op
from dali_vidaug.encoded_files import EncodedFiles
from dali_vidaug.leading import num_in_decoder
from dali_vidaug.media.load import Encoded
from dali_vidaug.plan import Plan
from dali_vidaug.results import op_failures
from dali_vidaug.settings import Settings


class Decoded(NamedTuple):
    """A clip that DALI has decoded.

    Attributes:
        tensor: DALI's, (F, H, W, 3) uint8, on the device of the settings. Nothing has to be waited for.
        owner: the batch that has its memory.
    """

    tensor: Any
    owner: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """(F, H, W, 3)."""
        return tuple(self.tensor.shape())


class DecodeGraph:
    """Decodes files that differ from each other.

    Args:
        plan: of any batch: its recipe and the dtypes of its arguments are those of all.
        settings: device, decoder, colours, number of threads.
        batch_size: the largest number of files.
        oriented: whether some of the files are shown otherwise than as stored.
        boxed: whether of some of the files only a part of each frame is shown (their ``box``).
        whole: no ops are done: several clips may be made of a file.
    """

    def __init__(self, plan: Plan, settings: Settings, batch_size: int, oriented: bool, boxed: bool, whole: bool):
        self._files = EncodedFiles(settings, oriented, boxed)
        ops = plan.recipe.pixel_ops[: 0 if whole else num_in_decoder(plan.recipe, settings)]
        self._columns = {
            name: Columns(name, None if plan.args[name] is None else plan.args[name].dtype, settings) for name, _ in ops
        }
        self._plan: Any = None  # of what is being decoded
        self._checked: list[int] = []
        self.pipeline = Pipeline(batch_size, settings.num_threads, settings.device_id, prefetch_queue_depth=1)
        with self.pipeline:
            clips = self._files.decoded()
            for name, op in ops:
                clips = build_op(name, op, clips, self._columns[name])
            self.pipeline.set_outputs(clips, *self._files.checked)

    def start(self, plan: Plan, clips: Sequence[int], files: Sequence[Encoded], checked: Sequence[int]) -> None:
        """Begin to decode; ``take`` waits for it.

        Args:
            plan: of a batch.
            clips: positions in it.
            files: of these clips.
            checked: those of the positions, in their order, of which ``take`` returns the frames before any op.

        Raises:
            TypeError: the arguments of an op are of another dtype than before.
            ValueError: a part of its frames is to be shown of a clip, and the graph is for whole ones.
        """
        at = np.asarray(clips)
        self._plan, self._checked = plan, list(checked)
        self._files.feed(self.pipeline, files, np.flatnonzero(np.isin(at, self._checked)).tolist())
        for name, columns in self._columns.items():
            rows: Any = plan.args[name]
            columns.check(rows)
            columns.feed(self.pipeline, None if rows is None else rows[at])
        self.pipeline.schedule_run()

    def take(self) -> tuple[list[Decoded], dict[int, np.ndarray]]:
        """Wait for what was begun: the clips, and by position the frames of those that are looked at.

        Raises:
            RuntimeError: DALI could not decode one of the files; later ones are not affected.
            OpError: the function of an op failed.
        """
        with op_failures(self._plan, self._columns.values()):
            made, *looked_at = self.pipeline.share_outputs()
        self.pipeline.release_outputs()
        clips = [Decoded(made[i], made) for i in range(len(made))]
        frames = [np.array(frames) for frames in looked_at[0]] if looked_at else []
        return clips, dict(zip(self._checked, frames, strict=True))
