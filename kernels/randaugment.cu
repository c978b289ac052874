// randaugment: up to eight colour and geometric ops, one after the other, each with its own strength in every frame.
//
// The result equals that of applying the ops one by one, rounding to uint8 after each. Several are done in one pass over
// the pixels where that gives the same bytes: a chain of tables (one value to one value) is one table, and in a pass with
// one op that is not a table, the tables before and after it are applied too where that costs little (randaugment.h).
// Two gathers need two passes: a single pass with the product of their matrices would show pixels that the first has moved
// out of the frame. A pass has three entry points:
//   count    histogram of each channel and sum of the grey values, of the frames that need them
//   prepare  tables, matrix and other data of each frame
//   pixels   reads and writes every pixel
// A pass must move 6 bytes per pixel (3 read, 3 written). It does, and reads 3 more when it must count (AutoContrast,
// Equalize, Contrast). The bilinear gather and Sharpness read neighbours again, from the cache.
//
// Enhancements (Brightness, Contrast, Color, Sharpness) round towards zero, as Pillow's do.
#include "randaugment_tables.h"

// ---- count

DEVICE void randaugment_count_frame(const Clip& clip, const RandaugmentArgs& args, int32_t pass, int32_t frame) {
  Pass ops;
  const int32_t passes = find_pass(args, pass, &ops);
  bool histogram = false, sum = false;
  for (int32_t i = ops.first; pass < passes && i < ops.middle; ++i) {
    histogram = histogram || args.op[i] == AUTOCONTRAST || args.op[i] == EQUALIZE;
    sum = sum || args.op[i] == CONTRAST;
  }
  const int32_t pixels = clip.height * clip.width;
  const uint8_t* src = read_by(clip, pass, passes) + row_offset(clip, frame, 0);
  RandaugmentFrame& state = frame_of(clip, frame);
  if (histogram) {
    SHARED uint32_t counts[2 * TABLES];  // even and odd pixels apart: equal neighbours would wait for each other
    for (int32_t i = THREAD; i < 2 * TABLES; i += THREADS) counts[i] = 0;
    SYNC();
    for (int32_t i = 2 * THREAD; i < pixels; i += 2 * THREADS)
      for (int32_t k = 0; k < (i + 1 < pixels ? 2 : 1); ++k)
        for (int32_t c = 0; c < 3; ++c) ADD(&counts[k * TABLES + c * 256 + src[3 * (i + k) + c]], 1u);
    SYNC();
    for (int32_t i = THREAD; i < TABLES; i += THREADS) state.counts[i] = counts[i] + counts[i + TABLES];
  }
  if (sum) {
    SHARED uint64_t total;
    if (THREAD == 0) total = 0;
    SYNC();
    uint64_t mine = 0;
    for (int32_t i = THREAD; i < pixels; i += THREADS) mine += grey(src + 3 * i);
    ADD(&total, mine);
    SYNC();
    if (THREAD == 0) state.grey = total;
  }
}

FRAME_KERNEL(randaugment_count, RandaugmentArgs)

// ---- prepare

DEVICE bool any_op(const RandaugmentArgs& args, int32_t first, int32_t last) {
  for (int32_t i = first; i < last; ++i)
    if (args.op[i] != IDENTITY) return true;
  return false;
}

DEVICE void randaugment_prepare_frame(const Clip& clip, const RandaugmentArgs& args, int32_t pass, int32_t frame) {
  RandaugmentFrame& state = frame_of(clip, frame);
  Pass ops = {0, 0, 0};
  const int32_t passes = find_pass(args, pass, &ops);
  const uint8_t middle = ops.middle < ops.last ? args.op[ops.middle] : (uint8_t)IDENTITY;
  const Kind kind = pass >= passes ? NOTHING : middle == IDENTITY ? TABLE : middle == COLOR ? GREY_BLEND
                  : middle == SHARPNESS ? SMOOTH_BLEND : args.bilinear ? BILINEAR : NEAREST;
  const bool has_before = any_op(args, ops.first, ops.middle), has_after = any_op(args, ops.middle + 1, ops.last);
  bool counted = false;
  for (int32_t i = ops.first; i < ops.middle; ++i) counted = counted || is_counted(args.op[i]);

  SHARED uint32_t counts[TABLES], mapped[TABLES];
  SHARED uint8_t step[TABLES], before[TABLES], after[TABLES];
  const int32_t first = args.per_clip ? 0 : frame, last = args.per_clip ? clip.frames : frame + 1;
  for (int32_t i = THREAD; counted && i < TABLES; i += THREADS) {
    uint32_t count = 0;
    for (int32_t f = first; f < last; ++f) count += frame_of(clip, f).counts[i];
    counts[i] = count;
  }
  int32_t mean = 0;
  if (counted) {
    const uint64_t pixels = (uint64_t)(last - first) * clip.height * clip.width;
    uint64_t sum = 0;
    for (int32_t f = first; f < last; ++f) sum += frame_of(clip, f).grey;
    mean = (int32_t)((2 * sum + pixels) / (2 * pixels));
  }
  make_tables(args, frame, ops.first, ops.middle, mean, counts, mapped, step, before);
  make_tables(args, frame, ops.middle + 1, ops.last, 0, counts, mapped, step, after);
  SYNC();
  // The nearest pixel is looked up once, in both tables; so is what comes in from outside, in the second.
  const bool both = kind == NEAREST;
  for (int32_t i = THREAD; i < TABLES; i += THREADS) {
    state.before[i] = both ? after[(i & ~255) + before[i]] : before[i];
    state.after[i] = after[i];
  }
  for (int32_t c = THREAD; c < 3; c += THREADS) state.fill[c] = both ? after[c * 256 + args.fill[c]] : args.fill[c];
  if (THREAD == 0) {
    const float value = middle == IDENTITY ? 0 : args.value[(int64_t)ops.middle * args.num_values + frame];
    state.src = read_by(clip, pass, passes) + row_offset(clip, frame, 0);
    state.dst = written_by(clip, pass, passes) + row_offset(clip, frame, 0);
    state.kind = kind;
    state.factor = value;
    state.has_before = has_before || (both && has_after);
    state.has_after = has_after && !both;
    if (both || kind == BILINEAR) make_matrix(middle, value, clip, state.matrix);
  }
}

FRAME_KERNEL(randaugment_prepare, RandaugmentArgs)

// ---- pixels: each writes one row

DEVICE void look_up(const uint8_t* src, uint8_t* dst, int32_t width, const uint8_t* table) {
  for (int32_t x = LANE; x < width; x += LANES)
    for (int32_t c = 0; c < 3; ++c) dst[3 * x + c] = table[c * 256 + src[3 * x + c]];
}

DEVICE void copy(const uint8_t* __restrict__ src, uint8_t* __restrict__ dst, int32_t width) {
  for (int32_t i = LANE; i < 3 * width; i += LANES) dst[i] = src[i];
}

// Color: away from the grey picture. The grey values go through dst, so that the second loop goes by bytes, of which
// the CPU does many at once.
DEVICE void grey_blend(const uint8_t* __restrict__ src, uint8_t* __restrict__ dst, int32_t width, float factor) {
  for (int32_t x = LANE; x < width; x += LANES) dst[3 * x] = dst[3 * x + 1] = dst[3 * x + 2] = grey(src + 3 * x);
  SYNC_ROW();
  for (int32_t i = LANE; i < 3 * width; i += LANES) dst[i] = enhance(dst[i], src[i], factor);
}

// Sharpness: away from the mean of the 3x3 neighbours, the pixel itself counted five times; the border is kept.
DEVICE void smooth_blend(const uint8_t* __restrict__ src, uint8_t* __restrict__ dst, int32_t width, bool border,
                         float factor) {
  if (border) {
    copy(src, dst, width);
    return;
  }
  const uint8_t *up = src - 3 * width, *down = src + 3 * width;
  const int32_t last = 3 * width - 3;
  for (int32_t i = LANE; i < 3; i += LANES) dst[i] = src[i], dst[last + i] = src[last + i];
  for (int32_t i = 3 + LANE; i < last; i += LANES) {
    // In 16 bits, so that the CPU does twice as many at once. (sum + 6) / 13 is the nearest: there are no ties.
    const uint16_t sum = (uint16_t)(up[i - 3] + up[i] + up[i + 3] + src[i - 3] + 5 * src[i] + src[i + 3] +
                                    down[i - 3] + down[i] + down[i + 3] + 6);
    dst[i] = enhance((uint16_t)(sum * 5042u >> 16), src[i], factor);
  }
}

DEVICE void gather_nearest(const uint8_t* __restrict__ src, uint8_t* __restrict__ dst, int32_t y, const Clip& clip,
                           const RandaugmentFrame& state) {
  const int64_t* m = state.matrix;
  for (int32_t x = LANE; x < clip.width; x += LANES) {
    const int64_t from_x = (m[0] * x + m[1] * y + m[2]) >> 32, from_y = (m[3] * x + m[4] * y + m[5]) >> 32;
    const bool inside = (uint64_t)from_x < (uint64_t)clip.width && (uint64_t)from_y < (uint64_t)clip.height;
    const uint8_t* pixel = src + (from_y * clip.width + from_x) * 3;
    for (int32_t c = 0; c < 3; ++c)
      dst[3 * x + c] = !inside ? state.fill[c] : state.has_before ? state.before[c * 256 + pixel[c]] : pixel[c];
  }
}

// Between four values, with weights of 11 bits: 30 bits in all.
DEVICE uint8_t bilinear(int32_t a, int32_t b, int32_t c, int32_t d, int32_t wx, int32_t wy) {
  const int32_t upper = a * 2048 + (b - a) * wx, lower = c * 2048 + (d - c) * wx;
  return (uint8_t)((upper * 2048 + (lower - upper) * wy + (1 << 21)) >> 22);
}

DEVICE void bilinear_pixel(const uint8_t* __restrict__ src, uint8_t* __restrict__ dst, int32_t x, const Clip& clip,
                           const RandaugmentFrame& state, int64_t at_x, int64_t at_y) {
  const int32_t right = clip.width - 1, bottom = clip.height - 1;
  if ((uint64_t)(at_x >> 32) > (uint64_t)right || (uint64_t)(at_y >> 32) > (uint64_t)bottom) {
    for (int32_t c = 0; c < 3; ++c) dst[3 * x + c] = state.fill[c];
    return;
  }
  at_x -= ONE / 2, at_y -= ONE / 2;  // relative to the centre of pixel (0, 0)
  const int32_t x0 = (int32_t)(at_x >> 32), y0 = (int32_t)(at_y >> 32);
  const uint8_t* p = src + ((int64_t)(y0 < 0 ? 0 : y0) * clip.width + (x0 < 0 ? 0 : x0)) * 3;
  const int32_t next = 0 <= x0 && x0 < right ? 3 : 0;  // at the edge, the neighbour is the pixel itself
  const int64_t below = 0 <= y0 && y0 < bottom ? 3 * clip.width : 0;
  const int32_t wx = (uint32_t)at_x >> 21, wy = (uint32_t)at_y >> 21;
  for (int32_t c = 0; c < 3; ++c)
    dst[3 * x + c] = bilinear(p[c], p[next + c], p[below + c], p[below + next + c], wx, wy);
}

DEVICE void gather_bilinear(const uint8_t* __restrict__ src, uint8_t* __restrict__ dst, int32_t y, const Clip& clip,
                            const RandaugmentFrame& state) {
  const int64_t* m = state.matrix;
  const int64_t row_x = m[1] * y + m[2], row_y = m[4] * y + m[5];
  // ShearX and translations: a row comes from two rows, moved. The pixels [first, last) have all four neighbours, and
  // there the CPU does many bytes at once.
  int32_t first = 0, last = 0;
  const int64_t x0 = (row_x - ONE / 2) >> 32, y0 = (row_y - ONE / 2) >> 32;
  if (m[0] == ONE && m[3] == 0 && 0 <= y0 && y0 < clip.height - 1 && -clip.width < x0 && x0 < clip.width) {
    first = x0 < 0 ? (int32_t)-x0 : 0;
    last = x0 < 0 ? clip.width : clip.width - 1 - (int32_t)x0;
  }
  for (int32_t x = LANE; x < first; x += LANES)
    bilinear_pixel(src, dst, x, clip, state, row_x + m[0] * x, row_y + m[3] * x);
  for (int32_t x = last + LANE; x < clip.width; x += LANES)
    bilinear_pixel(src, dst, x, clip, state, row_x + m[0] * x, row_y + m[3] * x);
  if (first < last) {
    const uint8_t *top = src + (y0 * clip.width + x0) * 3, *low = top + clip.width * 3;
    const int32_t wx = (uint32_t)(row_x - ONE / 2) >> 21, wy = (uint32_t)(row_y - ONE / 2) >> 21;
    for (int32_t i = 3 * first + LANE; i < 3 * last; i += LANES)
      dst[i] = bilinear(top[i], top[i + 3], low[i], low[i + 3], wx, wy);
  }
}

DEVICE void randaugment_pixels_row(const Clip& clip, const RandaugmentArgs&, int32_t, int32_t frame, int32_t y) {
  const RandaugmentFrame& state = frame_of(clip, frame);
  if (state.kind == NOTHING) return;
  const int32_t width = clip.width;
  const uint8_t* src = state.src + row_offset(clip, 0, y);
  uint8_t* dst = state.dst + row_offset(clip, 0, y);
  switch (state.kind) {
    case TABLE:
      if (state.has_before) look_up(src, dst, width, state.before);
      else copy(src, dst, width);
      break;
    case GREY_BLEND: grey_blend(src, dst, width, state.factor); break;
    case SMOOTH_BLEND: smooth_blend(src, dst, width, y == 0 || y == clip.height - 1, state.factor); break;
    case NEAREST: gather_nearest(state.src, dst, y, clip, state); break;
    case BILINEAR: gather_bilinear(state.src, dst, y, clip, state); break;
  }
  if (state.has_after) {
    SYNC_ROW();
    look_up(dst, dst, width, state.after);
  }
}

ROW_KERNEL(randaugment_pixels, RandaugmentArgs)
