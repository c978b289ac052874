"""Real files, each with its own trouble, in the folder that DALI_VIDAUG_TEST_VIDEOS names."""

import time

import numpy as np
import pyarrow as pa
import pytest
from conftest import assert_pixels, by_container, cut_frames, decode_fully, frame_lists, remuxed_frames

import dali_vidaug as dv
from dali_vidaug.errors import NotForDaliError
from dali_vidaug.media.decode import decode

# Frames that FFmpeg outputs, counted with ffprobe -count_frames (the table that comes with the files).
NUM_FRAMES = {
    "100_0306.AVI": 41, "FLIR_Thermal.mp4": 84, "PaddleVideo_example.avi": 131, "R6llTwEh07w.mp4": 303,
    "RATRACE_wave_f_nm_np1_fr_goo_37.avi": 72, "UCF-101_Rowing_g16_c03.avi": 135, "WUzgd7C1pWA.mp4": 327,
    "av1_video.mkv": 125, "awesome_movie.mov": 123, "bbb_800x640_768kbps_30fps_avc_pyramid_3b.mp4": 120,
    "bbb_sunflower_QCIF_30fps_mp4v_noaudio_1f.mp4": 1, "bear-vp9-odd-dimensions.webm": 30,
    "big_buck_bunny_432_433.webm": 24, "bikes.mp4": 250, "cursed-vfr.mp4": 63, "flipping_a_pancake.mkv": 310,
    "foreman-hevc-384.mp4": 248, "h264_10bits.mp4": 30, "hlg10-color-test.mp4": 9,
    "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": 83, "m3v1mp4.mp4": 2330, "mmaction2_demo.mp4": 280,
    "mmcv_test.mp4": 168, "mmpose_demo.mp4": 5, "nasa_13013.mp4": 390, "no_duration.webm": 74, "part_0.mp4": 32,
    "rotated_hdr_video.mov": 40, "rotated_video.mp4": 44, "sample_av1.mp4": 30, "sample_h264.ts": 30,
    "sample_portrait.mp4": 30, "skateboarding_dog.mp4": 421, "small_robot_3_frame.mp4": 3, "test_hevc10.mkv": 110,
    "test_video_66x50.mov": 82, "v_ApplyEyeMakeup_g01_c01.avi": 164, "v_SoccerJuggling_g23_c01.avi": 240,
    "video_180.mov": 3, "video_90.mov": 3,
}  # fmt: skip
ORIENTATION = {"rotated_hdr_video.mov": 6, "rotated_video.mp4": 6, "video_180.mov": 3, "video_90.mov": 6}

# MPEG-4 with pictures that are not coded: packets that give no frame
NOT_FOR_DALI = {
    "RATRACE_wave_f_nm_np1_fr_goo_37.avi",
    "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi",
}
WITHOUT_INDEX = {  # and how the reason begins; pictures that are not coded, and packets of two
    **dict.fromkeys([*NOT_FOR_DALI, "v_ApplyEyeMakeup_g01_c01.avi"], "its packets are not one frame each"),
    "sample_h264.ts": "its packets are not in one piece",
}
LONG = (  # which take ten seconds or more
    "m3v1mp4.mp4", "cursed-vfr.mp4", "rotated_hdr_video.mov", "foreman-hevc-384.mp4", "no_duration.webm",
    "hlg10-color-test.mp4", "FLIR_Thermal.mp4", "skateboarding_dog.mp4",
)  # fmt: skip


@pytest.fixture(scope="module")
def manifest(real_videos):
    return dv.scan(real_videos, progress=False)


@pytest.fixture(scope="module")
def sample_of(manifest):
    return {manifest.path(i).rsplit("/", 1)[1]: i for i in range(len(manifest))}


def test_every_file_is_known_and_measured(manifest, sample_of):
    assert set(sample_of) == set(NUM_FRAMES) and not manifest.broken
    assert {name: manifest.video(i).num_frames for name, i in sample_of.items()} == NUM_FRAMES
    assert {n: o for n, i in sample_of.items() if (o := manifest.video(i).orientation) != 1} == ORIENTATION


@pytest.mark.slow
def test_deep_scan_agrees(real_videos, manifest):
    deep = dv.scan(real_videos, deep=True, progress=False)
    columns = [c for c in manifest.table.column_names if c != "mtime_ns"]
    assert deep.table.select(columns).to_pylist() == manifest.table.select(columns).to_pylist()


def _slow_but_short(names):
    return [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in names]


@pytest.mark.parametrize("name", _slow_but_short(NUM_FRAMES))
def test_cuts_equal_a_full_decode(name, manifest, sample_of):
    video = manifest.video(sample_of[name])
    full = decode_fully(video.path)
    assert len(full) == video.num_frames
    assert (video.packet_index is None) == (name in WITHOUT_INDEX)
    assert (manifest.table["no_packet_index"][sample_of[name]].as_py() or "").startswith(WITHOUT_INDEX.get(name, ""))
    for n, frames in enumerate(frame_lists(video.num_frames)):
        expected = [full[i] for i in frames]
        assert cut_frames(video, frames) == expected, frames
        if video.packet_index is not None:
            assert cut_frames(by_container(video), frames) == expected, frames
            if n != 1:  # which has many frames of a long video
                assert_pixels(decode(video, frames).pixels, decode(by_container(video), frames).pixels)
        if name in NOT_FOR_DALI:
            with pytest.raises(NotForDaliError):
                remuxed_frames(video, frames)
        else:
            assert remuxed_frames(video, frames) == expected, frames


def test_both_decoders_agree(manifest, sample_of):
    """VP8, VP9 and MJPEG, which DALI decodes on the CPU too: equal, bit for bit."""
    names = ("100_0306.AVI", "bear-vp9-odd-dimensions.webm", "big_buck_bunny_432_433.webm", "no_duration.webm")
    for name in names:
        one = dv.Manifest(manifest.table.take(pa.array([sample_of[name]])), root=manifest.root)
        recipe = dv.Recipe(sampling=dv.ClipSampling(num_frames=6, stride=(1, 4)), ops=())
        plan = dv.draw_plan(one, recipe, [0])
        clips = [dv.VideoLoader(one, recipe, 1, decoder=d).apply(plan).clips.numpy() for d in ("pyav", "dali")]
        assert_pixels(clips[0], clips[1])


def test_errors_of_old_x264_in_444_are_corrected_in_every_cut(manifest, sample_of):
    """m3v1mp4.mp4 says only in its first packet which x264 made it; without that its later GOPs decode wrongly."""
    video = manifest.video(sample_of["m3v1mp4.mp4"])
    frames = np.arange(800, 804)
    whole = video._replace(keyframes=np.array([0], np.int32))  # decodes from the first packet on
    full = cut_frames(whole, frames)
    assert cut_frames(video, frames) == full
    with pytest.raises(ValueError, match="is damaged"):  # what the encoder's note is for
        cut_frames(video._replace(pixel_format="yuv420p"), frames)


def test_rotated_videos_are_shown_upright(manifest, sample_of):
    video = manifest.video(sample_of["rotated_video.mp4"])
    pixels = decode(video, np.array([3])).pixels
    assert pixels.shape == (1, video.width, video.height, 3)
    stored = decode(video._replace(orientation=1), np.array([3])).pixels[0]
    assert_pixels(pixels[0], np.rot90(stored, -1))


@pytest.mark.slow
def test_one_epoch_of_fight(fight_manifest):
    recipe = dv.Recipe(sampling=dv.ClipSampling(num_frames=16, stride=2))
    assert len(fight_manifest) == 300 and fight_manifest.classes == ("fight", "noFight")
    seen, started = [], time.perf_counter()
    with dv.VideoLoader(fight_manifest, recipe, batch_size=8, drop_last=False) as loader:
        for batch in loader:
            clips, targets = batch
            assert clips.shape[1:] == (3, 16, 224, 224) and bool(clips.isfinite().all())
            assert float(clips.min()) >= -2.001 and float(clips.max()) <= 2.445  # (0 and 1 - 0.45) / 0.225
            for sample, target in zip(batch.samples.tolist(), targets.tolist(), strict=True):
                folder = fight_manifest.path(sample).split("/")[-2]
                assert target == [float(folder == "fight"), float(folder == "noFight")]
            seen += batch.samples.tolist()
        report = loader.report()
    assert sorted(seen) == list(range(300)) and report.replaced == 0
    assert report.elapsed_seconds <= time.perf_counter() - started
