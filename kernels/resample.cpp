// Frames of planar YUV, 8 bits, to packed RGB of another size: crop, scale and colours in one pass, row by row. Not
// compiled for the GPU.
//
// Each plane is scaled by itself with a triangle filter: from one sample to the next when it grows, averaging when it
// shrinks. Samples are taken where they lie: one of chroma in the middle of the pixels that share it. Weights have 14
// bits, what lies between the two directions 7 bits after the point, scaled samples 6, the matrix 13; sums are exact.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#ifdef __AVX2__
#include <immintrin.h>
#endif

const int64_t LANES = 8;  // weights of an output are padded to so many, or to half of it
const int64_t PADDING = 2 * LANES;  // samples after a row that vectors may read; their weights are 0

// One direction of one plane.
struct Axis {
  int64_t low, high;  // samples that may be used: [low, high)
  int64_t taps;       // weights for each output
  std::vector<int32_t> first;
  std::vector<int16_t> weights;

  // Output i lies at `origin + (i + 0.5) * step` samples; outputs [begin, end), in this order or the other.
  void make(double origin, double step, int64_t low_, int64_t high_, int64_t begin, int64_t end, bool reversed) {
    low = low_, high = high_;
    const double reach = std::max(1.0, step);
    const int64_t wanted = (int64_t)std::ceil(2 * reach) + 1, count = end - begin;
    taps = wanted <= LANES / 2 ? LANES / 2 : (wanted + LANES - 1) / LANES * LANES;
    first.resize(count);
    weights.assign(count * taps, 0);
    std::vector<double> exact(taps);
    for (int64_t i = 0; i < count; i++) {
      const double at = origin + ((double)(begin + (reversed ? count - 1 - i : i)) + 0.5) * step - 0.5;
      const int64_t start = std::min(std::max((int64_t)std::floor(at - reach) + 1, low), std::max(low, high - taps));
      std::fill(exact.begin(), exact.end(), 0.0);
      double sum = 0;
      for (int64_t j = (int64_t)std::floor(at - reach) + 1; (double)j < at + reach; j++) {
        const double weight = 1 - std::abs((double)j - at) / reach;
        exact[std::min(std::max(j, low), high - 1) - start] += weight;  // what is outside is as the edge is
        sum += weight;
      }
      double until = 0;
      int64_t given = 0;
      for (int64_t k = 0; k < taps; k++) {  // what rounding leaves of one goes to the next: they sum up to one
        until += exact[k];
        const int64_t rounded = (int64_t)std::floor(until / sum * (1 << 14) + 0.5);
        weights[i * taps + k] = (int16_t)(rounded - given);
        given = rounded;
      }
      first[i] = (int32_t)start;
    }
  }
};

struct Plane {
  Axis rows, columns;
};

// Rows that are summed up, and pairs of their weights: two of 16 bits each.
struct Rows {
  std::vector<const uint8_t*> places;
  std::vector<int32_t> pairs;
  int64_t count;  // even

  void choose(const uint8_t* plane, int64_t stride, const Axis& axis, int64_t i, int64_t left) {
    const int16_t* weights = &axis.weights[i * axis.taps];
    count = axis.taps;
    while (count > 2 && !weights[count - 1] && !weights[count - 2]) count -= 2;
    places.resize(axis.taps), pairs.resize(axis.taps / 2);
    for (int64_t k = 0; k < count; k++)
      places[k] = plane + std::min(axis.first[i] + k, axis.high - 1) * stride + left;
    std::memcpy(pairs.data(), weights, count * sizeof(int16_t));
  }
};

// A clip's way from frames to pictures, made once.
struct Resampler {
  Plane planes[3];
  int64_t height, width;
  Rows rows;
  std::vector<int16_t> column, scaled[3];  // a row between the directions; one of each plane
  std::vector<uint8_t> colors[3];
};

// One row between the directions: 7 bits after the point.
static void sum_rows(const Rows& rows, int64_t count, int16_t* out) {
  const uint8_t* const* places = rows.places.data();
  const int32_t* pairs = rows.pairs.data();
  int64_t x = 0;
#ifdef __AVX2__
  for (bool more = count >= 32; more; x += 32) {
    x = std::min(x, count - 32);  // the last one may begin within the one before it
    __m256i sums[4];
    for (__m256i& sum : sums) sum = _mm256_set1_epi32(1 << 6);
    for (int64_t k = 0; k < rows.count; k += 2) {
      const __m256i weights = _mm256_set1_epi32(pairs[k / 2]);
      const __m256i a = _mm256_loadu_si256((const __m256i*)(places[k] + x));
      const __m256i b = _mm256_loadu_si256((const __m256i*)(places[k + 1] + x));
      const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
      sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(_mm256_unpacklo_epi8(low, _mm256_setzero_si256()), weights));
      sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(_mm256_unpackhi_epi8(low, _mm256_setzero_si256()), weights));
      sums[2] = _mm256_add_epi32(sums[2], _mm256_madd_epi16(_mm256_unpacklo_epi8(high, _mm256_setzero_si256()), weights));
      sums[3] = _mm256_add_epi32(sums[3], _mm256_madd_epi16(_mm256_unpackhi_epi8(high, _mm256_setzero_si256()), weights));
    }
    for (__m256i& sum : sums) sum = _mm256_srai_epi32(sum, 7);
    // low halves: pixels 0 to 15, high halves: 16 to 31
    const __m256i first = _mm256_packs_epi32(sums[0], sums[1]), second = _mm256_packs_epi32(sums[2], sums[3]);
    _mm256_storeu_si256((__m256i*)(out + x), _mm256_permute2x128_si256(first, second, 0x20));
    _mm256_storeu_si256((__m256i*)(out + x + 16), _mm256_permute2x128_si256(first, second, 0x31));
    more = x + 32 < count;
  }
#endif
  for (; x < count; x++) {
    int32_t sum = 1 << 6;
    for (int64_t k = 0; k < rows.count; k++) sum += (int16_t)(pairs[k / 2] >> (k % 2 ? 16 : 0)) * places[k][x];
    out[x] = (int16_t)(sum >> 7);
  }
}

// The other direction: 6 bits after the point. `row` begins with sample axis.low, and has PADDING after its end.
static void sum_columns(const int16_t* row, const Axis& axis, int64_t count, int16_t* out) {
  const int64_t taps = axis.taps;
  int64_t i = 0;
#ifdef __AVX2__
  const __m128i half = _mm_set1_epi32(1 << 14);
  const auto at = [&](int64_t n) { return row + axis.first[n] - axis.low; };
  for (; i + 4 <= count; i += 4) {
    const int16_t* weights = &axis.weights[i * taps];
    __m128i sums;
    if (taps == LANES / 2) {
      const auto pair = [&](int64_t n) {
        const __m128i samples = _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i*)at(i + n)),
                                                   _mm_loadl_epi64((const __m128i*)at(i + n + 1)));
        return _mm_madd_epi16(samples, _mm_loadu_si128((const __m128i*)(weights + n * taps)));
      };
      sums = _mm_hadd_epi32(pair(0), pair(2));
    } else {
      const auto one = [&](int64_t n) {
        __m128i sum = _mm_setzero_si128();
        for (int64_t k = 0; k < taps; k += LANES)
          sum = _mm_add_epi32(sum, _mm_madd_epi16(_mm_loadu_si128((const __m128i*)(at(i + n) + k)),
                                                  _mm_loadu_si128((const __m128i*)(weights + n * taps + k))));
        return sum;
      };
      sums = _mm_hadd_epi32(_mm_hadd_epi32(one(0), one(1)), _mm_hadd_epi32(one(2), one(3)));
    }
    sums = _mm_srai_epi32(_mm_add_epi32(sums, half), 15);
    _mm_storel_epi64((__m128i*)(out + i), _mm_packs_epi32(sums, sums));
  }
#endif
  for (; i < count; i++) {
    int32_t sum = 1 << 14;
    for (int64_t k = 0; k < taps; k++) sum += axis.weights[i * taps + k] * row[axis.first[i] - axis.low + k];
    out[i] = (int16_t)(sum >> 15);
  }
}

static inline uint8_t to_byte(int32_t value) { return (uint8_t)std::min(std::max(value >> 19, 0), 255); }

// A row of Y, U, V to R, G, B. matrix: what Y, and V in red, U and V in green, U in blue are multiplied by; and what is
// taken from Y, of 6 bits after the point.
static void to_rgb(const int16_t* __restrict y, const int16_t* __restrict u, const int16_t* __restrict v,
                   const int32_t* matrix, int64_t count, uint8_t* __restrict red, uint8_t* __restrict green,
                   uint8_t* __restrict blue) {
  const int32_t luma = matrix[0], v_red = matrix[1], u_green = matrix[2], v_green = matrix[3], u_blue = matrix[4];
  const int32_t black = matrix[5], grey = 128 << 6, half = 1 << 18;
  for (int64_t x = 0; x < count; x++) {
    const int32_t bright = luma * (y[x] - black) + half, cb = u[x] - grey, cr = v[x] - grey;
    red[x] = to_byte(bright + v_red * cr);
    green[x] = to_byte(bright + u_green * cb + v_green * cr);
    blue[x] = to_byte(bright + u_blue * cb);
  }
}

// Three rows of bytes as packed RGB.
static void pack(const uint8_t* red, const uint8_t* green, const uint8_t* blue, int64_t count, uint8_t* out) {
  int64_t x = 0;
#ifdef __SSSE3__
  const char n = -1;
  const __m128i r0 = _mm_setr_epi8(0, n, n, 1, n, n, 2, n, n, 3, n, n, 4, n, n, 5);
  const __m128i g0 = _mm_setr_epi8(n, 0, n, n, 1, n, n, 2, n, n, 3, n, n, 4, n, n);
  const __m128i b0 = _mm_setr_epi8(n, n, 0, n, n, 1, n, n, 2, n, n, 3, n, n, 4, n);
  const __m128i r1 = _mm_setr_epi8(n, n, 6, n, n, 7, n, n, 8, n, n, 9, n, n, 10, n);
  const __m128i g1 = _mm_setr_epi8(5, n, n, 6, n, n, 7, n, n, 8, n, n, 9, n, n, 10);
  const __m128i b1 = _mm_setr_epi8(n, 5, n, n, 6, n, n, 7, n, n, 8, n, n, 9, n, n);
  const __m128i r2 = _mm_setr_epi8(n, 11, n, n, 12, n, n, 13, n, n, 14, n, n, 15, n, n);
  const __m128i g2 = _mm_setr_epi8(n, n, 11, n, n, 12, n, n, 13, n, n, 14, n, n, 15, n);
  const __m128i b2 = _mm_setr_epi8(10, n, n, 11, n, n, 12, n, n, 13, n, n, 14, n, n, 15);
  for (; x + 16 <= count; x += 16, out += 48) {
    const __m128i r = _mm_loadu_si128((const __m128i*)(red + x)), g = _mm_loadu_si128((const __m128i*)(green + x)),
                  b = _mm_loadu_si128((const __m128i*)(blue + x));
    const auto join = [&](__m128i of_r, __m128i of_g, __m128i of_b) {
      return _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(r, of_r), _mm_shuffle_epi8(g, of_g)), _mm_shuffle_epi8(b, of_b));
    };
    _mm_storeu_si128((__m128i*)out, join(r0, g0, b0));
    _mm_storeu_si128((__m128i*)(out + 16), join(r1, g1, b1));
    _mm_storeu_si128((__m128i*)(out + 32), join(r2, g2, b2));
  }
#endif
  for (; x < count; x++, out += 3) out[0] = red[x], out[1] = green[x], out[2] = blue[x];
}

// Three planes of height x width bytes, with `stride` bytes from row to row, as packed RGB without gaps.
extern "C" void interleave(const uint8_t* red, const uint8_t* green, const uint8_t* blue, int64_t stride,
                           uint8_t* out, int64_t height, int64_t width) {
  for (int64_t y = 0; y < height; y++, red += stride, green += stride, blue += stride, out += 3 * width)
    pack(red, green, blue, width, out);
}

// Makes a resampler, which is to be freed. box: top, left, bottom, right in pixels of luma, scaled to `full` (height, width), of which
// the part `view` (top, left, bottom, right) is made, left and right swapped if `mirrored`. shifts: by how many bits
// rows and columns of chroma are fewer.
extern "C" void make_resampler(const int64_t* box, const int64_t* full, const int64_t* view, const int32_t* shifts,
                               int32_t mirrored, Resampler** result) {
  Resampler* made = *result = new Resampler;
  made->height = view[2] - view[0], made->width = view[3] - view[1];
  int64_t longest = 0;
  for (int64_t p = 0; p < 3; p++)
    for (int64_t d = 0; d < 2; d++) {
      Axis& axis = d ? made->planes[p].columns : made->planes[p].rows;
      const int64_t shift = p ? shifts[d] : 0, low = box[d] >> shift;
      const int64_t high = (box[d + 2] + (1 << shift) - 1) >> shift;
      const double scale = 1.0 / (double)(1 << shift);
      axis.make((double)box[d] * scale, (double)(box[d + 2] - box[d]) * scale / (double)full[d], low, high, view[d],
                view[d + 2], d && mirrored);
      longest = std::max(longest, high - low + PADDING + axis.taps);
    }
  made->column.assign(longest, 0);
  for (int64_t p = 0; p < 3; p++) made->scaled[p].resize(made->width), made->colors[p].resize(made->width);
}

extern "C" void free_resampler(Resampler* made) { delete made; }

// A frame: planes Y, U, V with their strides; `out` is packed RGB without gaps. matrix: as of `to_rgb`.
extern "C" void resample(Resampler* made, const uint8_t* const* planes, const int64_t* strides, const int32_t* matrix,
                         uint8_t* out) {
  for (int64_t y = 0; y < made->height; y++, out += 3 * made->width) {
    for (int64_t p = 0; p < 3; p++) {
      const Plane& plane = made->planes[p];
      const int64_t low = plane.columns.low, count = plane.columns.high - low;
      made->rows.choose(planes[p], strides[p], plane.rows, y, low);
      sum_rows(made->rows, count, made->column.data());
      sum_columns(made->column.data(), plane.columns, made->width, made->scaled[p].data());
    }
    to_rgb(made->scaled[0].data(), made->scaled[1].data(), made->scaled[2].data(), matrix, made->width,
           made->colors[0].data(), made->colors[1].data(), made->colors[2].data());
    pack(made->colors[0].data(), made->colors[1].data(), made->colors[2].data(), made->width, out);
  }
}
