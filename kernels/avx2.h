// For kernels that do eight pixels at once on CPUs with AVX2. The bytes are those of the plain loop beside each of them.
#ifndef DALI_VIDAUG_AVX2_H
#define DALI_VIDAUG_AVX2_H
#include "common.h"
#include <immintrin.h>

const int32_t GROUP = 8;  // pixels

DEVICE __m256i both(__m128i half) { return _mm256_broadcastsi128_si256(half); }

// Sixteen bytes from each of two places.
DEVICE __m256i load_halves(const uint8_t* low, const uint8_t* high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i*)low)),
                                 _mm_loadu_si128((const __m128i*)high), 1);
}

// Eight pixels: the first twelve bytes of each half. Nothing after them is written.
DEVICE void store_group(uint8_t* dst, __m256i halves) {
  const __m256i bytes = _mm256_permutevar8x32_epi32(halves, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7));
  _mm_storeu_si128((__m128i*)dst, _mm256_castsi256_si128(bytes));
  _mm_storel_epi64((__m128i*)(dst + 16), _mm256_extracti128_si256(bytes, 1));
}

#endif
