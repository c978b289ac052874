// color: up to four ops on the colour of pixels, one after the other, each with its own value in every frame.
//
// Brightness, contrast, saturation, hue and grey are those of torchvision's transforms.v2 on uint8: the result is clamped
// and cut off to a whole level after each op, and the arithmetic is that of v2 on the CPU, operation by operation, in
// single precision; what PyTorch's vectors fuse is fused here.
// All ops of a row are done in one pass. Contrast needs the mean grey of what it gets, and so a pass before it, which
// leaves the result of the ops before it in dst. There are three entry points:
//   measure  the ops before contrast, and the sum of the grey levels of each frame
//   mean     the mean of each frame, or of the clip
//   pixels   the other ops
// Moves 6 bytes per pixel (3 read, 3 written); 3 more with contrast, 9 more where other ops come before it.
#include "philox.h"
#if defined(__AVX2__) && !defined(__CUDACC_RTC__)
#include "avx2.h"
#endif

enum ColorOp { IDENTITY, BRIGHTNESS, CONTRAST, SATURATION, HUE, GREY, NOISE };
const int32_t MAX_OPS = 4;

struct ColorArgs {
  uint8_t op[MAX_OPS];
  uint8_t per_clip;     // contrast turns about the mean of the whole clip, otherwise of each frame
  uint8_t reserved[3];
  uint32_t key[2];      // of the noise
  int32_t num_values;   // of each op in `value`, at least the clip's frames
  float value[1];       // [ops][num_values]: factors; hue in turns; standard deviation of noise in levels
};

// In the clip's scratch memory, one for each frame.
struct ColorFrame {
  uint64_t grey;  // sum of the grey levels
  float mean;     // if the mean is the clip's, that of frame 0 is for all
  uint32_t reserved;
};

// Pixels that are processed together, as whole levels. On the CPU so many that loops over them use vectors.
#ifdef __CUDACC_RTC__
const int32_t CHUNK = 1;
#else
const int32_t CHUNK = 32;
#endif
struct Pixels {
  uint8_t r[CHUNK], g[CHUNK], b[CHUNK];
};

// Whether there are fewer pixels than a chunk has. The rest of the chunk is black, and is not stored.
DEVICE bool is_part(int32_t count) { return CHUNK > 1 && count < CHUNK; }

DEVICE void load(Pixels& p, const uint8_t* src, int32_t count) {
  uint8_t part[3 * CHUNK];
  if (is_part(count)) {
    for (int32_t i = 0; i < 3 * count; ++i) part[i] = src[i];
    for (int32_t i = 3 * count; i < 3 * CHUNK; ++i) part[i] = 0;
    src = part;
  }
  for (int32_t i = 0; i < CHUNK; ++i) p.r[i] = src[3 * i], p.g[i] = src[3 * i + 1], p.b[i] = src[3 * i + 2];
}

DEVICE void store(const Pixels& p, uint8_t* dst, int32_t count) {
  uint8_t part[3 * CHUNK];
  uint8_t* to = is_part(count) ? part : dst;
  for (int32_t i = 0; i < CHUNK; ++i) to[3 * i] = p.r[i], to[3 * i + 1] = p.g[i], to[3 * i + 2] = p.b[i];
  if (is_part(count))
    for (int32_t i = 0; i < 3 * count; ++i) dst[i] = part[i];
}

// Cut off to a whole level, in [0, 255].
DEVICE uint8_t level(float value) {
  const int32_t whole = (int32_t)value, positive = whole < 0 ? 0 : whole;
  return (uint8_t)(positive > 255 ? 255 : positive);
}

DEVICE uint8_t grey_of(uint8_t r, uint8_t g, uint8_t b) {
  return (uint8_t)(int32_t)fused((float)b, 0.114f, fused((float)g, 0.587f, (float)r * 0.2989f));
}

DEVICE void brighten(Pixels& p, float factor) {
  for (int32_t i = 0; i < CHUNK; ++i) {
    p.r[i] = level((float)p.r[i] * factor);
    p.g[i] = level((float)p.g[i] * factor);
    p.b[i] = level((float)p.b[i] * factor);
  }
}

// `factor` of the pixel and the rest of something grey.
DEVICE uint8_t mixed(uint8_t value, float grey, float factor, float rest) {
  return level(fused(grey, rest, (float)value * factor));
}

DEVICE void stretch(Pixels& p, float factor, float mean) {
  const float rest = (float)(1.0 - (double)factor);
  for (int32_t i = 0; i < CHUNK; ++i) {
    p.r[i] = mixed(p.r[i], mean, factor, rest);
    p.g[i] = mixed(p.g[i], mean, factor, rest);
    p.b[i] = mixed(p.b[i], mean, factor, rest);
  }
}

DEVICE void saturate(Pixels& p, float factor) {
  const float rest = (float)(1.0 - (double)factor);
  for (int32_t i = 0; i < CHUNK; ++i) {
    const float grey = (float)grey_of(p.r[i], p.g[i], p.b[i]);
    p.r[i] = mixed(p.r[i], grey, factor, rest);
    p.g[i] = mixed(p.g[i], grey, factor, rest);
    p.b[i] = mixed(p.b[i], grey, factor, rest);
  }
}

DEVICE void desaturate(Pixels& p) {
  for (int32_t i = 0; i < CHUNK; ++i)
    p.r[i] = p.g[i] = p.b[i] = grey_of(p.r[i], p.g[i], p.b[i]);
}

// `yes` where `is` is 1, `no` where it is 0. A loop with `? :` is not always one without branches, which vectors need.
DEVICE int32_t pick(int32_t is, int32_t yes, int32_t no) { return no ^ ((yes ^ no) & -is); }

// Hue is turned in HSV, its values in [0, 1].
DEVICE void turn(Pixels& p, float turns) {
  const float unit = (float)(1.0 / 255.0), sixth = (float)(1.0 / 6.0), levels = (float)(256.0 - 1e-3);
  for (int32_t i = 0; i < CHUNK; ++i) {
    const int32_t r = p.r[i], g = p.g[i], b = p.b[i];
    const int32_t upper = r > g ? r : g, most = upper > b ? upper : b;
    const int32_t lower = r < g ? r : g, least = lower < b ? lower : b;
    const int32_t is_r = most == r, is_g = (most == g) & (most != r);
    // The largest of the three says in which third of the circle the colour is, the others how far from its middle.
    const int32_t ahead = pick(is_r, b, pick(is_g, r, g)), behind = pick(is_r, g, pick(is_g, b, r));
    const float v = (float)most * unit, range = v - (float)least * unit;
    const float grey = (float)(most == least);  // then the range is 0, and so are saturation and hue
    const float s = range / (v + grey), divisor = range + grey;
    const float first = (v - (float)ahead * unit) / divisor, second = (v - (float)behind * unit) / divisor;
    float h = ((float)(4 - 4 * is_r - 2 * is_g) + first - second) * sixth + 1.0f;
    h = h - (float)(int32_t)h + turns;
    h += (float)((h < 0.0f) - (h >= 1.0f));
    const float six = h * 6.0f;
    const int32_t sextant = (int32_t)six;  // 6 is 0
    const float f = six - (float)sextant, part = s * f, rest = 1.0f - s;
    const int32_t down = level((1.0f - part) * v * levels), up = level((part + rest) * v * levels);
    const int32_t none = level(rest * v * levels);
    const int32_t at0 = (sextant == 0) | (sextant == 6), at1 = sextant == 1, at2 = sextant == 2;
    const int32_t at3 = sextant == 3, at4 = sextant == 4, at5 = sextant == 5;
    p.r[i] = (uint8_t)pick(at0 | at5, most, pick(at1, down, pick(at4, up, none)));
    p.g[i] = (uint8_t)pick(at1 | at2, most, pick(at0, up, pick(at3, down, none)));
    p.b[i] = (uint8_t)pick(at3 | at4, most, pick(at2, up, pick(at5, down, none)));
  }
}

// Nearly normal noise, rounded half up: the sum of the four bytes of a random word, with mean 510 and standard deviation
// 147.8005.
DEVICE uint8_t noisy(uint8_t value, float spread, uint32_t word) {
  const uint32_t pairs = (word & 0x00FF00FFu) + (word >> 8 & 0x00FF00FFu);
  return level((float)value + spread * (0.00676588f * (float)((int32_t)((pairs & 0xFFFFu) + (pairs >> 16)) - 510)) + 0.5f);
}

DEVICE void add_noise(Pixels& p, float spread, const uint32_t* key, int32_t x, int32_t y, int32_t frame) {
  const uint32_t key0 = key[0], key1 = key[1];
  for (int32_t i = 0; i < CHUNK; ++i) {
    const PhiloxWords words = philox4x32({(uint32_t)(x + i), (uint32_t)y, (uint32_t)frame, 0u}, key0, key1);
    p.r[i] = noisy(p.r[i], spread, words.a);
    p.g[i] = noisy(p.g[i], spread, words.b);
    p.b[i] = noisy(p.b[i], spread, words.c);
  }
}

DEVICE float value_of(const ColorArgs& args, int32_t k, int32_t frame) {
  return args.value[(int64_t)k * args.num_values + frame];
}

// The place of contrast among the ops; none has MAX_OPS.
DEVICE int32_t contrast_of(const ColorArgs& args) {
  for (int32_t k = 0; k < MAX_OPS; ++k)
    if (args.op[k] == CONTRAST) return k;
  return MAX_OPS;
}

DEVICE bool any_op(const ColorArgs& args, int32_t first, int32_t last) {
  for (int32_t k = first; k < last; ++k)
    if (args.op[k] != IDENTITY) return true;
  return false;
}

DEVICE int32_t end_of(const ColorArgs& args) {
  int32_t last = MAX_OPS;
  while (last > 0 && args.op[last - 1] == IDENTITY) --last;
  return last;
}

// The ops [first, last) on the pixels from (x, y) on.
DEVICE void apply(Pixels& p, const ColorArgs& args, int32_t first, int32_t last, float mean, int32_t x, int32_t y,
                  int32_t frame) {
  for (int32_t k = first; k < last; ++k) {
    const uint8_t op = args.op[k];
    const float value = op == IDENTITY ? 0.0f : value_of(args, k, frame);
    if (op == BRIGHTNESS) brighten(p, value);
    else if (op == CONTRAST) stretch(p, value, mean);
    else if (op == SATURATION) saturate(p, value);
    else if (op == HUE) turn(p, value);
    else if (op == GREY && value != 0.0f) desaturate(p);
    else if (op == NOISE) add_noise(p, value, args.key, x, y, frame);
  }
}

DEVICE ColorFrame& frame_of(const Clip& clip, int32_t frame) { return ((ColorFrame*)clip.work)[frame]; }

DEVICE void color_measure_frame(const Clip& clip, const ColorArgs& args, int32_t, int32_t frame) {
  const int32_t contrast = contrast_of(args), width = clip.width;
  if (contrast == MAX_OPS) return;
  const bool before = any_op(args, 0, contrast);
  const int32_t chunks = (width + CHUNK - 1) / CHUNK;
  SHARED uint64_t total;
  if (THREAD == 0) total = 0;
  SYNC();
  uint64_t mine = 0;
  for (int32_t c = THREAD; c < chunks * clip.height; c += THREADS) {
    const int32_t y = c / chunks, x = c % chunks * CHUNK, count = width - x < CHUNK ? width - x : CHUNK;
    const int64_t at = row_offset(clip, frame, y) + 3 * x;
    Pixels p;
    load(p, clip.src + at, count);
    if (before) {
      apply(p, args, 0, contrast, 0.0f, x, y, frame);
      store(p, clip.dst + at, count);
    }
    desaturate(p);
    if (is_part(count))
      for (int32_t i = count; i < CHUNK; ++i) p.r[i] = 0;
    int32_t sum = 0;
    for (int32_t i = 0; i < CHUNK; ++i) sum += p.r[i];
    mine += sum;
  }
  ADD(&total, mine);
  SYNC();
  if (THREAD == 0) frame_of(clip, frame).grey = total;
}

FRAME_KERNEL(color_measure, ColorArgs)

DEVICE void color_mean_frame(const Clip& clip, const ColorArgs& args, int32_t, int32_t frame) {
  if (contrast_of(args) == MAX_OPS || THREAD != 0 || (args.per_clip && frame != 0)) return;
  const int32_t last = args.per_clip ? clip.frames : frame + 1;
  uint64_t total = 0;
  for (int32_t f = frame; f < last; ++f) total += frame_of(clip, f).grey;
  frame_of(clip, frame).mean = (float)((double)total / ((double)(last - frame) * clip.height * clip.width));
}

FRAME_KERNEL(color_mean, ColorArgs)

#if defined(__AVX2__) && !defined(__CUDACC_RTC__)
// A channel of eight pixels: of four from the beginning of the first half, and four from byte 4 of the second.
DEVICE __m256 channel(__m256i halves, int32_t c) {
  const __m256i at = _mm256_setr_epi8(0, -1, -1, -1, 3, -1, -1, -1, 6, -1, -1, -1, 9, -1, -1, -1,
                                      4, -1, -1, -1, 7, -1, -1, -1, 10, -1, -1, -1, 13, -1, -1, -1);
  return _mm256_cvtepi32_ps(_mm256_shuffle_epi8(halves, _mm256_add_epi32(at, _mm256_set1_epi32(c))));
}

// As grey_of.
DEVICE void desaturate_group(const uint8_t* src, uint8_t* dst) {
  const __m256i halves = load_halves(src, src + 8);
  const __m256 red = _mm256_mul_ps(channel(halves, 0), _mm256_set1_ps(0.2989f));
  const __m256 more = _mm256_fmadd_ps(channel(halves, 1), _mm256_set1_ps(0.587f), red);
  const __m256i grey = _mm256_cvttps_epi32(_mm256_fmadd_ps(channel(halves, 2), _mm256_set1_ps(0.114f), more));
  store_group(dst, _mm256_shuffle_epi8(grey, both(_mm_setr_epi8(0, 0, 0, 4, 4, 4, 8, 8, 8, 12, 12, 12, -1, -1, -1, -1))));
}
#endif

// RandomGrayscale by itself, without planes: twice as fast on the CPU.
DEVICE void desaturate_row(const uint8_t* src, uint8_t* __restrict__ dst, int32_t width) {
  int32_t first = 0;
#if defined(__AVX2__) && !defined(__CUDACC_RTC__)
  for (; first + GROUP <= width; first += GROUP) desaturate_group(src + 3 * first, dst + 3 * first);
#endif
  for (int32_t x = first + LANE; x < width; x += LANES)
    dst[3 * x] = dst[3 * x + 1] = dst[3 * x + 2] = grey_of(src[3 * x], src[3 * x + 1], src[3 * x + 2]);
}

DEVICE void color_pixels_row(const Clip& clip, const ColorArgs& args, int32_t, int32_t frame, int32_t y) {
  const int32_t contrast = contrast_of(args), width = clip.width;
  const int32_t first = contrast == MAX_OPS ? 0 : contrast, last = end_of(args);
  const float mean = contrast == MAX_OPS ? 0.0f : frame_of(clip, args.per_clip ? 0 : frame).mean;
  const int64_t at = row_offset(clip, frame, y);
  const uint8_t* src = (any_op(args, 0, first) ? clip.dst : clip.src) + at;
  uint8_t* dst = clip.dst + at;
  if (last == 1 && args.op[0] == GREY && value_of(args, 0, frame) != 0.0f) {
    desaturate_row(src, dst, width);
    return;
  }
  for (int32_t x = LANE * CHUNK; x < width; x += LANES * CHUNK) {
    const int32_t count = width - x < CHUNK ? width - x : CHUNK;
    Pixels p;
    load(p, src + 3 * x, count);
    apply(p, args, first, last, mean, x, y, frame);
    store(p, dst + 3 * x, count);
  }
}

ROW_KERNEL(color_pixels, ColorArgs)
