"""Which packets a clip of H.265 needs: fewer where there are temporal layers, and the same frames bit for bit."""

import numpy as np
import pytest
from conftest import by_container, decode_fully, frame_digest, measured_video, write_numbered

from dali_vidaug.media.decode import decode, decode_frames

FORMS = {
    "default": "",
    "no_b": ":bframes=0",
    "eight_b": ":bframes=8",
    "layers": ":temporal-layers=3",
    "slices": ":slices=2",
    "closed": ":open-gop=0:keyint=30",
}


@pytest.mark.parametrize("form", FORMS)
def test_frames_are_those_of_a_full_decode(form, tmp_path):
    params = f"log-level=none{FORMS[form]}"
    path = write_numbered(tmp_path / "v.mp4", 90, codec="libx265", options={"x265-params": params})
    video, full, rng = measured_video(path), decode_fully(path), np.random.default_rng(0)
    assert video.packet_index is not None
    fewer = 0
    for _ in range(30):
        stride = int(rng.choice([1, 2, 4, 8]))
        frames = int(rng.integers(0, 90 - 7 * stride)) + stride * np.arange(8)
        found = {i: frame_digest(f) for f, i in decode_frames(video, frames, {"read": 0.0})}
        assert [found[i] for i in frames.tolist()] == [full[i] for i in frames]
        fewer += decode(by_container(video), frames).num_decoded - decode(video, frames).num_decoded
    assert fewer >= 0 and (fewer > 0 or form != "layers")
