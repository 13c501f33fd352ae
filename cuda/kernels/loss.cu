// cross-entropy over logits. Formulas, shapes and the column of a cluster: ops/loss.h. The tails of an
// adaptive softmax: cuda/kernels/tail_loss.cu.
//
//   forward   bytes: logits read once, nll and lse written
//   backward  bytes: logits read, d_logits written over them
//   A row is for a warp up to kWideRow columns, else for a block.
#include "cuda/kernels/index_check.h"
#include "cuda/kernels/log_sum.h"

namespace hr::cuda {

namespace {

constexpr int64_t kWideRow = 1024;

// Which column of the logits predicts a target.
struct Columns {
  const int32_t* cutoffs;  // [num_tails + 1], or null: no tails
  int num_tails, num_columns;

  HR_DEVICE int of(int32_t target) const {
    int cluster = 0;
    while (cluster < num_tails && target >= cutoffs[cluster]) ++cluster;
    return cluster == 0 ? target : num_columns - cluster;
  }
};

// Fails unless every cutoff and every target is valid.
template <typename Params>
Columns checked_columns(Context& ctx, const char* op, const Params& p) {
  const int32_t* targets = p.targets.template as<int32_t>();
  const int32_t* cutoffs = p.cutoffs.template as<int32_t>();
  const int64_t num_tokens = p.targets.size(), num_columns = p.logits.shape[1];
  const int64_t num_tails = cutoffs ? p.cutoffs.shape[0] - 1 : 0;
  if (cutoffs) {
    check_rising(ctx, op, "cutoffs", rising_cutoffs(cutoffs, num_tails + 1, num_columns - num_tails));
    check_indices_below(ctx, op, "targets", targets, num_tokens, cutoffs + num_tails);
  } else {
    check_indices(ctx, op, "targets", targets, num_tokens, 0, num_columns - 1);
  }
  return {cutoffs, static_cast<int>(num_tails), static_cast<int>(num_columns)};
}

template <int kRowThreads>
struct CrossEntropyKernel {
  static constexpr int kThreads = kReduceThreads;
  using Row = RowThreads<kRowThreads>;
  const float* logits;     // [num_tokens, num_columns]
  const int32_t* targets;  // [num_tokens]
  float* nll;              // [num_tokens]
  float* lse;              // [num_tokens]
  int64_t num_tokens;
  Columns columns;
  bool aligned;

  HR_DEVICE void operator()() const {
    const int64_t token = int64_t{block_x()} * Row::kRows + Row::row();
    if (token >= num_tokens) return;
    const float* row = logits + token * columns.num_columns;
    const float log_sum =
        log_sum_of_row<kRowThreads>(row, columns.num_columns, columns.num_columns % 4 == 0, aligned).value();
    if (Row::index() != 0) return;
    lse[token] = log_sum;
    nll[token] = log_sum - row[columns.of(targets[token])];
  }
};

template <int kRowThreads>
struct CrossEntropyBackwardKernel {
  static constexpr int kThreads = kReduceThreads;
  using Row = RowThreads<kRowThreads>;
  const float* d_nll;      // [num_tokens]
  const int32_t* targets;  // [num_tokens]
  const float* lse;        // [num_tokens]
  float* logits;           // [num_tokens, num_columns] in: logits, out: d_logits
  int64_t num_tokens;
  Columns columns;
  bool aligned;

  HR_DEVICE void operator()() const {
    const int64_t token = int64_t{block_x()} * Row::kRows + Row::row();
    if (token >= num_tokens) return;
    float* row = logits + token * columns.num_columns;
    const float scale = d_nll[token], log_sum = lse[token];
    const int target = columns.of(targets[token]);
    const int step = aligned ? 4 : 1;
    for (int column = step * Row::index(); column < columns.num_columns; column += step * kRowThreads) {
      Quad x = load_quad(row + column, step, aligned);
      HR_UNROLL
      for (int i = 0; i < 4; ++i) {
        if (i >= step) break;
        x.v[i] = scale * exp(x.v[i] - log_sum) - (column + i == target ? scale : 0.0f);
      }
      store_quad(row + column, x, step, aligned);
    }
  }
};

template <typename Kernel>
void launch_rows(Context& ctx, const Kernel& kernel) {
  launch(ctx, kernel, {ceil_div(kernel.num_tokens, Kernel::Row::kRows)}, Kernel::Row::kSharedBytes);
}

template <int kRowThreads>
void forward(Context& ctx, const CrossEntropyParams& p, const Columns& columns) {
  const float* logits = p.logits.as<float>();
  launch_rows(ctx, CrossEntropyKernel<kRowThreads>{logits, p.targets.as<int32_t>(), p.nll.as<float>(),
                                                   p.lse.as<float>(), p.targets.size(), columns,
                                                   columns.num_columns % 4 == 0 && is_aligned16(logits)});
}

template <int kRowThreads>
void backward(Context& ctx, const CrossEntropyBackwardParams& p, const Columns& columns) {
  float* logits = p.logits.as<float>();
  launch_rows(ctx, CrossEntropyBackwardKernel<kRowThreads>{
                       p.d_nll.as<float>(), p.targets.as<int32_t>(), p.lse.as<float>(), logits,
                       p.targets.size(), columns, columns.num_columns % 4 == 0 && is_aligned16(logits)});
}

}  // namespace

void cross_entropy(Context& ctx, const CrossEntropyParams& p) {
  const Columns columns = checked_columns(ctx, "cross_entropy", p);
  columns.num_columns <= kWideRow ? forward<kWarpSize>(ctx, p, columns)
                                  : forward<kReduceThreads>(ctx, p, columns);
}

void cross_entropy_backward(Context& ctx, const CrossEntropyBackwardParams& p) {
  const Columns columns = checked_columns(ctx, "cross_entropy_backward", p);
  columns.num_columns <= kWideRow ? backward<kWarpSize>(ctx, p, columns)
                                  : backward<kReduceThreads>(ctx, p, columns);
}

}  // namespace hr::cuda
