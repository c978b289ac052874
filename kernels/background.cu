// background: one frame of a clip blended over all of its frames, with a weight for each.
//
// out = own + weight * (that frame - own), rounded half up, in whole numbers: a weight is a multiple of 1/32768.
// Moves 9 bytes per pixel (6 read, 3 written).
#include "weight.h"

struct BackgroundArgs {
  int32_t frame;       // that is blended over the others; [0, frames)
  int32_t num_values;  // at least the clip's frames
  float weight[1];     // [num_values], [0, 1]
};

DEVICE void background_row(const Clip& clip, const BackgroundArgs& args, int32_t, int32_t frame, int32_t y) {
  // A frame that is not possible counts as the nearest one, so that no other memory is read.
  const int32_t last = clip.frames - 1, shown = args.frame < 0 ? 0 : args.frame > last ? last : args.frame;
  const float asked = args.weight[frame];
  const int32_t weight = (int32_t)((asked > 0.0f ? asked < 1.0f ? asked : 1.0f : 0.0f) * WHOLE + 0.5f);
  const int64_t at = row_offset(clip, frame, y);
  blend_clip(clip.src + at, clip.src + row_offset(clip, shown, y), clip.dst + at, 0, 3 * clip.width, weight);
}

ROW_KERNEL(background, BackgroundArgs)
