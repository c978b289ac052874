"""Training runs whose ranks are killed at random moments and started again, with another number of them.

    python elastic_run.py MANIFEST FOLDER NUMBER
    torchrun ... elastic_run.py MANIFEST FOLDER

Each of NUMBER runs has a folder of its own in FOLDER. Ranks are processes of torch.distributed (gloo), as many as RANKS
says, one number after the other. After each step rank 0 writes the loader's state. Each rank writes what it got, a line
a step: epoch, index, samples, checksums of the clips, targets. Under torchrun, which starts them, and again those that
are killed, ranks do the same until the last epoch.
"""

import json
import os
import random
import signal
import sys
import time
import zlib
from pathlib import Path

import torch

import dali_vidaug as dv

RANKS = (4, 2, 1, 4, 2)  # all but the last are killed
STEP, EPOCHS, SEED = 8, 12, 3
RECIPE = dv.Recipe(dv.ClipSampling(2), (dv.RandomResizedCrop(16), dv.CubeCutMix(), dv.MixUp(granularity="batch")))
OPTIONS = {"seed": SEED, "device": "cpu", "num_threads": 1, "mix_group": 2}


def line_of(batch: dv.Batch) -> list:
    """What a batch has, as JSON can hold it."""
    sums = [zlib.crc32(clip.numpy().tobytes()) for clip in batch.clips]
    return [batch.epoch, batch.index, batch.samples.tolist(), sums, batch.targets.tolist()]


def train(folder, log, manifest):
    """One rank, until the last epoch or a signal ends it."""
    rank, state = torch.distributed.get_rank(), folder / "state.json"
    size = STEP // torch.distributed.get_world_size()
    with log.open("a") as lines, dv.VideoLoader(dv.Manifest.read(manifest), RECIPE, size, **OPTIONS) as loader:
        if state.exists():
            loader.load_state_dict(json.loads(state.read_text()))
        while loader.epoch < EPOCHS:
            for batch in loader:
                lines.write(json.dumps(line_of(batch)) + "\n")
                lines.flush()
                torch.distributed.barrier()
                if rank == 0:
                    (folder / "state.new").write_text(json.dumps(loader.state_dict()))
                    (folder / "state.new").replace(state)
    torch.distributed.destroy_process_group()


def steps_done(folder):
    """How many steps the state on disk has behind it."""
    state = folder / "state.json"
    if not state.exists():
        return 0
    told = json.loads(state.read_text())
    return told["epoch"] * 1000 + told["batch"]


def start(number, folder, stage, manifest):
    """Fork the ranks: torch and DALI are imported, and no thread runs yet."""
    pids = []
    for rank in range(number):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.environ["GLOO_SOCKET_IFNAME"] = "lo"
                place = f"file://{folder}/rendezvous.{stage}"
                torch.distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=number)
                train(folder, folder / f"log.{stage}.{rank}", manifest)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    return pids


def run(manifest, folder, seed):
    """One run; it is over when the last ranks have finished the last epoch."""
    chance = random.Random(seed)
    folder.mkdir()
    for stage, number in enumerate(RANKS):
        before = steps_done(folder)
        (folder / f"begun.{stage}").write_text(json.dumps(before))
        pids = start(number, folder, stage, manifest)
        if stage < len(RANKS) - 1:
            while steps_done(folder) == before:  # it has begun
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.15))
            killed = chance.sample(pids, chance.choice([1, number]))  # one of them, or all
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + chance.uniform(0, 0.5)  # a launcher ends the others after a while
            while time.monotonic() < deadline:
                time.sleep(0.01)
            for pid in set(pids) - set(killed):
                os.kill(pid, signal.SIGKILL)
        codes = [os.waitpid(pid, 0)[1] for pid in pids]
        if stage == len(RANKS) - 1 and any(codes):
            raise SystemExit(f"{folder}: ranks of the last stage ended with {codes}")


def rank_of_torchrun(manifest, folder):
    """A rank; its log says in its name who it is."""
    torch.distributed.init_process_group("gloo")
    rank, number = torch.distributed.get_rank(), torch.distributed.get_world_size()
    train(folder, folder / f"log.{os.getpid()}.{rank}.{number}", manifest)


if __name__ == "__main__":
    if "TORCHELASTIC_RUN_ID" in os.environ:
        rank_of_torchrun(sys.argv[1], Path(sys.argv[2]))
    else:
        for seed in range(int(sys.argv[3])):
            run(sys.argv[1], Path(sys.argv[2]) / str(seed), seed)
