// dropout_mask: which elements dropout keeps, from Philox words. The rule of ops/dropout.h.
#pragma once

#include "cuda/kernels/quads.h"
#include "ops/math/philox.h"

namespace hr::cuda {

// Words index .. index + 3 of the stream (seed, call).
HR_DEVICE math::PhiloxBlock philox_words(uint64_t seed, uint64_t call, uint64_t index) {
  math::PhiloxBlock low = math::philox_block(seed, call, index >> 2);
  if (index % 4 == 0) return low;
  const math::PhiloxBlock high = math::philox_block(seed, call, (index >> 2) + 1);
  uint32_t words[8];
  HR_UNROLL
  for (int i = 0; i < 8; ++i) words[i] = i < 4 ? low.word[i] : high.word[i - 4];
  // Not words[index % 4 + i]: registers have no index.
  HR_UNROLL
  for (int i = 0; i < 6; ++i) words[i] = index & 2 ? words[i + 2] : words[i];
  HR_UNROLL
  for (int i = 0; i < 4; ++i) low.word[i] = index & 1 ? words[i + 1] : words[i];
  return low;
}

// Inverted dropout: an element stays when its word is at or above the threshold, scaled by 1 / (1 - p).
struct DropoutMask {
  uint32_t threshold;
  float scale;
  uint64_t seed, call;

  DropoutMask(double p, uint64_t seed, uint64_t call)
      : threshold(math::drop_threshold(p)), scale(static_cast<float>(1 / (1 - p))), seed(seed), call(call) {}

  HR_DEVICE float apply(uint32_t word, float x) const { return word >= threshold ? x * scale : 0.0f; }

  // The same for elements first .. first + 3 of the mask.
  HR_DEVICE void apply(int64_t first, Quad& x) const {
    if (threshold == 0) return;
    const math::PhiloxBlock words = philox_words(seed, call, static_cast<uint64_t>(first));
    HR_UNROLL
    for (int i = 0; i < 4; ++i) x.v[i] = apply(words.word[i], x.v[i]);
  }
};

}  // namespace hr::cuda
