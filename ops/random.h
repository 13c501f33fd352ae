// random: tensors filled from Philox counters. The same (seed, call) gives the same floats on every device:
// values are computed in a way no compiler may contract, and f64 tensors hold the f32 value.
#pragma once

#include "ops/check.h"

namespace hr {

// random_uniform: low + (high - low) · u, u in [0, 1) with 24 random bits.
struct RandomUniformParams {
  Out out;  // any shape
  double low = 0;
  double high = 1;
  uint64_t seed = 0;
  uint64_t call = 0;
  HR_FIELDS(out, low, high, seed, call)
  void check() const {
    Check c("random_uniform");
    c.floats({{"out", out}});
    c.finite("low", low);
    c.finite("high", high);
    c.require(low <= high, "high", "\"high\" must not be below \"low\"");
  }
};

// random_normal: mean + std · n, n standard normal by Box-Muller (element 2i and 2i+1 from one pair).
struct RandomNormalParams {
  Out out;  // any shape
  double mean = 0;
  double std = 1;
  uint64_t seed = 0;
  uint64_t call = 0;
  HR_FIELDS(out, mean, std, seed, call)
  void check() const {
    Check c("random_normal");
    c.floats({{"out", out}});
    c.finite("mean", mean);
    c.finite("std", std);
    c.require(std >= 0, "std", "\"std\" must not be negative");
  }
};

#define OPS_RANDOM(OP)                    \
  OP(random_uniform, RandomUniformParams) \
  OP(random_normal, RandomNormalParams)

}  // namespace hr
