"""How busy a GPU and the processor's cores are while something runs. Nothing of the package is imported here."""

import os
import platform
import threading
import time
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

INTERVAL = 0.1  # seconds between two looks; NVML itself averages over a sixth of a second or more
KILOBYTES = 1000  # of PCIe, which NVML counts in KB/s


class Gpu:
    """How busy torch's current GPU, its decoder and its bus are, as NVML says, whenever ``look`` is called.

    Attributes:
        missing: why nothing is known, or None.
    """

    def __init__(self, device):
        self._seen, self._handle, self.missing = [], None, None
        if device != "gpu":
            self.missing = "no GPU"
            return
        try:
            import pynvml
            import torch

            pynvml.nvmlInit()
            uuid = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
            self._nvml, self._handle = pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
        except Exception as error:
            self.missing = f"NVML says nothing ({type(error).__name__}: {error}); pip install nvidia-ml-py"

    def look(self, bus=True):
        """Ask for percent of the time and, with ``bus``, for bytes per second of PCIe, which takes 40 ms."""
        if self._handle is None:
            return
        nvml, handle = self._nvml, self._handle
        asked = {
            "busy": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "memory": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).memory,
            "decoder": lambda: nvml.nvmlDeviceGetDecoderUtilization(handle)[0],
        }
        counters = {
            "received": lambda: nvml.nvmlDeviceGetPcieThroughput(handle, nvml.NVML_PCIE_UTIL_RX_BYTES) * KILOBYTES,
            "sent": lambda: nvml.nvmlDeviceGetPcieThroughput(handle, nvml.NVML_PCIE_UTIL_TX_BYTES) * KILOBYTES,
        }
        seen = {}
        for name, ask in (asked | counters if bus else asked).items():
            try:
                seen[name] = ask()
            except nvml.NVMLError as error:  # instances of MIG have no load, some virtual GPUs no counters
                self.missing = self.missing or f"NVML does not say all: {error}"
        self._seen.append(seen)

    @contextmanager
    def watched(self):
        """Look again and again, in a thread, while the block runs; forgets what was seen before."""
        self.forget()
        over = threading.Event()

        def watch():
            while not over.wait(INTERVAL):
                self.look()

        watcher = threading.Thread(target=watch, daemon=True)
        if self._handle is not None:
            watcher.start()
        try:
            yield
        finally:
            over.set()
            if watcher.ident:
                watcher.join()

    def forget(self):
        """Begin anew."""
        self._seen.clear()

    def figures(self):
        """Means of what was seen; "missing": why not all is known."""
        names = {name for seen in self._seen for name in seen}
        means = {}
        for name in sorted(names):
            values = [seen[name] for seen in self._seen if name in seen]
            means[name] = sum(values) / len(values)
        missing = self.missing or (None if means else "never asked")
        return means | ({"missing": missing} if missing else {})


def endless(loader):
    """The batches of a loader, epoch after epoch."""
    while True:
        yield from loader


def processor_seconds():
    """Of this process and the children that it has now."""
    children, ticks = [], 0
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            children += (task / "children").read_text().split()
    for pid in ("self", *children):
        with suppress(FileNotFoundError, ProcessLookupError):
            user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


def wait_for_gpu():
    """Until all that was begun in this thread's stream is done; at once without a GPU."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.current_stream().synchronize()


def machine():
    """What the figures were measured with."""
    packages = {}
    dali = ("nvidia-dali-cuda130", "nvidia-dali-cuda120")
    for name in ("torch", "torchvision", "torchcodec", "av", *dali, "nvidia-ml-py", "numpy"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    cpu = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {"cpu": cpu[0] if cpu else platform.machine(), "cores": len(os.sched_getaffinity(0)), **packages}


def measure(steps, seconds, gpu, warm_up=1, begin=None):
    """Take steps for at least so many seconds, each until the GPU is done with it.

    Args:
        steps: an iterator that makes a batch and gives the number of its clips.
        seconds: that the timed part takes at least.
        gpu: a ``Gpu``, which is looked at meanwhile.
        warm_up: steps before it, which do not count.
        begin: called before the timed part, to wait for other ranks.

    Returns:
        "clips", "seconds" that passed, "cpu_seconds" of this process and its children, "gpu".
    """
    for _ in range(warm_up):
        next(steps)
    wait_for_gpu()
    if begin:
        begin()
    clips, elapsed, spent, started = 0, 0.0, processor_seconds(), time.perf_counter()
    with gpu.watched():
        while elapsed < seconds or not clips:
            clips += next(steps)
            wait_for_gpu()
            elapsed = time.perf_counter() - started
    spent = processor_seconds() - spent
    return {"clips": clips, "seconds": elapsed, "cpu_seconds": spent, "gpu": gpu.figures()}
