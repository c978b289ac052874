"""Flip random bits in real videos and count what comes of it: ``python tests/flip_bits.py FOLDER``.

Of each flipped file, scanned plainly and deeply, clips are drawn and decoded. A frame that is delivered must look like
the frame of the same index of the unharmed file, or like its neighbour; otherwise the clip must be reported. For clips
that are wrong without a report, their packets are decoded once more by FFmpeg's default decoder, which tells whether it
reports an error or marks a frame. Prints a table, and exits with 1 if any clip is wrong in which it does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import av
import numpy as np
from full_decode import Full, full_decode

import dali_vidaug as dv
from dali_vidaug.errors import one_line
from dali_vidaug.media.cut import READ_ERRORS, open_video, read_cuts
from dali_vidaug.media.decode import decode, decode_cut
from dali_vidaug.media.video import Video

FILES = (
    "WUzgd7C1pWA.mp4", "mmaction2_demo.mp4", "flipping_a_pancake.mkv", "sample_h264.ts", "foreman-hevc-384.mp4",
    "test_hevc10.mkv", "v_SoccerJuggling_g23_c01.avi", "PaddleVideo_example.avi", "big_buck_bunny_432_433.webm",
    "bear-vp9-odd-dimensions.webm", "av1_video.mkv", "100_0306.AVI",
)  # fmt: skip
LEVELS = 3  # mean absolute difference up to which two frames are the same
SAMPLING = dv.ClipSampling(num_frames=16, stride=(1, 2))


def payload_bytes(path: Path) -> np.ndarray:
    """The places in a file of the bytes of its video packets, without their first four bytes; (N,) int64."""
    data, places = path.read_bytes(), []
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        for packet in container.demux(stream):
            body = bytes(packet)
            if len(body) > 8 and packet.pos is not None and packet.pos >= 0:
                at = data.find(body[:64], packet.pos, packet.pos + 256 + len(body))
                if at >= 0 and data[at : at + len(body)] == body:
                    places.append(np.arange(at + 4, at + len(body)))
    if not places:  # transport streams cut their packets into pieces of 184 bytes: all but the pieces' headers
        every = np.arange(len(data))
        return every[(every % 188 >= 24) & (every > 188 * 8)]
    return np.concatenate(places)


def flip(path: Path, target: Path, count: int, anywhere: bool, seed: int) -> None:
    """Write a copy of a file with ``count`` bits flipped, in the packets of its video or anywhere."""
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng([seed, count, anywhere, *path.name.encode()])
    places = np.arange(len(data)) if anywhere else payload_bytes(path)
    for at in rng.choice(places, count, replace=False):
        data[at] ^= 1 << int(rng.integers(8))
    target.write_bytes(data)


def noticed(video: Video, frames: np.ndarray, options: dict[str, str]) -> bool:
    """Whether FFmpeg reports an error, or marks a frame, when it decodes the packets that a clip needs."""
    wanted = set(frames.tolist())
    with open_video(video.path, video.stream) as (container, stream):
        codec = stream.codec_context
        codec.options = options
        for cut in read_cuts(container, stream, video, frames):
            try:
                for frame, index in decode_cut(codec, cut, video, wanted):
                    wanted.discard(index)
                    if frame.is_corrupt:
                        return True
            except READ_ERRORS:
                return True
    return False


def judge(pixels: np.ndarray, original: Full, frames: np.ndarray) -> tuple[int, int]:
    """How many delivered frames are wrong, and how many of those are another frame of the original, (wrong, moved)."""
    wrong = moved = 0

    def like(picture, index, step=1):
        expected = original.shown(index) if 0 <= index < original.num_frames else None
        if expected is None or expected.shape != picture.shape:
            return False
        return np.abs(picture[::step, ::step].astype(np.int16) - expected[::step, ::step]).mean() <= LEVELS

    for picture, index in zip(pixels, frames.tolist(), strict=True):
        if any(like(picture, index + n) for n in (0, -1, 1)):
            continue
        wrong += 1
        moved += any(like(picture, index + n, step=4) for n in (*range(-12, -1), *range(2, 13)))
    return wrong, moved


def load_clips(path: Path, original: Full, clips: int, deep: bool) -> Counter:
    """Scan a flipped file, load clips of it, and count: clips and frames by outcome."""
    counts: Counter = Counter(clips=clips)
    try:
        manifest = dv.scan(path, deep=deep, progress=False)
    except ValueError:
        counts["refused"] = clips
        return counts
    video, recipe = manifest.video(0), dv.Recipe(SAMPLING, ())
    for epoch in range(clips):
        frames = dv.draw_plan(manifest, recipe, [0], seed=1, epoch=epoch).frames[0]
        try:
            pixels = decode(video, frames).pixels
        except READ_ERRORS as error:
            counts["reported"] += 1
            counts[f"reason: {one_line(error)[:60]}"] += 1
            continue
        wrong, moved = judge(pixels, original, frames)
        counts.update({"frames": len(frames), "wrong frames": wrong, "moved frames": moved})
        if not wrong:
            counts["right"] += 1
            continue
        known = noticed(video, frames, {}), noticed(video, frames, {"err_detect": "explode"})
        counts["wrong"] += 1
        counts["wrong, noticed" if known[0] else "wrong, explode" if known[1] else "wrong, unknown"] += 1
        counts["wrong frames, unknown"] += wrong * (not any(known))
    return counts


COLUMNS = (
    "clips", "refused", "right", "reported", "wrong", "wrong, noticed", "wrong, explode", "wrong, unknown",
    "frames", "wrong frames", "moved frames", "wrong frames, unknown",
)  # fmt: skip


def run(files: list[Path], clips: int, flips: tuple[int, ...], seed: int = 0, places=(False, True)) -> dict:
    """Flip, scan, load and count: {(codec, bits flipped, "payload" or "anywhere", "plain" or "deep"): counts}."""
    table: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            original = full_decode(path)
            with av.open(str(path)) as container:
                codec = container.streams.best("video").codec_context.codec.canonical_name
            for count in flips:
                for anywhere in places:
                    target = Path(folder) / path.name
                    flip(path, target, count, anywhere, seed)
                    for deep in (False, True):
                        where = ("payload", "anywhere")[anywhere]
                        counts = load_clips(target, original, clips, deep)
                        key = (codec, count, where, ("plain", "deep")[deep])
                        table.setdefault(key, Counter()).update(counts)
                        said = ", ".join(f"{name} {counts[name]}" for name in COLUMNS[:8] if counts[name])
                        print(f"{path.name}: {count} {where}, {key[3]}: {said}", file=sys.stderr, flush=True)
    return table


def markdown(table: dict) -> str:
    """The counts as tables: by codec, by bits flipped, and in all, for the plain and for the deep scan."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    groups: dict = {}
    for (codec, count, where, depth), counts in table.items():
        for name in (codec, f"{count} {where}", "all"):
            groups.setdefault((depth, name), Counter()).update(counts)
    for (depth, name), counts in sorted(groups.items(), key=lambda item: (item[0][0] == "deep", str(item[0][1]))):
        lines.append(f"| {name}, {depth} | " + " | ".join(str(counts[c]) for c in COLUMNS) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="a folder with files of the names in FILES")
    parser.add_argument("--clips", type=int, default=40, help="clips of each flipped file (default: 40)")
    parser.add_argument("--flips", default="3,10,100", help="numbers of bits to flip (default: 3,10,100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--payload-only", action="store_true", help="leave out flips outside the video's packets")
    parser.add_argument("--only", default="", help="only files whose name contains this")
    arguments = parser.parse_args()
    files = [arguments.videos / name for name in FILES if arguments.only in name]
    if missing := [path.name for path in files if not path.exists()]:
        parser.error(f"not in {arguments.videos}: {', '.join(missing)}")
    places = (False,) if arguments.payload_only else (False, True)
    table = run(files, arguments.clips, tuple(map(int, arguments.flips.split(","))), arguments.seed, places)
    total: Counter = sum(table.values(), Counter())
    print(markdown(table))
    reasons = Counter({name: n for name, n in total.items() if name.startswith("reason: ")})
    print("\nReasons of reported clips:\n" + "\n".join(f"{n:6} {name[8:]}" for name, n in reasons.most_common(15)))
    return 1 if total["wrong, noticed"] + total["wrong, explode"] else 0


if __name__ == "__main__":
    sys.exit(main())
