// What the library for the CPU says about itself. Not compiled for the GPU.

// A digest of the sources: kernels.py refuses a library that was built from others.
extern "C" const char* sources_digest() { return SOURCES_DIGEST; }

// Whether this machine can run the library built with AVX2.
extern "C" int has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma");
#else
  return 0;
#endif
}
