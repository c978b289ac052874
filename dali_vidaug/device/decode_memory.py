"""What DALI needs of memory while it decodes: an estimate from above, and how much of it may be used."""

from __future__ import annotations

import re

from dali_vidaug.device.driver import read_driver

RGB_FRAMES = 8  # that DALI 2.4 holds for each clip while NVDEC decodes it (frames_decoder_gpu.h)
SURFACES = 20  # frames of 12 bits a pixel that a decoder holds: 16 reference pictures at most, and some to output
GPU_SHARE = 0.25  # of the memory of a GPU, for all clips that are being decoded
UNKNOWN_GPU = 8 << 30  # bytes of a GPU that are counted on where the driver does not say how many it has
BYTES_A_THREAD = 512 << 20  # the same on the CPU, for each thread

_OUT_OF_MEMORY = re.compile(
    r"out[ _]of[ _]memory|bad_alloc|MemoryAllocation|(failed to|cannot) allocate", re.IGNORECASE
)


def bytes_while_decoding(width: int, height: int, num_frames: int, num_copies: int, on_gpu: bool) -> int:
    """Bytes that a clip takes while DALI decodes it: an estimate from above.

    Args:
        width, height: as coded, pixels.
        num_frames: different frames of the clip.
        num_copies: how often whole frames of it are there: as decoded, and after each step that makes new ones.
        on_gpu: where: DALI's use of NVDEC takes more.
    """
    rgb_frames = num_copies * num_frames + (RGB_FRAMES if on_gpu else 0)
    return width * height * (3 * rgb_frames + SURFACES * 3 // 2)


def memory_for_decoding(device_id: int | None, num_threads: int) -> int:
    """Bytes that clips may take while they are decoded, all together."""
    if device_id is None:
        return num_threads * BYTES_A_THREAD
    gpus = read_driver().gpus
    return int((gpus[device_id].memory if device_id < len(gpus) else UNKNOWN_GPU) * GPU_SHARE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of DALI says that there was no memory left."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None
