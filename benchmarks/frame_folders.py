"""Folders of images: the loader compared with a torch DataLoader that reads them with Pillow, in one run, in turn.

    python benchmarks/frame_folders.py FOLDER

FOLDER is what ``dv.scan`` reads: folders of images, with a folder for each class or not. Before anything is timed,
clips of both are compared: nearly all values must be the same to 2 of 255. Both get the same samples, frames, crops and
flips, drawn before, and give normalised clips (B, 3, F, 224, 224). The DataLoader's workers are processes, as many as
the loader has threads.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import dali_vidaug as dv

MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="folders of images")
    parser.add_argument("--num-frames", type=int, default=16, help="of a clip (default: 16)")
    parser.add_argument("--stride", type=int, default=2, help="distance of its frames (default: 2)")
    parser.add_argument("--batch-size", type=int, default=4, help="clips in a batch (default: 4)")
    parser.add_argument("--batches", type=int, default=12, help="timed in each round (default: 12)")
    parser.add_argument("--threads", type=int, default=2, help="of the loader; processes of the other (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, help="of both in turn (default: 5)")
    return parser.parse_args()


def pillow_clip(folder, names, crop, flip):
    """(F, 224, 224, 3) uint8, as a data set class of one's own would read it."""
    top, left, bottom, right = crop
    frames = []
    for name in names:
        with Image.open(f"{folder}/{name}") as image:
            part = image.convert("RGB").crop((left, top, right, bottom))
            frames.append(np.asarray(part.resize((224, 224), Image.Resampling.BILINEAR)))
    clip = np.stack(frames)
    return clip[:, :, ::-1] if flip else clip


class Clips(torch.utils.data.Dataset):
    """The clips of plans, read with Pillow and normalised."""

    def __init__(self, jobs):
        self.jobs = jobs
        self.mean, self.std = (torch.tensor(v)[:, None, None, None] for v in (MEAN, STD))

    def __len__(self):
        return len(self.jobs)

    def __getitem__(self, i):
        *job, label = self.jobs[i]
        clip = torch.from_numpy(np.ascontiguousarray(pillow_clip(*job).transpose(3, 0, 1, 2)))
        return (clip.float() / 255 - self.mean) / self.std, label


def jobs_of(manifest, recipe, args):
    """What the loader's first batches are made of: folder, names of images, crop, flip, label."""
    names = {}
    for batch in range(args.batches):
        samples = np.arange(batch * args.batch_size, (batch + 1) * args.batch_size) % len(manifest)
        plan = dv.draw_plan(manifest, recipe, samples, seed=batch)
        for i, sample in enumerate(samples.tolist()):
            folder = manifest.path(sample)
            if folder not in names:  # numbered with leading zeros, none missing: the comparison would tell
                names[folder] = sorted(path.name for path in Path(folder).iterdir())
            crop = plan.args["RandomResizedCrop"][i]
            box = tuple(int(crop[n]) for n in ("top", "left", "bottom", "right"))
            frames = [names[folder][frame] for frame in plan.frames[i].tolist()]
            mirrored = bool(plan.args["RandomHorizontalFlip"][i]["mirrored"])
            yield plan, (folder, frames, box, mirrored, int(manifest.labels[sample]))


def check(manifest, recipe, plans, clips, args):
    """The clips are nearly the same; returns the mean difference, and the share of values that differ by 3 or more."""
    differences = []
    with dv.VideoLoader(manifest, recipe, args.batch_size, device="cpu", num_threads=args.threads) as loader:
        for number, plan in enumerate(plans[:3]):
            batch = loader.apply(plan)
            for i, clip in enumerate(batch.clips):
                other = clips[number * args.batch_size + i][0]
                differences.append((clip - other).abs() * torch.tensor(STD)[:, None, None, None] * 255)
    levels = torch.stack(differences)
    mean, above = float(levels.mean()), float((levels > 2.5).float().mean())
    assert mean < 1 and above < 0.05, f"the clips differ: by {mean:.2f} of 255 on average, {above:.1%} by 3 or more"
    return mean, above


def time_loader(manifest, recipe, args):
    """Clips per second of the loader after its first batch."""
    with dv.VideoLoader(manifest, recipe, args.batch_size, device="cpu", num_threads=args.threads) as loader:
        return rate(iter(loader_batches(loader)), args)


def loader_batches(loader):
    """The batches of one epoch after another."""
    while True:
        yield from loader


def time_pillow(clips, args):
    """Clips per second of the DataLoader after its first batch."""
    loader = torch.utils.data.DataLoader(clips, args.batch_size, num_workers=args.threads)
    return rate(iter(loader), args)


def rate(batches, args):
    next(batches)
    before = time.perf_counter()
    for _ in range(args.batches - 1):
        next(batches)
    return (args.batches - 1) * args.batch_size / (time.perf_counter() - before)


def main():
    args = read_options()
    manifest = dv.scan(args.folder, progress=False)
    recipe = dv.Recipe(
        dv.ClipSampling(num_frames=args.num_frames, stride=args.stride),
        (dv.RandomResizedCrop(224), dv.RandomHorizontalFlip(), dv.Normalize(MEAN, STD)),
    )
    drawn = list(jobs_of(manifest, recipe, args))
    clips = Clips([job for _, job in drawn])
    mean, above = check(manifest, recipe, [plan for plan, _ in drawn[:: args.batch_size]], clips, args)
    print(
        f"{len(manifest)} folders; clips differ by {mean:.2f} of 255 on average, {above:.2%} of the values by 3 or more"
    )
    ours, theirs = [], []
    for _ in range(args.rounds):
        ours.append(time_loader(manifest, recipe, args))
        theirs.append(time_pillow(clips, args))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(f"clips per second: loader {statistics.median(ours):.1f}, DataLoader {statistics.median(theirs):.1f}")
    print(f"ratio: {statistics.median(ratios):.2f} (median), {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
