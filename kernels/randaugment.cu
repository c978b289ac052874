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
// Equalize, Contrast). The bilinear and bicubic gathers and Sharpness read neighbours again, from the cache.
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
                  : middle == SHARPNESS ? SMOOTH_BLEND
                  : args.bilinear == 2 ? BICUBIC : args.bilinear ? BILINEAR : NEAREST;
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
    if (kind >= NEAREST) make_matrix(middle, value, clip, state.matrix);
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

DEVICE Frame frame_from(const RandaugmentFrame& state, const Clip& clip) {
  return {state.src, state.fill, state.has_before ? state.before : nullptr, clip.height, clip.width,
          state.kind >= BILINEAR, false, state.kind == BICUBIC};
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
    case NEAREST:
    case BILINEAR:
    case BICUBIC:
      if (frame + 1 < clip.frames) expect_row(frame_of(clip, frame + 1).src + row_offset(clip, 0, y), width);
      gather_affine(frame_from(state, clip), dst, width, affine_row(state.matrix, y));
      break;
  }
  if (state.has_after) {
    SYNC_ROW();
    look_up(dst, dst, width, state.after);
  }
}

ROW_KERNEL(randaugment_pixels, RandaugmentArgs)
