// Motion-guided masks: boxes of tokens that follow what moves in clips (docs/motion.md). Not compiled for the GPU.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

const int ROUNDS = 2;  // of moving a box to the middle of what moves in it

// The sum of numbers in NumPy's order: by halves, each in eight parts.
static double sum(const double* numbers, int64_t count) {
  if (count > 128) {
    const int64_t half = count / 2 - count / 2 % 8;
    return sum(numbers, half) + sum(numbers + half, count - half);
  }
  double total = 0;
  int64_t i = 0;
  if (count >= 8) {
    double part[8];
    std::copy(numbers, numbers + 8, part);
    for (i = 8; i + 8 <= count; i += 8)
      for (int k = 0; k < 8; k++) part[k] += numbers[i + k];
    total = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
  }
  for (; i < count; i++) total += numbers[i];
  return total;
}

// The tokens of a frame, whose centres are at half a token, one and a half, ...; and room for numbers of each.
struct Tokens {
  int64_t height, width, count;
  std::vector<double> places[2], some, inside, product;

  Tokens(int64_t rows, int64_t columns)
      : height(rows), width(columns), count(rows * columns), some(count), inside(count), product(count) {
    for (int64_t i = 0; i < count; i++)
      places[0].push_back((double)(i / width) + 0.5), places[1].push_back((double)(i % width) + 0.5);
  }
};

// The weighted means of two kinds of values of the tokens in a box; returns the sum of the weights.
static double mean_inside(Tokens& tokens, const double* box, const double* centre, const double* weights,
                          const double* first, const double* second, double* mean) {
  for (int64_t i = 0; i < tokens.count; i++) {
    const bool near = std::abs(tokens.places[0][i] - centre[0]) <= box[0] / 2 &&
                      std::abs(tokens.places[1][i] - centre[1]) <= box[1] / 2;
    tokens.inside[i] = weights[i] * (near ? 1.0 : 0.0);
  }
  const double total = sum(tokens.inside.data(), tokens.count);
  for (int k = 0; k < 2; k++) {
    const double* values = k ? second : first;
    for (int64_t i = 0; i < tokens.count; i++) tokens.product[i] = tokens.inside[i] * values[i];
    mean[k] = sum(tokens.product.data(), tokens.count) / std::max(total, 1e-12);
  }
  return total;
}

// How most of a frame moves: the median of what is known of its tokens; NaN where nothing is.
static double usual_motion(Tokens& tokens, const double* motion) {
  const auto end = std::copy_if(motion, motion + tokens.count, tokens.some.begin(), [](double x) { return x == x; });
  const auto middle = tokens.some.begin() + std::max<int64_t>(end - tokens.some.begin() - 1, 0) / 2;
  if (end == tokens.some.begin()) return NAN;
  std::nth_element(tokens.some.begin(), middle, end);
  return *middle;
}

// Where a box begins: a token, as likely as it moves much; any where nothing moves. random: in [0, 1).
static void begin_at(Tokens& tokens, const double* weights, double random, double* centre) {
  const bool any = std::any_of(weights, weights + tokens.count, [](double weight) { return weight != 0; });
  double until = 0;
  for (int64_t i = 0; i < tokens.count; i++) tokens.some[i] = until += any ? weights[i] : 1.0;
  const auto passed = [&](double end) { return end <= random * until; };
  const int64_t chosen = std::count_if(tokens.some.begin(), tokens.some.end(), passed);
  for (int k = 0; k < 2; k++) centre[k] = tokens.places[k][std::min(chosen, tokens.count - 1)];
}

// Mask the `number` tokens that are nearest to the centre of a box in units of its sides; of those as far, the first.
static void mask_nearest(Tokens& tokens, const double* box, const double* centre, int64_t number, bool* out) {
  std::vector<double>&far = tokens.inside, &sorted = tokens.some;
  for (int64_t i = 0; i < tokens.count; i++)
    far[i] = std::max(std::abs(tokens.places[0][i] - centre[0]) / box[0],
                      std::abs(tokens.places[1][i] - centre[1]) / box[1]);
  sorted = far;
  const auto less = [](double a, double b) { return a < b || (a == a && b != b); };  // NaN is the last
  std::nth_element(sorted.begin(), sorted.begin() + (number - 1), sorted.end(), less);
  const double least = sorted[number - 1];
  int64_t wanted = number - std::count_if(far.begin(), far.end(), [&](double x) { return x < least; });
  for (int64_t i = 0; i < tokens.count; i++) out[i] = far[i] < least || (far[i] == least && wanted-- > 0);
}

// Masks of a clip. motion: (2, frames, tokens). weights: room for (frames, tokens). For the rest as `follow_motion`.
static void follow_clip(Tokens& tokens, const double* motion, const double* times, const double* box, double random,
                        int64_t frames, int64_t number, double* weights, bool* out) {
  const int64_t count = tokens.count, plane = frames * count;
  const double size[2] = {(double)tokens.height, (double)tokens.width};
  std::vector<double> usual(2 * frames), moved[2] = {std::vector<double>(count), std::vector<double>(count)};
  int64_t first = frames;  // in which anything moves
  for (int64_t t = 0; t < frames; t++) {
    for (int k = 0; k < 2; k++) usual[2 * t + k] = usual_motion(tokens, motion + k * plane + t * count);
    for (int64_t i = t * count; i < (t + 1) * count; i++) {
      const double y = motion[i] - usual[2 * t], x = motion[plane + i] - usual[2 * t + 1];
      weights[i] = std::sqrt((y == y ? y * y : 0) + (x == x ? x * x : 0));
      if (weights[i] != 0) first = std::min(first, t);
    }
  }
  if (first == frames) first = 0;
  double centre[2], speed[2] = {0, 0}, mean[2];
  begin_at(tokens, weights + first * count, random, centre);
  for (int64_t t = 0; t < frames; t++) {
    const bool begun = t >= first;  // before anything moves, the box is where it will begin
    const double* now = weights + t * count;
    for (int round = 0; round < ROUNDS && begun; round++)
      if (mean_inside(tokens, box, centre, now, tokens.places[0].data(), tokens.places[1].data(), mean) > 0)
        std::copy(mean, mean + 2, centre);
    for (int k = 0; k < 2; k++) {
      centre[k] = std::min(std::max(centre[k], box[k] / 2), size[k] - box[k] / 2);
      const double* all = motion + k * plane + t * count;
      std::transform(all, all + count, moved[k].begin(), [](double x) { return x == x ? x : 0; });
    }
    mask_nearest(tokens, box, centre, number, out + t * count);
    const double total = mean_inside(tokens, box, centre, now, moved[0].data(), moved[1].data(), mean);
    for (int k = 0; k < 2; k++) {
      const double usually = usual[2 * t + k];  // of a key frame nothing is known: as before
      speed[k] = total > 0 ? mean[k] : usually == usually ? usually : speed[k];
      if (begun && t + 1 < frames) centre[k] += speed[k] * (times[t + 1] - times[t]);
    }
  }
}

// Mask `number` tokens of each frame of clips: those nearest to a box that follows what moves.
//
// motion: (clips, 2, frames, height, width), by how many tokens each moves down and to the right per frame of its video;
// NaN where nothing is known. times: (clips, frames), where they are in the video. boxes: (clips, 2), their heights and
// widths in tokens. random: (clips), in [0, 1): where each begins. out: (clips, frames, height, width).
extern "C" void follow_motion(const double* motion, const double* times, const double* boxes, const double* random,
                              int64_t clips, int64_t frames, int64_t height, int64_t width, int64_t number, bool* out) {
  Tokens tokens(height, width);
  std::vector<double> weights(frames * tokens.count);
  for (int64_t i = 0; i < clips; i++)
    follow_clip(tokens, motion + 2 * i * frames * tokens.count, times + i * frames, boxes + 2 * i, random[i], frames,
                number, weights.data(), out + i * frames * tokens.count);
}
