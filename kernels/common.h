// Included by every kernel. The same text is compiled by NVRTC for the GPU and by g++ (setup.py) for the CPU.
//
// Pixels are uint8 RGB, FHWC, contiguous. Pixel (x, y) covers [x, x+1) x [y, y+1); its centre is (x+1/2, y+1/2).
// Matrices map output to input. Rounding is half up unless a kernel says otherwise. src is never written.
//
// A kernel file defines functions of one frame or of one row of pixels and makes entry points of them:
//   FRAME_KERNEL(NAME, ARGS)  calls NAME_frame(clip, args, pass, frame): on the GPU by a whole block of threads,
//                             which share `for (i = THREAD; i < n; i += THREADS)` and synchronise at SYNC()
//   ROW_KERNEL(NAME, ARGS)    calls NAME_row(clip, args, pass, frame, y): on the GPU by 32 threads, which share
//                             `for (x = LANE; x < width; x += LANES)` and synchronise at SYNC_ROW()
// On the CPU one thread does everything, and these loops are plain loops. `pass` counts the calls if one is not enough.
#ifndef DALI_VIDAUG_COMMON_H
#define DALI_VIDAUG_COMMON_H

#ifdef __CUDACC_RTC__
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#define OFFSET(T, field) __builtin_offsetof(T, field)
#define DEVICE __device__ inline
#define RARE DEVICE
#define SHARED __shared__
#define SYNC() __syncthreads()
#define SYNC_ROW() __syncwarp()
#define ADD(address, value) atomicAdd(address, value)
#define THREAD ((int32_t)threadIdx.x)
#define THREADS ((int32_t)blockDim.x)
#define LANE ((int32_t)(threadIdx.x % 32))
#define LANES 32
#else
#include <cstddef>
#include <cstdint>
#define OFFSET(T, field) offsetof(T, field)
#define DEVICE static inline
#define RARE static __attribute__((noinline))  // what is seldom called would make the loops around it slower
#define SHARED
#define SYNC()
#define SYNC_ROW()
#define ADD(address, value) (*(address) += (value))
#define THREAD 0
#define THREADS 1
#define LANE 0
#define LANES 1
#endif

// One clip of the batch. src, dst and work do not overlap. The clips of a batch are in one array, so that a kernel finds
// the others: clip number n of [0, count) is (&clip)[n - clip.index], also when a launch is for a part of the batch.
struct Clip {
  const uint8_t* src;
  uint8_t* dst;
  const uint8_t* args;  // the clip's row of the plan
  uint8_t* work;        // as much scratch memory as the launch asked for, 16-byte aligned
  int32_t frames, height, width;  // of dst
  int32_t index, count;           // the clip's number in the batch, and how many there are
  int32_t src_height, src_width;  // the same as height and width unless a kernel changes the size
  int32_t reserved;
};

// a * b + c, rounded once. All other multiplications and additions are rounded one by one.
DEVICE float fused(float a, float b, float c) {
#ifdef __CUDACC_RTC__
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

DEVICE int64_t row_offset(const Clip& clip, int64_t frame, int32_t y) {
  return (frame * clip.height + y) * clip.width * 3;
}

// A launch has one clip for each blockIdx.y, and any number of blocks along x, which loop until all is done. A clip has
// at most 2^30 rows of pixels, and a launch at most 2^28 warps along x (kernels.py), so that `row` never overflows.
#ifdef __CUDACC_RTC__
#define FRAME_KERNEL(NAME, ARGS)                                                                  \
  extern "C" __global__ void NAME(const Clip* clips, int32_t pass) {                              \
    const Clip& clip = clips[blockIdx.y];                                                         \
    for (int32_t frame = blockIdx.x; frame < clip.frames; frame += gridDim.x) {                   \
      NAME##_frame(clip, *(const ARGS*)clip.args, pass, frame);                                   \
      SYNC();                                                                                     \
    }                                                                                             \
  }
#define ROW_KERNEL(NAME, ARGS)                                                                    \
  extern "C" __global__ void NAME(const Clip* clips, int32_t pass) {                              \
    const Clip& clip = clips[blockIdx.y];                                                         \
    const int32_t teams = blockDim.x / LANES;                                                     \
    for (int32_t row = blockIdx.x * teams + threadIdx.x / LANES; row < clip.frames * clip.height; \
         row += gridDim.x * teams)                                                                \
      NAME##_row(clip, *(const ARGS*)clip.args, pass, row / clip.height, row % clip.height);      \
  }
#else
#define FRAME_KERNEL(NAME, ARGS)                                                                  \
  extern "C" void NAME(const Clip* clips, int32_t pass, int64_t first, int64_t last) {            \
    for (const Clip* clip = clips + first; clip < clips + last; ++clip)                           \
      for (int32_t frame = 0; frame < clip->frames; ++frame)                                      \
        NAME##_frame(*clip, *(const ARGS*)clip->args, pass, frame);                               \
  }
#define ROW_KERNEL(NAME, ARGS)                                                                    \
  extern "C" void NAME(const Clip* clips, int32_t pass, int64_t first, int64_t last) {            \
    for (const Clip* clip = clips + first; clip < clips + last; ++clip)                           \
      for (int32_t frame = 0; frame < clip->frames; ++frame)                                      \
        for (int32_t y = 0; y < clip->height; ++y)                                                \
          NAME##_row(*clip, *(const ARGS*)clip->args, pass, frame, y);                            \
  }
#endif

#endif
