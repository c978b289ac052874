// Random numbers for pixels: Philox4x32-10 (Salmon et al., SC 2011), the generator of rng.py. Four words are a function
// of a counter (which pixel) and a key (from the plan), so no state is kept and the order of pixels does not matter.
#ifndef DALI_VIDAUG_PHILOX_H
#define DALI_VIDAUG_PHILOX_H
#include "common.h"

struct PhiloxWords {
  uint32_t a, b, c, d;
};

DEVICE PhiloxWords philox4x32(PhiloxWords counter, uint32_t key0, uint32_t key1) {
  for (int32_t round = 0; round < 10; ++round) {
    const uint64_t p = (uint64_t)0xD2511F53u * counter.a, q = (uint64_t)0xCD9E8D57u * counter.c;
    counter = {(uint32_t)(q >> 32) ^ counter.b ^ key0, (uint32_t)q, (uint32_t)(p >> 32) ^ counter.d ^ key1, (uint32_t)p};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

#endif
