"""How near frames made of their neighbours come to real ones: ``python benchmarks/interpolation.py VIDEOS...``.

Frames are left out of real videos and made again of their two neighbours, in the ways that the package has and in three
that it has not. Printed is a Markdown table of the PSNR in dB: of the mean squared error of each video, the mean over
videos. Videos are scaled down to ``--size`` pixels for the shorter side, as for training.

Not every left-out frame lies in the middle of its neighbours in time: many videos were brought to another frame rate
by repeating frames. So a second row has only the frames that are nearly as near to one neighbour as to the other: the
larger mean squared error to a neighbour is less than 4 times the smaller.

The ways with motion, of which the package has none:

- blocks: a vector for each node of a grid of 8 pixels, at the time of the new frame, found from coarse to fine in four
  sizes; blocks overlap; where the match is no better than the blend, the vector is 0, which is the blend.
- codec: the same with vectors of H.264 between the two neighbours, encoded for this purpose without B frames, which is
  the best case. The vectors of a real file lead to other frames, too.
- ffmpeg: its filter ``minterpolate``, given all neighbours as a video.

With ``--networks`` there is a column for each network that examples/interpolation/train.py has written, and for
``phase``, which needs no training. They are called as the package calls them (``dv.FrameInterpolation("module")``).
"""

import argparse
import fractions
import io
import sys
from collections import defaultdict
from pathlib import Path

import av
import numpy as np

import dali_vidaug as dv
from dali_vidaug.ops.interpolate import interpolate, interpolate_rows
from dali_vidaug.ops.module_call import Module, interpolate_by

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "interpolation"))
import networks
import reference
from conftest import assert_pixels

BLOCK, SIZES, REACH = (
    8,
    4,
    4,
)  # pixels; sizes of the picture, each half of the one before; of the search in the smallest
_SMOOTH, _STILL = (
    0.4,
    0.5,
)  # levels that a match must be better by: per pixel off the coarser vector, and to move at all
_KEPT = 15 / 16  # a vector is kept whose difference is below this part of the blend's
VIDEOS = (".avi", ".mkv", ".mov", ".mp4", ".ts", ".webm")
_AROUND = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]


# Frames


def read(path, size, most):
    """(F, H, W, 3) uint8, the first frames of a video, the shorter side at most ``size``."""
    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            scale = min(1, size / min(frame.height, frame.width))
            height, width = (2 * round(side * scale / 2) for side in (frame.height, frame.width))
            small = frame.reformat(width, height, "rgb24", interpolation="AREA")
            frames.append(small.to_ndarray())
            if len(frames) == most or frames[-1].shape != frames[0].shape:
                break
    return np.stack([frame for frame in frames if frame.shape == frames[0].shape])


# Ways: two frames (H, W, 3) in, the one in the middle out


def at(position, before, after):
    """The package's blend, checked."""
    pair = np.stack([before, after])
    (out,) = interpolate([pair], interpolate_rows(np.array([[position]])), 1, num_threads=1)
    assert_pixels(out, reference.interpolate(pair, np.array([position])))
    return out[0]


def nearest(before, after):
    return after  # of two that are as near the later one


def linear(before, after):
    return at(0.5, before, after)


def blocks(before, after):
    return compensated(before, after, block_vectors(gray(before), gray(after)))


def codec(before, after):
    return compensated(before, after, codec_vectors(before, after))


def by_network(path):
    """The way of a network that is called as in the graph, by its file; "phase" has none."""
    name = Path(path).stem
    dv.register_module(name, networks.PhaseBased() if path == "phase" else networks.load(path))
    module, rows = Module("FrameInterpolation", name), interpolate_rows(np.array([[0.5]]))

    def way(before, after):
        return interpolate_by(module, [np.stack([before, after])], rows, rows.dtype, 32768)[0][0]

    way.__name__ = name
    return way


# Motion. Vectors are (rows, columns, 2) int for the nodes of a grid: pixels from the frame before to the one after.


def gray(frame):
    return (5 * frame[..., 0].astype(np.int32) + 9 * frame[..., 1] + 2 * frame[..., 2]) >> 4


def grid(plane):
    return [np.arange(-(-side // BLOCK) + 1) * BLOCK for side in plane.shape[:2]]


def difference(before, after, vectors, radius, without_mean=False):
    """The mean difference (rows, columns) between the windows of nodes, half a vector back and half a vector on."""
    offsets = np.arange(-radius, radius)
    sides = [
        node[:, None, None] + offsets if axis else node[:, None, None, None] + offsets[:, None]
        for axis, node in enumerate(grid(before))
    ]
    windows = []
    for plane, moved in ((before, -((vectors + 1) // 2)), (after, vectors - (vectors + 1) // 2)):
        y, x = (
            np.clip(side + moved[..., axis, None, None], 0, length - 1)
            for axis, (side, length) in enumerate(zip(sides, plane.shape, strict=True))
        )
        windows.append(plane[y, x])
    change = windows[1] - windows[0]
    if without_mean:
        change = change - change.mean((2, 3), keepdims=True)
    return np.abs(change).mean((2, 3))


def block_vectors(before, after, sizes=SIZES):
    """From coarse to fine: the vectors of the picture of half the size, and those near to them, compete."""
    coarse = None
    if sizes > 1:
        coarse = 2 * block_vectors(halved(before), halved(after), sizes - 1)
    shape = tuple(len(nodes) for nodes in grid(before))
    best = np.zeros((*shape, 2), int)
    if coarse is None:
        tried = [best + np.array((y, x)) for y in range(-REACH, REACH + 1) for x in range(-REACH, REACH + 1)]
        expected = best
    else:
        rows, columns = ((np.arange(count) + 1) // 2 for count in shape)
        near = [
            coarse[np.clip(rows + y, 0, len(coarse) - 1)][:, np.clip(columns + x, 0, coarse.shape[1] - 1)]
            for y, x in _AROUND
        ]
        tried, expected = near, near[4]

    def cost(vectors):
        off = np.minimum(np.abs(vectors - expected).sum(-1), 8)
        return difference(before, after, vectors, BLOCK // 2) + _SMOOTH * off + _STILL * vectors.any(-1)

    lowest = cost(best)

    def attempt(vectors):
        nonlocal best, lowest
        new = cost(vectors)
        best = np.where((new < lowest)[..., None], vectors, best)
        lowest = np.minimum(new, lowest)

    for vectors in tried:
        attempt(vectors)
    for _ in range(0 if coarse is None else 2):
        for step in [best + np.array(offset) for offset in _AROUND]:
            attempt(step)
    return best


def halved(plane):
    padded = np.pad(plane, [(0, side % 2) for side in plane.shape], "edge")
    return (padded[::2, ::2] + padded[::2, 1::2] + padded[1::2, ::2] + padded[1::2, 1::2] + 2) >> 2


def compensated(before, after, vectors):
    """Both frames moved to the middle, block by block, and blended; blocks fade into each other between their nodes."""
    a, b = gray(before), gray(after)
    # A fade from one picture to the other is right already: the blend is judged without the change of brightness.
    blend = difference(a, b, 0 * vectors, BLOCK, without_mean=True)
    vectors = np.where((difference(a, b, vectors, BLOCK) < _KEPT * blend)[..., None], vectors, 0)
    height, width = a.shape
    y, x = np.mgrid[:height, :width]
    out = np.zeros(before.shape)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        vector = vectors[y // BLOCK + down, x // BLOCK + right]
        share = np.ones((height, width))
        for place, far in ((y, down), (x, right)):
            rest = (place % BLOCK + 0.5) / BLOCK
            share *= rest if far else 1 - rest
        moved = [
            sampled(frame, y + sign * vector[..., 0] / 2, x + sign * vector[..., 1] / 2)
            for frame, sign in ((before, -1), (after, 1))
        ]
        out += share[..., None] * (moved[0] + moved[1]) / 2
    return (out + 0.5).astype(np.uint8)


def sampled(frame, y, x):
    """Bilinear; what is outside is like the edge."""
    floors = np.floor(y).astype(int), np.floor(x).astype(int)
    out = np.zeros(frame.shape)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = 1 - np.abs(y - floors[0] - down), 1 - np.abs(x - floors[1] - right)
        rows, columns = (
            np.clip(floor + step, 0, side - 1)
            for floor, step, side in zip(floors, (down, right), frame.shape, strict=False)
        )
        out += (share[0] * share[1])[..., None] * frame[rows, columns]
    return out


def codec_vectors(before, after):
    """Those of H.264, at the places where its blocks are half way."""
    height, width = before.shape[:2]
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("libx264", 25, {"bf": "0", "crf": "18", "x264-params": "scenecut=0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in (before, after):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    vectors = np.zeros((height, width, 2), int)
    with av.open(file) as container:
        container.streams.video[0].codec_context.options = {"flags2": "+export_mvs"}
        *_, frame = container.decode(video=0)
        for side in frame.side_data:
            if side.type.name == "MOTION_VECTORS":
                for v in side.to_ndarray():
                    moved = np.array([v["motion_y"], v["motion_x"]]) / v["motion_scale"]  # from the frame after
                    top, left = (np.array([v["dst_y"] - v["h"] // 2, v["dst_x"] - v["w"] // 2]) + moved / 2).round()
                    rows, columns = (
                        slice(max(int(start), 0), max(int(start + size), 0))
                        for start, size in ((top, v["h"]), (left, v["w"]))
                    )
                    vectors[rows, columns] = -moved.round()
    rows, columns = (np.minimum(node, side - 1) for node, side in zip(grid(before), (height, width), strict=True))
    return vectors[rows][:, columns]


def ffmpeg(frames):
    """{number of a left-out frame: what ffmpeg makes of it}; every second frame is left out."""
    height, width = frames.shape[1:3]
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=fractions.Fraction(1, 50))
    nodes = [source, graph.add("format", "yuv444p"), graph.add("minterpolate", "fps=50:mi_mode=mci:scd=none")]
    nodes += [graph.add("format", "rgb24"), graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()
    for number, frame in enumerate(frames[::2]):
        given = av.VideoFrame.from_ndarray(frame, format="rgb24")
        given.pts, given.time_base = 2 * number, fractions.Fraction(1, 50)
        graph.push(given)
    graph.push(None)
    made = {}
    while True:
        try:
            frame = graph.pull()
        except (av.error.EOFError, av.error.BlockingIOError):
            return {number: frame for number, frame in made.items() if number % 2}
        made[round(float(frame.pts * frame.time_base) * 50)] = frame.to_ndarray(format="rgb24")


# The table


def error(a, b):
    return float(np.square(a.astype(np.float32) - b).mean())


def psnr(errors):
    return 10 * np.log10(255**2 / max(np.mean(errors), 1e-6))


def measure(path, options):
    """For left-out frames, spread over a video: the error to each neighbour, and of each way."""
    frames = read(path, options.size, options.most)
    with_ffmpeg = ffmpeg(frames) if len(frames) > 4 else {}
    left_out = np.array([i for i in range(1, len(frames) - 1, 2) if i in with_ffmpeg])
    if not len(left_out):
        return
    spread = np.linspace(0, len(left_out) - 1, options.frames).round().astype(int)
    for i in np.unique(left_out[spread]).tolist():
        before, middle, after = frames[i - 1 : i + 2]
        made = {way.__name__: way(before, after) for way in (nearest, linear, blocks, codec, *options.ways)}
        made["ffmpeg"] = with_ffmpeg[i]
        yield (error(before, middle), error(after, middle)), {name: error(out, middle) for name, out in made.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path, help="folders or files; a row of the table each")
    parser.add_argument("--every", type=int, default=1, help="only each n-th video of a folder (default: 1)")
    parser.add_argument("--frames", type=int, default=4, help="left out of each video (default: 4)")
    parser.add_argument("--most", type=int, default=150, help="frames read of a video (default: 150)")
    parser.add_argument("--size", type=int, default=256, help="pixels of the shorter side (default: 256)")
    parser.add_argument("--networks", nargs="+", default=[], help="files of trained networks, and phase")
    options = parser.parse_args()
    options.ways = [by_network(path) for path in options.networks]
    ways = ("nearest", "linear", "blocks", "codec", "ffmpeg", *(way.__name__ for way in options.ways))
    print(f"| videos | left-out frames | {' | '.join(ways)} |\n|---|---|{'---|' * len(ways)}", flush=True)
    for folder in options.videos:
        paths = sorted(path for path in folder.rglob("*") if path.suffix in VIDEOS) if folder.is_dir() else [folder]
        found = [list(measure(path, options)) for path in paths[:: options.every]]
        for title, least in (("all", 0), ("in the middle", 1 / 4)):
            errors = defaultdict(list)
            for video in found:
                kept = [made for near, made in video if min(near) > 0 and min(near) > least * max(near)]
                for way in ways if kept else ():
                    errors[way].append(psnr([made[way] for made in kept]))
            line = [f"{np.mean(errors[way]):.1f}" if errors[way] else "-" for way in ways]
            print(f"| {folder.name}, {len(errors['linear'])} | {title} | {' | '.join(line)} |", flush=True)


if __name__ == "__main__":
    main()
