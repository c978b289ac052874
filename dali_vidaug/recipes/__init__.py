"""Published recipes by the name of the model: ``dv.recipes.slowfast("8x8", stage="train")`` returns a ``Recipe``.

``dali-vidaug recipes`` lists them, docs/recipes.md has a table.
"""

from dali_vidaug.recipes.mixing import guide, kim2020, videomix
from dali_vidaug.recipes.program import as_python, program
from dali_vidaug.recipes.r3d import r3d
from dali_vidaug.recipes.registry import FAMILIES, STAGES, Family, Training
from dali_vidaug.recipes.segments import tsm, tsn
from dali_vidaug.recipes.simclr import simclr
from dali_vidaug.recipes.slowfast import slowfast, x3d

__all__ = [
    "FAMILIES",
    "STAGES",
    "Family",
    "Training",
    "as_python",
    "guide",
    "kim2020",
    "program",
    "r3d",
    "simclr",
    "slowfast",
    "tsm",
    "tsn",
    "videomix",
    "x3d",
]
