"""What labels cost with many classes: soft targets compared with indices, in turn. Needs no videos.

    python benchmarks/targets.py [--classes 1000 100000] [--batch-size 256] [--rounds 7]

For each number of classes: the labels of a batch that CutMix has mixed, and the loss with its gradient, of logits on
the CPU. Checks that both losses are the same. Prints medians in ms of each part, and megabytes of targets. The loss
has a row of logits for each clip either way.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from torch.nn.functional import cross_entropy, nll_loss

import dali_vidaug as dv
from dali_vidaug.drawing import draw_ops
from dali_vidaug.plan import Plan
from dali_vidaug.rng import Draws
from dali_vidaug.targets import mix_targets


def make_plan(size):
    """A batch that CutMix has mixed."""
    recipe = dv.Recipe(ops=(dv.CutMix(),))
    drawn = draw_ops(recipe, Draws(0, 0, np.arange(size)), np.full(size, 16), np.full(size, 224), np.full(size, 224))
    return Plan(recipe, 0, 0, 0, np.arange(size), np.zeros(size, int), np.zeros((size, 16), int), drawn.args)


def soft_labels(labels, num_classes):
    """One-hot, as ``Manifest.targets``."""
    targets = np.zeros((len(labels), num_classes), np.float32)
    targets[np.arange(len(labels)), labels] = 1
    return targets


def soft_loss(logits, targets, mix):
    return cross_entropy(logits, torch.from_numpy(targets))


def index_loss(logits, targets, mix):
    labels, (partner, own) = torch.from_numpy(targets), (torch.from_numpy(column) for column in mix)
    log_p = logits.log_softmax(1)
    of_own, of_partner = (nll_loss(log_p, y, ignore_index=-1, reduction="none") for y in (labels, labels[partner]))
    return (own * of_own + (1 - own) * of_partner).mean()


def once(plan, labels, logits, loss, make):
    """Milliseconds for the labels and for the loss with its gradient; the loss; the size of the targets."""
    begun = time.perf_counter()
    targets, mix = mix_targets(plan, make(labels))
    made = time.perf_counter()
    value = loss(logits, targets, mix)
    value.backward()
    done = time.perf_counter()
    return 1000 * (made - begun), 1000 * (done - made), value.item(), targets.nbytes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    plan = make_plan(args.batch_size)
    for count in args.classes:
        labels = np.random.default_rng(0).integers(0, count, args.batch_size)
        logits = torch.randn(args.batch_size, count, generator=torch.Generator().manual_seed(0), requires_grad=True)
        kinds = {
            "soft": (soft_loss, lambda y, count=count: soft_labels(y, count)),
            "index": (index_loss, lambda y: y.astype(np.int64)),
        }
        found = {name: [] for name in kinds}
        for _ in range(args.rounds + 1):
            for name, (loss, make) in kinds.items():
                found[name].append(once(plan, labels, logits, loss, make))
        soft, index = (found[name][0][2] for name in kinds)
        assert abs(soft - index) < 1e-4 * abs(soft), (soft, index)
        for name, rows in found.items():
            made, lost = (statistics.median(row[k] for row in rows[1:]) for k in (0, 1))
            size = rows[0][3] / 1e6
            print(
                f"{count} classes, {name}: labels {made:.2f} ms, loss {lost:.1f} ms, targets {size:.3g} MB", flush=True
            )


if __name__ == "__main__":
    main()
