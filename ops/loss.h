// loss: cross-entropy over a vocabulary, whole or split into the clusters of an adaptive softmax.
//
// Adaptive softmax [Grave et al. 2017]. Cutoffs c_1 < ... < c_n < V split the ids into a head [0, c_1) and
// tails [c_i, c_{i+1}). The head predicts c_1 ids and n tail clusters; tail i owns head column c_1 + n - i
// (counted from the end, as in Transformer-XL). nll = -log p_head(t), or -log p_head(cluster) - log p_i(t).
// Targets outside the vocabulary are errors, reported where the results are next read.
#pragma once

#include "ops/check.h"

namespace hr {

// cross_entropy: nll[t] = lse(logits[t]) - logits[t, column(target)].
struct CrossEntropyParams {
  In logits;      // [num_tokens, num_columns]; num_columns = V, or c_1 + n with cutoffs
  In targets;     // [num_tokens] i32
  OptIn cutoffs;  // [n + 1] i32: c_1 .. c_n, V
  Out nll;        // [num_tokens] nats
  Out lse;        // [num_tokens] log-sum-exp, saved for backward
  HR_FIELDS(logits, targets, cutoffs, nll, lse)
  void check() const {
    Check c("cross_entropy");
    c.floats({{"logits", logits}, {"nll", nll}, {"lse", lse}});
    auto [num_tokens, num_columns] = c.dims<2>("logits", logits, {"num_tokens", "num_columns"});
    c.index("targets", targets, {num_tokens});
    if (cutoffs) {
      auto [num_cutoffs] = c.dims<1>("cutoffs", cutoffs, {"num_clusters"});
      c.dtype("cutoffs", cutoffs, DType::i32);
      c.range("cutoffs", static_cast<double>(num_cutoffs.value), 1, static_cast<double>(num_columns.value));
    }
    c.shape("nll", nll, {num_tokens});
    c.shape("lse", lse, {num_tokens});
  }
};

// cross_entropy_backward: d_logits = d_nll[t] · (softmax(logits[t]) - onehot), written over the logits.
struct CrossEntropyBackwardParams {
  In d_nll;       // [num_tokens]
  In targets;     // [num_tokens] i32
  OptIn cutoffs;  // as in forward
  In lse;         // [num_tokens]
  InOut logits;   // [num_tokens, num_columns] in: logits, out: d_logits
  HR_FIELDS(d_nll, targets, cutoffs, lse, logits)
  void check() const {
    Check c("cross_entropy_backward");
    c.floats({{"d_nll", d_nll}, {"lse", lse}, {"logits", logits}});
    auto [num_tokens, num_columns] = c.dims<2>("logits", logits, {"num_tokens", "num_columns"});
    c.shape("d_nll", d_nll, {num_tokens});
    c.index("targets", targets, {num_tokens});
    if (cutoffs) {
      auto [num_cutoffs] = c.dims<1>("cutoffs", cutoffs, {"num_clusters"});
      c.dtype("cutoffs", cutoffs, DType::i32);
      c.range("cutoffs", static_cast<double>(num_cutoffs.value), 1, static_cast<double>(num_columns.value));
    }
    c.shape("lse", lse, {num_tokens});
  }
};

// tail_cross_entropy: for tokens whose target lies in first_id .. first_id + size - 1,
//   nll[t] += lse(h[t]·Wᵀ + b) - (h[t]·Wᵀ + b)[target - first_id].   Other tokens are left alone.
// Logits exist for a block of tokens at a time only.
struct TailCrossEntropyParams {
  In h;        // [num_tokens, width] hidden states, already projected to the cluster's width
  In weight;   // [size, width]
  In bias;     // [size]
  In targets;  // [num_tokens] i32
  InOut nll;   // [num_tokens] accumulates
  Out lse;     // [num_tokens]; 0 for tokens of other clusters
  int64_t first_id = 0;
  HR_FIELDS(h, weight, bias, targets, nll, lse, first_id)
  void check() const {
    Check c("tail_cross_entropy");
    c.floats({{"h", h}, {"weight", weight}, {"bias", bias}, {"nll", nll}, {"lse", lse}});
    auto [num_tokens, width] = c.dims<2>("h", h, {"num_tokens", "width"});
    auto [size, weight_width] = c.dims<2>("weight", weight, {"size", "width"});
    c.shape("weight", weight, {size, width});
    c.shape("bias", bias, {size});
    c.index("targets", targets, {num_tokens});
    c.shape("nll", nll, {num_tokens});
    c.shape("lse", lse, {num_tokens});
    c.range("first_id", static_cast<double>(first_id), 0, static_cast<double>(2147483647 - size));
  }
};

// tail_cross_entropy_backward: recomputes the logits block by block. d_h rows of other clusters are 0.
struct TailCrossEntropyBackwardParams {
  In d_nll;        // [num_tokens]
  In h;            // [num_tokens, width]
  In weight;       // [size, width]
  In bias;         // [size]
  In targets;      // [num_tokens] i32
  In lse;          // [num_tokens]
  Out d_h;         // [num_tokens, width]
  InOut d_weight;  // [size, width] accumulates
  InOut d_bias;    // [size] accumulates
  int64_t first_id = 0;
  HR_FIELDS(d_nll, h, weight, bias, targets, lse, d_h, d_weight, d_bias, first_id)
  void check() const {
    Check c("tail_cross_entropy_backward");
    c.floats({{"d_nll", d_nll},
              {"h", h},
              {"weight", weight},
              {"bias", bias},
              {"lse", lse},
              {"d_h", d_h},
              {"d_weight", d_weight},
              {"d_bias", d_bias}});
    auto [num_tokens, width] = c.dims<2>("h", h, {"num_tokens", "width"});
    auto [size, weight_width] = c.dims<2>("weight", weight, {"size", "width"});
    c.shape("d_nll", d_nll, {num_tokens});
    c.shape("weight", weight, {size, width});
    c.shape("bias", bias, {size});
    c.index("targets", targets, {num_tokens});
    c.shape("lse", lse, {num_tokens});
    c.shape("d_h", d_h, {num_tokens, width});
    c.shape("d_weight", d_weight, {size, width});
    c.shape("d_bias", d_bias, {size});
    c.range("first_id", static_cast<double>(first_id), 0, static_cast<double>(2147483647 - size));
  }
};

#define OPS_LOSS(OP)                                     \
  OP(cross_entropy, CrossEntropyParams)                  \
  OP(cross_entropy_backward, CrossEntropyBackwardParams) \
  OP(tail_cross_entropy, TailCrossEntropyParams)         \
  OP(tail_cross_entropy_backward, TailCrossEntropyBackwardParams)

}  // namespace hr
