// reductions on the CPU. Blocks of kTaskElements are summed in double and added in block order.
#include <cmath>

#include "cpu/kernel.h"

#include "cpu/kernels/partial_sums.h"

namespace hr::HR_ISA_NAMESPACE {

void reduce_sum(Context& ctx, const ReduceSumParams& p) {
  const Real* x = p.x.as<Real>();
  const double sum = sum_blocks(ctx, p.x.size(), kTaskElements, [&](int64_t begin, int64_t end) {
    double block_sum = 0;
#pragma omp simd reduction(+ : block_sum)
    for (int64_t i = begin; i < end; ++i) block_sum += static_cast<double>(x[i]);
    return block_sum;
  });
  *p.out.as<Real>() = Real(p.scale * sum);
}

void reduce_rows(Context& ctx, const ReduceRowsParams& p) {
  const Real* x = p.x.as<Real>();
  const int64_t num_rows = p.x.shape[0], n = p.x.shape[1];
  const int64_t block_rows = rows_per_task(n);
  const int64_t num_blocks = ceil_div(num_rows, block_rows);
  Scratch::Frame frame(ctx.workspace);
  Real* partial = ctx.workspace.take<Real>(static_cast<size_t>(num_blocks * n));
  for_ranges(ctx, num_rows, block_rows, [&](int64_t begin, int64_t end) {
    Real* sums = partial + begin / block_rows * n;
    for (int64_t j = 0; j < n; ++j) sums[j] = x[begin * n + j];
    for (int64_t row = begin + 1; row < end; ++row) {
      const Real* x_row = x + row * n;
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) sums[j] += x_row[j];
    }
  });
  add_block_rows(ctx, partial, num_blocks, n, n, p.out.as<Real>(), p.accumulate);
}

void sum_squares(Context& ctx, const SumSquaresParams& p) {
  const Real* x = p.x.as<Real>();
  double sum = sum_blocks(ctx, p.x.size(), kTaskElements, [&](int64_t begin, int64_t end) {
    double block_sum = 0;
#pragma omp simd reduction(+ : block_sum)
    for (int64_t i = begin; i < end; ++i) block_sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    return block_sum;
  });
  Real* out = p.out.as<Real>();
  if (p.accumulate) sum += static_cast<double>(*out);
  *out = Real(sum);
}

void clip_factor(Context&, const ClipFactorParams& p) {
  const double norm = std::sqrt(static_cast<double>(*p.sum_squares.as<Real>()));
  const double factor = p.max_norm / (norm + 1e-6);
  *p.norm.as<Real>() = Real(norm);
  *p.factor.as<Real>() = p.max_norm == 0 || factor > 1 ? Real(1) : Real(factor);  // NaN stays NaN
}

void count_non_finite(Context& ctx, const CountNonFiniteParams& p) {
  const Real* x = p.x.as<Real>();
  const double count = sum_blocks(ctx, p.x.size(), kTaskElements, [&](int64_t begin, int64_t end) {
    int32_t block_count = 0;
#pragma omp simd reduction(+ : block_count)
    for (int64_t i = begin; i < end; ++i) block_count += x[i] - x[i] == 0 ? 0 : 1;
    return static_cast<double>(block_count);
  });
  *p.out.as<int32_t>() = count < INT32_MAX ? static_cast<int32_t>(count) : INT32_MAX;
}

}  // namespace hr::HR_ISA_NAMESPACE
