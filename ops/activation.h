// activation: elementwise non-linearities.
#pragma once

#include "ops/check.h"
#include "ops/enum.h"

namespace hr {

// gelu is the exact form x·Φ(x); silu is x·sigmoid(x).
HR_ENUM(Activation, none, relu, gelu, silu, tanh, sigmoid)

// activation: y = act(x).
struct ActivationParams {
  In x;   // any shape, float
  Out y;  // as x; may be x itself
  Activation kind = Activation::none;
  HR_FIELDS(x, y, kind)
  static constexpr bool kInPlace = true;
  void check() const {
    Check c("activation");
    c.floats({{"x", x}, {"y", y}});
    c.same_size("y", y, "x", x);
  }
};

// activation_backward: d_x = d_y · act'(x). relu's derivative at 0 is 0.
struct ActivationBackwardParams {
  In d_y;   // as x
  In x;     // the input of the forward op (before the activation)
  Out d_x;  // as x; may be d_y itself
  Activation kind = Activation::none;
  HR_FIELDS(d_y, x, d_x, kind)
  static constexpr bool kInPlace = true;
  void check() const {
    Check c("activation_backward");
    c.floats({{"d_y", d_y}, {"x", x}, {"d_x", d_x}});
    c.same_size("d_y", d_y, "x", x);
    c.same_size("d_x", d_x, "x", x);
  }
};

#define OPS_ACTIVATION(OP)         \
  OP(activation, ActivationParams) \
  OP(activation_backward, ActivationBackwardParams)

}  // namespace hr
