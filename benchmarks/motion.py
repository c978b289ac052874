"""What motion costs: clips decoded without it, with batch.motion, and for motion-guided masks, in turn.

    python benchmarks/motion.py --videos folder

Checks first: the pixels are the same bit for bit, with and without; each mask has its number of tokens, and is the same
by the motion of all frames as by that of the frames that it needs. Times are
processor time of one thread: for what a decoding thread does for a clip, and for the masks of a batch. Each batch is
made in each way, one after the other; a round is all batches, and what is printed is the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

import dali_vidaug as dv
from dali_vidaug.clip_motion import motion_step, motion_views, with_motion_masks
from dali_vidaug.commands.demo import make_videos
from dali_vidaug.media.load import load_clips
from dali_vidaug.recycled import keep_freed_memory

SIZES = (224, 112)
RATIO = 0.75
WAYS = ("decoding", "with motion", "with masks")  # a mask needs the motion of some frames only


def make_plans(manifest, size, frames, stride, batch_size):
    """The plans of an epoch. The crop is the decoder's, as in a loader."""
    sampling = dv.ClipSampling(num_frames=frames, stride=stride)
    recipe = dv.Recipe(sampling, (dv.RandomResizedCrop(size),), masks=(dv.MotionMask(RATIO),))
    samples = np.arange(len(manifest) // batch_size * batch_size).reshape(-1, batch_size)
    return [dv.draw_plan(manifest, recipe, some) for some in samples]


def load(manifest, plan, way):
    """The clips of a plan, and what moves in them, as a decoding thread loads them."""
    height, width = manifest.frame_sizes(plan.samples)
    every = motion_step(plan.recipe) if way == "with masks" else 1
    views = None if way == "decoding" else motion_views("benchmark", plan, height, width, every)
    loaded = []
    for i, sample in enumerate(plan.samples.tolist()):
        crops = [[plan.args["RandomResizedCrop"][i]]]
        more = [[views[i]]] if views else []
        loaded.append(load_clips("pyav", False, "bt601", manifest.video(sample), [plan.frames[i]], crops, None, *more))
    return loaded


def timed(function, *arguments):
    before = time.thread_time()
    result = function(*arguments)
    return time.thread_time() - before, result


def check(made, masks):
    """Pixels are the same in each way; masks are exact, and the same by all frames as by those that they need."""
    for way in WAYS[1:]:
        for one, other in zip(made["decoding"], made[way], strict=True):
            assert (one.clips[0] == other.clips[0]).all(), "pixels differ"
    one, other = masks.values()
    assert (one == other).all(), "masks differ"
    assert (one.sum((2, 3)) == int(RATIO * one[0, 0].size)).all(), "a mask is not exact"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", help="a folder of videos; default: made ones")
    parser.add_argument("--clips", type=int, default=96, help="videos at most (96)")
    parser.add_argument("--frames", type=int, default=16, help="of a clip (16)")
    parser.add_argument("--stride", type=int, default=4, help="of a clip (4)")
    parser.add_argument("--batch-size", type=int, default=8, help="clips of a batch (8)")
    parser.add_argument("--rounds", type=int, default=15, help="of all batches (15)")
    args = parser.parse_args()
    keep_freed_memory()  # as loaders do
    with tempfile.TemporaryDirectory() as folder:
        manifest = dv.scan(args.videos or make_videos(Path(folder) / "v"))
        manifest = manifest.select(np.arange(min(len(manifest), args.clips)))
        for size in SIZES:
            plans = make_plans(manifest, size, args.frames, args.stride, args.batch_size)
            rounds = []
            for number in tqdm(range(args.rounds + 1), desc=f"{size}x{size}", unit="round"):
                seconds = dict.fromkeys(WAYS, 0.0)
                for at, plan in enumerate(plans):
                    took, made, masks = {}, {}, {}
                    for k in range(len(WAYS)):
                        way = WAYS[(k + at + number) % len(WAYS)]
                        took[way], made[way] = timed(load, manifest, plan, way)
                    for way in WAYS[1:]:
                        motion = np.concatenate([np.stack(loaded.motion) for loaded in made[way]])
                        masking, masked = timed(with_motion_masks, plan, motion, (args.frames, size, size))
                        (masks[way],) = masked.masks
                    took["with masks"] += masking
                    if number == 0:
                        check(made, masks)
                    for way in WAYS:
                        seconds[way] += took[way]
                rounds.append(seconds)
            for way in WAYS:
                ratios = [one[way] / one["decoding"] for one in rounds[1:]]
                each = 1e3 * statistics.median(one[way] for one in rounds[1:]) / (len(plans) * args.batch_size)
                print(
                    f"{size}x{size} {way:12} {each:.2f} ms a clip, {statistics.median(ratios):.3f} times decoding "
                    f"({min(ratios):.3f} to {max(ratios):.3f})"
                )


if __name__ == "__main__":
    main()
