"""Videos, recipes and loaders of a run."""

import ast
import inspect
import tempfile
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

import dali_vidaug as dv
from dali_vidaug import ops
from dali_vidaug.commands.demo import make_videos
from dali_vidaug.sampling import SAMPLERS

KNOWN = {cls.__name__: cls for cls in (dv.Recipe, *SAMPLERS)} | {name: getattr(ops, name) for name in ops.__all__}
CROPS = {1: None, 3: dv.ThreeCrop, 5: dv.FiveCrop}


@dataclass(frozen=True)
class Recipes:
    """What a run makes of videos.

    Attributes:
        train, validation: the recipes.
        repeats: clips that are made of the same frames in training (``VideoLoader(repeats=)``).
        average: over views in validation (``evaluate(average=)``).
    """

    train: dv.Recipe
    validation: dv.Recipe
    repeats: int = 1
    average: str = "softmax"


def open_manifest(path: str) -> tuple[dv.Manifest, list[str]]:
    """The videos that have a label; and sentences on those that are left out.

    Raises:
        OSError, ValueError: it cannot be read, or has no labels or several for each video.
    """
    manifest = dv.Manifest.read(path)
    if manifest.multi_label:
        raise ValueError(f"{path}: its videos have several labels each; this program trains with one")
    known = manifest.labels >= 0
    if not manifest.classes or not known.any():
        raise ValueError(f"{path}: none of its {len(manifest)} videos has a label; docs/lists.md says how they get one")
    if known.all():
        return manifest, []
    said = f"{path}: {(~known).sum()} of {len(manifest)} videos have no label, and are left out"
    return manifest.select(np.flatnonzero(known)), [said]


def open_manifests(train: str, validation: str) -> tuple[dv.Manifest, dv.Manifest, list[str]]:
    """Both lists of videos, whose classes have the same numbers; and sentences on videos that are left out.

    Raises:
        OSError, ValueError: as of ``open_manifest``; or they have other classes than each other, or one.
    """
    (one, said), (other, also) = open_manifest(train), open_manifest(validation)
    if one.classes != other.classes:
        raise ValueError(f"{validation}: has other classes than {train}: scan it with --like {train}")
    if len(one.classes) < 2:
        raise ValueError(f"{train}: has one class, {one.classes[0]}: there is nothing to tell it from")
    return one, other, said + also


def shapes() -> tuple[dv.Manifest, dv.Manifest]:
    """A small data set of moving shapes, made once: 64 videos to train with and 16 to validate with."""
    folder = Path(tempfile.gettempdir()) / "dali_vidaug-shapes"
    for seed, (name, per_class) in enumerate((("train", 16), ("validation", 4))):
        if not (folder / name).is_dir():
            make_videos(folder / name, per_class, seed)
    train = dv.scan(folder / "train")
    return train, dv.scan(folder / "validation", like=train)


def default_recipes(num_frames: int = 8, size: int = 64) -> Recipes:
    """Random clips, mildly augmented, and the middle of each video."""
    train = dv.Recipe(
        sampling=dv.ClipSampling(num_frames=num_frames, stride=(2, 3)),
        ops=(
            dv.RandomResizedCrop(size, scale=(0.6, 1.0)),
            dv.RandomHorizontalFlip(),
            dv.RandAugmentT(num_ops=1, magnitude=3.0, probability=0.5),
            dv.Normalize(),
        ),
    )
    validation = dv.Recipe(
        sampling=dv.ClipSampling(num_frames=num_frames, stride=2, start="center"),
        ops=(dv.Resize(size * 9 // 8), dv.CenterCrop(size), dv.Normalize()),
    )
    return Recipes(train, validation)


def published_recipes(name: str, variant: str | None = None, dataset: str | None = None, **options: Any) -> Recipes:
    """The recipes of a family of ``dv.recipes``.

    Args:
        name: of the family, as ``dali-vidaug recipes`` lists it.
        variant, dataset: default: the first ones.
        options: of its function, such as ``size``.

    Raises:
        ValueError: there is no such family, variant, data set or option, or it has no recipe for training.
    """
    families = dv.recipes.FAMILIES
    if name not in families:
        raise ValueError(f"--recipe: there is no file and no recipe {name!r}; recipes are {', '.join(families)}")
    family = families[name]
    if missing := {"train", "validation"} - set(family.stages):
        raise ValueError(f"--recipe: {name} has no stage {', '.join(sorted(missing))}")
    variant = next(iter(family.variants)) if variant is None else variant
    if variant not in family.variants:
        raise ValueError(f"--variant: {name} has {', '.join(family.variants)}, got {variant!r}")
    dataset = family.variants[variant][0] if dataset is None else dataset
    known = inspect.signature(family.function).parameters
    for option in options:
        if option not in known:
            raise ValueError(f"--{option}: the recipe {name} has no such option")
    train, validation = (
        family.function(variant, stage=stage, dataset=dataset, **options) for stage in ("train", "validation")
    )
    training = family.training(variant, dataset)
    return Recipes(train, validation, training.repeats, training.average)


def read_recipe(path: str | Path) -> dv.Recipe:
    """The recipe in a file: what ``repr(recipe)`` gives, or Python as ``dali-vidaug recipes NAME`` prints it.

    No code of the file is run: only a call of ``dv.Recipe`` is read, the one that is given the name ``recipe`` if there
    are several.

    Raises:
        OSError: it cannot be read.
        ValueError: there is no recipe in it.
    """
    try:
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    except SyntaxError as error:
        where = "" if error.lineno is None else f" in line {error.lineno}"
        raise ValueError(f"{path}: is not Python: {error.msg}{where}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not Python: byte {error.start} is not UTF-8 text") from None
    except ValueError as error:  # zero bytes, for some versions of Python
        raise ValueError(f"{path}: is not Python: {error}") from error
    found = [
        (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "recipe", node.value)
        for node in tree.body
        if isinstance(node, ast.Assign | ast.Expr) and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) in ("dv.Recipe", "Recipe")
    ]  # fmt: skip
    named = [call for is_named, call in found if is_named] or [call for _, call in found]
    if len(named) != 1:
        raise ValueError(f"{path}: has {len(named)} recipes, and must have one: recipe = dv.Recipe(...)")
    try:
        return _made(named[0])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _made(node):
    """What Python would make of a call of ``dv.Recipe``, a sampler or an op, with literals and such calls in it."""
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).removeprefix("dv.")
        if name not in KNOWN or any(isinstance(one, ast.Starred) for one in node.args):
            raise ValueError(f"{name} is no sampler or op of dali_vidaug")
        return KNOWN[name](*map(_made, node.args), **{word.arg: _made(word.value) for word in node.keywords})
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(map(_made, node.elts))
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"must be written out, got {ast.unparse(node)}") from None


def validation_of(recipe: dv.Recipe) -> dv.Recipe:
    """A recipe for validation for one of training: the middle of each video, scaled and cropped, not augmented.

    Raises:
        ValueError: what it must be cannot be told from this one.
    """
    sampling, last = recipe.sampling, recipe.ops[-1] if recipe.ops else None
    sizes = [op.size for op in recipe.ops if hasattr(op, "size")]
    size = sizes[-1] if sizes else None
    if not (isinstance(sampling, dv.ClipSampling) and isinstance(last, dv.Normalize) and isinstance(size, int)):
        raise ValueError(
            "give --validation-recipe: it cannot be told from one for training without ClipSampling, a size of its "
            f"crops, and Normalize, got {recipe!r}"
        )
    stride = sum(sampling.stride) // 2 if isinstance(sampling.stride, tuple) else sampling.stride
    sampling = replace(sampling, start="center", stride=stride, speed=None, fractional=False)
    return dv.Recipe(sampling, (dv.Resize(round(size * 8 / 7)), dv.CenterCrop(size), last))


def with_views(recipe: dv.Recipe, clips: int, crops: int = 1) -> dv.Recipe:
    """A recipe for validation with several views of each video.

    Args:
        recipe: of one clip.
        clips: places in each video: evenly, or, of samplers that choose several clips by themselves as the code of a
            published recipe does, such as ``VideoMAESampling``, theirs.
        crops: at each of them: 1, 3 along the longer side, or 5 (corners and centre).

    Raises:
        ValueError: it has several views already, a sampler without other clips, or no ``CenterCrop`` that others could
            stand for.
    """
    if clips == crops == 1:
        return recipe
    if recipe.num_clips > 1:
        raise ValueError(f"views: the recipe has {recipe.num_clips} views already")
    ops = list(recipe.ops)
    if crops > 1:
        at = [i for i, op in enumerate(ops) if isinstance(op, dv.CenterCrop)]
        if len(at) != 1:
            raise ValueError(f"crops: the recipe has {len(at)} CenterCrop, and must have one, for others to stand for")
        ops[at[0]] = CROPS[crops](ops[at[0]].size)
    sampling = recipe.sampling
    if isinstance(sampling, dv.ClipSampling):
        sampling = dv.MultiClip(sampling, num_clips=clips * crops, num_crops=crops)
        return replace(recipe, sampling=sampling, ops=tuple(ops))
    if clips > 1 and "num_clips" not in [field.name for field in fields(sampling)]:
        raise ValueError(
            f"views: {type(sampling).__name__} has one clip of each video; give crops alone, or the published test as "
            "recipe for validation: dali-vidaug recipes NAME --stage test"
        )
    if clips > 1:
        sampling = replace(sampling, num_clips=clips)
    if crops > 1:
        sampling = dv.MultiClip(sampling, num_clips=clips * crops, placement="own", num_crops=crops)
    return replace(recipe, sampling=sampling, ops=tuple(ops))


def make_loaders(
    train: dv.Manifest, validation: dv.Manifest, recipes: Recipes, batch_size: int, *, seed: int = 0, **options: Any
) -> tuple[dv.VideoLoader, dv.VideoLoader]:
    """Random clips to train with; and all videos, in order, to validate with.

    Args:
        train, validation: the videos.
        recipes: for both.
        batch_size: clips of each rank, in validation too: so many videos times views, or one video.
        seed: of the clips.
        options: of the loader for training, such as ``mix_group``.
    """
    videos = max(1, batch_size // recipes.validation.num_clips)
    return (
        dv.VideoLoader(train, recipes.train, batch_size, seed=seed, repeats=recipes.repeats, **options),
        dv.VideoLoader(validation, recipes.validation, videos, shuffle=False, drop_last=False, on_error="skip"),
    )
