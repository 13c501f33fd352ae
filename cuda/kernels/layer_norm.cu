// layer_norm: dropout, residual sum and normalisation of rows, and their gradients. Formulas:
// ops/layer_norm.h.
//
// A row is for a warp up to kWideRow numbers, else for a block; a thread holds kHeld quads of it in registers
// from the first pass to the last. What is longer still is read again from cache.
//
//   forward   bytes  x and branch read, sum and y written; mean and rstd kept. One pass over memory; a branch
//                    in expert order is summed as it is read: top_k rows instead of one
//             exact  mean in two passes, the second over centred numbers
//   backward  bytes  d_y and s read, d_x and d_branch written. Blocks own ranges of rows, threads columns:
//                    d_weight and d_bias are summed in registers, then [kMostRanges, 2 · d_model] in order
#include "cuda/kernels/column_sums.h"
#include "cuda/kernels/dropout_mask.h"
#include "cuda/kernels/index_check.h"
#include "cuda/kernels/routed_rows.h"
#include "cuda/kernels/row_reduce.h"

namespace hr::cuda {

namespace {

constexpr int kHeld = 4;  // quads of a row that a thread keeps
constexpr int64_t kWideRow = int64_t{4} * kHeld * kWarpSize;

// Calls fn(column, held) for the thread's quads of a row. held < kHeld is known when compiled: where the quad
// is kept; kHeld: it is not.
template <int kRowThreads, typename Fn>
HR_DEVICE void for_quads_of_row(int width, Fn&& fn) {
  const int first = 4 * RowThreads<kRowThreads>::index();
  HR_UNROLL
  for (int held = 0; held < kHeld; ++held) {
    const int column = first + held * 4 * kRowThreads;
    if (column < width) fn(column, held);
  }
  for (int column = first + kHeld * 4 * kRowThreads; column < width; column += 4 * kRowThreads)
    fn(column, kHeld);
}

template <int kRowThreads>
struct LayerNormKernel {
  static constexpr int kThreads = kReduceThreads;
  static constexpr int kMinBlocks = 3;
  using Row = RowThreads<kRowThreads>;
  const float* x;       // [num_rows, width]
  RoutedRows branch;    // rows null: none; inverse_permutation null: [num_rows, width]
  const float* weight;  // [width]
  const float* bias;    // [width]
  float* y;             // [num_rows, width]
  float* sum;           // [num_rows, width], or null
  float* mean;          // [num_rows]
  float* rstd;          // [num_rows]
  int64_t num_rows;
  int width;
  float eps;
  DropoutMask mask;
  bool aligned;

  HR_DEVICE void operator()() const {
    const int64_t row = int64_t{block_x()} * Row::kRows + Row::row();
    if (row >= num_rows) return;
    const int64_t first = row * width;
    Quad kept[kHeld];
    if (is_routed()) combine(row, kept);
    const auto branch_quad = [&](int column, int held) {
      if (is_routed() && held < kHeld) return kept[held];
      return load_quad((is_routed() ? sum : branch.rows) + first + column, width - column, aligned);
    };

    float total = 0;
    for_quads_of_row<kRowThreads>(width, [&](int column, int held) {
      Quad s = load_quad(x + first + column, width - column, aligned);
      if (branch.rows) add_branch(first + column, width - column, branch_quad(column, held), s);
      if (held < kHeld) kept[held] = s;
      HR_UNROLL
      for (int i = 0; i < 4; ++i) total += s.v[i];
    });
    const auto quad = [&](int column, int held) {
      return held < kHeld ? kept[held] : load_quad((sum ? sum : x) + first + column, width - column, aligned);
    };

    const float count = static_cast<float>(width), rough_mean = Row::sum(total) / count;
    float difference = 0, squares = 0;
    for_quads_of_row<kRowThreads>(width, [&](int column, int held) {
      const Quad s = quad(column, held);
      HR_UNROLL
      for (int i = 0; i < 4; ++i) {
        const float centred = column + i < width ? s.v[i] - rough_mean : 0.0f;
        difference += centred;
        squares = fma(centred, centred, squares);
      }
    });
    const float correction = Row::sum(difference) / count;  // the rounding error of rough_mean
    const float variance = Row::sum(squares) / count - correction * correction;
    const float row_mean = rough_mean + correction, row_rstd = 1.0f / sqrt(variance + eps);

    for_quads_of_row<kRowThreads>(width, [&](int column, int held) {
      const Quad s = quad(column, held);
      const Quad w = load_quad(weight + column, width - column, aligned);
      Quad out = load_quad(bias + column, width - column, aligned);
      HR_UNROLL
      for (int i = 0; i < 4; ++i) out.v[i] = fma((s.v[i] - row_mean) * row_rstd, w.v[i], out.v[i]);
      store_quad(y + first + column, out, width - column, aligned);
    });
    if (Row::index() == 0) {
      mean[row] = row_mean;
      rstd[row] = row_rstd;
    }
  }

 private:
  HR_DEVICE bool is_routed() const { return branch.inverse_permutation; }

  // The branch of a row from its routed rows: in `kept`, or in place of `sum` where the quad is not kept.
  HR_DEVICE void combine(int64_t row, Quad (&kept)[kHeld]) const {
    int held = 0;
    for (int column = 4 * Row::index(); column < width; column += 4 * kRowThreads, ++held) {
      Quad combined{};
      branch.add(row, column, combined);
      HR_UNROLL
      for (int i = 0; i < kHeld; ++i) {  // not kept[held]: registers have no index
        if (i == held) kept[i] = combined;
      }
      if (held >= kHeld) store_quad(sum + row * width + column, combined, width - column, aligned);
    }
  }

  // s += dropout(branch), stored as `sum`.
  HR_DEVICE void add_branch(int64_t at, int count, Quad branch_quad, Quad& s) const {
    mask.apply(at, branch_quad);
    HR_UNROLL
    for (int i = 0; i < 4; ++i) s.v[i] += branch_quad.v[i];
    store_quad(sum + at, s, count, aligned);
  }
};

template <int kRowThreads>
struct LayerNormBackwardKernel {
  static constexpr int kThreads = kReduceThreads;
  static constexpr int kMinBlocks = 2;
  using Row = RowThreads<kRowThreads>;
  static constexpr int kColumns = 4 * kHeld * kRowThreads;  // that the row's threads hold
  static constexpr size_t kSharedBytes = Row::kRows > 1 ? Row::kRows * 2 * kColumns * sizeof(float)
                                                        : Row::kSharedBytes;

  const float* d_y;     // [num_rows, width]
  const float* s;       // [num_rows, width]
  const float* mean;    // [num_rows]
  const float* rstd;    // [num_rows]
  const float* weight;  // [width]
  float* d_x;           // [num_rows, width]
  float* d_branch;      // [num_rows, width], or null
  float* parts;         // [num_ranges, 2, width] sums of d_weight and d_bias
  int64_t num_rows, range_rows;
  int width;
  bool accumulate;
  DropoutMask mask;
  bool aligned;

  struct Sums {
    Quad weight, bias;
  };

  HR_DEVICE void operator()() const {
    const int64_t begin = block_x() * range_rows;
    const int64_t end = begin + range_rows < num_rows ? begin + range_rows : num_rows;
    Sums sums[kHeld] = {};
    for (int64_t row = begin + Row::row(); row < end; row += Row::kRows) {
      differentiate(row, row == begin, sums);
    }
    store_sums(sums);
  }

 private:
  HR_DEVICE float* d_weight_part() const { return parts + int64_t{block_x()} * 2 * width; }
  HR_DEVICE float* d_bias_part() const { return d_weight_part() + width; }

  HR_DEVICE void differentiate(int64_t row, bool is_first, Sums (&sums)[kHeld]) const {
    const int64_t first = row * width;
    const float row_mean = mean[row], row_rstd = rstd[row];
    Quad kept_x_hat[kHeld], kept_g[kHeld];

    const auto x_hat_of = [&](int column) {
      Quad x_hat = load_quad(s + first + column, width - column, aligned);
      HR_UNROLL
      for (int i = 0; i < 4; ++i) x_hat.v[i] = (x_hat.v[i] - row_mean) * row_rstd;
      return x_hat;
    };
    const auto times_weight = [&](int column, Quad gradient) {
      const Quad w = load_quad(weight + column, width - column, aligned);
      HR_UNROLL
      for (int i = 0; i < 4; ++i) gradient.v[i] *= w.v[i];
      return gradient;
    };

    float sum_g = 0, sum_gx = 0;
    for_quads_of_row<kRowThreads>(width, [&](int column, int held) {
      const Quad x_hat = x_hat_of(column);
      const Quad gradient = load_quad(d_y + first + column, width - column, aligned);
      const Quad g = times_weight(column, gradient);
      Sums sum = {};
      if (held < kHeld) {
        sum = sums[held];
      } else if (!is_first) {
        sum = {load_quad(d_weight_part() + column, width - column, false),
               load_quad(d_bias_part() + column, width - column, false)};
      }
      HR_UNROLL
      for (int i = 0; i < 4; ++i) {  // 0 past the end: gradient is
        sum_g += g.v[i];
        sum_gx = fma(g.v[i], x_hat.v[i], sum_gx);
        sum.weight.v[i] = fma(gradient.v[i], x_hat.v[i], sum.weight.v[i]);
        sum.bias.v[i] += gradient.v[i];
      }
      if (held < kHeld) {
        kept_x_hat[held] = x_hat;
        kept_g[held] = g;
        sums[held] = sum;
      } else {
        store_quad(d_weight_part() + column, sum.weight, width - column, false);
        store_quad(d_bias_part() + column, sum.bias, width - column, false);
      }
    });
    const float mean_g = Row::sum(sum_g) / static_cast<float>(width);
    const float mean_gx = Row::sum(sum_gx) / static_cast<float>(width);

    for_quads_of_row<kRowThreads>(width, [&](int column, int held) {
      const int64_t at = first + column;
      const int count = width - column;
      const Quad x_hat = held < kHeld ? kept_x_hat[held] : x_hat_of(column);
      Quad d_s = held < kHeld ? kept_g[held] : times_weight(column, load_quad(d_y + at, count, aligned));
      HR_UNROLL
      for (int i = 0; i < 4; ++i) d_s.v[i] = row_rstd * (d_s.v[i] - mean_g - x_hat.v[i] * mean_gx);
      Quad gradient = d_s;
      if (accumulate) {
        const Quad before = load_quad(d_x + at, count, aligned);
        HR_UNROLL
        for (int i = 0; i < 4; ++i) gradient.v[i] += before.v[i];
      }
      store_quad(d_x + at, gradient, count, aligned);
      if (!d_branch) return;
      mask.apply(at, d_s);
      store_quad(d_branch + at, d_s, count, aligned);
    });
  }

  HR_DEVICE void store_sums(const Sums (&sums)[kHeld]) const {
    if constexpr (Row::kRows == 1) {
      HR_UNROLL
      for (int held = 0; held < kHeld; ++held) {
        const int column = 4 * (Row::index() + held * kRowThreads);
        store_quad(d_weight_part() + column, sums[held].weight, width - column, false);
        store_quad(d_bias_part() + column, sums[held].bias, width - column, false);
      }
    } else {
      float* of_rows = shared_memory<float>();  // [kRows, 2, kColumns]
      HR_UNROLL
      for (int held = 0; held < kHeld; ++held) {
        float* to = of_rows + Row::row() * 2 * kColumns + 4 * (Row::index() + held * kRowThreads);
        store_quad(to, sums[held].weight, 4, true);
        store_quad(to + kColumns, sums[held].bias, 4, true);
      }
      barrier();
      for (int column = thread_index(); column < width; column += kThreads) {
        float d_weight = 0, d_bias = 0;
        HR_UNROLL
        for (int row = 0; row < Row::kRows; ++row) {
          d_weight += of_rows[row * 2 * kColumns + column];
          d_bias += of_rows[(row * 2 + 1) * kColumns + column];
        }
        d_weight_part()[column] = d_weight;
        d_bias_part()[column] = d_bias;
      }
    }
  }
};

constexpr int64_t kMostRanges = 256;  // of rows: two blocks on each multiprocessor of a large GPU

template <typename... Tensors>
bool all_aligned(int64_t width, const Tensors&... tensors) {
  return width % 4 == 0 && (is_aligned16(tensors.data) && ...);
}

template <int kRowThreads>
void normalise(Context& ctx, const LayerNormParams& p) {
  const int64_t num_rows = p.x.shape[0], width = p.x.shape[1];
  using Kernel = LayerNormKernel<kRowThreads>;
  const bool aligned = all_aligned(width, p.x, p.branch, p.weight, p.bias, p.y, p.sum);
  const RoutedRows branch{p.branch.as<float>(), p.inverse_permutation.as<int32_t>(), static_cast<int>(width),
                          p.top_k, aligned};
  launch(ctx,
         Kernel{p.x.as<float>(), branch, p.weight.as<float>(), p.bias.as<float>(), p.y.as<float>(),
                p.sum.as<float>(), p.mean.as<float>(), p.rstd.as<float>(), num_rows, static_cast<int>(width),
                static_cast<float>(p.eps), DropoutMask(p.dropout, p.seed, p.call), aligned},
         {ceil_div(num_rows, Kernel::Row::kRows)}, Kernel::Row::kSharedBytes);
}

template <int kRowThreads>
void differentiate(Context& ctx, const LayerNormBackwardParams& p) {
  const int64_t num_rows = p.s.shape[0], width = p.s.shape[1];
  using Kernel = LayerNormBackwardKernel<kRowThreads>;
  const int64_t range_rows =
      ceil_div(ceil_div(num_rows, kMostRanges), Kernel::Row::kRows) * Kernel::Row::kRows;
  const int64_t num_ranges = ceil_div(num_rows, range_rows);
  float* parts = ctx.workspace<float>(num_ranges * 2 * width);
  launch(ctx,
         Kernel{p.d_y.as<float>(), p.s.as<float>(), p.mean.as<float>(), p.rstd.as<float>(),
                p.weight.as<float>(), p.d_x.as<float>(), p.d_branch.as<float>(), parts, num_rows, range_rows,
                static_cast<int>(width), p.accumulate, DropoutMask(p.dropout, p.seed, p.call),
                all_aligned(width, p.d_y, p.s, p.weight, p.d_x, p.d_branch)},
         {num_ranges}, Kernel::kSharedBytes);
  sum_columns(ctx, {parts, num_ranges, 2 * width, 2 * width},
              {p.d_weight.as<float>(), p.d_bias.as<float>(), width, /*accumulate=*/true});
}

}  // namespace

void layer_norm(Context& ctx, const LayerNormParams& p) {
  if (p.inverse_permutation) {
    const int64_t num_routed = p.inverse_permutation.shape[0];
    check_indices(ctx, "layer_norm", "inverse_permutation", p.inverse_permutation.as<int32_t>(), num_routed,
                  -1, num_routed - 1);
  }
  p.x.shape[1] <= kWideRow ? normalise<kWarpSize>(ctx, p) : normalise<kReduceThreads>(ctx, p);
}

void layer_norm_backward(Context& ctx, const LayerNormBackwardParams& p) {
  p.s.shape[1] <= kWideRow ? differentiate<kWarpSize>(ctx, p) : differentiate<kReduceThreads>(ctx, p);
}

}  // namespace hr::cuda
