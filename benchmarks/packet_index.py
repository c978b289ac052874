"""What a packet index saves: clips read by place compared with clips read from containers.

    python benchmarks/packet_index.py VIDEOS [--clips N] [--rounds N]

Checks first that the clips are the same, bit for bit. Then times, in turn in each round: what comes before decoding
(open, find and read the packets, make a decoder), reading and decoding, and the whole clip with crop and RGB; with a
decoder for each clip, and with decoders that are kept. One thread, files in the page cache. Prints medians and ratios.
"""

import argparse
import statistics
import sys
import time

import numpy as np

import dali_vidaug as dv
from dali_vidaug.media.cut import open_source, read_cuts
from dali_vidaug.media.decode import decode, decode_cut, decoder_of

RECIPE = dv.Recipe(dv.ClipSampling(num_frames=16, stride=2), (dv.RandomResizedCrop(224),))


def set_up(video, frames, codec=None):
    """Everything before the first packet is decoded; returns (decoder, cuts)."""
    with open_source(video) as (source, stream):
        cuts = read_cuts(source, stream, video, frames)
        if codec is None:
            codec = decoder_of(stream)
            codec.open()
        return codec, cuts


def read_and_decode(video, frames, codec=None):
    """All frames of a clip's cuts, in YUV; returns how many, and the decoder."""
    with open_source(video) as (source, stream):
        cuts = read_cuts(source, stream, video, frames)
        codec = codec or decoder_of(stream)
        return sum(1 for cut in cuts for _ in decode_cut(codec, cut, video)), codec


def with_kept_decoders():
    """As ``read_and_decode``, with one decoder for all clips of the same codec and extradata."""
    kept = {}

    def run(video, frames):
        key = video.packet_index.codec
        _, kept[key] = read_and_decode(video, frames, kept.get(key))

    return run


def check(jobs):
    """The clips are the same, bit for bit."""
    for indexed, video, frames, crops in jobs:
        np.testing.assert_array_equal(decode(indexed, frames, crops).pixels, decode(video, frames, crops).pixels)


def timed(function, jobs):
    """Milliseconds of this thread a clip."""
    started = time.thread_time()
    for job in jobs:
        function(*job)
    return (time.thread_time() - started) / len(jobs) * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", help="folder of videos")
    parser.add_argument("--clips", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()

    manifest = dv.scan(args.videos)
    samples = np.flatnonzero(manifest.table["packet_index"].is_valid().to_numpy())
    samples = samples[np.linspace(0, len(samples) - 1, min(args.clips, len(samples))).round().astype(int)]
    plan = dv.draw_plan(manifest, RECIPE, samples)
    jobs = []
    for i, sample in enumerate(samples.tolist()):
        video = manifest.video(sample)
        jobs.append(
            (video, video._replace(packet_index=None), plan.frames[i], plan.args["RandomResizedCrop"][i : i + 1])
        )
    check(jobs)
    used = sum(len(video.packet_index.packets) for video in map(manifest.video, samples.tolist()))
    packets = sum(manifest.video(sample).num_frames for sample in samples.tolist())
    print(f"checked: {len(jobs)} clips are the same by index and by container; {used / packets:.1f} bytes a packet")

    ways = {}
    for name, which in (("container", 1), ("index", 0)):
        some = [(job[which], job[2]) for job in jobs]
        ways[f"set-up, {name}"] = (set_up, some)
        ways[f"read and decode, {name}"] = (read_and_decode, some)
        ways[f"whole clip, {name}"] = (decode, [(job[which], job[2], job[3]) for job in jobs])
    ways["read and decode, index, kept decoders"] = (with_kept_decoders(), [(job[0], job[2]) for job in jobs])
    times = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, (function, some) in ways.items():
            times[name].append(timed(function, some))
    for name, values in times.items():
        print(f"  {name:40} {statistics.median(values):7.3f} ms a clip   ({min(values):.3f} to {max(values):.3f})")
    for stage in ("set-up", "read and decode", "whole clip"):
        ratios = [a / b for a, b in zip(times[f"{stage}, container"], times[f"{stage}, index"], strict=True)]
        print(f"{stage}: container / index {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    kept = "read and decode, index, kept decoders"
    ratios = [a / b for a, b in zip(times["read and decode, index"], times[kept], strict=True)]
    print(f"a decoder a clip / kept decoders {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    sys.exit(main())
