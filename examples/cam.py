"""Draw which places of clips, in space and time, a network takes for their classes: class activation maps.

    python examples/cam.py                                   # of balls, and a network trained for a minute
    python examples/cam.py validation.parquet --checkpoint run/best.pt --mix CutMix
    python examples/cam.py train.parquet --model r3d_18 --num-frames 16 --size 112 --weights weights.pt --samples 3 70

MANIFEST is one that dali-vidaug scan wrote; a checkpoint is one of examples/train.py, weights are a state dict. In
--output are then:
    clip.png, clip.mp4       the first sample, mixed with the second: its frames, and the heat of both labels on them
    source.png, source.mp4   the same heat on the frames of both videos, where the pixels came from
    fade.png                 the activation sequences of both labels under MixUp and under FadeMixUp (Kim et al. 2020)
    fade.csv                 the same as numbers, a row for each frame
"""

import argparse
import csv
from dataclasses import replace
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn
from tqdm import tqdm
from training import MODELS, checkpoints, load_weights, model
from training.models import remake

import dali_vidaug as dv
from dali_vidaug.media.encode import write_video
from dali_vidaug.ops.mix import FAMILIES

COLORS = {"blue ball": (60, 90, 230), "green ball": (60, 190, 70), "red ball": (225, 60, 50)}


def make_videos(folder, per_class=6):
    """Videos of balls that roll over grey ground, a folder for each colour."""
    for k, (name, color) in enumerate(COLORS.items()):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            draws = dv.Draws(0, 0, [k * per_class + i], prefix="balls")
            x, y, dx, dy = draws.uniform("way", n=4)[0] * (80, 60, 2, 2) + (40, 30, -1, -1)
            ground = Image.new("RGB", (160, 120), (110, 112, 108))
            for left, top, grey in draws.uniform("ground", n=36)[0].reshape(12, 3) * (150, 110, 120) + (0, 0, 60):
                ImageDraw.Draw(ground).rectangle((left, top, left + 24, top + 16), fill=(round(grey),) * 3)
            frames = []
            for t in range(40):
                frames.append(ground.copy())
                cx, cy = (x + dx * t) % 160, (y + dy * t) % 120
                ImageDraw.Draw(frames[-1]).ellipse((cx - 11, cy - 11, cx + 11, cy + 11), fill=color)
            write_video(folder / name / f"{i}.mp4", map(np.asarray, frames))


def small_network(num_classes):
    """(B, 3, F, H, W) to (B, K): three 3D convolutions and the mean of their features over all places."""
    layers: list[nn.Module] = []
    for channels, following, stride in ((3, 8, (1, 2, 2)), (8, 16, (1, 2, 2)), (16, 32, (2, 2, 2))):
        layers += [nn.Conv3d(channels, following, 3, stride, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(32, num_classes))


def train(network, manifest, recipe, steps):
    """A few steps, with clips that are mixed in all the ways that are drawn later."""
    mix = dv.OneOf((dv.CubeCutMix(), dv.CutMix(), dv.FadeMixUp()))
    ops = dv.RandomResizedCrop(64, scale=(0.6, 1.0)), dv.RandomHorizontalFlip(), mix, recipe.ops[-1]
    random = dv.Recipe(replace(recipe.sampling, start="random"), ops)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    progress = tqdm(total=steps, desc="train", unit=" steps")
    with dv.VideoLoader(manifest, random, 8, seed=0) as loader, progress:
        network.to("cuda" if loader.device == "gpu" else "cpu").train()
        for clips, targets in islice(chain.from_iterable(repeat(loader)), steps):
            loss = nn.functional.cross_entropy(network(clips), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            progress.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
            progress.update()


def prepare(args):
    """The network, the videos, and the recipe without an op that mixes; Normalize is its last op."""
    if args.manifest is None:
        folder = args.output / "videos"
        if not folder.is_dir():
            make_videos(folder)
        manifest = dv.scan(folder, progress=False)
        ops = dv.Resize(72), dv.CenterCrop(64), dv.Normalize()
        recipe = dv.Recipe(dv.ClipSampling(8, stride=3, start="center"), ops)
        network = small_network(len(manifest.classes))
        train(network, manifest, recipe, args.steps)
        args.samples = args.samples or (4, 13)  # whose balls are far from each other
        return network, manifest, recipe
    manifest = dv.Manifest.read(args.manifest)
    if args.checkpoint:
        content = checkpoints.read(args.checkpoint)
        if list(manifest.classes) != content["classes"]:
            raise ValueError(f"{args.manifest}: has other classes than the training of {args.checkpoint}")
        network, recipe = remake(content["about"]), dv.Recipe.parse(content["recipe"])
        load_weights(network, args.checkpoint)
        return network, manifest, recipe
    if not manifest.classes:
        raise ValueError(f"{args.manifest}: its videos have no labels")
    frames, size = args.num_frames, args.size
    network = model(args.model, len(manifest.classes), num_frames=frames, size=size)
    said = load_weights(network, args.weights, manifest.classes) if args.weights else ["the weights are random"]
    for sentence in said:
        print(sentence)
    sampling = dv.ClipSampling(frames, stride=2, start="center")
    return network, manifest, dv.Recipe(sampling, (dv.Resize(size * 8 // 7), dv.CenterCrop(size), dv.Normalize()))


def first_of_two_classes(manifest):
    """The first row, and the first of another class."""
    others = np.flatnonzero(manifest.labels != manifest.labels[0])
    if not len(others):
        raise ValueError("all videos are of one class; --samples says which two to draw")
    return 0, int(others[0])


def mixed_batch(manifest, recipe, op, samples, seed, weights=None):
    """Two clips, each mixed with the other by an op; with weights of the partner in the first and the last frame."""
    recipe = replace(recipe, ops=(*recipe.ops[:-1], op, recipe.ops[-1]))
    plan = dv.draw_plan(manifest, recipe, samples, seed)
    if weights is not None:  # plans are data: what was drawn is replaced
        plan.args[op.name]["inside"][:] = plan.args[op.name]["outside"][:] = weights
    with dv.VideoLoader(manifest, recipe, 2, drop_last=False) as loader:
        return loader.apply(plan)


def activation(network, batch):
    """The maps of both labels of each clip."""
    network.to(batch.clips.device)
    return dv.cam.activation(network, batch.clips, dv.cam.labels(batch))


def draw_fades(network, manifest, recipe, args):
    """The same two clips under MixUp, with even weights, and under FadeMixUp, from one clip to the other."""
    pictures, columns = [], {}
    for op, weights in ((dv.MixUp(), (0.5, 0.5)), (dv.FadeMixUp(), (0.0, 1.0))):
        batch = mixed_batch(manifest, recipe, op, args.samples, args.seed, weights)
        maps = activation(network, batch)
        pictures.append(
            dv.cam.draw(batch, maps, 0, title=f"{op.name}, weight of the partner {weights[0]} to {weights[1]}")
        )
        names = [manifest.classes[k] for k in maps.classes[0].tolist()]
        values = maps.sequence(batch.clips.shape[2])[0].tolist()
        columns |= {f"{op.name} {name}": column for name, column in zip(names, values, strict=True)}
    whole = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), (255, 255, 255))
    whole.paste(pictures[0], (0, 0))
    whole.paste(pictures[1], (0, pictures[0].height))
    whole.save(args.output / "fade.png")
    with (args.output / "fade.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", *columns])
        writer.writerows(
            [t, *(f"{value:.6g}" for value in row)] for t, row in enumerate(zip(*columns.values(), strict=True))
        )
    for name, column in columns.items():
        print(f"{name}: {' '.join(f'{value:.2f}' for value in column)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "manifest",
        nargs="?",
        help="default: videos of balls that are made in OUTPUT, and a small network trained for them",
    )
    add("--checkpoint", metavar="FILE", help="of examples/train.py: its network and its recipe for validation")
    add("--model", choices=tuple(MODELS), help="a network by name, instead of a checkpoint")
    add("--weights", metavar="FILE", help="of --model: a state dict (default: random ones)")
    add("--num-frames", type=int, default=16, help="of the clips, with --model (default: 16)")
    add("--size", type=int, default=112, help="of the clips, with --model (default: 112)")
    add("--mix", choices=FAMILIES, default="CubeCutMix", help="how both clips are mixed (default: CubeCutMix)")
    add("--samples", type=int, nargs=2, metavar="ROW", help="two of the manifest (default: the first of two classes)")
    add("--seed", type=int, default=5, help="of the mixing (default: 5)")
    add("--steps", type=int, default=150, help="without a manifest: of the training (default: 150)")
    add("--output", type=Path, default=Path("cam"), metavar="FOLDER", help="default: cam")
    args = parser.parse_args()
    if args.manifest and bool(args.checkpoint) == bool(args.model):
        parser.error("give --checkpoint or --model, for the network")
    if args.steps < 1:
        parser.error(f"--steps must be at least 1, got {args.steps}")
    try:
        torch.manual_seed(0)
        network, manifest, recipe = prepare(args)
        args.samples = args.samples or first_of_two_classes(manifest)
        args.output.mkdir(parents=True, exist_ok=True)
        batch = mixed_batch(manifest, recipe, dv.Mix(args.mix), args.samples, args.seed)
        maps = activation(network, batch)
        print(maps)
        for name, source in (("clip", False), ("source", True)):
            dv.cam.draw(batch, maps, 0, source=source).save(args.output / f"{name}.png")
            dv.cam.write_video(args.output / f"{name}.mp4", batch, maps, 0, source=source)
        draw_fades(network, manifest, recipe, args)
    except (ValueError, OSError, ImportError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    print(f"{args.output}: clip.png, clip.mp4, source.png, source.mp4, fade.png, fade.csv")


if __name__ == "__main__":
    main()
