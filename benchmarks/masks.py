"""What masks cost, compared with decoding the clips that they are for, in turn, on one thread.

    python benchmarks/masks.py VIDEOS [--clips 32] [--rounds 7]

Draws the masks of a batch of clips, and decodes as many clips of 16 frames, cropped and scaled to 224 x 224. Checks the
counts of masks before it times them. Prints medians of processor time in microseconds a clip, with the range over the
rounds, and which share of decoding that is; and the same of lists of tokens.
"""

import argparse
import statistics
import time

import numpy as np

import dali_vidaug as dv
from dali_vidaug.drawn_masks import draw_masks
from dali_vidaug.media.decode import decode
from dali_vidaug.rng import Draws
from dali_vidaug.tokens import token_lists

MASKS = (dv.TubeMask(), dv.RandomMask(), dv.RunningCellMask(), dv.MultiBlockMask(), dv.MultiBlockMask(2, 0.7),
         dv.CubeMask())  # fmt: skip
SIZE = (16, 224, 224)


def recipe_of(mask):
    sampling = dv.ClipSampling(SIZE[0], stride=4, short="shrink")
    return dv.Recipe(sampling, (dv.RandomResizedCrop(SIZE[1]), dv.Normalize()), masks=(mask,))


def draw(mask, count, round_number):
    """The masks of a batch, as a loader draws them."""
    draws = Draws(0, round_number, np.arange(count), step=round_number)
    return draw_masks(recipe_of(mask), draws, np.zeros(count, int), np.tile(SIZE, (count, 1)))[0]


def check(mask, drawn):
    """Each clip has its own mask, of about the share of tokens that it should have."""
    share = getattr(mask, "ratio", None)
    assert len(np.unique(drawn, axis=0)) > min(len(drawn), 4) - 2
    assert share is None or np.abs(drawn.mean((1, 2, 3)) - share).max() < 0.05, mask


def decode_clips(manifest, plan):
    for i, sample in enumerate(plan.samples.tolist()):
        decode(manifest.video(sample), plan.frames[i], [plan.args["RandomResizedCrop"][i]])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", help="a folder of videos, or a manifest")
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    manifest = dv.Manifest.read(args.videos) if args.videos.endswith(".parquet") else dv.scan(args.videos)
    samples = np.linspace(0, len(manifest) - 1, args.clips).round().astype(int)
    clips = [dv.draw_plan(manifest, recipe_of(MASKS[0]), samples, epoch=k) for k in range(args.rounds + 1)]
    calls = {"decoding": lambda k: decode_clips(manifest, clips[k])}
    for mask in MASKS:
        check(mask, draw(mask, args.clips, 0))
        calls[repr(mask)] = lambda k, mask=mask: draw(mask, args.clips, k)
    plans = {repr(mask): dv.draw_plan(manifest, recipe_of(mask), samples) for mask in (MASKS[0], MASKS[3])}
    for name, plan in plans.items():
        calls[f"lists of tokens of {name}"] = lambda k, plan=plan: token_lists(plan, 0)
    times = {name: [] for name in calls}
    for k in range(args.rounds + 1):
        for name, call in calls.items():
            begun = time.thread_time()
            call(k)
            times[name].append(1e6 * (time.thread_time() - begun) / args.clips)
    whole = statistics.median(times["decoding"][1:])
    for name, taken in times.items():
        median, low, high = statistics.median(taken[1:]), min(taken[1:]), max(taken[1:])
        print(f"{name}: {median:.0f} us a clip ({low:.0f} to {high:.0f}), {median / whole:.2%} of decoding", flush=True)


if __name__ == "__main__":
    main()
