"""What can be known of the order of work on a GPU without one; docs/gpu.md argues the rest."""

import inspect
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import RECIPE, make_plan, take_batches
from nvidia.dali import backend, types
from nvidia.dali.pipeline import Pipeline
from torch.utils.dlpack import DLDeviceType

import dali_vidaug as dv
from dali_vidaug.graph import Graph
from dali_vidaug.producer import Producer
from dali_vidaug.settings import make_settings


@pytest.mark.parametrize("prefetch", [1, 3])
def test_unfinished_batches_never_share_a_stream(prefetch, numbered_manifest, monkeypatch):
    """Whoever waits for a batch must not wait for another. Numbers stand in for streams, of which the CPU has none."""
    used, produce, run = [], Producer._run, Graph.run

    def begin(self):
        assert set(self._streams) == {None}
        self._streams = deque(range(len(self._streams)))
        produce(self)

    def record(self, plan, inputs, stream=None, checked=()):
        used.append(stream)
        return run(self, plan, inputs)

    monkeypatch.setattr(Producer, "_run", begin)
    monkeypatch.setattr(Graph, "run", record)
    take_batches(dv.VideoLoader(numbered_manifest, RECIPE, 2, prefetch=prefetch, device="cpu"), 12)
    # ``prefetch`` are ready, one is being made, one was taken just now and its stream may still be asked for
    under_way = prefetch + 2
    assert len(used) >= 12 and all(isinstance(stream, int) for stream in used)
    assert all(len({*used[i : i + under_way]}) == under_way for i in range(len(used) - under_way))


def test_a_batch_waits_for_the_one_before():
    """DALI sends small inputs from a buffer that the next batch overwrites. A list stands in for the stream."""
    log = []
    plan = make_plan(dv.Recipe(ops=(dv.RandomVerticalFlip(),)), [(2, 4, 5)])
    graph = Graph(plan, make_settings(device="cpu", num_threads=1), batch_size=1)
    run, share = graph.pipeline.schedule_run, graph.pipeline.share_outputs

    def mark():
        number = sum(entry == "run" for entry in log)
        return SimpleNamespace(synchronize=lambda: log.append(f"wait for {number}"))

    graph.pipeline.schedule_run = lambda: (log.append("run"), run())
    graph.pipeline.share_outputs = lambda stream: share()
    for _ in range(3):
        graph.run(plan, [np.zeros((2, 4, 5, 3), np.uint8)], SimpleNamespace(record_event=mark))
    assert log == ["run", "wait for 1", "run", "wait for 2", "run"]


def test_torch_knows_dalis_device_types():
    """Only then torch.from_dlpack tells DALI the stream that is to wait."""
    assert backend.DLDeviceType.kDLCUDA in (DLDeviceType.kDLCUDA, DLDeviceType.kDLROCM)
    assert backend.DLDeviceType.kDLCPU not in (DLDeviceType.kDLCUDA, DLDeviceType.kDLROCM)
    exported = backend.TensorGPU.__dlpack__.__doc__
    assert "stream:" in exported and "A synchronization event might be inserted" in exported


def test_dali_accepts_torch_streams():
    stream = type("Stream", (), {"cuda_stream": 0x5000})()
    assert types._raw_cuda_stream_ptr(stream).value == 0x5000 and types._raw_cuda_stream_ptr(None) is None
    assert "cuda_stream" in inspect.signature(Pipeline.share_outputs).parameters
    assert Pipeline(2, 1, None, prefetch_queue_depth=1).exec_dynamic  # without it outputs are overwritten
