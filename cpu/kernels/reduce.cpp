// reductions on the CPU. Blocks of kTaskElements are summed in double and added in block order.
#include <cmath>

#include "cpu/kernel.h"

#include "cpu/kernels/partial_sums.h"

namespace hr::HR_ISA_NAMESPACE {

namespace {

double sum_of(const Real* x, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]);
  return sum;
}

double sum_of_squares(const Real* x, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

double num_non_finite(const Real* x, int64_t n) {
  int32_t count = 0;
#pragma omp simd reduction(+ : count)
  for (int64_t i = 0; i < n; ++i) count += x[i] - x[i] == 0 ? 0 : 1;
  return count;
}

// The sum of block_sum(x, n) over the blocks of x.
double sum_tensor(Context& ctx, const In& x, double (*block_sum)(const Real* x, int64_t n)) {
  const Real* data = x.as<Real>();
  return sum_blocks(ctx, x.size(), kTaskElements,
                    [&](int64_t begin, int64_t end) { return block_sum(data + begin, end - begin); });
}

// sums[j] = Σ_row x[row, j]
void sum_rows(const Real* x, int64_t num_rows, int64_t n, Real* sums) {
  for (int64_t j = 0; j < n; ++j) sums[j] = x[j];
  for (int64_t row = 1; row < num_rows; ++row) {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) sums[j] += x[row * n + j];
  }
}

}  // namespace

void reduce_sum(Context& ctx, const ReduceSumParams& p) {
  *p.out.as<Real>() = Real(p.scale * sum_tensor(ctx, p.x, sum_of));
}

void reduce_rows(Context& ctx, const ReduceRowsParams& p) {
  const int64_t num_rows = p.x.shape[0], n = p.x.shape[1];
  const int64_t block_rows = rows_per_task(n);
  const int64_t num_blocks = ceil_div(num_rows, block_rows);
  Scratch::Frame frame(ctx.workspace);
  Real* partial = ctx.workspace.take<Real>(static_cast<size_t>(num_blocks * n));
  for_ranges(ctx, num_rows, block_rows, [&](int64_t begin, int64_t end) {
    sum_rows(p.x.as<Real>() + begin * n, end - begin, n, partial + begin / block_rows * n);
  });
  add_block_rows(ctx, partial, num_blocks, n, n, p.out.as<Real>(), p.accumulate);
}

void sum_squares(Context& ctx, const SumSquaresParams& p) {
  Real* out = p.out.as<Real>();
  const double before = p.accumulate ? static_cast<double>(*out) : 0;
  *out = Real(before + sum_tensor(ctx, p.x, sum_of_squares));
}

void clip_factor(Context&, const ClipFactorParams& p) {
  const double norm = std::sqrt(static_cast<double>(*p.sum_squares.as<Real>()));
  const double factor = p.max_norm / (norm + 1e-6);
  *p.norm.as<Real>() = Real(norm);
  *p.factor.as<Real>() = p.max_norm == 0 || factor > 1 ? Real(1) : Real(factor);  // NaN stays NaN
}

void count_non_finite(Context& ctx, const CountNonFiniteParams& p) {
  const double count = sum_tensor(ctx, p.x, num_non_finite);
  *p.out.as<int32_t>() = count < INT32_MAX ? static_cast<int32_t>(count) : INT32_MAX;
}

}  // namespace hr::HR_ISA_NAMESPACE
