"""Train with Ray Train, which starts the workers, and starts them again when one has died. The loader needs no change.

    pip install 'ray[train]'
    python examples/train_ray.py train.parquet --workers 2 --storage /shared/runs

The manifest and the storage must be where all nodes can reach them.
"""

import argparse
import tempfile
from pathlib import Path

import ray.train
from ray.train.torch import TorchTrainer, prepare_model

import dali_vidaug as dv

RECIPE = dv.Recipe(
    sampling=dv.ClipSampling(num_frames=8, stride=2),
    ops=(dv.RandomResizedCrop(64), dv.RandomHorizontalFlip(), dv.CutMix(), dv.Normalize()),
)


def train(options):
    """What each worker runs; torch.distributed is initialised, so that the loader finds its share by itself."""
    import torch  # here: Ray pickles this function with what it uses, and takes ".classes" for torch.classes

    loader = dv.VideoLoader(options["manifest"], RECIPE, options["batch_size"], timeout=60)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(2), torch.nn.Flatten(),
                                  torch.nn.Linear(24, len(loader.manifest.classes)))  # fmt: skip
    model = prepare_model(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    parts = {"network": network, "optimizer": optimizer, "loader": loader}
    first = ray.train.get_context().get_world_rank() == 0
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            for name, state in torch.load(Path(folder) / "parts.pt").items():
                parts[name].load_state_dict(state)
        print(f"goes on: epoch {loader.epoch}, batch {loader.state_dict()['batch']}", flush=True)
    step = 0
    while loader.epoch < options["epochs"]:
        for batch in loader:
            loss = torch.nn.functional.cross_entropy(model(batch.clips), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % options["save_every"] == 0:
                with tempfile.TemporaryDirectory() as folder:
                    torch.save({name: part.state_dict() for name, part in parts.items()}, Path(folder) / "parts.pt")
                    saved = ray.train.Checkpoint.from_directory(folder) if first else None
                    ray.train.report({"loss": loss.item(), "epoch": batch.epoch}, checkpoint=saved)
    loader.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=lambda path: str(Path(path).resolve()))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=4, help="of each worker")
    parser.add_argument("--gpu", action="store_true", help="a GPU for each worker")
    parser.add_argument("--save-every", type=int, default=100, metavar="STEPS")
    parser.add_argument("--storage", default="runs", type=lambda path: str(Path(path).resolve()))
    args = parser.parse_args()
    trainer = TorchTrainer(
        train,
        train_loop_config=vars(args),
        scaling_config=ray.train.ScalingConfig(num_workers=args.workers, use_gpu=args.gpu),
        run_config=ray.train.RunConfig(
            storage_path=args.storage,
            failure_config=ray.train.FailureConfig(max_failures=3),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    print("the last figures:", trainer.fit().metrics)


if __name__ == "__main__":
    main()
