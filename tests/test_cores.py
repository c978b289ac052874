"""How many threads a process has by default: affinity, quotas of containers, and ranks that share a machine."""

import json
import os
import subprocess
import sys

import pytest

from dali_vidaug.device import cores
from dali_vidaug.device.cores import local_rank, local_size, share_of_cores


def write_files(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


V1, V2, CPU = "sys/fs/cgroup/cpu", "sys/fs/cgroup", "proc/self/cgroup"


@pytest.mark.parametrize("files, quota", [
    ({}, None),
    ({CPU: "0::/", f"{V2}/cpu.max": "max 100000"}, None),
    ({CPU: "0::/", f"{V2}/cpu.max": "250000 100000"}, 2.5),
    ({CPU: "0::/a/b", f"{V2}/a/b/cpu.max": "max 100000", f"{V2}/a/cpu.max": "400000 100000"}, 4.0),
    ({CPU: "0::/a/b", f"{V2}/a/b/cpu.max": "300000 100000", f"{V2}/a/cpu.max": "200000 100000"}, 2.0),
    ({CPU: "0::/../x", f"{V2}/cpu.max": "100000 100000"}, 1.0),
    ({CPU: "4:memory:/m\n3:cpu,cpuacct:/docker/1\n0::/", f"{V1}/cpu.cfs_quota_us": "150000",
      f"{V1}/cpu.cfs_period_us": "50000"}, 3.0),
    ({CPU: "3:cpu:/", f"{V1}/cpu.cfs_quota_us": "-1", f"{V1}/cpu.cfs_period_us": "100000"}, None),
    ({CPU: "3:cpuset:/", f"{V1}/cpu.cfs_quota_us": "100000", f"{V1}/cpu.cfs_period_us": "100000"}, None),
])  # fmt: skip
def test_quota_is_read(tmp_path, files, quota):
    write_files(tmp_path, files)
    assert cores.read_quota(tmp_path) == quota


@pytest.mark.parametrize("environ, rank", [
    ({}, 0), ({"LOCAL_RANK": "0", "RANK": "8"}, 0), ({"LOCAL_RANK": "3"}, 3), ({"SLURM_LOCALID": "2"}, 2),
    ({"LOCAL_RANK": "0", "SLURM_LOCALID": "2"}, 0), ({"OMPI_COMM_WORLD_LOCAL_RANK": "1"}, 1), ({"LOCAL_RANK": "x"}, 0),
    ({"RANK": "3", "MASTER_ADDR": "localhost"}, 3), ({"RANK": "3", "MASTER_ADDR": "node0"}, 0), ({"RANK": "3"}, 0),
])  # fmt: skip
def test_the_local_rank_is_that_of_the_innermost_launcher(environ, rank):
    assert local_rank(environ) == rank


@pytest.mark.parametrize("environ, size", [
    ({}, 1), ({"LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}, 4), ({"LOCAL_WORLD_SIZE": "x"}, 1),
    ({"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, 2), ({"HOROVOD_LOCAL_SIZE": "3", "OMPI_COMM_WORLD_LOCAL_SIZE": "6"}, 3),
    ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),3", "SLURM_NODEID": "0"}, 4),
    ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),3", "SLURM_NODEID": "1"}, 4),
    ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),3", "SLURM_NODEID": "2"}, 3),
    ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),3", "SLURM_NODEID": "3"}, 1),
    ({"SLURM_STEP_TASKS_PER_NODE": "four", "SLURM_NODEID": "0"}, 1),
    ({"SLURM_TASKS_PER_NODE": "8", "SLURM_PROCID": "0", "SLURM_NODEID": "0"}, 1),  # a batch script, not yet a step
    ({"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost"}, 4),
    ({"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "node0"}, 1), ({"WORLD_SIZE": "4"}, 1),
    ({"LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1"}, 4),  # Lightning's own
    ({"RANK": "0", "WORLD_SIZE": "8", "MASTER_ADDR": "localhost", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, 1),
    ({"RANK": "9", "LOCAL_RANK": "1", "WORLD_SIZE": "16", "LOCAL_SIZE": "8", "MASTER_ADDR": "node0"}, 8),  # DeepSpeed
    ({"LOCAL_SIZE": "8"}, 1),
    ({"SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_NODEID": "0", "SLURM_PROCID": "0", "RANK": "3", "WORLD_SIZE": "8",
      "MASTER_ADDR": "localhost"}, 8),  # started in an interactive step
    ({"SLURM_STEP_TASKS_PER_NODE": "4", "SLURM_NODEID": "0", "SLURM_PROCID": "3", "RANK": "3", "WORLD_SIZE": "8",
      "MASTER_ADDR": "node0"}, 4),
])  # fmt: skip
def test_ranks_on_this_machine(environ, size):
    assert local_size(environ) == size


@pytest.mark.parametrize("mine, together, quota, size, expected", [
    (8, 8, None, 1, 8), (8, 8, None, 4, 2), (8, 8, None, 3, 2), (8, 8, None, 16, 1),
    (2, 8, None, 4, 2),  # the launcher has given each rank its own
    (32, 64, None, 8, 8),  # ranks share a socket
    (1, 64, None, 4, 1),
    (64, 64, 8.0, 1, 8), (64, 64, 8.0, 4, 2), (64, 64, 2.5, 1, 2), (64, 64, 0.5, 1, 1),
    (2, 8, 4.0, 4, 1), (2, 8, 64.0, 4, 2),
])  # fmt: skip
def test_the_share_of_a_rank(mine, together, quota, size, expected):
    assert share_of_cores(mine, together, quota, size) == expected


CODE = """
import json, os, subprocess, sys
import dali_vidaug.settings as settings
threads = settings.make_settings(device="cpu").num_threads
print(json.dumps([threads, len(os.sched_getaffinity(0))]))
"""


def test_what_a_process_really_has():
    """Alone all cores, one of two ranks half of them, a rank on a core of its own that one."""

    def threads(code=CODE, **environ):
        out = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | environ, capture_output=True, text=True, check=True
        ).stdout  # fmt: skip
        return json.loads(out)

    alone, usable = threads()
    limit = cores.read_quota()
    assert alone == (usable if limit is None else max(1, min(usable, int(limit))))
    assert threads(LOCAL_WORLD_SIZE="2")[0] == max(1, alone // 2)
    bound = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\n{CODE}"
    assert threads(bound, LOCAL_WORLD_SIZE="2") == [1, 1]
    slurm = {"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NODEID": "0", "SLURM_PROCID": "1"}
    assert threads(SLURM_CPUS_ON_NODE="2", **slurm)[0] == 1
