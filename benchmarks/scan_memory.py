"""The memory and time that the scan of a large list takes, beside measuring: python benchmarks/scan_memory.py

A CSV of that many rows is listed, and made into a manifest and its packet indices, all with the real code, but for what
measures: one real video is measured once, and what was found is taken for every row.
"""

import argparse
import json
import logging
import tempfile
import time
from pathlib import Path

import dali_vidaug as dv
from dali_vidaug.commands.checks.numbered import numbered_frame
from dali_vidaug.data import measuring
from dali_vidaug.media.encode import write_video
from dali_vidaug.media.measure import measure


def peak_bytes():
    """The most memory that this process had, mapped files included; ``ru_maxrss`` would count what started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def write_list(path, rows):
    """A list with paths as Kinetics has them, 60 characters long, in 400 classes."""
    with path.open("w") as file:
        file.write("path,label\n")
        for row in range(rows):
            name = f"class_{row % 400:03d}"
            file.write(f"{name}/a_rather_long_name_of_a_video_{row:08d}_000010_000020.mp4,{name}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--folder", type=Path, help="for the list and the manifest: 3 KB a row; default: a temporary one"
    )
    args = parser.parse_args()
    logging.getLogger("dali_vidaug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        write_video(folder / "video.mp4", (numbered_frame(i, 96, 160) for i in range(70)))
        row = measure(folder / "video.mp4")
        assert row["index"] is not None, row
        measuring.measure = lambda place, *how: {**row, "bytes": hash(place.path) & 0xFFFFFFFF}
        write_list(folder / "list.csv", args.rows)
        before, began, processor = peak_bytes(), time.perf_counter(), time.process_time()
        manifest = dv.scan(folder / "list.csv", output=folder / "m.parquet", num_threads=2, progress=False)
        seconds, processor = time.perf_counter() - began, time.process_time() - processor
        assert len(manifest) == len(manifest.packets) == args.rows and not manifest.broken
        figures = {
            "rows": args.rows,
            "microseconds_a_row": seconds / args.rows * 1e6,
            "processor_microseconds_a_row": processor / args.rows * 1e6,
            "bytes_before": before,
            "peak_bytes": peak_bytes(),
            "bytes_a_row": (peak_bytes() - before) / args.rows,
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
