"""The options of training, checked when they are made."""

from dataclasses import dataclass

MONITORS = {"top1": True, "top5": True, "mean_class_accuracy": True, "loss": False}  # whether more is better
AMP = ("auto", "off", "bfloat16")


@dataclass(frozen=True)
class Options:
    """How a network is trained.

    Attributes:
        epochs: over the training videos, >= 1.
        lr: the highest learning rate of AdamW, > 0: that of the classifier, where ``layer_decay`` is below 1.
        weight_decay: >= 0; biases, norms and other parameters of one dimension have none, nor have tables of positions.
        betas: of AdamW.
        warmup_epochs: from 0 up to ``lr``, in a line, [0, epochs]; parts of an epoch too.
        final_lr: what the cosine ends at, as a share of ``lr``, [0, 1].
        label_smoothing: of the loss, [0, 1); besides what the ops of the recipe do.
        layer_decay: factor of the learning rate from each block to the one before it, (0, 1].
        clip_norm: gradients are scaled down to this norm, > 0; None: they are not.
        accumulate: batches whose gradients make up a step, >= 1.
        ema: decay of the average of all weights so far, (0, 1), which is then what is validated; None: there is none.
        amp: "bfloat16": the network computes in mixed precision; "off"; "auto": on a GPU that has bfloat16.
        sync_batch_norm: batch norms take the statistics of all ranks; GPUs only.
        monitor: which figure of validation tells the best epoch: top1, top5, mean_class_accuracy or loss.
        patience: stop after so many epochs without a better figure, >= 1; None: train all epochs.
        save_every: steps from checkpoint to checkpoint, besides one at each epoch's end, >= 1.
        log_every: steps whose figures are fetched and written together, >= 1.
        seed: of dropout and the like, [0, 2**63).

    Raises:
        ValueError: one is out of range.
    """

    epochs: int = 20
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_epochs: float = 0.5
    final_lr: float = 0.0
    label_smoothing: float = 0.0
    layer_decay: float = 1.0
    clip_norm: float | None = None
    accumulate: int = 1
    ema: float | None = None
    amp: str = "auto"
    sync_batch_norm: bool = False
    monitor: str = "top1"
    patience: int | None = None
    save_every: int = 100
    log_every: int = 10
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "betas", tuple(self.betas))
        for name in ("epochs", "accumulate", "save_every", "log_every", "patience"):
            if not (self._is_none(name) or (type(getattr(self, name)) is int and getattr(self, name) >= 1)):
                self._refuse(name, "a whole number >= 1")
        number = (int, float)
        for name, low, high, what in (
            ("lr", 0, float("inf"), "> 0"), ("clip_norm", 0, float("inf"), "> 0"), ("ema", 0, 1, "in (0, 1)"),
        ):  # fmt: skip
            value = getattr(self, name)
            if not (self._is_none(name) or (isinstance(value, number) and low < value < high)):
                self._refuse(name, what)
        if not (isinstance(self.weight_decay, number) and 0 <= self.weight_decay < float("inf")):
            self._refuse("weight_decay", ">= 0")
        if not (isinstance(self.warmup_epochs, number) and 0 <= self.warmup_epochs <= self.epochs):
            self._refuse("warmup_epochs", f"in [0, epochs={self.epochs}]")
        if not (isinstance(self.final_lr, number) and 0 <= self.final_lr <= 1):
            self._refuse("final_lr", "in [0, 1]")
        if not (isinstance(self.label_smoothing, number) and 0 <= self.label_smoothing < 1):
            self._refuse("label_smoothing", "in [0, 1)")
        if not (isinstance(self.layer_decay, number) and 0 < self.layer_decay <= 1):
            self._refuse("layer_decay", "in (0, 1]")
        if not (len(self.betas) == 2 and all(isinstance(b, number) and 0 <= b < 1 for b in self.betas)):
            self._refuse("betas", "two numbers in [0, 1)")
        if not (type(self.seed) is int and 0 <= self.seed < 2**63):
            self._refuse("seed", "a whole number in [0, 2**63)")
        for name, choices in (("amp", AMP), ("monitor", tuple(MONITORS))):
            if getattr(self, name) not in choices:
                self._refuse(name, f"one of {', '.join(choices)}")

    def _is_none(self, name):
        return getattr(self, name) is None and name in ("patience", "clip_norm", "ema")

    def _refuse(self, name, what):
        raise ValueError(f"Options: {name} must be {what}, got {getattr(self, name)!r}")
