// reduce: sums in a fixed order, gradient norms, and the search for non-finite values.
#pragma once

#include "ops/check.h"

namespace hr {

// reduce_sum: out[0] = scale · Σ x.
struct ReduceSumParams {
  In x;     // any shape
  Out out;  // [1]
  double scale = 1;
  HR_FIELDS(x, out, scale)
  void check() const {
    Check c("reduce_sum");
    c.floats({{"x", x}, {"out", out}});
    c.shape("out", out, {{"", 1}});
    c.finite("scale", scale);
  }
};

// reduce_rows: out[j] (+)= Σ_i x[i, j], i ascending within fixed blocks. The bias gradient of a Linear layer.
struct ReduceRowsParams {
  In x;       // [num_rows, n]
  InOut out;  // [n]
  bool accumulate = false;
  HR_FIELDS(x, out, accumulate)
  void check() const {
    Check c("reduce_rows");
    c.floats({{"x", x}, {"out", out}});
    auto [num_rows, n] = c.dims<2>("x", x, {"num_rows", "n"});
    c.shape("out", out, {n});
  }
};

// sum_squares: out[0] (+)= Σ x², accumulated in double.
struct SumSquaresParams {
  In x;       // any shape
  InOut out;  // [1]
  bool accumulate = false;
  HR_FIELDS(x, out, accumulate)
  void check() const {
    Check c("sum_squares");
    c.floats({{"x", x}, {"out", out}});
    c.shape("out", out, {{"", 1}});
  }
};

// clip_factor: norm = √sum_squares;  factor = min(1, max_norm / (norm + 1e-6)); max_norm 0 means no clipping.
struct ClipFactorParams {
  In sum_squares;  // [1]
  Out norm;        // [1]
  Out factor;      // [1]
  double max_norm = 0;
  HR_FIELDS(sum_squares, norm, factor, max_norm)
  void check() const {
    Check c("clip_factor");
    c.floats({{"sum_squares", sum_squares}, {"norm", norm}, {"factor", factor}});
    c.shape("sum_squares", sum_squares, {{"", 1}});
    c.shape("norm", norm, {{"", 1}});
    c.shape("factor", factor, {{"", 1}});
    c.require(max_norm >= 0, "max_norm", "\"max_norm\" must be 0 (off) or positive");
  }
};

// count_non_finite: out[0] = how many elements of x are NaN or infinite.
struct CountNonFiniteParams {
  In x;     // any shape
  Out out;  // [1] i32
  HR_FIELDS(x, out)
  void check() const {
    Check c("count_non_finite");
    c.floats({{"x", x}});
    c.index("out", out, {{"", 1}});
  }
};

#define OPS_REDUCE(OP)              \
  OP(reduce_sum, ReduceSumParams)   \
  OP(reduce_rows, ReduceRowsParams) \
  OP(sum_squares, SumSquaresParams) \
  OP(clip_factor, ClipFactorParams) \
  OP(count_non_finite, CountNonFiniteParams)

}  // namespace hr
