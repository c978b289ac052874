"""What a report says about who waits for whom, of real loops and of all figures."""

import re
import time

import numpy as np
import pytest
from conftest import RECIPE, write_numbered

import dali_vidaug as dv
from dali_vidaug.counting import RunningReport, frames_with_gops
from dali_vidaug.media import load
from dali_vidaug.report import Report


def report_of(manifest, recipe=RECIPE, pause=0.0, count=6, **options):
    """The report of a loop that takes ``pause`` seconds for each of ``count`` batches."""
    with dv.VideoLoader(manifest, recipe, 4, device="cpu", **options) as loader:
        taken = 0
        while taken < count:
            for _ in loader:
                time.sleep(pause)
                taken += 1
        return loader.report()


def waited_share(report):
    waited, total = map(float, re.match(r"the loop waited ([\d.]+) of ([\d.]+) s for batches", report.verdict).groups())
    return waited / total


def test_a_slow_loop_is_the_limit(numbered_manifest):
    report = report_of(numbered_manifest, pause=0.6)
    assert waited_share(report) <= 0.05 and "the loop is the limit. The loader waited " in report.verdict
    assert 6 * 0.6 <= report.seconds["loop"] <= report.elapsed_seconds
    assert 0 < report.seconds["ahead"] < report.elapsed_seconds  # of the sleep, what making a batch did not take
    assert report.verdict in str(report).splitlines()
    assert report._repr_html_().startswith(f"<pre>{report.batches} batches, ")
    assert str(Report(batches=1)).startswith("1 batch, ")


@pytest.mark.parametrize("gop, advised", [(60, True), (16, False)])
def test_a_slow_decoder_is_the_limit(gop, advised, tmp_path):
    """From the middle of GOPs of 60 frames it pays to make them shorter; where they are short, nobody is told to."""
    for i in range(8):
        write_numbered(tmp_path / "a" / f"{i}.mp4", 60, options={"g": str(gop), "sc_threshold": "0", "bf": "0"})
    recipe = dv.Recipe(dv.ClipSampling(8, stride=2, start="center"), (dv.Resize((16, 16)), dv.Normalize()))
    report = report_of(dv.scan(tmp_path, progress=False), recipe)
    assert "the loader is the limit" in report.verdict
    told = r"\d+% of the work of its threads is decoding, \d+\.\d frames for each that is used: shorter GOPs"
    assert bool(re.search(told, report.verdict)) == advised, report.verdict
    assert ("shorter GOPs" in report.verdict) == advised


class Slow:
    """An op that takes 0.2 s for a batch."""

    def draw(self, draws, frames, height, width):
        return np.zeros(len(draws), [("nothing", "f4")])

    def build(self, fn, clips, args):
        return fn.python_function(clips, function=self._wait, batch_processing=True)

    @staticmethod
    def _wait(clips):
        time.sleep(0.2)
        return clips


def test_a_slow_op_is_the_limit(numbered_manifest):
    report = report_of(numbered_manifest, dv.Recipe(RECIPE.sampling, (dv.RandomResizedCrop(8), Slow())))
    found = re.search(r"the loader is the limit. the ops ran (\d+)% of the time: fewer or", report.verdict)
    assert found and 80 <= int(found[1]) <= 100, report.verdict


def test_slow_storage_is_the_limit(numbered_manifest, monkeypatch):
    """The threads wait, and do not compute."""
    real = load.decode_clips

    def wait_for_storage(*args):
        time.sleep(0.2)
        return real(*args)

    monkeypatch.setattr(load, "decode_clips", wait_for_storage)
    report = report_of(numbered_manifest, num_threads=2)
    found = re.search(r"these 2 threads computed for (\d+)% of the time only: they waited for storage", report.verdict)
    assert found and int(found[1]) < 40, report.verdict


def test_threads_are_counted_wherever_they_are(numbered_manifest):
    assert report_of(numbered_manifest, count=1, num_threads=3).num_threads == 3
    with dv.VideoLoader(numbered_manifest, RECIPE, 4, device="cpu", num_threads=3, workers=1) as loader:
        next(iter(loader))
        assert loader.report().num_threads == 3


def test_time_between_loops_is_not_the_loops(numbered_manifest):
    """Nor that of a first batch, when nothing can have been made ahead."""
    with dv.VideoLoader(numbered_manifest, RECIPE, 4, device="cpu") as loader:
        assert str(loader.report()).splitlines()[1:] == ["replaced clips: 0"]  # nothing is done, nothing is said
        next(iter(loader))
        assert loader.report().verdict == "" and "waited" not in str(loader.report())
        for _ in range(2):
            list(loader)
            time.sleep(0.5)  # validation, say
        report = loader.report()
    assert 0 < report.seconds["loop"] < 0.5 and 0 < report.seconds["first"] < report.seconds["wait"]
    assert report.elapsed_seconds > 1


@pytest.mark.parametrize("seed", range(200))
def test_any_figures_give_one_verdict(seed):
    """Counted anew here: the limit is whoever waits less; shares are shares; the most work is named."""
    rng = np.random.default_rng(seed)
    names = ("read", "decode", "convert", "dali", "graph", "loop", "ahead", "first")
    seconds = {name: float(10 ** rng.uniform(-3, 3)) * int(rng.integers(0, 5) > 0) for name in names}
    waited = float(10 ** rng.uniform(-3, 3)) * int(rng.integers(0, 5) > 0)
    seconds["wait"] = waited + seconds["first"]
    frames, decoded, threads = int(rng.integers(1, 100)), int(rng.integers(0, 500)), int(rng.integers(1, 64))
    short = float(rng.uniform(1, 300))
    report = Report(
        seconds=seconds, frames=frames, frames_decoded=decoded, num_threads=threads, frames_with_short_gops=short
    )
    if not seconds["loop"]:
        assert report.verdict == ""
        return
    by_loop = waited <= 0.05 * (waited + seconds["loop"])
    assert ("the loop is the limit" in report.verdict) == by_loop
    assert ("the loader is the limit" in report.verdict) == (not by_loop)
    assert report.verdict.startswith(f"the loop waited {waited:.1f} of {waited + seconds['loop']:.1f} s")
    assert all(0 <= int(share) <= 100 for share in re.findall(r"(\d+)%", report.verdict))
    active = seconds["wait"] + seconds["loop"]
    by_ops = not by_loop and seconds["graph"] >= 0.8 * active
    assert ("the ops ran" in report.verdict) == by_ops
    assert ("DALI's decoder was waited for" in report.verdict) == (
        not by_loop and not by_ops and seconds["dali"] >= 0.8 * active
    )
    if "of its threads is" in report.verdict:
        work = {name: seconds[name] for name in ("read", "decode", "convert")}
        words = {"read": "reading", "decode": "decoding", "convert": "scaling and conversion to RGB"}
        if sum(work.values()):
            assert f"is {words[max(work, key=work.get)]}" in report.verdict
        assert ("computed for" in report.verdict) == (sum(work.values()) < 0.4 * threads * active)
        long_gops = max(work, key=work.get) == "decode" and decoded >= 1.3 * short
        assert ("shorter GOPs" in report.verdict) == long_gops
        assert (f"{decoded / frames:.1f} frames for each" in report.verdict) == long_gops


@pytest.mark.parametrize(
    "stride, num_frames, gop", [(1, 16, 16), (2, 16, 16), (4, 8, 16), (7, 5, 12), (40, 4, 16), (3, 5, 1)]
)
def test_frames_to_decode_with_short_gops(stride, num_frames, gop):
    """Against walking through the GOPs, for every place where a clip may begin."""
    clip = np.arange(num_frames) * stride
    decoded = []
    for first in range(gop):
        done = set()
        for frame in clip + first:
            done |= set(range(frame // gop * gop, frame + 1))
        decoded.append(len(done))
    clips = np.stack([clip + first for first in range(gop)])
    np.testing.assert_allclose(frames_with_gops(clips, gop), sum(decoded))
    assert frames_with_gops(clips[:, [0, 0, 0]], gop) == gop * (gop + 1) / 2  # a frame again costs nothing


def test_a_stage_that_fails_is_not_counted():
    running = RunningReport()
    with pytest.raises(KeyError), running.timed("loop"):
        raise KeyError
    with running.timed("loop"):
        time.sleep(0.01)
    assert 0.01 <= running.snapshot().seconds["loop"] < 1


def test_the_slowest_files_of_many():
    """Five of them, each with its longest time, whatever the order; paths are asked for only where they may matter."""
    rng = np.random.default_rng(0)
    files, times = rng.integers(0, 60, 500).tolist(), rng.random(500).tolist()
    loads = [(f"/{file}.mp4", seconds) for file, seconds in zip(files, times, strict=True)]
    running, asked = RunningReport(), []
    for i, (path, seconds) in enumerate(loads):
        running.add_loaded(1, {}, seconds, lambda path=path: asked.append(path) or path)
        longest = {}
        for name, value in loads[: i + 1]:
            longest[name] = max(value, longest.get(name, 0.0))
        expected = sorted(longest.items(), key=lambda item: -item[1])[:5]
        assert list(running.snapshot().slowest.items()) == expected
    report = running.snapshot()
    assert report.loads == 500 and report.seconds["load"] == pytest.approx(sum(seconds for _, seconds in loads))
    assert len(asked) < 80
