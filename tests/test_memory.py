"""Large manifests: how long the first batch takes, and what stays in memory."""

import json
import subprocess
import sys

import pytest

# Runs in a process of its own: the memory of a test session says nothing.
PROGRAM = """
import json, os, sys, time
import psutil
started = time.perf_counter()
import dali_vidaug as dv
dv.VideoLoader
imported = time.perf_counter()
manifest = dv.Manifest.read(sys.argv[1])
recipe = dv.Recipe(dv.ClipSampling(4, 1), (dv.RandomResizedCrop(32), dv.RandomHorizontalFlip(), dv.Normalize()))
loader = dv.VideoLoader(manifest, recipe, 4)
batches = iter(loader)
next(batches)
assert manifest.video(999_999).packet_index is not None
first = time.perf_counter()
process = psutil.Process()
rows = {"rows": len(manifest), "import_seconds": imported - started, "first_batch_seconds": first - imported,
        "first_batch_bytes": process.memory_info().rss}
last, seen = int(sys.argv[2]), {"bytes_at_50": [], "bytes_at_end": []}
for i in range(2, last + 1):
    next(batches)
    for name, begin in (("bytes_at_50", 50), ("bytes_at_end", last - 19)):
        if begin <= i < begin + 20:  # how much decoders hold at one moment varies by more than a leak would be
            manifest._shared.release()  # pages of the file, which come and go
            seen[name].append(process.memory_info().rss)
rows |= {"bytes_at_50": max(seen["bytes_at_50"]), "bytes_at_end": min(seen["bytes_at_end"])}
mapped = [m for m in process.memory_maps() if m.path.endswith(".parquet.arrow")]
rows["mapped"] = len(mapped)
rows["mapped_dirty_bytes"] = sum(m.private_dirty + m.shared_dirty for m in mapped)
rows["replaced"] = loader.report().replaced
loader.close()
print(json.dumps(rows))
"""


@pytest.mark.slow
def test_a_million_rows(numbered_manifest, tmp_path):
    """First batch within 3 s and 600 MB; 500 more leave nothing: a tenth of a batch of each, kept, would be 10 MB."""
    import numpy as np
    import pyarrow as pa

    import dali_vidaug as dv
    from dali_vidaug.data.index_table import IndexTable

    table = numbered_manifest.table
    rows = pa.array(np.arange(1_000_000) % len(table))
    table = table.take(rows)
    at = table.column_names.index("packet_index")
    table = table.set_column(at, "packet_index", pa.array(np.arange(1_000_000)))  # an index for each row
    packets = IndexTable(numbered_manifest.packets.table.take(rows))
    dv.Manifest(table, numbered_manifest.classes, numbered_manifest.root, packets=packets).write(tmp_path / "m.parquet")
    assert (tmp_path / "m.parquet.packets").stat().st_size > 200e6
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "m.parquet"), "550"], capture_output=True, text=True, check=True
    )
    figures = json.loads(done.stdout)
    print(figures)
    assert figures["rows"] == 1_000_000 and figures["replaced"] == 0
    assert figures["first_batch_seconds"] < 3, figures
    assert figures["first_batch_bytes"] < 600e6, figures
    assert figures["mapped"] and not figures["mapped_dirty_bytes"], "pages that processes share"
    assert figures["bytes_at_end"] < figures["bytes_at_50"] + 10e6, figures
