"""Clips of plans, given to a pool that loads them: by which decoder, together with which others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from dali_vidaug.clip_motion import motion_step, motion_views, needs_motion
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.leading import num_in_decoder
from dali_vidaug.media.claims import if_measured
from dali_vidaug.media.load import Doubt, load_clips
from dali_vidaug.media.sharing import same_frames, share_decoding
from dali_vidaug.ops.interpolate import decoded_frames
from dali_vidaug.pending import Job
from dali_vidaug.plan import Plan
from dali_vidaug.recipe import Recipe
from dali_vidaug.settings import Settings
from dali_vidaug.share import Share
from dali_vidaug.trust import Trust


class Loading:
    """Loads clips.

    Args:
        manifest, recipe, settings, pool, trust, share: as of ``Maker``.

    Attributes:
        motion: whether clips come with what moves in them.
        motion_every: how far apart the frames of a clip are whose motion is looked for.

    Raises:
        ValueError: a mask needs motion, which the decoder does not give.
    """

    def __init__(self, manifest: Manifest, recipe: Recipe, settings: Settings, pool: Any, trust: Trust, share: Share):
        self._manifest, self._settings, self._pool, self._trust, self._share = manifest, settings, pool, trust, share
        self._crops = [name for name, _ in recipe.pixel_ops[: num_in_decoder(recipe, settings)]]
        self.motion = settings.motion or needs_motion(recipe)
        self.motion_every = motion_step(recipe) if self.motion and not settings.motion else 1
        if self.motion and settings.decoder != "pyav":  # of a plan of another recipe
            raise ValueError(f"a mask of the plan needs motion, which decoder {settings.decoder!r} does not give")

    def load(self, plan: Plan, clips: Sequence[int], decoder: str | None = None, check: bool = False) -> dict[int, Job]:
        """Have clips of one sample loaded, by the decoder that suits its video and share or by the one that is given.

        With ``check``, or where they are likely to be compared, clips for DALI come with PyAV's frames.

        Returns:
            For each of them, by its position, where it comes.
        """
        video = if_measured(self._settings.trusted(self._manifest.video(int(plan.samples[clips[0]]))))
        chosen, why = (decoder, None) if decoder else self._settings.decoder_of(video)
        drawn = None if chosen != "hybrid" else self._share.takes(self._settings.cpu_share, plan, clips[0])
        chosen = "pyav" if drawn else chosen
        frames, jobs = [decoded_frames(plan.frames[i]) for i in clips], dict[int, Job]()
        views = self._views(plan, clips, video) if self.motion else None
        # DALI's graph hands each clip a copy of its whole file: frames of other clips would only take memory there.
        for together in share_decoding(video, frames) if chosen == "pyav" else same_frames(frames):
            part = float(check)
            if chosen != "pyav" and not check:
                part = self._trust.part_to_check(
                    self._settings.verify, plan, [clips[k] for k in together], video.format
                )
            doubt = Doubt(self._trust.wrong, part)
            crops = [[plan.args[name][clips[k]] for name in self._crops] for k in together]
            call = partial(load_clips, chosen, self._settings.device == "gpu", self._settings.color, doubt=doubt)
            more = [] if views is None else [[views[k] for k in together]]
            future = self._pool.load(call, video, [frames[k] for k in together], chosen != "pyav", crops, why, *more)
            jobs |= {clips[k]: Job(future, place, drawn) for place, k in enumerate(together)}
        return jobs

    def _views(self, plan, clips, video):
        """Where clips of one sample lie in the frames of its video."""
        part = slice(min(clips), max(clips) + 1)
        height, width = video.shown_size
        views = motion_views("VideoLoader", plan.part(part), height, width, self.motion_every)
        return [views[i - part.start] for i in clips]
