"""Which frames of a video make a clip. docs/sampling.md has a table of the samplers."""

from dali_vidaug.sampling.around import KeyframeClip
from dali_vidaug.sampling.clip import ClipSampling, clip_frames
from dali_vidaug.sampling.dmvr import DMVRSampling
from dali_vidaug.sampling.multi import MultiClip
from dali_vidaug.sampling.peers import MMAction2Sampling, SlowFastSampling, VideoMAESampling, VJEPA2Sampling
from dali_vidaug.sampling.segments import SegmentSampling
from dali_vidaug.sampling.snippets import Snippets, Spans
from dali_vidaug.sampling.videos import Sampler, Videos, num_clips

# The samplers of the package.
SAMPLERS = (
    ClipSampling, SegmentSampling, MultiClip, KeyframeClip, Snippets, SlowFastSampling, MMAction2Sampling,
    VideoMAESampling, VJEPA2Sampling, DMVRSampling,
)  # fmt: skip

__all__ = [
    "SAMPLERS",
    "ClipSampling",
    "DMVRSampling",
    "KeyframeClip",
    "MMAction2Sampling",
    "MultiClip",
    "Sampler",
    "SegmentSampling",
    "SlowFastSampling",
    "Snippets",
    "Spans",
    "VJEPA2Sampling",
    "VideoMAESampling",
    "Videos",
    "clip_frames",
    "num_clips",
]
