// router statistics: entropy and balance loss, and its gradient. Formulas: ops/router.h.
//
// p = softmax of a token's logits over all experts = e / Σ e with e_i = exp(logit_i - max)
//
//   bytes  logits read once (again from cache), d_logits written; at most kMostSumBlocks doubles of workspace
//   sums   numbers of tokens are added in double: a thread's in order, threads in a tree, blocks in order
//   grid   ranges of tokens that follow from their number alone; a second launch adds up the blocks
#include "cuda/kernels/block_sums.h"
#include "cuda/kernels/index_check.h"
#include "cuda/kernels/token_lanes.h"

namespace hr::cuda {

namespace {

// Tokens and their logits as the lanes of a token read them.
struct Logits {
  const float* data;  // [num_tokens, num_experts]
  int64_t num_tokens;
  int num_experts;
  TokenLanes lanes;

  explicit Logits(const In& logits)
      : data(logits.as<float>()),
        num_tokens(logits.shape[0]),
        num_experts(static_cast<int>(logits.shape[1])),
        lanes(TokenLanes::for_experts(logits.shape[1])) {}

  // Calls fn(expert, difference to the largest logit) for the lane's experts of a token.
  template <typename Fn>
  HR_DEVICE void for_experts(int64_t token, float largest, Fn&& fn) const {
    for (int i = lanes.index(); i < num_experts; i += lanes.num_lanes) {
      fn(i, data[token * num_experts + i] - largest);
    }
  }
  HR_DEVICE float largest(int64_t token) const {
    float best = -infinity();
    for_experts(token, 0, [&](int, float logit) { best = MaximumOf::combine(best, logit); });
    return lanes.reduce<MaximumOf>(best);
  }
};

// -Σ_i p_i ln p_i = ln Σ e - (Σ e_i ln e_i) / Σ e
struct Entropy {
  HR_DEVICE void check() const {}
  HR_DEVICE float operator()(const Logits& logits, int64_t token) const {
    float sum = 0, weighted = 0;
    logits.for_experts(token, logits.largest(token), [&](int, float difference) {
      const float e = exp(difference);
      sum += e;
      weighted += e == 0 ? 0.0f : e * difference;
    });
    sum = logits.lanes.reduce<SumOf>(sum);
    return log(sum) - logits.lanes.reduce<SumOf>(weighted) / sum;
  }
};

// f_i: each expert's share of the routed pairs.
struct Shares {
  RisingEntries offsets;  // [num_experts + 1]

  HR_DEVICE float of(int expert) const {
    const int32_t count = offsets.data[expert + 1] - offsets.data[expert];
    return count > 0 ? static_cast<float>(count) / static_cast<float>(offsets.data[offsets.n - 1]) : 0.0f;
  }
};

// Σ_i p_i f_i
struct ExpectedShare {
  Shares shares;

  struct Sums {
    float largest, sum, expected;
  };
  HR_DEVICE Sums sums(const Logits& logits, int64_t token) const {
    const float largest = logits.largest(token);
    float sum = 0, weighted = 0;
    logits.for_experts(token, largest, [&](int expert, float difference) {
      const float e = exp(difference);
      sum += e;
      weighted = fma(e, shares.of(expert), weighted);
    });
    sum = logits.lanes.reduce<SumOf>(sum);
    return {largest, sum, logits.lanes.reduce<SumOf>(weighted) / sum};
  }
  HR_DEVICE float operator()(const Logits& logits, int64_t token) const {
    return sums(logits, token).expected;
  }
};

// The same of offsets that no launch has checked.
struct UncheckedShare : ExpectedShare {
  IndexFailure fail;
  HR_DEVICE void check() const { shares.offsets.check(fail); }
};

// of_blocks[b] = Σ number(t) over the tokens of block b. What the numbers are made of is checked here: only
// workspace is written.
template <typename Number>
struct SumTokensKernel {
  static constexpr int kThreads = kReduceThreads;
  Logits logits;
  Number number;
  int64_t block_tokens;
  double* of_blocks;

  HR_DEVICE void operator()() const {
    number.check();
    const int64_t begin = block_x() * block_tokens;
    const int64_t end = begin + block_tokens < logits.num_tokens ? begin + block_tokens : logits.num_tokens;
    double sum = 0;
    for (int64_t first = begin; first < end; first += kThreads / logits.lanes.num_lanes) {
      const int64_t token = first + logits.lanes.token();
      const float of_token = number(logits, token < end ? token : first);  // all lanes: it reduces
      if (token < end && logits.lanes.index() == 0) sum += of_token;
    }
    const double total = reduce_block<SumOf>(sum);
    if (thread_index() == 0) of_blocks[block_x()] = total;
  }
};

// out = scale · Σ_t number(t)
template <typename Number>
void sum_tokens(Context& ctx, const Logits& logits, const Number& number, double scale, float* out) {
  const int64_t at_once = logits.lanes.tokens(kReduceThreads);
  const int64_t block_tokens = ceil_div(ceil_div(logits.num_tokens, kMostSumBlocks), at_once) * at_once;
  const int64_t num_blocks = ceil_div(logits.num_tokens, block_tokens);
  double* of_blocks = ctx.workspace<double>(num_blocks);
  launch(ctx, SumTokensKernel<Number>{logits, number, block_tokens, of_blocks}, {num_blocks}, kBlockSumBytes);
  finish_sum(ctx, of_blocks, num_blocks, StoreScaled{out, scale});
}

// d_logits (+)= d_loss · scale · p_i (f_i - Σ_j p_j f_j)
struct BalanceBackwardKernel {
  static constexpr int kThreads = kReduceThreads;
  Logits logits;
  ExpectedShare expected_share;
  const float* d_loss;  // [1]
  float scale;
  float* d_logits;  // [num_tokens, num_experts]
  bool accumulate;

  HR_DEVICE void operator()() const {
    const int64_t token = int64_t{block_x()} * (kThreads / logits.lanes.num_lanes) + logits.lanes.token();
    const bool exists = token < logits.num_tokens;
    const ExpectedShare::Sums sums =
        expected_share.sums(logits, exists ? token : 0);  // all lanes: it reduces
    if (!exists) return;
    const float factor = *d_loss * scale / sums.sum;
    logits.for_experts(token, sums.largest, [&](int expert, float difference) {
      const float excess = expected_share.shares.of(expert) - sums.expected;
      const float d_logit = factor * exp(difference) * excess;
      float* to = d_logits + token * logits.num_experts + expert;
      *to = accumulate ? *to + d_logit : d_logit;
    });
  }
};

// num_experts / D
template <typename Params>
double balance_scale(const Params& p) {
  const int64_t num_tokens = p.logits.shape[0];
  const int64_t divisor = p.per_token ? num_tokens : num_tokens * p.top_k;
  return static_cast<double>(p.logits.shape[1]) / static_cast<double>(divisor);
}

template <typename Params>
RisingEntries offsets_of(const Params& p) {
  return rising_offsets(p.expert_offsets.template as<int32_t>(), p.logits.shape[1],
                        p.logits.shape[0] * p.top_k);
}

}  // namespace

void router_entropy(Context& ctx, const RouterEntropyParams& p) {
  sum_tokens(ctx, Logits(p.logits), Entropy{}, 1 / static_cast<double>(p.logits.shape[0]),
             p.entropy.as<float>());
}

void balance_loss(Context& ctx, const BalanceLossParams& p) {
  const UncheckedShare share{{offsets_of(p)},
                             IndexFailure::next_launch(ctx, "balance_loss", "expert_offsets")};
  sum_tokens(ctx, Logits(p.logits), share, balance_scale(p), p.loss.as<float>());
}

void balance_loss_backward(Context& ctx, const BalanceLossBackwardParams& p) {
  const Logits logits(p.logits);
  const ExpectedShare expected_share{{offsets_of(p)}};
  check_rising(ctx, "balance_loss_backward", "expert_offsets", expected_share.shares.offsets);
  launch(ctx,
         BalanceBackwardKernel{logits, expected_share, p.d_loss.as<float>(),
                               static_cast<float>(balance_scale(p)), p.d_logits.as<float>(), p.accumulate},
         {ceil_div(logits.num_tokens, logits.lanes.tokens(kReduceThreads))});
}

}  // namespace hr::cuda
