// router: from router logits to experts and their weights; what is measured about a routing.
#pragma once

#include "ops/check.h"
#include "ops/enum.h"

namespace hr {

// softmax_kept: softmax over the selected logits only. uniform: 1 / top_k.
HR_ENUM(Weighting, softmax_kept, uniform)

// router_topk: logits = x·Wᵀ + b, then keep the top_k experts of each token.
// Best first; ties go to the lower index; NaN ranks as -inf, so indices are always distinct.
// Without x the logits are taken as they are: noise and other policies edit them first.
// With weighting uniform and top_k = num_experts this is the uniform "dense" mode of the reference.
struct RouterTopKParams {
  OptIn x;              // [num_tokens, d_model]
  OptIn router_weight;  // [num_experts, d_model]
  OptIn router_bias;    // [num_experts]
  InOut logits;         // [num_tokens, num_experts]; written when x is given, else read
  Out expert_indices;   // [num_tokens, top_k] i32
  Out expert_weights;   // [num_tokens, top_k], rows sum to 1
  int32_t top_k = 1;
  Weighting weighting = Weighting::softmax_kept;
  HR_FIELDS(x, router_weight, router_bias, logits, expert_indices, expert_weights, top_k, weighting)
  void check() const {
    Check c("router_topk");
    c.floats({{"x", x},
              {"router_weight", router_weight},
              {"router_bias", router_bias},
              {"logits", logits},
              {"expert_weights", expert_weights}});
    auto [num_tokens, num_experts] = c.dims<2>("logits", logits, {"num_tokens", "num_experts"});
    c.require(static_cast<bool>(x) == static_cast<bool>(router_weight), "x",
              "\"x\" and \"router_weight\" go together: pass both or neither");
    c.require(x || !router_bias, "router_bias", "\"router_bias\" needs \"x\"");
    if (x) {
      auto [x_tokens, d_model] = c.dims<2>("x", x, {"num_tokens", "d_model"});
      c.shape("x", x, {num_tokens, d_model});
      c.shape("router_weight", router_weight, {num_experts, d_model});
      c.shape("router_bias", router_bias, {num_experts});
    }
    c.range("top_k", top_k, 1, static_cast<double>(num_experts.value));
    c.index("expert_indices", expert_indices, {num_tokens, {"top_k", top_k}});
    c.shape("expert_weights", expert_weights, {num_tokens, {"top_k", top_k}});
  }
};

// router_topk_backward: d_logits (+)= w_i (g_i - Σ_j w_j g_j) at the selected experts, 0 elsewhere.
struct RouterTopKBackwardParams {
  In d_expert_weights;  // [num_tokens, top_k]
  In expert_weights;    // [num_tokens, top_k]
  In expert_indices;    // [num_tokens, top_k] i32; -1 marks a dropped pair
  InOut d_logits;       // [num_tokens, num_experts]
  bool accumulate = false;
  HR_FIELDS(d_expert_weights, expert_weights, expert_indices, d_logits, accumulate)
  void check() const {
    Check c("router_topk_backward");
    c.floats(
        {{"d_expert_weights", d_expert_weights}, {"expert_weights", expert_weights}, {"d_logits", d_logits}});
    auto [num_tokens, top_k] = c.dims<2>("expert_weights", expert_weights, {"num_tokens", "top_k"});
    c.shape("d_expert_weights", d_expert_weights, {num_tokens, top_k});
    c.index("expert_indices", expert_indices, {num_tokens, top_k});
    auto [dl_tokens, num_experts] = c.dims<2>("d_logits", d_logits, {"num_tokens", "num_experts"});
    c.shape("d_logits", d_logits, {num_tokens, num_experts});
    c.range("top_k", static_cast<double>(top_k.value), 1, static_cast<double>(num_experts.value));
  }
};

// router_entropy: mean over tokens of -Σ_i p_i ln p_i in nats, p = softmax over all experts.
struct RouterEntropyParams {
  In logits;    // [num_tokens, num_experts]
  Out entropy;  // [1]
  HR_FIELDS(logits, entropy)
  void check() const {
    Check c("router_entropy");
    c.floats({{"logits", logits}, {"entropy", entropy}});
    c.dims<2>("logits", logits, {"num_tokens", "num_experts"});
    c.shape("entropy", entropy, {{"", 1}});
  }
};

// balance_loss: loss = num_experts · Σ_i f_i·P_i                  [Shazeer et al. 2017; Fedus et al. 2021]
// f_i = share of routed pairs sent to expert i (no gradient); P_i = Σ_t softmax(logits_t)_i / D with
// D = num_tokens · top_k (as in the HyperRouter code), or num_tokens when per_token (as in the Switch paper).
struct BalanceLossParams {
  In logits;          // [num_tokens, num_experts]
  In expert_offsets;  // [num_experts + 1] i32
  Out loss;           // [1]
  int32_t top_k = 1;
  bool per_token = false;
  HR_FIELDS(logits, expert_offsets, loss, top_k, per_token)
  void check() const {
    Check c("balance_loss");
    c.floats({{"logits", logits}, {"loss", loss}});
    auto [num_tokens, num_experts] = c.dims<2>("logits", logits, {"num_tokens", "num_experts"});
    c.index("expert_offsets", expert_offsets, {{"num_experts+1", num_experts + 1}});
    c.shape("loss", loss, {{"", 1}});
    c.range("top_k", top_k, 1, static_cast<double>(num_experts.value));
  }
};

// balance_loss_backward: d_logits (+)= d_loss · (num_experts / D) · p_i (f_i - Σ_j p_j f_j).
struct BalanceLossBackwardParams {
  In d_loss;          // [1]
  In logits;          // [num_tokens, num_experts]
  In expert_offsets;  // [num_experts + 1] i32
  InOut d_logits;     // [num_tokens, num_experts]
  int32_t top_k = 1;
  bool per_token = false;
  bool accumulate = false;
  HR_FIELDS(d_loss, logits, expert_offsets, d_logits, top_k, per_token, accumulate)
  void check() const {
    Check c("balance_loss_backward");
    c.floats({{"d_loss", d_loss}, {"logits", logits}, {"d_logits", d_logits}});
    auto [num_tokens, num_experts] = c.dims<2>("logits", logits, {"num_tokens", "num_experts"});
    c.shape("d_loss", d_loss, {{"", 1}});
    c.index("expert_offsets", expert_offsets, {{"num_experts+1", num_experts + 1}});
    c.shape("d_logits", d_logits, {num_tokens, num_experts});
    c.range("top_k", top_k, 1, static_cast<double>(num_experts.value));
  }
};

#define OPS_ROUTER(OP)                               \
  OP(router_topk, RouterTopKParams)                  \
  OP(router_topk_backward, RouterTopKBackwardParams) \
  OP(router_entropy, RouterEntropyParams)            \
  OP(balance_loss, BalanceLossParams)                \
  OP(balance_loss_backward, BalanceLossBackwardParams)

}  // namespace hr
