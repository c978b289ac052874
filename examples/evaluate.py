"""Test a network with several views of each video: for one process or several.

    python examples/evaluate.py checkpoint.pt validation.parquet [--views 10]
    torchrun --nproc-per-node 4 examples/evaluate.py checkpoint.pt validation.parquet

CHECKPOINT is one that examples/train.py wrote, MANIFEST one that dali-vidaug scan wrote with the classes of training.
Needs torchmetrics: pip install 'dali_vidaug[metrics]'.
"""

import argparse
import os
import sys
from pathlib import Path

import torch
from torch import distributed

import dali_vidaug as dv

sys.path.insert(0, str(Path(__file__).parent))
from train import network


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("manifest")
    parser.add_argument("--views", type=int, default=10, help="clips of each video")
    parser.add_argument("--batch-size", type=int, default=4, help="videos, of each process")
    parser.add_argument(
        "--average", choices=("softmax", "logits"), default="softmax", help="what is averaged over views"
    )
    args = parser.parse_args()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group()

    manifest = dv.Manifest.read(args.manifest)
    recipe = dv.Recipe(
        sampling=dv.MultiClip(dv.ClipSampling(num_frames=8, stride=2), args.views),
        ops=(dv.Resize(72), dv.CenterCrop(64), dv.Normalize()),
    )
    scores = dv.VideoScores(manifest, args.average)
    options = dict(shuffle=False, drop_last=False, on_error="skip")
    with dv.VideoLoader(manifest, recipe, args.batch_size, **options) as loader, torch.no_grad():
        device = "cuda" if loader.device == "gpu" else "cpu"
        model = network(len(manifest.classes)).to(device)
        model.load_state_dict(torch.load(args.checkpoint, map_location=device)["model"])
        model.eval()
        for batch in loader:
            if len(batch):  # else none of its videos could be decoded
                scores.update(model(batch.clips), batch)
    result = scores.compute()  # of all processes
    if not distributed.is_initialized() or distributed.get_rank() == 0:
        print(result)
    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
