"""Runs pytest in copies of the project, each in a fork of this process, which has imported what takes seconds.

A line of standard input is a job: {"folder": where, "arguments": of pytest, "output": file, "seconds": at most}. A line
of standard output is its exit code, or 124 when it took too long.
"""

import json
import os
import signal
import sys
import time
import traceback
from contextlib import suppress

_TOO_LONG = 124


def run(folder, arguments, output, seconds):
    """Fork, and run pytest there; returns its exit code."""
    child = os.fork()
    if not child:
        code = 70
        try:
            os.setsid()
            out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.chdir(folder)
            os.environ["PYTHONPATH"] = folder  # of processes that the tests start
            sys.path.insert(0, folder)
            code = pytest.main(arguments)
        except BaseException:  # as of what was not closed, which pytest only sees as it ends
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(code))
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            with suppress(ProcessLookupError):  # processes that a fault kept from ending
                os.killpg(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return _TOO_LONG


if __name__ == "__main__":
    del sys.path[0]  # this folder: the copies have tests of their own
    # ruff: noqa: F401
    import av
    import av.filter
    import numpy
    import nvidia.dali.fn
    import nvidia.dali.pipeline
    import pyarrow.parquet
    import pytest
    import torch

    assert "dali_vidaug" not in sys.modules
    for line in sys.stdin:
        print(run(**json.loads(line)), flush=True)
