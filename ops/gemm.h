// gemm: dense matrix product with an optional bias and activation in the epilogue.
#pragma once

#include "ops/activation.h"
#include "ops/check.h"

namespace hr {

// gemm: c = act(op(a) · op(b) + bias), or c += op(a) · op(b) when accumulating.
// Each element of c is summed over k in one fixed order, so results depend on neither threads nor tiling.
struct GemmParams {
  In a;        // [m, k], or [k, m] when transpose_a
  In b;        // [k, n], or [n, k] when transpose_b (the layout of a Linear weight)
  OptIn bias;  // [n]
  InOut c;     // [m, n]; read only when accumulating
  bool transpose_a = false;
  bool transpose_b = false;
  Activation activation = Activation::none;
  bool accumulate = false;  // excludes bias and activation
  HR_FIELDS(a, b, bias, c, transpose_a, transpose_b, activation, accumulate)
  void check() const {
    Check check("gemm");
    check.floats({{"a", a}, {"b", b}, {"bias", bias}, {"c", c}});
    auto [a0, a1] = check.dims<2>("a", a, {"m", "k"});
    const Dim m{"m", transpose_a ? a1.value : a0.value};
    const Dim k{"k", transpose_a ? a0.value : a1.value};
    auto [b0, b1] = check.dims<2>("b", b, {"k", "n"});
    const Dim n{"n", transpose_b ? b0.value : b1.value};
    if (transpose_b) {
      check.shape("b", b, {n, k});
    } else {
      check.shape("b", b, {k, n});
    }
    check.shape("bias", bias, {n});
    check.shape("c", c, {m, n});
    check.require(!accumulate || (!bias && activation == Activation::none), "accumulate",
                  "\"accumulate\" excludes \"bias\" and \"activation\"");
  }
};

#define OPS_GEMM(OP) OP(gemm, GemmParams)

}  // namespace hr
