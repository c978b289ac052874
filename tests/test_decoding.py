"""DALI's decoder at work: in parts, ahead of the ops, with little memory. VP9 is decoded by DALI on the CPU, too."""

import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import HEIGHT, OWN_SIZE, RECIPE, WIDTH, same_batch, shown_numbers, take_batches, write_numbered

import dali_vidaug as dv
from dali_vidaug import decode_stage, decoding, trust
from dali_vidaug.counting import RunningReport
from dali_vidaug.decode_graph import Decoded, DecodeGraph
from dali_vidaug.device import decode_memory
from dali_vidaug.device.decode_memory import bytes_while_decoding, is_out_of_memory
from dali_vidaug.differences import Finding
from dali_vidaug.fetching import FetchingPool, _Fetch
from dali_vidaug.graph import Graph
from dali_vidaug.media import load
from dali_vidaug.media.encode import write_video
from dali_vidaug.media.load import Encoded
from dali_vidaug.schedule import Schedule
from dali_vidaug.trust import Trust

VP9 = dict(codec="libvpx-vp9", options={"g": "10", "deadline": "realtime", "cpu-used": "8"})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Nine videos: six of VP9, and three of H.264, which PyAV decodes."""
    folder = tmp_path_factory.mktemp("decoding")
    for i in range(9):
        name, options = (f"{i}.mp4", {}) if i % 3 == 2 else (f"{i}.webm", VP9)
        write_numbered(folder / "ab"[i % 2] / name, 30 + i, **options)
    return dv.scan(folder, progress=False)


@pytest.fixture(params=[1, 2], ids=["one graph", "two graphs"])
def num_graphs(request, monkeypatch):
    """How many graphs decode side by side; on a GPU there are two."""
    monkeypatch.setattr(decode_stage, "NUM_GRAPHS", {"cpu": request.param})
    return request.param


@pytest.fixture
def parts(monkeypatch):
    """How many files DALI has decoded at once each time; how many parts at the same time at most."""
    sizes, running, real = [], Counter(), (DecodeGraph.start, DecodeGraph.take)

    def start(graph, plan, clips, files, checked):
        sizes.append(len(files))
        running["now"] += 1
        running["most"] = max(running["most"], running["now"])
        real[0](graph, plan, clips, files, checked)

    def take(graph):
        running["now"] -= 1
        return real[1](graph)

    monkeypatch.setattr(DecodeGraph, "start", start)
    monkeypatch.setattr(DecodeGraph, "take", take)
    return sizes, running


def of_vp9(manifest):
    return manifest.select(np.array([path.endswith(".webm") for path in manifest.rows("path", np.arange(9))]))


def loader_of(manifest, recipe=RECIPE, batch_size=6, **options):
    options = {"decoder": "hybrid", "seed": 4, "drop_last": False, **options}
    return dv.VideoLoader(manifest, recipe, batch_size, device="cpu", **options)


# ---- Parts


@pytest.mark.parametrize("decode_batch", [1, 2, None])
@pytest.mark.parametrize("repeats", [1, 3])
def test_parts_of_a_batch_give_the_same_clips(manifest, decode_batch, repeats, num_graphs, parts):
    sizes, running = parts
    wanted = take_batches(loader_of(manifest, repeats=repeats, verify=None), 5)
    whole = max(sizes)
    sizes.clear()
    running.clear()
    got = take_batches(loader_of(manifest, repeats=repeats, verify=None, decode_batch=decode_batch), 5)
    assert all(same_batch(a, b) for a, b in zip(wanted, got, strict=True))
    assert max(sizes) <= (decode_batch or 6) and whole >= 3
    assert running["most"] <= num_graphs and (running["most"] == num_graphs or decode_batch != 1)


def test_every_clip_is_at_its_position(manifest, num_graphs):
    for options in (dict(decode_batch=2), dict(decode_batch=1, decoder="dali"), dict(decode_batch=2, repeats=2)):
        chosen = manifest
        if "decoder" in options:
            chosen = of_vp9(manifest)
        for batch in take_batches(loader_of(chosen, OWN_SIZE, **options), 6):
            assert_numbers(batch)


def test_crops_are_those_of_each_clip_where_clips_share_a_file(manifest):
    """Also where the first batch does not show that there are such: as plans of a sampler with replacement."""
    recipe = dv.Recipe(dv.ClipSampling(4), (dv.RandomResizedCrop(40), dv.Normalize()))
    webm = of_vp9(manifest)
    views = np.array([0, 1, 2, 0])
    plans = [dv.draw_plan(webm, recipe, np.array(s), 1, 0, views) for s in ([0, 1, 2, 3], [2, 2, 2, 3])]
    plans = [replace(plan, frames=np.tile(np.arange(4, dtype=plan.frames.dtype), (4, 1))) for plan in plans]
    with loader_of(webm, recipe, 4, decoder="dali") as loader:
        for plan in plans:
            whole = loader.apply(plan)
            for i in range(4):
                assert torch.equal(loader.apply(plan.row(i)).clips[0], whole.clips[i]), i
    assert not torch.equal(whole.clips[0], whole.clips[1])


@pytest.mark.parametrize("decoder, asked, done", [
    ("dali", True, True), ("dali", False, True), ("hybrid", True, True), ("hybrid", False, False),
])  # fmt: skip
def test_ops_that_dalis_decoder_does(manifest, decoder, asked, done, monkeypatch):
    """Leading crops: whole frames of a batch would take much memory."""
    sizes, real = [], Graph.run

    def run(graph, plan, inputs, stream=None):
        sizes.extend(clip.shape for clip in inputs if isinstance(clip, Decoded))
        return real(graph, plan, inputs, stream)

    monkeypatch.setattr(Graph, "run", run)
    recipe = dv.Recipe(RECIPE.sampling, (dv.RandomResizedCrop(40), dv.RandomHorizontalFlip(), dv.Normalize()))
    wanted = take_batches(loader_of(of_vp9(manifest), recipe, 3, decoder="hybrid"), 1)
    sizes.clear()
    got = take_batches(loader_of(of_vp9(manifest), recipe, 3, decoder=decoder, resize_in_decoder=asked), 1)
    assert same_batch(*wanted, *got)
    assert {shape[1:3] for shape in sizes} == {(40, 40) if done else (HEIGHT, WIDTH)}


def encoded(manifest, count=1, num_frames=8, size=(64, 48)):
    """Clips of a small file that say to be of another size; files that differ."""
    video = manifest.video(0)._replace(width=size[0], height=size[1])
    data = [np.zeros(1, np.uint8) for _ in range(count)]
    return [Encoded(one, np.arange(num_frames, dtype=np.int32), video, np.eye(3, dtype=np.float32)) for one in data]


@pytest.mark.parametrize("shares", [False, True])
def test_parts_fit_into_memory_and_no_clip_is_lost(manifest, shares):
    rng = np.random.default_rng(0)
    sizes = [(1920, 1080), (340, 256), (640, 360)]
    for _ in range(100):
        inputs = [encoded(manifest, 1, int(rng.integers(1, 40)), sizes[rng.integers(3)])[0] for _ in range(20)]
        inputs = [inputs[i // 2] for i in range(20)]  # two clips each of the same file
        inputs[3] = np.zeros((1, 1, 1, 3), np.uint8)  # one that PyAV has decoded
        memory, most = int(rng.integers(1, 2000)) << 20, int(rng.integers(1, 9)) if rng.integers(2) else None
        made = decoding.Decoding(None, 1, most, memory, 3, True, shares, RunningReport())
        cut = list(made._cut(inputs))
        clips = sorted(i for part in cut for same in part for i in same)
        assert clips == [i for i in range(20) if i != 3]

        def fits(files, memory=memory, most=most):
            needs = [bytes_while_decoding(f.video.width, f.video.height, len(f.positions), 3, True) for f in files]
            return len(files) <= most if most else sum(needs) <= memory

        for part in cut:
            assert all(len(same) == 1 or (shares and len({id(inputs[i]) for i in same}) == 1) for same in part)
            assert len(part) == 1 or fits([inputs[same[0]] for same in part])
        for before, after in pairwise(cut):  # none could have been longer
            assert not fits([inputs[same[0]] for same in (*before, after[0])])


def test_memory_of_a_clip_by_hand():
    """Sixteen frames of 1080p, decoded and in their order, beside what DALI and NVDEC hold of it on a GPU."""
    frame = 1920 * 1088 * 3
    assert bytes_while_decoding(1920, 1088, 16, 2, True) == 2 * 16 * frame + 8 * frame + 20 * frame // 2
    assert bytes_while_decoding(1920, 1088, 16, 2, False) == 2 * 16 * frame + 20 * frame // 2
    assert decode_memory.memory_for_decoding(None, 4) == 2 << 30


def test_a_quarter_of_the_memory_of_the_gpu(use_nvdec, monkeypatch):
    use_nvdec()
    total = decode_memory.read_driver().gpus[0].memory
    assert decode_memory.memory_for_decoding(0, 4) == total // 4 > 0
    assert decode_memory.memory_for_decoding(99, 4) == 2 << 30  # which the driver does not list


@pytest.mark.parametrize("decode_batch, number, needs", [(None, 1, "1.2"), (2, 2, "2.3")])
def test_clips_that_may_not_fit_are_told_before(manifest, caplog, decode_batch, number, needs):
    made = decoding.Decoding(None, 2, decode_batch, 1 << 30, 2, True, False, RunningReport())
    for _ in range(2):
        list(made._cut(encoded(manifest, 2, 16, (3840, 2160)) + encoded(manifest, 1, 4, (64, 48))))
    (message,) = [r.getMessage() for r in caplog.records if "3840x2160" in r.getMessage()]
    assert f"{number} clip" in message and f"may take {needs} GiB while DALI decodes them at once" in message
    assert "more than the 0.5 GiB meant for that" in message


@pytest.mark.parametrize("wrong", [0, -1, True, 2.0, "8"])
def test_decode_batch_out_of_range(manifest, wrong):
    with pytest.raises(ValueError, match=f"decode_batch must be None or an int >= 1, got {re.escape(repr(wrong))}"):
        loader_of(manifest, decode_batch=wrong)


# ---- When memory runs out


SMALL_MEMORY = """
    import logging, resource, sys
    import numpy as np
    import dali_vidaug as dv
    from dali_vidaug.media.decode import decode

    logging.basicConfig(format="%(message)s")
    recipe = dv.Recipe(dv.ClipSampling(16), (dv.Resize((90, 160)),))
    manifest = dv.scan(sys.argv[1], progress=False)
    options = dict(device="cpu", decoder="dali", num_threads=2, verify=None, shuffle=False, decode_batch=8, prefetch=1)
    with dv.VideoLoader(manifest, recipe, 1, **options) as loader:
        alone = [next(batches).clips for batches in [iter(loader)] for _ in range(2)]  # libraries have their memory now
    with open("/proc/self/status") as status:
        used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmSize"))
    with dv.VideoLoader(manifest, recipe, 8, **options) as loader:
        resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv[2]) << 20),) * 2)
        (batch,) = loader
        report = loader.report()
    assert all((a == b).all() for a, b in zip(batch.clips, [c[0] for c in alone] * 4, strict=True))
    print(report.decode_batch, report.replaced, len(report.fallbacks))
    print(report)
"""


def test_where_memory_runs_out_fewer_clips_are_decoded_at_once(tmp_path):
    """Memory really runs out: the process may have no more than a part of what the batch takes."""
    frames = [np.full((720, 1280, 3), 8 * i, np.uint8) for i in range(16)]
    (tmp_path / "v").mkdir()
    for i in range(8):
        path = tmp_path / "v" / f"{i}.webm"
        if i < 2:
            write_video(path, frames[i:] + frames[:i], **VP9)
        else:
            shutil.copyfile(tmp_path / "v" / f"{i % 2}.webm", path)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SMALL_MEMORY), tmp_path / "v", "450"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    now, replaced, fallbacks = map(int, done.stdout.split()[:3])
    assert 1 <= now < 8 and replaced == fallbacks == 0
    assert f"since then it decodes {now} clips at once" in done.stdout
    assert f"from now on it decodes {now} clips at once, and nothing beside them" in done.stderr


class FailingGraph:
    """Stands in for a graph that has no memory for more than some files at once, or for several graphs at once."""

    running = failures = 0
    text = "CUDA_ERROR_OUT_OF_MEMORY"

    at_once = False  # whether it fails in ``start``

    def __init__(self, limit, together):
        self.limit, self.together = limit, together

    def start(self, plan, clips, files, checked):
        self.clips = list(clips)
        if self.at_once and (len(clips) > self.limit or self.running >= self.together):
            self.fail()
        type(self).running += 1

    def take(self):
        side_by_side, type(self).running = type(self).running, type(self).running - 1
        if len(self.clips) > self.limit or side_by_side > self.together:
            self.fail()
        return [f"clip {i}" for i in self.clips], {}

    def fail(self):
        """Say that there is no memory; but not for ever to one that tries again without end."""
        type(self).failures += 1
        assert self.failures <= 30
        raise RuntimeError(self.text)


@pytest.fixture(autouse=True)
def no_failures_yet(monkeypatch):
    """``FailingGraph`` counts anew in each test."""
    monkeypatch.setattr(FailingGraph, "running", 0)
    monkeypatch.setattr(FailingGraph, "failures", 0)


@pytest.mark.parametrize("at_once", [False, True], ids=["take", "start"])
@pytest.mark.parametrize("limit, together", [(8, 2), (3, 2), (1, 2), (1, 1), (8, 1)])
def test_each_clip_is_decoded_once_where_memory_runs_out(manifest, limit, together, at_once, monkeypatch):
    monkeypatch.setattr(FailingGraph, "at_once", at_once)
    report = RunningReport()
    made = decoding.Decoding(lambda: FailingGraph(limit, together), 2, 8, 1 << 40, 2, True, False, report)
    inputs = encoded(manifest, 20)
    for _ in range(2):
        FailingGraph.failures = 0
        jobs = [made.submit(None, inputs, ()) for _ in range(2)]
        for job in jobs:
            made.result(job)
            assert job.decoded == {i: f"clip {i}" for i in range(20)}
    found = report.snapshot().decode_batch or 8
    assert found <= limit and not FailingGraph.failures  # what fits is known now
    assert found == 8 or limit < 8  # parts that fit alone are not cut


def test_a_batch_that_is_decoded_again_goes_first(manifest, monkeypatch):
    """In its order, before what waits, after what runs."""
    started = []
    monkeypatch.setattr(
        FailingGraph, "start",
        lambda graph, plan, clips, files, checked: (setattr(graph, "clips", clips), started.append((plan, *clips))),
    )  # fmt: skip
    made = decoding.Decoding(lambda: FailingGraph(9, 9), 2, 1, 1 << 40, 2, True, False, RunningReport())
    jobs = [made.submit("ahead", encoded(manifest, 4), ()), made.submit("again", encoded(manifest, 3), (), first=True)]
    made.finish()
    again = [("again", 0), ("again", 1), ("again", 2)]
    assert started == [("ahead", 0), ("ahead", 1), *again, ("ahead", 2), ("ahead", 3)]
    assert [sorted(job.decoded) for job in jobs] == [[0, 1, 2, 3], [0, 1, 2]]


def test_of_a_job_that_fails_no_more_is_decoded(manifest, monkeypatch):
    """But what runs is waited for, and other jobs are done."""
    monkeypatch.setattr(FailingGraph, "text", "Failed to send packet to decoder")
    made = decoding.Decoding(lambda: FailingGraph(1, 9), 2, 2, 1 << 40, 2, True, False, RunningReport())
    bad, good = made.submit(None, encoded(manifest, 9), ()), made.submit(None, encoded(manifest, 1), ())
    with pytest.raises(RuntimeError, match="Failed to send"):
        made.result(bad)
    made.result(good)
    made.finish()
    assert good.decoded == {0: "clip 0"} and not bad.decoded and bad.left == 0
    assert FailingGraph.failures == 2 and not FailingGraph.running


def test_parts_only_become_smaller(manifest, caplog):
    """Whatever waits is cut anew, and no message takes another one back."""
    made = decoding.Decoding(lambda: FailingGraph(2, 2), 2, 8, 1 << 40, 2, True, False, RunningReport())
    jobs = [made.submit(None, encoded(manifest, count), ()) for count in (8, 3, 8)]
    made.finish()
    assert all(sorted(job.decoded) == list(range(len(job.inputs))) for job in jobs)
    sizes = [int(r.args[0]) for r in caplog.records if "memory ran out" in r.getMessage()]
    assert sizes and sizes == sorted(sizes, reverse=True) and sizes[-1] == 2


def test_parts_that_failed_side_by_side_are_tried_alone(manifest):
    """Of a single clip each: neither is called bad."""

    class OneAtATime(FailingGraph):
        def start(self, plan, clips, files, checked):
            self.clips, self.crowded = list(clips), OneAtATime.running > 0
            for other in OneAtATime.active:
                other.crowded = True
            OneAtATime.active.append(self)
            OneAtATime.running += 1

        def take(self):
            OneAtATime.active.remove(self)
            OneAtATime.running -= 1
            if self.crowded:
                raise RuntimeError(self.text)
            return [f"clip {i}" for i in self.clips], {}

    OneAtATime.active, OneAtATime.running = [], 0
    made = decoding.Decoding(lambda: OneAtATime(9, 9), 2, 1, 1 << 40, 2, True, False, RunningReport())
    job = made.submit(None, encoded(manifest, 5), ())
    made.result(job)
    assert job.decoded == {i: f"clip {i}" for i in range(5)}


def test_where_one_clip_is_too_much_it_is_an_error(manifest):
    made = decoding.Decoding(lambda: FailingGraph(0, 2), 2, 8, 1 << 40, 2, True, False, RunningReport())
    with pytest.raises(RuntimeError, match="OUT_OF_MEMORY"):
        made.result(made.submit(None, encoded(manifest, 5), ()))
    made.finish()
    assert not FailingGraph.running


@pytest.mark.parametrize("text, expected", [
    ("std::bad_alloc", True),
    ("CUDA allocation failed: cudaErrorMemoryAllocation", True),
    ("CUDA driver API error CUDA_ERROR_OUT_OF_MEMORY (2): out of memory", True),
    ("Failed to send packet to decoder", False),
])  # fmt: skip
def test_texts_that_say_that_memory_ran_out(text, expected):
    assert is_out_of_memory(RuntimeError(f"Critical error in pipeline:\n{text}\n")) == expected


# ---- Nothing waits


@dataclass(frozen=True)
class WaitFor:
    """An op that does nothing before an event has happened."""

    event: threading.Event
    seen: list

    def draw(self, draws, frames, height, width):
        return None

    def run(self, clips, rows, num_threads):
        if len(self.seen) == 1:  # the first batch: prefetch may make the second one too
            self.seen.append(self.event.wait(20))
        self.seen.append(True)
        return clips


def test_a_batch_is_decoded_while_the_ops_of_the_one_before_run(manifest, monkeypatch):
    """The ops of the second batch wait until DALI has decoded the third one."""
    taken, event, real = [], threading.Event(), DecodeGraph.take

    def take(graph):
        made = real(graph)
        taken.append(len(made[0]))
        if len(taken) == 3:
            event.set()
        return made

    monkeypatch.setattr(DecodeGraph, "take", take)
    op = WaitFor(event, [])
    recipe = dv.Recipe(RECIPE.sampling, (dv.Resize((48, 64)), op))
    webm = of_vp9(manifest)
    with loader_of(webm, recipe, 2, decoder="dali", verify=None, prefetch=1) as loader:

        def take_two():
            with suppress(RuntimeError):  # of a loader that is closed because the third batch did not come
                batches = iter(loader)
                next(batches), next(batches)

        taking = threading.Thread(target=take_two, daemon=True)
        taking.start()
        assert event.wait(20)
        taking.join(20)
    assert op.seen[1] is True and not taking.is_alive()


def test_one_decoded_batch_waits_for_its_ops_no_more(manifest, monkeypatch):
    """Two batches' clips take memory, the one that is in the ops included, however many may be under way."""
    done, real, blocked, go = [], decode_stage.DecodeStage.decode, threading.Event(), threading.Event()

    class Block(WaitFor):
        def run(self, clips, rows, num_threads):
            blocked.set()
            go.wait(20)
            return clips

    def decode(stage, *args):
        real(stage, *args)
        done.append(None)

    monkeypatch.setattr(decode_stage.DecodeStage, "decode", decode)
    recipe = dv.Recipe(RECIPE.sampling, (dv.Resize((48, 64)), Block(go, [])))
    with loader_of(of_vp9(manifest), recipe, 1, decoder="dali", verify=None, prefetch=5) as loader:
        first = threading.Thread(target=lambda: next(iter(loader)))
        first.start()
        blocked.wait(20)
        deadline = time.monotonic() + 20
        while len(done) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.3)  # for more, which must not come
        assert len(done) == 2
        go.set()
        first.join()


@pytest.fixture
def ahead(monkeypatch):
    """Two graphs, and the second batch is surely begun before the first is done: by what DALI has started and taken."""
    monkeypatch.setattr(decode_stage, "NUM_GRAPHS", {"cpu": 2})
    events, real = [], (DecodeGraph.start, DecodeGraph.take, decode_stage.DecodeStage._begin)

    def start(graph, plan, clips, files, checked):
        events.append(("start", tuple(plan.samples[np.asarray(clips)])))
        real[0](graph, plan, clips, files, checked)

    def take(graph):
        events.append(("take", tuple(graph._plan.samples)))
        return real[1](graph)

    def begin(stage, following):
        deadline = time.monotonic() + 20
        while len(events) < begin.events and (
            (pending := following()) is None or not stage._gathering.is_loaded(pending)
        ):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        real[2](stage, following)

    begin.events = 2  # so many begin and end only so
    monkeypatch.setattr(DecodeGraph, "start", start)
    monkeypatch.setattr(DecodeGraph, "take", take)
    monkeypatch.setattr(decode_stage.DecodeStage, "_begin", begin)
    return events


def test_a_batch_is_begun_before_the_one_before_is_done(manifest, ahead):
    with loader_of(of_vp9(manifest), RECIPE, 2, decoder="dali", verify=None, prefetch=3) as loader:
        taken = [tuple(batch.samples.tolist()) for batch, _ in zip(loader, range(3), strict=False)]
    first, second = taken[:2]
    assert ahead.index(("start", second)) < ahead.index(("take", first))
    assert [samples for kind, samples in ahead if kind == "take"][:3] == taken


def test_an_error_of_what_was_begun_ahead_waits_for_its_turn(manifest, ahead, monkeypatch):
    def fail(trust, verify, inputs):
        raise RuntimeError("planted")

    monkeypatch.setattr(Trust, "has_seen", fail)
    with loader_of(of_vp9(manifest), RECIPE, 2, decoder="dali", verify=None, prefetch=3) as loader:
        batches = iter(loader)
        assert len(next(batches)) == 2
        with pytest.raises(RuntimeError, match="planted"):
            for _ in batches:
                pass


def test_which_clips_are_compared_does_not_depend_on_looking_ahead(manifest, request, monkeypatch):
    seen = []

    def compare(pixels, frames, expected):
        seen.append((frames.tolist(), int(pixels.astype(int).sum())))
        return Finding(None, True)

    monkeypatch.setattr(trust, "_compare", compare)
    lists = []
    for looks_ahead in (False, True):
        if looks_ahead:
            request.getfixturevalue("ahead")
            decode_stage.DecodeStage._begin.events = 12
        seen.clear()
        with loader_of(of_vp9(manifest), RECIPE, 1, decoder="dali", verify=(2, 1 << 30), prefetch=3) as loader:
            for _ in take_until(loader, 15):
                pass
        lists.append(list(seen))
    assert len(lists[0]) == 2 and lists[0] == lists[1]


def test_what_the_batch_before_shows_holds_for_one_begun_ahead(manifest, ahead, monkeypatch):
    """DALI decodes other frames than those asked for. One clip of the first batch is compared, and none later."""
    real, chosen = load.remux, []

    def shifted(video, frames, **options):
        file = real(video, frames, **options)
        return file._replace(positions=np.maximum(file.positions - 1, 0))

    def choose(trust, verify, plan, inputs):
        chosen.append(None)
        return [0] if len(chosen) == 1 else []

    monkeypatch.setattr(load, "remux", shifted)
    monkeypatch.setattr(Trust, "choose", choose)
    monkeypatch.setattr(Trust, "has_seen", lambda trust, verify, inputs: True)
    for batch in take_batches(loader_of(of_vp9(manifest), OWN_SIZE, 2, prefetch=3), 4):
        assert_numbers(batch)
    assert [kind for kind, _ in ahead[:2]] == ["start", "start"]


def test_what_goes_wrong_ahead_is_told_in_its_turn(manifest, monkeypatch, num_graphs):
    """A bad clip of the third batch: the first two are delivered, whatever was begun ahead."""
    real = load.remux

    def fail(video, frames, **options):
        if video.path.endswith("4.webm"):
            raise OSError("spoilt")
        return real(video, frames, **options)

    monkeypatch.setattr(load, "remux", fail)
    webm = of_vp9(manifest)
    names = [path[-6:] for path in webm.rows("path", np.arange(len(webm)))]
    with loader_of(webm, batch_size=1, decoder="dali", on_error="raise", shuffle=False, prefetch=4) as loader:
        got = 0
        with pytest.raises(dv.ClipError, match="spoilt"):
            for _ in loader:
                got += 1
    assert got == names.index("4.webm")


def test_clips_found_wrong_are_not_delivered_from_batches_begun_ahead(manifest, num_graphs, monkeypatch):
    """Once DALI decodes every frame but the first few clips' wrongly, PyAV makes all clips of that coding."""
    webm = of_vp9(manifest)
    made, real = [], load.remux

    def shifted(video, frames, **options):
        file = real(video, frames, **options)
        made.append(0)
        return file if len(made) <= 12 else file._replace(positions=np.maximum(file.positions - 1, 0))

    monkeypatch.setattr(load, "remux", shifted)
    with loader_of(webm, OWN_SIZE, 3, verify=(1, 3), prefetch=3) as loader:
        found_at = None
        for number, batch in enumerate(take_until(loader, 14)):
            right = [
                shown_numbers(clip) == frames.tolist()
                for clip, frames in zip(batch.clips.permute(0, 2, 3, 4, 1).numpy(), batch.plan.frames, strict=True)
            ]
            if "wrong" in loader.state_dict() and found_at is None:
                found_at = number
            assert found_at is None or all(right), number
    assert found_at is not None


def assert_numbers(batch):
    """Its frames show their numbers."""
    for clip, frames in zip(batch.clips.permute(0, 2, 3, 4, 1).numpy(), batch.plan.frames, strict=True):
        assert shown_numbers(clip) == frames.tolist()


def take_until(loader, count):
    """Batches of as many epochs as it takes."""
    taken = 0
    while taken < count:
        for batch in loader:
            yield batch
            taken += 1


def test_dali_fails_ahead(manifest, num_graphs):
    """Batches with clips that DALI cannot decode, in parts of two: each is found, and none is lost or twice there."""
    loader = loader_of(manifest, OWN_SIZE, 3, shuffle=False, decode_batch=2, prefetch=3)
    loader.settings = replace(loader.settings, refused={})  # now H.264 is sent to DALI, too
    seen = Counter()
    with loader:
        for batch in loader:
            seen.update(batch.samples.tolist())
            assert_numbers(batch)
        report = loader.report()
    assert seen == Counter(range(9)) and report.replaced == 0
    assert any("DALI could not decode it" in why for why in report.fallbacks)
    assert report.seconds["dali"] > 0


def test_closing_between_two_moments(manifest, monkeypatch):
    """The thread that decodes may see what ``close`` puts into its queue while it looks ahead."""
    monkeypatch.setattr(decode_stage, "NUM_GRAPHS", {"cpu": 2})
    inside, go, real, taken = threading.Event(), threading.Event(), (DecodeGraph.take, Schedule.following), []

    def take(graph):
        taken.append(None)
        if len(taken) == 1:
            inside.set()
            go.wait(20)
        return real[0](graph)

    def following(schedule, *position):
        if threading.current_thread().name == "dali_vidaug-plan":
            time.sleep(1)  # as if it got no core
        return real[1](schedule, *position)

    monkeypatch.setattr(DecodeGraph, "take", take)
    monkeypatch.setattr(Schedule, "following", following)
    loader = loader_of(of_vp9(manifest), RECIPE, 2, decoder="dali", verify=None, prefetch=1, decode_batch=1)

    def wait():
        with suppress(RuntimeError):
            next(iter(loader))

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    assert inside.wait(20)
    threading.Timer(0.2, go.set).start()
    closing = threading.Thread(target=loader.close, daemon=True)
    closing.start()
    closing.join(15)
    waiting.join(15)
    assert not closing.is_alive() and not waiting.is_alive()


@pytest.mark.parametrize("times", [1, 9])
def test_a_batch_that_fails_once_for_no_clip_is_tried_again(manifest, times, monkeypatch):
    real, failures = DecodeGraph.take, []

    def take(graph):
        made = real(graph)
        if len(made[0]) == 3 and len(failures) < times:
            failures.append(None)
            raise RuntimeError("planted")
        return made

    monkeypatch.setattr(DecodeGraph, "take", take)
    with loader_of(of_vp9(manifest), OWN_SIZE, 3, decoder="dali", verify=None) as loader:
        if times > 1:
            with pytest.raises(RuntimeError, match="planted"):
                next(iter(loader))
        else:
            assert sum(len(batch) for batch in loader) == 6 and loader.report().replaced == 0


@pytest.mark.parametrize("decoder", ["hybrid", "dali"])
def test_a_clip_for_which_there_is_no_memory(manifest, decoder, monkeypatch):
    """PyAV decodes it, if it may; otherwise it is named. It is not replaced: another clip need not fit either."""
    webm, real = of_vp9(manifest), DecodeGraph.take

    def take(graph):
        made, large = real(graph), 2
        if large in graph._plan.samples[np.asarray(graph.clips)]:
            raise RuntimeError(
                "Critical error in pipeline:\nstd::bad_alloc\nCurrent pipeline object is no longer valid."
            )
        return made

    def start(graph, plan, clips, files, checked, start=DecodeGraph.start):
        graph.clips = list(clips)
        start(graph, plan, clips, files, checked)

    monkeypatch.setattr(DecodeGraph, "start", start)
    monkeypatch.setattr(DecodeGraph, "take", take)
    seen = set()
    with loader_of(webm, OWN_SIZE, 3, decoder=decoder, verify=None) as loader:
        if decoder == "dali":
            with pytest.raises(
                RuntimeError, match=rf"no memory .* single clip, of .*{webm.path(2)[-6:]} \(sample 2\): .*"
            ):
                list(loader)
            return
        for batch in loader:
            seen.update(batch.samples.tolist())
            assert_numbers(batch)
        report = loader.report()
    assert seen == set(range(6)) and report.replaced == 0
    assert [why for why in report.fallbacks if "std::bad_alloc" in why]


def test_clips_are_there_when_they_are_decoded():
    """Of an object in a bucket: not when its bytes are."""
    pool, job, fetch = FetchingPool(SimpleNamespace(num_threads=1), None), Future(), _Fetch()
    assert not pool.has(fetch) and not pool.has(job)
    fetch.set_result(job)
    assert not pool.has(fetch)
    job.set_result("clips")
    assert pool.has(fetch) and pool.has(job)
    spoilt = Future()
    spoilt.set_exception(OSError())
    again = _Fetch()
    again.set_result(spoilt)
    assert not pool.has(spoilt) and not pool.has(again)


def test_dali_may_fail_on_replacements_too(manifest, monkeypatch):
    """As often as there are some: whatever is bad is found, and replaced in its turn."""
    webm, real = of_vp9(manifest), load.remux
    bad = {webm.path(i) for i in (0, 2, 3)}

    def spoil(video, frames, **options):
        made = real(video, frames, **options)
        return made._replace(data=np.zeros(100, np.uint8)) if video.path in bad else made

    monkeypatch.setattr(load, "remux", spoil)
    for seed in range(6):
        with loader_of(webm, OWN_SIZE, 2, decoder="dali", seed=seed, verify=(1, 2)) as loader:
            for batch in loader:
                for clip, frames in zip(batch.clips.permute(0, 2, 3, 4, 1).numpy(), batch.plan.frames, strict=True):
                    assert shown_numbers(clip) == frames.tolist()
                assert not {webm.path(int(i)) for i in batch.samples} & bad


def test_resuming_is_exact(manifest, num_graphs):
    options = dict(batch_size=2, decode_batch=1, prefetch=3)
    whole = take_batches(loader_of(manifest, **options), 9)
    with loader_of(manifest, **options) as loader:
        batches = iter(loader)
        for _ in range(3):
            next(batches)
        state = loader.state_dict()
    again = loader_of(manifest, **options)
    again.load_state_dict(state)
    rest = take_batches(again, 5)
    assert all(same_batch(a, b) for a, b in zip(whole[3:8], rest, strict=True))
