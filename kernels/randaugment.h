// For randaugment.cu: the data of a row and of a frame, and how a chain of ops is divided into passes.
#ifndef DALI_VIDAUG_RANDAUGMENT_H
#define DALI_VIDAUG_RANDAUGMENT_H
#include "gather.h"

enum Op {
  IDENTITY,
  AUTOCONTRAST, EQUALIZE, INVERT, POSTERIZE, SOLARIZE, SOLARIZE_ADD, BRIGHTNESS, CONTRAST,  // tables
  COLOR, SHARPNESS,
  ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y,  // gathers
};
enum Kind { NOTHING, TABLE, GREY_BLEND, SMOOTH_BLEND, NEAREST, BILINEAR, BICUBIC };
const int32_t MAX_OPS = 8;
const int32_t TABLES = 3 * 256;        // a table for each channel

struct RandaugmentArgs {
  uint8_t op[MAX_OPS];
  uint8_t fill[3];     // R, G, B, for pixels that a gather moves in from outside the frame
  uint8_t bilinear;    // 0: nearest; 1: bilinear; 2: bicubic
  uint8_t per_clip;    // statistics of the whole clip, otherwise of each frame
  uint8_t reserved[3];
  int32_t num_values;  // of each op in `value`, at least the clip's frames
  float value[1];      // [ops][num_values]: degrees, pixels, factor, ... (ops/randaugment.py)
};

// What `pixels` must know of a frame, in the clip's scratch memory: one for each frame, and then room for a clip.
struct RandaugmentFrame {
  const uint8_t* src;  // the frame, as the pass before left it
  uint8_t* dst;
  int64_t matrix[6];  // output to input pixel: x, y, 1 to x, then to y; of centres, so that floor gives the nearest
  uint64_t grey;      // sum of the grey values
  uint32_t counts[TABLES];
  uint8_t before[TABLES], after[TABLES];
  float factor;
  uint8_t kind, has_before, has_after, reserved;
  uint8_t fill[4];
  uint32_t padding;
};

// The ops of one pass: [first, last). `middle` is the one that is not a table, or `last` if all are.
struct Pass {
  int32_t first, middle, last;
};

DEVICE bool is_table(uint8_t op) { return AUTOCONTRAST <= op && op <= CONTRAST; }
DEVICE bool is_counted(uint8_t op) { return op == AUTOCONTRAST || op == EQUALIZE || op == CONTRAST; }

DEVICE Pass pass_from(const RandaugmentArgs& args, int32_t first) {
  bool tables = false, middle = false;
  Pass pass = {first, first, first};
  for (int32_t i = first; i < MAX_OPS; ++i) {
    const uint8_t op = args.op[i];
    if (op == IDENTITY) continue;
    if (middle && (!is_table(op) || is_counted(op))) break;
    // Statistics are those of the values that the pass reads. A histogram can be mapped through the tables before it, but
    // not the histograms of other frames, because their tables are not available here; nor can the grey sum. Of the ops
    // that are not tables, only the nearest gather looks values up; the others would have to for each neighbour, and
    // could not process many bytes at once.
    const bool looks_up = is_table(op) || (op >= ROTATE && !args.bilinear);
    if (tables && (!looks_up || op == CONTRAST || (args.per_clip && is_counted(op)))) break;
    if (is_table(op)) {
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

// Finds pass `index` and returns the number of passes: at least one, which copies if there is nothing to do.
DEVICE int32_t find_pass(const RandaugmentArgs& args, int32_t index, Pass* found) {
  int32_t count = 0;
  for (Pass pass = pass_from(args, 0); count == 0 || pass.last > pass.first; pass = pass_from(args, pass.last))
    if (count++ == index) *found = pass;
  return count;
}

// The passes write alternately to dst and to the room after the frames, the last one to dst.
DEVICE uint8_t* written_by(const Clip& clip, int32_t pass, int32_t passes) {
  return (passes - 1 - pass) % 2 ? clip.work + clip.frames * sizeof(RandaugmentFrame) : clip.dst;
}

DEVICE const uint8_t* read_by(const Clip& clip, int32_t pass, int32_t passes) {
  return pass ? written_by(clip, pass - 1, passes) : clip.src;
}

DEVICE RandaugmentFrame& frame_of(const Clip& clip, int32_t frame) { return ((RandaugmentFrame*)clip.work)[frame]; }

DEVICE uint8_t grey(const uint8_t* rgb) {
  return (uint8_t)((19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + 32768) >> 16);
}

DEVICE uint8_t enhance(int32_t from, int32_t to, float factor) {
  const int32_t value = (int32_t)((float)from + factor * (float)(to - from));
  const int32_t positive = value < 0 ? 0 : value;  // clamped as whole numbers: the CPU has an instruction for that
  return (uint8_t)(positive > 255 ? 255 : positive);
}

#endif
