// layer_norm: normalisation over the last axis, fused with the dropout and residual sum before it.
#pragma once

#include "ops/check.h"

namespace hr {

// layer_norm: s = x + dropout(branch);  y = (s - mean) · rstd · weight + bias       [Ba et al. 2016]
// mean and the biased variance are over the row; rstd = 1 / √(variance + eps).
//
// With inverse_permutation, branch holds routed rows, and combine is part of the op:
//   branch value of row t = Σ_slot branch[inverse_permutation[t·top_k + slot]]   (ops/dispatch.h, same order)
struct LayerNormParams {
  In x;                       // [num_rows, d_model] the residual stream
  OptIn branch;               // [num_rows, d_model], or [num_rows·top_k, d_model] in expert order
  OptIn inverse_permutation;  // [num_rows·top_k] i32; -1 adds 0
  In weight;                  // [d_model]
  In bias;                    // [d_model]
  Out y;                      // [num_rows, d_model]
  OptOut sum;                 // [num_rows, d_model] s, saved for backward; present exactly when branch is
  Out mean;                   // [num_rows]
  Out rstd;                   // [num_rows]
  int32_t top_k = 1;          // rows of branch that a row sums; 1 without inverse_permutation
  double eps = 1e-5;
  double dropout = 0;
  uint64_t seed = 0;
  uint64_t call = 0;
  HR_FIELDS(x, branch, inverse_permutation, weight, bias, y, sum, mean, rstd, top_k, eps, dropout, seed, call)
  void check() const {
    Check c("layer_norm");
    c.floats({{"x", x},
              {"branch", branch},
              {"weight", weight},
              {"bias", bias},
              {"y", y},
              {"sum", sum},
              {"mean", mean},
              {"rstd", rstd}});
    auto [num_rows, d_model] = c.dims<2>("x", x, {"num_rows", "d_model"});
    c.require(top_k == 1 || inverse_permutation, "top_k",
              "\"top_k\" applies to \"inverse_permutation\", which is absent");
    c.require(branch || !inverse_permutation, "inverse_permutation",
              "\"inverse_permutation\" applies to \"branch\", which is absent");
    c.range("top_k", top_k, 1, static_cast<double>(inverse_permutation.size()));
    const Dim num_routed{"num_routed", num_rows * top_k};
    c.index("inverse_permutation", inverse_permutation, {num_routed});
    c.shape("branch", branch, {inverse_permutation ? num_routed : num_rows, d_model});
    c.shape("weight", weight, {d_model});
    c.shape("bias", bias, {d_model});
    c.shape("y", y, {num_rows, d_model});
    c.shape("sum", sum, {num_rows, d_model});
    c.shape("mean", mean, {num_rows});
    c.shape("rstd", rstd, {num_rows});
    c.require(static_cast<bool>(branch) == static_cast<bool>(sum), "sum",
              "\"sum\" and \"branch\" go together: pass both or neither");
    c.require(branch || dropout == 0, "dropout", "\"dropout\" applies to \"branch\", which is absent");
    c.require(eps > 0 && eps <= 1, "eps", "\"eps\" must be in (0, 1]");
    c.probability("dropout", dropout);
  }
};

// layer_norm_backward: with x^ = (s - mean)·rstd and g = d_y·weight,
//   d_s = rstd · (g - mean(g) - x^·mean(g·x^));  d_x (+)= d_s;  d_branch = dropout'(d_s)
//   d_weight += Σ d_y·x^;  d_bias += Σ d_y       (rows summed in a fixed order)
struct LayerNormBackwardParams {
  In d_y;                   // [num_rows, d_model]
  In s;                     // [num_rows, d_model] what forward normalised: sum, or x without a branch
  In mean;                  // [num_rows]
  In rstd;                  // [num_rows]
  In weight;                // [d_model]
  InOut d_x;                // [num_rows, d_model]
  OptOut d_branch;          // [num_rows, d_model]
  InOut d_weight;           // [d_model] accumulates
  InOut d_bias;             // [d_model] accumulates
  bool accumulate = false;  // d_x
  double dropout = 0;
  uint64_t seed = 0;
  uint64_t call = 0;
  HR_FIELDS(d_y, s, mean, rstd, weight, d_x, d_branch, d_weight, d_bias, accumulate, dropout, seed, call)
  void check() const {
    Check c("layer_norm_backward");
    c.floats({{"d_y", d_y},
              {"s", s},
              {"mean", mean},
              {"rstd", rstd},
              {"weight", weight},
              {"d_x", d_x},
              {"d_branch", d_branch},
              {"d_weight", d_weight},
              {"d_bias", d_bias}});
    auto [num_rows, d_model] = c.dims<2>("s", s, {"num_rows", "d_model"});
    c.shape("d_y", d_y, {num_rows, d_model});
    c.shape("mean", mean, {num_rows});
    c.shape("rstd", rstd, {num_rows});
    c.shape("weight", weight, {d_model});
    c.shape("d_x", d_x, {num_rows, d_model});
    c.shape("d_branch", d_branch, {num_rows, d_model});
    c.shape("d_weight", d_weight, {d_model});
    c.shape("d_bias", d_bias, {d_model});
    c.probability("dropout", dropout);
    c.require(d_branch || dropout == 0, "dropout", "\"dropout\" applies to \"d_branch\", which is absent");
  }
};

#define OPS_LAYER_NORM(OP)        \
  OP(layer_norm, LayerNormParams) \
  OP(layer_norm_backward, LayerNormBackwardParams)

}  // namespace hr
