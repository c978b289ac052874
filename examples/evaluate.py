"""Test a network with several views of each video: for one process or several.

    python examples/evaluate.py run/best.pt validation.parquet [--views 10 --crops 3]
    torchrun --nproc-per-node 4 examples/evaluate.py run/best.pt validation.parquet --views 10

CHECKPOINT is one that examples/train.py wrote, MANIFEST one that dali-vidaug scan wrote with the classes of training.
Needs torchmetrics: pip install 'dali_vidaug[train]'.
"""

import argparse
import os
from pathlib import Path

import torch
from torch import distributed
from training import checkpoints, evaluate
from training.data import CROPS, open_manifest, read_recipe, with_views
from training.evaluation import confusion_csv
from training.models import remake
from training.ranks import rank

import dali_vidaug as dv


def prepare(args):
    """The network and the loader that the options ask for, how views are averaged, and mixed precision."""
    table = Path(args.confusion or "confusion.csv").absolute()
    if table.is_dir() or not table.parent.is_dir():  # said before the evaluation, which may take long
        raise OSError(f"--confusion {args.confusion}: {'is a folder' if table.is_dir() else 'there is no such folder'}")
    content = checkpoints.read(args.checkpoint)
    manifest, said = open_manifest(args.manifest)
    if list(manifest.classes) != content["classes"]:
        raise ValueError(
            f"{args.manifest}: has other classes than the training of {args.checkpoint}: scan it with --like"
        )
    if "name" not in content["about"] or "options" not in content["about"]:
        raise ValueError(f"{args.checkpoint}: is of a network that is none of examples/train.py")
    network = remake(content["about"])
    network.load_state_dict(checkpoints.best_weights(content))
    recipe = read_recipe(args.recipe) if args.recipe else dv.Recipe.parse(content["recipe"])
    recipe = with_views(recipe, args.views, args.crops)
    videos = max(1, args.batch_size // recipe.num_clips)
    loader = dv.VideoLoader(manifest, recipe, videos, shuffle=False, drop_last=False, on_error="skip")
    device = torch.device("cuda", torch.cuda.current_device()) if loader.device == "gpu" else torch.device("cpu")
    if rank() == 0:
        for sentence in said:
            print(sentence, flush=True)
    return network.to(device), loader, args.average or content["average"], args.amp or content.get("amp", "off")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("manifest")
    parser.add_argument("--views", type=int, default=1, metavar="N", help="places in each video (default: 1)")
    parser.add_argument("--crops", type=int, default=1, choices=tuple(CROPS), help="at each place (default: 1)")
    parser.add_argument(
        "--recipe", metavar="FILE", help="another one than that of validation, as for examples/train.py"
    )
    parser.add_argument("--batch-size", type=int, default=32, metavar="CLIPS", help="of each process (default: 32)")
    parser.add_argument(
        "--average", choices=("softmax", "logits"), help="what is averaged over views (default: as in training)"
    )
    parser.add_argument("--amp", choices=("off", "bfloat16"), help="mixed precision (default: as in training)")
    parser.add_argument(
        "--confusion", metavar="CSV", help="where to write what the videos of each class were taken for"
    )
    args = parser.parse_args()
    parallel = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if parallel:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group()
    try:
        network, loader, average, amp = prepare(args)
        with loader:
            result = evaluate(network, loader, average=average, amp=amp)  # of all processes
    except (ValueError, OSError, ImportError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    if rank() == 0:
        print(result)
        if args.confusion:
            try:
                Path(args.confusion).write_text(confusion_csv(result))
            except OSError as error:
                parser.exit(2, f"{parser.prog}: error: {error}\n")
    if parallel:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
