// Rows of pixels gathered from a frame, at positions that a matrix gives: for randaugment.cu and warp.cu.
//
// A position is a pair of int32, in 1/2048 of a pixel, from the centre of pixel (0, 0); those farther than FAR are at FAR.
// `position` gives that of a pixel of a row.
#ifndef DALI_VIDAUG_GATHER_H
#define DALI_VIDAUG_GATHER_H
#include "common.h"

const int64_t ONE = (int64_t)1 << 32;  // of fixed-point coordinates: 32 bits of pixels, 32 of fractions
const int32_t FAR = 1 << 29;           // 2^18 pixels: kernels.py refuses frames with longer sides

// What is gathered from.
struct Frame {
  const uint8_t *src, *fill;  // fill: R, G, B, for what comes in from outside
  const uint8_t* table;       // [3 * 256], of the nearest pixels, or null
  int32_t height, width;
  bool smooth;  // bilinear, otherwise the nearest pixel
  bool soft;    // bilinear: a neighbour outside the frame has the colour `fill`; otherwise it is the pixel at the edge, and
                // a pixel whose own position is outside is `fill`
  bool cubic;   // bicubic, with neighbours as if not `soft`; `smooth` is set, too
};

DEVICE int64_t fixed(double value) { return (int64_t)(value * (double)ONE + (value < 0 ? -0.5 : 0.5)); }

// A matrix (double, row by row, of pixel coordinates; its last row is 0, 0, 1) as fixed-point coordinates of the centres of
// pixels: x, y, 1 to x, then to y, relative to the centre of pixel (0, 0), so that floor gives the nearest.
DEVICE void fixed_matrix(const double* m, int64_t* matrix) {
  for (int32_t i = 0; i < 6; i += 3) {
    matrix[i] = fixed(m[i]), matrix[i + 1] = fixed(m[i + 1]);
    matrix[i + 2] = fixed(m[i + 2] + (m[i] + m[i + 1]) / 2);
  }
}

// A row under an affine matrix: the position of its first pixel, and steps, as fixed-point coordinates.
struct Affine {
  int64_t x, y, dx, dy;
};

DEVICE Affine affine_row(const int64_t* m, int32_t row) {
  return {m[1] * row + m[2] - ONE / 2, m[4] * row + m[5] - ONE / 2, m[0], m[3]};
}

DEVICE int32_t near(int64_t at) { return (int32_t)(at < -FAR ? -FAR : at > FAR ? FAR : at); }

DEVICE void position(const Affine& row, int32_t i, int32_t* at_x, int32_t* at_y) {
  *at_x = near((row.x + row.dx * i) >> 21), *at_y = near((row.y + row.dy * i) >> 21);
}

// A row under any matrix: each position is divided by its third coordinate. x, y, dx and dy are in 1/2048 of a pixel.
struct Perspective {
  double x, y, z, dx, dy, dz;
};

DEVICE Perspective perspective_row(const double* m, int32_t row) {
  const double y = row + 0.5;
  return {(m[1] * y + m[2]) * 2048, (m[4] * y + m[5]) * 2048, m[7] * y + m[8], m[0] * 2048, m[3] * 2048, m[6]};
}

// `at` is from FAR to the left, so that truncation rounds down; NaN becomes -FAR.
DEVICE int32_t near(double at) {
  const double positive = at > 0 ? at : 0;
  return (int32_t)(positive < 2.0 * FAR ? positive : 2.0 * FAR) - FAR;
}

DEVICE void position(const Perspective& row, int32_t i, int32_t* at_x, int32_t* at_y) {
  const double centre = i + 0.5, scale = 1 / (row.z + row.dz * centre), half = 1024;
  *at_x = near((row.x + row.dx * centre) * scale + (FAR - half));
  *at_y = near((row.y + row.dy * centre) * scale + (FAR - half));
}

// ---- one pixel

// Between four values, with weights of 11 bits: 30 bits in all.
DEVICE uint8_t bilinear(int32_t a, int32_t b, int32_t c, int32_t d, int32_t wx, int32_t wy) {
  const int32_t upper = a * 2048 + (b - a) * wx, lower = c * 2048 + (d - c) * wx;
  return (uint8_t)((upper * 2048 + (lower - upper) * wy + (1 << 21)) >> 22);
}

DEVICE bool is_inside(int32_t value, int32_t length) { return (uint32_t)value < (uint32_t)length; }

DEVICE void nearest_pixel(const Frame& frame, uint8_t* dst, int32_t at_x, int32_t at_y) {
  const int32_t x = (at_x + 1024) >> 11, y = (at_y + 1024) >> 11;
  const bool inside = is_inside(x, frame.width) && is_inside(y, frame.height);
  const uint8_t* pixel = frame.src + ((int64_t)y * frame.width + x) * 3;
  for (int32_t c = 0; c < 3; ++c)
    dst[c] = !inside ? frame.fill[c] : frame.table ? frame.table[c * 256 + pixel[c]] : pixel[c];
}

// Where not all four neighbours are inside.
RARE void edge_pixel(const Frame& frame, uint8_t* dst, int32_t at_x, int32_t at_y) {
  const int32_t right = frame.width - 1, bottom = frame.height - 1, x0 = at_x >> 11, y0 = at_y >> 11;
  const int32_t x = frame.soft ? x0 + 1 : (at_x + 1024) >> 11, y = frame.soft ? y0 + 1 : (at_y + 1024) >> 11;
  if (!is_inside(x, frame.width + frame.soft) || !is_inside(y, frame.height + frame.soft)) {
    for (int32_t c = 0; c < 3; ++c) dst[c] = frame.fill[c];
    return;
  }
  const uint8_t* p = frame.src + ((int64_t)(y0 < 0 ? 0 : y0) * frame.width + (x0 < 0 ? 0 : x0)) * 3;
  const int32_t next = 0 <= x0 && x0 < right ? 3 : 0;  // at the edge, the neighbour is the pixel itself
  const int64_t below = 0 <= y0 && y0 < bottom ? 3 * frame.width : 0;
  const bool soft = frame.soft, left = soft && x0 < 0, last = soft && x0 == right;
  const bool top = soft && y0 < 0, low = soft && y0 == bottom;
  for (int32_t c = 0; c < 3; ++c) {
    const uint8_t fill = frame.fill[c];
    dst[c] = bilinear(left || top ? fill : p[c], last || top ? fill : p[next + c],
                      left || low ? fill : p[below + c], last || low ? fill : p[below + next + c], at_x & 2047, at_y & 2047);
  }
}

DEVICE void bilinear_pixel(const Frame& frame, uint8_t* dst, int32_t at_x, int32_t at_y) {
  const int32_t x = at_x >> 11, y = at_y >> 11;
  if (!is_inside(x, frame.width - 1) || !is_inside(y, frame.height - 1)) {
    edge_pixel(frame, dst, at_x, at_y);
    return;
  }
  const uint8_t *upper = frame.src + ((int64_t)y * frame.width + x) * 3, *lower = upper + 3 * frame.width;
  for (int32_t c = 0; c < 3; ++c)
    dst[c] = bilinear(upper[c], upper[3 + c], lower[c], lower[3 + c], at_x & 2047, at_y & 2047);
}

// Bicubic, as Pillow's transform: (a + 2) t^3 - (a + 3) t^2 + 1 up to one pixel away, a t^3 - 5a t^2 + 8a t - 4a up to two,
// with a = -1. The weights of four pixels in 1/2048, of a fraction k / 2048 between the second and the third; their sum is 1.
struct Cubic {
  int32_t w[4];
};

DEVICE Cubic cubic(int32_t k) {
  const int64_t rest = 2048 - k, half = 1 << 21;
  const int32_t before = -(int32_t)((k * rest * rest + half) >> 22), after = -(int32_t)((k * k * rest + half) >> 22);
  return {{before, (int32_t)rest - before, k - after, after}};
}

DEVICE int32_t weighted(const Cubic& at, int32_t a, int32_t b, int32_t c, int32_t d) {
  return at.w[0] * a + at.w[1] * b + at.w[2] * c + at.w[3] * d;
}

// Between four sums of `weighted`. Nothing is beyond 255 * 2^22 * (1.25^2 + 0.25^2), which 31 bits hold.
DEVICE uint8_t bicubic(const Cubic& down, int32_t a, int32_t b, int32_t c, int32_t d) {
  const int32_t value = (weighted(down, a, b, c, d) + (1 << 21)) >> 22, positive = value < 0 ? 0 : value;
  return (uint8_t)(positive > 255 ? 255 : positive);
}

DEVICE int32_t clamped(int32_t value, int32_t last) { return value < 0 ? 0 : value > last ? last : value; }

DEVICE void bicubic_pixel(const Frame& frame, uint8_t* dst, int32_t at_x, int32_t at_y) {
  const int32_t right = frame.width - 1, bottom = frame.height - 1, x = at_x >> 11, y = at_y >> 11;
  if (!is_inside((at_x + 1024) >> 11, frame.width) || !is_inside((at_y + 1024) >> 11, frame.height)) {
    for (int32_t c = 0; c < 3; ++c) dst[c] = frame.fill[c];
    return;
  }
  int32_t columns[4];
  const uint8_t* rows[4];
  for (int32_t i = 0; i < 4; ++i) {
    columns[i] = 3 * clamped(x - 1 + i, right);
    rows[i] = frame.src + (int64_t)clamped(y - 1 + i, bottom) * frame.width * 3;
  }
  const Cubic across = cubic(at_x & 2047), down = cubic(at_y & 2047);
  for (int32_t c = 0; c < 3; ++c) {
    int32_t sums[4];
    for (int32_t i = 0; i < 4; ++i) {
      const uint8_t* p = rows[i] + c;
      sums[i] = weighted(across, p[columns[0]], p[columns[1]], p[columns[2]], p[columns[3]]);
    }
    dst[c] = bicubic(down, sums[0], sums[1], sums[2], sums[3]);
  }
}

DEVICE void gather_pixel(const Frame& frame, uint8_t* dst, int32_t at_x, int32_t at_y) {
  if (frame.cubic) bicubic_pixel(frame, dst, at_x, at_y);
  else if (frame.smooth) bilinear_pixel(frame, dst, at_x, at_y);
  else nearest_pixel(frame, dst, at_x, at_y);
}

// ---- one row

// Asks for a row of the next frame. The CPU does not foresee which bytes are next where rows are not read in their order.
DEVICE void expect_row(const uint8_t* row, int32_t width) {
#ifdef __CUDACC_RTC__
  (void)row, (void)width;
#else
  for (int32_t i = 0; i < 3 * width; i += 64) __builtin_prefetch(row + i, 0, 2);
#endif
}

// Pixels [first, last) of a row, one after the other.
template <typename Row>
DEVICE void gather_each(const Frame& frame, uint8_t* __restrict__ dst, int32_t first, int32_t last, const Row& row) {
  for (int32_t i = first + LANE; i < last; i += LANES) {
    int32_t at_x, at_y;
    position(row, i, &at_x, &at_y);
    gather_pixel(frame, dst + 3 * i, at_x, at_y);
  }
}

#ifdef __CUDACC_RTC__
template <typename Row>
DEVICE void gather(const Frame& frame, uint8_t* dst, int32_t width, const Row& row) {
  gather_each(frame, dst, 0, width, row);
}
#elif defined(__AVX2__)
#include "gather_avx2.h"
#else
// The positions of many pixels first, in a loop that uses vectors.
template <typename Row>
DEVICE void gather(const Frame& frame, uint8_t* __restrict__ dst, int32_t width, const Row& row) {
  const int32_t BLOCK = 32;
  int32_t at_x[BLOCK], at_y[BLOCK];
  for (int32_t first = 0; first < width; first += BLOCK) {
    for (int32_t i = 0; i < BLOCK; ++i) position(row, first + i, at_x + i, at_y + i);
    for (int32_t i = 0; i < BLOCK && first + i < width; ++i)
      gather_pixel(frame, dst + 3 * (first + i), at_x[i], at_y[i]);
  }
}
#endif

// As nearest_pixel for all of a row, without rounding to 1/2048 of a pixel first: it is the same.
DEVICE void gather_nearest(const Frame& frame, uint8_t* __restrict__ dst, int32_t width, const Affine& row) {
  const uint8_t *src = frame.src, *table = frame.table;
  const int64_t dx = row.dx, dy = row.dy, at_x = row.x + ONE / 2, at_y = row.y + ONE / 2;
  const uint64_t right = frame.width, bottom = frame.height;
  for (int32_t i = LANE; i < width; i += LANES) {
    const int64_t x = (at_x + dx * i) >> 32, y = (at_y + dy * i) >> 32;
    const bool inside = (uint64_t)x < right && (uint64_t)y < bottom;
    const uint8_t* pixel = src + (y * (int64_t)right + x) * 3;
    for (int32_t c = 0; c < 3; ++c)
      dst[3 * i + c] = !inside ? frame.fill[c] : table ? table[c * 256 + pixel[c]] : pixel[c];
  }
}

// As gather_each of bicubic pixels. For ShearX and translations, where a row comes from four rows, moved, the CPU does many
// bytes at once of the pixels [first, last), which have all sixteen neighbours.
DEVICE void gather_cubic(const Frame& frame, uint8_t* __restrict__ dst, int32_t width, const Affine& row) {
  int32_t first = 0, last = 0;
  const int64_t x0 = row.x >> 32, y0 = row.y >> 32;
  if (row.dx == ONE && row.dy == 0 && 1 <= y0 && y0 < frame.height - 2 && -width < x0 && x0 < frame.width) {
    first = x0 < 1 ? (int32_t)(1 - x0) : 0;
    last = frame.width - 2 - (int32_t)x0 < width ? frame.width - 2 - (int32_t)x0 : width;
  }
  if (first >= last) {
    gather_each(frame, dst, 0, width, row);
    return;
  }
  gather_each(frame, dst, 0, first, row);
  const Cubic across = cubic((uint32_t)row.x >> 21), down = cubic((uint32_t)row.y >> 21);
  const uint8_t *b = frame.src + (y0 * frame.width + x0) * 3, *a = b - frame.width * 3, *c = b + frame.width * 3;
  const uint8_t* d = c + frame.width * 3;
  for (int32_t i = 3 * first + LANE; i < 3 * last; i += LANES)
    dst[i] = bicubic(
        down, weighted(across, a[i - 3], a[i], a[i + 3], a[i + 6]), weighted(across, b[i - 3], b[i], b[i + 3], b[i + 6]),
        weighted(across, c[i - 3], c[i], c[i + 3], c[i + 6]), weighted(across, d[i - 3], d[i], d[i + 3], d[i + 6]));
  gather_each(frame, dst, last, width, row);
}

// A row under an affine matrix.
DEVICE void gather_affine(const Frame& frame, uint8_t* __restrict__ dst, int32_t width, const Affine& row) {
  if (!frame.smooth) {
    gather_nearest(frame, dst, width, row);
    return;
  }
  if (frame.cubic) {
    gather_cubic(frame, dst, width, row);
    return;
  }
  // ShearX and translations: a row comes from two rows, moved. The pixels [first, last) have all four neighbours, and
  // there the CPU does many bytes at once.
  int32_t first = 0, last = 0;
  const int64_t x0 = row.x >> 32, y0 = row.y >> 32;
  if (row.dx == ONE && row.dy == 0 && 0 <= y0 && y0 < frame.height - 1 && -width < x0 && x0 < frame.width) {
    first = x0 < 0 ? (int32_t)-x0 : 0;
    last = frame.width - 1 - (int32_t)x0 < width ? frame.width - 1 - (int32_t)x0 : width;
  }
  if (first >= last) {
    gather(frame, dst, width, row);
    return;
  }
  gather_each(frame, dst, 0, first, row);
  const uint8_t *top = frame.src + (y0 * frame.width + x0) * 3, *low = top + frame.width * 3;
  const int32_t wx = (uint32_t)row.x >> 21, wy = (uint32_t)row.y >> 21;
  for (int32_t i = 3 * first + LANE; i < 3 * last; i += LANES)
    dst[i] = bilinear(top[i], top[i + 3], low[i], low[i + 3], wx, wy);
  gather_each(frame, dst, last, width, row);
}

#endif
