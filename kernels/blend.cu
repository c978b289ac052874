// blend: blends an overlay (another clip of the batch, a colour, or noise) over a clip, with one weight inside a box and
// another outside it.
//
// out = own + weight * (other - own), rounded half up, in whole numbers: a weight is a multiple of 1/32768. Weights and
// the sides of the box change evenly from the clip's first frame to its last.
// Moves 6 bytes per pixel (3 read, 3 written) where one clip is copied, 9 where two are blended; 3 where only a colour is
// visible, 6 where only noise is. Each byte is read and written once.
#include "philox.h"
#include "weight.h"

// Where there are two values, the first is that of the clip's first frame, the other that of its last.
struct BlendArgs {
  int32_t partner;                                // position in the batch of the overlay; -1: color and noise
  int32_t frames, height, width;                  // of the clips; the kernel uses those in struct Clip
  int32_t first, last;                            // frames [first, last) have the box
  int32_t top[2], bottom[2], left[2], right[2];   // [top, bottom) x [left, right), pixels
  float inside[2], outside[2];                    // weight of the overlay, [0, 1]
  float color[3], spread[3];                      // R, G, B: mean and standard deviation, in levels of 0 to 255
  uint32_t key[2];                                // of the noise
};

// A value of one frame. Ends are in [0, 32768] and there are at most 32768 frames: everything fits into 32 bits.
DEVICE int32_t ramped(int32_t first, int32_t last, int32_t frame, int32_t frames) {
  if (first == last || frames == 1) return first;  // the usual case: no division
  const uint32_t steps = frames - 1;
  return (int32_t)((2 * (first * (steps - frame) + last * frame) + steps) / (2 * steps));
}

DEVICE int32_t ramped_weight(const float* ends, int32_t frame, int32_t frames) {
  return ramped((int32_t)(ends[0] * WHOLE + 0.5f), (int32_t)(ends[1] * WHOLE + 0.5f), frame, frames);
}

DEVICE int32_t clamp(int32_t value, int32_t low, int32_t high) {
  return value < low ? low : value > high ? high : value;
}

// The sum of the four bytes of a random word is nearly normal: mean 510, standard deviation 147.8005.
DEVICE int32_t level(float color, float spread, uint32_t word) {
  const uint32_t pairs = (word & 0x00FF00FFu) + (word >> 8 & 0x00FF00FFu);
  const float value = color + spread * (0.00676588f * (float)((int32_t)((pairs & 0xFFFFu) + (pairs >> 16)) - 510));
  return clamp((int32_t)(value + 0.5f), 0, 255);  // clamped as whole numbers: the CPU has an instruction for that
}

DEVICE uint8_t mixed(int32_t own, int32_t other, int32_t weight) {
  return (uint8_t)(own + (((other - own) * weight + WHOLE / 2) >> 15));
}

// Pixels [begin, end) of a row.
DEVICE void blend_color(const uint8_t* __restrict__ own, uint8_t* __restrict__ dst, int32_t begin, int32_t end,
                        int32_t weight, const BlendArgs& args, int32_t frame, int32_t y) {
  if (weight == 0) {
    for (int32_t i = 3 * begin + LANE; i < 3 * end; i += LANES) dst[i] = own[i];
    return;
  }
  const float r = args.color[0], g = args.color[1], b = args.color[2];
  const float sr = args.spread[0], sg = args.spread[1], sb = args.spread[2];
  if (sr == 0.0f && sg == 0.0f && sb == 0.0f) {
    const int32_t red = level(r, 0.0f, 0), green = level(g, 0.0f, 0), blue = level(b, 0.0f, 0);
    for (int32_t x = begin + LANE; x < end; x += LANES) {
      dst[3 * x] = weight == WHOLE ? (uint8_t)red : mixed(own[3 * x], red, weight);
      dst[3 * x + 1] = weight == WHOLE ? (uint8_t)green : mixed(own[3 * x + 1], green, weight);
      dst[3 * x + 2] = weight == WHOLE ? (uint8_t)blue : mixed(own[3 * x + 2], blue, weight);
    }
    return;
  }
  const uint32_t key0 = args.key[0], key1 = args.key[1];
  for (int32_t x = begin + LANE; x < end; x += LANES) {
    const PhiloxWords words = philox4x32({(uint32_t)x, (uint32_t)y, (uint32_t)frame, 0u}, key0, key1);
    dst[3 * x] = mixed(own[3 * x], level(r, sr, words.a), weight);
    dst[3 * x + 1] = mixed(own[3 * x + 1], level(g, sg, words.b), weight);
    dst[3 * x + 2] = mixed(own[3 * x + 2], level(b, sb, words.c), weight);
  }
}

// The partner, or null if there is none. A partner that is not possible counts as none, so that no other memory is read;
// ops/blend.py refuses such rows where it can read them.
DEVICE const Clip* partner_of(const Clip& clip, int32_t partner) {
  if (partner < 0 || partner >= clip.count) return nullptr;
  const Clip* other = &clip + (partner - clip.index);
  return other->frames == clip.frames && other->height == clip.height && other->width == clip.width ? other : nullptr;
}

DEVICE void blend_row(const Clip& clip, const BlendArgs& args, int32_t, int32_t frame, int32_t y) {
  const int32_t frames = clip.frames, width = clip.width;
  int32_t left = 0, right = 0;  // an empty box
  if (args.first <= frame && frame < args.last && ramped(args.top[0], args.top[1], frame, frames) <= y &&
      y < ramped(args.bottom[0], args.bottom[1], frame, frames)) {
    left = clamp(ramped(args.left[0], args.left[1], frame, frames), 0, width);
    right = clamp(ramped(args.right[0], args.right[1], frame, frames), left, width);
  }
  const int32_t inside = left < right ? ramped_weight(args.inside, frame, frames) : 0;
  const int32_t outside = ramped_weight(args.outside, frame, frames);
  const int64_t at = row_offset(clip, frame, y);
  const uint8_t* own = clip.src + at;
  uint8_t* dst = clip.dst + at;
  const Clip* partner = partner_of(clip, args.partner);
  if (!partner) {
    blend_color(own, dst, 0, left, outside, args, frame, y);
    blend_color(own, dst, left, right, inside, args, frame, y);
    blend_color(own, dst, right, width, outside, args, frame, y);
  } else {
    const uint8_t* other = partner->src + at;
    blend_clip(own, other, dst, 0, 3 * left, outside);
    blend_clip(own, other, dst, 3 * left, 3 * right, inside);
    blend_clip(own, other, dst, 3 * right, 3 * width, outside);
  }
}

ROW_KERNEL(blend, BlendArgs)
