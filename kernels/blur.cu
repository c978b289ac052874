// blur: a Gaussian blur of each frame, with its own standard deviation in every frame.
//
// Separable: a row is the weighted sum of the rows around it, in single precision, and then of the columns around each
// pixel, rounded half up. Beyond the border the picture is mirrored about its outer pixels (reflect-101), as often as it
// takes where the window is larger than the picture. There are two entry points:
//   prepare  the weights of each frame
//   pixels   reads and writes every pixel
// Moves 6 bytes per pixel (3 read, 3 written); the rows around a row come from the cache.
#include "common.h"

const int32_t RADIUS_MAX = 32;

struct BlurArgs {
  int32_t radius;      // the window is 2 * radius + 1 pixels wide and high; [0, RADIUS_MAX]
  int32_t num_values;  // at least the clip's frames
  float sigma[1];      // [num_values]: standard deviation in pixels; 0: the frame does not change
};

// In the clip's scratch memory, one for each frame.
struct BlurFrame {
  float weight[RADIUS_MAX + 1];  // of the pixels at a distance; those on both sides and the middle add up to 1
  int32_t radius;                // beyond it, weights are too small for single precision
};

// Columns that are blurred together, and the room for them: of each warp on the GPU.
#ifdef __CUDACC_RTC__
const int32_t SEGMENT = 64, TEAMS = 8;
#define TEAM (threadIdx.x / LANES)
#else
const int32_t SEGMENT = 512, TEAMS = 1;
#define TEAM 0
#endif

DEVICE BlurFrame& frame_of(const Clip& clip, int32_t frame) { return ((BlurFrame*)clip.work)[frame]; }

// e to the power of -t, t >= 0, by the series for t / 64: equal on all machines, unlike a library's. 0 below 1e-9.
DEVICE double negative_exp(double t) {
  if (!(t < 20.7)) return 0;
  double term = 1, sum = 1;
  for (int32_t n = 1; n < 16; ++n) {
    term *= -t / 64 / n;
    sum += term;
  }
  for (int32_t i = 0; i < 6; ++i) sum *= sum;
  return sum;
}

DEVICE void blur_prepare_frame(const Clip& clip, const BlurArgs& args, int32_t, int32_t frame) {
  const int32_t asked = args.radius < 0 ? 0 : args.radius > RADIUS_MAX ? RADIUS_MAX : args.radius;
  const double sigma = args.sigma[frame];
  SHARED double bell[RADIUS_MAX + 1];
  for (int32_t k = THREAD; k <= asked; k += THREADS)
    bell[k] = k == 0 ? 1 : sigma > 0 ? negative_exp(k * k / (2 * sigma * sigma)) : 0;
  SYNC();
  double total = bell[0];
  int32_t radius = 0;
  for (int32_t k = 1; k <= asked; ++k) {
    total += 2 * bell[k];
    if (bell[k] > 0) radius = k;
  }
  BlurFrame& state = frame_of(clip, frame);
  for (int32_t k = THREAD; k <= radius; k += THREADS) state.weight[k] = (float)(bell[k] / total);
  if (THREAD == 0) state.radius = radius;
}

FRAME_KERNEL(blur_prepare, BlurArgs)

// The place in [0, size) that is seen at `at`, which may lie outside.
DEVICE int32_t mirrored(int32_t at, int32_t size) {
  if (size == 1) return 0;
  const int32_t period = 2 * (size - 1);
  at %= period;
  at = at < 0 ? at + period : at;
  return at < size ? at : period - at;
}

// The weighted sum of rows: values [first, last) of row y and of those up to `radius` above and below it.
DEVICE void sum_rows(float* __restrict__ sum, const uint8_t* __restrict__ src, int32_t first, int32_t last, int32_t y,
                     const Clip& clip, const BlurFrame& state) {
  const int32_t pitch = 3 * clip.width;
  const uint8_t* middle = src + (int64_t)y * pitch;
  const float weight = state.weight[0];
  for (int32_t i = first + LANE; i < last; i += LANES) sum[i - first] = weight * (float)middle[i];
  int32_t k = 1;
  for (; k + 1 <= state.radius; k += 2) {  // two at a time: half as often through `sum`
    const uint8_t* up = src + (int64_t)mirrored(y - k, clip.height) * pitch;
    const uint8_t* down = src + (int64_t)mirrored(y + k, clip.height) * pitch;
    const uint8_t* up2 = src + (int64_t)mirrored(y - k - 1, clip.height) * pitch;
    const uint8_t* down2 = src + (int64_t)mirrored(y + k + 1, clip.height) * pitch;
    const float near = state.weight[k], far = state.weight[k + 1];
    for (int32_t i = first + LANE; i < last; i += LANES)
      sum[i - first] = sum[i - first] + near * (float)(up[i] + down[i]) + far * (float)(up2[i] + down2[i]);
  }
  if (k <= state.radius) {
    const uint8_t* up = src + (int64_t)mirrored(y - k, clip.height) * pitch;
    const uint8_t* down = src + (int64_t)mirrored(y + k, clip.height) * pitch;
    const float near = state.weight[k];
    for (int32_t i = first + LANE; i < last; i += LANES)
      sum[i - first] = sum[i - first] + near * (float)(up[i] + down[i]);
  }
}

// The weighted sum of columns: `count` values, those of `line` and of the columns up to `radius` left and right of them.
DEVICE void sum_columns(float* __restrict__ sum, const float* __restrict__ line, int32_t count, const BlurFrame& state) {
  const float weight = state.weight[0];
  for (int32_t i = LANE; i < count; i += LANES) sum[i] = weight * line[i];
  int32_t k = 1;
  for (; k + 1 <= state.radius; k += 2) {
    const float *left = line - 3 * k, *right = line + 3 * k;
    const float near = state.weight[k], far = state.weight[k + 1];
    for (int32_t i = LANE; i < count; i += LANES)
      sum[i] = sum[i] + near * (left[i] + right[i]) + far * (left[i - 3] + right[i + 3]);
  }
  if (k <= state.radius) {
    const float *left = line - 3 * k, *right = line + 3 * k;
    const float near = state.weight[k];
    for (int32_t i = LANE; i < count; i += LANES) sum[i] = sum[i] + near * (left[i] + right[i]);
  }
}

DEVICE void blur_pixels_row(const Clip& clip, const BlurArgs&, int32_t, int32_t frame, int32_t y) {
  const BlurFrame& state = frame_of(clip, frame);
  const int32_t width = clip.width, radius = state.radius;
  const uint8_t* src = clip.src + row_offset(clip, frame, 0);
  uint8_t* dst = clip.dst + row_offset(clip, frame, y);
  if (radius == 0) {
    const uint8_t* own = src + 3 * (int64_t)y * width;
    for (int32_t i = LANE; i < 3 * width; i += LANES) dst[i] = own[i];
    return;
  }
  SHARED float lines[TEAMS][3 * (SEGMENT + 2 * RADIUS_MAX)], sums[TEAMS][3 * SEGMENT];
  float *line = lines[TEAM] + 3 * radius, *sum = sums[TEAM];  // line[0] is the segment's first value
  for (int32_t left = 0; left < width; left += SEGMENT) {
    const int32_t right = left + SEGMENT < width ? left + SEGMENT : width;
    const int32_t first = left < radius ? 0 : left - radius, last = width - right < radius ? width : right + radius;
    sum_rows(line + 3 * (first - left), src, 3 * first, 3 * last, y, clip, state);
    SYNC_ROW();
    for (int32_t x = left - radius + LANE; x < first; x += LANES)
      for (int32_t c = 0; c < 3; ++c) line[3 * (x - left) + c] = line[3 * (mirrored(x, width) - left) + c];
    for (int32_t x = last + LANE; x < right + radius; x += LANES)
      for (int32_t c = 0; c < 3; ++c) line[3 * (x - left) + c] = line[3 * (mirrored(x, width) - left) + c];
    SYNC_ROW();
    sum_columns(sum, line, 3 * (right - left), state);
    for (int32_t i = LANE; i < 3 * (right - left); i += LANES) {
      const int32_t value = (int32_t)(sum[i] + 0.5f);
      dst[3 * left + i] = (uint8_t)(value > 255 ? 255 : value);
    }
    SYNC_ROW();
  }
}

ROW_KERNEL(blur_pixels, BlurArgs)
