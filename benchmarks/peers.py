"""Speed and exactness compared with tuned peers, each in an environment of its own.

    python benchmarks/peers.py VIDEOS --environments FOLDER [--exactness FOLDER] [--recipe basic|full] [--json FILE]

VIDEOS has a sub-folder for each class. FOLDER gets a virtual environment for each peer, by benchmarks/peers.txt, at the
first run. Videos of five encodings and two sizes are made there too (--no-made leaves them out).

Speed: in turn in each round, every loader in a process of its own, with a time limit, on the same clips in the same
order: crop, flip, normalise ("full": also RandAugment, and CutMix or its like). Clips per second from the first batch
on. No verdict where the rounds differ by more than the gain.

Exactness: random clips over --exactness (default: VIDEOS) and the made videos. A frame that a peer returns is compared,
by its luma in 64 x 64 tiles, with all frames of a full decode (PyAV, from the first packet, no seek). A frame is right
if the wanted frame is the nearest, or within 0.25 levels of the nearest (frames that cannot be told apart); "other" if
another is nearer; "none" if all are more than 12 levels away. A linear change of levels, and the eight orientations,
count as the same: colours and rotation are not what is asked here.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

import dali_vidaug as dv

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
from full_decode import full_decode  # noqa: E402
from peer_worker import PACKAGES, clips_per_second, signature  # noqa: E402
from usage import endless  # noqa: E402

OURS = "dali_vidaug"
SPEED = (
    "torchcodec exact",
    "torchcodec exact, transforms",
    "torchcodec approximate",
    "torchcodec approximate, transforms",
    "spdl",
    "decord",
    "pyav",
)
EXACTNESS = ("torchcodec exact", "torchcodec approximate", "spdl", "decord", "pyav")
MADE = {  # name: codec, options
    "h264_gop12": ("libx264", {"g": "12", "bf": "2", "preset": "fast"}),
    "h264_gop250": ("libx264", {"g": "250", "bf": "2", "preset": "fast"}),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": "keyint=60:bframes=2:log-level=none"}),
    "vp9": ("libvpx-vp9", {"g": "60", "deadline": "realtime", "cpu-used": "8", "b": "1M"}),
    "av1": ("libsvtav1", {"g": "60", "preset": "12", "svtav1-params": "pred-struct=2"}),
}
SIZES = ((340, 256), (1920, 1080))
SAME, NONE = 0.25, 12  # levels of 255
SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".ts"}
CLIP_SECONDS = 30  # a worker that has not finished a clip by then hangs


# ---- What is measured on


def environment(folder, peer, pip_arguments):
    """The Python of a peer; made at the first call."""
    python = folder / peer / "bin" / "python"
    done = folder / peer / "installed"
    wanted, name = [], ""
    for line in (HERE / "peers.txt").read_text().splitlines():
        if line.endswith(":") and not line.startswith("#"):
            name = line[:-1]
        elif line and not line.startswith("#") and name in ("common", peer):
            wanted.append(line)
    listed = "\n".join(wanted)
    if not done.exists() or done.read_text() != listed:
        print(f"installing {peer} into {folder / peer}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder / peer], check=True)
        command = [python, "-m", "pip", "install", "--quiet", "--no-deps", *pip_arguments, *wanted]
        subprocess.run(command, check=True)
        done.write_text(listed)
    return python


def make_video(path, codec, options, width, height, num_frames=300):
    """Texture that moves, and a bright bar that is elsewhere in each frame, so that no two frames look alike."""
    noise = np.random.default_rng(0).random((height // 8 + 64, width // 8 + 64))
    texture = np.kron(noise, np.ones((8, 8))) * 160
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(num_frames):
            picture = texture[i : i + height, i % 150 : i % 150 + width].astype(np.uint8)
            picture[:, (i * 97) % (width - width // 20) :][:, : width // 20] = 250
            frame = av.VideoFrame.from_ndarray(np.repeat(picture[..., None], 3, 2), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def made_folders(folder, made=None, sizes=SIZES, num_frames=300):
    """{name: folder of a class folder with a video}; without encodings that this PyAV cannot write."""
    found = {}
    for width, height in sizes:
        for name, (codec, options) in (MADE if made is None else made).items():
            what = f"{name}_{width}x{height}"
            path = folder / what / "made" / f"{what}.mp4"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = path.with_name("partial.mp4")
                try:
                    make_video(partial, codec, options, width, height, num_frames)
                except (av.error.FFmpegError, ValueError) as error:
                    print(f"{name}: this PyAV cannot write it ({error})")
                    partial.unlink(missing_ok=True)
                    continue
                partial.replace(path)
            found[what] = path.parent.parent
    return found


# ---- Exactness


def random_jobs(paths, count, seed=0, num_frames=16):
    """``count`` clips: the files in turn, a stride of 1 to 4, random starts; and the signatures of all frames."""
    rng, lengths, jobs = np.random.default_rng(seed), {}, []
    for path in paths:
        full = full_decode(path)
        if full.num_frames:
            lengths[path] = np.stack([signature(frame) for frame in full.frames])
    names = list(lengths)
    for i in range(count):
        path = names[i % len(names)]
        last, stride = len(lengths[path]) - 1, int(rng.integers(1, 5))
        start = int(rng.integers(0, max(1, last - (num_frames - 1) * stride) + 1))
        frames = [min(start + stride * k, last) for k in range(num_frames)]
        jobs.append({"path": str(path), "frames": sorted(set(frames))})
    return jobs, {str(path): values for path, values in lengths.items()}


def orientations(signatures):
    """(N, S, S) in all eight orientations: (8, N, S, S)."""
    both = (signatures, signatures.swapaxes(1, 2))
    return np.stack([s[:, ::a, ::b] for s in both for a in (1, -1) for b in (1, -1)])


def distances(returned, full):
    """(F, N): RMS difference of luma, after the best linear change of levels of the returned frame."""
    a, b = returned.reshape(len(returned), -1), full.reshape(len(full), -1)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    power_a, power_b, product = (a * a).mean(1), (b * b).mean(1), a @ b.T / a.shape[1]
    gain = np.clip(product / np.maximum(power_a[:, None], 1e-6), 0.7, 1.4)
    # flat frames have no pattern: their means tell them apart
    flat = 0.1 * np.abs(returned.mean((1, 2))[:, None] - full.mean((1, 2)))
    squares = gain**2 * power_a[:, None] - 2 * gain * product + power_b
    return np.sqrt(np.maximum(squares, 0)) + np.maximum(flat - 2.5, 0)


def judge(returned, frames, full):
    """Of the frames of a clip: how many are right, another frame, no frame of the video."""
    turned = orientations(returned)
    every = np.stack([distances(t, full) for t in turned])
    matrix = every[every.min(2).sum(1).argmin()]  # the orientation that fits best
    wanted, nearest = matrix[np.arange(len(frames)), frames], matrix.min(1)
    right = (wanted <= nearest + SAME) & (nearest <= NONE)
    none = nearest > NONE
    return int(right.sum()), int((~right & ~none).sum()), int(none.sum())


def check_judge(jobs, full):
    """The judge finds a clip of the full decode right, and one that is a frame late wrong where frames differ."""
    late = seen = 0
    for job in jobs[:100]:
        frames, signatures = np.array(job["frames"]), full[job["path"]]
        assert judge(signatures[frames], frames, signatures)[0] == len(frames)
        shifted = frames[frames + 1 < len(signatures)]
        if len(shifted):
            late += judge(signatures[shifted + 1], shifted, signatures)[0]
            seen += len(shifted)
    return late / max(seen, 1)


def run_exactness(python, peer, jobs, out):
    """Start the worker, again after the clip at which it crashed or hung, until all clips are done."""
    spec, begin = out / "jobs.json", 0
    spec.write_text(json.dumps({"jobs": jobs}))
    while begin < len(jobs):
        (out / "at").unlink(missing_ok=True)
        command = [python, HERE / "peer_worker.py", "exactness", peer, spec, out, str(begin)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        last, since = "", time.monotonic()
        while process.poll() is None:
            time.sleep(0.05)
            now = (out / "at").read_text() if (out / "at").exists() else ""
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > CLIP_SECONDS:
                process.kill()
                process.wait()
                (out / f"{int(last or begin)}.hang").touch()
        if process.returncode == 0:
            return
        begin = int((out / "at").read_text()) if (out / "at").exists() else begin
        if not (out / f"{begin}.hang").exists():
            (out / f"{begin}.crash").touch()
        begin += 1


def our_clips(jobs, out):
    """The same files through our scan and decoder, without crop."""
    from dali_vidaug.media.decode import decode

    samples = dv.scan(sorted({job["path"] for job in jobs}), labels=None)
    rows = {str(samples.path(i)): i for i in range(len(samples))}
    for number, job in enumerate(jobs):
        try:
            row = rows.get(job["path"])
            assert row is not None, "left out by the scan"
            clip = decode(samples.video(row), np.array(job["frames"])).pixels
            np.save(out / f"{number}.npy", np.stack([signature(frame) for frame in clip]))
        except Exception as error:
            (out / f"{number}.txt").write_text(f"{type(error).__name__}: {error}"[:300])


def count_exactness(jobs, full, out):
    """A row of the table, and what went wrong with each file."""
    row = dict.fromkeys(("right", "other", "none", "refused", "crash", "hang"), 0)
    row["clips"] = clips = 0
    files = {}
    for number, job in enumerate(jobs):
        if (out / f"{number}.npy").exists():
            right, other, none = judge(np.load(out / f"{number}.npy"), job["frames"], full[job["path"]])
            counts = {"right": right, "other": other, "none": none}
            clips += right == len(job["frames"])
        else:
            kind = (
                "crash" if (out / f"{number}.crash").exists() else "hang" if (out / f"{number}.hang").exists() else ""
            )
            counts = {kind or "refused": len(job["frames"])}
        for key, value in counts.items():
            row[key] += value
            if value and key != "right":
                of_file = files.setdefault(Path(job["path"]).name, {})
                of_file[key] = of_file.get(key, 0) + value
        if (out / f"{number}.txt").exists():
            files[Path(job["path"]).name]["error"] = (out / f"{number}.txt").read_text()
    return {**row, "clips": clips, "files": files}


def exactness(sets, pythons, count):
    """{set: {peer: row}}."""
    results = {}
    for name, paths in sets.items():
        jobs, full = random_jobs(paths, count if name != "made" else max(len(paths), count // 5))
        alike = check_judge(jobs, full)
        total = sum(len(job["frames"]) for job in jobs)
        print(f"{name}: {len(jobs)} clips, {total} frames; a frame late would pass for {alike:.1%} of them", flush=True)
        rows = results[name] = {}
        for peer in (OURS, *EXACTNESS):
            if peer != OURS and peer.split()[0] not in pythons:
                continue
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder)
                if peer == OURS:
                    our_clips(jobs, out)
                else:
                    run_exactness(pythons[peer.split()[0]], peer, jobs, out)
                rows[peer] = count_exactness(jobs, full, out)
        print_exactness(name, rows, total, len(jobs))
    return results


def print_exactness(name, rows, total, num_clips):
    print(f"\n| {name}: {total} frames of {num_clips} clips | right | another frame | no frame of the video | "
          "refused | crash | hang | clips all right |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for peer, row in rows.items():
        cells = [row[key] for key in ("right", "other", "none", "refused", "crash", "hang", "clips")]
        print(f"| {peer} | {' | '.join(map(str, cells))} |")
    for peer, row in rows.items():
        for file, counts in sorted(row["files"].items()):
            print(f"  {peer}: {file}: {counts}")
    print(flush=True)


# ---- Speed


def recipe_of(name):
    ops = [dv.RandomResizedCrop(224), dv.RandomHorizontalFlip()]
    if name == "full":
        ops += [dv.RandAugmentT(num_ops=2, interpolation="nearest"), dv.OneOf(ops=(dv.CubeCutMix(), dv.FadeMixUp()))]
    return dv.Recipe(dv.ClipSampling(num_frames=16, stride=2), (*ops, dv.Normalize()))


def our_speed(manifest, recipe, batch_size, workers, seconds, epoch, count=clips_per_second):
    with dv.VideoLoader(manifest, recipe, batch_size, num_threads=workers, drop_last=False) as loader:
        loader.set_epoch(epoch)
        rate = count(endless(loader), seconds)
        assert loader.report().replaced == 0, str(loader.report())
    return rate


def speed(name, folder, pythons, rounds, options):
    """{loader: clips per second in each round, None where it failed}."""
    manifest, recipe = dv.scan(str(folder)), recipe_of(options.recipe)
    if len(manifest) < options.batch_size:  # a made video many times
        manifest = manifest.select(np.zeros(64, int))
    rates = {}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as scratch:
            spec = write_jobs(Path(scratch) / "jobs.json", manifest, recipe, number, options)
            for peer in (OURS, *SPEED):
                if peer == OURS:
                    rate = our_speed(manifest, recipe, options.batch_size, options.workers, options.seconds, number)
                elif peer.split()[0] in pythons:
                    rate = peer_speed(pythons[peer.split()[0]], peer, spec, options)
                else:
                    continue
                rates.setdefault(peer, []).append(rate)
        print(f"{name}, round {number + 1}: " + ", ".join(
            f"{peer} {values[-1]:.1f}" if values[-1] else f"{peer} failed" for peer, values in rates.items()
        ), flush=True)  # fmt: skip
    return rates


def jobs_of(manifest, plan):
    """The clips of a plan, for a worker."""
    jobs = []
    for sample, frames in zip(plan.samples.tolist(), plan.frames.tolist(), strict=True):
        video = manifest.video(sample)
        jobs.append({"path": str(video.path), "frames": frames, "label": int(manifest.labels[sample]),
                     "height": video.height, "width": video.width})  # fmt: skip
    return jobs


def write_jobs(spec, manifest, recipe, number, options):
    """Write the clips of an epoch in the order of our loader, for a worker; returns the file."""
    loader = dv.VideoLoader(manifest, recipe, options.batch_size, drop_last=False)
    batches = range(max(1, len(manifest) // options.batch_size))
    order = np.concatenate([loader.schedule.batch(number, i)[0] for i in batches])
    jobs = jobs_of(manifest, dv.draw_plan(manifest, recipe, order, 0, number))
    spec.write_text(json.dumps({"batch_size": options.batch_size, "workers": options.workers,
                                "classes": max(2, len(manifest.classes)), "jobs": jobs}))  # fmt: skip
    return spec


def run_worker(python, arguments, limit, **options):
    """What a worker printed last, and why there is nothing: one of the two is None."""
    command = [python, HERE / "peer_worker.py", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False, **options)
    except subprocess.TimeoutExpired:
        return None, "hangs"
    except OSError as error:  # no such Python
        return None, str(error)
    lines = done.stdout.splitlines()
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:200]
    return (lines or [""])[-1], None


def peer_speed(python, peer, spec, options, what="speed"):
    """What a worker counts; None, with the last line of what it said, if it fails."""
    found, why = run_worker(python, [what, peer, spec, str(options.seconds), options.recipe], 300 + 3 * options.seconds)
    if why:
        print(f"  {peer}: {why}")
        return None
    return json.loads(found)


def print_speed(results):
    """Medians with the range of the rounds, and ours compared with the fastest peer of each round."""
    for name, rates in results.items():
        print(f"\n| {name} | clips/s, median | rounds | ours is so many times as fast |\n|---|---|---|---|")
        for peer, values in rates.items():
            if None in values:
                print(f"| {peer} | failed | | |")
                continue
            ratios = [a / b for a, b in zip(rates[OURS], values, strict=True)]
            print(f"| {peer} | {statistics.median(values):.1f} | {min(values):.1f} to {max(values):.1f} | "
                  f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")  # fmt: skip
        others = {peer: values for peer, values in rates.items() if peer != OURS and None not in values}
        if others:
            ratios = [a / max(b) for a, *b in zip(rates[OURS], *others.values(), strict=True)]
            low, high = min(ratios), max(ratios)
            verdict = f"at least {math.floor(low * 10) / 10} times as fast" if low > 1 else "not always the fastest"
            if len(ratios) < 2:
                verdict = "no verdict by one round"
            elif high - low > abs(statistics.median(ratios) - 1):
                verdict = "no verdict: the rounds differ by more than the gain"
            print(f"\nCompared with the fastest peer of each round: {low:.2f} to {high:.2f}; {verdict}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="folder with a sub-folder for each class")
    parser.add_argument("--environments", type=Path, required=True, help="where environments and made videos are kept")
    parser.add_argument("--exactness", type=Path, help="folder of videos for the table of exactness (default: VIDEOS)")
    parser.add_argument("--clips", type=int, default=1000, help="random clips of that table; 0: no table (1000)")
    parser.add_argument("--rounds", type=int, default=5, help="of the speed; 0: no speed (5)")
    parser.add_argument("--made-rounds", type=int, default=2, help="for each of the videos that are made (2)")
    parser.add_argument("--seconds", type=float, default=5, help="for each loader in each round (5)")
    parser.add_argument("--recipe", choices=("basic", "full"), default="basic")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--peers", nargs="+", choices=PACKAGES, default=list(PACKAGES))
    parser.add_argument("--no-made", action="store_true", help="leave out the videos that are made here")
    parser.add_argument("--pip", default="", help="more arguments for pip, as one word")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    folder = options.environments.absolute()
    pythons = {peer: environment(folder, peer, options.pip.split()) for peer in options.peers}
    worker = HERE / "peer_worker.py"
    versions = {
        PACKAGES[peer]: subprocess.run(
            [python, worker, "version", peer, "-"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for peer, python in pythons.items()
    }
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    made = {} if options.no_made else made_folders(folder / "made")
    results = {"versions": versions, "options": {k: str(v) for k, v in vars(options).items()}}
    if options.clips:
        source = options.exactness or options.videos
        paths = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
        sets = {source.name: paths}
        if made:
            sets["made"] = [path / "made" / f"{name}.mp4" for name, path in made.items()]
        results["exactness"] = exactness(sets, pythons, options.clips)
    if options.rounds:
        folders = [(options.videos.name, options.videos, options.rounds)]
        folders += [(name, path, options.made_rounds) for name, path in made.items()]
        results["speed"] = {name: speed(name, path, pythons, rounds, options) for name, path, rounds in folders}
        print_speed(results["speed"])
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
