"""Parameters in groups, the learning rate at each place of training, and when to stop."""

import math
import re
from dataclasses import dataclass

from torch import nn
from torch.optim import AdamW

from training.models import depths
from training.options import MONITORS, Options

POSITIONS = re.compile(  # in the names of parameters: what belongs to places rather than to features, and class tokens
    r"(^|[._])(pos|position|time|absolute_pos)_embed(ding)?s?$|relative_position_bias_table$|rel_pos_[a-z]+$|"
    r"(spatial|temporal|class)_pos$|(class|cls)_token$"
)


def make_optimizer(network: nn.Module, options: Options) -> AdamW:
    """AdamW, with a group for each factor of the learning rate, with and without weight decay.

    Parameters of one dimension (biases, norms, class tokens) do not decay, nor do tables of positions
    (``POSITIONS``), as the authors of these networks have it.
    """
    blocks = depths(network) if options.layer_decay < 1 else {}
    last, groups = max(blocks.values(), default=0), {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            scale = options.layer_decay ** (last - blocks[name]) if blocks else 1.0
            decays = sum(size > 1 for size in parameter.shape) > 1 and not POSITIONS.search(name)
            groups.setdefault((scale, decays), []).append(parameter)
    return AdamW(
        [
            {"params": parameters, "scale": scale, "weight_decay": options.weight_decay if decays else 0.0}
            for (scale, decays), parameters in groups.items()
        ],
        lr=options.lr,
        betas=options.betas,
    )


def learning_rate(place: float, options: Options) -> float:
    """The learning rate at a place of training: up in a line, then down along a cosine.

    It is computed from the place, and keeps no count of steps: so it is right after going on with another number of
    processes, which take other steps.

    Args:
        place: in epochs, [0, epochs].
        options: ``lr``, ``epochs``, ``warmup_epochs`` and ``final_lr``.
    """
    warmup = options.warmup_epochs
    if place < warmup:
        return options.lr * place / warmup
    share = (place - warmup) / max(options.epochs - warmup, 1e-9)
    return options.lr * (options.final_lr + (1 - options.final_lr) * (0.5 + 0.5 * math.cos(math.pi * min(share, 1.0))))


def set_learning_rate(optimizer: AdamW, lr: float) -> None:
    """Give each group its part of a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


@dataclass
class Best:
    """The best epoch so far, and whether to stop.

    Attributes:
        monitor, patience: as in ``Options``.
        value: the best figure; None: no epoch yet.
        epoch: that had it; of none yet, the one before the first that is trained.
        validated: epochs that were trained and validated, those without validation videos too.
        row: of the log, of that epoch; None: no epoch yet.
    """

    monitor: str
    patience: int | None
    value: float | None = None
    epoch: int = -1
    validated: int = 0
    row: dict[str, float] | None = None

    def update(self, value: float | None, row: dict[str, float] | None = None) -> bool:
        """Add the figure of the next epoch, and its row; whether it is the best. None and NaN never are."""
        better = value is not None and not math.isnan(value)
        if better and self.value is not None:
            better = value > self.value if MONITORS[self.monitor] else value < self.value
        if better:
            self.value, self.epoch, self.row = value, self.validated, row
        self.validated += 1
        return better

    @property
    def stops(self) -> bool:
        """Whether patience is at its end."""
        return self.patience is not None and self.validated - 1 - self.epoch >= self.patience

    def state_dict(self) -> dict:
        """What a checkpoint keeps."""
        return {"value": self.value, "epoch": self.epoch, "validated": self.validated, "row": self.row}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a checkpoint."""
        self.value, self.epoch, self.validated = state["value"], state["epoch"], state["validated"]
        self.row = state.get("row")
