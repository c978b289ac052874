"""Class activation maps in space and time, of any network that pools its features and classifies them linearly.

CAM: Zhou et al., "Learning Deep Features for Discriminative Localization" (CVPR 2016). Here the features have places in
time too, which is what ST-CAM keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from dali_vidaug.cam.head import CALLER, Head, evaluating, find_head, run, same

if TYPE_CHECKING:
    from dali_vidaug.batch import Batch


@dataclass(frozen=True, eq=False)
class Maps:
    """How much each place of a clip adds to the scores of classes.

    The mean of a map over all places, plus the bias, is the score: ``values.mean((2, 3, 4)) + bias == scores``, to
    rounding.

    Attributes:
        values: (B, N, T, H, W) float32 or float64: for each clip N classes, at T x H x W places. Place (t, h, w) is the
            part [t / T, (t + 1) / T) of the clip's time, and likewise of its height and width.
        classes: (B, N) int64, which classes.
        bias: (B, N), what no place adds.
        scores: (B, N), what the network returned.
        layer: the module whose features these are.
    """

    values: Tensor
    classes: Tensor
    bias: Tensor
    scores: Tensor
    layer: str

    def __repr__(self) -> str:
        clips, classes, *grid = self.values.shape
        places = "x".join(map(str, grid))
        return f"Maps of {clips} clips, {classes} classes, {places} places (T x H x W) of {self.layer!r}"

    def sequence(self, num_frames: int | None = None) -> Tensor:
        """The activation sequences: the mean of each map over height and width.

        Args:
            num_frames: of the clip, for a value each, between places linear; default: a value for each place in time.

        Returns:
            (B, N, T) or (B, N, num_frames).
        """
        values = self.values.mean((3, 4))
        if num_frames is None:
            return values
        return functional.interpolate(values, size=num_frames, mode="linear", align_corners=False)

    def on_clip(self, i: int, size: tuple[int, int, int]) -> Tensor:
        """The maps of a clip on its frames, trilinear, between 0 and 1.

        0 is the smallest value of a class in the whole clip, and 1 the largest: frames can be compared, classes cannot.

        Args:
            i: position in the batch.
            size: (F, H, W) of the clip.

        Returns:
            (N, F, H, W) in [0, 1]; 0 where a map has the same value everywhere.

        Raises:
            ValueError: there is no such clip.
        """
        check_clip("Maps.on_clip", self, i)
        values = functional.interpolate(self.values[[i]], size=size, mode="trilinear", align_corners=False)[0]
        low, high = values.amin((1, 2, 3), keepdim=True), values.amax((1, 2, 3), keepdim=True)
        return torch.where(high > low, (values - low) / torch.where(high > low, high - low, 1), 0).clamp(0, 1)


def check_clip(caller: str, maps: Maps, i: int, num_clips: int | None = None) -> None:
    """Refuse a clip that a batch has not, and maps of another batch.

    Args:
        caller: for the message.
        maps: of the batch.
        i: position of the clip in the batch.
        num_clips: in the batch; None: as many as there are maps.

    Raises:
        ValueError: there is no such clip, or there are not as many maps as clips.
    """
    count = len(maps.values) if num_clips is None else num_clips
    if len(maps.values) != count or not 0 <= i < count:
        raise ValueError(
            f"{caller}: clip {i} of a batch of {count} clips, with maps of {len(maps.values)}; they must be those "
            "of batch.clips"
        )


def labels(batch: Batch) -> np.ndarray:
    """The labels of the clips of a batch, and those of the clips that they are mixed with.

    Returns:
        (B, 2) int64: each clip's own class, and its partner's; the own one twice where it is not mixed. (B, 1) where
        the recipe has no op that mixes.

    Raises:
        ValueError: a clip has no label, or several; or the recipe has several ops that mix, or one that changes labels
            in another way than mixing and smoothing.
    """
    if batch.manifest is not None:
        if batch.manifest.multi_label:
            raise ValueError("cam.labels: samples have several labels; give activation the classes")
        own = np.asarray(batch.manifest.labels)[batch.plan.samples].astype(np.int64)
    elif batch.targets.ndim == 1:
        own = batch.targets.cpu().numpy()
    else:
        raise ValueError("cam.labels: the batch has no manifest; its targets must be class numbers")
    if (own < 0).any():
        raise ValueError(f"cam.labels: clip {int((own < 0).argmax())} of the batch has no label")
    mixing = [name for name, op in batch.plan.recipe.pixel_ops if hasattr(op, "mixed_with")]
    for name, op in batch.plan.recipe.pixel_ops:
        if hasattr(op, "targets") and name not in mixing and not hasattr(op, "loss_option"):
            raise ValueError(f"cam.labels: {name} changes labels, and not by mixing; give activation the classes")
    if not mixing:
        return own[:, None]
    if batch.mix is None:
        raise ValueError(f"cam.labels: {' and '.join(mixing)} mix the clips; give activation the classes")
    partner, share = (column.cpu().numpy() for column in batch.mix)
    return np.stack([own, np.where(share < 1, own[partner], own)], 1)


def activation(
    model: nn.Module, clips: Any, classes: ArrayLike | Tensor | None = None, *,
    grid: tuple[int, int, int] | None = None,
) -> Maps:  # fmt: skip
    """Find how much each place of clips adds to the scores of classes.

    The network must pool its last features over all places, by the mean or the maximum, and have only linear layers
    after that: torchvision's ``r3d_18``, ``s3d`` and ``swin3d_t``, transformers' VideoMAE with ``use_mean_pooling``, or
    yours. Dropout, batch normalisation and layer normalisation after the pool are allowed; the factor by which a layer
    normalisation divides a clip is taken as it is. The network is run twice, in evaluation mode: with the first clip,
    to find the features, and with all.

    Args:
        model: (B, K) scores, or an object with ``logits``, from clips.
        clips: its input, such as ``batch.clips``.
        classes: (N,) int, for all clips, or (B, N), for each its own, such as ``labels(batch)``. Default: all classes.
        grid: (T, H, W), the places of tokens, in that order. Default: those of the patch embedding.

    Raises:
        ValueError: the network is of another kind; the message says what it has. Or the classes are not its classes, or
            clips or scores are not finite.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"{CALLER}: model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(clips, Tensor) or not clips.is_floating_point() or not len(clips):
        what = f"{clips.dtype} {tuple(clips.shape)}" if isinstance(clips, Tensor) else type(clips).__name__
        raise ValueError(
            f"{CALLER}: clips must be floats as the model takes them (put Normalize into the recipe), got {what}"
        )
    _check_finite("clips must be finite", clips)
    with evaluating(model):
        first, calls = run(model, clips[:1])
        _check_finite("the scores of the model must be finite", first)
        head = find_head(first, calls, type(model).__name__, grid)
        scores, calls = run(model, clips, {*head.linear, head.features})
        found = {call.key: call for call in calls}
        chosen = _chosen(classes, scores)
        weight, bias = _weights(head, found, chosen)
        features, share = _features(head, found)
        values = torch.einsum("bnc,bcthw->bnthw", weight, features * share) * features[0, 0].numel()
        maps = Maps(values, chosen, bias, scores.gather(1, chosen), head.features[0])
    _check(maps, weight, features)
    return maps


def _check_finite(what, tensor):
    """Refuse NaN, which is equal to nothing, so that no features would be found."""
    bad = (~tensor.isfinite()).flatten(1).any(1).nonzero()
    if len(bad):
        raise ValueError(f"{CALLER}: {what}, and clip {int(bad[0])} has NaN or infinity")


def _chosen(classes, scores):
    """Which classes: (B, N) int64."""
    size, count = scores.shape
    chosen = torch.as_tensor(np.arange(count) if classes is None else classes, device=scores.device)
    chosen = chosen.expand(size, -1) if chosen.ndim == 1 else chosen
    if chosen.ndim != 2 or len(chosen) != size or chosen.is_floating_point() or not chosen.shape[1]:
        raise ValueError(
            f"{CALLER}: classes must be (N,) or ({size}, N) whole numbers, got {tuple(chosen.shape)} {chosen.dtype}"
        )
    if not ((chosen >= 0) & (chosen < count)).all():
        raise ValueError(f"{CALLER}: classes must be in [0, {count}), got {chosen.min()} to {chosen.max()}")
    return chosen.long()


def _wide(tensor):
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _weights(head, found, chosen):
    """Of each class the weight of each channel of the pooled features, (B, N, C), and what is added, (B, N).

    The layers after the pool are multiplied from the last one down.
    """
    classifier, *others = (found[key] for key in head.linear)
    matrix, offset = _matrix(classifier.module)
    weight, bias = matrix[chosen], offset[chosen]
    for call in others:
        module, taken = call.module, _wide(call.taken)
        if isinstance(module, (nn.Linear, nn.Conv3d)):
            matrix, offset = _matrix(module)
            weight, bias = weight @ matrix, bias + weight @ offset
            continue
        scale = torch.ones_like(taken[0]) if module.weight is None else _wide(module.weight)
        bias = bias if module.bias is None else bias + weight @ _wide(module.bias)
        if isinstance(module, nn.LayerNorm):  # (x - mean) / deviation
            deviation = (taken.var(1, correction=0) + module.eps).sqrt()
            weight = weight * scale / deviation[:, None, None]
            weight = weight - weight.mean(-1, keepdim=True)
        else:
            weight = weight * scale / (_wide(module.running_var) + module.eps).sqrt()
            bias = bias - weight @ _wide(module.running_mean)
    return weight, bias


def _matrix(module):
    """The matrix and the bias of a linear layer: (N, C) and (N,)."""
    matrix = _wide(module.weight).flatten(1)
    return matrix, matrix.new_zeros(len(matrix)) if module.bias is None else _wide(module.bias)


def _features(head: Head, found):
    """The features, (B, C, T, H, W), and which share of the pool each place has: it sums up to 1 over the places."""
    call = found[head.features]
    tensor = _wide(call.taken if head.side == "taken" else call.given)
    if head.channels_last:
        tensor = tensor.movedim(-1, 1)
    features = tensor.reshape(*tensor.shape[:2], *head.grid)
    if head.pool == "mean":
        return features, torch.full_like(features[:1, :1], 1 / features[0, 0].numel())
    if head.pool == "max":  # the first of the places that have the largest value
        flat = features.flatten(2)
        return features, torch.zeros_like(flat).scatter_(2, flat.argmax(2, keepdim=True), 1).view_as(features)
    with torch.enable_grad():  # how often each place is in a window, over the size of the window
        ones = torch.ones_like(features[:1, :1]).requires_grad_()
        (share,) = torch.autograd.grad(call.module(ones).mean(), ones)
    return features, share


def _check(maps, weight, features):
    """What makes a map one of this score: its mean, and the bias, are the score."""
    total = maps.values.mean((2, 3, 4)) + maps.bias
    largest = weight.abs().sum(2).max() * features.abs().max() + maps.bias.abs().max()
    if not same(total, _wide(maps.scores), torch.stack([largest, largest]).to(maps.scores.dtype)):
        worst = (total - maps.scores).abs().max()
        raise ValueError(
            f"{CALLER}: the maps of {maps.layer!r} and the bias do not add up to the scores, which differ by "
            f"{worst:.3g}: something after these features is not linear, or changes from run to run"
        )
