// interpolate: frames at positions between two frames of the source, as the blend of both.
//
// out = before + weight * (after - before), rounded half up, in whole numbers: a weight is a multiple of 1/32768.
// Moves 9 bytes per pixel (6 read, 3 written); 6 where a position is that of a frame.
#include "weight.h"

struct InterpolateArgs {
  int32_t frames;    // of the source; clip.frames is how many are written
  int32_t at[1][2];  // for each frame written: the frame before its position, and the weight of the one after it
};

DEVICE void interpolate_row(const Clip& clip, const InterpolateArgs& args, int32_t, int32_t frame, int32_t y) {
  // A position that is not possible counts as the nearest one, so that no other memory is read.
  const int32_t last = args.frames - 1, asked = args.at[frame][0];
  const int32_t before = asked < 0 ? 0 : asked > last ? last : asked;
  const int32_t after = before < last ? before + 1 : last;
  const int32_t weight = args.at[frame][1] < 0 ? 0 : args.at[frame][1] > WHOLE ? WHOLE : args.at[frame][1];
  blend_clip(clip.src + row_offset(clip, before, y), clip.src + row_offset(clip, after, y),
             clip.dst + row_offset(clip, frame, y), 0, 3 * clip.width, weight);
}

ROW_KERNEL(interpolate, InterpolateArgs)
