"""How many decoders DALI makes, by a model of its cache; benchmarks/nvdec_decoders.py, which counts them for files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import measured_video, numbered_frame

from dali_vidaug.errors import NotForDaliError
from dali_vidaug.media.encode import write_video
from dali_vidaug.media.remux import remux

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import nvdec_decoders

DecoderCache, Stream = nvdec_decoders.DecoderCache, nvdec_decoders.Stream
num_made, stream_of = nvdec_decoders.num_made, nvdec_decoders.stream_of
CROPPED, WHOLE = Stream("h264", (352, 256), (340, 256)), Stream("h264", (352, 256), (352, 256))


def test_the_model_of_the_cache():
    """What the source of DALI 2.4 says, by hand: found by coded size, kept by the size shown, 100 at most."""
    assert num_made(WHOLE) == 1 and num_made(CROPPED) == 100
    assert num_made(WHOLE, threads=8) == 8 and num_made(WHOLE, threads=8, clips=3) == 3
    cache = DecoderCache()
    for i in range(101):  # all in use: it grows; the first that is given back goes when the next is made
        decoder = cache.lease(WHOLE)
        assert (cache.made, len(cache.kept)) == (i + 1, i + 1)
    cache.give_back(decoder)
    assert cache.lease(Stream("hevc", (352, 256), (352, 256)))[0].codec == "hevc"  # another codec has its own
    assert (cache.made, len(cache.kept), cache.confused) == (102, 101, [])


def test_the_model_of_confused_sizes():
    low, high = Stream("h264", (480, 272), (480, 270)), Stream("h264", (480, 272), (480, 272))
    cache = DecoderCache()
    for stream in (high, low):
        cache.give_back(cache.lease(stream))
    assert (cache.made, cache.confused) == (1, [low])


def files_of(folder, codec, sizes, **options):
    """Videos of numbered frames, in a corner of them."""
    for height, width in sizes:
        path = folder / f"{codec}_{height}_{width}.mp4"
        write_video(path, (numbered_frame(i)[:height, :width] for i in range(12)), codec=codec, **options)
        yield measured_video(path)


@pytest.mark.parametrize("codec, options", [
    ("libx264", {}), ("libx265", {"options": {"x265-params": "log-level=none:min-cu-size=16"}}),
])  # fmt: skip
def test_small_files_for_nvdec_share_decoders_and_are_not_confused(codec, options, tmp_path):
    """100 clips, by turns of sizes that have a coded size in common. Before, some got a decoder made for others."""
    videos = list(files_of(tmp_path, codec, [(96, 160), (96, 150), (90, 160), (84, 146)], **options))
    before, after = DecoderCache(), DecoderCache()
    for i in range(100):
        video, frames = videos[i % 4], np.arange(i % 9, i % 9 + 3)
        before.give_back(before.lease(stream_of(remux(video, frames).data, video.codec)))
        after.give_back(after.lease(stream_of(remux(video, frames, on_gpu=True).data, video.codec)))
    assert (after.made, after.confused) == (1, [])
    assert before.made == 1 and len(before.confused) == 50  # of the two whose height is not 96: wrong colours


@pytest.mark.slow
def test_clips_of_real_files_find_decoders(real_videos):
    """As many decoders are made as there are coded sizes."""
    after, before = DecoderCache(), DecoderCache()
    for path in sorted((real_videos.parent / "fight").rglob("*.mp4"))[::12]:
        video = measured_video(path)
        try:
            small = remux(video, np.arange(2), on_gpu=True)
        except NotForDaliError:
            continue
        after.give_back(after.lease(stream_of(small.data, video.codec)))
        before.give_back(before.lease(stream_of(remux(video, np.arange(2)).data, video.codec)))
    sizes = {made_for.coded for made_for, _ in after.kept}
    assert after.made == len(sizes) and before.made > after.made and not after.confused


def test_the_table(tmp_path):
    list(files_of(tmp_path, "libx264", [(90, 154), (96, 160)]))
    list(files_of(tmp_path, "libx265", [(88, 152)], options={"x265-params": "log-level=none:min-cu-size=8"}))
    list(files_of(tmp_path, "libx264", [(80, 80)], pixel_format="yuv444p"))
    made = subprocess.run(
        [sys.executable, nvdec_decoders.__file__, tmp_path, "--clips", "2"], capture_output=True, text=True, check=True
    )
    small = "152x88 is smaller than the 144x144 that NVDEC accepts for hevc"
    assert made.stdout.splitlines()[2:] == [
        "| 1 | h264 yuv420p | 154x90 | 160x96 | 100 | 1 | NVDEC |",
        "| 1 | h264 yuv420p | 160x96 | 160x96 | 1 | 1 | NVDEC |",
        "| 1 | h264 yuv444p | 80x80 | - | - | - | CPU: only 8-bit 4:2:0 is sent to NVDEC, and this is yuv444p |",
        f"| 1 | hevc yuv420p | 152x88 | - | - | - | CPU: {small} |",
    ]
    usual = {**nvdec_decoders.H100, "hevc": nvdec_decoders.H100["h264"]}
    hevc = measured_video(tmp_path / "libx265_88_152.mp4")
    assert nvdec_decoders.row_of(hevc, usual, 2, threads=2)[2:] == ("152x88", "2 or 100", "2 or 100", "NVDEC")
