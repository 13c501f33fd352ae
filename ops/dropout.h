// dropout: Bernoulli masks from counters, with an optional residual sum.
//
// Element i of call `call` is kept when the 32-bit word i of the Philox stream (seed, call) is at or above
// p·2^32, and scaled by 1/(1-p). Masks are never stored: backward runs the same op on the gradient.
#pragma once

#include "ops/check.h"

namespace hr {

struct DropoutParams {
  In x;            // any shape
  OptIn residual;  // as x, added after the mask
  Out y;           // as x; may be x itself
  double dropout = 0;
  uint64_t seed = 0;
  uint64_t call = 0;
  HR_FIELDS(x, residual, y, dropout, seed, call)
  static constexpr bool kInPlace = true;
  void check() const {
    Check c("dropout");
    c.floats({{"x", x}, {"residual", residual}, {"y", y}});
    c.same_size("y", y, "x", x);
    if (residual) c.same_size("residual", residual, "x", x);
    c.probability("dropout", dropout);
  }
};

#define OPS_DROPOUT(OP) OP(dropout, DropoutParams)

}  // namespace hr
