"""Scores by video: against arithmetic by hand, over views, batches, ranks and damaged files."""

import math
import multiprocessing
import os
import socket
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import import_torchvision, write_broken_files

import dali_vidaug as dv

import_torchvision()  # which torchmetrics imports; where it lacks its compiled part, only so


class Videos:
    """Stands for a manifest of 7 videos of 3 classes; the last has no label."""

    classes = ("a", "b", "c")
    multi_label = False
    labels = np.array([0, 0, 0, 0, 1, 1, -1])

    def __len__(self):
        return 7

    def path(self, sample):
        return f"{sample}.mp4"


class Tagged(Videos):
    """The same with several labels a video; class c has none, and video 6 no label."""

    multi_label = True
    labels = np.full(7, -1)
    hot = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], np.float32)

    def targets(self, samples):
        return self.hot[samples]


def logit(*shares):
    """Scores whose softmax is ``shares``."""
    return [math.log(share) for share in shares]


def test_the_mean_of_softmax_and_that_of_logits_by_hand():
    """One clip is sure of b, two lean to a: probabilities say b, logits say a."""
    rows = torch.tensor([logit(0.55, 0.05, 0.4), logit(0.5, 0.1, 0.4), logit(0.01, 0.98, 0.01)])
    told = {}
    for average in ("softmax", "logits"):
        scores = dv.VideoScores(Videos(), average)
        scores.update(rows, ([4, 4, 4], [0, 1, 2]))
        told[average] = scores.compute()
        assert told[average].samples.tolist() == [4] and told[average].num_clips.tolist() == [3]
    expected = [(0.55 + 0.5 + 0.01) / 3, (0.05 + 0.1 + 0.98) / 3, (0.4 + 0.4 + 0.01) / 3]
    np.testing.assert_allclose(told["softmax"].scores[0], expected, rtol=1e-6)
    expected = [math.log(p) / 3 for p in (0.55 * 0.5 * 0.01, 0.05 * 0.1 * 0.98, 0.4 * 0.4 * 0.01)]
    np.testing.assert_allclose(told["logits"].scores[0], expected, rtol=1e-6)
    assert told["softmax"].top1 == 1 and told["softmax"].scores[0].argmax() == 1


def test_accuracies_by_hand():
    """a: 3 of 4 right, b: 1 of 2, c has no video but is what two were taken for."""
    taken = torch.tensor([0, 0, 0, 2, 1, 2, 0])
    scores = dv.VideoScores(Videos())
    scores.update(torch.nn.functional.one_hot(taken, 3).float() * 9, (np.arange(7), np.zeros(7, int)))
    result = scores.compute()
    assert result.top1 == pytest.approx(4 / 6) and result.mean_class_accuracy == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert result.top5 == 1  # of three classes
    counts = result.num_videos, result.missing, result.incomplete, result.unlabelled
    assert counts == (6, 0, 0, 1) and math.isnan(result.mean_average_precision)
    assert str(result) == (
        "top-1 66.7%, top-5 100.0%, mean class accuracy 62.5% of 6 videos, 1 without a label"
    )  # fmt: skip


def test_top_5_of_more_classes():
    class Many(Videos):
        classes = tuple("abcdefg")

    rows = torch.tensor([[0, 1, 2, 3, 4, 5, 6.0], [2, 3, 4, 5, 6, 7, 1.0], *[[9, 8, 7, 6, 5, 4, 3.0]] * 2])
    scores = dv.VideoScores(Many())
    scores.update(rows, ([0, 1, 2, 4], [0] * 4))  # the ranks of the labels: 7th, 6th, 1st, 2nd
    assert scores.compute().top1 == 0.25 and scores.compute().top5 == 0.5


def test_average_precision_by_hand():
    """a: videos 0, 1, 3, 5 ranked 1st, 2nd, 4th, 6th; b: 1, 2, 4 ranked 1st to 3rd; c has none and does not count."""
    ranks = {0: (1, 6), 1: (2, 1), 2: (3, 2), 3: (4, 5), 4: (5, 3), 5: (6, 4), 6: (7, 7)}
    rows = torch.tensor([[-float(a), -float(b), 3.0] for a, b in ranks.values()])
    scores = dv.VideoScores(Tagged())
    assert scores.average == "sigmoid"
    scores.update(rows, (list(ranks), [0] * 7))
    result = scores.compute()
    a = (1 / 1 + 2 / 2 + 3 / 4 + 4 / 6) / 4  # video 6, without a label, is not ranked
    assert result.mean_average_precision == pytest.approx((a + 1) / 2)
    assert result.num_videos == 6 and result.unlabelled == 1 and math.isnan(result.top1)


def test_order_batches_and_duplicates_do_not_matter():
    """The same clips in any order, cut anyhow, some of them twice: the same means, bit for bit."""
    generator = np.random.default_rng(0)
    samples, views = np.repeat(np.arange(7), 5), np.tile(np.arange(5), 7)
    rows = torch.from_numpy(generator.normal(size=(35, 3))).float()
    results = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(np.r_[np.arange(35), np.arange(0, 35, 1 + seed)])
        scores = dv.VideoScores(Videos(), "logits")
        for part in np.array_split(order, 1 + seed % 7):
            scores.update(rows[part], (samples[part], views[part]))
        results.append(scores.compute("raise"))
        assert (results[-1].num_clips == 5).all()
    np.testing.assert_allclose(results[0].scores, rows.double().view(7, 5, 3).mean(1), rtol=1e-12)
    assert all(torch.equal(result.scores, results[0].scores) for result in results)


def test_missing_and_incomplete_videos():
    scores = dv.VideoScores(Videos())
    scores.update(torch.zeros(5, 3), ([0, 0, 1, 1, 4], [0, 1, 0, 1, 0]))
    result = scores.compute()
    assert (result.num_videos, result.missing, result.incomplete) == (3, 3, 1)
    assert str(result).endswith("of 3 videos, 3 missing, 1 incomplete")
    with pytest.raises(ValueError, match=r"3 videos have no clip, such as 2.mp4 \(sample 2\)"):
        scores.compute(missing="raise")
    scores.update(torch.zeros(6, 3), ([2, 2, 3, 3, 5, 5], [0, 1] * 3))
    with pytest.raises(ValueError, match=r"1 videos have fewer clips than others, such as 4.mp4 \(sample 4\)"):
        scores.compute(missing="raise")
    scores.reset()
    empty = scores.compute()
    assert math.isnan(empty.top1) and empty.missing == 6 and str(empty) == "no figures of 0 videos, 6 missing"


@pytest.mark.parametrize(
    "scores, batch, message",
    [
        (torch.zeros(2, 4), ([0, 1], [0, 0]), r"scores must be \(2, 3\) floats, of clips and classes, got \(2, 4\)"),
        (torch.zeros(3, 3), ([0, 1], [0, 0]), r"got \(3, 3\) torch.float32"),
        (torch.zeros(2, 3).int(), ([0, 1], [0, 0]), "got .* torch.int32"),
        ([[0, 0, 0]], ([0], [0]), r"got \[\[0, 0, 0\]\]"),
        (torch.tensor([[0, 0, 0], [0, np.nan, 0]]), ([0, 5], [0, 0]), r"NaN or infinity for 5.mp4 \(sample 5\)"),
        (torch.zeros(1, 3), ([7], [0]), r"samples must be 1 numbers in \[0, 7\), got \[7\]"),
        (torch.zeros(1, 3), ([-1], [0]), "samples must be"),
        (torch.zeros(1, 3), ([0], [256]), r"views must be 1 numbers in \[0, 256\)"),
        (torch.zeros(2, 3), ([0, 1], [0]), "views must be 2 numbers"),
        (torch.zeros(1, 3), ([0.5], [0]), "samples must be 1-dimensional integers"),
    ],
)
def test_what_cannot_be_is_refused(scores, batch, message):
    with pytest.raises(ValueError, match=f"VideoScores: .*{message}"):
        dv.VideoScores(Videos()).update(scores, batch)


def test_options_are_checked():
    with pytest.raises(ValueError, match="VideoScores: average must be softmax, logits, sigmoid or None, got 'mean'"):
        dv.VideoScores(Videos(), "mean")
    with pytest.raises(ValueError, match="VideoScores: manifest must be a Manifest, got 3"):
        dv.VideoScores(3)
    with pytest.raises(ValueError, match="VideoScores: missing must be count or raise, got True"):
        dv.VideoScores(Videos()).compute(missing=True)
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        dv.VideoScores(SimpleNamespace(classes=("a",), multi_label=False))


@pytest.mark.parametrize("error, message", [
    (ImportError("no"), r"VideoScores needs torchmetrics: pip install 'dali_vidaug\[metrics\]'"),
    (RuntimeError("operator torchvision::nms does not exist"), "torchmetrics cannot be imported: operator torchvision"),
])  # fmt: skip
def test_without_torchmetrics_it_says_what_to_install(error, message, monkeypatch):
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("torchmetrics"):
                raise error

    for name in [name for name in sys.modules if name.startswith("torchmetrics")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(ImportError, match=message):
        dv.VideoScores(Videos())


# From a loader

VIEWS = dv.Recipe(dv.MultiClip(dv.ClipSampling(2, 3), 4), (dv.Resize((24, 40)),))


def network(clips, num_classes):
    """Some scores that depend on the clip, (B, K), and on nothing else."""
    means = clips.double().flatten(1).mean(1, keepdim=True)
    return torch.sin(means * torch.arange(1, num_classes + 1)).float() * 4


def expected_means(manifest, recipe):
    """The mean scores of all videos, from each clip by itself."""
    means = []
    with dv.VideoLoader(manifest, recipe, 1, device="cpu", num_threads=1) as loader:
        for sample in range(len(manifest)):
            views = np.arange(recipe.num_clips)
            clips = [loader.apply(dv.draw_plan(manifest, recipe, [sample], views=int(v))).clips for v in views]
            means.append(network(torch.cat(clips), len(manifest.classes)).softmax(1).double().mean(0))
    return torch.stack(means)


def test_a_loader_s_views_and_repeats(numbered_manifest):
    scores, expected = dv.VideoScores(numbered_manifest), expected_means(numbered_manifest, VIEWS)
    options = dict(device="cpu", shuffle=False, drop_last=False, num_threads=1)
    with dv.VideoLoader(numbered_manifest, VIEWS, 5, repeats=2, **options) as loader:
        for batch in loader:
            scores.update(network(batch.clips, 2), batch)
        first = scores.compute("raise")
        assert (first.num_clips == 8).all()  # the ops draw nothing: both repeats are the same
        torch.testing.assert_close(first.scores, expected, rtol=1e-6, atol=1e-7)
        with pytest.raises(ValueError, match=r"scores of epoch 0, and the batch is of epoch 1; call reset\(\)"):
            scores.update(network(batch.clips, 2), next(iter(loader)))
    labels = torch.tensor(numbered_manifest.labels)
    assert first.top1 == pytest.approx(float((expected.argmax(1) == labels).double().mean()))


def test_ten_passes_of_single_views(numbered_manifest):
    """Views that are given by hand, a view a pass, are those of ten views a video."""
    scores, expected = dv.VideoScores(numbered_manifest), expected_means(numbered_manifest, VIEWS)
    rows = np.arange(len(numbered_manifest))
    with dv.VideoLoader(numbered_manifest, VIEWS, 1, device="cpu", num_threads=1) as loader:
        for view in range(VIEWS.num_clips):
            clips = loader.apply(dv.draw_plan(numbered_manifest, VIEWS, rows, views=view)).clips
            scores.update(network(clips, 2), (rows, np.full(len(rows), view)))
    torch.testing.assert_close(scores.compute("raise").scores, expected, rtol=1e-6, atol=1e-7)


def test_mixed_clips_are_refused(numbered_manifest):
    recipe = dv.Recipe(dv.ClipSampling(2), (dv.Resize((24, 40)), dv.MixUp(), dv.CutMix()))
    with dv.VideoLoader(numbered_manifest, recipe, 4, device="cpu", num_threads=1) as loader:
        batch = next(iter(loader))
    with pytest.raises(ValueError, match="VideoScores: MixUp has mixed clips of the batch"):
        dv.VideoScores(numbered_manifest).update(torch.zeros(4, 2), batch)


@pytest.mark.parametrize("on_error", ["replace", "skip"])
def test_damaged_videos_are_missing_and_others_count_once(numbered, tmp_path, on_error):
    folder = tmp_path / "v"
    for i, name in enumerate(("even/00.mp4", "even/02.mp4", "odd/01.mp4", "odd/03.mp4")):
        (folder / name.partition("/")[0]).mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((numbered / name).read_bytes())
        assert i < 4
    manifest = dv.scan(folder, progress=False)
    write_broken_files(tmp_path / "broken", folder / "even/02.mp4")
    (folder / "even/02.mp4").write_bytes((tmp_path / "broken/text.mp4").read_bytes())
    scores, expected = dv.VideoScores(manifest), {}
    options = dict(device="cpu", shuffle=False, drop_last=False, num_threads=1, check_files="off")
    with dv.VideoLoader(manifest, VIEWS, 3, on_error=on_error, **options) as loader:
        for batch in loader:
            rows = network(batch.clips, 2)
            scores.update(rows, batch)
            for sample, row in zip(batch.samples.tolist(), rows.softmax(1).double(), strict=True):
                expected.setdefault(sample, []).append(row)
    result = scores.compute()
    bad = next(i for i in range(4) if manifest.path(i).endswith("even/02.mp4"))
    assert result.samples.tolist() == [i for i in range(4) if i != bad] and result.missing == 1
    assert (result.num_clips == 4).all()  # also of the one that took the place of the damaged one
    assert max(map(len, expected.values())) == (8 if on_error == "replace" else 4)
    for sample, mean in zip(result.samples.tolist(), result.scores, strict=True):
        torch.testing.assert_close(mean, torch.stack(expected[sample][:4]).mean(0), rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match=r"1 videos have no clip, such as .*even/02.mp4 \(sample"):
        scores.compute("raise")


# Ranks


def _rank(rank, port, path, queue):
    """A rank of two: its shard of a loader; then the views of one video apart, and other overlaps."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    manifest = dv.Manifest.read(path)
    told = []
    for batch_size in (4, 5):  # 11 videos: one comes twice, to make the ranks even
        scores, again = dv.VideoScores(manifest), 0
        options = dict(device="cpu", shuffle=True, drop_last=False, num_threads=1, seed=batch_size)
        with dv.VideoLoader(manifest, VIEWS, batch_size, **options) as loader:
            for batch in loader:
                scores.update(network(batch.clips, 2), batch)
                again += int(batch.repeated.sum())
        told.append((scores.compute("raise"), again))
    # By hand: each rank has two of the four views of video 0, both have view 1; rank 1 alone has video 3
    scores = dv.VideoScores(manifest, "logits")
    views = [[0, 1], [1, 2, 3]][rank]
    scores.update(torch.tensor([[float(10**view), 0.0] for view in views]), (np.zeros(len(views), int), views))
    if rank == 1:
        scores.update(torch.tensor([[0.0, 1.0]]), ([3], [0]))
    told.append((scores.compute(), 0))
    empty = dv.VideoScores(manifest)
    if rank == 0:
        empty.update(torch.tensor([[1.0, 0.0]]), ([2], [0]))
    told.append((empty.compute(), 0))
    told = [({name: np.asarray(value) for name, value in vars(result).items()}, again) for result, again in told]
    queue.put((rank, told))
    queue.close()
    queue.join_thread()
    torch.distributed.destroy_process_group()


def test_two_ranks(numbered_manifest, tmp_path):
    path = tmp_path / "m.parquet"
    manifest = numbered_manifest.select(np.arange(11))
    manifest.write(path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    ranks = [context.Process(target=_rank, args=(rank, port, path, queue)) for rank in range(2)]
    for process in ranks:
        process.start()
    told = dict(queue.get(timeout=240) for _ in ranks)
    for process in ranks:
        process.join(120)
        assert process.exitcode == 0
    expected = expected_means(manifest, VIEWS)
    for (one, again), (other, again_other) in zip(told[0], told[1], strict=True):
        for name, value in one.items():  # the same on both
            np.testing.assert_array_equal(value, other[name], err_msg=name)
        if one["num_videos"] == 11:
            assert again + again_other == VIEWS.num_clips and (one["num_clips"] == 4).all()
            np.testing.assert_allclose(one["scores"], expected, rtol=1e-6, atol=1e-7)
    assert [one["num_videos"] for one, _ in told[0]] == [11, 11, 2, 1]
    by_hand = told[0][2][0]
    assert by_hand["samples"].tolist() == [0, 3] and by_hand["num_clips"].tolist() == [4, 1]
    assert by_hand["scores"].tolist() == [[1111 / 4, 0], [0, 1]]
    assert (by_hand["missing"], by_hand["incomplete"]) == (9, 1)
