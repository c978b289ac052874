"""Published recipes by the name of the model: ``dv.recipes.slowfast("8x8", stage="train")`` returns a ``Recipe``.

``dali-vidaug recipes`` lists them, docs/recipes.md has a table.
"""

from dali_vidaug.recipes.program import as_python, program
from dali_vidaug.recipes.registry import FAMILIES, STAGES, Family, Training
from dali_vidaug.recipes.slowfast import slowfast

__all__ = ["FAMILIES", "STAGES", "Family", "Training", "as_python", "program", "slowfast"]
