"""Which files NVDEC decodes, and how many of its decoders DALI makes for 100 clips: counts, without a GPU.

    python benchmarks/nvdec_decoders.py VIDEOS ... [--threads N] [--clips N] [--paths]
    python benchmarks/nvdec_decoders.py --sizes

VIDEOS are folders, video files or manifests. Rows are kinds of files: codec and pixel format, size as shown. Columns:

- files: how many there are
- coded: the size of whole coded frames, as the file says
- before, after: decoders that DALI makes for 100 clips: of the file as it is, and of the small files that are made for
  NVDEC, from which the cropping is taken out. By a model of DALI 2.4's cache (`DecoderCache`), for N decoding threads.
  "1 or 100" where it depends on whether NVDEC's driver rounds sizes up, which is not known
- where: "NVDEC", or "CPU" and the reason; where only some clips go to NVDEC, how many of the N that were tried

What NVDEC decodes is what the driver says or, without a GPU, what NVIDIA states for the H100. With --sizes, files of
usual sizes are made and looked at. Every small file is decoded with PyAV: its frames must have the size that it says.
"""

import argparse
import io
import tempfile
from collections import Counter, deque
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

import dali_vidaug as dv
from dali_vidaug.device import nvdec
from dali_vidaug.device.decoders import WHOLE_CODECS
from dali_vidaug.device.nvdec import Decoder, refusal
from dali_vidaug.errors import NotForDaliError
from dali_vidaug.media.encode import write_video
from dali_vidaug.media.remux import remux

CLIPS = 100
_USUAL = Decoder(7, 48, 16, 4096, 4096, 65536)
H100 = {
    "h264": _USUAL,
    "hevc": _USUAL._replace(min_width=144, min_height=144, max_width=8192, max_height=8192, max_macroblocks=262144),
    "vp8": _USUAL,
    "vp9": _USUAL._replace(min_width=128, min_height=128, max_width=8192, max_height=8192, max_macroblocks=262144),
    "mpeg4": _USUAL._replace(max_width=2032, max_height=2032, max_macroblocks=8192),
}
SIZES = ((340, 256), (426, 240), (640, 360), (854, 480), (480, 270), (960, 540), (1280, 720), (1920, 1080))


class Stream(NamedTuple):
    """What NVDEC's parser tells DALI of a file: sizes are (width, height)."""

    codec: str
    coded: tuple[int, int]
    shown: tuple[int, int]


class DecoderCache:
    """A model of the cache of DALI 2.4 (``NVDECCache`` of its frames_decoder_gpu.cc), for streams of one bit depth
    that keep equally many reference pictures.

    A decoder is looked for by the coded size of a file, among those that are not in use, and stored by the size shown.

    Attributes:
        made: how many decoders were made so far.
        kept: [stream it was made for, in use] of those that are there, in the order in which they were made.
        confused: files that got a decoder made for another height: DALI reads their colours from the wrong lines.
    """

    LIMIT = 100

    def __init__(self):
        self.made, self.kept, self.confused = 0, [], []

    def lease(self, stream):
        """A decoder for a file: one that is kept, or a new one."""
        for decoder in self.kept:
            made_for, used = decoder
            if not used and made_for.codec == stream.codec and made_for.shown == stream.coded:
                decoder[1] = True
                if made_for.shown[1] != stream.shown[1]:
                    self.confused.append(stream)
                return decoder
        self.made += 1
        decoder = [stream, True]
        self.kept.append(decoder)
        if len(self.kept) > self.LIMIT:
            unused = next((other for other in self.kept if not other[1]), None)
            self.kept = [other for other in self.kept if other is not unused]
        return decoder

    def give_back(self, decoder):
        """A clip is done."""
        decoder[1] = False


def num_made(stream, threads=1, clips=CLIPS):
    """How many decoders are made for clips of a file, ``threads`` of which are decoded at the same time."""
    cache, leased = DecoderCache(), deque()
    for _ in range(clips):
        if len(leased) == threads:
            cache.give_back(leased.popleft())
        leased.append(cache.lease(stream))
    return cache.made


def stream_of(data, codec):
    """What a file says, by FFmpeg's decoder."""
    with av.open(io.BytesIO(data.tobytes())) as container:
        stream = container.streams.video[0]
        next(container.decode(stream))
        context = stream.codec_context
        return Stream(codec, (context.coded_width, context.coded_height), (context.width, context.height))


def made_text(stream, threads):
    """As ``num_made``, as text; both answers where it is not known whether NVDEC's driver rounds the size up."""
    unit = {"h264": 1, "hevc": 16, "mpeg4": 16, "vp8": 16}.get(stream.codec, 64)
    rounded = tuple(-(-n // unit) * unit for n in stream.coded)
    answers = sorted({num_made(stream, threads), num_made(stream._replace(coded=rounded), threads)})
    return " or ".join(map(str, answers))


class Row(NamedTuple):
    """What is said of a file."""

    kind: str
    size: str
    coded: str
    before: str
    after: str
    where: str


def tried(video, num_clips, frames=16):
    """Small files of clips along a video, and why others are not for NVDEC."""
    made, reasons = [], Counter()
    for start in np.linspace(0, max(0, video.num_frames - frames), num_clips).astype(int):
        wanted = np.arange(start, min(start + frames, video.num_frames))
        try:
            made.append(remux(video, wanted, on_gpu=True))
        except NotForDaliError as error:
            reasons[str(error).rpartition(": ")[2]] += 1
    return made, reasons


def row_of(video, decoders, num_clips, threads):
    """A row of the table."""
    kind, size, none = f"{video.codec} {video.pixel_format}", f"{video.width}x{video.height}", ("-",) * 3
    if why := refusal(video.format, decoders):
        return Row(kind, size, *none, f"CPU: {why}")
    made, reasons = tried(video, num_clips)
    why = "; ".join(f"{reason}" for reason, _ in reasons.most_common())
    if not made:
        return Row(kind, size, *none, f"CPU: {why}")
    before = stream_of(remux(video, np.arange(1)).data, video.codec)
    after = {stream_of(small.data, video.codec) for small in made}
    if len(after) != 1 or (video.codec in WHOLE_CODECS and {made[0].size} != {stream.shown for stream in after}):
        raise ValueError(f"{video.path}: its small files are {after}, but {made[0].size} was expected")
    where = f"NVDEC, {len(made)} of {num_clips} clips; CPU: {why}" if reasons else "NVDEC"
    coded = "{}x{}".format(*before.coded)
    return Row(kind, size, coded, made_text(before, threads), made_text(after.pop(), threads), where)


def videos_of(paths):
    """The videos of folders, files and manifests."""
    for path in paths:
        manifest = dv.Manifest.read(path) if path.endswith(".parquet") else dv.scan(path, progress=False)
        yield from (manifest.video(i) for i in range(len(manifest)))


def write_sizes(folder):
    """Files of usual sizes, H.264 and H.265."""
    options = {"libx264": {}, "libx265": {"x265-params": "log-level=none"}}
    for codec, chosen in options.items():
        for width, height in SIZES:
            frames = (np.full((height, width, 3), 10 * i, np.uint8) for i in range(4))
            write_video(Path(folder) / f"{codec}_{width}x{height}.mp4", frames, codec=codec, options=chosen)


def table(videos, decoders, num_clips=5, threads=1, with_paths=False):
    """The lines of the table, in Markdown."""
    rows: dict[Row, list[str]] = {}
    for video in videos:
        rows.setdefault(row_of(video, decoders, num_clips, threads), []).append(video.path)
    lines = ["| files | kind | shown | coded | before | after | where |", "|---|---|---|---|---|---|---|"]
    for row, paths in sorted(rows.items()):
        lines.append(f"| {', '.join(map(str, paths)) if with_paths else len(paths)} | {' | '.join(row)} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", help="folders, video files, manifests")
    parser.add_argument("--sizes", action="store_true", help="files of usual sizes, made here")
    parser.add_argument("--threads", type=int, default=1, help="clips that are decoded at the same time")
    parser.add_argument("--clips", type=int, default=5, help="of each file, which are tried")
    parser.add_argument("--paths", action="store_true", help="name the files")
    args = parser.parse_args()
    if bool(args.videos) == args.sizes:
        parser.error("give VIDEOS or --sizes")
    decoders = nvdec.decoders(0) or H100
    with tempfile.TemporaryDirectory() as folder:
        if args.sizes:
            write_sizes(folder)
        videos = videos_of([folder] if args.sizes else args.videos)
        print("\n".join(table(videos, decoders, args.clips, args.threads, args.paths)))


if __name__ == "__main__":
    main()
