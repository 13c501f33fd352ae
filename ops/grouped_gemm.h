// grouped_gemm: one matrix product per expert over ragged row segments, their sum, and two gradients.
//
// Notation. num_routed = num_tokens · top_k. A flat index f = token · top_k + slot names one (token, slot)
// pair. `permutation[row]` is the flat index of the row-th routed row in expert order; the rows of expert e
// are expert_offsets[e] .. expert_offsets[e + 1]. Rows at or past expert_offsets[num_experts] belong to
// dropped pairs and are neither read nor written. Offsets and permutation stay on the device: nothing here
// needs them on the host.
//
// An expert is   z = W1·x + b1;   h = s · dropout(act(z));   y = W2·h + s·b2
// where s is the pair's expert weight. Scaling h instead of y makes combine a plain sum, keeps one
// [num_routed, ffn] tensor per layer, and gives d_s without the expert's output:
//   d_s = Σ_i d_h[i] · dropout(act(z))[i] + ⟨d_y, b2⟩
// With bf16 products (precision.h), sums along A that ride on a product take the rounded A: d_bias, and
// ⟨d_y, b2⟩ with b2 as it is.
#pragma once

#include "ops/activation.h"
#include "ops/check.h"
#include "ops/enum.h"

namespace hr {

// Where grouped_gemm applies row_scale: nowhere, to the whole result, or to the bias only.
HR_ENUM(RowScale, none, output, bias)

// grouped_gemm: out[r] = s · dropout(act(a[row(r)] · W[e] + bias[e]))      for r in the segment of expert e
// (scale = output); with scale = bias: out[r] = a[row(r)] · W[e] + s · bias[e]. s =
// row_scale[permutation[r]]. row(r) = permutation[r] / top_k when gathering, else r. Dropout masks are keyed
// by (flat index, column), so they do not depend on the order of rows.
struct GroupedGemmParams {
  In a;                   // [num_rows, k] in expert order, or [num_tokens, k] when gathering
  In weight;              // [num_experts, n, k], or [num_experts, k, n] when transpose_weight
  OptIn bias;             // [num_experts, n]
  OptIn row_scale;        // [num_routed], by flat index
  In permutation;         // [num_routed] i32
  In expert_offsets;      // [num_experts + 1] i32
  Out out;                // [num_routed, n]
  OptOut pre_activation;  // [num_routed, n] z, for activations whose gradient needs it
  int32_t top_k = 1;
  bool gather = false;
  bool transpose_weight = false;
  RowScale scale = RowScale::none;
  Activation activation = Activation::none;
  double dropout = 0;
  uint64_t seed = 0;
  uint64_t call = 0;
  HR_FIELDS(a, weight, bias, row_scale, permutation, expert_offsets, out, pre_activation, top_k, gather,
            transpose_weight, scale, activation, dropout, seed, call)
  void check() const {
    Check c("grouped_gemm");
    c.floats({{"a", a},
              {"weight", weight},
              {"bias", bias},
              {"row_scale", row_scale},
              {"out", out},
              {"pre_activation", pre_activation}});
    auto [num_experts, w1, w2] = c.dims<3>("weight", weight, {"num_experts", "n", "k"});
    const Dim n{"n", transpose_weight ? w2.value : w1.value};
    const Dim k{"k", transpose_weight ? w1.value : w2.value};
    auto [num_routed] = c.dims<1>("permutation", permutation, {"num_routed"});
    c.dtype("permutation", permutation, DType::i32);
    c.range("top_k", top_k, 1, static_cast<double>(num_routed.value));
    c.require(num_routed % top_k == 0, "permutation",
              "\"permutation\" has " + std::to_string(num_routed.value) +
                  " rows, expected a multiple of top_k=" + std::to_string(top_k));
    c.shape("a", a, {{"num_rows", gather ? num_routed / top_k : num_routed.value}, k});
    c.shape("bias", bias, {num_experts, n});
    c.shape("row_scale", row_scale, {num_routed});
    c.index("expert_offsets", expert_offsets, {{"num_experts+1", num_experts + 1}});
    c.shape("out", out, {num_routed, n});
    c.shape("pre_activation", pre_activation, {num_routed, n});
    c.probability("dropout", dropout);
    c.require((scale == RowScale::none) == !row_scale, "row_scale",
              "\"row_scale\" and \"scale\" go together: pass both or neither");
    c.require(scale != RowScale::bias || (bias && activation == Activation::none && dropout == 0), "scale",
              "scale \"bias\" needs a bias and excludes activation and dropout");
  }
};

// grouped_gemm_sum: out[t] (+)= Σ_e (a[row] · W[e] + s · bias[e]), experts in order, row = e · num_tokens + t
// and s = row_scale[permutation[row]]: grouped_gemm and combine in one where each token goes to each expert.
// Each segment must then have num_tokens rows, which are taken to be those of the tokens in order.
struct GroupedGemmSumParams {
  In a;               // [num_experts · num_tokens, k] in expert order
  In weight;          // [num_experts, n, k], or [num_experts, k, n] when transpose_weight
  OptIn bias;         // [num_experts, n]
  OptIn row_scale;    // [num_routed] s of the bias, by flat index; absent: 1
  In permutation;     // [num_routed] i32
  In expert_offsets;  // [num_experts + 1] i32
  InOut out;          // [num_tokens, n]
  bool transpose_weight = false;
  bool accumulate = false;
  HR_FIELDS(a, weight, bias, row_scale, permutation, expert_offsets, out, transpose_weight, accumulate)
  void check() const {
    Check c("grouped_gemm_sum");
    c.floats({{"a", a}, {"weight", weight}, {"bias", bias}, {"row_scale", row_scale}, {"out", out}});
    auto [num_experts, w1, w2] = c.dims<3>("weight", weight, {"num_experts", "n", "k"});
    const Dim n{"n", transpose_weight ? w2.value : w1.value};
    const Dim k{"k", transpose_weight ? w1.value : w2.value};
    const Dim num_tokens = c.dims<2>("out", out, {"num_tokens", "n"})[0];
    const Dim num_routed{"num_routed", num_experts * num_tokens};
    c.index("permutation", permutation, {num_routed});
    c.shape("a", a, {num_routed, k});
    c.shape("bias", bias, {num_experts, n});
    c.shape("row_scale", row_scale, {num_routed});
    c.index("expert_offsets", expert_offsets, {{"num_experts+1", num_experts + 1}});
    c.shape("out", out, {num_tokens, n});
    c.require(!row_scale || bias, "row_scale", "\"row_scale\" scales \"bias\", which is absent");
  }
};

// grouped_gemm_dgrad: gradient through an expert's second product and its activation, fused.
//   d_h = d_out[token] · W2[e];   d_z = s · d_h · dropout'·act'(z)
//   d_s = Σ d_h·(h / s) + ⟨d_out[token], b2[e]⟩
// For relu, act' and the mask come from h itself: h != 0 (s may be negative). Where s = 0 both gradients
// through h are 0, which is what the top-k softmax backward needs.
struct GroupedGemmDgradParams {
  In d_out;              // [num_tokens, d_model]
  In weight;             // [num_experts, d_model, ffn] W2
  OptIn bias;            // [num_experts, d_model] b2
  In row_scale;          // [num_routed] s, by flat index
  In hidden;             // [num_routed, ffn] h, as the forward op stored it
  OptIn pre_activation;  // [num_routed, ffn] z; required for gelu, silu, tanh, sigmoid
  In permutation;        // [num_routed] i32
  In expert_offsets;     // [num_experts + 1] i32
  Out d_hidden;          // [num_routed, ffn] d_z
  Out d_row_scale;       // [num_routed] d_s, by flat index; 0 for dropped pairs
  int32_t top_k = 1;
  Activation activation = Activation::none;
  double dropout = 0;
  uint64_t seed = 0;
  uint64_t call = 0;
  HR_FIELDS(d_out, weight, bias, row_scale, hidden, pre_activation, permutation, expert_offsets, d_hidden,
            d_row_scale, top_k, activation, dropout, seed, call)
  void check() const {
    Check c("grouped_gemm_dgrad");
    c.floats({{"d_out", d_out},
              {"weight", weight},
              {"bias", bias},
              {"row_scale", row_scale},
              {"hidden", hidden},
              {"pre_activation", pre_activation},
              {"d_hidden", d_hidden},
              {"d_row_scale", d_row_scale}});
    auto [num_experts, d_model, ffn] = c.dims<3>("weight", weight, {"num_experts", "d_model", "ffn"});
    auto [num_routed] = c.dims<1>("permutation", permutation, {"num_routed"});
    c.dtype("permutation", permutation, DType::i32);
    c.range("top_k", top_k, 1, static_cast<double>(num_routed.value));
    c.require(num_routed % top_k == 0, "permutation",
              "\"permutation\" has " + std::to_string(num_routed.value) +
                  " rows, expected a multiple of top_k=" + std::to_string(top_k));
    c.shape("d_out", d_out, {{"num_tokens", num_routed / top_k}, d_model});
    c.shape("bias", bias, {num_experts, d_model});
    c.shape("row_scale", row_scale, {num_routed});
    c.shape("hidden", hidden, {num_routed, ffn});
    c.shape("pre_activation", pre_activation, {num_routed, ffn});
    c.index("expert_offsets", expert_offsets, {{"num_experts+1", num_experts + 1}});
    c.shape("d_hidden", d_hidden, {num_routed, ffn});
    c.shape("d_row_scale", d_row_scale, {num_routed});
    c.probability("dropout", dropout);
    c.require(pre_activation || activation == Activation::none || activation == Activation::relu,
              "pre_activation", "this activation's gradient needs \"pre_activation\"");
  }
};

// grouped_gemm_wgrad: d_weight[e] (+)= a_segᵀ · b_seg and d_bias[e] (+)= Σ_r s · a[r], rows in segment order.
// With accumulate = false an expert without rows gets zeros; with true it is left as it is.
struct GroupedGemmWgradParams {
  In a;               // [num_routed, m], or [num_tokens, m] when gather_a
  In b;               // [num_routed, n], or [num_tokens, n] when gather_b
  OptIn row_scale;    // [num_routed] s for d_bias, by flat index; absent: 1
  In permutation;     // [num_routed] i32
  In expert_offsets;  // [num_experts + 1] i32
  InOut d_weight;     // [num_experts, m, n]
  OptInOut d_bias;    // [num_experts, m]
  int32_t top_k = 1;
  bool gather_a = false;
  bool gather_b = false;
  bool accumulate = true;
  HR_FIELDS(a, b, row_scale, permutation, expert_offsets, d_weight, d_bias, top_k, gather_a, gather_b,
            accumulate)
  void check() const {
    Check c("grouped_gemm_wgrad");
    c.floats({{"a", a}, {"b", b}, {"row_scale", row_scale}, {"d_weight", d_weight}, {"d_bias", d_bias}});
    auto [num_experts, m, n] = c.dims<3>("d_weight", d_weight, {"num_experts", "m", "n"});
    auto [num_routed] = c.dims<1>("permutation", permutation, {"num_routed"});
    c.dtype("permutation", permutation, DType::i32);
    c.range("top_k", top_k, 1, static_cast<double>(num_routed.value));
    c.require(num_routed % top_k == 0, "permutation",
              "\"permutation\" has " + std::to_string(num_routed.value) +
                  " rows, expected a multiple of top_k=" + std::to_string(top_k));
    c.shape("a", a, {{"num_rows", gather_a ? num_routed / top_k : num_routed.value}, m});
    c.shape("b", b, {{"num_rows", gather_b ? num_routed / top_k : num_routed.value}, n});
    c.shape("row_scale", row_scale, {num_routed});
    c.index("expert_offsets", expert_offsets, {{"num_experts+1", num_experts + 1}});
    c.shape("d_bias", d_bias, {num_experts, m});
    c.require(!row_scale || d_bias, "row_scale", "\"row_scale\" scales \"d_bias\", which is absent");
  }
};

#define OPS_GROUPED_GEMM(OP)                     \
  OP(grouped_gemm, GroupedGemmParams)            \
  OP(grouped_gemm_sum, GroupedGemmSumParams)     \
  OP(grouped_gemm_dgrad, GroupedGemmDgradParams) \
  OP(grouped_gemm_wgrad, GroupedGemmWgradParams)

}  // namespace hr
