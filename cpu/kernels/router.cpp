// router on the CPU: selection per token. Formulas: ops/router.h. Statistics: cpu/kernels/router_stats.cpp.
#include "cpu/index_error.h"
#include "cpu/kernel.h"

#include "cpu/kernels/index_check.h"
#include "cpu/kernels/parallel.h"

namespace hr::HR_ISA_NAMESPACE {

void gemm(Context& ctx, const GemmParams& p);

namespace {

constexpr int64_t kTaskLogits = 4096;  // selection costs more per element than a copy does

int64_t tokens_per_task(int64_t num_experts) {
  return num_experts < kTaskLogits ? kTaskLogits / num_experts : 1;
}

// logits = x·Wᵀ + b
void router_logits(Context& ctx, const RouterTopKParams& p) {
#if HR_IS_REFERENCE
  const double* bias = p.router_bias.as<double>();
  const int64_t d_model = p.x.shape[1], num_experts = p.logits.shape[1];
  for_ranges(ctx, p.logits.shape[0], tokens_per_task(num_experts * d_model), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const double* x = p.x.as<double>() + t * d_model;
      for (int64_t e = 0; e < num_experts; ++e) {
        const double* weight = p.router_weight.as<double>() + e * d_model;
        double sum = bias ? bias[e] : 0;
        for (int64_t i = 0; i < d_model; ++i) sum += x[i] * weight[i];
        p.logits.as<double>()[t * num_experts + e] = sum;
      }
    }
  });
#else
  GemmParams product;
  static_cast<TensorView&>(product.a) = p.x;
  static_cast<TensorView&>(product.b) = p.router_weight;
  product.bias = p.router_bias;
  product.c = p.logits;
  product.transpose_b = true;
  gemm(ctx, product);
#endif
}

// A token's logits as they are ranked: NaN is -inf.
HR_INLINE Real ranked(Real logit) { return logit == logit ? logit : -Real(__builtin_inf()); }

#if HR_IS_REFERENCE

// indices, kept = the top_k best of logits, best first.
void select_top_k(const Real* logits, int64_t num_experts, int64_t top_k, int32_t* indices, Real* kept) {
  for (int64_t slot = 0; slot < top_k; ++slot) {
    int64_t best = -1;
    for (int64_t e = 0; e < num_experts; ++e) {
      bool taken = false;
      for (int64_t earlier = 0; earlier < slot; ++earlier) taken = taken || indices[earlier] == e;
      if (!taken && (best < 0 || ranked(logits[e]) > ranked(logits[best]))) best = e;
    }
    indices[slot] = static_cast<int32_t>(best);
    kept[slot] = ranked(logits[best]);
  }
}

#else

constexpr int kFewExperts = 64;
constexpr int kLanes = 16;  // a multiple of every vector's

// Few experts: an expert's slot is the number of experts that go before it.
void select_by_rank(const Real* logits, int num_experts, int64_t top_k, int32_t* indices, Real* kept) {
  Real values[kFewExperts];
  int32_t rank[kFewExperts] = {};
  const int padded = (num_experts + kLanes - 1) / kLanes * kLanes;
  for (int e = 0; e < padded; ++e) values[e] = e < num_experts ? ranked(logits[e]) : 0;
  for (int other = 0; other < num_experts; ++other) {
    const Real value = values[other];
    for (int block = 0; block < padded; block += kLanes) {
#pragma omp simd
      for (int e = block; e < block + kLanes; ++e) {
        rank[e] += (value > values[e]) | ((value == values[e]) & (other < e));
      }
    }
  }
  for (int e = 0; e < num_experts; ++e) {
    if (rank[e] >= top_k) continue;
    indices[rank[e]] = e;
    kept[rank[e]] = values[e];
  }
}

// Many experts: insertion into the list of the best so far.
void select_by_insertion(const Real* logits, int64_t num_experts, int64_t top_k, int32_t* indices,
                         Real* kept) {
  int64_t count = 0;
  for (int64_t e = 0; e < num_experts; ++e) {
    const Real value = ranked(logits[e]);
    if (count == top_k && !(value > kept[count - 1])) continue;
    int64_t low = 0, high = count;  // the first slot with a smaller value
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (kept[middle] >= value) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (count < top_k) ++count;
    for (int64_t slot = count - 1; slot > low; --slot) {
      kept[slot] = kept[slot - 1];
      indices[slot] = indices[slot - 1];
    }
    kept[low] = value;
    indices[low] = static_cast<int32_t>(e);
  }
}

void select_top_k(const Real* logits, int64_t num_experts, int64_t top_k, int32_t* indices, Real* kept) {
  if (num_experts <= kFewExperts) {
    select_by_rank(logits, static_cast<int>(num_experts), top_k, indices, kept);
  } else {
    select_by_insertion(logits, num_experts, top_k, indices, kept);
  }
}

#endif

// weights = softmax(weights) over one token's slots, best first. Logits equal to the best count as 0 apart
// from it, so infinite ones share the weight instead of giving NaN.
void softmax_kept(Real* weights, int64_t top_k) {
  const Real best = weights[0];
  Real sum = 0;
  for (int64_t slot = 0; slot < top_k; ++slot) {
    weights[slot] = exp(weights[slot] == best ? Real(0) : weights[slot] - best);
    sum += weights[slot];
  }
  for (int64_t slot = 0; slot < top_k; ++slot) weights[slot] /= sum;
}

}  // namespace

void router_topk(Context& ctx, const RouterTopKParams& p) {
  const int64_t num_experts = p.logits.shape[1];
  if (p.x) router_logits(ctx, p);
  for_ranges(ctx, p.logits.shape[0], tokens_per_task(num_experts), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      Real* weights = p.expert_weights.as<Real>() + t * p.top_k;
      select_top_k(p.logits.as<Real>() + t * num_experts, num_experts, p.top_k,
                   p.expert_indices.as<int32_t>() + t * p.top_k, weights);
      if (p.weighting == Weighting::softmax_kept) {
        softmax_kept(weights, p.top_k);
      } else {
        for (int64_t slot = 0; slot < p.top_k; ++slot) weights[slot] = 1 / Real(p.top_k);
      }
    }
  });
}

void router_topk_backward(Context& ctx, const RouterTopKBackwardParams& p) {
  const int32_t* indices = p.expert_indices.as<int32_t>();
  const int64_t num_tokens = p.d_logits.shape[0], num_experts = p.d_logits.shape[1];
  const int64_t top_k = p.expert_indices.shape[1];
  check_indices("router_topk_backward", "expert_indices", indices, num_tokens * top_k, -1, num_experts - 1);
  for_ranges(ctx, num_tokens, tokens_per_task(num_experts), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const Real* w = p.expert_weights.as<Real>() + t * top_k;
      const Real* g = p.d_expert_weights.as<Real>() + t * top_k;
      Real* d_logits = p.d_logits.as<Real>() + t * num_experts;
      if (!p.accumulate) {
        for (int64_t e = 0; e < num_experts; ++e) d_logits[e] = 0;
      }
      Real mean_g = 0;
      for (int64_t slot = 0; slot < top_k; ++slot) mean_g += w[slot] * g[slot];
      for (int64_t slot = 0; slot < top_k; ++slot) {
        const int32_t expert = indices[t * top_k + slot];
        if (expert >= 0) d_logits[expert] += w[slot] * (g[slot] - mean_g);
      }
    }
  });
}

}  // namespace hr::HR_ISA_NAMESPACE
