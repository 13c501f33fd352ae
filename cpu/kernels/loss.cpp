// loss on the CPU. Formulas, shapes and the column of a cluster: ops/loss.h.
#include "cpu/index_error.h"
#include "cpu/kernel.h"

#include "cpu/kernels/index_check.h"
#include "cpu/simd.h"
#if !HR_IS_REFERENCE
#include "cpu/kernels/block_product.h"
#include "cpu/kernels/parallel.h"
#endif

namespace hr::HR_ISA_NAMESPACE {

using cpu::Context;
using cpu::Scratch;

namespace {

// Which column of the logits predicts a target.
class Columns {
 public:
  // Throws unless every cutoff and every target is valid.
  template <typename Params>
  Columns(const char* op, const Params& p)
      : cutoffs_(p.cutoffs ? p.cutoffs.template as<int32_t>() : nullptr),
        num_tails_(cutoffs_ ? p.cutoffs.shape[0] - 1 : 0),
        num_columns_(p.logits.shape[1]) {
    if (cutoffs_) {
      const int64_t head = num_columns_ - num_tails_;
      check_indices(op, "cutoffs", cutoffs_, 1, head, head);
      for (int64_t n = 1; n <= num_tails_; ++n) {
        if (cutoffs_[n] > cutoffs_[n - 1]) continue;
        cpu::throw_index_error(op, "cutoffs", n, cutoffs_[n], int64_t{cutoffs_[n - 1]} + 1, 2147483647);
      }
    }
    const int64_t vocabulary = cutoffs_ ? cutoffs_[num_tails_] : num_columns_;
    check_indices(op, "targets", p.targets.template as<int32_t>(), p.targets.size(), 0, vocabulary - 1);
  }

  int64_t of(int32_t target) const {
    int64_t cluster = 0;
    while (cluster < num_tails_ && target >= cutoffs_[cluster]) ++cluster;
    return cluster == 0 ? target : num_columns_ - cluster;
  }

 private:
  const int32_t* cutoffs_;
  int64_t num_tails_, num_columns_;
};

}  // namespace

#if HR_IS_REFERENCE

namespace {

Real log_sum_exp(const Real* x, int64_t count) {
  Real largest = -__builtin_inf(), sum = 0;
  for (int64_t n = 0; n < count; ++n) largest = __builtin_fmax(largest, x[n]);
  for (int64_t n = 0; n < count; ++n) sum += exp(x[n] - largest);
  return largest + __builtin_log(sum);
}

// Calls body(t, logits, column) for every token of the cluster.
template <typename Params, typename Body>
void for_each_tail_token(Context& context, const Params& p, Body&& body) {
  const int64_t width = p.weight.shape[1], size = p.weight.shape[0];
  Real* logits = context.workspace.take<Real>(size);
  for (int64_t t = 0; t < p.targets.size(); ++t) {
    const int64_t column = p.targets.template as<int32_t>()[t] - p.first_id;
    if (column < 0 || column >= size) continue;
    for (int64_t c = 0; c < size; ++c) {
      logits[c] = p.bias.template as<Real>()[c];
      for (int64_t k = 0; k < width; ++k) {
        logits[c] += p.h.template as<Real>()[t * width + k] * p.weight.template as<Real>()[c * width + k];
      }
    }
    body(t, logits, column);
  }
}

}  // namespace

void cross_entropy(Context&, const CrossEntropyParams& p) {
  const Columns columns("cross_entropy", p);
  const int64_t num_columns = p.logits.shape[1];
  for (int64_t t = 0; t < p.targets.size(); ++t) {
    const Real* logits = p.logits.as<Real>() + t * num_columns;
    const Real lse = log_sum_exp(logits, num_columns);
    p.lse.as<Real>()[t] = lse;
    p.nll.as<Real>()[t] = lse - logits[columns.of(p.targets.as<int32_t>()[t])];
  }
}

void cross_entropy_backward(Context&, const CrossEntropyBackwardParams& p) {
  const Columns columns("cross_entropy_backward", p);
  const int64_t num_columns = p.logits.shape[1];
  for (int64_t t = 0; t < p.targets.size(); ++t) {
    Real* logits = p.logits.as<Real>() + t * num_columns;
    const int64_t target = columns.of(p.targets.as<int32_t>()[t]);
    for (int64_t c = 0; c < num_columns; ++c) {
      logits[c] = p.d_nll.as<Real>()[t] * (exp(logits[c] - p.lse.as<Real>()[t]) - (c == target ? 1 : 0));
    }
  }
}

void tail_cross_entropy(Context& context, const TailCrossEntropyParams& p) {
  for (int64_t t = 0; t < p.targets.size(); ++t) p.lse.as<Real>()[t] = 0;
  for_each_tail_token(context, p, [&](int64_t t, const Real* logits, int64_t column) {
    const Real lse = log_sum_exp(logits, p.weight.shape[0]);
    p.lse.as<Real>()[t] = lse;
    p.nll.as<Real>()[t] += lse - logits[column];
  });
}

void tail_cross_entropy_backward(Context& context, const TailCrossEntropyBackwardParams& p) {
  const int64_t width = p.weight.shape[1];
  for (int64_t n = 0; n < p.d_h.size(); ++n) p.d_h.as<Real>()[n] = 0;
  for_each_tail_token(context, p, [&](int64_t t, const Real* logits, int64_t column) {
    for (int64_t c = 0; c < p.weight.shape[0]; ++c) {
      const Real probability = exp(logits[c] - p.lse.as<Real>()[t]);
      const Real d_logit = p.d_nll.as<Real>()[t] * (probability - (c == column ? 1 : 0));
      p.d_bias.as<Real>()[c] += d_logit;
      for (int64_t k = 0; k < width; ++k) {
        p.d_h.as<Real>()[t * width + k] += d_logit * p.weight.as<Real>()[c * width + k];
        p.d_weight.as<Real>()[c * width + k] += d_logit * p.h.as<Real>()[t * width + k];
      }
    }
  });
}

#else

namespace {

// Calls body(t) for every row of the logits.
template <typename Params, typename Body>
void for_each_row(Context& context, const Params& p, Body&& body) {
  for_ranges(context, p.logits.shape[0], rows_per_task(p.logits.shape[1]), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) body(t);
  });
}

HR_NOINLINE float log_sum_exp(const float* x, int64_t count) {
  float largest = -__builtin_inff(), sum = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t n = 0; n < count; ++n) largest = x[n] > largest ? x[n] : largest;
#pragma omp simd reduction(+ : sum)
  for (int64_t n = 0; n < count; ++n) sum += exp(x[n] - largest);
  return largest + __builtin_logf(sum);
}

HR_NOINLINE void scaled_softmax(float* x, int64_t count, float lse, float scale) {
#pragma omp simd
  for (int64_t n = 0; n < count; ++n) x[n] = scale * exp(x[n] - lse);
}

// The tail works on blocks of logits transposed to [columns, tokens]: weight rows are then used where they
// lie, and softmax runs down the columns with one token per vector lane.
constexpr int64_t kTokens = 32;    // tokens of a block; whole panels
constexpr int64_t kColumns = 256;  // columns of a block
static_assert(kTokens % kPanel == 0);

struct Tail {
  int64_t size, width, padded_width;
  int64_t num_tokens;     // of this cluster
  const int32_t* tokens;  // their rows, in order
  const int32_t* targets;
  const float *h, *weight, *bias;
  int64_t first_id;

  template <typename Params>
  Tail(Context& context, const Params& p)
      : size(p.weight.shape[0]),
        width(p.weight.shape[1]),
        padded_width(round_up(width, Vec::kLanes)),
        num_tokens(0),
        targets(p.targets.template as<int32_t>()),
        h(p.h.template as<float>()),
        weight(p.weight.template as<float>()),
        bias(p.bias.template as<float>()),
        first_id(p.first_id) {
    int32_t* selected = context.workspace.take<int32_t>(p.targets.size());
    for (int64_t t = 0; t < p.targets.size(); ++t) {
      const int64_t column = targets[t] - first_id;
      if (column >= 0 && column < size) selected[num_tokens++] = static_cast<int32_t>(t);
    }
    tokens = selected;
  }

  int64_t num_token_blocks() const { return ceil_div(num_tokens, kTokens); }
  int64_t num_column_blocks() const { return ceil_div(size, kColumns); }
};

// The hidden states and targets of one block of tokens. Unused lanes hold zeros and no target.
struct TokenBlock {
  int64_t count;
  const int32_t* rows;
  Block h;                   // [kTokens, padded_width]
  float* panels;             // its transpose: [kTokens / kPanel][width][kPanel]
  int64_t columns[kTokens];  // target - first_id; -1 in unused lanes

  TokenBlock(const Tail& tail, Scratch& scratch)
      : h{scratch.take<float>(kTokens * tail.padded_width), tail.padded_width},
        panels(scratch.take<float>(kTokens * tail.width)) {}

  void load(const Tail& tail, int64_t block) {
    count = min(kTokens, tail.num_tokens - block * kTokens);
    rows = tail.tokens + block * kTokens;
    for (int64_t t = 0; t < kTokens; ++t) {
      columns[t] = t < count ? tail.targets[rows[t]] - tail.first_id : -1;
      for (int64_t k = 0; k < tail.padded_width; ++k) {
        h.row(t)[k] = t < count && k < tail.width ? tail.h[rows[t] * tail.width + k] : 0.0f;
      }
    }
    packed::pack<kPanel, packed::F32>({h.data, h.stride, false}, 0, kTokens, 0, tail.width, panels);
  }
};

// logits[c - first, t] = weight[c]·h[t] + bias[c] for columns first .. first + count - 1.
void tail_logits(const Tail& tail, const TokenBlock& tokens, int64_t first, int64_t count, Block logits) {
  multiply_block<false>(count, kTokens, tail.width, {tail.weight + first * tail.width, tail.width},
                        {tokens.panels, kPanel, kPanel * tail.width}, logits, false);
  for (int64_t c = 0; c < count; ++c) {
    float* row = logits.row(c);
    for (int64_t t = 0; t < kTokens; ++t) row[t] += tail.bias[first + c];
  }
}

// Sums of exponentials that see their terms in blocks: Σ e^x = sum · e^largest.
struct RunningSum {
  float largest[kTokens], sum[kTokens];

  RunningSum() {
    for (int64_t t = 0; t < kTokens; ++t) largest[t] = -__builtin_inff(), sum[t] = 0;
  }

  void add(Block x, int64_t count) {
    float top[kTokens];
    memcpy(top, largest, sizeof top);
    for (int64_t c = 0; c < count; ++c) {
      for (int64_t t = 0; t < kTokens; ++t) top[t] = x.row(c)[t] > top[t] ? x.row(c)[t] : top[t];
    }
    for (int64_t t = 0; t < kTokens; ++t) sum[t] *= exp(largest[t] - top[t]);
    for (int64_t c = 0; c < count; ++c) {
      for (int64_t t = 0; t < kTokens; ++t) sum[t] += exp(x.row(c)[t] - top[t]);
    }
    memcpy(largest, top, sizeof top);
  }
};

// What backward knows of a block of tokens besides their hidden states.
struct TokenGradients {
  float d_nll[kTokens], lse[kTokens];

  void load(const TailCrossEntropyBackwardParams& p, const TokenBlock& tokens) {
    for (int64_t t = 0; t < kTokens; ++t) {
      d_nll[t] = t < tokens.count ? p.d_nll.as<float>()[tokens.rows[t]] : 0;
      lse[t] = t < tokens.count ? p.lse.as<float>()[tokens.rows[t]] : 0;
    }
  }
};

// As tail_logits, then their gradient in place: d_nll · (softmax - onehot); 0 in unused lanes.
void tail_d_logits(const Tail& tail, const TokenBlock& tokens, const TokenGradients& gradients, int64_t first,
                   int64_t count, Block logits) {
  tail_logits(tail, tokens, first, count, logits);
  for (int64_t c = 0; c < count; ++c) {
    float* row = logits.row(c);
    for (int64_t t = 0; t < kTokens; ++t) row[t] = gradients.d_nll[t] * exp(row[t] - gradients.lse[t]);
  }
  for (int64_t t = 0; t < tokens.count; ++t) {
    const int64_t c = tokens.columns[t] - first;
    if (c >= 0 && c < count) logits.row(c)[t] -= gradients.d_nll[t];
  }
}

}  // namespace

void cross_entropy(Context& context, const CrossEntropyParams& p) {
  const Columns columns("cross_entropy", p);
  const int64_t num_columns = p.logits.shape[1];
  for_each_row(context, p, [&](int64_t t) {
    const float* logits = p.logits.as<float>() + t * num_columns;
    const float lse = log_sum_exp(logits, num_columns);
    p.lse.as<float>()[t] = lse;
    p.nll.as<float>()[t] = lse - logits[columns.of(p.targets.as<int32_t>()[t])];
  });
}

void cross_entropy_backward(Context& context, const CrossEntropyBackwardParams& p) {
  const Columns columns("cross_entropy_backward", p);
  const int64_t num_columns = p.logits.shape[1];
  for_each_row(context, p, [&](int64_t t) {
    float* logits = p.logits.as<float>() + t * num_columns;
    scaled_softmax(logits, num_columns, p.lse.as<float>()[t], p.d_nll.as<float>()[t]);
    logits[columns.of(p.targets.as<int32_t>()[t])] -= p.d_nll.as<float>()[t];
  });
}

void tail_cross_entropy(Context& context, const TailCrossEntropyParams& p) {
  const Tail tail(context, p);
  memset(p.lse.data, 0, p.lse.bytes());
  context.pool.run(tail.num_token_blocks(), [&](int64_t block, Scratch& scratch) {
    TokenBlock tokens(tail, scratch);
    tokens.load(tail, block);
    const Block logits{scratch.take<float>(kColumns * kTokens), kTokens};
    RunningSum total;
    float target_logits[kTokens] = {};
    for (int64_t first = 0; first < tail.size; first += kColumns) {
      const int64_t count = min(kColumns, tail.size - first);
      tail_logits(tail, tokens, first, count, logits);
      total.add(logits, count);
      for (int64_t t = 0; t < tokens.count; ++t) {
        const int64_t c = tokens.columns[t] - first;
        if (c >= 0 && c < count) target_logits[t] = logits.row(c)[t];
      }
    }
    for (int64_t t = 0; t < tokens.count; ++t) {
      const float lse = total.largest[t] + __builtin_logf(total.sum[t]);
      p.lse.as<float>()[tokens.rows[t]] = lse;
      p.nll.as<float>()[tokens.rows[t]] += lse - target_logits[t];
    }
  });
}

// Two passes, one per kind of output, so that no partial sums are kept: d_h by tokens, d_weight and d_bias by
// columns.
void tail_cross_entropy_backward(Context& context, const TailCrossEntropyBackwardParams& p) {
  const Tail tail(context, p);
  memset(p.d_h.data, 0, p.d_h.bytes());
  context.pool.run(tail.num_token_blocks(), [&](int64_t block, Scratch& scratch) {
    TokenBlock tokens(tail, scratch);
    TokenGradients gradients;
    tokens.load(tail, block);
    gradients.load(p, tokens);
    const Block d_logits{scratch.take<float>(kColumns * kTokens), kTokens};
    const Block weight{scratch.take<float>(kColumns * tail.padded_width), tail.padded_width};
    const Block d_h{scratch.take<float>(kTokens * tail.padded_width), tail.padded_width};
    for (int64_t first = 0; first < tail.size; first += kColumns) {
      const int64_t count = min(kColumns, tail.size - first);
      tail_d_logits(tail, tokens, gradients, first, count, d_logits);
      pack_rows(tail.weight + first * tail.width, tail.width, count, tail.width, weight);
      multiply_block<true>(tokens.count, tail.padded_width, count, d_logits, weight, d_h, first > 0);
    }
    for (int64_t t = 0; t < tokens.count; ++t) {
      memcpy(p.d_h.as<float>() + tokens.rows[t] * tail.width, d_h.row(t), tail.width * sizeof(float));
    }
  });
  if (tail.num_tokens == 0) return;
  context.pool.run(tail.num_column_blocks(), [&](int64_t block, Scratch& scratch) {
    TokenBlock tokens(tail, scratch);
    TokenGradients gradients;
    const int64_t first = block * kColumns, count = min(kColumns, tail.size - first);
    const Block d_logits{scratch.take<float>(kColumns * kTokens), kTokens};
    const Block d_weight{scratch.take<float>(kColumns * tail.padded_width), tail.padded_width};
    for (int64_t n = 0; n < tail.num_token_blocks(); ++n) {
      tokens.load(tail, n);
      gradients.load(p, tokens);
      tail_d_logits(tail, tokens, gradients, first, count, d_logits);
      multiply_block<false>(count, tail.padded_width, tokens.count, d_logits, tokens.h, d_weight, n > 0);
      for (int64_t c = 0; c < count; ++c) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t t = 0; t < kTokens; ++t) sum += d_logits.row(c)[t];
        p.d_bias.as<float>()[first + c] += sum;
      }
    }
    for (int64_t c = 0; c < count; ++c) {
      float* target = p.d_weight.as<float>() + (first + c) * tail.width;
      for (int64_t k = 0; k < tail.width; ++k) target[k] += d_weight.row(c)[k];
    }
  });
}

#endif

}  // namespace hr::HR_ISA_NAMESPACE
