// warp: frames under matrices from output to input pixels, affine or perspective.
//
// Must move 6 bytes per pixel (3 read, 3 written). Reads neighbours again, from the cache.
#include "gather.h"

struct WarpArgs {
  uint8_t fill[3];   // R, G, B, of everything outside the frame
  uint8_t bilinear;  // 0: nearest; 2: neighbours outside the frame are the pixels at its edge
  int32_t num_matrices;   // at least 1; the last one holds for all further frames
  int32_t height, width;  // of the result
  double matrix[1][3][3];
};

// Whether the fixed-point coordinates of a row of at most 2^18 pixels do not overflow.
DEVICE bool is_affine(const double* m) {
  bool small = m[6] == 0 && m[7] == 0 && m[8] == 1;
  for (int32_t i = 0; i < 6; ++i) {
    const double limit = i % 3 == 2 ? 1 << 29 : 1 << 11;
    small = small && -limit < m[i] && m[i] < limit;
  }
  return small;
}

DEVICE void warp_row(const Clip& clip, const WarpArgs& args, int32_t, int32_t frame, int32_t y) {
  const int64_t size = (int64_t)clip.src_height * clip.src_width * 3;
  const Frame from = {clip.src + frame * size, args.fill, nullptr, clip.src_height, clip.src_width, args.bilinear != 0,
                      args.bilinear != 2, false};
  const double* m = args.matrix[frame < args.num_matrices ? frame : args.num_matrices - 1][0];
  uint8_t* dst = clip.dst + row_offset(clip, frame, y);
  if (frame + 1 < clip.frames && y < clip.src_height)
    expect_row(from.src + size + (int64_t)y * clip.src_width * 3, clip.src_width);
  if (is_affine(m)) {
    int64_t matrix[6];
    fixed_matrix(m, matrix);
    gather_affine(from, dst, clip.width, affine_row(matrix, y));
  } else {
    gather(from, dst, clip.width, perspective_row(m, y));
  }
}

ROW_KERNEL(warp, WarpArgs)
