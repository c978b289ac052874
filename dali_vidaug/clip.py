"""One clip on its way from the file to the graph: loaded by a decoder, and what to do when that goes wrong."""

from typing import Any, NamedTuple

from dali_vidaug.cut import NotForNvdecError, remux
from dali_vidaug.decode import decode
from dali_vidaug.graph import Encoded, Graph
from dali_vidaug.kernels import set_num_threads
from dali_vidaug.ops import CROP


class ClipError(RuntimeError):
    """A clip could not be read or decoded.

    Attributes:
        path: the file.
        sample: its manifest row.
        epoch: the epoch it was wanted in.
        plan: the clip's plan, of one row.
    """

    def __init__(self, path, plan, why):
        self.path, self.sample, self.epoch, self.plan, self.reason = path, int(plan.samples[0]), plan.epoch, plan, why
        super().__init__(f"{path} (sample {self.sample}, epoch {self.epoch}): {why}")

    def __reduce__(self):
        return ClipError, (self.path, self.plan, self.reason)


def num_folded(recipe, settings):
    """How many of the first ops PyAV's clips have had in the conversion to RGB: crops and scalings."""
    if settings.decoder == "dali" or not settings.fold:
        return 0
    count = 0
    while count < len(recipe.ops) and getattr(recipe.ops[count], "ARGS", None) is CROP:
        count += 1
    return count


def make_graph(recipe, plan, settings, batch_size, *, rotated=False, folded=0):
    """The graph for batches like ``plan``. ``rotated``: whether the manifest has files that are stored turned."""
    set_num_threads(settings.num_threads)
    return Graph(
        recipe,
        {name: None if rows is None else rows.dtype for name, rows in plan.args.items()},
        batch_size=batch_size,
        device=settings.device,
        device_id=settings.device_id,
        num_threads=settings.num_threads,
        dtype=settings.dtype,
        decoder=settings.decoder,
        rotated=rotated and settings.decoder != "pyav",
        num_folded=folded,
    )


class Loaded(NamedTuple):
    """A clip as it leaves a decoding thread.

    Attributes:
        media: what ``Graph.run`` takes.
        num_decoded: frames that are decoded for it.
        seconds: processor time by stage.
        fallback: why PyAV decoded it where DALI should have, or None.
    """

    media: Any
    num_decoded: int
    seconds: dict[str, float]
    fallback: str | None = None


def load_clip(decoder, device, video, frames, steps, fallback=None):
    """What a decoding thread or process does for one clip.

    Args:
        decoder: "dali" cuts it out for DALI; "pyav" decodes it; "hybrid" does the first if DALI gets it right.
        device: where DALI runs.
        video: its row.
        frames: (F,) int, frame indices.
        steps: crops and scalings that PyAV does, ``CROP`` rows.
        fallback: why it is PyAV's turn already.

    Raises:
        EOFError, OSError, ValueError, av.error.FFmpegError: the file is bad, or only DALI may decode it and would
            not get it right.
    """
    if decoder != "pyav":
        try:
            data, places, seconds = remux(video, frames, on_gpu=device == "gpu")
            return Loaded(Encoded(data, places, video), int(places.max()) + 1, {"read": seconds})
        except NotForNvdecError as error:
            if decoder == "dali":
                raise ValueError(f"{error}; use decoder='hybrid'") from error
            fallback = str(error)
    clip = decode(video, frames, steps)
    return Loaded(clip.pixels, clip.num_decoded, clip.seconds, fallback)


def fault(graph, plan, clip):
    """Why DALI cannot decode a clip.

    Args:
        graph: takes clips as they come from ``load_clip``.
        plan: the clip's, of one row.
        clip: as in ``Graph.run``.

    Returns:
        A line, or None when DALI can decode it, or need not.
    """
    if not isinstance(clip, Encoded):
        return None
    try:
        graph.run(plan, [clip])
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        words = ("error", "failed", "assert", "supported")
        told = [line for line in lines if any(word in line.lower() for word in words)]
        return f"DALI could not decode it: {(told or lines or ['no message'])[-1]}"
    return None
