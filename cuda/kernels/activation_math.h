// activation_math: the formula of every Activation and of its derivative, on one number.
#pragma once

#include "cuda/launch.h"
#include "ops/activation.h"

namespace hr::cuda {

// Φ(x), the standard normal distribution function.
HR_DEVICE float normal_distribution(float x) { return 0.5f * erfc(-0.70710678f * x); }
HR_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

HR_DEVICE float activate(Activation kind, float x) {
  switch (kind) {
    case Activation::none:
      return x;
    case Activation::relu:
      return x < 0 ? 0.0f : x;  // NaN stays
    case Activation::gelu:
      return x * normal_distribution(x);
    case Activation::silu:
      return x * sigmoid(x);
    case Activation::tanh:
      return tanh(x);
    case Activation::sigmoid:
      return sigmoid(x);
  }
  return x;
}

// The derivative at x, the number before the activation.
HR_DEVICE float activation_slope(Activation kind, float x) {
  switch (kind) {
    case Activation::none:
      return 1;
    case Activation::relu:
      return x > 0 ? 1.0f : 0.0f;
    case Activation::gelu:
      return normal_distribution(x) + x * 0.39894228f * exp(-0.5f * x * x);
    case Activation::silu:
      return sigmoid(x) * (1 + x * sigmoid(-x));
    case Activation::tanh:  // products, where 1 - t² and s·(1 - s) would cancel in the tails
      return 4 * sigmoid(2 * x) * sigmoid(-2 * x);
    case Activation::sigmoid:
      return sigmoid(x) * sigmoid(-x);
  }
  return 1;
}

}  // namespace hr::cuda
