// simd: the vector of this translation unit's instruction set, and scalar maths that compilers vectorise.
//
// Vec is for inner loops that must be laid out by hand (matrix products, attention). Everything else is
// plain loops over Real, which the compiler vectorises for the instruction set (-O3, -fopenmp-simd:
// `#pragma omp simd reduction(+:sum)` where a sum may be reassociated; no OpenMP run time is involved).
// Nothing contracts a·b + c by itself (-ffp-contract=off): write mul_add where one rounding is wanted.
#pragma once

#include <cmath>

#include "cpu/isa.h"

namespace hr::HR_ISA_NAMESPACE {

#if HR_IS_REFERENCE
using Real = double;
#else
using Real = float;
#endif

#if HR_IS_AVX512
struct Vec {
  static constexpr int kLanes = 16;
  __m512 v;
  static HR_INLINE Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static HR_INLINE Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
  HR_INLINE void store(float* p) const { _mm512_storeu_ps(p, v); }
  template <int kCount>
  HR_INLINE void store_first(float* p) const {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1 << kCount) - 1), v);
  }
};
HR_INLINE Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
HR_INLINE Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
HR_INLINE Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
HR_INLINE Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
HR_INLINE Vec mul_add(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// Lanes a0, b0, a1, b1, ... of the lower and of the upper halves.
HR_INLINE Vec zip_low(Vec a, Vec b) {
  const __m512i lanes = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return {_mm512_permutex2var_ps(a.v, lanes, b.v)};
}
HR_INLINE Vec zip_high(Vec a, Vec b) {
  const __m512i lanes = _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
  return {_mm512_permutex2var_ps(a.v, lanes, b.v)};
}
#elif HR_IS_AVX2
struct Vec {
  static constexpr int kLanes = 8;
  __m256 v;
  static HR_INLINE Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static HR_INLINE Vec broadcast(float x) { return {_mm256_set1_ps(x)}; }
  HR_INLINE void store(float* p) const { _mm256_storeu_ps(p, v); }
  template <int kCount>
  HR_INLINE void store_first(float* p) const {
    memcpy(p, &v, kCount * sizeof(float));
  }
};
HR_INLINE Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
HR_INLINE Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
HR_INLINE Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
HR_INLINE Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
HR_INLINE Vec mul_add(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
HR_INLINE Vec zip_low(Vec a, Vec b) {
  return {_mm256_permute2f128_ps(_mm256_unpacklo_ps(a.v, b.v), _mm256_unpackhi_ps(a.v, b.v), 0x20)};
}
HR_INLINE Vec zip_high(Vec a, Vec b) {
  return {_mm256_permute2f128_ps(_mm256_unpacklo_ps(a.v, b.v), _mm256_unpackhi_ps(a.v, b.v), 0x31)};
}
#elif HR_IS_NEON
struct Vec {
  static constexpr int kLanes = 4;
  float32x4_t v;
  static HR_INLINE Vec load(const float* p) { return {vld1q_f32(p)}; }
  static HR_INLINE Vec broadcast(float x) { return {vdupq_n_f32(x)}; }
  HR_INLINE void store(float* p) const { vst1q_f32(p, v); }
  template <int kCount>
  HR_INLINE void store_first(float* p) const {
    memcpy(p, &v, kCount * sizeof(float));
  }
};
HR_INLINE Vec operator+(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
HR_INLINE Vec operator-(Vec a, Vec b) { return {vsubq_f32(a.v, b.v)}; }
HR_INLINE Vec operator*(Vec a, Vec b) { return {vmulq_f32(a.v, b.v)}; }
HR_INLINE Vec max(Vec a, Vec b) { return {vmaxq_f32(a.v, b.v)}; }
HR_INLINE Vec mul_add(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
HR_INLINE Vec zip_low(Vec a, Vec b) { return {vzip1q_f32(a.v, b.v)}; }
HR_INLINE Vec zip_high(Vec a, Vec b) { return {vzip2q_f32(a.v, b.v)}; }
#elif HR_IS_PLAIN
// The compiler's own vectors: SSE2 on x86-64, or whatever the baseline has. The reference needs none.
struct Vec {
  static constexpr int kLanes = 4;
  typedef float Native __attribute__((vector_size(16)));
  Native v;
  static HR_INLINE Vec load(const float* p) {
    Vec x;
    memcpy(&x.v, p, sizeof x.v);
    return x;
  }
  static HR_INLINE Vec broadcast(float x) { return {Native{x, x, x, x}}; }
  HR_INLINE void store(float* p) const { memcpy(p, &v, sizeof v); }
  template <int kCount>
  HR_INLINE void store_first(float* p) const {
    memcpy(p, &v, kCount * sizeof(float));
  }
};
HR_INLINE Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
HR_INLINE Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
HR_INLINE Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
HR_INLINE Vec max(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }
HR_INLINE Vec mul_add(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
HR_INLINE Vec zip_low(Vec a, Vec b) { return {Vec::Native{a.v[0], b.v[0], a.v[1], b.v[1]}}; }
HR_INLINE Vec zip_high(Vec a, Vec b) { return {Vec::Native{a.v[2], b.v[2], a.v[3], b.v[3]}}; }
#endif

// a·b + c: one rounding where the hardware has it, two elsewhere.
HR_INLINE float mul_add(float a, float b, float c) {
  if constexpr (kHasFma) return __builtin_fmaf(a, b, c);
  return a * b + c;
}
HR_INLINE double mul_add(double a, double b, double c) { return a * b + c; }

// e^x. f32: within 2 ulp, 0 below -87.3, +inf above 88.7, NaN stays NaN.
//   x = n·ln 2 + r, |r| <= ln 2 / 2;  e^r by a degree 6 polynomial;  2^n through the exponent bits
HR_INLINE float exp(float x) {
  const float above = x > -87.33654f ? x : -87.33654f;  // NaN too
  const float clamped = above < 88.72283f ? above : 88.72283f;
  const float rounder = 12582912.0f;  // 1.5·2^23: adding it rounds to an integer
  const float biased = mul_add(clamped, 1.44269504f, rounder);
  const float n = biased - rounder;
  float r = mul_add(n, -0.693359375f, clamped);
  r = mul_add(n, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  p = mul_add(p, r, 1.3981999507e-3f);
  p = mul_add(p, r, 8.3334519073e-3f);
  p = mul_add(p, r, 4.1665795894e-2f);
  p = mul_add(p, r, 1.6666665459e-1f);
  p = mul_add(p, r, 5.0000001201e-1f);
  const float e = mul_add(p, r * r, r) + 1.0f;
  // 2^n as 2^(n/2)·2^(n - n/2): n reaches 128, one more than an exponent holds.
  const int32_t whole = static_cast<int32_t>(n);
  const int32_t half = whole >> 1;
  const int32_t low_bits = (half + 127) << 23, high_bits = (whole - half + 127) << 23;
  float low, high;
  memcpy(&low, &low_bits, sizeof low);
  memcpy(&high, &high_bits, sizeof high);
  const float result = e * low * high;
  const float bounded = x < -87.33654f ? 0.0f : (x > 88.72283f ? __builtin_inff() : result);
  return x == x ? bounded : x;
}
HR_INLINE double exp(double x) { return __builtin_exp(x); }

}  // namespace hr::HR_ISA_NAMESPACE
