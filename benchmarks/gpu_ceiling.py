"""Decoding alone: DALI's decoder on the small files that the loader hands it, and nothing else.

The ceiling of benchmarks/gpu.py.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import NamedTuple

import numpy as np
import nvidia.dali.fn as fn
import nvidia.dali.types as types
from nvidia.dali.pipeline import Pipeline

import dali_vidaug as dv
from dali_vidaug.errors import one_line
from dali_vidaug.media.cut import READ_ERRORS
from dali_vidaug.media.load import Encoded, load_clips

CHECKED = 8  # clips whose frames are compared with the loader's


class Cut(NamedTuple):
    """A small file of the loader's, and whose clip it is.

    Attributes:
        clip: data, positions, box and coding, as ``Encoded`` has them.
        sample: row of the manifest.
        frames: (F,) indices in the video.
        num_decoded: frames that are decoded for it.
    """

    clip: Encoded
    sample: int
    frames: np.ndarray
    num_decoded: int


def cuts_of(loader, plan):
    """What a loader hands to DALI for the clips of a plan: this alone knows the inside of the package.

    Returns:
        Cuts; of the clips that DALI does not decode, for each reason their number.
    """
    settings = loader.settings

    def cut(i):
        sample, frames = int(plan.samples[i]), plan.frames[i]
        video = loader.manifest.video(sample)
        decoder, why = settings.decoder_of(video)
        if decoder == "pyav":
            return why or "decoder='pyav'"
        try:
            loaded = load_clips("dali", settings.device == "gpu", "bt601", video, [frames], [()], None)
        except READ_ERRORS as error:
            return one_line(error).removesuffix("; use decoder='hybrid'")
        return Cut(loaded.clips[0], sample, frames, loaded.num_decoded)

    with ThreadPoolExecutor(settings.num_threads) as pool:
        found = list(pool.map(cut, range(len(plan))))
    return [one for one in found if isinstance(one, Cut)], Counter(one for one in found if isinstance(one, str))


class DecodingAlone:
    """DALI's decoder and nothing else.

    Args:
        settings: of the loader: device and number of threads.
        batch_size: clips that it is handed at a time.
        ahead: batches that are begun before the first of them is waited for, so that no engine waits for Python.
    """

    def __init__(self, settings, batch_size, ahead=2):
        self._batch_size, self._ahead = batch_size, ahead
        where = "mixed" if settings.device == "gpu" else "cpu"
        self._pipeline = Pipeline(batch_size, settings.num_threads, settings.device_id, prefetch_queue_depth=ahead)
        with self._pipeline:
            data = fn.external_source(name="data", dtype=types.UINT8, ndim=1, no_copy=True)
            frames = fn.external_source(name="frames", dtype=types.INT32, ndim=1)
            clips = fn.decoders.video(data, device=where, frames=frames, pad_mode="none", affine=False)
            self._pipeline.set_outputs(clips)

    def _feed(self, cuts):
        self._pipeline.feed_input("data", [cut.clip.data for cut in cuts])
        self._pipeline.feed_input("frames", [np.unique(cut.clip.positions).astype(np.int32) for cut in cuts])

    def steps(self, cuts):
        """Decode cuts again and again; gives the number of each batch."""
        endless = cycle(cuts)
        for _ in range(self._ahead):  # which the first call of schedule_run begins together
            self._feed(list(islice(endless, self._batch_size)))
        while True:
            self._pipeline.schedule_run()
            self._pipeline.share_outputs()  # returns when the batch is decoded
            self._pipeline.release_outputs()
            yield self._batch_size
            self._feed(list(islice(endless, self._batch_size)))

    def frames(self, cut):
        """The frames of a clip, (F, H, W, 3) uint8, as stored: in the clip's order, of them what is shown."""
        self._feed([cut])
        self._pipeline.schedule_run()
        (clips,) = self._pipeline.share_outputs()
        decoded = np.array(clips.as_cpu()[0])
        self._pipeline.release_outputs()
        clip, box = decoded[np.unique(cut.clip.positions, return_inverse=True)[1]], cut.clip.box
        return clip if box is None else clip[:, box.top : box.top + box.height, box.left : box.left + box.width]


def check(loader, plan, cuts, device):
    """The frames that decoding alone gives are those that the loader gives to its ops, bit for bit, in their order.

    Args:
        loader, plan, cuts: as of ``cuts_of``.
        device: the loader's, as ``VideoLoader`` takes it.

    Returns:
        How many clips were compared; codings that the loader leaves to PyAV after all, with the reason.

    Raises:
        SystemExit: they are others.
    """
    firsts = {cut.clip.coding: cut for cut in reversed(cuts)}  # of each coding one, and then others
    chosen = list({id(cut): cut for cut in (*firsts.values(), *cuts)}.values())[:CHECKED]
    plain, settings, left = dv.Recipe(loader.recipe.sampling, ()), loader.settings, {}
    alone = DecodingAlone(settings, 1, ahead=1)
    options = {"device": device, "decoder": settings.decoder, "num_threads": settings.num_threads, "on_error": "raise"}
    with dv.VideoLoader(loader.manifest, plain, 1, num_shards=1, shard_index=0, verify=None, **options) as other:
        for cut in chosen:
            known = other.report().fallbacks
            drawn = dv.draw_plan(loader.manifest, plain, [cut.sample], plan.seed, plan.epoch)
            given = other.apply(drawn).clips[0].permute(1, 2, 3, 0).cpu().numpy()
            found = [why for why, (_, count) in other.report().fallbacks.items() if count > known.get(why, ("", 0))[1]]
            if found:
                left[cut.clip.coding] = found[0]
                continue
            decoded = alone.frames(cut)
            turned = [np.rot90(one, k, (1, 2)) for one in (decoded, decoded[:, :, ::-1]) for k in range(4)]
            if not any(np.array_equal(one, given) for one in turned) or drawn.frames[0].tolist() != cut.frames.tolist():
                same = [one for one in turned if one.shape == given.shape]
                away = [np.abs(one.astype(int) - given).mean((1, 2, 3)) for one in same]
                what = f"differ by up to {min(a.max() for a in away):.2f} of 255" if away else f"are {decoded.shape}"
                raise SystemExit(
                    f"{loader.manifest.path(cut.sample)}: the frames {cut.frames.tolist()} of decoding alone are not "
                    f"those that the loader decodes, {given.shape}: they {what}. Nothing is measured"
                )
    return len(chosen) - len(left), left
