"""The pools: memory that decoders free is kept."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from dali_vidaug.threads import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def clip():
    return [bytes([i % 255]) * 100_000 for i in range(100)]
clip()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    clip()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this malloc has no such limits")
def test_memory_that_is_freed_is_kept():
    """In fresh processes: pages that are taken while ten megabytes of small blocks come and go twenty times."""
    faults = {}
    for word in ("kept", "not"):
        command = [sys.executable, "-c", PROGRAM, word]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        faults[word] = int(run.stdout)
    assert faults["kept"] < 500 < 5000 < faults["not"]
