"""A way to load clips that ends the process for some of them; in a module that a decoding process can import."""

import os
import signal
from pathlib import Path

from dali_vidaug.media.load import load_clips

ALWAYS, ONCE = "03.mp4", "05.mp4"  # of which files


def load(decoder, on_gpu, color, video, frames, crops, why, **options):
    """As ``load_clips``, but for two files: of one the process always ends, of the other only the first time."""
    path = Path(video.path)
    first = path.with_suffix(".seen")
    if path.name == ALWAYS or (path.name == ONCE and not first.exists()):
        first.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return load_clips(decoder, on_gpu, color, video, frames, crops, why, **options)
