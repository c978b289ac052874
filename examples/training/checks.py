"""What is refused before anything is trained: recipes and loaders that training would be wrong with."""

from collections.abc import Sequence
from typing import Any

import dali_vidaug as dv
from training.data import Recipes
from training.options import Options


def normalisation(recipe: dv.Recipe) -> Any:
    """How a recipe normalises clips, for comparing two; None if it does not."""
    return recipe.ops[-1] if recipe.ops and isinstance(recipe.ops[-1], dv.Normalize) else None


def check_recipes(recipes: Recipes, loaders: Sequence[dv.VideoLoader]) -> tuple[int, int, int]:
    """Refuse recipes that a network could not be trained with; returns the (F, H, W) that it must be made for.

    Raises:
        ValueError: naming what is wrong.
    """
    for name, recipe, loader in zip(
        ("training", "validation"), (recipes.train, recipes.validation), loaders, strict=True
    ):
        if getattr(recipe, "pathways", ()):
            raise ValueError(f"{name}: the recipe has {len(recipe.pathways)} pathways, and these models take one clip")
        if normalisation(recipe) is None:
            raise ValueError(f"{name}: the recipe must end with Normalize, or clips stay bytes, got {recipe!r}")
        if loader.clip_shape != loaders[0].clip_shape:
            shapes = " and ".join("x".join(map(str, loader.clip_shape)) for loader in loaders)
            raise ValueError(f"validation: its clips differ from those of training (frames x height x width): {shapes}")
    if normalisation(recipes.train) != normalisation(recipes.validation):
        raise ValueError(
            f"validation: normalises otherwise than training: {normalisation(recipes.validation)!r} instead of "
            f"{normalisation(recipes.train)!r}"
        )
    return loaders[0].clip_shape


def check_loaders(loader: dv.VideoLoader, validation: dv.VideoLoader | None, options: Options) -> None:
    """Refuse videos without labels, and loaders that training or validation would be wrong with, or not possible.

    Raises:
        ImportError: torchmetrics is not installed.
        ValueError: naming what is wrong.
    """
    for name, one in (("training", loader), ("validation", validation)):
        if one is None:
            continue
        manifest = one.manifest
        if manifest.multi_label:
            raise ValueError(f"{name}: the videos have several labels each; this program trains with one")
        if len(manifest.classes) < 2 or not (manifest.labels >= 0).any():
            what = "one class" if len(manifest.classes) == 1 else "no labels"
            raise ValueError(
                f"{name}: the {len(manifest)} videos have {what}: put them into a folder for each class, or scan a "
                "list with labels"
            )
    if not (loader.manifest.labels >= 0).all():
        missing = int((loader.manifest.labels < 0).sum())
        raise ValueError(
            f"training: {missing} of {len(loader.manifest)} videos have no label; take those that have one: "
            "manifest.select(np.flatnonzero(manifest.labels >= 0))"
        )
    if loader.settings.on_error == "skip":
        raise ValueError('training: the loader must not have on_error="skip": a batch could be empty')
    if loader.settings.targets != "soft":
        raise ValueError('training: the loader must have targets="soft"')
    if validation is not None and validation.manifest.classes != loader.manifest.classes:
        raise ValueError("validation: has other classes than training: scan its videos with like=, or --like")
    if validation is not None:
        dv.VideoScores(validation.manifest)  # says what is missing before anything is trained
    if options.patience and validation is None:
        raise ValueError("patience needs videos for validation")
    if options.sync_batch_norm and loader.device != "gpu":
        raise ValueError("sync_batch_norm needs GPUs: torch has none for the CPU")
