"""DALI and the CPU at once: which clips PyAV decodes, what "auto" measures and chooses, runs that are repeated."""

import copy
import itertools
import json
import pickle
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SIGMAS, same_batch, same_content, take_batches, write_numbered
from test_verify import VP9, scene

import dali_vidaug as dv
from dali_vidaug import decode_stage, share
from dali_vidaug.counting import RunningReport
from dali_vidaug.decode_graph import DecodeGraph
from dali_vidaug.decoding import Decoding
from dali_vidaug.media import load
from dali_vidaug.media.encode import write_video
from dali_vidaug.media.load import Encoded, Loaded
from dali_vidaug.pending import Job
from dali_vidaug.rng import Draws
from dali_vidaug.share import Choice, Share

# Scaled, so that the clips of both decoders differ: PyAV scales while it converts to RGB, DALI in the graph.
RECIPE = dv.Recipe(dv.ClipSampling(num_frames=4, stride=(1, 3)), (dv.Resize((48, 72)),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six videos of VP9, which DALI decodes on the CPU."""
    folder = tmp_path_factory.mktemp("share")
    for i in range(6):
        write_video(folder / f"{i}.webm", scene(30 + i, seed=i), **VP9)
    return folder


@pytest.fixture(scope="module")
def manifest(folder):
    return dv.scan(folder, progress=False)


def loader_of(manifest, batch_size=3, recipe=RECIPE, **options):
    options = {"decoder": "hybrid", "seed": 3, "drop_last": False, **options}
    return dv.VideoLoader(manifest, recipe, batch_size, device="cpu", **options)


ALONE = {"pyav": "pyav", "dali": "hybrid"}  # loaders without a share, in which one of both decodes all clips


@pytest.fixture(scope="module")
def alone(manifest):
    """The first batches of both: for each, by its number, the clips of each decoder."""
    made = [take_batches(loader_of(manifest, decoder=decoder), 8) for decoder in ALONE.values()]
    return {(a.epoch, a.index): {"pyav": a.clips, "dali": b.clips, "plan": a.plan} for a, b in zip(*made, strict=True)}


def decoders(manifest, batch, alone=None):
    """Who decoded each clip of a batch, "pyav" or "dali": whose loader gives the same bits for the same plan."""
    by = dict(alone[batch.epoch, batch.index]) if alone else {}
    if alone:
        plan = by.pop("plan")
        assert (plan.frames == batch.plan.frames).all() and (plan.samples == batch.samples.numpy()).all()
    else:
        for name, decoder in ALONE.items():
            with loader_of(manifest, len(batch), batch.plan.recipe, decoder=decoder) as loader:
                by[name] = loader.apply(batch.plan).clips
    found = []
    for i, clip in enumerate(batch.clips):
        names = [name for name, clips in by.items() if torch.equal(clips[i], clip)]
        assert len(names) == 1, (i, names)
        found += names
    return found


def drawn(batch, part, seed=3):
    """Who decodes each clip, by its address."""
    below = Draws(seed, batch.epoch, batch.samples.numpy(), 0, "cpu share").uniform("sample") < part
    return ["pyav" if one else "dali" for one in below]


def plan_of(samples, epoch=0, seed=3, step=0):
    samples = np.asarray(samples)
    frames = np.zeros((len(samples), 1), np.int32)
    return dv.Plan(dv.Recipe(dv.ClipSampling(1), ()), seed, epoch, 0, samples, 0 * samples, frames, {}, step=step)


# ---- Which clips


def test_a_share_of_zero_changes_nothing(manifest, alone):
    plain, zero = loader_of(manifest), loader_of(manifest, cpu_share=0.0)
    for a, b in zip(take_batches(plain, 5), take_batches(zero, 5), strict=True):
        assert same_batch(a, b) and decoders(manifest, a, alone) == ["dali"] * len(a)
    report = zero.report()
    assert (report.by_share, report.by_dali) == (0, report.clips) and "cpu_share" not in str(report)
    assert "cpu_share" not in zero.state_dict() and plain.settings == zero.settings


@pytest.mark.parametrize("part", [0.3, 1, np.float32(0.75)])
def test_clips_of_the_share_are_pyavs_and_the_others_dalis(part, manifest, alone):
    loader = loader_of(manifest, cpu_share=part)
    for batch in take_batches(loader, 8):
        assert decoders(manifest, batch, alone) == drawn(batch, part)
    report, schedule = loader.report(), loader.schedule
    made = [drawn_at(schedule, i, part) for i in range(report.batches)]  # some were made ahead
    assert report.by_share == sum(made) and report.by_dali == report.clips - sum(made) and not report.fallbacks
    assert f"clips that PyAV decoded because of cpu_share: {sum(made)} of {report.clips}\n" in str(report)


def drawn_at(schedule, number, part, shared=None):
    """How many clips of a batch are PyAV's, by the schedule; ``shared``: the samples that DALI could decode."""
    epoch, index = divmod(number, schedule.batches_in(0))
    samples = schedule.batch(epoch, index).samples
    below = Draws(schedule.seed, epoch, samples, 0, "cpu share").uniform("sample") < part
    return int((below if shared is None else below & shared[samples]).sum())


def test_which_clips_they_are_does_not_change_from_release_to_release():
    found = Share(RunningReport())
    taken = [i for i in range(24) if found.takes(0.25, plan_of(range(24), epoch=1, seed=2), i)]
    assert taken == PINNED


PINNED = [0, 2, 5, 15, 21, 22]


def test_the_share_is_exact():
    found, count = Share(RunningReport()), 600
    sets = {}
    for key in ((0.3, 0, 3), (0.3, 1, 3), (0.3, 0, 4), (0.6, 0, 3), (0.0, 0, 3), (1.0, 0, 3)):
        part, epoch, seed = key
        plan = plan_of(range(count), epoch, seed)
        sets[key] = np.array([found.takes(part, plan, i) for i in range(count)])
        assert abs(sets[key].mean() - part) <= SIGMAS * (part * (1 - part) / count) ** 0.5
    first = sets[0.3, 0, 3]
    for key in ((0.3, 1, 3), (0.3, 0, 4)):  # another epoch, another seed: drawn anew
        same = 0.3**2 + 0.7**2
        assert abs((first == sets[key]).mean() - same) < SIGMAS * (same * (1 - same) / count) ** 0.5
    assert not (first & ~sets[0.6, 0, 3]).any()  # a larger share has the clips of a smaller one


def test_views_and_repeats_of_a_sample_go_together(manifest):
    recipe = dv.Recipe(dv.MultiClip(dv.ClipSampling(4), 2), (*RECIPE.ops, dv.RandomHorizontalFlip()))
    with loader_of(manifest, 6, recipe, cpu_share=0.5, repeats=2) as loader:
        seen = set()
        for batch in itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), 3):
            names = np.array(decoders(manifest, batch)).reshape(6, 4)
            assert (names == names[:, :1]).all() and names[:, 0].tolist() == drawn(batch, 0.5)[::4]
            seen |= set(names.ravel().tolist())
        assert seen == {"pyav", "dali"}


@pytest.mark.parametrize("options", [
    dict(num_threads=1, prefetch=1), dict(num_threads=3, prefetch=4), dict(workers=1), dict(verify=None),
], ids=str)  # fmt: skip
def test_the_same_clips_for_any_threads(options, manifest):
    one, other = (take_batches(loader_of(manifest, cpu_share=0.5, **o), 6) for o in ({}, options))
    assert all(same_batch(a, b) for a, b in zip(one, other, strict=True))


def test_the_same_clips_in_one_shard_and_in_two(manifest):
    whole = take_batches(loader_of(manifest, 4, cpu_share=0.5), 4)
    halves = [
        take_batches(loader_of(manifest, 2, cpu_share=0.5, num_shards=2, shard_index=i, even=False), 4)
        for i in range(2)
    ]
    for batch, *parts in zip(whole, *halves, strict=True):
        assert torch.equal(batch.clips, torch.cat([part.clips for part in parts]))


def test_a_bad_video_is_replaced_for_both_decoders(folder, tmp_path):
    """The video that takes its place is drawn for PyAV, or not, by its own address."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    manifest = dv.scan(tmp_path, progress=False)
    (tmp_path / "4.webm").write_bytes(b"\0" * (tmp_path / "4.webm").stat().st_size)
    seen = set()
    with loader_of(manifest, 6, cpu_share=0.5, shuffle=False) as loader:
        for batch in itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), 8):
            assert 4 not in batch.samples.tolist() and decoders(manifest, batch) == drawn(batch, 0.5)
            seen.add((drawn_at_sample(batch.epoch, 4), drawn(batch, 0.5)[4]))
        report = loader.report()
    assert report.bad[4][2] >= 8 and not report.fallbacks
    assert seen >= {("pyav", "dali"), ("dali", "pyav")}  # bad for one, and what takes its place is the other's


def drawn_at_sample(epoch, sample, part=0.5, seed=3):
    return "pyav" if Draws(seed, epoch, [sample], 0, "cpu share").uniform("sample")[0] < part else "dali"


def test_what_pyav_calls_damaged_is_bad_where_it_decodes(manifest, monkeypatch):
    bad, real = manifest.path(2), load.decode_clips

    def fail(video, *arguments):
        if video.path == bad:
            raise ValueError("frame 3 is damaged")
        return real(video, *arguments)

    monkeypatch.setattr(load, "decode_clips", fail)
    with loader_of(manifest, 6, cpu_share=1.0, on_error="skip", verify=None) as loader:
        assert all(2 not in batch.samples.tolist() for batch in take_batches(loader, 2))
        assert loader.report().bad[2][1] == "frame 3 is damaged"
    with loader_of(manifest, 6, cpu_share=1.0, on_error="raise", verify=None) as loader:
        with pytest.raises(dv.ClipError, match="frame 3 is damaged"):
            take_batches(loader, 2)
    with loader_of(manifest, 6, cpu_share=0.0, on_error="raise", verify=None) as loader:
        assert len(take_batches(loader, 2)) == 2


def test_what_dali_cannot_decode_is_a_fallback_and_no_share(folder, tmp_path):
    for i in range(3):
        write_numbered(tmp_path / f"n{i}.mp4", 30, options={"g": "10"})
        (tmp_path / f"{i}.webm").write_bytes((folder / f"{i}.webm").read_bytes())
    both = dv.scan(tmp_path, progress=False)
    with loader_of(both, cpu_share=0.5) as loader:
        take_batches(loader, 8)
        report = loader.report()
    ((why, (_, count)),) = report.fallbacks.items()
    assert why == "DALI does not decode h264 on the CPU" and 3 <= count <= report.clips
    assert report.by_share + report.by_dali + count >= report.clips and report.by_share and report.by_dali
    vp9 = np.array([both.video(i).codec == "vp9" for i in range(6)])
    made = [drawn_at(loader.schedule, i, 0.5, vp9) for i in range(report.batches)]
    assert report.by_share == sum(made)


# ---- "auto"


def said(caplog):
    return [r.getMessage() for r in caplog.records if r.getMessage().startswith("cpu_share 'auto'")]


def run_until_chosen(loader, more=4):
    """States and batches, the state before each, until "auto" has chosen and all batches begun before are over."""
    states, batches = [loader.state_dict()], []
    for batch in itertools.chain.from_iterable(itertools.repeat(loader)):
        assert len(batches) < 400, "nothing was chosen"
        batches.append(batch)
        states.append(loader.state_dict())
        choice = states[-1].get("cpu_share")
        more -= choice is not None and (batch.epoch, batch.plan.step) >= (choice["epoch"], choice["place"])
        if not more:
            return states, batches


@pytest.fixture(scope="module")
def auto_run(manifest):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(share, "WARM_UP", 4)
        patch.setattr(share, "MEASURED", 20)
        loader = loader_of(manifest, cpu_share="auto")
        with loader:
            states, batches = run_until_chosen(loader)
            return states, batches, copy.deepcopy(loader), loader.report()


def share_at(choice, batch):
    """Half while it is measured, and then what was chosen."""
    return choice["share"] if (batch.epoch, batch.plan.step) >= (choice["epoch"], choice["place"]) else 0.5


def test_auto_measures_half_and_half_and_then_takes_what_it_chose(auto_run, manifest):
    states, batches, _, report = auto_run
    choice = states[-1]["cpu_share"]
    assert "cpu_share" not in states[0] and 0 <= choice["share"] <= 1 and report.cpu_share == choice["share"]
    assert f"'auto' chose {choice['share']:g}\n" in str(report)
    for batch in (*batches[:3], *batches[-8:]):
        assert decoders(manifest, batch) == drawn(batch, share_at(choice, batch))


def test_a_resumed_run_has_the_same_clips_by_the_same_decoders(auto_run, manifest, caplog):
    """Also from a state between the choice and the batch from which on it holds. Nothing is measured again."""
    states, batches, copied, _ = auto_run
    choice = states[-1]["cpu_share"]
    before = {**states[len(states) - 10], "cpu_share": choice}
    for number, state in ((len(states) - 10, before), (len(states) - 3, states[-3])):
        resumed = loader_of(manifest, cpu_share="auto")
        resumed.load_state_dict(json.loads(json.dumps(state)))
        left = batches[number:]
        assert all(same_batch(a, b) for a, b in zip(take_batches(resumed, len(left)), left, strict=True))
        assert resumed.state_dict()["cpu_share"] == choice and resumed.report().cpu_share == choice["share"]
    for other in (copied, pickle.loads(pickle.dumps(copied))):
        assert other.state_dict()["cpu_share"] == choice
        (batch,) = take_batches(other, 1)
        assert decoders(manifest, batch) == drawn(batch, choice["share"])
    assert not said(caplog)


def test_a_state_is_for_any_number_of_ranks(auto_run, manifest):
    states, batches, *_ = auto_run
    number = next(i for i in range(len(states) - 2, 0, -1) if states[i]["batch"] == 0)
    parts = []
    for rank in range(3):
        ranked = loader_of(manifest, 1, cpu_share="auto", num_shards=3, shard_index=rank)
        ranked.load_state_dict({**states[number], "cpu_share": states[-1]["cpu_share"]})
        parts.append(take_batches(ranked, len(batches) - number))
    for batch, *shares in zip(batches[number:], *parts, strict=True):
        assert torch.equal(batch.clips, torch.cat([one.clips for one in shares]))


def test_from_a_state_without_a_choice_it_is_measured_again(auto_run, manifest):
    states, batches, *_ = auto_run
    number = next(i for i, state in enumerate(states) if "cpu_share" not in state and state["batch"] == 1)
    resumed = loader_of(manifest, cpu_share="auto")
    resumed.load_state_dict(states[number])
    assert "cpu_share" not in resumed.state_dict()
    assert same_batch(take_batches(resumed, 1)[0], batches[number])  # half and half, too


def test_a_share_that_is_given_stands_against_that_of_a_state(auto_run, manifest):
    states, *_ = auto_run
    given = loader_of(manifest, cpu_share=0.1)
    given.load_state_dict({**states[-1], "cpu_share": {"epoch": 0, "place": 0, "share": 0.9}})
    for batch in take_batches(given, 4):
        assert decoders(manifest, batch) == drawn(batch, 0.1)
    alone = loader_of(manifest, decoder="pyav")
    alone.load_state_dict(states[-1])
    assert decoders(manifest, take_batches(alone, 1)[0]) == ["pyav"] * 3
    assert given.report().cpu_share is alone.report().cpu_share is None and "cpu_share" not in str(alone.report())


def test_a_plan_is_decoded_as_when_it_was_made(auto_run, manifest, tmp_path, monkeypatch, caplog):
    _, batches, copied, _ = auto_run
    fixed = take_batches(loader_of(manifest, cpu_share=0.4), 4)
    for other, made in ((loader_of(manifest, cpu_share=0.4), fixed), (copied, batches[-7:])):
        for batch in made:
            batch.plan.save(tmp_path / "p.json")
            assert same_content(other.apply(dv.Plan.load(tmp_path / "p.json")), batch)
    middle = loader_of(manifest, cpu_share="auto")
    middle.load_state_dict({**middle.state_dict(), "epoch": 2, "cpu_share": {"epoch": 2, "place": 3, "share": 1.0}})
    for batch, part in zip(take_batches(middle, 2), (0.5, 1.0), strict=True):
        batch.plan.save(tmp_path / "p.json")
        assert decoders(manifest, batch) == drawn(batch, part) and "dali" in drawn(batch, 0.5)
        assert same_content(middle.apply(dv.Plan.load(tmp_path / "p.json")), batch)
    monkeypatch.setattr(share, "WARM_UP", 1)
    monkeypatch.setattr(share, "MEASURED", 3)
    fresh = loader_of(manifest, cpu_share="auto")
    for batch in batches[:6] * 4:  # these are not measured
        fresh.apply(batch.plan)
    assert "cpu_share" not in fresh.state_dict() and not said(caplog)
    assert same_batch(take_batches(fresh, 1)[0], batches[0])


def slow_down(monkeypatch, pyav=0.0, dali=0.0):
    """Let clips of a decoder take longer: seconds of a thread each, or of DALI; no core is needed for that."""
    decode, take = load.decode_clips, DecodeGraph.take

    def decode_slowly(video, frames, *arguments):
        time.sleep(pyav * len(frames))
        return decode(video, frames, *arguments)

    def take_slowly(graph):
        made = take(graph)
        time.sleep(dali * len(made[0]))
        return made

    monkeypatch.setattr(load, "decode_clips", decode_slowly)
    monkeypatch.setattr(DecodeGraph, "take", take_slowly)


def test_auto_gives_more_to_the_faster_one(manifest, monkeypatch, caplog):
    monkeypatch.setattr(share, "WARM_UP", 4)
    monkeypatch.setattr(share, "MEASURED", 16)
    chosen = []
    for slow in ({"pyav": 0.04}, {"dali": 0.03}):
        with monkeypatch.context() as patch:
            slow_down(patch, **slow)
            with loader_of(manifest, 6, cpu_share="auto", num_threads=2, verify=None) as loader:
                _, batches = run_until_chosen(loader, 1)
                choice = loader.state_dict()["cpu_share"]
        assert decoders(manifest, batches[-1]) == drawn(batches[-1], choice["share"])
        assert re.fullmatch(
            rf"cpu_share 'auto' is {choice['share']:.2f} from sample {choice['place']} of epoch {choice['epoch']} on: "
            r"PyAV decodes [\d.]+ clips/s in 2 threads, DALI [\d.]+ \(measured with \d+ and \d+ clips\)\. "
            rf"cpu_share={choice['share']:.2f} takes this share without measuring",
            said(caplog)[-1],
        )
        chosen.append(choice["share"])
    assert len(said(caplog)) == 2 and chosen[0] + 0.1 < chosen[1]


def test_both_decoders_work_at_the_same_time(manifest, monkeypatch):
    """Neither waits for the other: with a thread for PyAV and as slow a DALI, half of the clips take half the time."""
    slow_down(monkeypatch, 0.02, 0.02)
    for _ in range(4):  # where others use the cores, what is left of the work does take its time
        rates = {}
        for part in (0.0, 0.5, 1.0):
            with loader_of(manifest, 6, cpu_share=part, num_threads=1, verify=None) as loader:
                batches = itertools.chain.from_iterable(itertools.repeat(loader))
                list(itertools.islice(batches, 4))
                started = time.perf_counter()
                list(itertools.islice(batches, 6))
                rates[part] = 6 / (time.perf_counter() - started)
        if rates[0.5] > 1.25 * max(rates[0.0], rates[1.0]):
            return
    pytest.fail(f"batches per second: {rates}")


def spoil(monkeypatch):
    """Small files whose frames are said to be one further on than they are: DALI decodes other ones."""
    real = load.remux

    def shifted(video, frames, **options):
        made = real(video, frames, **options)
        return made._replace(positions=np.maximum(made.positions - 1, 0))

    monkeypatch.setattr(load, "remux", shifted)


def test_where_dali_decodes_nothing_auto_says_so(manifest, monkeypatch, caplog):
    monkeypatch.setattr(share, "TRIED_MAX", 60)
    spoil(monkeypatch)
    with loader_of(manifest, cpu_share="auto") as loader:
        run_until_chosen(loader, 2)
        report = loader.report()
    assert report.cpu_share == 0.0 and report.by_dali == 0 and report.fallbacks and len(report.wrong) == 1
    (text,) = said(caplog)
    assert re.search(r"is 0\.00 .*: after \d+ clips there were only \d+ of PyAV's and 0 of DALI's to compare", text)


# ---- What is chosen, by numbers


def clips_of(count, seconds, encoded=False, refused=False):
    one = Encoded(np.zeros(1, np.uint8), np.zeros(1, np.int32), None, None) if encoded else np.zeros((1, 1, 1, 3))
    return Loaded([one] * count, count, {}, count * seconds, "why" if refused else None)


def chosen_for(pyav, dali, cut=0.0, threads=4, first=0, later=0, stall=0.0, clips=100):
    """What is chosen for decoders of so many seconds a clip, of which DALI refuses some, at first or later."""
    found = Share(RunningReport())
    found.begin(None, plan_of([0, 1]), threads)
    feed(found, pyav, dali, cut, first, later, stall, clips)
    found.begin(None, plan_of([0, 1], epoch=2, step=7), threads)
    return found


def feed(found, pyav, dali, cut=0.0, first=0, later=0, stall=0.0, clips=100):
    for number in range(clips):
        if number < first:
            found.saw_loaded(None, clips_of(2, pyav, refused=True), Job(None, 0, None))
        elif number % 2:
            found.saw_loaded(None, clips_of(2, pyav), Job(None, 0, True))
        elif number // 2 % 50 < later:
            found.saw_loaded(None, clips_of(2, pyav, refused=True), Job(None, 0, False))
        else:
            found.saw_loaded(None, clips_of(2, cut, encoded=True), Job(None, 0, False))
            late = stall if number == 60 else 0.0
            found.saw_decoded(None, 2, 4, 2 * dali + late)


def best_share(pyav, dali, cut, threads, refused):
    """The share with which the slower of both is fastest, by trying."""
    shares = np.linspace(0, 1, 2001)
    free = 1 - refused
    pool = (refused * pyav + free * (shares * pyav + (1 - shares) * cut)) / threads
    return shares[np.maximum(pool, free * (1 - shares) * dali).argmin()]


@pytest.mark.parametrize("pyav, dali, cut, threads, first, later", [
    (0.04, 1 / 300, 0.0, 4, 0, 0),  # 100 clips per second and 300: a quarter
    (0.04, 0.01, 0.0, 4, 0, 0),
    (0.03, 0.02, 0.004, 1, 0, 0),
    (0.03, 0.02, 0.004, 8, 0, 0),
    (0.04, 0.01, 0.001, 4, 20, 0),
    (0.04, 0.05, 0.001, 2, 20, 10),
    (0.04, 0.05, 0.001, 2, 0, 10),
    (0.5, 0.01, 0.001, 2, 20, 0),  # the threads have more than enough to do
    (0.04, 0.001, 0.01, 4, 0, 0),  # cutting clips out for DALI alone takes them longer than DALI
])  # fmt: skip
def test_the_share_with_which_both_take_the_same_time(pyav, dali, cut, threads, first, later):
    found = chosen_for(pyav, dali, cut, threads, first, later, clips=200)
    tried = [number for number in range(first, 200) if number % 2 == 0]
    refused = sum(number // 2 % 50 < later for number in tried) / len(tried)
    refused = first / 200 + (1 - first / 200) * refused
    assert found.choice[:2] == (2, 7)
    assert abs(found.choice.share - best_share(pyav, dali, cut, threads, refused)) <= 0.006
    if (pyav, dali, threads) == (0.04, 1 / 300, 4):
        assert found.choice.share == 0.25


def test_a_stall_does_not_count():
    assert chosen_for(0.04, 0.01).choice == chosen_for(0.04, 0.01, stall=30.0).choice


def test_it_is_chosen_once_and_not_too_early():
    assert chosen_for(0.04, 1 / 300, clips=50).choice is None
    found = chosen_for(0.04, 1 / 300)
    before = found.choice
    assert before.share == 0.25
    found.begin(None, plan_of([0], epoch=3), 400)
    feed(found, 0.04, 0.2)
    found.begin(None, plan_of([0], epoch=4), 400)
    assert found.choice is before
    assert found.at(None, plan_of([0], epoch=2, step=6)) == 0.5
    assert {found.at(None, plan_of([0], epoch=e, step=s)) for e, s in ((2, 7), (3, 0))} == {before.share}
    assert found.at(0.1, plan_of([0], epoch=3)) == 0.1
    fixed = Share(RunningReport())
    for _ in range(3):
        fixed.begin(0.5, plan_of([0]), 4)
        fixed.saw_loaded(0.5, clips_of(500, 0.1), Job(None, 0, True))
        fixed.saw_decoded(0.5, 500, 500, 1.0)
    assert fixed.choice is None


def test_a_batch_alone_says_nothing():
    """However large: DALI may be slow once. What is replayed in between does not count."""
    found = Share(RunningReport())
    for number in range(6):
        found.begin(None, plan_of([0], epoch=number), 4)
        assert found.choice is None and found.is_measuring(None) and not found.is_measuring(0.5)
        found.saw_loaded(None, clips_of(500, 0.04), Job(None, 0, True))
        found.saw_loaded(None, clips_of(500, 0.0, encoded=True), Job(None, 0, False))
        found.saw_loaded(0.5, clips_of(500, 9.0), Job(None, 0, True))
        found.saw_decoded(0.5, 500, 500, 99.0)
        found.saw_decoded(None, 500, 1000, 500 / 100 if number != 2 else 50.0)
    found.begin(None, plan_of([0], epoch=6), 4)
    assert found.choice == (6, 0, 0.5) and not found.is_measuring(None)


@pytest.mark.parametrize("part", ["auto", 0.5])
def test_dali_is_measured_one_batch_at_a_time(part, manifest, monkeypatch):
    """A batch begun ahead would be done before anybody waits for it. With a share that is given they are begun so."""
    first, submit = [], Decoding.submit

    def record(decoding, plan, inputs, checked, at_once=False):
        first.append(at_once)
        return submit(decoding, plan, inputs, checked, at_once)

    monkeypatch.setattr(Decoding, "submit", record)
    monkeypatch.setattr(decode_stage, "NUM_GRAPHS", {"cpu": 2})
    slow_down(monkeypatch, dali=0.05)
    with loader_of(manifest, cpu_share=part, verify=None, prefetch=3) as loader:
        take_batches(loader, 12)
        assert loader.report().cpu_share in (None, 0.5) and len(first) >= 12
    assert all(first) if part == "auto" else not all(first)


# ---- Options and states


@pytest.mark.parametrize("given", [1.5, True, "Auto", float("nan"), -0.1, None, "0.5", [0.5], False], ids=str)
def test_what_is_no_share(given, manifest):
    with pytest.raises(ValueError, match=r"VideoLoader: cpu_share must be a number in \[0, 1\] or 'auto', got "):
        loader_of(manifest, cpu_share=given)


@pytest.mark.parametrize("decoder", ["pyav", "dali"])
@pytest.mark.parametrize("given", [0.5, "auto"])
def test_decoders_that_decode_all_clips(decoder, given, manifest):
    alone = {"pyav": "PyAV", "dali": "DALI"}[decoder]
    words = f"with decoder '{decoder}', {alone} decodes all clips: cpu_share must be 0, got {given!r}; decoder='hybrid'"
    with pytest.raises(ValueError, match=re.escape(words)):
        loader_of(manifest, decoder=decoder, cpu_share=given)
    assert loader_of(manifest, decoder=decoder, cpu_share=0).settings.cpu_share == 0.0


def test_where_nothing_can_be_shared(tmp_path, manifest, caplog):
    """Without a GPU "auto" is PyAV, and so is hybrid where DALI decodes none of the formats: no error, no measuring."""
    write_numbered(tmp_path / "v.mp4", 30)
    h264 = dv.scan(tmp_path, progress=False)
    for videos, decoder in ((manifest, "auto"), (h264, "hybrid"), (h264, "auto")):
        loader = loader_of(videos, 1, decoder=decoder, cpu_share="auto")
        assert (loader.settings.decoder, loader.settings.cpu_share) == ("pyav", 0.0)
        take_batches(loader, 2)
        assert loader.report().cpu_share is None and "cpu_share" not in loader.state_dict()
    assert not said(caplog)


def test_settings_that_are_replaced(manifest):
    loader = loader_of(manifest)
    loader.settings = replace(loader.settings, cpu_share=1.0)
    assert all(decoders(manifest, batch) == ["pyav"] * 3 for batch in take_batches(loader, 2))


GOOD = {"epoch": 1, "place": 3, "share": 0.5}


@pytest.mark.parametrize("given", [
    1, [1, 3, 0.5], {}, {"epoch": 1, "place": 3}, {**GOOD, "more": 1}, *({**GOOD, name: value} for name, value in (
        ("share", 1.5), ("share", float("nan")), ("share", "auto"), ("share", True), ("epoch", -1), ("epoch", 1.0),
        ("epoch", 1 << 24), ("place", None), ("place", 1 << 32),
    )),
], ids=str)  # fmt: skip
def test_what_is_no_choice(given, manifest):
    loader = loader_of(manifest, cpu_share="auto")
    state = loader.state_dict()
    with pytest.raises(ValueError, match=r"VideoLoader: cpu_share of the state must have an epoch, the place of"):
        loader.load_state_dict({**state, "epoch": 1, "cpu_share": given})
    assert loader.state_dict() == state
    assert Choice.of({"cpu_share": GOOD}) == Choice(1, 3, 0.5) and Choice.of({}) is None


def test_what_dali_decodes_wrongly_goes_to_pyav_besides_the_share(manifest, monkeypatch):
    spoil(monkeypatch)
    with loader_of(manifest, cpu_share=0.5) as loader:
        batches = take_batches(loader, 6)
        report = loader.report()
    assert len(report.wrong) == 1 and report.by_dali == 0
    assert report.by_share == sum(drawn_at(loader.schedule, i, 0.5) for i in range(report.batches))
    assert 0 < sum(n for _, n in report.fallbacks.values())
    monkeypatch.undo()
    for batch in batches:
        assert decoders(manifest, batch) == ["pyav"] * len(batch)


@pytest.mark.slow
def test_the_benchmark_runs():
    """It checks plans and clips before it times."""
    program = Path(__file__).parent.parent / "benchmarks" / "cpu_share.py"
    small = "--device cpu --rounds 2 --batches 2 --frames 4 --size 48".split()
    done = subprocess.run([sys.executable, program, *small], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines()[2:]]
    assert [row[0].split(":")[0].strip() for row in rows] == ["0", "1", "auto"]
    assert all(float(row[-1].split()[0]) > 0 for row in rows)
