// Enough of CUDA to run the GPU's form of a kernel with CPU threads: one thread for each thread of a block, the blocks
// one after the other. Included before the kernel's text, which stands in a namespace, as it defines types of its own.
#include <pthread.h>

#include <thread>
#include <vector>

#define __CUDACC_RTC__
#define __device__
#define __global__
#define __shared__ static

struct Place {
  unsigned x, y;
};
static thread_local Place threadIdx, blockIdx;
static Place blockDim, gridDim;
static pthread_barrier_t block_barrier, warp_barriers[32];

static inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline void __syncthreads() { pthread_barrier_wait(&block_barrier); }
static inline void __syncwarp() { pthread_barrier_wait(&warp_barriers[threadIdx.x / 32]); }

template <typename T, typename V>
static inline void atomicAdd(T* address, V value) {
  __atomic_fetch_add(address, (T)value, __ATOMIC_RELAXED);
}

// Calls `entry(clips, pass)` on a grid of blocks of `threads` threads, a multiple of 32.
extern "C" void emulate(void (*entry)(const void*, int), const void* clips, int pass, int grid_x, int grid_y,
                        int threads) {
  blockDim = {(unsigned)threads, 1}, gridDim = {(unsigned)grid_x, (unsigned)grid_y};
  pthread_barrier_init(&block_barrier, nullptr, threads);
  for (int i = 0; i < threads / 32; ++i) pthread_barrier_init(&warp_barriers[i], nullptr, 32);
  std::vector<std::thread> team;
  for (int i = 0; i < threads; ++i)
    team.emplace_back([=] {
      threadIdx = {(unsigned)i, 0};
      for (int y = 0; y < grid_y; ++y)
        for (int x = 0; x < grid_x; ++x) {
          blockIdx = {(unsigned)x, (unsigned)y};
          entry(clips, pass);
          __syncthreads();
        }
    });
  for (auto& thread : team) thread.join();
  pthread_barrier_destroy(&block_barrier);
  for (int i = 0; i < threads / 32; ++i) pthread_barrier_destroy(&warp_barriers[i]);
}
