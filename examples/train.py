"""Train, validate, stop at any time and go on: a complete program, for one process or several.

    python examples/train.py [TRAIN VALIDATION] [--epochs 20]
    python examples/train.py train.parquet validation.parquet --model videomae --recipe videomae --weights base.pt
    torchrun --nproc-per-node 4 examples/train.py train.parquet validation.parquet

TRAIN and VALIDATION are manifests that dali-vidaug scan wrote. Without them a small data set of moving shapes is made.
Started again with the same options, the program goes on from its checkpoint, in the middle of an epoch too.

In --output are then:
    checkpoint.pt   all that changes: weights, optimiser, average, place in the videos, best epoch
    best.pt         the weights of the best epoch (their average with --ema), for examples/evaluate.py and --weights
    log.csv         a row for each step, and one for each validation
    curve.png       the same as a picture; examples/training/curve.py draws several runs into one
    confusion.csv   of the best epoch: what the videos of each class were taken for

Needs torchmetrics, and for its models torchvision or transformers: pip install 'dali_vidaug[train]'.
"""

import argparse
import ast
import inspect
import os
import sys
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import distributed
from training import MODELS, MONITORS, Options, fit, load_weights, model
from training.checkpoints import CheckpointError
from training.checks import check_loaders, check_recipes
from training.data import (
    CROPS,
    default_recipes,
    make_loaders,
    open_manifests,
    published_recipes,
    read_recipe,
    shapes,
    validation_of,
    with_views,
)
from training.evaluation import EvaluationError
from training.fitting import TrainingError
from training.options import AMP
from training.ranks import rank

import dali_vidaug as dv

_SAID_BY = {"num_classes": "TRAIN", "num_frames": "--recipe", "size": "--recipe", "name": "--model", "options": "NAME"}


def make_parser():
    """The command line."""
    default = Options()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("train", nargs="?", help="manifest (default: the demo's videos)")
    add("validation", nargs="?", help="manifest, scanned with --like TRAIN")
    add(
        "--output", default="run", metavar="FOLDER", help="of what is written; with a checkpoint in it, the run goes on"
    )
    add("--seed", type=int, default=0, help="of the weights, the clips and dropout")
    add("--tensorboard", action="store_true", help="write for TensorBoard too, in OUTPUT/tensorboard")

    add = parser.add_argument_group("clips").add_argument
    add(
        "--recipe",
        metavar="NAME|FILE",
        help="a published recipe, as dali-vidaug recipes lists them; or a file with "
        "repr(recipe), or with what dali-vidaug recipes NAME printed; default: 8 frames of 64 pixels, mildly augmented",
    )
    add("--variant", help="of a published recipe; default: the first")
    add("--dataset", help="whose settings of a published recipe; default: the first")
    add("--size", type=int, help="of the crops of a published recipe, and with them all its lengths; pixels")
    add(
        "--validation-recipe",
        metavar="FILE",
        help="default: that of the published recipe; or the middle of each video, "
        "scaled and cropped as the recipe for training",
    )
    add("--views", type=int, default=1, metavar="N", help="in validation: places in each video (default: 1)")
    add("--crops", type=int, default=1, choices=tuple(CROPS), help="in validation: at each place (default: 1)")
    add("--batch-size", type=int, default=8, help="of each process (default: 8)")
    add(
        "--mix-group",
        type=int,
        metavar="N",
        help="ops mix clips within so many, a divisor of the batch size; with the "
        "same number any number of processes makes the same clips",
    )
    add("--threads", type=int, metavar="N", help="of the loader (default: the cores of the process)")

    add = parser.add_argument_group("network").add_argument
    add("--model", default="small", metavar="NAME", help=f"one of {', '.join(MODELS)} (default: small)")
    add(
        "--weights",
        metavar="FILE",
        help="start from a state dict (.pt, .safetensors), or best.pt of another run; a "
        "classifier of other classes, by their names and order, begins anew",
    )
    add(
        "--model-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the network's own, such as hidden_size=96 of transformers' configurations; several times",
    )
    add("--dropout", type=float, help="default: the network's own")
    add("--drop-path", type=float, help="default: the network's own; of mvit, swin3d and timesformer")

    add = parser.add_argument_group("training").add_argument
    add("--epochs", type=int, default=default.epochs, help=f"(default: {default.epochs})")
    add("--lr", type=float, default=default.lr, help=f"highest learning rate of AdamW (default: {default.lr})")
    add(
        "--weight-decay",
        type=float,
        default=default.weight_decay,
        help=f"not of biases, norms and tables of positions (default: {default.weight_decay})",
    )
    add(
        "--warmup-epochs",
        type=float,
        default=default.warmup_epochs,
        metavar="N",
        help=f"of the learning rate; parts of one too (default: {default.warmup_epochs})",
    )
    add("--final-lr", type=float, default=0.0, metavar="SHARE", help="of --lr, at the end of the cosine (default: 0)")
    add("--layer-decay", type=float, default=1.0, help="of the learning rate, from each block to the one before")
    add("--label-smoothing", type=float, default=0.0, help="of the loss, besides that of the recipe")
    add("--clip-norm", type=float, help="of gradients (default: none)")
    add("--accumulate", type=int, default=1, metavar="N", help="batches of each step (default: 1)")
    add("--ema", type=float, metavar="DECAY", help="validate the moving average of the weights, such as 0.999")
    add("--amp", choices=AMP, default="auto", help="mixed precision (default: bfloat16 on a GPU that has it)")
    add("--sync-batch-norm", action="store_true", help="batch norms take the statistics of all processes; GPUs only")
    add("--monitor", choices=tuple(MONITORS), default="top1", help="which figure tells the best epoch (default: top1)")
    add("--patience", type=int, metavar="EPOCHS", help="stop after so many without a better figure")
    add(
        "--save-every", type=int, default=100, metavar="STEPS", help="a checkpoint, besides the end of each epoch (100)"
    )
    add("--log-every", type=int, default=10, metavar="STEPS", help="whose rows are written together (default: 10)")
    return parser


def choose_recipes(args):
    """What the options say of clips."""
    named = {name: getattr(args, name) for name in ("variant", "dataset", "size") if getattr(args, name) is not None}
    if args.recipe is None or Path(args.recipe).is_file():
        if named:
            raise ValueError(f"--{next(iter(named))}: is for a published recipe, --recipe NAME")
        recipes = default_recipes()
        if args.recipe is not None:
            train = read_recipe(args.recipe)
            recipes = replace(
                recipes, train=train, validation=train if args.validation_recipe else validation_of(train)
            )
    else:
        recipes = published_recipes(args.recipe, **named)
    if args.validation_recipe:
        recipes = replace(recipes, validation=read_recipe(args.validation_recipe))
    return replace(recipes, validation=with_views(recipes.validation, args.views, args.crops))


def read_model_options(texts):
    """NAME=VALUE, with values as in Python, or words."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name.isidentifier() and equals):
            raise ValueError(f"--model-option: must be NAME=VALUE, got {text!r}")
        if name in inspect.signature(model).parameters:
            says = _SAID_BY.get(name, f"--{name.replace('_', '-')}")
            raise ValueError(f"--model-option: {says} says {name}, got {text!r}")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def prepare(args):
    """Everything that ``fit`` needs: (network, loader, loader for validation, options, how views are averaged)."""
    options = Options(
        **{field.name: getattr(args, field.name) for field in fields(Options) if hasattr(args, field.name)}
    )
    said = []
    if args.train:
        train, validation, said = open_manifests(args.train, args.validation)
    else:
        train, validation = shapes()
    recipes = choose_recipes(args)
    loaders = make_loaders(train, validation, recipes, args.batch_size, seed=args.seed, mix_group=args.mix_group,
                           num_threads=args.threads)  # fmt: skip
    check_loaders(*loaders, options)
    num_frames, *size = check_recipes(recipes, loaders)
    network = model(args.model, len(train.classes), num_frames=num_frames, size=tuple(size), dropout=args.dropout,
                    drop_path=args.drop_path, seed=args.seed, **read_model_options(args.model_option))  # fmt: skip
    if args.weights:
        said += [f"{args.weights}: {sentence}" for sentence in load_weights(network, args.weights, train.classes)]
    if rank() == 0:
        for sentence in said:
            print(sentence, flush=True)
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        clip = "x".join(map(str, (num_frames, *size)))
        print(f"{args.model}, {millions:.1f} million parameters; {len(train)} videos of {len(train.classes)} classes, "
              f"{len(validation)} for validation; clips of {clip}", flush=True)  # fmt: skip
    return network, *loaders, options, recipes.average


def main():
    parser = make_parser()
    args = parser.parse_args()
    parallel = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if bool(args.train) != bool(args.validation) or (parallel and not args.train):
        parser.error("give two manifests: TRAIN VALIDATION")
    if parallel:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group()
    try:
        network, loader, validation, options, average = prepare(args)
    except (ValueError, OSError, ImportError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    try:
        with loader, validation:
            fit(network, loader, validation, options, output=args.output, average=average, tensorboard=args.tensorboard)
    except (CheckpointError, EvaluationError, OSError, ImportError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    except (TrainingError, dv.ClipError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    if rank() == 0:
        print(loader.report())
        print(f"in {args.output}: {', '.join(sorted(path.name for path in Path(args.output).iterdir()))}")
    if parallel:
        distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
