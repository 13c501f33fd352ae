// normal: standard normal numbers from random words, bit for bit the same on every device and compiler.
//
//   u = (a + 1/2) / 2^32,  t = b / 2^32;   z0 = sqrt(-2 ln u) · cos(2πt),  z1 = sqrt(-2 ln u) · sin(2πt)
//                                                                                  [Box and Muller 1958]
// Only + - * / and sqrt in double, which IEEE 754 rounds in one way; log, sin and cos are polynomials of
// these (relative error below 1e-13, far under half an f32 ulp). No libm. Contraction of a·b + c into one
// rounding would change bits: host code is compiled with -ffp-contract=off, device code uses the _rn forms.
#pragma once

#include <cstdint>
#include <cstring>

#include "ops/math/philox.h"

namespace hr::math {

namespace exact {

#ifdef __CUDA_ARCH__
__device__ inline double add(double a, double b) { return __dadd_rn(a, b); }
__device__ inline double mul(double a, double b) { return __dmul_rn(a, b); }
__device__ inline double div(double a, double b) { return __ddiv_rn(a, b); }
__device__ inline double sqrt(double a) { return __dsqrt_rn(a); }
#else
HR_HD inline double add(double a, double b) { return a + b; }
HR_HD inline double mul(double a, double b) { return a * b; }
HR_HD inline double div(double a, double b) { return a / b; }
HR_HD inline double sqrt(double a) { return __builtin_sqrt(a); }
#endif

// coefficient[0] + x·coefficient[1] + x²·coefficient[2] + ...
template <int kTerms>
HR_HD inline double polynomial(double x, const double (&coefficient)[kTerms]) {
  double sum = coefficient[kTerms - 1];
  for (int i = kTerms - 2; i >= 0; --i) sum = add(mul(sum, x), coefficient[i]);
  return sum;
}

// Natural logarithm of a positive normal number.
HR_HD inline double log(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  // x = m·2^e with m in [0.70, 1.41): 0x3FE6A09E... is sqrt(1/2).
  const uint64_t kSqrtHalf = 0x3FE6A09E667F3BCDull;
  const int64_t e = static_cast<int64_t>(bits - kSqrtHalf) >> 52;
  bits -= static_cast<uint64_t>(e) << 52;
  double m;
  memcpy(&m, &bits, sizeof m);
  // ln m = 2 artanh(s) = 2s (1 + s²/3 + s⁴/5 + ...), |s| < 0.172
  const double kArtanh[] = {1.0, 1.0 / 3, 1.0 / 5, 1.0 / 7, 1.0 / 9, 1.0 / 11, 1.0 / 13, 1.0 / 15};
  const double s = div(add(m, -1.0), add(m, 1.0));
  const double ln_m = mul(mul(2.0, s), polynomial(mul(s, s), kArtanh));
  return add(mul(static_cast<double>(e), 0.69314718055994530942), ln_m);
}

// sin and cos of 2π·(bits / 2^32).
HR_HD inline void sincos_turn(uint32_t bits, double& sin_out, double& cos_out) {
  // Nearest quarter turn q and the rest r in [-1/8, 1/8) of a turn, both exact.
  const uint32_t q = (bits + 0x20000000u) >> 30;
  const int32_t rest = static_cast<int32_t>(bits - (q << 30));
  const double angle = mul(static_cast<double>(rest), 1.4629180792671596e-09);  // · 2π / 2^32
  const double kSin[] = {1.0,          -1.0 / 6,        1.0 / 120,         -1.0 / 5040,
                         1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800.0};
  const double kCos[] = {1.0,         -1.0 / 2,       1.0 / 24,          -1.0 / 720,
                         1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600.0, -1.0 / 87178291200.0};
  const double square = mul(angle, angle);
  const double s = mul(angle, polynomial(square, kSin));
  const double c = polynomial(square, kCos);
  const bool swap = (q & 1) != 0;
  sin_out = swap ? c : s;
  cos_out = swap ? s : c;
  if ((q & 2) != 0) sin_out = -sin_out;
  if (((q + 1) & 2) != 0) cos_out = -cos_out;
}

}  // namespace exact

struct NormalPair {
  float z0, z1;
};

HR_HD inline NormalPair normal_pair(uint32_t a, uint32_t b) {
  const double u = exact::mul(exact::add(static_cast<double>(a), 0.5), 0x1p-32);
  const double radius = exact::sqrt(exact::mul(-2.0, exact::log(u)));
  double sin_t, cos_t;
  exact::sincos_turn(b, sin_t, cos_t);
  return {static_cast<float>(exact::mul(radius, cos_t)), static_cast<float>(exact::mul(radius, sin_t))};
}

// Element `index` of the call: elements 2i and 2i + 1 are the pair made of words 2i and 2i + 1.
HR_HD inline float normal_at(uint64_t seed, uint64_t call, uint64_t index) {
  const PhiloxBlock block = philox_block(seed, call, index >> 2);
  const uint32_t first = static_cast<uint32_t>(index & 2);
  const NormalPair pair = normal_pair(block.word[first], block.word[first + 1]);
  return (index & 1) != 0 ? pair.z1 : pair.z0;
}

}  // namespace hr::math
