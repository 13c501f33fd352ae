// random tensors on the CPU. A task starts at a multiple of four elements, a whole Philox block.
#include "cpu/kernel.h"
#include "ops/math/random_math.h"

#include "cpu/kernels/parallel.h"
#include "cpu/kernels/philox_words.h"

namespace hr::HR_ISA_NAMESPACE {

void random_uniform(Context& ctx, const RandomUniformParams& p) {
  Real* out = p.out.as<Real>();
  const double low = p.low, high = p.high;
  for_elements(ctx, p.out.size(), [&](int64_t begin, int64_t end) {
    for_philox_words(p.seed, p.call, begin, end - begin, [&](int64_t offset, int n, const uint32_t* words) {
      Real* out_piece = out + begin + offset;
#pragma omp simd
      for (int i = 0; i < n; ++i) out_piece[i] = math::uniform_between(low, high, words[i]);
    });
  });
}

void random_normal(Context& ctx, const RandomNormalParams& p) {
  Real* out = p.out.as<Real>();
  const double mean = p.mean, std = p.std;
  for_elements(ctx, p.out.size(), [&](int64_t begin, int64_t end) {
    // Whole pairs: the last element of an odd count is the first of a pair.
    const int64_t count = (end - begin + 1) / 2 * 2;
    for_philox_words(p.seed, p.call, begin, count, [&](int64_t offset, int n, const uint32_t* words) {
      float standard[kPhiloxChunk];
#pragma omp simd
      for (int i = 0; i < n; i += 2) {
        const math::NormalPair pair = math::normal_pair(words[i], words[i + 1]);
        standard[i] = pair.z0;
        standard[i + 1] = pair.z1;
      }
      // A loop of its own: in one with the above, GCC 12 drops the rounding of z to f32.
      const int64_t first = begin + offset;
      const int64_t wanted = first + n < end ? n : end - first;
      for (int64_t i = 0; i < wanted; ++i) out[first + i] = math::normal_with(mean, std, standard[i]);
    });
  });
}

}  // namespace hr::HR_ISA_NAMESPACE
