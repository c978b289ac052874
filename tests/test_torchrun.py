"""torchrun: ranks that are killed and restarted, a node that is lost, a loader that fails. Real processes, by gloo."""

import json
import os
import random
import signal
import socket
import subprocess
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import elastic_run
import numpy as np
import pytest
from test_elastic_run import of_one_rank
from torch_ranks import HERE, MINUTES, end, free_port, kill, torchrun

import dali_vidaug as dv


@pytest.fixture
def manifest(numbered_manifest, tmp_path):
    """Forty samples of twelve videos: five steps an epoch."""
    path = tmp_path / "videos.parquet"
    numbered_manifest.select(np.arange(40) % 12).write(path)
    (tmp_path / "run").mkdir()
    return path


def processes(folder):
    """(pid, rank, number of ranks) of those that have begun."""
    return [tuple(int(word) for word in log.name.split(".")[1:]) for log in (folder / "run").glob("log.*")]


def parent(pid):
    """The process that started one; 0 where it is gone or over."""
    try:
        state, number = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except FileNotFoundError:
        return 0
    return 0 if state in "ZX" else int(number)


def wait_until(condition, *agents):
    deadline = time.monotonic() + MINUTES
    while not condition():
        assert time.monotonic() < deadline and all(agent.poll() is None for agent in agents)
        time.sleep(0.01)


def has_gone_on(folder, begun, number):
    """Whether so many ranks have begun, and a step was done since ``begun``."""
    return len(processes(folder)) == number and elastic_run.steps_done(folder / "run") > begun


def check_all_steps(folder, manifest):
    """Every step is there, whole, and each rank that ever took part in it got what it should; returns the numbers."""
    expected, seen, numbers = of_one_rank(manifest), {}, set()
    for pid, rank, number in processes(folder):
        size, before = elastic_run.STEP // number, (-1, 0)
        numbers.add(number)
        for text in (folder / "run" / f"log.{pid}.{rank}.{number}").read_text().splitlines():
            line = json.loads(text)
            key = tuple(line[:2])
            assert before < key
            before, share = key, range(rank * size, (rank + 1) * size)
            assert line[2:] == [column[share.start : share.stop] for column in expected[key]]
            seen.setdefault(key, set()).update(share)
    assert seen == {key: set(range(elastic_run.STEP)) for key in expected}
    return numbers


@pytest.mark.slow
def test_ranks_that_are_killed_are_restarted_and_go_on(manifest, tmp_path):
    """Twice, at random moments: torchrun starts all ranks again, which go on from the state on disk."""
    chance = random.Random(7)
    options = ("--nproc-per-node", 2, "--max-restarts", 3, "--monitor-interval", 0.1, *HERE)
    agent = torchrun(*options, elastic_run.__file__, manifest, tmp_path / "run")
    try:
        for kills in range(2):
            begun = elastic_run.steps_done(tmp_path / "run")
            wait_until(partial(has_gone_on, tmp_path, begun, 2 * (kills + 1)), agent)
            time.sleep(chance.uniform(0, 0.1))
            running = sorted(pid for pid, *_ in processes(tmp_path) if parent(pid) == agent.pid)
            os.kill(chance.choice(running), signal.SIGKILL)
        assert agent.wait(MINUTES) == 0
    finally:
        end(agent)
    assert len(processes(tmp_path)) == 6 and check_all_steps(tmp_path, manifest) == {2}


def is_open(port):
    with closing(socket.socket()) as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_a_node_that_is_lost(manifest, tmp_path):
    """Two agents as two nodes with a rank each. One of them is gone, with its rank: the other goes on alone."""
    port = free_port()
    timing = "last_call_timeout=1,keep_alive_interval=1,keep_alive_max_attempt=3,join_timeout=200"
    options = ("--nnodes", "1:2", "--nproc-per-node", 1, "--max-restarts", 5, "--rdzv-backend", "c10d",
               "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "lost", "--rdzv-conf", timing,
               "--local-addr", "127.0.0.1", "--monitor-interval", 0.1)  # fmt: skip
    agents = [torchrun(*options, elastic_run.__file__, manifest, tmp_path / "run")]
    try:
        wait_until(lambda: is_open(port), *agents)  # the first one, which stays, is to have the rendezvous
        agents.append(torchrun(*options, elastic_run.__file__, manifest, tmp_path / "run"))
        wait_until(lambda: sum(number == 2 for *_, number in processes(tmp_path)) == 2, *agents)
        begun = elastic_run.steps_done(tmp_path / "run")
        wait_until(lambda: elastic_run.steps_done(tmp_path / "run") > begun, *agents)
        kill(agents[1])
        assert agents[0].wait(MINUTES) == 0
    finally:
        for agent in agents:
            end(agent)
    assert check_all_steps(tmp_path, manifest) >= {1, 2}


FAILING = """
import sys, time, torch, dali_vidaug as dv
torch.distributed.init_process_group("gloo")
recipe = dv.Recipe(dv.ClipSampling(2), (dv.RandomResizedCrop(16),))
loader = dv.VideoLoader(sys.argv[1], recipe, 2, shuffle=False, device="cpu", num_threads=1, on_error="raise")
print("begins", torch.distributed.get_rank(), flush=True)
for epoch in range(1000):
    for batch in loader:
        torch.distributed.all_reduce(torch.ones(1))
"""


@pytest.mark.slow
def test_a_loader_that_fails_ends_the_whole_run(numbered_manifest, tmp_path):
    """The other rank waits in a collective, whose timeout is half an hour: torchrun ends it. File and rank are told."""
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(Path(numbered_manifest.path(0)).read_bytes())
    videos = [numbered_manifest.path(i) for i in (0, 1)]
    dv.scan([*videos, bad, videos[1]], output=tmp_path / "m.parquet", progress=False)
    bad.unlink()
    (tmp_path / "failing.py").write_text(FAILING)
    options = ("--nproc-per-node", 2, *HERE)
    agent = torchrun(*options, tmp_path / "failing.py", tmp_path / "m.parquet", stdout=subprocess.PIPE,
                     stderr=subprocess.PIPE)  # fmt: skip
    try:
        started = time.monotonic()
        out, err = agent.communicate(timeout=MINUTES)
        took = time.monotonic() - started
    finally:
        end(agent)
    assert agent.returncode == 1 and took < MINUTES and sorted(out.split()) == ["0", "1", "begins", "begins"]
    (told,) = [line for line in err.splitlines() if line.startswith("shard 1 of 2 ends: ")]
    assert str(bad) in told and "(sample 2, epoch 0): No such file" in told
    assert f"[rank1]: dali_vidaug.errors.ClipError: {bad} (sample 2, epoch 0)" in err
    assert "shard 0 of 2 ends" not in err
