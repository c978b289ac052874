"""Find when actions happen in untrimmed videos, trained with the labels of whole videos alone.

    python examples/localise.py [TRAIN TEST] [--mix videomix] [--epochs 24]
    python examples/localise.py --videos CLIPS --background noFight

TRAIN and TEST are manifests of whole videos with segments: dali-vidaug scan --format thumos14_videos, or
activitynet_videos. Without them, untrimmed videos are made, of moving shapes and of your clips: examples/untrimmed.py.

A small network gives each snippet of 16 frames an activation for each class. A video's score is the mean of its most
active snippets, and is trained to be the label of the video. Snippets that are active together are a segment that is
found. Prints average precision at IoU 0.1 to 0.7, compared with activations at random, and draws the activations.
"""

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn
from tqdm import tqdm

import dali_vidaug as dv
from dali_vidaug import localisation

sys.path.insert(0, str(Path(__file__).parent))
from untrimmed import make_untrimmed, read_clips

LENGTH, FPS = 16, 25.0  # of a snippet: 0.64 s
THRESHOLDS = tuple(i / 20 for i in range(2, 19))  # of activations
MIXES = {
    "none": (), "videomix": (dv.VideoMix("S", probability=0.5),), "videomix-t": (dv.VideoMix("T", probability=0.5),),
    "videomix-st": (dv.VideoMix("ST", probability=0.5),),
}  # fmt: skip


class Localiser(nn.Module):
    """Activations of snippets, and from the best of them the scores of videos."""

    def __init__(self, num_classes):
        super().__init__()
        layers: list[nn.Module] = []
        for channels, following in ((3, 16), (16, 32), (32, 64)):
            kernel, stride = ((3, 5, 5), (2, 2, 2)) if channels == 3 else ((3, 3, 3), (1, 2, 2))
            layers += [
                nn.Conv3d(channels, following, kernel, stride, tuple(size // 2 for size in kernel)),
                nn.BatchNorm3d(following),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(64, num_classes))
        nn.init.constant_(self.layers[-1].bias, -3.0)  # nothing is active until there is a reason

    def forward(self, clips):
        """(B, 3, P * LENGTH, H, W) to (B, P, K): the activation of each snippet, from what every second frame changes.

        Of whole frames, so few videos would be told by their backgrounds, which have nothing to do with the actions.
        """
        snippets = clips.unflatten(2, (-1, LENGTH)).transpose(1, 2)[:, :, :, ::2]
        return self.layers(snippets.diff(dim=3).flatten(0, 1)).unflatten(0, snippets.shape[:2])


def pool(activations, valid):
    """The score of each video: the mean of its most active eighth. (B, P, K) and (B, P) to (B, K)."""
    count = valid.sum(1).div(8, rounding_mode="floor").clamp(min=1)
    best = activations.masked_fill(~valid[..., None], -math.inf).sort(1, descending=True).values
    taken = torch.arange(valid.shape[1], device=valid.device) < count[:, None]
    return best.masked_fill(~taken[..., None], 0).sum(1) / count[:, None]


def make_recipe(args, snippets, training):
    """What is done to the snippets of a clip; mixed with those of another video, in the same place in all of them."""
    ops = (dv.RandomHorizontalFlip(), *MIXES[args.mix]) if training else ()
    return dv.Recipe(snippets, (dv.Resize((args.height, args.width)), *ops, dv.Normalize()))


def train(args, manifest):
    """The trained network."""
    snippets = dv.Snippets(LENGTH, FPS, count=args.snippets, per_clip=args.snippets, placement="random")
    recipe = make_recipe(args, snippets, training=True)
    torch.manual_seed(args.seed)
    with dv.VideoLoader(manifest, recipe, min(args.batch_size, len(manifest)), seed=args.seed) as loader:
        device = "cuda" if loader.device == "gpu" else "cpu"
        model = Localiser(len(manifest.classes)).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=0.01)
        steps = args.epochs * len(loader)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.5 + 0.5 * math.cos(math.pi * i / steps))
        bar = tqdm(range(args.epochs), desc="train", unit=" epochs")
        for epoch in bar:
            loader.set_epoch(epoch)
            losses = []
            for batch in loader:
                valid = torch.from_numpy(snippets.spans(batch.plan).valid).to(device)
                if batch.mix is not None:  # a mixed snippet shows another one, which may be valid where it is not
                    valid = valid | (valid[batch.mix.partner] & (batch.mix.own < 1)[:, None])
                scores = pool(model(batch.clips), valid)
                loss = nn.functional.binary_cross_entropy_with_logits(scores, batch.targets)  # multi-hot, soft
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
            bar.set_postfix(loss=f"{np.mean(losses):.3f}")
    return model.eval()


@torch.no_grad()
def activate(args, manifest, model):
    """For each video, by its row: (S, K) activations after the sigmoid, and (S,) start and end of its snippets."""
    seconds = [length or 0.0 for length in manifest.rows("duration_seconds")]
    most = math.ceil(max(seconds) * FPS / LENGTH) + 1
    per_clip = max(8, -(-most // 256))  # a video has 256 clips at most
    count = per_clip * -(-most // per_clip)
    snippets = dv.Snippets(LENGTH, FPS, count=count, per_clip=per_clip, partial=True)  # the rest of a video too
    found: dict[int, list] = {}
    options = dict(shuffle=False, drop_last=False, on_error="skip")
    with dv.VideoLoader(manifest, make_recipe(args, snippets, training=False), 1, **options) as loader:
        for batch in tqdm(loader, desc="test", unit=" clips"):
            spans = snippets.spans(batch.plan)
            if spans.valid.any():
                values = model(batch.clips).sigmoid().cpu().numpy()
                for i, sample in enumerate(batch.samples.tolist()):
                    columns = (values[i], spans.start[i], np.minimum(spans.end[i], seconds[sample]))
                    found.setdefault(sample, []).append([column[spans.valid[i]] for column in columns])
    return {sample: [np.concatenate(column) for column in zip(*parts, strict=True)] for sample, parts in found.items()}


def find_segments(activations):
    """What is found in all videos, of their activations."""
    found = []
    for sample, (values, start, end) in activations.items():
        segments = localisation.propose(values, start, end, sample, THRESHOLDS)
        count = max(1, len(values) // 8)
        whole = np.sort(values, 0)[-count:].mean(0)  # the score of the video
        found.append(segments._replace(score=segments.score * whole[segments.label]))
    return localisation.suppress(localisation.join_segments(found), 0.4)


def at_random(activations, seed):
    """The same snippets with uniform activations."""
    return {
        sample: [dv.Draws(seed, 0, [sample]).uniform("activation", n=values.size)[0].reshape(values.shape), *times]
        for sample, (values, *times) in activations.items()
    }


def write_detections(path, found, manifest):
    """Write what was found as ActivityNet has it: {"results": {ID: [{"label", "score", "segment"}]}}."""
    names = manifest.rows("video_id")
    results: dict[str, list] = {name: [] for name in names}
    for sample, start, end, label, score in zip(*(column.tolist() for column in found), strict=True):
        part = {"label": manifest.classes[label], "score": score, "segment": [start, end]}
        results[names[sample]].append(part)
    Path(path).write_text(json.dumps({"version": "VERSION 1.3", "results": results, "external_data": {}}))


def draw(path, activations, truth, found, manifest, num_videos=4, width=900):
    """Draw the activations of some videos along time: true segments green above, the best found ones red below."""
    row, margin, side = 44, 10, 150
    chosen = list(activations)[:num_videos]
    height = margin + sum(22 + row * len(manifest.classes) + margin for _ in chosen)
    picture = Image.new("RGB", (side + width + 2 * margin, height), "white")
    pen, top = ImageDraw.Draw(picture), margin
    for sample in chosen:
        values, start, end = activations[sample]
        scale, left = width / end[-1], side + margin
        pen.text((margin, top), f"{manifest.rows('video_id')[sample]}, {end[-1]:.0f} s", fill="black")
        top += 22
        for label, name in enumerate(manifest.classes):
            base = top + row - 14
            pen.text((margin, top + 12), name, fill="black")
            pen.line((left, base, left + width, base), fill=(200, 200, 204))
            middle = left + scale * (start + end) / 2
            pen.line([(x, base - 24 * v) for x, v in zip(middle, values[:, label], strict=True)], fill=(40, 90, 170))
            true, mine = (some.take((some.video == sample) & (some.label == label)) for some in (truth, found))
            best = mine.take(mine.score >= 0.5 * max([0.2, *mine.score]))
            for some, at, colour in ((true, base - 29, (40, 150, 70)), (best, base + 3, (214, 84, 36))):
                for first, last in zip(some.start, some.end, strict=True):
                    pen.rectangle((left + scale * first, at, left + scale * last, at + 4), fill=colour)
            top += row
        top += margin
    picture.save(path)


def open_manifests(args):
    """Manifests for training and testing, with the same classes; those that are made are read as any list.

    Raises:
        OSError, ValueError: they cannot be read, or do not fit each other.
    """
    if args.train:
        train, test = dv.Manifest.read(args.train), dv.Manifest.read(args.test)
        if train.classes != test.classes:
            raise ValueError(f"{args.test} has other classes than {args.train}: scan it with --like {args.train}")
        if not train.classes:
            raise ValueError(f"{args.train}: its videos have no labels")
        return train, test
    folder = Path(args.folder or Path(tempfile.gettempdir()) / "dali_vidaug-untrimmed")
    names = ("num_train", "num_test", "make_seed", "seconds", "videos", "background", "no_shapes")
    settings = json.dumps({name: getattr(args, name) for name in names})
    made, annotations = folder / "made.json", folder / "annotation"
    if not made.is_file():
        clips = read_clips(args.videos) if args.videos else None
        make_untrimmed(
            folder, args.num_train, args.num_test, seed=args.make_seed, seconds=args.seconds, clips=clips,
            background=args.background, shapes=not args.no_shapes,
        )  # fmt: skip
        made.write_text(settings)
    elif made.read_text() != settings:
        raise ValueError(
            f"{folder} has videos that were made with other options: delete it, or choose another --folder"
        )
    options = dict(format="thumos14_videos", root=folder, progress=False)
    train = dv.scan(annotations, split="validation", **options)
    return train, dv.scan(annotations, split="test", like=train, **options)


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", nargs="?", help="manifest (default: videos that are made)")
    parser.add_argument("test", nargs="?", help="manifest, scanned with --like TRAIN")
    parser.add_argument("--mix", choices=MIXES, default="none", help="mix the snippets of two videos, and their labels")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=8, help="videos")
    parser.add_argument("--snippets", type=int, default=16, help="taken of a video in a step")
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--height", type=int, default=36, help="of the frames")
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0, help="of training")
    parser.add_argument("--picture", default="localisation.png")
    parser.add_argument("--detections", metavar="JSON", help="write what is found, as ActivityNet has it")
    made = parser.add_argument_group("videos that are made")
    made.add_argument("--folder", help="where they are, or go (default: a temporary folder)")
    made.add_argument("--make-seed", type=int, default=0, help="another one makes other videos")
    made.add_argument("--num-train", type=int, default=48)
    made.add_argument("--num-test", type=int, default=12)
    made.add_argument("--seconds", type=float, nargs=2, default=(20, 60), metavar=("LEAST", "MOST"))
    made.add_argument("--videos", metavar="CLIPS", help="a folder with clips of each class, to take pieces of")
    made.add_argument("--background", metavar="CLASS", help="which of these classes is the background")
    made.add_argument("--no-shapes", action="store_true", help="with --videos: these alone, without moving shapes")
    args = parser.parse_args(arguments)
    if bool(args.train) != bool(args.test):
        parser.error("give two manifests: TRAIN TEST")
    for name in ("epochs", "batch_size", "snippets", "height", "width", "num_train", "num_test"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}")
    for name in ("picture", "detections"):  # said before the training, which may take long
        path = Path(getattr(args, name) or "x").absolute()
        if path.is_dir() or not path.parent.is_dir():
            parser.error(f"--{name} {path}: {'is a folder' if path.is_dir() else 'there is no such folder'}")
    if Path(args.picture).suffix.lower() not in Image.registered_extensions():
        parser.error(f"--picture must be the name of a picture, such as localisation.png, got {args.picture}")
    return args


def main(arguments=None):
    """Train, test, print and draw; returns the results of activations at random and of the network's."""
    args = parse_arguments(arguments)
    try:
        manifest, test = open_manifests(args)
        truth = localisation.annotated_segments(test)
        if not (truth.label >= 0).any():
            raise ValueError(f"{args.test or 'test'}: no segment of a class is annotated in it")
    except (OSError, ValueError) as error:
        print(f"localise.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    activations = activate(args, test, train(args, manifest))
    results = {}
    for name, values in (("random", at_random(activations, args.seed)), (args.mix, activations)):
        found = find_segments(values)
        results[name] = localisation.mean_average_precision(found, truth, test.classes)
        print(f"{'activations at random' if name == 'random' else f'trained, --mix {name}'}, mAP in percent:")
        print(f"{results[name]}\n", flush=True)
    if len(activations) < len(test):
        print(f"{len(test) - len(activations)} of {len(test)} videos could not be decoded: nothing is found in them")
    if args.detections:
        write_detections(args.detections, found, test)
    draw(args.picture, activations, truth, found, test)
    print(f"activations, true and found segments: {args.picture}")
    return results["random"], results[args.mix]


if __name__ == "__main__":
    main()
