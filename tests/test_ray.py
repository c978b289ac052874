"""Ray: a cluster of a head and two nodes of one core each, of which a worker is killed and a node is taken away."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from test_engine import dies, fails, hangs, square
from test_scan_killed import Killer, cmdline, expected_of

import dali_vidaug as dv
from dali_vidaug.data.engine import run
from dali_vidaug.data.workers import Failed

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")]


@pytest.fixture(scope="module")
def cluster():
    """Each test starts with two nodes; all ends with the last test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # then everything listens on 127.0.0.1
        patch.setenv("RAY_worker_niceness", "0")  # 15 otherwise: workers starve beside other load
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")  # what the nodes can import
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")  # what else runs on this machine is none of Ray's business
        ray = pytest.importorskip("ray", reason="Ray is not installed; it has no wheels for some versions of Python")
        from ray.cluster_utils import Cluster

        here = {"object_store_memory": 100 << 20}
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **here})
        try:
            for _ in range(2):
                made.add_node(num_cpus=1, **here)
            made.wait_for_nodes(60)
            ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def not_elsewhere(number):
    return number


not_elsewhere.__module__ = "a_module_that_no_node_has"


def kill_a_worker():
    """Kill a process that has a task; returns how many."""
    for process in psutil.Process().children(recursive=True):
        if any(word.startswith("ray::call_far") for word in cmdline(process)):
            os.kill(process.pid, signal.SIGKILL)
            return 1
    return 0


def test_each_item_comes_once(cluster, tmp_path):
    """Also where workers die: of 5 each time, of 7 twice. What a function raises is raised."""
    found = dict(run(partial(dies, tmp_path), range(30), engine="ray", progress=False))
    five = found.pop(5)
    assert isinstance(five, Failed) and five.reason.startswith("its worker died 3 times, at last: The worker died")
    assert found == {n: n * n for n in range(30) if n != 5}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5-0", "5-1", "5-2", "7-0", "7-1"]
    with pytest.raises(KeyError, match="number 0"):
        list(run(fails, [0], engine="ray", progress=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "a_module_that_no_node_has", sys.modules[__name__])
        with pytest.raises(
            RuntimeError, match="a node cannot run the task, is the package there.*a_module_that_no_node"
        ):
            list(run(not_elsewhere, [0], engine="ray", progress=False))
    found = dict(run(hangs, range(5), engine="ray", timeout=1.0, num_workers=2, progress=False))
    assert found[2] == found[3] == Failed("it was not done within 1 s (timeout)") and found[4] == square(4)


def test_a_scan_survives_a_worker_and_a_node(cluster, numbered, tmp_path):
    """The manifest is that of a scan in threads, although a worker is killed twice and a node goes away."""
    import ray

    for path in numbered.rglob("*.mp4"):
        for copy in range(8):
            link = tmp_path / "videos" / path.parent.name / f"{path.stem}-{copy}.mp4"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(path)
    expected, output = expected_of(tmp_path / "videos", tmp_path), tmp_path / "m.parquet"
    deeds = [kill_a_worker, lambda: cluster.remove_node(cluster.worker_nodes.copy().pop()) or 1, kill_a_worker]
    killer = Killer(Path(f"{output}.partial"), lambda: deeds[killer.killed](), len(deeds))
    killer.start()
    try:
        manifest = dv.scan(tmp_path / "videos", output=output, engine="ray", progress=False)
    finally:
        killer.stopped.set()
        killer.join()
    assert killer.killed == 3 and len(manifest) == 96
    assert manifest.table.equals(expected.table) and not manifest.broken
    end = time.monotonic() + 60
    while sum(node["Alive"] for node in ray.nodes()) != 2:
        assert time.monotonic() < end
        time.sleep(0.2)
