// arithmetic: how the register tile of a product multiplies, and what its operands must look like.
//
// An Arithmetic has
//   kPerUnit                    how many neighbouring k one unit (32 bits) holds
//   mul_add(left, right, sum)   sum + Σ over the numbers of a unit, lane by lane
//   line(row, buffer)           kLine units from numbers along a row: in buffer, or where they are
//   unit(row, count)            one unit from the first `count` numbers of a row; the others are 0
//   merge<kWidth>(rows, units)  kWidth units from the first kWidth numbers of kPerUnit rows
//   number(unit, n)             the n-th number of a unit
#pragma once

#include "ops/math/half.h"
#include "ops/precision.h"

#include "cpu/simd.h"

namespace hr::HR_ISA_NAMESPACE::packed {

inline constexpr int64_t kLine = 16;  // numbers or units in a cache line

struct F32 {
  static constexpr int64_t kPerUnit = 1;
  static HR_INLINE Vec mul_add(Vec left, Vec right, Vec sum) {
    return HR_ISA_NAMESPACE::mul_add(left, right, sum);
  }
  static HR_INLINE const float* line(const float* row, float*) { return row; }
  static HR_INLINE float unit(const float* row, int64_t) { return row[0]; }
  template <int kWidth>
  static HR_INLINE void merge(const float* const rows[kPerUnit], float* units) {
    memcpy(units, rows[0], kWidth * sizeof(float));
  }
  static HR_INLINE float number(float unit, int64_t) { return unit; }
};

HR_INLINE float round_to_bf16(float x) { return math::to_float(math::to_bf16(x)); }

// bf16 where the hardware has no products of it: rounded numbers, multiplied as f32.
struct RoundedBf16 {
  static constexpr int64_t kPerUnit = 1;
  static HR_INLINE Vec mul_add(Vec left, Vec right, Vec sum) {
    return HR_ISA_NAMESPACE::mul_add(left, right, sum);
  }
  static HR_INLINE const float* line(const float* row, float* buffer) {
    for (int64_t n = 0; n < kLine; ++n) buffer[n] = round_to_bf16(row[n]);
    return buffer;
  }
  static HR_INLINE float unit(const float* row, int64_t) { return round_to_bf16(row[0]); }
  template <int kWidth>
  static HR_INLINE void merge(const float* const rows[kPerUnit], float* units) {
    for (int i = 0; i < kWidth; ++i) units[i] = round_to_bf16(rows[0][i]);
  }
  static HR_INLINE float number(float unit, int64_t) { return unit; }
};

#if HR_IS_AVX512
// Pairs of bf16, the lower k in the lower half, for AVX512-BF16. Only the assembler need know its
// instructions: the rest of the file must run on processors without them.
struct PairedBf16 {
  static constexpr int64_t kPerUnit = 2;
  static HR_INLINE Vec mul_add(Vec left, Vec right, Vec sum) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum.v) : "v"(left.v), "v"(right.v));
    return sum;
  }
  static HR_INLINE const float* line(const float* row, float* buffer) {
    _mm512_storeu_si512(buffer, round(Vec::load(row).v, Vec::load(row + kLine).v));
    return buffer;
  }
  static HR_INLINE float unit(const float* row, int64_t count) {
    const uint32_t low = math::to_bf16(row[0]).bits;
    const uint32_t high = count > 1 ? math::to_bf16(row[1]).bits : 0;
    return math::float_of(high << 16 | low);
  }
  template <int kWidth>
  static HR_INLINE void merge(const float* const rows[kPerUnit], float* units) {
    constexpr uint16_t kInterleave[] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i interleave = _mm512_loadu_si512(kInterleave);
    for (int i = 0; i < kWidth; i += Vec::kLanes) {
      const __mmask16 lanes = kWidth - i >= Vec::kLanes ? 0xFFFF : (1 << (kWidth - i)) - 1;
      const __m512i rounded =
          round(_mm512_maskz_loadu_ps(lanes, rows[0] + i), _mm512_maskz_loadu_ps(lanes, rows[1] + i));
      _mm512_mask_storeu_epi32(units + i, lanes,
                               _mm512_maskz_permutexvar_epi16(0xFFFFFFFF, interleave, rounded));
    }
  }
  static HR_INLINE float number(float unit, int64_t n) {
    const uint32_t bits = math::bits_of(unit);
    return math::float_of(n == 0 ? bits << 16 : bits & 0xFFFF0000u);
  }

 private:
  static HR_INLINE __m512i round(__m512 low, __m512 high) {
    __m512i rounded;
    asm("vcvtne2ps2bf16 %2, %1, %0" : "=v"(rounded) : "v"(high), "v"(low));
    return rounded;
  }
};
#endif

// Calls fn(arithmetic) with the one for products of a precision.
template <typename Fn>
HR_INLINE void with_arithmetic(Precision precision, Fn&& fn) {
  if (precision == Precision::f32) return fn(F32());
#if HR_IS_AVX512
  if (__builtin_cpu_supports("avx512bf16")) return fn(PairedBf16());
#endif
  fn(RoundedBf16());
}

}  // namespace hr::HR_ISA_NAMESPACE::packed
