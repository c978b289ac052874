"""Published recipes by the name of the model: ``dv.recipes.slowfast("8x8", stage="train")`` returns a ``Recipe``.

``dali-vidaug recipes`` lists them, docs/recipes.md has a table.
"""

from dali_vidaug.recipes.hiera import hiera
from dali_vidaug.recipes.internvideo2 import internvideo2, internvideo2_pretrain
from dali_vidaug.recipes.mvit import mvit, uniformer
from dali_vidaug.recipes.program import as_python, program
from dali_vidaug.recipes.registry import FAMILIES, STAGES, Family, Training
from dali_vidaug.recipes.slowfast import slowfast
from dali_vidaug.recipes.timesformer import timesformer
from dali_vidaug.recipes.video_swin import video_swin
from dali_vidaug.recipes.videomae import videomae, videomae_pretrain, videomae_v2, videomae_v2_pretrain
from dali_vidaug.recipes.vivit import vivit
from dali_vidaug.recipes.vjepa2 import vjepa2, vjepa2_pretrain

__all__ = [
    "FAMILIES",
    "STAGES",
    "Family",
    "Training",
    "as_python",
    "hiera",
    "internvideo2",
    "internvideo2_pretrain",
    "mvit",
    "program",
    "slowfast",
    "timesformer",
    "uniformer",
    "video_swin",
    "videomae",
    "videomae_pretrain",
    "videomae_v2",
    "videomae_v2_pretrain",
    "vivit",
    "vjepa2",
    "vjepa2_pretrain",
]
