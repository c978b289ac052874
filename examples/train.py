"""Train a small network on the demo's moving shapes: the whole of a training program, with a checkpoint.

    python examples/train.py [VIDEOS] [--epochs 20]

Start it again and it goes on where its checkpoint was written. With torchrun each rank gets its own share of every
epoch; nothing else changes.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn

import dali_vidaug as dv
from dali_vidaug.commands.demo import make_videos


def network(num_classes):
    """Three 3D convolutions: (B, 3, F, H, W) to (B, K). Frames are kept, so that it sees which way things go."""
    layers: list[nn.Module] = []
    for channels, following in ((3, 16), (16, 32), (32, 64)):
        layers += [
            nn.Conv3d(channels, following, (3, 5, 5), (1, 2, 2), (1, 2, 2)),
            nn.BatchNorm3d(following),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(64, num_classes))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="?", help="folder with a sub-folder for each class (default: the demo's)")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--checkpoint", default="checkpoint.pt")
    args = parser.parse_args()
    if args.videos is None:
        args.videos = Path(tempfile.gettempdir()) / "dali_vidaug-shapes"
        if not args.videos.is_dir():
            make_videos(args.videos, per_class=16)

    manifest = dv.scan(args.videos)
    augmentations = dv.RandomHorizontalFlip(), dv.RandAugmentT(num_ops=1, magnitude=3.0, probability=0.5)
    recipe = dv.Recipe(
        sampling=dv.ClipSampling(num_frames=8, stride=(2, 3)),
        ops=(dv.RandomResizedCrop(64, scale=(0.6, 1.0)), *augmentations, dv.Normalize()),
    )
    loader = dv.VideoLoader(manifest, recipe, batch_size=8)
    device = "cuda" if loader.device == "gpu" else "cpu"
    model = network(len(manifest.classes)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    if Path(args.checkpoint).is_file():
        state = torch.load(args.checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        loader.load_state_dict(state["loader"])

    with loader:
        while loader.state_dict()["epoch"] < args.epochs:
            right = seen = 0
            for batch in loader:
                clips, targets = batch
                scores = model(clips)
                loss = nn.functional.cross_entropy(scores, targets)  # soft targets
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                right += int((scores.argmax(1) == targets.argmax(1)).sum())
                seen += len(batch)
            print(f"epoch {batch.epoch}: loss {loss.item():.3f}, {right / seen:.0%} right")
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "loader": loader.state_dict()}
            torch.save(state, args.checkpoint)
        print(loader.report())


if __name__ == "__main__":
    main()
