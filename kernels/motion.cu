// motion: each frame becomes the mean of the frames around it, rounded half up, in whole numbers.
//
// At the ends of the clip there are fewer: frame 0 is the mean of itself and of those after it.
// Moves 3 bytes per pixel and frame of the window (read, mostly from the cache), and 3 more (written).
#include "common.h"

const int32_t WINDOW_MAX = 64;

struct MotionArgs {
  int32_t num_values;  // at least the clip's frames
  int32_t window[1];   // [num_values], frames that are averaged, [1, WINDOW_MAX]; an even number has one more after
};

DEVICE void motion_row(const Clip& clip, const MotionArgs& args, int32_t, int32_t frame, int32_t y) {
  // A window that is not possible counts as the nearest one, so that no other memory is read.
  const int32_t asked = args.window[frame], window = asked < 1 ? 1 : asked > WINDOW_MAX ? WINDOW_MAX : asked;
  const int32_t before = (window - 1) / 2, after = window / 2;
  const int32_t first = frame < before ? 0 : frame - before;
  const int32_t last = clip.frames - 1 - frame < after ? clip.frames - 1 : frame + after;
  const int32_t count = last - first + 1;
  // (2 sum + count) / (2 count) by a multiplication, which is exact for up to 64 frames.
  const uint32_t inverse = (1u << 22) / (2 * count) + 1;
  const int64_t size = row_offset(clip, 1, 0);
  const uint8_t* src = clip.src + row_offset(clip, first, y);
  uint8_t* dst = clip.dst + row_offset(clip, frame, y);
#ifdef __CUDACC_RTC__
  const int32_t PIECE = 1;
#else
  const int32_t PIECE = 64;  // values that are summed together, in the CPU's vectors
#endif
  for (int32_t left = LANE * PIECE; left < 3 * clip.width; left += LANES * PIECE) {
    const int32_t values = 3 * clip.width - left < PIECE ? 3 * clip.width - left : PIECE;
    uint16_t sum[PIECE];
    for (int32_t i = 0; i < PIECE; ++i) sum[i] = 0;
    for (int32_t f = 0; f < count; ++f)
      for (int32_t i = 0; i < (PIECE == 1 ? 1 : values); ++i) sum[i] = (uint16_t)(sum[i] + src[f * size + left + i]);
    for (int32_t i = 0; i < (PIECE == 1 ? 1 : values); ++i)
      dst[left + i] = (uint8_t)((2u * sum[i] + (uint32_t)count) * inverse >> 22);
  }
}

ROW_KERNEL(motion, MotionArgs)
