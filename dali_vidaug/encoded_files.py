"""Small encoded files in a DALI graph: fed, decoded, cut to what is shown, turned as shown."""

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


class EncodedFiles:
    """The part of a graph that decodes.

    Args:
        settings: device, colours, and whether clips are compared.
        oriented: whether some of the files are shown otherwise than as stored.
        boxed: whether of some of the files only a part of each frame is shown (their ``box``).

    Attributes:
        checked: the node of decoded frames that are to be looked at; empty where none are ever.
    """

    def __init__(self, settings: Settings, oriented: bool, boxed: bool):
        self._settings, self._oriented, self._boxed = settings, oriented, boxed
        self.checked: list[Any] = []

    def decoded(self) -> Any:
        """The node of decoded clips, (F, H, W, 3) uint8 as shown."""
        source = fn.external_source
        data = source(name="encoded", dtype=types.UINT8, ndim=1, no_copy=True)
        # Each index once, rising: otherwise DALI starts to read the file again. No padding: an index past the end is an
        # error, not a black frame.
        where = "mixed" if self._settings.device == "gpu" else "cpu"
        frames = source(name="frames", dtype=types.INT32, ndim=1)
        clips = fn.decoders.video(data, device=where, frames=frames, pad_mode="none", affine=False)
        if self._boxed:
            start, shape = (source(name=f"box {name}", dtype=types.INT32, ndim=1) for name in ("start", "shape"))
            clips = fn.slice(clips, start=start, shape=shape, axis_names="HW")  # past an edge: an error
        clips = fn.sequence_rearrange(clips, new_order=source(name="order", dtype=types.INT32, ndim=1))
        if self._settings.color == "file":
            colors = source(name="colors", dtype=types.FLOAT, ndim=2)
            clips = fn.reshape(fn.coord_transform(clips, M=colors, dtype=types.UINT8), layout="FHWC")
        if self._oriented:
            clips = fn.warp_affine(
                clips,
                matrix=source(name="orientation", dtype=types.FLOAT, ndim=2),
                size=source(name="shown_size", dtype=types.FLOAT, ndim=1),
                interp_type=types.INTERP_NN,
                inverse_map=True,  # the matrix maps output to input
            )
        if self._settings.verify:
            self.checked = [split(clips, source(name="checked?", dtype=types.BOOL, ndim=0))[0].cpu()]
        return clips

    def feed(self, pipeline: Any, files: Sequence[Encoded], checked: Sequence[int]) -> None:
        """Give a pipeline some files.

        Args:
            pipeline: that has the node.
            files: to be decoded.
            checked: positions of the clips whose decoded frames are to be looked at.

        Raises:
            ValueError: a part of its frames is to be shown of a clip, and the node is for whole ones.
        """
        if self.checked:
            pipeline.feed_input("checked?", np.isin(np.arange(len(files)), checked))
        unique = [np.unique(file.positions, return_inverse=True) for file in files]
        pipeline.feed_input("encoded", [file.data for file in files])
        pipeline.feed_input("frames", [frames.astype(np.int32) for frames, _ in unique])
        pipeline.feed_input("order", [order.astype(np.int32) for _, order in unique])
        if self._boxed:
            boxes = [file.box or Box(0, 0, file.video.width, file.video.height) for file in files]
            pipeline.feed_input("box start", [np.array([box.top, box.left], np.int32) for box in boxes])
            pipeline.feed_input("box shape", [np.array([box.height, box.width], np.int32) for box in boxes])
        elif any(file.box for file in files):
            raise ValueError("a clip shows only a part of its decoded frames, and the graph is for whole ones")
        if self._settings.color == "file":
            pipeline.feed_input("colors", [file.colors for file in files])
        if self._oriented:
            videos = [file.video for file in files]
            turns = [to_stored(video.orientation, video.width, video.height) for video in videos]
            pipeline.feed_input("orientation", turns)
            pipeline.feed_input("shown_size", [np.array(video.shown_size, np.float32) for video in videos])
