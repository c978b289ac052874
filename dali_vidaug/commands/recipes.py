"""`recipes`: lists the published recipes, and prints one as Python."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from dali_vidaug import recipes
from dali_vidaug.commands.options import Help

_WIDTH = 100


def add_recipes(commands: Any) -> None:
    """The parser of `recipes`."""
    parser = commands.add_parser(
        "recipes",
        help="published recipes by the name of the model: a list, or one as Python to copy",
        description="Without a name: lists the published recipes, with their variants and data sets. With a name: "
        "prints that recipe as a program to copy, with the loader that it is for and the published optimiser. "
        "docs/recipes.md says how to change one.",
        formatter_class=Help,
    )
    parser.add_argument("name", nargs="?", help="of a recipe, such as slowfast; default: list all")
    parser.add_argument("variant", nargs="?", help="such as 8x8; default: the first that is listed")
    parser.add_argument("--stage", choices=recipes.STAGES, help="default: train, if there is one")
    parser.add_argument("--dataset", metavar="NAME", help="default: the first that is listed for the variant")
    parser.set_defaults(run=run_recipes, check=check_recipes)


def check_recipes(args: argparse.Namespace) -> None:
    """Refuse what is not published."""
    if args.name is None:
        if args.stage or args.dataset:
            raise ValueError("--stage and --dataset need the name of a recipe")
        return
    if args.name not in recipes.FAMILIES:
        raise ValueError(f"there is no recipe {args.name!r}; there are {', '.join(recipes.FAMILIES)}")
    recipes.FAMILIES[args.name].check(*_asked(args))


def _asked(args: argparse.Namespace) -> tuple[str, str, str]:
    """Variant, stage and data set, with defaults for what is not given."""
    family = recipes.FAMILIES[args.name]
    variant = args.variant or next(iter(family.variants))
    return variant, args.stage or family.stages[0], args.dataset or family.variants.get(variant, ("",))[0]


def run_recipes(args: argparse.Namespace) -> int:
    """dali-vidaug recipes."""
    if args.name is not None:
        print(recipes.program(recipes.FAMILIES[args.name], *_asked(args)), end="")
        return 0
    for family in recipes.FAMILIES.values():
        print(f"{family.name}: {family.summary}")
        for title, text in _about(family):
            print(textwrap.fill(text, _WIDTH, initial_indent=f"    {title:11}", subsequent_indent=" " * 15))
        print()
    print("dali-vidaug recipes NAME VARIANT --stage STAGE --dataset NAME prints one as Python to copy")
    return 0


def _about(family: recipes.Family) -> list[tuple[str, str]]:
    """What is listed of a family: title and text."""
    by_datasets: dict[tuple[str, ...], list[str]] = {}
    for variant, datasets in family.variants.items():
        by_datasets.setdefault(datasets, []).append(variant)
    found = [(f"{family.option}s", f"{', '.join(names)} ({', '.join(datasets)})")
             for datasets, names in by_datasets.items()]  # fmt: skip
    mirrored = [f"{variant} of {dataset}" for variant, datasets in family.variants.items()
                for dataset in datasets if family.mirrors(variant, dataset)]  # fmt: skip
    if mirrored:
        found.append(("WARNING", f"{', '.join(mirrored)} is mirrored, though its labels tell left from right"))
    return [*found, ("stages", ", ".join(family.stages)), ("paper", family.paper), ("code", family.code)]
