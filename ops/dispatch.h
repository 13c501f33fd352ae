// dispatch: put routed rows into expert order (a stable counting sort). combine: sum them back per token.
#pragma once

#include "ops/check.h"

namespace hr {

// dispatch: rows of one expert keep ascending flat order, so weight gradients sum in token order.
struct DispatchParams {
  In expert_indices;        // [num_tokens, top_k] i32; -1 drops the pair
  Out expert_offsets;       // [num_experts + 1] i32 exclusive prefix sum of tokens per expert
  Out permutation;          // [num_tokens·top_k] i32 routed row -> flat index; -1 past the last routed row
  Out inverse_permutation;  // [num_tokens·top_k] i32 flat index -> routed row; -1 when dropped
  HR_FIELDS(expert_indices, expert_offsets, permutation, inverse_permutation)
  void check() const {
    Check c("dispatch");
    auto [num_tokens, top_k] = c.dims<2>("expert_indices", expert_indices, {"num_tokens", "top_k"});
    c.dtype("expert_indices", expert_indices, DType::i32);
    const Dim num_routed{"num_routed", num_tokens * top_k};
    c.range("num_routed", static_cast<double>(num_routed.value), 1, 2147483647);
    c.dims<1>("expert_offsets", expert_offsets, {"num_experts+1"});
    c.dtype("expert_offsets", expert_offsets, DType::i32);
    c.require(expert_offsets.shape[0] >= 2, "expert_offsets",
              "\"expert_offsets\" needs at least 2 entries (one expert)");
    c.index("permutation", permutation, {num_routed});
    c.index("inverse_permutation", inverse_permutation, {num_routed});
  }
};

// combine: out[t] (+)= Σ_slot rows[inverse_permutation[t·top_k + slot]], in slot order; dropped pairs add 0.
struct CombineParams {
  In rows;                 // [num_routed, d_model] in expert order
  In inverse_permutation;  // [num_routed] i32
  InOut out;               // [num_tokens, d_model]
  int32_t top_k = 1;
  bool accumulate = false;
  HR_FIELDS(rows, inverse_permutation, out, top_k, accumulate)
  void check() const {
    Check c("combine");
    c.floats({{"rows", rows}, {"out", out}});
    auto [num_routed, d_model] = c.dims<2>("rows", rows, {"num_routed", "d_model"});
    c.index("inverse_permutation", inverse_permutation, {num_routed});
    c.range("top_k", top_k, 1, static_cast<double>(num_routed.value));
    c.require(num_routed % top_k == 0, "rows", "\"rows\" is not a multiple of top_k");
    c.shape("out", out, {{"num_tokens", num_routed / top_k}, d_model});
  }
};

#define OPS_DISPATCH(OP)       \
  OP(dispatch, DispatchParams) \
  OP(combine, CombineParams)

}  // namespace hr
