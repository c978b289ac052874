"""One peer in its own environment; ``peers.py`` starts it. Nothing of the package is imported here.

    PYTHON peer_worker.py exactness PEER JOBS OUT       small grey pictures of the frames that the peer returns
    PYTHON peer_worker.py frames PEER JOBS OUT          the frames themselves
    PYTHON peer_worker.py speed PEER JOBS SECONDS RECIPE    clips per second on the last line
    PYTHON peer_worker.py rates PEER JOBS SECONDS RECIPE    and clips per second of processor time
    PYTHON peer_worker.py usage PEER JOBS SECONDS RECIPE    clips, seconds, processor time, load of the GPU

JOBS is a JSON file: {"batch_size", "workers", "classes", "jobs": [{"path", "frames", "label", "height", "width"}]}, and
where they are not as usual: "size" of the clips (224); "cropped": false scales whole frames, and flips none; "device"
where normalised clips are wanted ("cpu"; else "cuda").
"""

import json
import math
import random
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import cycle
from pathlib import Path

import numpy as np
from usage import Gpu, measure, processor_seconds

SIDE = 64  # of the grey pictures
PACKAGES = {"torchcodec": "torchcodec", "spdl": "spdl-io", "decord": "decord2", "pyav": "av"}


def torchcodec(peer, job, crop=None):
    """(F, 3, H, W); with "transforms" in its name it crops and scales in the decoder, with "CUDA" NVDEC decodes."""
    from torchcodec import transforms
    from torchcodec.decoders import VideoDecoder

    steps = None
    if crop and "transforms" in peer:
        # its RandomCrop draws the place; with a drawn size and a Resize that is RandomResizedCrop
        steps = [transforms.RandomCrop((crop[3], crop[2])), transforms.Resize((224, 224))]
    mode, where = "approximate" if "approximate" in peer else "exact", "cuda" if "CUDA" in peer else "cpu"
    decoder = VideoDecoder(job["path"], num_ffmpeg_threads=1, seek_mode=mode, transforms=steps, device=where)
    return decoder.get_frames_at(job["frames"]).data


def spdl(_, job, crop=None):
    """(F, H, W, 3); crop and scale in its filter graph."""
    import spdl.io

    steps = ""
    if crop:
        x, y, width, height = crop
        steps = f"crop={width}:{height}:{x}:{y}:exact=1,scale=224:224:flags=bilinear,"
    frames = spdl.io.sample_decode_video(
        spdl.io.demux_video(job["path"]),
        job["frames"],
        decode_config=spdl.io.decode_config(decoder_options={"threads": "1"}),
        filter_desc=f"{steps}format=pix_fmts=rgb24",
    )
    return spdl.io.to_numpy(spdl.io.convert_frames(frames))


def decord(_, job, crop=None):
    """(F, H, W, 3)."""
    import decord as library

    return library.VideoReader(job["path"], num_threads=1).get_batch(job["frames"]).asnumpy()


def pyav(_, job, crop=None):
    """(F, H, W, 3): a seek by the average rate, then frames by their time stamps, as is done by hand."""
    import av

    with av.open(job["path"], metadata_errors="ignore") as container:
        stream = container.streams.best("video")
        stream.thread_count, stream.thread_type = 1, "NONE"
        rate, first = stream.average_rate, stream.start_time or 0
        step = 1 / (rate * stream.time_base)
        container.seek(int(first + min(job["frames"]) * step), stream=stream)
        wanted, got = set(job["frames"]), {}
        for frame in container.decode(stream):
            index = round((frame.pts - first) / step)
            if index in wanted:
                got[index] = frame.to_ndarray(format="rgb24")
            if index >= max(wanted):
                break
    return np.stack([got[i] for i in job["frames"]])


def decode(peer, job, crop=None):
    """A clip as the peer gives it."""
    return {"torchcodec": torchcodec, "spdl": spdl, "decord": decord, "pyav": pyav}[peer.split()[0]](peer, job, crop)


def tile_means(values):
    """(N, ...) to the means of SIDE equal parts of N; a pixel on an edge counts in both, by its share in each.

    So a turned picture has turned tiles. (A product with a matrix would take more time than decoding.)
    """
    size = len(values)
    edges = np.arange(SIDE + 1) * size / SIDE
    whole = np.minimum(edges.astype(int), size - 1)
    shares = (edges - whole).reshape(-1, *[1] * (values.ndim - 1)) * values[whole]  # of the pixel before each edge
    if size < SIDE:  # an edge may be in the pixel of the one before
        sums = np.concatenate([np.zeros_like(values[:1], np.float64), np.cumsum(values, 0, np.float64)])
        return np.diff(sums[whole] + shares, axis=0) * SIDE / size
    kind = np.uint32 if values.dtype == np.uint8 else np.float64
    means = np.add.reduceat(values, whole[:-1], axis=0, dtype=kind) - shares[:-1]
    means[:-1] += shares[1:-1]
    return means * SIDE / size


def signature(picture):
    """(H, W, 3) to the means of SIDE x SIDE tiles of its luma."""
    planes = tile_means(picture)  # first the rows: what is left is small
    return tile_means((planes @ [0.299, 0.587, 0.114]).T).T.astype(np.float32)


def exactness(peer, jobs, out, begin=0, whole=False):
    """A file for each clip: its signatures, or the frames themselves (``whole``), or the error as text.

    A crash leaves the clips after it without one.
    """
    for number, job in enumerate(jobs):
        if number < begin:
            continue
        (out / "at").write_text(str(number))
        try:
            clip = decode(peer, job)
            clip = clip.cpu().numpy().transpose(0, 2, 3, 1) if peer.startswith("torchcodec") else clip
            assert len(clip) == len(job["frames"]), f"{len(clip)} frames"
            np.save(out / f"{number}.npy", clip if whole else np.stack([signature(frame) for frame in clip]))
        except Exception as error:  # whatever it raises is what its user sees
            (out / f"{number}.txt").write_text(f"{type(error).__name__}: {error}"[:300])


def draw_crop(job):
    """(x, y, width, height) of RandomResizedCrop(224)."""
    height, width = job["height"], job["width"]
    for _ in range(10):
        area = random.uniform(0.08, 1) * height * width
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 2 <= w <= width and 2 <= h <= height:
            return random.randint(0, width - w), random.randint(0, height - h), w, h
    side = min(height, width)
    return (width - side) // 2, (height - side) // 2, side, side


def import_v2():
    import torch

    try:
        import torchvision
    except RuntimeError:  # without its compiled part it lacks the two operators that its import looks for
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401
    from torchvision.transforms import v2

    return v2


class Clips:
    """Crop, flip, ("full": RandAugment,) normalise: as torch's DataLoader wants it, and SPDL's pipeline.

    For a GPU the clips of a CPU's decoder are normalised there: they are four times as small before.
    """

    def __init__(self, peer, spec, recipe):
        import torch

        torch.set_num_threads(1)
        self.peer, self.spec, self.recipe, self.v2 = peer, spec, recipe, import_v2()
        self.size, self.cropped = spec.get("size", 224), spec.get("cropped", True)
        self.device = spec.get("device", "cpu")

    def __len__(self):
        return len(self.spec["jobs"])

    def __getitem__(self, i):
        import torch

        job, v2 = self.spec["jobs"][i], self.v2
        crop = draw_crop(job) if self.cropped else (0, 0, job["width"], job["height"])
        clip = decode(self.peer, job, crop)
        if not self.peer.startswith("torchcodec"):
            clip = torch.from_numpy(clip).permute(0, 3, 1, 2)
        if tuple(clip.shape[-2:]) != (self.size, self.size):
            x, y, width, height = crop
            clip = v2.functional.resized_crop(clip, y, x, height, width, (self.size, self.size), antialias=True)
        if self.cropped and random.random() < 0.5:
            clip = clip.flip(-1)
        if self.recipe == "full":
            clip = v2.RandAugment(num_ops=2, magnitude=9)(clip)
        if self.device == "cpu":
            clip = v2.functional.normalize(clip.float() / 255, [0.45] * 3, [0.225] * 3)
        return clip.transpose(0, 1), job["label"]

    def on_device(self, batch):
        """A batch where it is wanted, normalised."""
        clips, labels = batch
        if self.device != "cpu":
            clips = clips.to(self.device, non_blocking=True).float().div_(255).sub_(0.45).div_(0.225)
        return clips, labels

    def collate(self, items):
        import torch

        clips, labels = torch.stack([clip for clip, _ in items]), torch.tensor([label for _, label in items])
        if self.recipe != "full":
            return clips, labels
        # v2.CutMix is for images: frames and channels are one dimension for it
        mixed, labels = self.v2.CutMix(num_classes=self.spec["classes"])(clips.flatten(1, 2), labels)
        return mixed.view_as(clips), labels


def batches(peer, spec, recipe):
    """Endless batches: SPDL's thread pipeline, or torch's DataLoader, on a GPU with threads, else with processes."""
    clips, size, workers = Clips(peer, spec, recipe), spec["batch_size"], spec["workers"]
    if peer.startswith("spdl"):
        from spdl.pipeline import PipelineBuilder

        order = [i for _ in range(10000 // len(clips) + 1) for i in range(len(clips))]
        pipeline = (
            PipelineBuilder()
            .add_source(order)
            .pipe(clips.__getitem__, concurrency=workers)
            .aggregate(size)
            .pipe(clips.collate)
            .add_sink(2)
            .build(num_threads=workers)
        )
        with pipeline.auto_stop():
            yield from map(clips.on_device, pipeline)
    else:
        import torch

        if "CUDA" in peer:
            loader = torch.utils.data.DataLoader(in_threads(clips, size, workers), batch_size=None)
        else:
            loader = torch.utils.data.DataLoader(
                clips, size, num_workers=workers, prefetch_factor=2, collate_fn=clips.collate, persistent_workers=True,
                pin_memory=clips.device != "cpu",
            )  # fmt: skip
        while True:
            yield from map(clips.on_device, loader)


def in_threads(clips, size, workers):
    """A dataset of endless batches that threads of this process make, two ahead.

    On a GPU, each process would have a context of its own, which takes memory and time.
    """
    import torch

    class Batches(torch.utils.data.IterableDataset):
        def __iter__(self):
            order, ahead = cycle(range(len(clips))), deque()
            with ThreadPoolExecutor(workers) as pool:
                while True:
                    while len(ahead) < 3:
                        ahead.append([pool.submit(clips.__getitem__, next(order)) for _ in range(size)])
                    yield clips.collate([job.result() for job in ahead.popleft()])

    return Batches()


def clips_per_second(iterator, seconds):
    """Over at least ``seconds``, from the first batch on: what starts before it is not counted for anyone."""
    return rates(iterator, seconds)[0]


def rates(iterator, seconds):
    """As ``clips_per_second``, and clips for each second of processor time, of this process and its children."""
    next(iterator)
    started, spent, count = time.perf_counter(), processor_seconds(), 0
    while (elapsed := time.perf_counter() - started) < seconds or not count:
        clips, _ = next(iterator)
        count += len(clips)
    return count / elapsed, count / (processor_seconds() - spent)


def main():
    what, peer, path, *rest = sys.argv[1:]
    if what == "version":
        print(version(PACKAGES[peer]))
        return
    spec = json.loads(Path(path).read_text())
    if what == "exactness":
        exactness(peer, spec["jobs"], Path(rest[0]), int(rest[1]))
    elif what == "frames":
        exactness(peer, spec["jobs"], Path(rest[0]), whole=True)
    elif what == "usage":
        random.seed(0)
        steps = (len(clips) for clips, _ in batches(peer, spec, rest[1]))
        gpu = Gpu("cpu" if spec.get("device", "cpu") == "cpu" else "gpu")
        print(json.dumps(measure(steps, float(rest[0]), gpu, warm_up=3)), flush=True)
    else:
        random.seed(0)
        found = rates(batches(peer, spec, rest[1]), float(rest[0]))
        print(json.dumps(found if what == "rates" else found[0]), flush=True)


if __name__ == "__main__":
    main()
