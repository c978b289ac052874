// Two rows of bytes blended with one weight.
#ifndef DALI_VIDAUG_WEIGHT_H
#define DALI_VIDAUG_WEIGHT_H

#include "common.h"

const int32_t WHOLE = 32768;  // the weight 1

// Bytes [begin, end) of a row: own + weight * (other - own), rounded half up.
DEVICE void blend_clip(const uint8_t* __restrict__ own, const uint8_t* __restrict__ other, uint8_t* __restrict__ dst,
                       int32_t begin, int32_t end, int32_t weight) {
  if (weight == 0 || weight == WHOLE) {
    const uint8_t* __restrict__ from = weight ? other : own;
    for (int32_t i = begin + LANE; i < end; i += LANES) dst[i] = from[i];
    return;
  }
  // In 16 bits, so that the CPU multiplies many at once. The two shifts are (x + 16384) >> 15.
  const int16_t part = (int16_t)weight;
  for (int32_t i = begin + LANE; i < end; i += LANES) {
    const int16_t difference = (int16_t)(other[i] - own[i]);
    dst[i] = (uint8_t)(own[i] + (int16_t)(((difference * part >> 14) + 1) >> 1));
  }
}

#endif
