"""How fast the loader is, compared with decoding alone, which bounds it, and with a torch DataLoader.

    python benchmarks/loader.py VIDEOS [--recipe NAME] [--batches N] [--rounds N] [--json FILE]

Checks first that every sample comes once, with the right label and finite pixels. Then times, in turn and for several
rounds: the bare decode (PyAV, every frame from the key frame to the last wanted one, with as many threads, without
colour conversion), our loader, and a torch DataLoader with torchcodec or PyAV and torchvision v2, as installed, with as
many workers. Prints medians and ratios.
"""

import argparse
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import torch
from usage import machine

import dali_vidaug as dv
from dali_vidaug.media.container import open_video
from dali_vidaug.media.cut import read_cuts
from dali_vidaug.media.video import frame_index, is_counted

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from conftest import import_torchvision

PEER_THREADS = 1  # torchcodec's threads in each worker


def make_recipe(name, num_frames, stride):
    """Crop, flip and normalise; "randaugment" has RandAugmentT too; "full" also mixes clips.

    "simclr" has, after crop and flip, jitter, grey and blur.
    """
    ops = [dv.RandomResizedCrop(224), dv.RandomHorizontalFlip()]
    if name == "simclr":
        ops += [dv.ColorJitter(0.4, 0.4, 0.4, 0.1, probability=0.8), dv.RandomGrayscale(0.2)]
        ops.append(dv.GaussianBlur(23, (0.1, 2.0), probability=0.5))
    elif name != "basic":
        ops.append(dv.RandAugmentT(num_ops=2, interpolation="nearest"))
    if name == "full":
        ops.append(dv.OneOf(ops=(dv.CubeCutMix(), dv.FadeMixUp())))
    return dv.Recipe(sampling=dv.ClipSampling(num_frames=num_frames, stride=stride), ops=(*ops, dv.Normalize()))


def bare_decode(video, frames):
    """Decode every frame from the key frame before the first wanted one to the last wanted one; returns how many."""
    last = int(frames.max())
    key = int(video.keyframes[np.searchsorted(video.keyframes, frames.min(), "right") - 1])
    count = 0
    with open_video(video.path) as (container, stream):
        if key:
            pts = video.pts[key] if video.pts is not None else round(video.pts_first + key * video.pts_step)
            container.seek(int(pts), stream=stream)
        for frame in container.decode(stream):
            count += 1
            if (count - 1 if is_counted(video) else frame_index(video, frame.pts)) >= last:
                break
    return count


class PeerDataset(torch.utils.data.Dataset):
    """The same clips through torchcodec (or PyAV) and torchvision v2; CutMix is done when they are collated."""

    def __init__(self, manifest, samples, frames, name):
        self.manifest, self.samples, self.frames, self.name = manifest, samples, frames, name

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        _, v2, _ = import_torchvision()
        sample = int(self.samples[i])
        clip = decode_with_peer(self.manifest.path(sample), self.frames[i])
        steps = [v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip()]
        if self.name == "simclr":
            steps += [v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8), v2.RandomGrayscale(0.2)]
            steps.append(v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], 0.5))
        elif self.name != "basic":
            steps.append(v2.RandAugment(num_ops=2, magnitude=9))  # nearest is its default
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.45,) * 3, (0.225,) * 3)]
        return v2.Compose(steps)(clip).transpose(0, 1), int(self.manifest.labels[sample])

    def collate(self, items):
        """Stack; for "full" with CutMix."""
        _, v2, _ = import_torchvision()
        clips, labels = torch.utils.data.default_collate(items)
        if self.name != "full":
            return clips, labels
        # v2.CutMix is for images: frames and channels are one dimension for it
        mixed, labels = v2.CutMix(num_classes=len(self.manifest.classes))(clips.flatten(1, 2), labels)
        return mixed.view_as(clips), labels


def decode_with_peer(path, frames):
    """(F, 3, H, W) uint8."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError):
        with av.open(path) as container:
            container.streams.video[0].thread_count = PEER_THREADS
            wanted, got = set(frames.tolist()), {}
            for i, frame in enumerate(container.decode(video=0)):
                if i in wanted:
                    got[i] = frame.to_ndarray(format="rgb24")
                if i >= max(wanted):
                    break
        return torch.from_numpy(np.stack([got[i] for i in frames.tolist()])).permute(0, 3, 1, 2)
    decoder = VideoDecoder(path, num_ffmpeg_threads=PEER_THREADS, seek_mode="approximate")
    return decoder.get_frames_at(frames.tolist()).data


def check(manifest, our_recipe, num_threads, mixes):
    """Every sample once, right labels, finite pixels; the cuts have the wanted frames."""
    seen = []
    with dv.VideoLoader(manifest, our_recipe, 8, drop_last=False, num_threads=num_threads) as loader:
        for batch in loader:
            assert torch.isfinite(batch.clips).all()
            if mixes:
                torch.testing.assert_close(batch.targets.sum(1), torch.ones(len(batch)))
            else:
                assert (batch.targets.argmax(1).numpy() == manifest.labels[batch.samples.numpy()]).all()
            seen += batch.samples.tolist()
        assert loader.report().replaced == 0, str(loader.report())
    assert sorted(seen) == list(range(len(manifest))), "not every sample came exactly once"
    for sample in range(0, len(manifest), max(1, len(manifest) // 10)):
        plan = dv.draw_plan(manifest, our_recipe, [sample])
        video = manifest.video(sample)
        with open_video(video.path) as (container, stream):
            cut = {i for c in read_cuts(container, stream, video, plan.frames[0]) for i in c.frames}
        assert set(plan.frames[0].tolist()) <= cut


def time_ceiling(manifest, plans, num_threads):
    jobs = [(manifest.video(int(s)), f) for plan in plans for s, f in zip(plan.samples, plan.frames, strict=True)]
    started = time.perf_counter()
    with ThreadPoolExecutor(num_threads) as pool:
        frames = sum(pool.map(lambda job: bare_decode(*job), jobs))
    return len(jobs) / (time.perf_counter() - started), frames / len(jobs)


def time_batches(iterator, count, batch_size):
    """Clips per second, from the first batch on: what starts before it is not counted for anyone."""
    next(iterator)
    started = time.perf_counter()
    for _ in range(count - 1):
        next(iterator)
    return (count - 1) * batch_size / (time.perf_counter() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", help="folder with a sub-folder for each class")
    parser.add_argument("--recipe", choices=("basic", "randaugment", "full", "simclr"), default="basic")
    parser.add_argument("--batches", type=int, default=0, help="batches in a round (default: a whole epoch)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--stride", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num-threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()

    manifest = dv.scan(args.videos)
    ours = make_recipe(args.recipe, args.num_frames, args.stride)
    check(manifest, ours, args.num_threads, args.recipe == "full")
    print(f"checked: {len(manifest)} samples, each once, labels right, all finite")

    count = args.batches or len(manifest) // args.batch_size
    rates: dict[str, list[float]] = {}
    for number in range(args.rounds):
        loader = dv.VideoLoader(manifest, ours, args.batch_size, num_threads=args.num_threads)
        loader.set_epoch(number)
        batches = [loader.schedule.batch(number, i) for i in range(count)]
        plans = [dv.draw_plan(manifest, ours, batch.samples, 0, number, batch.views) for batch in batches]
        ceiling, frames = time_ceiling(manifest, plans, args.num_threads)
        rates.setdefault("bare decode", []).append(ceiling)
        with loader:
            rates.setdefault("dali_vidaug", []).append(time_batches(iter(loader), count, args.batch_size))
        try:
            import_torchvision()
        except ImportError as error:
            print(f"no torchvision ({error}): no peer")
        else:
            samples = np.concatenate([plan.samples for plan in plans])
            peer = PeerDataset(manifest, samples, np.concatenate([plan.frames for plan in plans]), args.recipe)
            peer_loader = torch.utils.data.DataLoader(
                peer, args.batch_size, num_workers=args.num_threads, prefetch_factor=2, collate_fn=peer.collate
            )
            rates.setdefault("torch DataLoader", []).append(time_batches(iter(peer_loader), count, args.batch_size))
        print(
            f"round {number + 1}: " + ", ".join(f"{k} {v[-1]:.1f}" for k, v in rates.items()) + " clips/s", flush=True
        )

    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"\nmedians of {args.rounds} rounds of {count * args.batch_size} clips, {args.num_threads} threads, "
          f"{frames:.1f} frames for a clip in the bare decode:")  # fmt: skip
    for name, value in medians.items():
        print(f"  {name:18} {value:7.1f} clips/s   {value / medians['bare decode']:.2f} of the bare decode")
    ratios = [ours / bare for ours, bare in zip(rates["dali_vidaug"], rates["bare decode"], strict=True)]
    print(f"dali_vidaug / bare decode, each round: {', '.join(f'{r:.2f}' for r in ratios)}")
    if "torch DataLoader" in medians:
        print(f"dali_vidaug / torch DataLoader: {medians['dali_vidaug'] / medians['torch DataLoader']:.2f}")
    if args.json:
        figures = {"machine": machine(), "options": vars(args), "clips_per_second": rates, "medians": medians}
        Path(args.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
