"""Which augmentation helps: small networks trained with each, on the same folds and seeds, compared in pairs.

    python benchmarks/ablation.py VIDEOS --output FOLDER [--folds 3] [--seeds 2] [--epochs 20] [--arms none mixup ...]

VIDEOS has a sub-folder for each class. Two sets are tried: "videos" (VIDEOS, made small with ``dv.transcode``), and
"shapes": made videos, whose test videos have camera motion and exposure drift that the training videos lack. Each set
is cut into folds, class by class. A network is trained from nothing on all folds but one and tested on that one: with
each arm, fold and seed. Arms differ in their augmentations only; initial weights, order, frames, crops and flips of the
same fold and seed are the same. The arm "none" has crop and flip.

Prints a table and draws FOLDER/ablation.png: accuracy, and its difference from "none" with a confidence interval. Each
run is kept in FOLDER/runs.jsonl; started again, the program goes on.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

import dali_vidaug as dv

sys.path.insert(0, str(Path(__file__).resolve().parent))
from ablation_figures import draw, summarise, table
from ablation_run import one_run
from ablation_shapes import make_shapes

ARMS = {  # what follows crop and flip
    "none": (),
    "RandAugment, spatial": (dv.RandAugmentT(ramp="constant"),),
    "RandAugment-T, temporal+": (dv.RandAugmentT(ramp="temporal+"),),
    "RandAugment-T, mix": (dv.RandAugmentT(ramp="mix"),),
    "RandAugment-T, fourier": (dv.RandAugmentT(ramp="fourier"),),
    "CutMix, VideoMix S": (dv.CutMix(),),  # VideoMix is the Cut family by other names: nothing is run twice
    "FrameCutMix, VideoMix T": (dv.FrameCutMix(),),
    "CubeCutMix, VideoMix ST": (dv.CubeCutMix(),),
    "MixUp": (dv.MixUp(),),
    "FadeMixUp": (dv.FadeMixUp(),),
    "CutMixUp": (dv.CutMixUp(),),
    "FrameCutMixUp": (dv.FrameCutMixUp(),),
    "CubeCutMixUp": (dv.CubeCutMixUp(),),
    "guide": None,  # dv.recipes.guide("mixup"), which has crop and frames of its own
}
SETS = ("videos", "shapes")
SHORT_SIDE = 72  # pixels of the small videos


def recipe_of(arm, size, frames):
    """What training clips get."""
    if arm == "guide":
        whole = dv.recipes.guide("mixup", size=size)
        return replace(whole, sampling=replace(whole.sampling, num_frames=frames))
    space = dv.RandomResizedCrop(size, scale=(0.5, 1.0)), dv.RandomHorizontalFlip()
    return dv.Recipe(dv.ClipSampling(frames, stride=2), (*space, *ARMS[arm], dv.Normalize()))


def fold_of(manifest, folds):
    """(N,) int: the fold of each row; each class is dealt out evenly, in an order that only the paths decide."""
    names = [hashlib.sha256(str(path).encode()).digest() for path in manifest.rows("path")]
    fold, labels = np.empty(len(names), int), np.asarray(manifest.labels)
    for label in np.unique(labels):
        rows = sorted(np.flatnonzero(labels == label), key=names.__getitem__)
        fold[rows] = np.arange(len(rows)) % folds
    return fold


def open_sets(args):
    """For each set its training manifest, and the one that is tested, whose rows are the same videos."""
    made = {}
    if "videos" in args.sets:
        small = args.output / "videos"
        done = small / "manifest.parquet"
        if not done.is_file():
            dv.transcode(dv.scan(args.videos), small, short_side=SHORT_SIDE)
        manifest = dv.Manifest.read(done)
        made["videos"] = manifest, manifest
    if "shapes" in args.sets:
        for name, moving in (("steady", False), ("moving", True)):
            if not (args.output / name).is_dir():
                make_shapes(args.output / name, args.shapes, moving)
        steady = dv.scan(args.output / "steady", progress=False)
        moving = dv.scan(args.output / "moving", progress=False, like=steady)
        if list(steady.rows("path")) != list(moving.rows("path")):
            raise SystemExit(f"{args.output}: steady and moving videos differ; remove both folders")
        made["shapes"] = steady, moving
    return made


def jobs_of(args, sets):
    """Every run that is wanted, the first fold and seed of each arm before the second."""
    folds = {name: fold_of(train, args.folds) for name, (train, _) in sets.items()}
    for seed in range(args.seeds):
        for fold in range(args.folds):
            for name, (train, test) in sets.items():
                in_test = folds[name] == fold
                for arm in args.arms:
                    job = {"set": name, "arm": arm, "fold": fold, "seed": seed, "epochs": args.epochs,
                           "recipe": repr(recipe_of(arm, args.size, args.frames))}  # fmt: skip
                    yield job, (train.select(~in_test), test.select(in_test))


def parse(argv=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", help="folder with a sub-folder for each class")
    parser.add_argument("--output", type=Path, required=True, help="where small videos, runs and the picture are kept")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="compared with none (default: all)")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=56, help="height and width of clips (default: 56)")
    parser.add_argument("--shapes", type=int, default=60, help="made videos of each class (default: 60)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at the same time, a core each")
    args = parser.parse_args(argv)
    if args.folds < 2 or args.seeds < 1:
        parser.error(f"--folds must be at least 2 and --seeds at least 1, got {args.folds} and {args.seeds}")
    args.arms = ["none", *(arm for arm in args.arms if arm != "none")]
    args.output.mkdir(parents=True, exist_ok=True)
    return args


def main(argv=None):
    """Do what is missing, and print all of it."""
    args = parse(argv)
    sets, log = open_sets(args), args.output / "runs.jsonl"
    known = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    keys = {key(run) for run in known}
    wanted = list(jobs_of(args, sets))
    missing = [(job, parts) for job, parts in wanted if key(job) not in keys]
    began = time.time()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.processes, context) as pool, log.open("a", encoding="utf-8") as file:
        futures = [pool.submit(one_run, job, *parts) for job, parts in missing]
        for future in tqdm(as_completed(futures), total=len(futures), desc="train", unit=" runs"):
            known.append(future.result())
            file.write(json.dumps(known[-1]) + "\n")
            file.flush()
    done = {key(run): run for run in known}
    runs = [done[key(job)] for job, _ in wanted]
    summary = summarise(runs, args.folds)
    print(f"{len(runs)} runs ({len(missing)} of them now, in {(time.time() - began) / 60:.0f} min; a run takes "
          f"{np.median([run['seconds'] for run in runs]):.0f} s on one core); {args.folds} folds, {args.seeds} seeds, "
          f"{args.epochs} epochs; {platform.machine()}, {os.cpu_count()} cores")  # fmt: skip
    print(table(summary))
    draw(summary).save(args.output / "ablation.png")


def key(run):
    """What a run is known by."""
    return tuple(run[name] for name in ("set", "arm", "fold", "seed", "epochs", "recipe"))


if __name__ == "__main__":
    main()
