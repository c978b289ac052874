"""benchmarks/peers.py: its judge says which frame a picture is; its workers may crash, hang and refuse."""

import sys
from pathlib import Path

import numpy as np
import pytest
from full_decode import full_decode

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import peers
from peer_worker import SIDE, signature, tile_means

import kernels

FRAMES = np.arange(3, 60, 4)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A file, and the frames of a full decode of it."""
    path = tmp_path_factory.mktemp("peers") / "v.mp4"
    peers.make_video(path, "libx264", {"g": "12", "bf": "2"}, 340, 256, 70)
    return path, full_decode(path).frames


def signatures(frames):
    return np.stack([signature(frame) for frame in frames])


@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 2])
def test_the_judge_knows_neighbours(video, shift):
    full = signatures(video[1])
    right, other, none = peers.judge(full[FRAMES + shift], FRAMES, full)
    assert (right, other, none) == ((0, len(FRAMES), 0) if shift else (len(FRAMES), 0, 0))


@pytest.mark.parametrize("turn", range(8))
def test_levels_size_and_orientation_are_not_the_frame(video, turn):
    full = signatures(video[1])
    for shift in (0, 1):
        shown = [np.rot90(video[1][i + shift], turn % 4) for i in FRAMES]
        shown = [picture[:, ::-1] if turn > 3 else picture for picture in shown]
        levels = [np.clip(picture * 0.86 + 16, 0, 255).round() for picture in shown]  # limited range taken for full
        assert peers.judge(signatures(levels), FRAMES, full)[0] == (0 if shift else len(FRAMES))
        smaller = [(picture[::2, ::2] / 2 + picture[1::2, 1::2] / 2).round() for picture in shown]
        assert peers.judge(signatures(smaller), FRAMES, full)[0] == (0 if shift else len(FRAMES))


def test_a_picture_of_nothing_is_no_frame(video):
    full = signatures(video[1])
    grey = [np.full_like(frame, 128) for frame in video[1][:5]]
    noise = list(np.random.default_rng(0).integers(0, 256, (5, 256, 340, 3), np.uint8))
    blocks = [np.kron(np.random.default_rng(1).integers(0, 256, (8, 10, 3)), np.ones((32, 34, 1)))]
    for wrong in (grey, noise, blocks):
        assert peers.judge(signatures(wrong), np.arange(len(wrong)), full) == (0, 0, len(wrong))


def test_frames_that_look_alike_cannot_be_told_apart(video):
    still = signatures([video[1][0]] * 20)
    assert peers.judge(still[:5], np.arange(10, 15), still) == (5, 0, 0)


def test_made_videos_of_one_height_are_not_confused(tmp_path):
    made = {"h264": peers.MADE["h264_gop12"]}
    for _ in range(2):  # the second time they are there
        folders = peers.made_folders(tmp_path, made, ((64, 48), (80, 48)), 3)
        assert list(folders) == ["h264_64x48", "h264_80x48"]
        for (path,), width in zip((list(f.rglob("*.mp4")) for f in folders.values()), (64, 80), strict=True):
            assert [frame.shape[:2] for frame in full_decode(path).frames] == [(48, width)] * 3


@pytest.mark.parametrize("size", [1, 50, 64, 65, 121, 1080])
def test_tiles_are_means_and_turn_with_the_picture(size):
    """Each pixel as SIDE equal pieces, and each tile as the mean of ``size`` of them."""
    values = np.random.default_rng(0).integers(0, 256, (size, 3))
    expected = np.repeat(values, SIDE, 0).reshape(SIDE, size, 3).mean(1)
    np.testing.assert_allclose(tile_means(values), expected, atol=1e-6)
    np.testing.assert_allclose(tile_means(values[::-1]), expected[::-1], atol=1e-6)


def run(python, jobs, tmp_path, full):
    peers.run_exactness(python, "pyav", jobs, tmp_path)
    return peers.count_exactness(jobs, full, tmp_path)


def test_a_peer_that_is_right_and_one_that_refuses(video, tmp_path):
    """PyAV by hand, in a process of its own, on a good file, and on one that is none."""
    good, bad = str(video[0]), tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    frames = FRAMES.tolist()
    jobs = [{"path": path, "frames": frames} for path in (good, str(bad), good)]
    row = run(sys.executable, jobs, tmp_path, {good: signatures(video[1])})
    assert (row["right"], row["refused"], row["clips"]) == (2 * len(frames), len(frames), 2)
    assert row["crash"] == row["hang"] == row["other"] == row["none"] == 0
    assert "InvalidData" in row["files"]["bad.mp4"]["error"]


@pytest.mark.parametrize("what, kind", [("kill -SEGV $$", "crash"), ("exec sleep 60", "hang")])
def test_a_crash_or_a_hang_costs_one_clip(video, tmp_path, monkeypatch, what, kind):
    """The second clip kills its process or never ends; those before and after it are decoded."""
    monkeypatch.setattr(peers, "CLIP_SECONDS", 10)
    python = tmp_path / "python"
    # the worker begins at clip 0 without the second clip; started again, it goes on after it
    python.write_text(
        f'#!/bin/sh\nif [ "$6" = 0 ]; then {sys.executable} "$1" "$2" "$3" {tmp_path}/first.json "$5" 0; '
        f'echo 1 > "$5/at"; {what}; fi\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    jobs = [{"path": str(video[0]), "frames": FRAMES.tolist()}] * 4
    (tmp_path / "first.json").write_text(peers.json.dumps({"jobs": jobs[:1]}))
    row = run(python, jobs, tmp_path, {str(video[0]): signatures(video[1])})
    assert (row["right"], row[kind], row["clips"]) == (3 * len(FRAMES), len(FRAMES), 3)


def test_our_own_clips_are_judged_by_the_same_rule(video, tmp_path):
    path = tmp_path / "a" / "numbered.mp4"
    path.parent.mkdir()
    path.write_bytes(video[0].read_bytes())
    jobs = [{"path": str(path), "frames": FRAMES.tolist()}]
    peers.our_clips(jobs, tmp_path)
    assert peers.count_exactness(jobs, {str(path): signatures(video[1])}, tmp_path)["clips"] == 1


@pytest.mark.parametrize(
    "other, verdict",
    [
        ([3, 3, 3.1, 3.1], "at least 3.0 times as fast"),
        ([2.97, 2.97, 3.1, 3.1], "at least 2.9 times as fast"),  # what holds, not what is nearest
        ([1.5, 1.5, 4.5, 4.5], "no verdict"),  # the rounds differ by 3, the gain is 2
        ([1, 1, 1.01, 1.01], "no verdict"),
        ([0.5, 0.5, 0.5, 0.5], "not always faster"),
    ],
)
def test_a_verdict_needs_rounds_that_agree(other, verdict, capsys):
    found = kernels.compare("x", [1, 1, 1, 1], other, 2)
    assert found["verdict"].startswith(verdict) and verdict in capsys.readouterr().out
    assert found["low"] == pytest.approx(min(other)) and found["high"] == pytest.approx(max(other))
