// router statistics on the CPU: entropy and balance loss. Formulas: ops/router.h.
//
// p = softmax of a token's logits over all experts = e / Σ e with e_i = exp(logit_i - max)
#include <cmath>

#include "cpu/kernel.h"

#include "cpu/kernels/index_check.h"
#include "cpu/kernels/partial_sums.h"

namespace hr::HR_ISA_NAMESPACE {

namespace {

HR_INLINE Real largest(const Real* logits, int64_t num_experts) {
  Real best = logits[0];
#pragma omp simd reduction(max : best)
  for (int64_t i = 0; i < num_experts; ++i) best = logits[i] > best ? logits[i] : best;
  return best;
}

// -Σ_i p_i ln p_i = ln Σ e - (Σ e_i ln e_i) / Σ e
double entropy_of(const Real* logits, int64_t num_experts) {
  const Real best = largest(logits, num_experts);
  Real sum = 0, weighted = 0;
#pragma omp simd reduction(+ : sum, weighted)
  for (int64_t i = 0; i < num_experts; ++i) {
    const Real difference = logits[i] - best, e = exp(difference);
    sum += e;
    weighted += e == 0 ? Real(0) : e * difference;
  }
  return std::log(static_cast<double>(sum)) - static_cast<double>(weighted / sum);
}

// Σ_i p_i f_i, with e left in the array of that name and 1 / Σ e in inverse_sum.
HR_INLINE Real expected_share(const Real* logits, const Real* share, int64_t num_experts, Real* e,
                              Real& inverse_sum) {
  const Real best = largest(logits, num_experts);
  Real sum = 0, weighted = 0;
#pragma omp simd reduction(+ : sum, weighted)
  for (int64_t i = 0; i < num_experts; ++i) {
    e[i] = exp(logits[i] - best);
    sum += e[i];
    weighted += e[i] * share[i];
  }
  inverse_sum = 1 / sum;
  return weighted * inverse_sum;
}

// f_i: each expert's share of the routed pairs.
template <typename Params>
void expert_shares(const char* op, const Params& p, Real* share) {
  const int32_t* expert_offsets = p.expert_offsets.template as<int32_t>();
  const int64_t num_tokens = p.logits.shape[0], num_experts = p.logits.shape[1];
  check_offsets(op, expert_offsets, num_experts, num_tokens * p.top_k);
  const Real num_routed = Real(expert_offsets[num_experts]);
  for (int64_t i = 0; i < num_experts; ++i) {
    const Real count = Real(expert_offsets[i + 1] - expert_offsets[i]);
    share[i] = num_routed > 0 ? count / num_routed : Real(0);
  }
}

// num_experts / D
double balance_scale(int64_t num_tokens, int64_t num_experts, int32_t top_k, bool per_token) {
  const double divisor = static_cast<double>(per_token ? num_tokens : num_tokens * top_k);
  return static_cast<double>(num_experts) / divisor;
}

}  // namespace

void router_entropy(Context& ctx, const RouterEntropyParams& p) {
  const Real* logits = p.logits.as<Real>();
  const int64_t num_tokens = p.logits.shape[0], num_experts = p.logits.shape[1];
  const double sum = sum_blocks(ctx, num_tokens, rows_per_task(num_experts), [&](int64_t begin, int64_t end) {
    double block_sum = 0;
    for (int64_t t = begin; t < end; ++t) block_sum += entropy_of(logits + t * num_experts, num_experts);
    return block_sum;
  });
  *p.entropy.as<Real>() = Real(sum / static_cast<double>(num_tokens));
}

// Σ_i f_i Σ_t p_ti as Σ_t Σ_i p_ti f_i: one number per token.
void balance_loss(Context& ctx, const BalanceLossParams& p) {
  const Real* logits = p.logits.as<Real>();
  const int64_t num_tokens = p.logits.shape[0], num_experts = p.logits.shape[1];
  Scratch::Frame frame(ctx.workspace);
  Real* share = ctx.workspace.take<Real>(static_cast<size_t>(num_experts));
  expert_shares("balance_loss", p, share);
  const auto block_sum = [&](int64_t begin, int64_t end, Scratch& scratch) {
    Real* e = scratch.take<Real>(static_cast<size_t>(num_experts));
    Real inverse_sum;
    double sum = 0;
    for (int64_t t = begin; t < end; ++t) {
      sum += expected_share(logits + t * num_experts, share, num_experts, e, inverse_sum);
    }
    return sum;
  };
  const double sum = sum_blocks(ctx, num_tokens, rows_per_task(num_experts), block_sum);
  *p.loss.as<Real>() = Real(balance_scale(num_tokens, num_experts, p.top_k, p.per_token) * sum);
}

void balance_loss_backward(Context& ctx, const BalanceLossBackwardParams& p) {
  const int64_t num_tokens = p.logits.shape[0], num_experts = p.logits.shape[1];
  const double scale = balance_scale(num_tokens, num_experts, p.top_k, p.per_token);
  const Real d_scale = *p.d_loss.as<Real>() * Real(scale);
  Scratch::Frame frame(ctx.workspace);
  Real* share = ctx.workspace.take<Real>(static_cast<size_t>(num_experts));
  expert_shares("balance_loss_backward", p, share);
  for_ranges(ctx, num_tokens, rows_per_task(num_experts), [&](int64_t begin, int64_t end, Scratch& scratch) {
    Real* e = scratch.take<Real>(static_cast<size_t>(num_experts));
    Real inverse_sum;
    for (int64_t t = begin; t < end; ++t) {
      const Real* logits = p.logits.as<Real>() + t * num_experts;
      Real* d_logits = p.d_logits.as<Real>() + t * num_experts;
      const Real mean_share = expected_share(logits, share, num_experts, e, inverse_sum);
#pragma omp simd
      for (int64_t i = 0; i < num_experts; ++i) {
        const Real d_logit = d_scale * e[i] * inverse_sum * (share[i] - mean_share);
        d_logits[i] = p.accumulate ? d_logits[i] + d_logit : d_logit;
      }
    }
  });
}

}  // namespace hr::HR_ISA_NAMESPACE
