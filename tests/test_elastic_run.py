"""Real ranks that are killed at random moments, and go on with another number of them."""

import json
import subprocess
import sys
from pathlib import Path

import elastic_run
import numpy as np
import pytest

import dali_vidaug as dv


def of_one_rank(path):
    """What a run that nobody kills gets, by epoch and index."""
    lines = {}
    with dv.VideoLoader(dv.Manifest.read(path), elastic_run.RECIPE, elastic_run.STEP, **elastic_run.OPTIONS) as loader:
        for _ in range(elastic_run.EPOCHS):
            for batch in loader:
                lines[batch.epoch, batch.index] = elastic_run.line_of(batch)[2:]
    return lines


@pytest.mark.slow
def test_killed_ranks_lose_nothing_and_give_nothing_else(numbered_manifest, tmp_path):
    """Five runs of 4, 2, 1, 4 and 2 ranks, of which one or all are killed, at 20 moments: order, pixels and targets of
    every step are those of one rank."""
    path = tmp_path / "videos.parquet"
    numbered_manifest.select(np.arange(40) % 12).write(path)
    expected = of_one_rank(path)
    command = [sys.executable, Path(elastic_run.__file__), path, tmp_path, "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    for folder in (tmp_path / str(seed) for seed in range(5)):
        seen, begun = {}, []
        for stage, number in enumerate(elastic_run.RANKS):
            begun.append(json.loads((folder / f"begun.{stage}").read_text()))
            size = elastic_run.STEP // number
            for rank in range(number):
                got = [json.loads(line) for line in (folder / f"log.{stage}.{rank}").read_text().splitlines()]
                keys = [tuple(line[:2]) for line in got]
                assert keys == sorted(set(keys))  # none twice
                assert keys[:1] in ([], [divmod(begun[-1], 1000)])  # it goes on where the state is
                for key, line in zip(keys, got, strict=True):
                    assert line[2:] == [column[rank * size : (rank + 1) * size] for column in expected[key]]
                    seen.setdefault(key, set()).update(range(rank * size, (rank + 1) * size))
        assert seen == {key: set(range(elastic_run.STEP)) for key in expected}
        assert begun == sorted(set(begun)) and begun[-1] < 1000 * elastic_run.EPOCHS  # each stage took steps
