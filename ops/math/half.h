// half: the short float types, and conversions to them that are the same on every device.
//
//   bf16   1 sign, 8 exponent, 7 mantissa bits: the upper half of an f32
//   f16    1 sign, 5 exponent, 10 mantissa bits: IEEE 754 binary16, largest 65504, subnormal below 2^-14
#pragma once

#include <cstdint>
#include <cstring>

#include "ops/math/host_device.h"

namespace hr::math {

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

HR_HD inline uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
HR_HD inline float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

HR_HD inline float to_float(Bf16 x) { return float_of(static_cast<uint32_t>(x.bits) << 16); }

HR_HD inline float to_float(F16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7FFFu) << 13;
  // The exponent bias differs by 112; the product is exact, for subnormals too.
  const uint32_t finite = bits_of(float_of(magnitude) * 0x1p112f);
  return float_of(sign | (magnitude >= 0x0F800000u ? magnitude | 0x7F800000u : finite));
}

HR_HD inline Bf16 to_bf16(float x) {
  const uint32_t bits = bits_of(x);
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x40u;  // quiet
  return {static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded)};
}

HR_HD inline F16 to_f16(float x) {
  const uint32_t bits = bits_of(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  const uint32_t rebased = magnitude - (112u << 23);
  const uint32_t normal = (rebased + 0xFFFu + ((rebased >> 13) & 1u)) >> 13;
  // Below 2^-14: adding 1/2 rounds the mantissa at 2^-24.
  const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - 0x3F000000u;
  const uint32_t nan = 0x7E00u | ((magnitude >> 13) & 0x3FFu);
  uint32_t half = magnitude < (113u << 23) ? subnormal : normal;
  half = magnitude >= 0x47800000u ? 0x7C00u : half;  // 2^16 and above
  half = magnitude > 0x7F800000u ? nan : half;
  return {static_cast<uint16_t>(sign | half)};
}

// The f32 from which rounding to 16 bits gives what rounding x itself would: x rounded to odd.
HR_HD inline float round_to_odd(double x) {
  const float nearest = static_cast<float>(x);
  const uint32_t bits = bits_of(nearest);
  const double magnitude = x < 0 ? -x : x;
  const double nearest_magnitude = static_cast<double>(float_of(bits & 0x7FFFFFFFu));
  const uint32_t toward_zero = nearest_magnitude > magnitude ? bits - 1 : bits;
  return float_of(nearest_magnitude == magnitude || x != x ? bits : toward_zero | 1u);
}

// x rounded to tf32, an f32 with 10 mantissa bits: to nearest, ties away from zero, as GPUs do it.
HR_HD inline float to_tf32(float x) {
  const uint32_t bits = bits_of(x);
  const bool finite = (bits & 0x7F800000u) != 0x7F800000u;
  const uint32_t special = bits | ((bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x400000u : 0u);  // a quiet NaN
  return float_of((finite ? bits + 0x1000u : special) & 0xFFFFE000u);
}

HR_HD inline Bf16 to_bf16(double x) { return to_bf16(round_to_odd(x)); }
HR_HD inline F16 to_f16(double x) { return to_f16(round_to_odd(x)); }

}  // namespace hr::math
