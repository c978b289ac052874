"""What differs between the versions of PyAV."""

import av
import numpy as np
import pytest
from conftest import cut_frames, decode_fully, numbered_frame, remuxed_frames, shown_numbers

import dali_vidaug as dv
from dali_vidaug.media.decode import decode


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.avi"])
def test_tags_need_not_be_utf8(name, tmp_path):
    path = tmp_path / "a" / name
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=160, height=96, options={"g": "10"})
        stream.pix_fmt = "yuv420p"
        container.metadata["title"] = stream.metadata["title"] = "Cafe"
        for i in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(i), format="rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    assert b"Cafe" in data
    path.write_bytes(data.replace(b"Cafe", b"Caf\xe9"))  # Latin-1
    manifest = dv.scan(path.parent, progress=False)
    assert not manifest.broken and manifest.video(0).num_frames == 20
    frames = np.array([3, 12])
    assert shown_numbers(decode(manifest.video(0), frames).pixels) == [3, 12]
    full = decode_fully(path)
    assert remuxed_frames(manifest.video(0), frames) == [full[i] for i in frames]


def test_sound_may_begin_late_in_a_file(tmp_path):
    """FFmpeg adds its stream when it comes, long after the part that it looks at when it opens the file."""
    path = tmp_path / "a" / "v.mpg"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, width=160, height=96, options={"g": "10", "b": "2M"})
        stream.pix_fmt = "yuv420p"
        sound = container.add_stream("mp2", rate=44100)
        noise = np.random.default_rng(0).integers(0, 255, (64, 160, 3), np.uint8)
        for i in range(400):
            picture = np.concatenate([numbered_frame(i)[:48], noise[i % 16 :][:48]])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            if 300 <= i < 310:  # FFmpeg looks at 5 to 7 s, and at the last 250 kB
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 1764), np.int16), format="s16", layout="mono")
                samples.sample_rate, samples.pts = 44100, i * 1764
                container.mux(sound.encode(samples))
        container.mux(stream.encode(None))
        container.mux(sound.encode(None))
    with av.open(str(path)) as container:
        assert len(container.streams) == 1
    for deep in (False, True):
        video = dv.scan(path.parent, progress=False, deep=deep).video(0)
        assert video.num_frames == 400
    frames = np.array([0, 301, 399])
    assert shown_numbers(decode(video, frames).pixels) == frames.tolist()
    assert remuxed_frames(video, frames) == cut_frames(video, frames)
