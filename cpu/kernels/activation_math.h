// activation_math: the formula of every Activation and of its derivative, on one number.
//
// visit_activation fixes the kind at compile time, so that a loop over the numbers vectorises:
//   visit_activation(kind, [&](auto act) { for (...) y[i] = act.value(x[i]); });
#pragma once

#include <cmath>

#include "ops/activation.h"

#include "cpu/simd.h"

namespace hr::HR_ISA_NAMESPACE {

// Φ(x), the standard normal distribution function, and its density φ(x).
struct StandardNormal {
  Real distribution, density;
};

HR_INLINE StandardNormal standard_normal(Real x) {
  const Real inverse_sqrt_2pi = Real(0.39894228040143267794);
#if HR_IS_REFERENCE
  return {0.5 * std::erfc(x * -0.70710678118654752440), inverse_sqrt_2pi * std::exp(-0.5 * x * x)};
#else
  // Φ(-a) = e^(-a²/2)·t·P(t) with t = 1 / (1 + 0.35·a), a >= 0. P is minimax: relative error 4e-8.
  const float a = x < 0 ? -x : x;
  const float t = 1.0f / mul_add(0.35f, a, 1.0f);
  const float e = exp(-0.5f * x * x);
  float p = -0.0291464068f;
  p = mul_add(p, t, 0.143973812f);
  p = mul_add(p, t, -0.255718201f);
  p = mul_add(p, t, 0.159178168f);
  p = mul_add(p, t, -0.0231122784f);
  p = mul_add(p, t, 0.105508909f);
  p = mul_add(p, t, 0.119832672f);
  p = mul_add(p, t, 0.139861897f);
  p = mul_add(p, t, 0.139621407f);
  const float tail = e * t * p;
  return {x < 0 ? tail : 1.0f - tail, inverse_sqrt_2pi * e};
#endif
}

HR_INLINE Real sigmoid(Real x) { return 1 / (1 + exp(-x)); }

HR_INLINE Real tanh(Real x) {
#if HR_IS_REFERENCE
  return std::tanh(x);
#else
  const float square = x * x;
  float p = -6.0963423e-3f;
  p = mul_add(p, square, 2.0996829e-2f);
  p = mul_add(p, square, -5.3850796e-2f);
  p = mul_add(p, square, 1.3332768e-1f);
  p = mul_add(p, square, -3.3333328e-1f);
  const float near_zero = mul_add(x * square, p, x);
  const float a = x < 0 ? -x : x;
  const float above = 1.0f - 2.0f / (exp(2.0f * a) + 1.0f);
  return a < 0.625f ? near_zero : (x < 0 ? -above : above);
#endif
}

template <Activation kKind>
struct ActivationFunction {
  static HR_INLINE Real value(Real x) {
    if constexpr (kKind == Activation::relu) return x < 0 ? Real(0) : x;
    if constexpr (kKind == Activation::gelu) return x * standard_normal(x).distribution;
    if constexpr (kKind == Activation::silu) return x * sigmoid(x);
    if constexpr (kKind == Activation::tanh) return tanh(x);
    if constexpr (kKind == Activation::sigmoid) return sigmoid(x);
    return x;
  }

  // The derivative at x, the number before the activation.
  static HR_INLINE Real gradient(Real x) {
    if constexpr (kKind == Activation::relu) return x > 0 ? Real(1) : Real(0);
    if constexpr (kKind == Activation::gelu) {
      const StandardNormal normal = standard_normal(x);
      return normal.distribution + x * normal.density;
    }
    if constexpr (kKind == Activation::silu) return sigmoid(x) * (1 + x * sigmoid(-x));
    // Products, where 1 - t² and s·(1 - s) would cancel in the tails.
    if constexpr (kKind == Activation::tanh) return 4 * sigmoid(2 * x) * sigmoid(-2 * x);
    if constexpr (kKind == Activation::sigmoid) return sigmoid(x) * sigmoid(-x);
    return 1;
  }
};

// Calls fn(ActivationFunction<kind>{}).
template <typename Fn>
HR_INLINE void visit_activation(Activation kind, Fn&& fn) {
  switch (kind) {
    case Activation::none:
      return fn(ActivationFunction<Activation::none>{});
    case Activation::relu:
      return fn(ActivationFunction<Activation::relu>{});
    case Activation::gelu:
      return fn(ActivationFunction<Activation::gelu>{});
    case Activation::silu:
      return fn(ActivationFunction<Activation::silu>{});
    case Activation::tanh:
      return fn(ActivationFunction<Activation::tanh>{});
    case Activation::sigmoid:
      return fn(ActivationFunction<Activation::sigmoid>{});
  }
}

}  // namespace hr::HR_ISA_NAMESPACE
