// randaugment: up to eight colour and geometric ops, one after the other, each with its own strength in every frame.
//
// The result is that of applying the ops one by one, rounding to uint8 after each. Several are done in one pass over
// the pixels where that gives the same bytes: a chain of tables (one value to one value) is one table, and the tables
// before and after the one op of a pass that is no table ride along. A pass is three entry points:
//   count    histogram of each channel and sum of the grey values, of the frames that need them
//   prepare  tables, matrix and the like of each frame
//   pixels   reads and writes every pixel
// A pass must move 6 bytes a pixel (3 read, 3 written). It does, and reads 3 more when it has to count (AutoContrast,
// Equalize, Contrast). The bilinear gather and Sharpness read neighbours again, from the cache.
//
// Enhancements (Brightness, Contrast, Color, Sharpness) round towards zero, as Pillow's do.
#include "common.h"

enum Op {
  IDENTITY,
  AUTOCONTRAST, EQUALIZE, INVERT, POSTERIZE, SOLARIZE, SOLARIZE_ADD, BRIGHTNESS, CONTRAST,  // tables
  COLOR, SHARPNESS,
  ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y,  // gathers
};
enum Kind { NOTHING, TABLE, GREY_BLEND, SMOOTH_BLEND, NEAREST, BILINEAR };
const int32_t MAX_OPS = 8;
const int32_t TABLES = 3 * 256;         // a table a channel
const int64_t ONE = (int64_t)1 << 32;  // of fixed-point coordinates: 32 bits of pixels, 32 of fractions

struct RandaugmentArgs {
  uint8_t op[MAX_OPS];
  uint8_t fill[3];     // R, G, B, for what a gather brings in from outside the frame
  uint8_t bilinear;    // else nearest
  uint8_t per_clip;    // statistics of the whole clip, else of each frame
  uint8_t reserved[3];
  int32_t num_values;  // of each op in `value`, at least the clip's frames
  float value[1];      // [ops][num_values]: degrees, pixels, factor, ... (ops/randaugment.py)
};

// What `pixels` has to know of a frame, in the clip's scratch memory; one a frame, and then room for a clip.
struct RandaugmentFrame {
  int64_t matrix[6];  // output to input pixel: x, y, 1 to x, then to y; of centres, so that floor gives the nearest
  uint64_t grey;      // sum of the grey values
  uint32_t counts[TABLES];
  uint8_t before[TABLES], after[TABLES];
  float factor;
  uint8_t kind, has_before, has_after, reserved;
  uint8_t fill[4];
  uint32_t padding;
};

// The ops of one pass: [first, last). The one that is no table is at `middle`, which is `last` where there is none.
struct Pass {
  int32_t first, middle, last;
};

DEVICE bool is_table(uint8_t op) { return AUTOCONTRAST <= op && op <= CONTRAST; }
DEVICE bool is_counted(uint8_t op) { return op == AUTOCONTRAST || op == EQUALIZE || op == CONTRAST; }

DEVICE Pass pass_from(const uint8_t* op, int32_t first) {
  bool tables = false, middle = false;
  Pass pass = {first, first, first};
  for (int32_t i = first; i < MAX_OPS; ++i) {
    if (op[i] == IDENTITY) continue;
    // After the middle only what is not counted. The grey sum is of what the pass reads: no table can come first
    // (a histogram can be sent through one). Nor before Sharpness, which would look up nine neighbours for each value.
    if (middle && (!is_table(op[i]) || is_counted(op[i]))) break;
    if (tables && (op[i] == CONTRAST || op[i] == SHARPNESS)) break;
    if (is_table(op[i])) {
      tables = true;
    } else {
      middle = true;
      pass.middle = i;
    }
    pass.last = i + 1;
    if (!middle) pass.middle = pass.last;
  }
  return pass;
}

// Finds pass `index` and returns how many there are: at least one, which copies when there is nothing to do.
DEVICE int32_t find_pass(const uint8_t* op, int32_t index, Pass* found) {
  int32_t count = 0;
  for (Pass pass = pass_from(op, 0); count == 0 || pass.last > pass.first; pass = pass_from(op, pass.last))
    if (count++ == index) *found = pass;
  return count;
}

// The passes write to dst and to the room after the frames in turn, the last one to dst.
DEVICE uint8_t* written_by(const Clip& clip, int32_t pass, int32_t passes) {
  return (passes - 1 - pass) % 2 ? clip.work + clip.frames * sizeof(RandaugmentFrame) : clip.dst;
}

DEVICE const uint8_t* read_by(const Clip& clip, int32_t pass, int32_t passes) {
  return pass ? written_by(clip, pass - 1, passes) : clip.src;
}

DEVICE RandaugmentFrame& frame_of(const Clip& clip, int32_t frame) { return ((RandaugmentFrame*)clip.work)[frame]; }

DEVICE int32_t grey(const uint8_t* rgb) { return (19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + 32768) >> 16; }

DEVICE uint8_t blend(int32_t from, int32_t to, float factor) {
  const float value = (float)from + factor * (float)(to - from);
  return value <= 0 ? 0 : value >= 255 ? 255 : (uint8_t)(int32_t)value;
}

// ---- count

DEVICE void randaugment_count_frame(const Clip& clip, const RandaugmentArgs& args, int32_t pass, int32_t frame) {
  Pass ops;
  const int32_t passes = find_pass(args.op, pass, &ops);
  bool histogram = false, sum = false;
  for (int32_t i = ops.first; pass < passes && i < ops.middle; ++i) {
    histogram = histogram || args.op[i] == AUTOCONTRAST || args.op[i] == EQUALIZE;
    sum = sum || args.op[i] == CONTRAST;
  }
  const int32_t pixels = clip.height * clip.width;
  const uint8_t* src = read_by(clip, pass, passes) + row_offset(clip, frame, 0);
  RandaugmentFrame& state = frame_of(clip, frame);
  if (histogram) {
    SHARED uint32_t counts[2 * TABLES];  // even and odd pixels: neighbours are often equal, and would wait for each other
    for (int32_t i = THREAD; i < 2 * TABLES; i += THREADS) counts[i] = 0;
    SYNC();
    for (int32_t i = THREAD; i < pixels; i += THREADS)
      for (int32_t c = 0; c < 3; ++c) ADD(&counts[(i & 1) * TABLES + c * 256 + src[3 * i + c]], 1u);
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

// Cosine and sine by their series, within 1e-15 for half a turn each way: the same on every machine, unlike a library's.
DEVICE void cos_sin(double radians, double* cosine, double* sine) {
  double term = 1, sums[2] = {1, 0};
  for (int32_t n = 1; n < 32; ++n) {
    term *= radians / n;
    sums[n % 2] += n / 2 % 2 ? -term : term;
  }
  *cosine = sums[0], *sine = sums[1];
}

DEVICE int64_t fixed(double value) { return (int64_t)(value * (double)ONE + (value < 0 ? -0.5 : 0.5)); }

// Pillow's matrices: a positive angle turns counter-clockwise about the centre, shears keep the top left corner, a
// positive translation moves the picture to the left or up.
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
  m[2] += (m[0] + m[1]) / 2, m[5] += (m[3] + m[4]) / 2;  // from the centre of the pixel (0, 0) on
  for (int32_t i = 0; i < 6; ++i) matrix[i] = fixed(m[i]);
}

// What a table that is not counted makes of one value. `mean` is the grey mean, for Contrast.
DEVICE int32_t table_op(uint8_t op, float value, int32_t mean, int32_t v) {
  switch (op) {
    case INVERT: return 255 - v;
    case POSTERIZE: return v & (0xff00 >> (int32_t)value);
    case SOLARIZE: return (float)v < value ? v : 255 - v;
    case SOLARIZE_ADD: return v >= 128 ? v : v + (int32_t)value > 255 ? 255 : v + (int32_t)value;
    case BRIGHTNESS: return blend(0, v, value);
    case CONTRAST: return blend(mean, v, value);
    default: return v;
  }
}

// AutoContrast: the least value to 0, the greatest to 255. In double and towards zero, as Pillow does.
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

// The tables of the ops [first, last) in one frame, by a whole block. All arrays are [3 * 256], mapped and step scratch.
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
      for (int32_t c = THREAD; c < 3; c += THREADS) {  // a thread a channel: some hundred steps, microseconds
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

DEVICE bool any_op(const RandaugmentArgs& args, int32_t first, int32_t last) {
  for (int32_t i = first; i < last; ++i)
    if (args.op[i] != IDENTITY) return true;
  return false;
}

DEVICE void randaugment_prepare_frame(const Clip& clip, const RandaugmentArgs& args, int32_t pass, int32_t frame) {
  RandaugmentFrame& state = frame_of(clip, frame);
  Pass ops = {0, 0, 0};
  const bool idle = pass >= find_pass(args.op, pass, &ops);
  const uint8_t middle = ops.middle < ops.last ? args.op[ops.middle] : (uint8_t)IDENTITY;
  const Kind kind = idle ? NOTHING : middle == IDENTITY ? TABLE : middle == COLOR ? GREY_BLEND
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

DEVICE void grey_blend(const uint8_t* src, uint8_t* dst, int32_t width, float factor) {
  for (int32_t x = LANE; x < width; x += LANES) {
    const int32_t from = grey(src + 3 * x);
    for (int32_t c = 0; c < 3; ++c) dst[3 * x + c] = blend(from, src[3 * x + c], factor);
  }
}

// Sharpness: away from the mean of the 3x3 neighbours, the pixel itself counted five times; the border is kept.
DEVICE void smooth_blend(const uint8_t* __restrict__ src, uint8_t* __restrict__ dst, int32_t width, bool border,
                         float factor) {
  const uint8_t *up = src - 3 * width, *down = src + 3 * width;
  if (border) {
    copy(src, dst, width);
    return;
  }
  for (int32_t i = LANE; i < 3 * width; i += LANES) {
    if (i >= 3 && i < 3 * width - 3) {
      const int32_t sum = up[i - 3] + up[i] + up[i + 3] + src[i - 3] + 5 * src[i] + src[i + 3] + down[i - 3] +
                          down[i] + down[i + 3];
      dst[i] = blend((sum + 6) / 13, src[i], factor);
    } else {
      dst[i] = src[i];
    }
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

DEVICE void gather_bilinear(const uint8_t* __restrict__ src, uint8_t* __restrict__ dst, int32_t y, const Clip& clip,
                            const RandaugmentFrame& state) {
  const int64_t* m = state.matrix;
  const int32_t right = clip.width - 1, bottom = clip.height - 1;
  for (int32_t x = LANE; x < clip.width; x += LANES) {
    int64_t at_x = m[0] * x + m[1] * y + m[2], at_y = m[3] * x + m[4] * y + m[5];
    if ((uint64_t)(at_x >> 32) > (uint64_t)right || (uint64_t)(at_y >> 32) > (uint64_t)bottom) {
      for (int32_t c = 0; c < 3; ++c) dst[3 * x + c] = state.fill[c];
      continue;
    }
    at_x -= ONE / 2, at_y -= ONE / 2;  // relative to the centre of pixel (0, 0)
    const int32_t x0 = (int32_t)(at_x >> 32), y0 = (int32_t)(at_y >> 32);
    const int32_t wx = (uint32_t)at_x >> 21, wy = (uint32_t)at_y >> 21;  // 11 bits each: with the value 30 of 31
    const uint8_t* top = src + (int64_t)(y0 < 0 ? 0 : y0) * clip.width * 3;
    const uint8_t* low = src + (int64_t)(y0 < bottom ? y0 + 1 : bottom) * clip.width * 3;
    const int32_t i = 3 * (x0 < 0 ? 0 : x0), j = 3 * (x0 < right ? x0 + 1 : right);
    for (int32_t c = 0; c < 3; ++c) {
      int32_t v[4] = {top[i + c], top[j + c], low[i + c], low[j + c]};
      for (int32_t k = 0; state.has_before && k < 4; ++k) v[k] = state.before[c * 256 + v[k]];
      const int32_t upper = v[0] * (2048 - wx) + v[1] * wx, lower = v[2] * (2048 - wx) + v[3] * wx;
      dst[3 * x + c] = (uint8_t)((upper * (2048 - wy) + lower * wy + (1 << 21)) >> 22);
    }
  }
}

DEVICE void randaugment_pixels_row(const Clip& clip, const RandaugmentArgs& args, int32_t pass, int32_t frame,
                                   int32_t y) {
  const RandaugmentFrame& state = frame_of(clip, frame);
  if (state.kind == NOTHING) return;
  Pass ops;
  const int32_t passes = find_pass(args.op, pass, &ops), width = clip.width;
  const uint8_t* picture = read_by(clip, pass, passes) + row_offset(clip, frame, 0);
  const uint8_t* src = picture + row_offset(clip, 0, y);
  uint8_t* dst = written_by(clip, pass, passes) + row_offset(clip, frame, y);
  switch (state.kind) {
    case TABLE:
      if (state.has_before) look_up(src, dst, width, state.before);
      else copy(src, dst, width);
      break;
    case GREY_BLEND:
      if (state.has_before) look_up(src, dst, width, state.before);
      grey_blend(state.has_before ? dst : src, dst, width, state.factor);
      break;
    case SMOOTH_BLEND: smooth_blend(src, dst, width, y == 0 || y == clip.height - 1, state.factor); break;
    case NEAREST: gather_nearest(picture, dst, y, clip, state); break;
    case BILINEAR: gather_bilinear(picture, dst, y, clip, state); break;
  }
  // Each of the 32 threads goes on with what it wrote itself. smooth_blend goes by bytes, the others by pixels.
  if (state.has_after && state.kind == SMOOTH_BLEND) {
    for (int32_t i = LANE; i < 3 * width; i += LANES) dst[i] = state.after[i % 3 * 256 + dst[i]];
  } else if (state.has_after) {
    look_up(dst, dst, width, state.after);
  }
}

ROW_KERNEL(randaugment_pixels, RandaugmentArgs)
