"""Small encoded files in DALI's graph: fed, decoded, cut to what is shown, turned as shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import nvidia.dali.fn
import nvidia.dali.types

from dali_vidaug.columns import split
from dali_vidaug.media.load import Encoded
from dali_vidaug.media.orientation import to_stored
from dali_vidaug.media.uncrop import Box
from dali_vidaug.settings import Settings

types: Any = nvidia.dali.types  # its enumerations come from a compiled module without stubs
fn: Any = nvidia.dali.fn  # the stubs do not have the conditional operators

# Placeholders, in a batch with clips of both decoders, for the clips of the other decoder; nothing reads them.
_NO_FILE = (np.zeros(1, np.uint8), np.zeros(1, np.int32), None, np.eye(3, dtype=np.float32), None, None)
NO_CLIP = np.zeros((1, 1, 1, 3), np.uint8)


class EncodedFiles:
    """The part of a graph that decodes.

    Args:
        settings, oriented, several, boxed: as of ``Graph``.

    Attributes:
        checked: the node of decoded frames that are to be looked at; empty where none are ever.
    """

    def __init__(self, settings: Settings, oriented: bool, several: bool, boxed: bool):
        self._settings, self._oriented, self._several, self._boxed = settings, oriented, several, boxed
        self.checked: list[Any] = []

    def decoded(self, encoded: Any = None) -> Any:
        """The node of decoded clips, (F, H, W, 3) uint8 as shown.

        Args:
            encoded: a node that says which clips of the batch these are; None: all.
        """

        def source(name, dtype, ndim, **options):
            node = fn.external_source(name=name, dtype=dtype, ndim=ndim, **options)
            return node if encoded is None else split(node, encoded)[0]

        data = source("encoded", types.UINT8, 1, no_copy=True)
        # Each index once, rising: otherwise DALI starts to read the file again. No padding: an index past the end is an
        # error, not a black frame.
        where = "mixed" if self._settings.device == "gpu" else "cpu"
        frames = source("frames", types.INT32, 1)
        if self._several:
            is_first, indices = source("first?", types.BOOL, 0), source("index", types.INT32, 0)
            data, frames = split(data, is_first)[0], split(frames, is_first)[0]
        clips = fn.decoders.video(data, device=where, frames=frames, pad_mode="none", affine=False)
        if self._several:  # each file is decoded for the first of its clips, and handed to the others
            others = split(source("no clip", types.UINT8, 4, layout="FHWC"), is_first)[1]
            others = others.gpu() if self._settings.device == "gpu" else others
            clips = fn.permute_batch(fn._conditional.merge(clips, others, predicate=is_first), indices=indices)
        if self._boxed:
            start, shape = source("box start", types.INT32, 1), source("box shape", types.INT32, 1)
            clips = fn.slice(clips, start=start, shape=shape, axis_names="HW")  # past an edge: an error
        clips = fn.sequence_rearrange(clips, new_order=source("order", types.INT32, 1))
        if self._settings.color == "file":
            clips = fn.coord_transform(clips, M=source("colors", types.FLOAT, 2), dtype=types.UINT8)
            clips = fn.reshape(clips, layout="FHWC")
        if self._oriented:
            clips = fn.warp_affine(
                clips,
                matrix=source("orientation", types.FLOAT, 2),
                size=source("shown_size", types.FLOAT, 1),
                interp_type=types.INTERP_NN,
                inverse_map=True,  # the matrix maps output to input
            )
        if self._settings.verify:
            self.checked = [split(clips, source("checked?", types.BOOL, 0))[0].cpu()]
        return clips

    def feed(self, pipeline: Any, inputs: Sequence[Any], checked: Sequence[int]) -> None:
        """Give a pipeline the files of a batch.

        Args:
            pipeline: that has the node.
            inputs: of all clips: ``Encoded``, or what is decoded elsewhere.
            checked: positions of the clips whose decoded frames are to be looked at.

        Raises:
            ValueError: a part of its frames is to be shown of a clip, and the node is for whole ones.
        """
        if self.checked:
            pipeline.feed_input("checked?", np.isin(np.arange(len(inputs)), checked))
        files = [clip if isinstance(clip, Encoded) else _NO_FILE for clip in inputs]
        encoded = np.array([file is not _NO_FILE for file in files])
        if self._settings.decoder == "hybrid":
            pipeline.feed_input("encoded?", encoded)
        unique = [np.unique(file[1], return_inverse=True) for file in files]
        pipeline.feed_input("encoded", [file[0] for file in files])
        pipeline.feed_input("frames", [frames.astype(np.int32) for frames, _ in unique])
        pipeline.feed_input("order", [order.astype(np.int32) for _, order in unique])
        if self._several:
            firsts: dict[int, int] = {}  # of each file, by its data: its first clip among those that DALI decodes
            index = np.zeros(len(files), np.int32)
            index[encoded] = [firsts.setdefault(id(files[i][0]), n) for n, i in enumerate(np.flatnonzero(encoded))]
            pipeline.feed_input("index", index)
            pipeline.feed_input("first?", index == np.maximum(np.cumsum(encoded) - 1, 0))
            pipeline.feed_input("no clip", [NO_CLIP] * len(files))
        if self._boxed:
            boxes = [_box(file) for file in files]
            pipeline.feed_input("box start", [np.array([box.top, box.left], np.int32) for box in boxes])
            pipeline.feed_input("box shape", [np.array([box.height, box.width], np.int32) for box in boxes])
        elif any(file[5] for file in files):
            raise ValueError("a clip shows only a part of its decoded frames, and the graph is for whole ones")
        if self._settings.color == "file":
            pipeline.feed_input("colors", [file[3] for file in files])
        if self._oriented:
            shown = [file[2] for file in files]
            videos = [(video.orientation, video.width, video.height) if video else (1, 1, 1) for video in shown]
            sizes = [np.array(video.shown_size if video else (1, 1), np.float32) for video in shown]
            pipeline.feed_input("orientation", [to_stored(*video) for video in videos])
            pipeline.feed_input("shown_size", sizes)


def _box(file):
    """What is shown of the frames of an encoded file."""
    video = file[2]
    return file[5] or (Box(0, 0, video.width, video.height) if video else Box(0, 0, 1, 1))
