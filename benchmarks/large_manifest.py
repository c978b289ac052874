"""Large manifests: how soon the first batch comes, and what each further process on the machine takes.

    python benchmarks/large_manifest.py VIDEOS [--rows N ...] [--folder FOLDER] [--keep]

Makes manifests of 1 and of 10 million rows: the videos again and again, each row with a path of 260 characters of its
own that leads to its video, with key frames, a packet index, and a column "subject". Then, for each: one
process reads it for the first time and draws a batch; another does the same while the first goes on.

Prints seconds and megabytes. "private" is what a process alone holds (Uss of smaps_rollup), "share" also its part of
what several hold (Pss). A manifest of 10 million rows needs 5 GB of disk in FOLDER, and 6 GB of memory to make.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

import dali_vidaug as dv
from dali_vidaug.data.index_table import index_path
from dali_vidaug.data.schema import SCHEMA
from dali_vidaug.data.shared import copy_path

CHARACTERS = 260
STEP = 1 << 18  # rows made at a time

# A rank: reads, draws a batch, says what that took, and goes on until its input ends.
RANK = """
import json, sys, time
import dali_vidaug as dv
dv.VideoLoader
started = time.perf_counter()
manifest = dv.Manifest.read(sys.argv[1])
read = time.perf_counter()
recipe = dv.Recipe(dv.ClipSampling(8, 2), (dv.RandomResizedCrop(112), dv.RandomHorizontalFlip(), dv.Normalize()))
loader = dv.VideoLoader(manifest, recipe, 16, device="cpu", seed=1, num_shards=2, shard_index=int(sys.argv[2]))
made = time.perf_counter()
batches = iter(loader)
batch = next(batches)
first = time.perf_counter()
assert loader.report().replaced == 0, loader.report()


def used():
    with open("/proc/self/smaps_rollup") as file:
        lines = [line.split() for line in file if "kB" in line]
    sizes = {name: int(size) * 1024 / 1e6 for name, size, _ in lines}
    return {"private": sizes["Private_Clean:"] + sizes["Private_Dirty:"], "share": sizes["Pss:"], "rss": sizes["Rss:"]}


figures = {"read": read - started, "loader": made - read, "first batch": first - started, **used()}
with open("/proc/self/status") as file:
    figures["peak"] = next(int(line.split()[1]) * 1024 / 1e6 for line in file if line.startswith("VmHWM"))
samples = batch.samples[:16].tolist() * 4
started = time.perf_counter()
for sample in samples:
    manifest.video(sample)
figures["video()"] = (time.perf_counter() - started) / len(samples) * 1e6
print(json.dumps(figures), flush=True)
sys.stdin.read()
loader.close()
"""


def make(scanned, rows, path):
    """Write a manifest that has the rows of ``scanned`` again and again."""
    schema = SCHEMA.append(pa.field("subject", pa.string()))
    pieces = []
    for first in range(0, rows, STEP):
        numbers = np.arange(first, min(first + STEP, rows))
        table = scanned.table.select(SCHEMA.names).take(pa.array(numbers % len(scanned)))
        names = table["path"].to_pylist()
        distinct = [_path(name, number) for name, number in zip(names, numbers.tolist(), strict=True)]
        table = table.set_column(0, "path", pa.array(distinct))
        table = table.append_column("subject", pa.array([f"subject {number % 997}" for number in numbers.tolist()]))
        pieces.append(table.cast(schema))
    table = pa.concat_tables(pieces).unify_dictionaries()
    del pieces
    dv.Manifest(table, scanned.classes, scanned.root, packets=scanned.packets).write(path)


def _path(name, number):
    """A path of its own to the same file: the binary digits of a number as "/" and "./", then more "./"."""
    digits = "".join("//" if digit == "0" else "/." for digit in f"{number:032b}")
    dots = max(0, CHARACTERS - len(name) - len(digits) - 2) // 2
    return f".{digits}/{'./' * dots}{name}"


def start(path, rank):
    process = subprocess.Popen(
        [sys.executable, "-c", RANK, str(path), str(rank)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"rank {rank} failed: {process.wait()}")
    return process, json.loads(line)


def stop(process):
    process.communicate("")


def show(name, figures):
    times = ", ".join(f"{key} {figures[key]:.2f} s" for key in ("read", "loader", "first batch"))
    sizes = ", ".join(f"{key} {figures[key]:.0f} MB" for key in ("private", "share", "rss", "peak"))
    print(f"  {name:34} {times}; {sizes}; video() {figures['video()']:.0f} us", flush=True)


def measure(path):
    """The first process to read a manifest, that and a second one, and one alone."""
    Path(copy_path(path)).unlink(missing_ok=True)
    first, figures = start(path, 0)
    show("first, writes the copy", figures)
    second, figures = start(path, 1)
    show("second, while the first goes on", figures)
    stop(second)
    stop(first)
    alone, figures = start(path, 0)
    show("alone, with the copy", figures)
    stop(alone)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", help="folder of videos")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--folder", type=Path, help="for the manifests; default: a temporary one")
    parser.add_argument("--keep", action="store_true", help="keep the manifests, and take those that are there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        scanned = dv.scan(args.videos, output=folder / "scanned.parquet", progress=False)
        for rows in args.rows:
            path = folder / f"{rows}.parquet"
            if not (args.keep and path.exists()):
                started = time.perf_counter()
                make(scanned, rows, path)
                print(f"{rows} rows: made in {time.perf_counter() - started:.0f} s")
            sizes = [file.stat().st_size / 1e6 for file in (path, Path(copy_path(path))) if file.exists()]
            print(f"{rows} rows: Parquet and its copy have {', '.join(f'{size:.0f} MB' for size in sizes)}", flush=True)
            measure(path)
            if not args.keep:
                for file in (path, Path(copy_path(path)), Path(index_path(path))):
                    file.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
