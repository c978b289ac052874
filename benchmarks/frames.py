"""How many frames are decoded for each frame wanted, and how few would do: counts, not times.

    python benchmarks/frames.py [VIDEOS] [--videos N] [--clips N]

For files made here, one for each codec and GOP structure, and for a folder: clips of 8 frames, stride 1 to 8, in one
GOP. Columns, each in frames decoded per frame wanted:

- seek: seek to the key frame and decode on to the last wanted frame, as video readers do
- ours: what `dali_vidaug` decodes for the clip with PyAV, by the packet index
- least: what any decoder must decode: the wanted frames and all that their pixels depend on, directly or not

The least is found without this package: of a GOP each packet in turn is spoiled, the GOP is decoded with PyAV, and the
frames that come out otherwise depend on it. Every frame that `dali_vidaug` decodes is compared with the full decode.
"""

import argparse
import sys
import tempfile
import zlib
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

import dali_vidaug as dv
from dali_vidaug.data.folder import is_video_name
from dali_vidaug.media.decode import decode_frames
from dali_vidaug.media.encode import write_video

GOP_MAX = 48  # packets of a GOP that are looked at
LENGTH, STRIDES = 8, (1, 2, 4, 8)
X264, X265 = "x264-params", "x265-params"
FORMS = {  # what: codec, options
    "H.264, x264's defaults": ("libx264", {}),
    "H.264, no B-frames": ("libx264", {"bf": "0"}),
    "H.264, 8 B-frames, one reference": ("libx264", {X264: "bframes=8:ref=1:b-adapt=0"}),
    "H.264, preset veryfast": ("libx264", {"preset": "veryfast"}),
    "H.265, x265's defaults": ("libx265", {}),
    "H.265, no B-frames": ("libx265", {X265: "bframes=0"}),
    "H.265, 8 B-frames": ("libx265", {X265: "bframes=8:b-adapt=0"}),
    "H.265, 3 temporal layers": ("libx265", {X265: "temporal-layers=3"}),
    "H.265, 3 temporal layers, 8 B-frames": ("libx265", {X265: "temporal-layers=3:bframes=8:b-adapt=0"}),
    "VP9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "AV1": ("libsvtav1", {"preset": "11", "svtav1-params": "lp=1"}),
    "AV1, low delay": ("libsvtav1", {"preset": "11", "svtav1-params": "lp=1:pred-struct=1"}),
    "MPEG-4, 2 B-frames": ("mpeg4", {"bf": "2"}),
}


class Counts(NamedTuple):
    """Frames of some clips: wanted, and decoded in three ways."""

    wanted: int
    seek: int
    ours: int
    least: int


def digest(frame):
    """A checksum of a frame's planes, without the padding of their rows."""
    found, size = 0, -(-frame.format.components[0].bits // 8)
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        found = zlib.crc32(np.ascontiguousarray(rows[:, : plane.width * size]), found)
    return found


def decode_all(stream, packets):
    """Frames of packets, errors and damage ignored: digests by time stamp."""
    codec = av.CodecContext.create(stream.codec_context.codec.name, "r")
    codec.extradata, codec.thread_count, found = stream.codec_context.extradata, 1, {}
    for packet in [*packets, None]:
        try:
            found |= {frame.pts: digest(frame) for frame in codec.decode(packet)}
        except av.error.FFmpegError:
            pass
    return found


def spoil(packets, at, stream):
    """The packets, one of them so that it cannot be decoded, and those after it as before if they do not refer to it.

    Slices of H.264 and H.265 stay, with noise after their headers: both decoders keep count of reference pictures, and
    are put out by missing ones. Elsewhere the packet is left out.
    """
    data, noise, spoiled = bytearray(bytes(packets[at])), np.random.default_rng(at), False
    for first, end in units(data, stream):
        kind = data[first] & 31 if stream.codec_context.name == "h264" else data[first] >> 1 & 63
        if kind in SLICES[stream.codec_context.name]:
            first += min(HEADER, (end - first) // 2)
            data[first:end] = noise.integers(4, 256, end - first, dtype=np.uint8).tobytes()
            spoiled = True
    if not spoiled:
        return packets[:at] + packets[at + 1 :]
    packet = av.Packet(len(data))
    packet.update(bytes(data))
    packet.pts, packet.dts, packet.time_base = packets[at].pts, packets[at].dts, packets[at].time_base
    return [*packets[:at], packet, *packets[at + 1 :]]


HEADER = 32  # bytes of a slice that are kept, but not more than half of it
SLICES = {"h264": (1, 5), "hevc": (*range(10), *range(16, 22))}  # types of NAL units


def is_leaf(packet, stream):
    """Whether nothing may depend on a packet of H.264: nal_ref_idc is 0. It need not be tried then."""
    data, is_h264 = bytes(packet), stream.codec_context.name == "h264"
    return is_h264 and all(
        data[at] & 31 not in SLICES["h264"] or not data[at] >> 5 & 3 for at, _ in units(data, stream)
    )


def units(data, stream):
    """Where the NAL units of a packet of H.264 or H.265 begin and end; nothing in other codecs."""
    extradata, name = stream.codec_context.extradata or b"", stream.codec_context.name
    if name in SLICES and extradata[:1] == b"\1":
        size, at = (extradata[4 if name == "h264" else 21] & 3) + 1, 0
        while at + size < len(data):
            end = at + size + int.from_bytes(data[at : at + size], "big")
            yield at + size, min(end, len(data))
            at = end
    elif name in SLICES:
        starts = [i + 3 for i in range(len(data) - 3) if data[i : i + 3] == b"\0\0\1"]
        yield from zip(starts, [*(start - 3 for start in starts[1:]), len(data)], strict=True)


class Gop(NamedTuple):
    """A GOP, or its beginning.

    Attributes:
        frames: (P,) index of each packet's frame, in decoding order.
        depends: (P, P) bool, whether frame [j] comes out otherwise when packet [i] is spoiled.
    """

    frames: np.ndarray
    depends: np.ndarray


def read_gop(path, number):
    """A GOP of a file, or None if its packets are not a frame each; and the digests of all frames of the file."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        packets = [packet for packet in container.demux(stream) if packet.size]
        full = decode_all(stream, packets)
        order = {pts: i for i, pts in enumerate(sorted(full))}
        digests = [full[pts] for pts in sorted(full)]
        keys = [i for i, packet in enumerate(packets) if packet.is_keyframe]
        if not keys or [order.get(packet.pts, -1) for packet in packets].count(-1) or len(order) != len(packets):
            return None, digests
        first = keys[number % len(keys)]
        last = min([key for key in keys if key > first] + [len(packets), first + GOP_MAX])
        some = [packet for packet in packets[first:last] if packet.pts >= packets[first].pts]  # no leading pictures
        truth = decode_all(stream, some)
        depends = np.eye(len(some), dtype=bool)
        for i in range(len(some)):
            if not is_leaf(some[i], stream):
                found = decode_all(stream, spoil(some, i, stream))
                depends[i] |= [found.get(packet.pts) != truth.get(packet.pts) for packet in some]
        return Gop(np.array([order[packet.pts] for packet in some]), depends), digests


def draw_clips(gop, count, rng):
    """Clips of frames that are all in a GOP."""
    shown, clips = set(gop.frames.tolist()), []
    for _ in range(20 * count):
        frames = int(rng.choice(gop.frames)) + int(rng.choice(STRIDES)) * np.arange(LENGTH)
        clips += [frames] if shown.issuperset(frames.tolist()) else []
    return clips[:count]


def count_frames(video, gop, digests, clips):
    """Count what clips of a GOP cost.

    Raises:
        AssertionError: a frame is not that of the full decode.
    """
    counts = np.zeros(4, int)
    for frames in clips:
        decoded = [(index, digest(frame)) for frame, index in decode_frames(video, frames, {"read": 0.0})]
        assert set(frames.tolist()) <= {index for index, _ in decoded}, "a frame is missing"
        assert all(digests[index] == found for index, found in decoded), "a frame is another"
        wanted = np.flatnonzero(np.isin(gop.frames, frames))
        counts += len(frames), wanted[-1] + 1, len(decoded), gop.depends[:, wanted].any(1).sum()
    return Counts(*counts.tolist())


def count_files(manifest, num_clips):
    """Yield (row, counts) for each file of which clips fit into a GOP."""
    for row in range(len(manifest)):
        video = manifest.video(row)
        gop, digests = read_gop(video.path, row)
        clips = [] if gop is None else draw_clips(gop, num_clips, np.random.default_rng(row))
        if clips:
            yield row, count_frames(video, gop, digests, clips)


def moving_frames(count, height=144, width=176):
    """Smooth shapes and a box that move, and noise: every picture differs from those before."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:height, :width]
    for i in range(count):
        wave = 100 * np.sin((x + 3 * i) / 9) * np.cos((y + 2 * i) / 13)
        frame = np.stack([128 + wave, 128 + 90 * np.sin(x * y / 900 + i / 5), (x * 2 + i * 5 + y) % 255], -1)
        frame[30:60, i * 4 % 120 : i * 4 % 120 + 30] = (250, 20, 30)
        yield np.clip(frame + rng.normal(0, 4, frame.shape), 0, 255).astype(np.uint8)


def make_files(folder, forms=FORMS, count=64):
    """Write a file for each form, with one key frame; returns its path by form."""
    paths = {}
    for i, (form, (codec, options)) in enumerate(forms.items()):
        paths[form] = folder / f"{i:02d}.{'mkv' if codec == 'libsvtav1' else 'webm' if 'vp' in codec else 'mp4'}"
        quiet = {X265: ":".join(filter(None, [options.get(X265), "log-level=none"]))} if codec == "libx265" else {}
        write_video(
            paths[form],
            moving_frames(count),
            codec=codec,
            options={"g": "250", **options, **quiet},
        )
    return paths


def add(counts):
    """The sum of some counts."""
    return Counts(*np.sum(list(counts), 0).tolist())


def print_row(name, counts):
    """A row of the table, in Markdown."""
    seek, ours, least = (f"{count / counts.wanted:.2f}" for count in counts[1:])
    print(f"| {name} | {seek} | {ours} | {least} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="?", help="folder of videos")
    parser.add_argument("--videos", type=int, default=30, dest="num_videos", help="so many of them (default 30)")
    parser.add_argument("--clips", type=int, default=40, help="of each (default 40)")
    args = parser.parse_args()
    av.logging.set_level(None)

    print("| | seek | ours | least |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        forms = {path.name: form for form, path in make_files(Path(folder)).items()}
        manifest = dv.scan(folder, progress=False)
        for row, counts in count_files(manifest, args.clips):
            print_row(forms[Path(manifest.path(row)).name], counts)
    if not args.videos:
        return
    paths = sorted(path for path in Path(args.videos).rglob("*") if is_video_name(path.name))
    some = np.linspace(0, len(paths) - 1, min(args.num_videos, len(paths))).round().astype(int)
    manifest = dv.scan([paths[i] for i in some.tolist()], progress=False)
    found = dict(count_files(manifest, args.clips))
    codecs = [manifest.video(row).codec for row in found]
    for codec in sorted(set(codecs)):
        of = [counts for counts, other in zip(found.values(), codecs, strict=True) if other == codec]
        print_row(f"{Path(args.videos).name}, {codec}, {len(of)} files", add(of))
    fewest = sum(counts.ours == counts.least for counts in found.values())
    print(f"\n{len(found)} of {len(manifest)} files have clips in one GOP; in {fewest} ours is the least")


if __name__ == "__main__":
    sys.exit(main())
