// layer_norm on the CPU: a task is a block of rows. Formulas: ops/layer_norm.h.
#include <cmath>

#include "cpu/kernel.h"
#include "ops/math/philox.h"

#include "cpu/kernels/partial_sums.h"
#include "cpu/kernels/philox_words.h"

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

}  // namespace

void layer_norm(Context& ctx, const LayerNormParams& p) {
  const Real* weight = p.weight.as<Real>();
  const Real* bias = p.bias.as<Real>();
  const int64_t num_rows = p.x.shape[0], d_model = p.x.shape[1];
  const DropoutMask mask(p.dropout, p.seed, p.call);
  for_ranges(ctx, num_rows, rows_per_task(d_model), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = row * d_model;
      const Real* s = p.x.as<Real>() + first;
      if (p.branch) {
        Real* sum = p.sum.as<Real>() + first;
        apply_dropout(mask, first, d_model, p.branch.as<Real>() + first, s, sum);
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
  const Real* weight = p.weight.as<Real>();
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
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = row * d_model;
      const Real* d_y = p.d_y.as<Real>() + first;
      const Real* s = p.s.as<Real>() + first;
      const Real mean = p.mean.as<Real>()[row], rstd = p.rstd.as<Real>()[row];
      Real sum_g = 0, sum_gx = 0;
#pragma omp simd reduction(+ : sum_g, sum_gx)
      for (int64_t j = 0; j < d_model; ++j) {
        const Real x_hat = (s[j] - mean) * rstd;
        const Real g = d_y[j] * weight[j];
        sum_g += g;
        sum_gx += g * x_hat;
        d_weight[j] += d_y[j] * x_hat;
        d_bias[j] += d_y[j];
      }
      const Real mean_g = sum_g / Real(d_model), mean_gx = sum_gx / Real(d_model);
      Real* d_s = p.d_branch ? p.d_branch.as<Real>() + first : d_s_row;
      Real* d_x = p.d_x.as<Real>() + first;
#pragma omp simd
      for (int64_t j = 0; j < d_model; ++j) {
        const Real x_hat = (s[j] - mean) * rstd;
        d_s[j] = rstd * (d_y[j] * weight[j] - mean_g - x_hat * mean_gx);
        d_x[j] = p.accumulate ? d_x[j] + d_s[j] : d_s[j];
      }
      if (p.dropout > 0) apply_dropout(mask, first, d_model, d_s, nullptr, d_s);
    }
  });
  add_block_rows(ctx, partial, num_blocks, 2 * d_model, d_model, p.d_weight.as<Real>(), true);
  add_block_rows(ctx, partial + d_model, num_blocks, 2 * d_model, d_model, p.d_bias.as<Real>(), true);
}

}  // namespace hr::HR_ISA_NAMESPACE
