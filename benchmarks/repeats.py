"""What it saves to decode once: several augmentations of the same frames, and several views of a video.

    python benchmarks/repeats.py VIDEOS [--repeats R] [--views V] [--batches N] [--rounds N] [--json FILE]

Checks first that repeat 0 of R is the clip of a loader without repeats, and that each view is the clip of a loader of
this view alone, bit for bit. Then times in turn, for several rounds: clips per second without and with repeats; and of
a pass for each view, and of all views in one pass. Prints medians and ratios, also of the clips per second of processor
time, which depend less on what else runs on the machine.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loader import make_recipe
from usage import machine

import dali_vidaug as dv


@dataclass(frozen=True)
class OneView:
    """One of the clips that a sampler makes of each video."""

    sampling: Any
    view: int

    def draw(self, draws, videos):
        views = np.full(len(draws), self.view)
        return self.sampling.draw(dv.Draws(draws.seed, draws.epoch, draws.samples, views, draws.prefix), videos)

    @property
    def name(self):
        return type(self.sampling).__name__


def check_repeats(manifest, recipe, repeats, options):
    """Repeat 0 is the clip without repeats; the other repeats are other clips."""
    with dv.VideoLoader(manifest, recipe, **options) as once:
        with dv.VideoLoader(manifest, recipe, **options, repeats=repeats) as often:
            for one, many in islice(zip(once, often, strict=True), 3):
                assert len(many) == repeats * len(one)
                first = many.repeat_index == 0
                assert torch.equal(many.clips[first], one.clips), "repeat 0 is not the clip without repeats"
                assert torch.equal(many.samples[first], one.samples)
                if repeats > 1:
                    assert not torch.equal(many.clips[many.repeat_index == 1], one.clips)


def check_views(manifest, sampling, options):
    """Each view is the clip of a loader of this view alone."""
    ops = (dv.Resize(256), dv.CenterCrop(224), dv.Normalize())
    with dv.VideoLoader(manifest, dv.Recipe(sampling, ops), **options) as loader:
        batches = list(islice(loader, 2))
    for view in range(sampling.num_clips):
        with dv.VideoLoader(manifest, dv.Recipe(OneView(sampling, view), ops), **options) as alone:
            for one, many in zip(islice(alone, 2), batches, strict=True):
                here = many.views == view
                assert torch.equal(many.clips[here], one.clips), f"view {view} is not what it is alone"
                assert torch.equal(many.samples[here], one.samples)


def clips_per_second(loaders, batches):
    """Of some loaders one after the other, from the first batch of each on: what starts before it does not count.

    Returns:
        Clips per second, and clips per second of processor time; the latter counts those that are made ahead, too.
    """
    clips = seconds = made = used = 0.0
    for loader in loaders:
        with loader:
            iterator = islice(loader, batches)
            next(iterator)
            before, started, busy = loader.report().clips, time.perf_counter(), time.process_time()
            clips += sum(len(batch) for batch in iterator)
            seconds, used = seconds + time.perf_counter() - started, used + time.process_time() - busy
            made += loader.report().clips - before
    return clips / seconds, made / used


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", help="folder with a sub-folder for each class")
    parser.add_argument("--recipe", choices=("basic", "randaugment", "full"), default="basic")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--views", type=int, default=10)
    parser.add_argument("--batches", type=int, default=12, help="batches in a round, for each of the four")
    parser.add_argument("--batch-size", type=int, default=8, help="videos in a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num-threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    if args.batches < 2 or args.repeats < 1 or args.views < 1 or args.rounds < 1:
        parser.error("at least 2 batches, and 1 repeat, view and round")

    manifest = dv.scan(args.videos)
    recipe = make_recipe(args.recipe, 16, 2)
    views = dv.MultiClip(recipe.sampling, args.views)
    options = dict(batch_size=args.batch_size, num_threads=args.num_threads, device="cpu", decoder="pyav")
    check_repeats(manifest, recipe, args.repeats, options)
    check_views(manifest, views, options)
    print(
        f"checked: repeat 0 of {args.repeats} is the clip without repeats, each of {args.views} views what it is alone"
    )

    passes = [dv.Recipe(OneView(views, view), recipe.ops) for view in range(args.views)]
    ways = {
        "no repeats": ([recipe], {}),
        f"{args.repeats} repeats": ([recipe], {"repeats": args.repeats}),
        f"{args.views} passes": (passes, {}),
        f"{args.views} views": ([dv.Recipe(views, recipe.ops)], {}),
    }
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(args.rounds):
        for name, (recipes, more) in ways.items():
            loaders = (dv.VideoLoader(manifest, one, **options, **more, seed=number) for one in recipes)
            rates[name].append(clips_per_second(loaders, max(2, args.batches // len(recipes))))
        told = ", ".join(f"{name} {values[-1][0]:.1f} ({values[-1][1]:.1f})" for name, values in rates.items())
        print(f"round {number + 1}: {told} clips/s (of processor time)", flush=True)

    medians = {name: np.median(values, 0).tolist() for name, values in rates.items()}
    once, often, apart, together = medians.values()
    print(f"\nmedians of {args.rounds} rounds, {args.num_threads} threads:")
    for name, (rate, busy) in medians.items():
        print(f"  {name:12} {rate:7.1f} clips/s, {busy:.1f} per second of processor time")
    for name, many, few in (("repeats / no repeats", often, once), ("views / passes", together, apart)):
        print(f"{name}: {many[0] / few[0]:.2f}, by processor time {many[1] / few[1]:.2f}")
    if args.json:
        figures = {"machine": machine(), "options": vars(args), "clips_per_second": rates, "medians": medians}
        Path(args.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
