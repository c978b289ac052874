// Planes of a frame put together. Not compiled for the GPU.
#include <cstdint>

// Three planes of height x width bytes, with `stride` bytes from row to row, as packed RGB without gaps.
extern "C" void interleave(const uint8_t* red, const uint8_t* green, const uint8_t* blue, int64_t stride,
                           uint8_t* __restrict out, int64_t height, int64_t width) {
  for (int64_t y = 0; y < height; y++, red += stride, green += stride, blue += stride, out += 3 * width)
    for (int64_t x = 0; x < width; x++) {
      out[3 * x] = red[x];
      out[3 * x + 1] = green[x];
      out[3 * x + 2] = blue[x];
    }
}
