"""Which format goes to which decoder."""

import logging

import pytest
from stand_in_driver import needs_header

from dali_vidaug.device import decoders, nvdec
from dali_vidaug.device.decoders import add_coded, choose_decoder
from dali_vidaug.device.nvdec import Files, Format
from dali_vidaug.report import warn_once

WIDE, HIGH, OTHER = (Format("vp8", "yuv420p", 480, height) for height in (270, 272, 360))


def files(**counts):
    """Formats of a manifest, VP8: a=3 is three files 480x270, b of 480x272, c of 480x360."""
    named = dict(a=WIDE, b=HIGH, c=OTHER)
    return {named[name]: Files(count, f"{name}.mp4") for name, count in counts.items()}


@pytest.fixture
def nothing_sent(monkeypatch):
    """As in a process that has sent nothing to NVDEC."""
    monkeypatch.setattr(decoders, "_sent_to_nvdec", {})


@needs_header
def test_the_most_frequent_of_sizes_that_dali_confuses_is_sent(use_nvdec, nothing_sent):
    use_nvdec(GPUS=2)
    why = "DALI 2.4 may confuse 480x270 with 480x272"
    with pytest.raises(ValueError, match=rf"{why} \(3 files, for example a.mp4\); use decoder='hybrid'"):
        choose_decoder("dali", "gpu", 0, files(a=3, b=5))
    # Nothing was sent, and the GPUs do not share decoders.
    assert choose_decoder("hybrid", "gpu", 1, files(a=3)) == ("hybrid", {})
    assert choose_decoder("hybrid", "gpu", 0, files(a=3, b=5, c=1)) == ("hybrid", {WIDE: why})
    # Another loader of the process shares the decoders, even if it has more of the other size.
    assert choose_decoder("hybrid", "gpu", 0, files(a=9)) == ("pyav", {WIDE: why})
    assert choose_decoder("hybrid", "gpu", 0, files(b=1)) == ("hybrid", {})
    use_nvdec(NO_NVDEC=1)
    assert choose_decoder("hybrid", "gpu", 0, files(b=1)) == ("pyav", {HIGH: nvdec.problem(0)})


@needs_header
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_sizes_of_codecs_whose_cropping_is_taken_out_go_together(codec, use_nvdec, nothing_sent):
    use_nvdec()
    formats = {Format(codec, "yuv420p", 480, height): Files(1, "v.mp4") for height in (268, 270, 272)}
    assert choose_decoder("dali", "gpu", 0, formats) == ("dali", {})


def test_coded_sizes_that_dali_may_confuse(nothing_sent):
    """H.264 is coded in multiples of 16; of H.265 it is not known whether NVDEC's driver rounds its sizes up."""
    assert add_coded(0, "h264", (480, 272)) is add_coded(0, "h264", (480, 288)) is None
    assert add_coded(0, "hevc", (480, 272)) is add_coded(0, "hevc", (480, 272)) is None
    assert add_coded(0, "hevc", (480, 264)) == "DALI 2.4 may confuse 480x264 with 480x272"
    assert add_coded(1, "hevc", (480, 264)) is add_coded(1, "hevc", (472, 272 + 16)) is None  # GPUs share nothing
    assert add_coded(1, "hevc", (480, 272)) == "DALI 2.4 may confuse 480x272 with 480x264"
    assert add_coded(None, "hevc", (480, 264)) is None  # without a GPU there are no such decoders


def test_on_the_cpu_the_codec_decides():
    vp9 = Format("vp9", "yuv420p", 480, 270)
    h264 = Format("h264", "yuv420p", 480, 270)
    formats = {h264: Files(3, "a.mp4"), vp9: Files(1, "v.webm")}
    why = "DALI does not decode h264 on the CPU"
    assert choose_decoder("auto", "cpu", None, formats) == choose_decoder("pyav", "cpu", None, formats) == ("pyav", {})
    assert choose_decoder("hybrid", "cpu", None, formats) == ("hybrid", {h264: why})
    assert choose_decoder("hybrid", "cpu", None, {h264: Files(3, "a.mp4")}) == ("pyav", {h264: why})
    assert choose_decoder("dali", "cpu", None, {vp9: Files(1, "v.webm")}) == ("dali", {})
    with pytest.raises(ValueError, match=rf"does not suit the manifest: {why} \(3 files, for example a.mp4\)"):
        choose_decoder("dali", "cpu", None, formats)


@needs_header
def test_a_warning_lists_the_most_frequent_reasons_once(use_nvdec, nothing_sent, caplog):
    """Each with how many files it concerns; beyond five only how many more there are."""
    formats = {Format("h264", f"yuv{i}p", 480, 360): Files(i, f"{i}.mp4") for i in range(1, 8)}
    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "dali_vidaug"):
        for _ in range(2):
            assert choose_decoder("auto", "gpu", 0, formats).decoder == "pyav"
    (record,) = caplog.records
    assert record.message.startswith("videos that are decoded on the CPU: only 8-bit 4:2:0 is sent to NVDEC, and this ")
    assert "is yuv7p (7 files, for example 7.mp4); only" in record.message and "yuv2p" not in record.message
    assert record.message.endswith("is yuv3p (3 files, for example 3.mp4); and 2 more reasons")
