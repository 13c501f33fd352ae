// philox_words: consecutive words of a Philox stream, 64 at a time, and the dropout factors made of them.
#pragma once

#include "ops/math/philox.h"

#include "cpu/simd.h"

namespace hr::HR_ISA_NAMESPACE {

inline constexpr int kPhiloxChunk = 64;  // words

#if HR_IS_REFERENCE

// words[i] = word 4·block + i of the stream (seed, call).
inline void philox_chunk(uint64_t seed, uint64_t call, uint64_t block, uint32_t (&words)[kPhiloxChunk]) {
  for (int b = 0; b < kPhiloxChunk / 4; ++b) {
    const math::PhiloxBlock four = math::philox_block(seed, call, block + b);
    memcpy(words + 4 * b, four.word, sizeof four.word);
  }
}

#else

// One Philox block per 64-bit lane, a 32-bit word in the low half of each; the high halves are garbage.
#if HR_IS_AVX512
inline constexpr int kPhiloxLanes = 8;
#elif HR_IS_AVX2
inline constexpr int kPhiloxLanes = 4;
#else
inline constexpr int kPhiloxLanes = 2;
#endif
typedef uint64_t PhiloxLanes __attribute__((vector_size(8 * kPhiloxLanes)));

// The full product of the low halves.
HR_INLINE PhiloxLanes multiply_low_halves(PhiloxLanes a, uint32_t multiplier) {
#if HR_IS_AVX512
  // Not _mm512_mul_epu32: GCC 12 warns about an uninitialised value inside it.
  return (PhiloxLanes)_mm512_maskz_mul_epu32(0xFF, (__m512i)a, _mm512_set1_epi64(multiplier));
#elif HR_IS_AVX2
  return (PhiloxLanes)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(multiplier));
#elif defined(__x86_64__)
  return (PhiloxLanes)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(multiplier));
#elif defined(__aarch64__)
  return (PhiloxLanes)vmull_u32(vmovn_u64((uint64x2_t)a), vdup_n_u32(multiplier));
#else
  return (a & 0xFFFFFFFFu) * multiplier;
#endif
}

// words[i] = word 4·block + i of the stream (seed, call): math::philox_block for several blocks at once.
inline void philox_chunk(uint64_t seed, uint64_t call, uint64_t block, uint32_t (&words)[kPhiloxChunk]) {
#pragma GCC unroll 4
  for (int b = 0; b < kPhiloxChunk / 4; b += kPhiloxLanes) {
    PhiloxLanes c0;
    for (int lane = 0; lane < kPhiloxLanes; ++lane) c0[lane] = block + b + lane;
    PhiloxLanes c1 = c0 >> 32, c2 = PhiloxLanes{} + call, c3 = PhiloxLanes{} + (call >> 32);
    uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < math::kPhiloxRounds; ++round) {
      const PhiloxLanes product0 = multiply_low_halves(c0, math::kPhiloxMultiplier0);
      const PhiloxLanes product1 = multiply_low_halves(c2, math::kPhiloxMultiplier1);
      c0 = (product1 >> 32) ^ c1 ^ key0;
      c1 = product1;
      c2 = (product0 >> 32) ^ c3 ^ key1;
      c3 = product0;
      key0 += math::kPhiloxWeyl0;
      key1 += math::kPhiloxWeyl1;
    }
    const PhiloxLanes low_pair = (c0 & 0xFFFFFFFFu) | c1 << 32;
    const PhiloxLanes high_pair = (c2 & 0xFFFFFFFFu) | c3 << 32;
    for (int lane = 0; lane < kPhiloxLanes; ++lane) {
      const uint64_t pairs[2] = {low_pair[lane], high_pair[lane]};
      memcpy(words + 4 * (b + lane), pairs, sizeof pairs);
    }
  }
}

#endif

// Calls fn(offset, n, words) for pieces of `count` consecutive words: words[i] is word first + offset + i.
template <typename Fn>
HR_INLINE void for_philox_words(uint64_t seed, uint64_t call, uint64_t first, int64_t count, Fn&& fn) {
  uint32_t words[kPhiloxChunk];
  for (int64_t offset = 0; offset < count;) {
    const uint64_t index = first + offset;
    const int skipped = static_cast<int>(index & 3);
    const int64_t rest = count - offset;
    const int n = rest < kPhiloxChunk - skipped ? static_cast<int>(rest) : kPhiloxChunk - skipped;
    philox_chunk(seed, call, index >> 2, words);
    fn(offset, n, words + skipped);
    offset += n;
  }
}

// Inverted dropout: keeps an element when its word is at or above the threshold, scaled by 1 / (1 - p).
struct DropoutMask {
  uint32_t threshold;
  Real scale;
  uint64_t seed, call;

  DropoutMask(double p, uint64_t seed_, uint64_t call_)
      : threshold(math::drop_threshold(p)), scale(Real(1 / (1 - p))), seed(seed_), call(call_) {}

  HR_INLINE Real apply(uint32_t word, Real x) const { return word >= threshold ? x * scale : Real(0); }

  // Calls fn(offset, n, words) for pieces of the elements first .. first + count - 1. Without dropout the
  // words are zeros: apply keeps all elements.
  template <typename Fn>
  HR_INLINE void for_words(uint64_t first, int64_t count, Fn&& fn) const {
    if (threshold > 0) return for_philox_words(seed, call, first, count, fn);
    const uint32_t zeros[kPhiloxChunk] = {};
    for (int64_t offset = 0; offset < count; offset += kPhiloxChunk) {
      const int64_t rest = count - offset;
      fn(offset, rest < kPhiloxChunk ? static_cast<int>(rest) : kPhiloxChunk, zeros);
    }
  }
};

// y = dropout(x) + residual (null: none), n elements with a word each. The mask comes by value: its fields
// would otherwise be read again after each store.
inline void apply_dropout(DropoutMask mask, const uint32_t* words, int n, const Real* x, const Real* residual,
                          Real* y) {
  if (residual) {
#pragma omp simd
    for (int i = 0; i < n; ++i) y[i] = mask.apply(words[i], x[i]) + residual[i];
  } else {
#pragma omp simd
    for (int i = 0; i < n; ++i) y[i] = mask.apply(words[i], x[i]);
  }
}

// The same for elements first .. first + count - 1 of the mask.
inline void apply_dropout(const DropoutMask& mask, uint64_t first, int64_t count, const Real* x,
                          const Real* residual, Real* y) {
  mask.for_words(first, count, [&](int64_t offset, int n, const uint32_t* words) {
    apply_dropout(mask, words, n, x + offset, residual ? residual + offset : nullptr, y + offset);
  });
}

}  // namespace hr::HR_ISA_NAMESPACE
