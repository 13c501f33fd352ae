// layer_norm on the CPU: a task is a block of rows. Formulas: ops/layer_norm.h.
#include <cmath>

#include "cpu/kernel.h"
#include "ops/math/philox.h"

#include "cpu/kernels/index_check.h"
#include "cpu/kernels/partial_sums.h"
#include "cpu/kernels/philox_words.h"
#include "cpu/kernels/routed_rows.h"

namespace hr::HR_ISA_NAMESPACE {

namespace {

struct Moments {
  Real mean, variance;
};

// Two passes; the second also finds the rounding error of the first one's mean.
HR_INLINE Moments row_moments(const Real* s, int64_t d_model) {
  Real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < d_model; ++j) sum += s[j];
  const Real count = Real(d_model), rough_mean = sum / count;
  Real difference = 0, squares = 0;
#pragma omp simd reduction(+ : difference, squares)
  for (int64_t j = 0; j < d_model; ++j) {
    const Real centred = s[j] - rough_mean;
    difference += centred;
    squares += centred * centred;
  }
  const Real correction = difference / count;
  return {rough_mean + correction, squares / count - correction * correction};
}

// One row of the backward pass.
struct BackwardRow {
  const Real *d_y, *s, *weight;
  Real mean, rstd;
  int64_t d_model;

  HR_INLINE Real x_hat(int64_t j) const { return (s[j] - mean) * rstd; }
  HR_INLINE Real g(int64_t j) const { return d_y[j] * weight[j]; }
};

struct RowMeans {
  Real g, gx;  // mean(g), mean(g·x^)
};

// Rows come by value: their fields would otherwise be read again after each store.
RowMeans add_weight_gradients(BackwardRow row, Real* d_weight, Real* d_bias) {
  Real sum_g = 0, sum_gx = 0;
#pragma omp simd reduction(+ : sum_g, sum_gx)
  for (int64_t j = 0; j < row.d_model; ++j) {
    sum_g += row.g(j);
    sum_gx += row.g(j) * row.x_hat(j);
    d_weight[j] += row.d_y[j] * row.x_hat(j);
    d_bias[j] += row.d_y[j];
  }
  return {sum_g / Real(row.d_model), sum_gx / Real(row.d_model)};
}

// d_s, and d_x (+)= d_s.
void row_gradient(BackwardRow row, RowMeans mean, bool accumulate, Real* d_s, Real* d_x) {
#pragma omp simd
  for (int64_t j = 0; j < row.d_model; ++j) {
    d_s[j] = row.rstd * (row.g(j) - mean.g - row.x_hat(j) * mean.gx);
    d_x[j] = accumulate ? d_x[j] + d_s[j] : d_s[j];
  }
}

}  // namespace

void layer_norm(Context& ctx, const LayerNormParams& p) {
  const Real* weight = p.weight.as<Real>();
  const Real* bias = p.bias.as<Real>();
  const int32_t* inverse_permutation = p.inverse_permutation.as<int32_t>();
  const int64_t num_rows = p.x.shape[0], d_model = p.x.shape[1];
  const DropoutMask mask(p.dropout, p.seed, p.call);
  const RoutedRows routed{p.branch.as<Real>(), inverse_permutation, p.top_k, d_model};
  if (inverse_permutation) {
    const int64_t num_routed = num_rows * p.top_k;
    check_indices("layer_norm", "inverse_permutation", inverse_permutation, num_routed, -1, num_routed - 1);
  }
  for_ranges(ctx, num_rows, rows_per_task(d_model * p.top_k), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = row * d_model;
      const Real* s = p.x.as<Real>() + first;
      if (p.branch) {
        Real* sum = p.sum.as<Real>() + first;
        if (inverse_permutation) routed.sum(row, /*accumulate=*/false, sum);
        const Real* branch = inverse_permutation ? sum : p.branch.as<Real>() + first;
        apply_dropout(mask, first, d_model, branch, s, sum);
        s = sum;
      }
      const auto [mean, variance] = row_moments(s, d_model);
      const Real rstd = 1 / std::sqrt(variance + Real(p.eps));
      Real* y = p.y.as<Real>() + first;
#pragma omp simd
      for (int64_t j = 0; j < d_model; ++j) y[j] = (s[j] - mean) * rstd * weight[j] + bias[j];
      p.mean.as<Real>()[row] = mean;
      p.rstd.as<Real>()[row] = rstd;
    }
  });
}

void layer_norm_backward(Context& ctx, const LayerNormBackwardParams& p) {
  const int64_t num_rows = p.s.shape[0], d_model = p.s.shape[1];
  const int64_t block_rows = rows_per_task(d_model);
  const int64_t num_blocks = ceil_div(num_rows, block_rows);
  const DropoutMask mask(p.dropout, p.seed, p.call);

  Scratch::Frame frame(ctx.workspace);
  Real* partial = ctx.workspace.take<Real>(static_cast<size_t>(num_blocks * 2 * d_model));
  for_ranges(ctx, num_rows, block_rows, [&](int64_t begin, int64_t end, Scratch& scratch) {
    Real* d_weight = partial + begin / block_rows * 2 * d_model;
    Real* d_bias = d_weight + d_model;
    for (int64_t j = 0; j < 2 * d_model; ++j) d_weight[j] = 0;
    Real* d_s_row = scratch.take<Real>(static_cast<size_t>(d_model));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * d_model;
      const BackwardRow row{p.d_y.as<Real>() + first, p.s.as<Real>() + first, p.weight.as<Real>(),
                            p.mean.as<Real>()[i],     p.rstd.as<Real>()[i],   d_model};
      const RowMeans mean = add_weight_gradients(row, d_weight, d_bias);
      Real* d_s = p.d_branch ? p.d_branch.as<Real>() + first : d_s_row;
      row_gradient(row, mean, p.accumulate, d_s, p.d_x.as<Real>() + first);
      if (p.dropout > 0) apply_dropout(mask, first, d_model, d_s, nullptr, d_s);
    }
  });
  add_block_rows(ctx, partial, num_blocks, 2 * d_model, d_model, p.d_weight.as<Real>(), true);
  add_block_rows(ctx, partial + d_model, num_blocks, 2 * d_model, d_model, p.d_bias.as<Real>(), true);
}

}  // namespace hr::HR_ISA_NAMESPACE
