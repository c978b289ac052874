"""Ranks that torchrun starts, for tests: on this machine, by gloo."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("TORCHELASTIC", "SLURM"))},
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # docs/clusters.md
}
MINUTES = 240  # seconds that a run may take on a busy machine, at most


HERE = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1")


def free_port():
    with socket.socket() as any_free:
        any_free.bind(("127.0.0.1", 0))
        return any_free.getsockname()[1]


def torchrun(*arguments, **options):
    """Start it."""
    command = [sys.executable, "-m", "torch.distributed.run", *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, text=True, **options)


def end(agent):
    """Have an agent end its ranks, and end."""
    agent.terminate()
    try:
        agent.wait(40)
    finally:
        agent.kill()
        agent.wait()


def kill(agent):
    """An agent and its ranks, at once."""
    ranks = [int(pid) for pid in Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()]
    for pid in (agent.pid, *ranks):
        os.kill(pid, signal.SIGKILL)
    agent.wait()
