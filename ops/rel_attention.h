// rel_attention: multi-head attention with Transformer-XL relative positions.   [Dai et al. 2019,
// section 3.3]
//
// For every batch element b and head h, with m = k_len - q_len memory rows before the current segment:
//   score[i, j] = (⟨q_i + u, key_j⟩ + ⟨q_i + v, p_c⟩) / √d_head,    c = j + q_len - 1 - i
//   blocked where j > i + m (causal) or j <= i - blocked_lag (the same-length mask)
//   out_i = Σ_j dropout(softmax_j(score))[i, j] · value_j
// p_c projects the sinusoid of distance k_len - 1 - c, so c stands for distance i + m - j: the closed form of
// the reference's pad-and-shift. Forward keeps no [q_len, k_len] matrix beyond one (batch, head) block,
// backward none of the whole batch; it recomputes probabilities from `lse`.
//
// Factors of its products, which a precision below f32 rounds (precision.h):
//   forward   (q_i + u) / √d_head, (q_i + v) / √d_head, key_j, p_c, value_j;
//             dropout(e^(score - max_j score)), whose sum is divided out afterwards
//   backward  those of q, u, v, kv and p; d_out_i; the weights dropout(softmax);
//             softmax · (dropout(d_weight) - ⟨d_out_i, out_i⟩), a score's gradient
// Scores, lse, sums of exponentials and ⟨d_out_i, out_i⟩ are not rounded.
#pragma once

#include "ops/check.h"

namespace hr {

struct RelAttentionParams {
  In q;     // [q_len, batch, num_heads·d_head]
  In kv;    // [k_len, batch, 2·num_heads·d_head] keys of all heads, then values of all heads
  In p;     // [k_len, num_heads·d_head] projected sinusoids, farthest distance first
  In u;     // [num_heads, d_head] content bias
  In v;     // [num_heads, d_head] position bias
  Out out;  // [q_len, batch, num_heads·d_head]
  Out lse;  // [batch, num_heads, q_len] log-sum-exp of each row of scores
  int64_t blocked_lag = 0;  // q_len or more: no same-length mask
  double dropout = 0;       // on probabilities; element ((b·num_heads + h)·q_len + i)·k_len + j
  uint64_t seed = 0;
  uint64_t call = 0;
  HR_FIELDS(q, kv, p, u, v, out, lse, blocked_lag, dropout, seed, call)
  void check() const {
    Check c("rel_attention");
    c.floats({{"q", q}, {"kv", kv}, {"p", p}, {"u", u}, {"v", v}, {"out", out}, {"lse", lse}});
    auto [q_len, batch, width] = c.dims<3>("q", q, {"q_len", "batch", "num_heads*d_head"});
    auto [num_heads, d_head] = c.dims<2>("u", u, {"num_heads", "d_head"});
    auto [k_len, kv_batch, kv_width] = c.dims<3>("kv", kv, {"k_len", "batch", "2*num_heads*d_head"});
    const Dim heads_width{"num_heads*d_head", num_heads * d_head};
    c.range("k_len", static_cast<double>(k_len.value), static_cast<double>(q_len.value), 2147483647);
    c.shape("q", q, {q_len, batch, heads_width});
    c.shape("kv", kv, {k_len, batch, {"2*num_heads*d_head", 2 * heads_width}});
    c.shape("p", p, {k_len, heads_width});
    c.shape("v", v, {num_heads, d_head});
    c.shape("out", out, {q_len, batch, heads_width});
    c.shape("lse", lse, {batch, num_heads, q_len});
    c.range("blocked_lag", static_cast<double>(blocked_lag), -static_cast<double>(k_len - q_len) + 1,
            2147483647);
    c.probability("dropout", dropout);
  }
};

// rel_attention_backward: d_q, d_kv, d_p are written; d_u and d_v (parameters) accumulate.
struct RelAttentionBackwardParams {
  In d_out;   // as out
  In q;       // as in forward, like kv, p, u, v, out, lse
  In kv;      //
  In p;       //
  In u;       //
  In v;       //
  In out;     //
  In lse;     //
  Out d_q;    // as q
  Out d_kv;   // as kv
  Out d_p;    // as p
  InOut d_u;  // [num_heads, d_head]
  InOut d_v;  // [num_heads, d_head]
  int64_t blocked_lag = 0;
  double dropout = 0;
  uint64_t seed = 0;
  uint64_t call = 0;
  HR_FIELDS(d_out, q, kv, p, u, v, out, lse, d_q, d_kv, d_p, d_u, d_v, blocked_lag, dropout, seed, call)
  void check() const {
    Check c("rel_attention_backward");
    c.floats({{"d_out", d_out},
              {"q", q},
              {"kv", kv},
              {"p", p},
              {"u", u},
              {"v", v},
              {"out", out},
              {"lse", lse},
              {"d_q", d_q},
              {"d_kv", d_kv},
              {"d_p", d_p},
              {"d_u", d_u},
              {"d_v", d_v}});
    auto [q_len, batch, width] = c.dims<3>("q", q, {"q_len", "batch", "num_heads*d_head"});
    auto [num_heads, d_head] = c.dims<2>("u", u, {"num_heads", "d_head"});
    auto [k_len, kv_batch, kv_width] = c.dims<3>("kv", kv, {"k_len", "batch", "2*num_heads*d_head"});
    const Dim heads_width{"num_heads*d_head", num_heads * d_head};
    const Dim both_width{"2*num_heads*d_head", 2 * heads_width};
    c.range("k_len", static_cast<double>(k_len.value), static_cast<double>(q_len.value), 2147483647);
    c.shape("d_out", d_out, {q_len, batch, heads_width});
    c.shape("q", q, {q_len, batch, heads_width});
    c.shape("kv", kv, {k_len, batch, both_width});
    c.shape("p", p, {k_len, heads_width});
    c.shape("v", v, {num_heads, d_head});
    c.shape("out", out, {q_len, batch, heads_width});
    c.shape("lse", lse, {batch, num_heads, q_len});
    c.shape("d_q", d_q, {q_len, batch, heads_width});
    c.shape("d_kv", d_kv, {k_len, batch, both_width});
    c.shape("d_p", d_p, {k_len, heads_width});
    c.shape("d_u", d_u, {num_heads, d_head});
    c.shape("d_v", d_v, {num_heads, d_head});
    c.range("blocked_lag", static_cast<double>(blocked_lag), -static_cast<double>(k_len - q_len) + 1,
            2147483647);
    c.probability("dropout", dropout);
  }
};

#define OPS_REL_ATTENTION(OP)           \
  OP(rel_attention, RelAttentionParams) \
  OP(rel_attention_backward, RelAttentionBackwardParams)

}  // namespace hr
