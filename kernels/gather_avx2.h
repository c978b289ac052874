// For gather.h: rows of pixels on CPUs with AVX2, eight pixels at once. The bytes are those of gather_each.
#ifndef DALI_VIDAUG_GATHER_AVX2_H
#define DALI_VIDAUG_GATHER_AVX2_H
#include "avx2.h"
#include <cstring>

const int32_t GROUPS = 8;  // whose positions are found before any of their pixels is read

DEVICE __m256i all(int32_t value) { return _mm256_set1_epi32(value); }
DEVICE __m256i load(const int32_t* numbers) { return _mm256_loadu_si256((const __m256i*)numbers); }
DEVICE void store(int32_t* numbers, __m256i values) { _mm256_storeu_si256((__m256i*)numbers, values); }
DEVICE __m256i either(__m256i a, __m256i b) { return _mm256_or_si256(a, b); }

// ---- positions of the first eight pixels of a row, and then of the next eight

// One coordinate of an affine row that is never far: in 1/2048 of a pixel, and the 21 bits of the fraction after them.
struct Coordinate {
  __m256i at, rest, step, rest_of_step;

  Coordinate(int64_t start, int64_t step_of_one) {
    const __m256i number = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const int32_t low = (1 << 21) - 1, whole = (int32_t)(step_of_one >> 21), part = (int32_t)(step_of_one & low);
    step = _mm256_mullo_epi32(all(whole), number), rest_of_step = _mm256_mullo_epi32(all(part), number);
    at = all((int32_t)(start >> 21)), rest = all((int32_t)(start & low));
    next();
    step = all(GROUP * whole), rest_of_step = all(GROUP * part);
  }

  void next() {
    rest = _mm256_add_epi32(rest, rest_of_step);
    at = _mm256_add_epi32(_mm256_add_epi32(at, step), _mm256_srli_epi32(rest, 21));
    rest = _mm256_and_si256(rest, all((1 << 21) - 1));
  }
};

struct AffineSteps {
  Coordinate x, y;

  explicit AffineSteps(const Affine& row) : x(row.x, row.dx), y(row.y, row.dy) {}

  void next(int32_t* at_x, int32_t* at_y) {
    store(at_x, x.at), store(at_y, y.at);
    x.next(), y.next();
  }
};

DEVICE bool is_near(int64_t at) { return -FAR <= at >> 21 && at >> 21 <= FAR; }

DEVICE bool is_near(const Affine& row, int32_t width) {
  return is_near(row.x) && is_near(row.x + row.dx * width) && is_near(row.y) && is_near(row.y + row.dy * width);
}

struct PerspectiveSteps {
  __m256d x, y, z, dx, dy, dz, centre;

  explicit PerspectiveSteps(const Perspective& row)
      : x(_mm256_set1_pd(row.x)), y(_mm256_set1_pd(row.y)), z(_mm256_set1_pd(row.z)), dx(_mm256_set1_pd(row.dx)),
        dy(_mm256_set1_pd(row.dy)), dz(_mm256_set1_pd(row.dz)), centre(_mm256_setr_pd(0.5, 1.5, 2.5, 3.5)) {}

  static __m128i near(__m256d at) {
    const __m256d positive = _mm256_max_pd(at, _mm256_setzero_pd());  // of NaN and another number, the other one
    return _mm_sub_epi32(_mm256_cvttpd_epi32(_mm256_min_pd(positive, _mm256_set1_pd(2.0 * FAR))), _mm_set1_epi32(FAR));
  }

  void next_four(__m128i* at_x, __m128i* at_y) {
    const __m256d scale = _mm256_div_pd(_mm256_set1_pd(1), _mm256_add_pd(z, _mm256_mul_pd(dz, centre)));
    const __m256d from_x = _mm256_add_pd(x, _mm256_mul_pd(dx, centre)), middle = _mm256_set1_pd(FAR - 1024);
    const __m256d from_y = _mm256_add_pd(y, _mm256_mul_pd(dy, centre));
    *at_x = near(_mm256_add_pd(_mm256_mul_pd(from_x, scale), middle));
    *at_y = near(_mm256_add_pd(_mm256_mul_pd(from_y, scale), middle));
    centre = _mm256_add_pd(centre, _mm256_set1_pd(4));
  }

  void next(int32_t* at_x, int32_t* at_y) {
    __m128i left_x, left_y, right_x, right_y;
    next_four(&left_x, &left_y);
    next_four(&right_x, &right_y);
    store(at_x, _mm256_set_m128i(right_x, left_x)), store(at_y, _mm256_set_m128i(right_y, left_y));
  }
};

// ---- where the pixels of some groups come from

struct Block {
  int32_t at_x[GROUPS * GROUP], at_y[GROUPS * GROUP];
  int32_t from[GROUPS * GROUP];  // bytes from the beginning of the frame, of the nearest pixel or the first of four
  uint8_t alone[GROUPS];         // a bit for each pixel that must be gathered alone; it has `from` 0
  bool empty[GROUPS];            // of groups whose pixels must all be gathered alone: all have the colour `fill`
};

template <bool SMOOTH>
DEVICE void find(const Frame& frame, Block& block, int32_t group) {
  const int32_t more = SMOOTH ? 1 : 0, half = SMOOTH ? 0 : 1024, stride = 3 * frame.width;
  // The last place from which that many bytes can be read. Of the rows this leaves out the last one if it must.
  const int32_t last = frame.height * stride - (SMOOTH ? stride + 16 : 4);
  const int32_t right = frame.width - 1, bottom = frame.height - 1;
  const __m256i x = _mm256_srai_epi32(_mm256_add_epi32(load(block.at_x + GROUP * group), all(half)), 11);
  const __m256i y = _mm256_srai_epi32(_mm256_add_epi32(load(block.at_y + GROUP * group), all(half)), 11);
  const __m256i from = _mm256_add_epi32(_mm256_mullo_epi32(y, all(stride)), _mm256_add_epi32(x, _mm256_add_epi32(x, x)));
  const __m256i below = _mm256_srai_epi32(either(x, y), 31);
  const __m256i above = either(_mm256_cmpgt_epi32(x, all(right - more)), _mm256_cmpgt_epi32(y, all(bottom)));
  const __m256i alone = either(either(below, above), _mm256_cmpgt_epi32(from, all(last)));
  store(block.from + GROUP * group, _mm256_andnot_si256(alone, from));
  block.alone[group] = (uint8_t)_mm256_movemask_ps(_mm256_castsi256_ps(alone));
  if (block.alone[group] == 255) {
    const __m256i far_below = either(_mm256_cmpgt_epi32(all(-1), x), _mm256_cmpgt_epi32(all(-1), y));
    const __m256i far_above = either(_mm256_cmpgt_epi32(x, all(right)), _mm256_cmpgt_epi32(y, all(bottom)));
    block.empty[group] = _mm256_movemask_epi8(either(far_below, far_above)) == -1;
  }
}

// ---- pixels of a group

// Three of each four bytes.
DEVICE __m256i without_fourth(__m256i pixels) {
  return _mm256_shuffle_epi8(pixels, both(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1)));
}

// Two pixels as four numbers each: R, G, B, and one that nobody needs. wx and wy: their weights, four times.
DEVICE __m256i two_pixels(const uint8_t* p, const uint8_t* q, int64_t stride, __m256i wx, __m256i wy) {
  const __m256i pairs = both(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
  const __m256i upper = _mm256_madd_epi16(_mm256_shuffle_epi8(load_halves(p, q), pairs), wx);
  const __m256i lower = _mm256_madd_epi16(_mm256_shuffle_epi8(load_halves(p + stride, q + stride), pairs), wx);
  const __m256i change = _mm256_mullo_epi32(_mm256_sub_epi32(lower, upper), wy);
  const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(_mm256_slli_epi32(upper, 11), all(1 << 21)), change);
  return _mm256_srli_epi32(sum, 22);
}

DEVICE void bilinear_group(const Frame& frame, uint8_t* dst, const Block& block, int32_t first) {
  const int32_t* from = block.from + first;
  const __m256i right = _mm256_and_si256(load(block.at_x + first), all(2047));
  const __m256i wx = either(_mm256_slli_epi32(right, 16), _mm256_sub_epi32(all(2048), right));
  const __m256i wy = _mm256_and_si256(load(block.at_y + first), all(2047));
  __m256i pixels[4];
  for (int32_t i = 0; i < 4; ++i) {
    const __m256i which = _mm256_setr_epi32(i, i, i, i, i + 4, i + 4, i + 4, i + 4);
    pixels[i] = two_pixels(frame.src + from[i], frame.src + from[i + 4], 3 * frame.width,
                           _mm256_permutevar8x32_epi32(wx, which), _mm256_permutevar8x32_epi32(wy, which));
  }
  const __m256i bytes = _mm256_packus_epi16(_mm256_packus_epi32(pixels[0], pixels[1]),
                                            _mm256_packus_epi32(pixels[2], pixels[3]));
  store_group(dst, without_fourth(bytes));
}

// Four bytes of each are written, and of the last one three.
DEVICE void nearest_group(const Frame& frame, uint8_t* dst, const Block& block, int32_t first) {
  const int32_t* from = block.from + first;
  for (int32_t i = 0; i < GROUP; ++i) memcpy(dst + 3 * i, frame.src + from[i], i < GROUP - 1 ? 4 : 3);
}

// ---- rows

template <bool SMOOTH, typename Steps>
DEVICE void gather_groups(const Frame& frame, uint8_t* __restrict__ dst, int32_t groups, Steps& steps) {
  const __m256i fill = without_fourth(all(frame.fill[0] | frame.fill[1] << 8 | frame.fill[2] << 16));
  Block block;
  for (int32_t first = 0; first < groups; first += GROUPS) {
    const int32_t count = groups - first < GROUPS ? groups - first : GROUPS;
    for (int32_t i = 0; i < count; ++i) {
      steps.next(block.at_x + GROUP * i, block.at_y + GROUP * i);
      find<SMOOTH>(frame, block, i);
    }
    for (int32_t i = 0; i < count; ++i, dst += 3 * GROUP) {
      uint32_t alone = block.alone[i];
      if (alone == 255 && block.empty[i]) {
        store_group(dst, fill);
        continue;
      }
      if (alone != 255 && SMOOTH) bilinear_group(frame, dst, block, GROUP * i);
      if (alone != 255 && !SMOOTH) nearest_group(frame, dst, block, GROUP * i);
      for (int32_t k = 0; alone >> k; ++k)
        if (alone >> k & 1) gather_pixel(frame, dst + 3 * k, block.at_x[GROUP * i + k], block.at_y[GROUP * i + k]);
    }
  }
}

template <typename Row, typename Steps>
DEVICE void gather_steps(const Frame& frame, uint8_t* dst, int32_t width, const Row& row, Steps steps) {
  if (frame.smooth) gather_groups<true>(frame, dst, width / GROUP, steps);
  else gather_groups<false>(frame, dst, width / GROUP, steps);
  gather_each(frame, dst, width / GROUP * GROUP, width, row);
}

DEVICE void gather(const Frame& frame, uint8_t* dst, int32_t width, const Affine& row) {
  if (is_near(row, width)) gather_steps(frame, dst, width, row, AffineSteps(row));
  else gather_each(frame, dst, 0, width, row);
}

DEVICE void gather(const Frame& frame, uint8_t* dst, int32_t width, const Perspective& row) {
  gather_steps(frame, dst, width, row, PerspectiveSteps(row));
}

#endif
