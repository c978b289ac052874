"""Ranks: what every launcher tells its processes, what is refused, and that all ranks take the same number of steps."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import RECIPE

import dali_vidaug as dv
from dali_vidaug.ranks import find_shard
from dali_vidaug.schedule import Schedule

# What launchers set for the processes that they start, by their documentation and sources. Node k has ranks
# k * per_node, ..., and every launcher is given as many as fit.


def torchrun(rank, world, per_node):
    return dict(
        RANK=rank, WORLD_SIZE=world, LOCAL_RANK=rank % per_node, LOCAL_WORLD_SIZE=per_node, GROUP_RANK=rank // per_node,
        GROUP_WORLD_SIZE=world // per_node, ROLE_RANK=rank, ROLE_WORLD_SIZE=world, TORCHELASTIC_RUN_ID="none",
        TORCHELASTIC_RESTART_COUNT=0, MASTER_ADDR="127.0.0.1", MASTER_PORT=29500,
    )  # fmt: skip


def ray_train(rank, world, per_node):
    return dict(
        RANK=rank, WORLD_SIZE=world, LOCAL_RANK=rank % per_node, LOCAL_WORLD_SIZE=per_node, NODE_RANK=rank // per_node
    )


def deepspeed(rank, world, per_node):
    return dict(RANK=rank, WORLD_SIZE=world, LOCAL_RANK=rank % per_node, LOCAL_SIZE=per_node, CROSS_RANK=0)


def lightning_one_node(rank, world, per_node):
    """lightning/fabric/strategies/launchers/subprocess_script.py: RANK is not set."""
    return dict(WORLD_SIZE=world, NODE_RANK=0, LOCAL_RANK=rank, MASTER_ADDR="127.0.0.1", MASTER_PORT=12910)


def by_hand_with_nodes(rank, world, per_node):
    return dict(WORLD_SIZE=world, NODE_RANK=rank // per_node, LOCAL_RANK=rank % per_node, LOCAL_WORLD_SIZE=per_node)


def srun(rank, world, per_node):
    return dict(
        SLURM_JOB_ID=7, SLURM_STEP_ID=0, SLURM_STEPID=0, SLURM_STEP_NUM_TASKS=world, SLURM_NTASKS=world,
        SLURM_NPROCS=world, SLURM_PROCID=rank, SLURM_LOCALID=rank % per_node, SLURM_NODEID=rank // per_node,
        SLURM_STEP_NUM_NODES=world // per_node,
    )  # fmt: skip


def srun_of_part_of_a_job(rank, world, per_node):
    return srun(rank, world, per_node) | dict(SLURM_NTASKS=world + 5, SLURM_NPROCS=world + 5)


def srun_with_world_size(rank, world, per_node):
    return srun(rank, world, per_node) | dict(WORLD_SIZE=world, MASTER_ADDR="node0")


def srun_pmi2(rank, world, per_node):
    return srun(rank, world, per_node) | dict(PMI_RANK=rank, PMI_SIZE=world)


def torchrun_on_each_node_by_srun(rank, world, per_node):
    return srun(rank // per_node, world // per_node, 1) | torchrun(rank, world, per_node)


def open_mpi(rank, world, per_node):
    return dict(
        OMPI_COMM_WORLD_SIZE=world, OMPI_COMM_WORLD_RANK=rank, OMPI_COMM_WORLD_LOCAL_RANK=rank % per_node,
        OMPI_COMM_WORLD_LOCAL_SIZE=per_node, PMIX_RANK=rank,
    )  # fmt: skip


def open_mpi_in_a_batch_job(rank, world, per_node):
    """mpirun starts one daemon a node with srun; its children have the daemon's Slurm variables."""
    return srun(rank // per_node, world // per_node, 1) | open_mpi(rank, world, per_node)


def mpich(rank, world, per_node):
    return dict(PMI_RANK=rank, PMI_SIZE=world, PMI_FD=5, MPI_LOCALNRANKS=per_node, MPI_LOCALRANKID=rank % per_node)


def mvapich(rank, world, per_node):
    return dict(MV2_COMM_WORLD_RANK=rank, MV2_COMM_WORLD_SIZE=world)


def jsrun(rank, world, per_node):
    return dict(JSM_NAMESPACE_RANK=rank, JSM_NAMESPACE_SIZE=world, JSM_NAMESPACE_LOCAL_RANK=rank % per_node)


def horovod(rank, world, per_node):
    return dict(HOROVOD_RANK=rank, HOROVOD_SIZE=world, HOROVOD_LOCAL_RANK=rank % per_node)


LAUNCHERS = [
    torchrun, ray_train, deepspeed, lightning_one_node, by_hand_with_nodes, srun, srun_of_part_of_a_job,
    srun_with_world_size, srun_pmi2, torchrun_on_each_node_by_srun, open_mpi, open_mpi_in_a_batch_job, mpich, mvapich,
    jsrun, horovod,
]  # fmt: skip


def shard_of(**environ):
    return tuple(find_shard(None, None, {name: str(value) for name, value in environ.items()}))[:2]


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda f: f.__name__)
def test_the_ranks_of_every_launcher_share_the_epoch(launcher):
    """Whatever the number of ranks and nodes: each sample comes once, and none is missing."""
    for world, per_node in ((1, 1), (2, 1), (2, 2), (3, 3), (8, 4), (12, 2)):
        shards = [shard_of(**launcher(rank, world, per_node)) for rank in range(world)]
        assert shards == [(world, rank) for rank in range(world)]
        seen = []
        for number, index in shards:
            schedule = Schedule(101, 4, 5, drop_last=False, num_shards=number, shard_index=index)
            for i in range(schedule.num_batches):
                seen += schedule.batch(0, i)[0].tolist()
        assert sorted(seen) == list(range(101))


SINGLE = [
    {},
    dict(WORLD_SIZE="", RANK=""),
    dict(RANK=0),
    dict(WORLD_SIZE=1),
    dict(WORLD_SIZE=1, LOCAL_RANK=0, NODE_RANK=0),
    dict(SLURM_JOB_ID=7, SLURM_NTASKS=8, SLURM_PROCID=0, SLURM_LOCALID=0, SLURM_NODEID=0),  # python in a batch script
    dict(SLURM_JOB_ID=7, SLURM_NTASKS=8, SLURM_NNODES=2),  # a shell of salloc
    dict(SLURM_JOB_ID=7, SLURM_NTASKS=8, SLURM_PROCID=0, SLURM_STEP_ID=4294967290, SLURM_STEP_NUM_TASKS=1),  # its step
    torchrun(0, 1, 1) | srun(2, 4, 4),  # four runs of torchrun that have nothing to do with each other
]


@pytest.mark.parametrize("environ", SINGLE, ids=str)
def test_a_single_process_gets_everything(environ):
    assert shard_of(**environ) == (1, 0)


REFUSED = [
    (dict(WORLD_SIZE=2), "WORLD_SIZE is 2, but RANK is not set"),
    (dict(WORLD_SIZE=4, LOCAL_RANK=1), "LOCAL_RANK is 1, but RANK is not set"),
    (dict(WORLD_SIZE=4, LOCAL_RANK=1, NODE_RANK=1), "NODE_RANK is 1, but RANK is not set"),  # Lightning, second node
    (dict(WORLD_SIZE=4, LOCAL_RANK=1, LOCAL_WORLD_SIZE=2), "LOCAL_WORLD_SIZE is 2, but RANK is not set"),
    (dict(WORLD_SIZE=4, LOCAL_RANK=5, NNODES=1), "LOCAL_RANK is 5, but WORLD_SIZE is 4"),
    (dict(WORLD_SIZE=4, RANK=4), r"RANK is 4: a rank must be in \[0, 4\)"),
    (dict(WORLD_SIZE=4, RANK=-1), r"RANK is -1: a rank must be in \[0, 4\)"),
    (dict(WORLD_SIZE="four", RANK=0), "WORLD_SIZE must be an integer, got 'four'"),
    (dict(RANK=3), "RANK is 3, but nothing says how many ranks there are"),
    (dict(LOCAL_RANK=1), "LOCAL_RANK is 1, but nothing says how many ranks there are"),
    (dict(PMI_RANK=2), "PMI_RANK is 2, but nothing says how many ranks there are"),
    (dict(WORLD_SIZE=1, RANK=0) | open_mpi(2, 4, 4), "WORLD_SIZE is 1, RANK is 0, but OMPI_COMM_WORLD_SIZE is 4"),
    (dict(WORLD_SIZE=8) | srun(1, 2, 1), "WORLD_SIZE is 8, srun says that this is task 1 of 2, but RANK is not set"),
    (dict(WORLD_SIZE=1) | srun(1, 2, 1), "WORLD_SIZE is 1, srun says that this is task 1 of 2, but RANK is not set"),
]


@pytest.mark.parametrize("environ, message", REFUSED, ids=str)
def test_what_cannot_be_told_is_refused_with_a_cure(environ, message):
    with pytest.raises(ValueError, match=message) as caught:
        shard_of(**environ)
    if "integer" not in message:
        assert "initialise torch.distributed before the first batch, or give num_shards and shard_in" in str(
            caught.value
        )


@pytest.fixture
def no_launcher(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "PMI_", "OMPI_")) or name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            monkeypatch.delenv(name)


def test_the_shard_is_found_when_it_is_needed_and_stays(numbered_manifest, no_launcher, monkeypatch, caplog):
    """A trainer may set up its ranks after the loader was made, but not after the loader has told its length."""
    early, late = (dv.VideoLoader(numbered_manifest, RECIPE, 2, device="cpu") for _ in range(2))
    assert len(early) == 6
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="RANK is not set"):
        next(iter(late))
    monkeypatch.setenv("RANK", "2")
    assert "shard" not in caplog.text  # a single process is nothing to speak of
    assert len(late) == 2 and "shard 2 of 3" in repr(late) and late.schedule.num_shards == 3
    assert "shard 2 of 3 (WORLD_SIZE is 3, RANK is 2). If these processes train indep" in caplog.text
    assert len(early) == 6 and early.schedule.num_shards == 1
    given = dv.VideoLoader(numbered_manifest, RECIPE, 2, device="cpu", num_shards=1, shard_index=0)
    assert len(given) == 6


DISTRIBUTED = """
import sys, torch, dali_vidaug as dv
manifest, recipe = dv.Manifest.read(sys.argv[1]), dv.Recipe.parse(sys.argv[2])
options = dict(seed=3, device="cpu", num_threads=1)
loader = dv.VideoLoader(manifest, recipe, 5, drop_last=False, **options)
early = dv.VideoLoader(manifest, recipe, 5, **options)
explicit = dv.VideoLoader(manifest, recipe, 2, num_shards=3, shard_index=2, **options)
len(early)
rank = int(sys.argv[3])
torch.distributed.init_process_group("gloo", init_method=sys.argv[4], rank=rank, world_size=2)
for _ in range(2):
    for batch in loader:
        torch.distributed.all_reduce(torch.ones(1))  # hangs unless every rank takes as many steps
        print(batch.epoch, batch.samples.tolist(), batch.repeated.tolist(), flush=True)
assert loader.report().repeated >= 1 * rank, loader.report()
try:
    next(iter(early))
except RuntimeError as error:
    assert "torch.distributed says rank %d of 2, but this loader is shard 0 of 1" % rank in str(error), error
else:
    raise SystemExit("not refused")
next(iter(explicit))
for one in (loader, early, explicit):
    one.close()
torch.distributed.destroy_process_group()
"""


def test_two_ranks_of_torch_distributed(numbered_manifest, no_launcher, tmp_path):
    """Loaders are made before the process group, as under Lightning: 11 samples, 5 a rank and step, 2 for the last."""
    table = numbered_manifest.table.slice(0, 11)
    dv.Manifest(table, numbered_manifest.classes, numbered_manifest.root).write(tmp_path / "m.parquet")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    arguments = [tmp_path / "m.parquet", repr(RECIPE)]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", DISTRIBUTED, *arguments, str(rank), place],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    printed = []
    for process in ranks:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        lines = [line.split(" ", 1) for line in out.splitlines()]
        assert [epoch for epoch, _ in lines] == ["0", "0", "1", "1"]
        printed.append([rest for _, rest in lines])
    for epoch in (slice(0, 2), slice(2, 4)):
        samples, again = [], []
        for rank in printed:
            for line in rank[epoch]:
                left, right = line.split("] [")
                samples += [int(n) for n in left.strip("[").split(", ")]
                again += [word == "True" for word in right.strip("]").split(", ")]
        assert len(samples) == 12 and again.count(True) == 1
        assert sorted(np.array(samples)[~np.array(again)].tolist()) == list(range(11))


@pytest.mark.parametrize("num_shards", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("num_samples", [1, 2, 7, 24, 25, 31, 40, 101])
def test_even_shards_have_the_same_batches_and_say_what_is_repeated(num_samples, num_shards):
    def shards(even):
        return [
            Schedule(num_samples, 4, 5, drop_last=False, num_shards=num_shards, shard_index=i, even=even)
            for i in range(num_shards)
        ]

    sizes, once, twice = set(), [], []
    for shard in shards(even=True):
        batches = [shard.batch(3, i)[0] for i in range(shard.num_batches)]
        repeated = [shard.repeated(3, i) for i in range(shard.num_batches)]
        sizes.add(tuple(map(len, batches)))
        for samples, again in zip(batches, repeated, strict=True):
            once += samples[~again].tolist()
            twice += samples[again].tolist()
    assert len(sizes) == 1 and min(*sizes.pop(), 4) >= 1
    assert sorted(once) == list(range(num_samples)) and len(twice) == -num_samples % num_shards
    order = Schedule(num_samples, num_samples, 5).batch(3, 0)[0]
    assert sorted(twice) == sorted(order[np.arange(len(twice)) % num_samples].tolist())
    step = 4 * num_shards
    for even, plain in zip(shards(even=True), shards(even=False) if num_samples >= step else (), strict=False):
        for i in range(num_samples // step):  # full steps are as without
            assert even.batch(3, i)[0].tolist() == plain.batch(3, i)[0].tolist()


def test_loaders_of_several_shards_are_even_unless_told_otherwise(numbered_manifest):
    def lengths(**options):
        loaders = [
            dv.VideoLoader(
                numbered_manifest, RECIPE, 1, device="cpu", drop_last=False, num_shards=7, shard_index=i, **options
            )
            for i in range(7)
        ]
        return [len(loader) for loader in loaders], loaders[0].schedule.even

    assert lengths() == ([2] * 7, True)
    assert set(lengths(even=False)[0]) == {1, 2}  # 12 samples: 5 ranks have a second one
    assert dv.VideoLoader(numbered_manifest, RECIPE, 5, device="cpu", drop_last=False).schedule.even is False
    with pytest.raises(ValueError, match="even must be True, False or None, got 'yes'"):
        dv.VideoLoader(numbered_manifest, RECIPE, 5, even="yes")


@pytest.mark.parametrize("num_shards", [1, 2])
def test_a_rank_that_fails_says_which_it_is(num_shards, numbered_manifest, tmp_path, caplog):
    """The others may wait for it, so that it must be found among many logs; a single process is nothing to speak of."""
    gone = dv.Manifest(numbered_manifest.table, numbered_manifest.classes, tmp_path)
    options = dict(num_shards=num_shards, shard_index=num_shards - 1, on_error="raise", check_files="off")
    with dv.VideoLoader(gone, RECIPE, 2, device="cpu", shuffle=False, **options) as loader:
        with pytest.raises(dv.ClipError, match="No such file"):
            next(iter(loader))
    said = [message for message in caplog.messages if "ends:" in message]
    bad, told = 2 * (num_shards - 1), num_shards > 1
    expected = f"shard 1 of 2 ends: {gone.path(bad)} (sample {bad}, epoch 0): No such file or directory"
    assert said == [expected] * told
