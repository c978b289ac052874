// For randaugment.cu: the tables and matrices of ops.
#ifndef DALI_VIDAUG_RANDAUGMENT_TABLES_H
#define DALI_VIDAUG_RANDAUGMENT_TABLES_H
#include "randaugment.h"

// Cosine and sine by their series, within 1e-15 for angles up to pi: equal on all machines, unlike a library's.
DEVICE void cos_sin(double radians, double* cosine, double* sine) {
  double term = 1, sums[2] = {1, 0};
  for (int32_t n = 1; n < 32; ++n) {
    term *= radians / n;
    sums[n % 2] += n / 2 % 2 ? -term : term;
  }
  *cosine = sums[0], *sine = sums[1];
}

// Pillow's matrices: a positive angle rotates counter-clockwise about the centre, shears keep the top left corner, a
// positive translation moves the frame to the left or up.
DEVICE void make_matrix(uint8_t op, double value, const Clip& clip, int64_t* matrix) {
  double m[6] = {1, 0, 0, 0, 1, 0};
  if (op == ROTATE) {
    cos_sin(value * 0.017453292519943295, &m[0], &m[3]);
    m[1] = -m[3], m[4] = m[0];
    const double x = clip.width / 2.0, y = clip.height / 2.0;
    m[2] = x - m[0] * x - m[1] * y;
    m[5] = y - m[3] * x - m[4] * y;
  }
  if (op == SHEAR_X) m[1] = value;
  if (op == SHEAR_Y) m[3] = value;
  if (op == TRANSLATE_X) m[2] = value;
  if (op == TRANSLATE_Y) m[5] = value;
  fixed_matrix(m, matrix);
}

// The entry for one value of a table that needs no histogram. `mean` is the grey mean, for Contrast.
DEVICE int32_t table_op(uint8_t op, float value, int32_t mean, int32_t v) {
  switch (op) {
    case INVERT: return 255 - v;
    case POSTERIZE: return v & (0xff00 >> (int32_t)value);
    case SOLARIZE: return (float)v < value ? v : 255 - v;
    case SOLARIZE_ADD: return v >= 128 ? v : v + (int32_t)value > 255 ? 255 : v + (int32_t)value;
    case BRIGHTNESS: return enhance(0, v, value);
    case CONTRAST: return enhance(mean, v, value);
    default: return v;
  }
}

// AutoContrast: the lowest value to 0, the highest to 255. In double and towards zero, as Pillow does.
DEVICE void stretch(const uint32_t* counts, uint8_t* step) {
  int32_t low = 0, high = 255;
  while (low < 255 && !counts[low]) ++low;
  while (high > 0 && !counts[high]) --high;
  const double scale = 255.0 / (high > low ? high - low : 1);
  for (int32_t v = 0; v < 256; ++v) {
    const double to = v * scale + -low * scale;
    step[v] = high <= low ? v : to <= 0 ? 0 : to >= 255 ? 255 : (uint8_t)(int32_t)to;
  }
}

// Equalize: values in proportion to the share of pixels below them.
DEVICE void equalize(const uint32_t* counts, uint8_t* step) {
  uint32_t total = 0, last = 0, used = 0;
  for (int32_t v = 0; v < 256; ++v) {
    total += counts[v];
    if (counts[v]) last = counts[v], ++used;
  }
  const uint32_t share = used > 1 ? (total - last) / 255 : 0;
  uint32_t below = share / 2;
  for (int32_t v = 0; v < 256; ++v) {
    const uint32_t to = share ? below / share : v;
    step[v] = to > 255 ? 255 : (uint8_t)to;
    below += counts[v];
  }
}

// The tables of the ops [first, last) in one frame, by a whole block. Arrays are [3 * 256]; mapped and step are scratch.
DEVICE void make_tables(const RandaugmentArgs& args, int32_t frame, int32_t first, int32_t last, int32_t mean,
                        const uint32_t* counts, uint32_t* mapped, uint8_t* step, uint8_t* table) {
  for (int32_t i = THREAD; i < TABLES; i += THREADS) table[i] = (uint8_t)i;
  for (int32_t k = first; k < last; ++k) {
    const uint8_t op = args.op[k];
    if (op == AUTOCONTRAST || op == EQUALIZE) {
      for (int32_t i = THREAD; i < TABLES; i += THREADS) mapped[i] = 0;
      SYNC();
      for (int32_t i = THREAD; i < TABLES; i += THREADS) ADD(&mapped[(i & ~255) + table[i]], counts[i]);
      SYNC();
      for (int32_t c = THREAD; c < 3; c += THREADS) {  // one thread for each channel: some hundred steps, microseconds
        if (op == EQUALIZE) equalize(mapped + c * 256, step + c * 256);
        if (op == AUTOCONTRAST) stretch(mapped + c * 256, step + c * 256);
      }
      SYNC();
      for (int32_t i = THREAD; i < TABLES; i += THREADS) table[i] = step[(i & ~255) + table[i]];
      SYNC();
    } else if (op != IDENTITY) {
      const float value = args.value[(int64_t)k * args.num_values + frame];
      for (int32_t i = THREAD; i < TABLES; i += THREADS) table[i] = (uint8_t)table_op(op, value, mean, table[i]);
    }
  }
}

#endif
