// Motion vectors of decoders: what moves in a frame, and maps of it on the pixels of clips. Not compiled for the GPU.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

const int32_t BLOCK = 8;  // pixels: no vector is of less
const int64_t STEP = 4;   // pixels of a clip from one point that is looked at to the next

// AVMotionVector of FFmpeg (libavutil/motion_vector.h): the block around (dst_x, dst_y) is as the picture that it is
// predicted from is around dst + motion / scale. source: < 0 for one that is shown before, > 0 for one that is after.
struct Vector {
  int32_t source;
  uint8_t width, height;
  int16_t src_x, src_y, dst_x, dst_y;
  uint64_t flags;
  int32_t motion_x, motion_y;
  uint16_t scale;
};
static_assert(sizeof(Vector) == 40, "AVMotionVector has another size");

// Luma of a decoded frame, one or two bytes a pixel; `number`: index of the frame, -1 where it is hidden.
struct Picture {
  const void* luma;
  int64_t stride;
  int64_t number;
};

// By how many pixels something moves from one frame to the next.
struct Moves {
  float right, down;
};

// How many frames after another one is shown, < 0 for before; of a hidden frame that is not known.
static double frames_after(const Picture& one, const Picture& other) {
  return one.number >= 0 ? (double)(one.number - other.number) : std::numeric_limits<double>::quiet_NaN();
}

// How much a row of `count` pixels differs from another.
static int64_t difference(const uint8_t* a, const uint8_t* b, int64_t count) {
  int64_t x = 0, sum = 0;
#ifdef __SSE2__
  __m128i sums = _mm_setzero_si128();
  for (; x + 16 <= count; x += 16)
    sums = _mm_add_epi64(sums, _mm_sad_epu8(_mm_loadu_si128((const __m128i*)(a + x)),
                                            _mm_loadu_si128((const __m128i*)(b + x))));
  for (; x + 8 <= count; x += 8)
    sums = _mm_add_epi64(sums, _mm_sad_epu8(_mm_loadl_epi64((const __m128i*)(a + x)),
                                            _mm_loadl_epi64((const __m128i*)(b + x))));
  sum = _mm_cvtsi128_si32(sums) + _mm_cvtsi128_si32(_mm_srli_si128(sums, 8));
#endif
  for (; x < count; x++) sum += std::abs((int32_t)a[x] - (int32_t)b[x]);
  return sum;
}

static int64_t difference(const uint16_t* a, const uint16_t* b, int64_t count) {
  int64_t sum = 0;
  for (int64_t x = 0; x < count; x++) sum += std::abs((int32_t)a[x] - (int32_t)b[x]);
  return sum;
}

// How much `lines` rows of `count` pixels, 8 or 16, differ from others; steps: bytes from row to row.
static inline int64_t difference(const uint8_t* a, int64_t step_a, const uint8_t* b, int64_t step_b, int64_t count,
                                 int64_t lines) {
#ifdef __SSE2__
  __m128i sums = _mm_setzero_si128();
  if (count == 16)
    for (int64_t i = 0; i < lines; i++, a += step_a, b += step_b)
      sums = _mm_add_epi64(sums, _mm_sad_epu8(_mm_loadu_si128((const __m128i*)a), _mm_loadu_si128((const __m128i*)b)));
  else
    for (int64_t i = 0; i < lines; i++, a += step_a, b += step_b)
      sums = _mm_add_epi64(sums, _mm_sad_epu8(_mm_loadl_epi64((const __m128i*)a), _mm_loadl_epi64((const __m128i*)b)));
  return _mm_cvtsi128_si32(sums) + _mm_cvtsi128_si32(_mm_srli_si128(sums, 8));
#else
  int64_t sum = 0;
  for (int64_t i = 0; i < lines; i++) sum += difference(a + i * step_a, b + i * step_b, count);
  return sum;
#endif
}

// How much a block, `lines` of its rows, differs from one at (dx, dy) from it in another picture, which goes on beyond its
// edges. What is at least `most` is not counted to its end.
template <typename Pixel>
static int64_t difference(const Picture& now, const Picture& other, int64_t left, int64_t top, int64_t right,
                          int64_t lines, int64_t step, int64_t dx, int64_t dy, int64_t height, int64_t width,
                          int64_t most) {
  const auto row = [](const Picture& picture, int64_t y) {
    return (const Pixel*)((const uint8_t*)picture.luma + y * picture.stride);
  };
  const int64_t count = right - left;
  const bool within = left + dx >= 0 && right + dx <= width;
  if (within && top + dy >= 0 && top + dy + (lines - 1) * step < height && (count == 16 || count == 8) &&
      sizeof(Pixel) == 1)
    return difference((const uint8_t*)now.luma + top * now.stride + left, step * now.stride,
                      (const uint8_t*)other.luma + (top + dy) * other.stride + left + dx, step * other.stride, count,
                      lines);
  Pixel moved[16];
  int64_t sum = 0;
  for (int64_t i = 0, y = top; i < lines && sum < most; i++, y += step) {
    const Pixel *a = row(now, y) + left, *b = row(other, std::min(std::max(y + dy, (int64_t)0), height - 1));
    if (within)
      b += left + dx;
    else
      for (int64_t x = 0; x < count; x++) moved[x] = b[std::min(std::max(left + x + dx, (int64_t)0), width - 1)];
    sum += difference(a, within ? b : moved, count);
  }
  return sum;
}

// The blocks of a frame that have pixels of a region, which is given as its left, top, right and bottom in pixels.
struct Blocks {
  int32_t left, top, right, bottom;  // in blocks; right and bottom are exclusive

  explicit Blocks(const int64_t* region)
      : left((int32_t)(region[0] / BLOCK)),
        top((int32_t)(region[1] / BLOCK)),
        right((int32_t)((region[2] + BLOCK - 1) / BLOCK)),
        bottom((int32_t)((region[3] + BLOCK - 1) / BLOCK)) {}
  int32_t columns() const { return right - left; }
  int32_t number() const { return std::max(right - left, 0) * std::max(bottom - top, 0); }
};

// What moves in a frame: for each block of BLOCK x BLOCK pixels of a region how many pixels to the right and down it
// moves from one frame to the next, NaN where nothing is known.
//
// A vector does not say which picture of its direction it refers to. Of those that it may, the one is taken that shows
// the block where the vector says, best; of those alike, the first. Of vectors of both directions, the one that is best.
//
// pictures: the frame; `earlier` ones, and the others, `later` ones: those that the frame may refer to, the nearest
// first. region: as of Blocks. out: (rows, columns) of it.
template <typename Pixel>
static void find_motion(const Vector* vectors, int64_t count, const Picture* pictures, int64_t earlier, int64_t later,
                        int64_t height, int64_t width, const int64_t* region, Moves* out) {
  const Blocks blocks(region);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::fill(out, out + blocks.number(), Moves{nan, nan});
  std::vector<float> best(blocks.number(), std::numeric_limits<float>::infinity());
  bool both = false;
  for (int64_t i = 0; i < count && !both; i++) both = (vectors[i].source > 0) != (vectors[0].source > 0);
  for (int64_t i = 0; i < count; i++) {
    const Vector& v = vectors[i];
    const int32_t left = v.dst_x - v.width / 2, top = v.dst_y - v.height / 2;
    if (left + v.width <= region[0] || top + v.height <= region[1] || left >= region[2] || top >= region[3]) continue;
    const int32_t right = std::min(left + v.width, (int32_t)width), bottom = std::min(top + v.height, (int32_t)height);
    const Picture* some = pictures + (v.source > 0 ? 1 + earlier : 1);
    const int64_t number = v.source > 0 ? later : earlier;
    if (left < 0 || top < 0 || left >= right || top >= bottom || !v.scale || !number) continue;
    const double x = (double)v.motion_x / v.scale, y = (double)v.motion_y / v.scale;
    // What moves by less than a pixel does so, whatever it refers to. Of blocks in quarters, FFmpeg gives a vector (0, 0)
    // for each direction that one does not use.
    const bool rests = std::abs(x) < 1 && std::abs(y) < 1, quarter = v.width == BLOCK && v.height == BLOCK;
    const int64_t tried = rests ? 1 : number;
    int64_t chosen = 0;
    float mean = 0;
    if (tried > 1 || (both && (quarter || !rests))) {
      const int64_t dx = (int64_t)std::floor(x + 0.5), dy = (int64_t)std::floor(y + 0.5);
      // More than four rows would be no better, and take as much longer.
      const int32_t rows_of_block = bottom - top, step = std::max(rows_of_block / 4, 1);
      const int32_t lines = (rows_of_block + step - 1) / step;
      int64_t least = INT64_MAX;
      for (int64_t k = 0; k < tried && least > 0; k++) {
        const int64_t error = difference<Pixel>(pictures[0], some[k], left, top, right, lines, step, dx, dy, height,
                                                width, least);
        if (error < least) least = error, chosen = k;
      }
      mean = (float)((double)least / (double)(lines * (right - left)));
    }
    const double ahead = frames_after(some[chosen], pictures[0]);
    const Moves moves = {(float)(x / ahead), (float)(y / ahead)};
    const int32_t c0 = std::max(left / BLOCK, blocks.left), c1 = std::min((right + BLOCK - 1) / BLOCK, blocks.right);
    const int32_t r0 = std::max(top / BLOCK, blocks.top), r1 = std::min((bottom + BLOCK - 1) / BLOCK, blocks.bottom);
    int64_t row = (int64_t)(r0 - blocks.top) * blocks.columns() - blocks.left;
    for (int32_t r = r0; r < r1; r++, row += blocks.columns())
      for (int32_t c = c0; c < c1; c++)
        if (mean < best[row + c]) best[row + c] = mean, out[row + c] = moves;
  }
}

extern "C" void find_motion(const Vector* vectors, int64_t count, const Picture* pictures, int64_t earlier,
                            int64_t later, int64_t pixel_bytes, int64_t height, int64_t width, const int64_t* region,
                            Moves* out) {
  (pixel_bytes == 1 ? find_motion<uint8_t> : find_motion<uint16_t>)(vectors, count, pictures, earlier, later, height,
                                                                    width, region, out);
}

// c = a b, of 3 x 3.
static void multiply(const double* a, const double* b, double* c) {
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 3; j++) c[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
}

// The inverse of a matrix of 3 x 3; infinite or NaN where there is none.
static void invert(const double* m, double* out) {
  const double a = m[0], b = m[1], c = m[2], d = m[3], e = m[4], f = m[5], g = m[6], h = m[7], i = m[8];
  const double adjugate[9] = {e * i - f * h, c * h - b * i, b * f - c * e, f * g - d * i, a * i - c * g,
                              c * d - a * f, d * h - e * g, b * g - a * h, a * e - b * d};
  const double determinant = a * adjugate[0] + b * adjugate[3] + c * adjugate[6];
  for (int k = 0; k < 9; k++) out[k] = adjugate[k] / determinant;
}

// Widen a region of decoded frames, as of `find_motion`, to what a clip shows of them; for the rest as `map_motion`.
extern "C" void widen_region(const double* matrices, int64_t frames, const double* stored, int64_t out_height,
                             int64_t out_width, int64_t height, int64_t width, int64_t* region) {
  double m[9], least[2] = {INFINITY, INFINITY}, most[2] = {-INFINITY, -INFINITY};
  const double size[2] = {(double)width, (double)height};
  for (int64_t f = 0; f < frames; f++) {
    if (f > 0 && !std::memcmp(matrices + 9 * f, matrices + 9 * (f - 1), sizeof(m))) continue;
    multiply(stored, matrices + 9 * f, m);
    for (int corner = 0; corner < 4; corner++) {
      const double x = corner & 1 ? (double)out_width : 0, y = corner & 2 ? (double)out_height : 0;
      const double w = m[6] * x + m[7] * y + m[8];
      for (int k = 0; k < 2; k++) {
        const double at = (m[3 * k] * x + m[3 * k + 1] * y + m[3 * k + 2]) / w;
        // Where a corner is behind the camera, what is seen is no quadrilateral, and may be anything.
        least[k] = w > 0 ? std::min(least[k], at) : -INFINITY, most[k] = w > 0 ? std::max(most[k], at) : INFINITY;
      }
    }
  }
  for (int k = 0; k < 2; k++) {
    region[k] = std::min(region[k], (int64_t)std::max(std::floor(std::min(least[k] - 1, size[k])), 0.0));
    region[k + 2] = std::max(region[k + 2], (int64_t)std::min(std::ceil(std::max(most[k] + 1, 0.0)), size[k]));
  }
}

// The part of a picture that a point shows, and how many points of the same cell do, where all are mapped alike.
struct Point {
  int32_t at;
  double times, x, y, u, v;  // x, y: in the clip; u, v: in the decoded frame
};

// What moves in a clip of out_height x out_width, in pixels of the clip: for each cell the mean of what its points show.
//
// motion: for each frame what `find_motion` made of a region, or null. height, width: of the decoded frames. matrices:
// (frames, 3, 3), from points of the clip to those of the frame as shown; stored: from these to the decoded frame. out:
// (2, frames, rows, columns) of cells x cells pixels, to the right and down; NaN where no point shows anything.
extern "C" void map_motion(const Moves* const* motion, int64_t frames, int64_t height, int64_t width,
                           const int64_t* region, const double* matrices, const double* stored, int64_t out_height,
                           int64_t out_width, int64_t cell, float* out) {
  const Blocks blocks(region);
  const int64_t rows = (out_height + cell - 1) / cell, columns = (out_width + cell - 1) / cell;
  const int64_t plane = frames * rows * columns;
  std::vector<Point> points;  // those that are in the frame, cell by cell
  std::vector<size_t> ends;   // of each cell, in `points`
  double m[9], n[9];          // and the inverse
  bool affine = true;         // then all vectors are mapped alike
  std::fill(out, out + 2 * plane, std::numeric_limits<float>::quiet_NaN());
  for (int64_t f = 0; f < frames; f++) {
    if (f == 0 || std::memcmp(matrices + 9 * f, matrices + 9 * (f - 1), sizeof(m))) {
      multiply(stored, matrices + 9 * f, m), invert(m, n);
      affine = m[6] == 0 && m[7] == 0 && m[8] == 1;
      points.clear(), ends.clear();
      for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) {
          const size_t first = points.size();
          for (int64_t i = r * cell; i < std::min((r + 1) * cell, out_height); i += STEP)
            for (int64_t j = c * cell; j < std::min((c + 1) * cell, out_width); j += STEP) {
              const double x = (double)(j + std::min(j + STEP, out_width)) / 2;
              const double y = (double)(i + std::min(i + STEP, out_height)) / 2;
              double u = m[0] * x + m[1] * y + m[2], v = m[3] * x + m[4] * y + m[5];
              if (!affine) {
                const double w = m[6] * x + m[7] * y + m[8];
                if (!(w > 0)) continue;
                u /= w, v /= w;
              }
              if (!(u >= 0 && v >= 0 && u < (double)width && v < (double)height)) continue;
              const int32_t column = (int32_t)u / BLOCK, row = (int32_t)v / BLOCK;
              if (column < blocks.left || row < blocks.top || column >= blocks.right || row >= blocks.bottom) continue;
              const int32_t at = (row - blocks.top) * blocks.columns() + column - blocks.left;
              const size_t alike = affine ? first : points.size();  // the first that may be alike; mostly the last is
              size_t same = points.size();
              while (same > alike && points[same - 1].at != at) same--;
              if (same > alike)
                points[same - 1].times++;
              else
                points.push_back({at, 1, x, y, u, v});
            }
          ends.push_back(points.size());
        }
    }
    if (!motion[f]) continue;
    float* to = out + f * rows * columns;
    size_t place = 0;
    for (int64_t k = 0; k < rows * columns; k++) {
      double sum_x = 0, sum_y = 0, known = 0;  // of floats, so that nothing is rounded
      for (; place < ends[k]; place++) {
        const Point& p = points[place];
        double dx = motion[f][p.at].right, dy = motion[f][p.at].down;
        if (!affine) {
          const double s = p.u + dx, t = p.v + dy, z = n[6] * s + n[7] * t + n[8];
          dx = (n[0] * s + n[1] * t + n[2]) / z - p.x, dy = (n[3] * s + n[4] * t + n[5]) / z - p.y;
        }
        if (dx * 0 + dy * 0 != 0) continue;  // infinite or NaN
        sum_x += p.times * dx, sum_y += p.times * dy, known += p.times;
      }
      if (known == 0) continue;
      const double mean_x = sum_x / known, mean_y = sum_y / known;
      to[k] = (float)(affine ? n[0] * mean_x + n[1] * mean_y : mean_x);
      to[plane + k] = (float)(affine ? n[3] * mean_x + n[4] * mean_y : mean_y);
    }
  }
}
