"""The peers of benchmarks/gpu.py: torch's DataLoader with torchcodec, in a process each, so that none stops the rest.

Their frames are compared before they are timed, with those that PyAV decodes and the frames beside them.
"""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
from peer_worker import PACKAGES, signature
from peers import jobs_of, judge, run_worker

from dali_vidaug.media.decode import decode

PEERS = ("torchcodec exact", "torchcodec approximate", "torchcodec CUDA exact", "torchcodec CUDA approximate")
OTHERS = ("spdl", "decord", "pyav")
CHECKED = 3  # clips whose frames are compared
AWAY_MAX = 12.0  # levels of 255 by which a frame may be off on average: matrices of colours differ, and rounding
STARTING = 120  # seconds that a worker may take to import what it needs, and to make its first batches


def environment_of(device_id):
    """Where a worker sees one GPU, the loader's; none without one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    one = "" if device_id is None else visible[device_id] if visible[0] else str(device_id)
    return {**os.environ, "CUDA_VISIBLE_DEVICES": one}


def why_not(peer, python, settings):
    """Why a peer cannot be asked at all, or None."""
    if "CUDA" in peer and settings.device != "gpu":
        return "no GPU"
    name = peer.split()[0]
    why = run_worker(python, ["version", name, "-"], STARTING)[1]
    return f"not installed: pip install {PACKAGES[name]} ({why})" if why else None


def write_spec(folder, manifest, plan, setting, batch_size, settings):
    """The clips of a plan, as a worker wants them; returns the file."""
    spec = {
        "batch_size": batch_size, "workers": settings.num_threads, "classes": max(2, len(manifest.classes)),
        "size": setting.size, "cropped": setting.cropped, "device": "cuda" if settings.device == "gpu" else "cpu",
        "jobs": jobs_of(manifest, plan),
    }  # fmt: skip
    path = Path(folder) / "jobs.json"
    path.write_text(json.dumps(spec))
    return path


def disagreement(returned, video, frames):
    """How the frames that a peer returned for a clip are not those that were asked for.

    Args:
        returned: (F, H, W, 3) uint8.
        video: the row of the manifest.
        frames: (F,) int, rising.

    Returns:
        Why they are others, or None; by how many levels of 255 they are off on average, None where sizes differ.
    """
    indices = np.unique(np.concatenate([frames - 1, frames, frames + 1]).clip(0, video.num_frames - 1))
    right = decode(video, indices, color="file").pixels
    at = np.searchsorted(indices, frames)
    signatures = [np.stack([signature(frame) for frame in clip]) for clip in (returned, right)]
    if len(returned) != len(frames):
        return f"{len(frames)} frames were asked for, {len(returned)} came", None
    count = judge(signatures[0], at, signatures[1])[0]
    away = None
    if returned.shape[1:] == right.shape[1:]:  # files may be turned in one only
        away = max(float(np.abs(one.astype(int) - right[i]).mean()) for one, i in zip(returned, at, strict=True))
    if count < len(frames):
        return f"{len(frames) - count} of {len(frames)} frames are others", away
    if away is not None and not away <= AWAY_MAX:
        return f"a frame is off by {away:.1f} of 255 on average", away
    return None, away


def check_peer(peer, python, manifest, plan, settings):
    """Compare the frames of some clips.

    Returns:
        Why the peer is not timed, or None; the largest mean difference of a frame, in levels of 255.
    """
    firsts = np.unique(plan.samples, return_index=True)[1][:CHECKED]
    clips = [(manifest.video(int(plan.samples[i])), np.unique(plan.frames[i]).astype(int)) for i in firsts]
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "frames.json"
        jobs = [{"path": str(video.path), "frames": frames.tolist()} for video, frames in clips]
        spec.write_text(json.dumps({"jobs": jobs}))
        environment = environment_of(settings.device_id)
        why = run_worker(python, ["frames", peer, spec, folder], STARTING, env=environment)[1]
        if why:
            return f"failed: {why}", None
        worst = None
        for number, (video, frames) in enumerate(clips):
            failure = Path(folder) / f"{number}.txt"
            if failure.exists():
                return f"failed: {video.path}: {failure.read_text()}", worst
            why, away = disagreement(np.load(Path(folder) / f"{number}.npy"), video, frames)
            if why:
                return f"frames differ, not timed: {video.path}: {why}", away
            worst = away if worst is None or (away or 0) > worst else worst
    return None, worst


def time_peer(peer, python, spec, seconds, settings):
    """What ``usage.measure`` says of it, and why there is nothing: one of the two is None."""
    command = ["usage", peer, spec, str(seconds), "basic"]
    found, why = run_worker(python, command, STARTING + 3 * seconds, env=environment_of(settings.device_id))
    return (None, f"failed: {why}") if why else (json.loads(found), None)


def name_of(peer):
    """In the table."""
    if peer == "spdl":
        return "SPDL's pipeline (CPU, threads)"
    where = "NVDEC, threads" if "CUDA" in peer else "CPU, processes"
    return f"torch DataLoader, {peer.replace('CUDA ', '')} ({where})"
