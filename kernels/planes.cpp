// Clips mirrored, and taken apart into planes. Not compiled for the GPU.
#include <cstdint>
#include <cstring>
#include <vector>
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#ifdef __SSSE3__
#include <tmmintrin.h>
#endif

// Rows of packed RGB with left and right swapped; dst may be src.
extern "C" void mirror(const uint8_t* src, int64_t rows, int64_t width, uint8_t* dst) {
  std::vector<uint8_t> copy(src == dst ? 3 * width : 0);
  for (int64_t y = 0; y < rows; y++, src += 3 * width, dst += 3 * width) {
    const uint8_t* row = src;
    if (src == dst) row = (const uint8_t*)std::memcpy(copy.data(), src, 3 * width);
    int64_t x = 0;
#ifdef __SSSE3__
    // Five pixels at a time: the byte before them is read, too, and the byte after those that are written is garbage
    // until the next ones are.
    const __m128i order = _mm_setr_epi8(13, 14, 15, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2, 3, 0);
    for (; x + 6 <= width; x += 5) {
      const __m128i pixels = _mm_loadu_si128((const __m128i*)(row + 3 * (width - x - 5) - 1));
      _mm_storeu_si128((__m128i*)(dst + 3 * x), _mm_shuffle_epi8(pixels, order));
    }
#endif
    for (; x < width; x++)
      for (int64_t c = 0; c < 3; c++) dst[3 * x + c] = row[3 * (width - 1 - x) + c];
  }
}

// Copy past the caches where that can be: nothing reads the values soon, and they need not be fetched to be replaced.
static void write(void* dst, const void* src, int64_t size) {
#ifdef __SSE2__
  if (((uintptr_t)dst | (uintptr_t)size) % 16 == 0) {
    for (int64_t i = 0; i < size; i += 16)
      _mm_stream_si128((__m128i*)((char*)dst + i), _mm_load_si128((const __m128i*)((const char*)src + i)));
    return;
  }
#endif
  std::memcpy(dst, src, size);
}

// A clip (rows, width, 3), its frames one below the other, as three planes (rows, width) of words: word table[c][value]
// for a value of channel c. With `mirrored`, left and right are swapped.
template <typename Word>
static void take_apart(const uint8_t* src, int64_t rows, int64_t width, const Word* table, int32_t mirrored,
                       Word* dst) {
  const int64_t CHUNK = 256, plane = rows * width;
  alignas(16) Word part[3][CHUNK];
  for (int64_t y = 0; y < rows; y++, src += 3 * width)
    for (int64_t first = 0; first < width; first += CHUNK) {
      const int64_t count = width - first < CHUNK ? width - first : CHUNK;
      const uint8_t* pixel = src + 3 * (mirrored ? width - 1 - first : first);
      const int64_t step = mirrored ? -3 : 3;
      for (int64_t x = 0; x < count; x++, pixel += step) {
        part[0][x] = table[pixel[0]];
        part[1][x] = table[256 + pixel[1]];
        part[2][x] = table[512 + pixel[2]];
      }
      for (int64_t c = 0; c < 3; c++) write(dst + c * plane + y * width + first, part[c], count * sizeof(Word));
    }
#ifdef __SSE2__
  _mm_sfence();  // other threads see the values after what this thread writes next
#endif
}

extern "C" void take_apart_1(const uint8_t* src, int64_t rows, int64_t width, const uint8_t* table, int32_t mirrored,
                             uint8_t* dst) {
  take_apart(src, rows, width, table, mirrored, dst);
}

extern "C" void take_apart_2(const uint8_t* src, int64_t rows, int64_t width, const uint16_t* table, int32_t mirrored,
                             uint16_t* dst) {
  take_apart(src, rows, width, table, mirrored, dst);
}

extern "C" void take_apart_4(const uint8_t* src, int64_t rows, int64_t width, const uint32_t* table, int32_t mirrored,
                             uint32_t* dst) {
  take_apart(src, rows, width, table, mirrored, dst);
}
