"""benchmarks/cluster.py: figures counted by hand, pictures measured, wrong orders found; all of it, with two ranks."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch_ranks
from PIL import Image

from dali_vidaug.schedule import Schedule

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import cluster
import cluster_figures
import cluster_picture

ROOT = Path(__file__).parent.parent


def raw_rank(rank, node, waits, meets, seconds, **changes):
    """What a rank has measured, in rounds of four clips a step."""
    work = {"read": 1.0, "decode": 6.0, "convert": 2.0, "load": 18.0, "dali": 0.0, "graph": 3.0}
    rounds = [
        {"clips": 4 * len(w), "seconds": s, "waits": w, "meets": m, "bytes": [1000, 400], "work": work, "stepping": 0.5}
        for w, m, s in zip(waits, meets, seconds, strict=True)
    ]
    told = {"rank": rank, "node": node, "host": f"host{node}", "threads": 3, "alone": [4.0, 2.0] if rank == 0 else []}
    told |= {"rounds": rounds, "received": 30, "slowest": {f"/{rank}.mp4": 1.0 + rank}, "replaced": rank}
    return told | {"gpu": {"missing": "no GPU"}, "verdict": ""} | changes


@pytest.fixture
def raw():
    """Two ranks on two nodes, two rounds of two steps; rank 1 comes last in three of four."""
    return [
        raw_rank(0, 0, [[0.1, 0.3], [0.2, 0.2]], [[0.9, 0.01], [0.8, 0.7]], [2.0, 4.0]),
        raw_rank(1, 1, [[0.5, 0.1], [0.4, 0.8]], [[0.02, 0.2], [0.1, 0.05]], [2.0, 4.0]),
    ]


def test_figures_by_hand(raw):
    """16 clips in 2 s and in 4 s; rank 0 alone 4 and 2 clips a second."""
    found = cluster_figures.summarise(raw)
    every, (first, second) = found["all"], found["ranks"]
    assert every["clips_per_second_rounds"] == [8.0, 4.0] and every["clips_per_second"] == 6.0
    assert every["efficiency_rounds"] == [1.0, 1.0] and every["alone"] == 3.0
    assert (every["ranks"], every["nodes"], every["replaced"]) == (2, 2, 1)
    assert [rank["times_last"] for rank in found["ranks"]] == [1, 3]
    assert first["clips_per_second"] == 16 / 6 and first["steps"] == 4
    assert first["waits"]["p50"] == pytest.approx(0.2) and first["waits"]["max"] == 0.3
    assert every["waits"]["p95"] == pytest.approx(np.sort([0.1, 0.3, 0.2, 0.2, 0.5, 0.1, 0.4, 0.8])[6] + 0.65 * 0.3)
    assert first["share_waiting_for_batches"] == pytest.approx(0.8 / 6)
    assert first["share_in_steps"] == pytest.approx(1 / 6)
    assert second["share_waiting_for_ranks"] == pytest.approx(0.37 / 6)
    assert first["work"] == pytest.approx({"read": 1 / 12, "decode": 0.5, "convert": 1 / 6, "dali": 0.0, "graph": 0.25})
    assert first["share_of_threads_computing"] == pytest.approx(18 / (3 * 6))
    assert first["share_of_loading_waiting"] == pytest.approx(0.5)
    assert first["file_bytes_per_second"] == pytest.approx(2000 / 6)
    assert found["nodes"][1]["network_bytes_per_second"] == 5 and found["nodes"][1]["times_last"] == 3
    assert [(f["path"], f["rank"]) for f in found["slowest"]] == [("/1.mp4", 1), ("/0.mp4", 0)]
    text = cluster_figures.tables({"command": "", **found})
    assert "2 ranks on 2 nodes: 6.0 clips/s; rank 0 alone 3.0. Scaling efficiency 1.00" in text
    assert "| rank 1 (node 1) | 2.7 | 30% | 450 |" in text and "GPU: not measured: no GPU" in text
    assert "2.000 s, rank 1: /1.mp4" in text and "replaced clips: 1" in text
    table = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 2 + 2 and len(set(table)) == 1


def test_what_is_not_known_is_said(raw):
    for rank in raw:
        rank["rounds"][0]["bytes"], rank["received"] = None, None
    found = cluster_figures.summarise(raw)
    assert found["ranks"][0]["file_bytes_per_second"] is None
    text = cluster_figures.tables(found)
    assert "not known" in text and "received by network" not in text


def test_bars_are_as_long_as_their_shares(raw):
    picture = cluster_picture.draw({"command": "cluster.py", **cluster_figures.summarise(raw)})
    pixels = np.asarray(picture)
    top, found = cluster_picture.MARGIN + 5 * cluster_picture.ROW, cluster_figures.summarise(raw)
    for i, rank in enumerate(found["ranks"]):
        left = cluster_picture.MARGIN + cluster_picture.LABEL
        line = pixels[top + cluster_picture.ROW * i + 2, left : left + cluster_picture.LEFT]
        for field, _, color in cluster_picture.LOOP:
            assert abs((line == color).all(-1).sum() - rank[field] * cluster_picture.LEFT) <= 2


def test_many_ranks_have_a_row_for_each_node():
    raw = [raw_rank(i, i // 8, [[0.1], [0.1]], [[i / 1000 + 0.01], [0.0 if i == 17 else 1.0]], [1.0, 1.0])
           for i in range(64)]  # fmt: skip
    summary = {"command": "cluster.py", **cluster_figures.summarise(raw)}
    picture = cluster_picture.draw(summary)
    assert picture.height < cluster_picture.ROW * 20 and summary["all"]["nodes"] == 8
    rows = [line for line in cluster_figures.tables(summary).splitlines() if line.startswith("| rank ")]
    assert len(rows) == cluster_figures.ROWS_MAX and {rows[0][:12], rows[1][:12]} == {"| rank 0 (no", "| rank 17 (n"}
    assert [rank["times_last"] for rank in summary["ranks"]].count(0) == 62


def test_a_wrong_order_is_found():
    """Of ranks that have the right samples in other steps, of one another, or twice."""
    single = [Schedule(50, 12, 3).batch(0, i).samples for i in range(4)]
    orders = [[Schedule(50, 4, 3, num_shards=3, shard_index=rank).batch(0, i).samples for i in range(4)]
              for rank in range(3)]  # fmt: skip
    assert sorted(cluster.order_of(orders, single).tolist()) == sorted(set(np.concatenate(single).tolist()))
    steps = copy.deepcopy(orders)
    steps[1][0], steps[1][1] = steps[1][1], steps[1][0]
    for wrong in (steps, [orders[0], orders[2], orders[1]], orders[:2]):
        with pytest.raises(SystemExit, match="step 0: the ranks together have other samples than a single rank"):
            cluster.order_of(wrong, single)
    twice = [[np.array([1, 2])], [np.array([3, 1])]]
    with pytest.raises(SystemExit, match="a sample comes twice"):
        cluster.order_of(twice, [np.array([1, 2, 3, 1])])


def test_the_job_file_is_a_script():
    path = ROOT / "benchmarks" / "cluster.sbatch"
    subprocess.run(["bash", "-n", path], check=True)
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/bin/bash" and [line for line in lines if line.startswith("#SBATCH --nodes=")]


@pytest.mark.slow
def test_two_ranks(numbered_manifest, tmp_path):
    """The whole program: its checks, and that figures are of what was asked for."""
    numbered_manifest.select(np.arange(40) % 12).write(tmp_path / "m.parquet")
    options = ["--nproc-per-node", 2, *torch_ranks.HERE, ROOT / "benchmarks" / "cluster.py", tmp_path / "m.parquet"]
    options += ["--batch-size", 4, "--num-frames", 4, "--size", 32, "--batches", 6, "--rounds", 2, "--warm-up", 2]
    options += ["--step-ms", 20, "--recipe", "full", "--output", tmp_path / "out"]
    ranks = torch_ranks.torchrun(*options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = ranks.communicate(timeout=torch_ranks.MINUTES)
    assert ranks.returncode == 0, err
    assert "checked: 2 ranks together get 40 samples, each once, in the order of a single rank, in the epoch" in out
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["all"]["ranks"] == 2 and [rank["steps"] for rank in found["ranks"]] == [12, 12]
    assert sum(rank["times_last"] for rank in found["ranks"]) == 12 and found["order"]["samples"] == 40
    for rank in found["ranks"]:
        assert rank["share_in_steps"] * 12 * 4 / rank["clips_per_second"] >= 12 * 0.02
        assert 0.9 < sum(rank[field] for field, *_ in cluster_picture.LOOP) <= 1 + 1e-6
        assert rank["threads"] == max(1, len(os.sched_getaffinity(0)) // 2) and rank["gpu"] == {"missing": "no GPU"}
    assert "| rank 1 (node 0) |" in out
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.height > 100 and len(picture.convert("RGB").getcolors(1 << 16)) > 8
    again = [sys.executable, ROOT / "benchmarks" / "cluster_picture.py", tmp_path / "out.json", tmp_path / "again.png"]
    subprocess.run(again, check=True)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out.png").read_bytes()


def test_what_is_refused(tmp_path, capsys):
    (tmp_path / "list.csv").write_text("path,label\n")
    with pytest.raises(SystemExit):
        cluster.parse([str(tmp_path / "list.csv")])
    assert "is no manifest: dali-vidaug scan" in capsys.readouterr().err
