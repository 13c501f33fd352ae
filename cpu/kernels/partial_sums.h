// partial_sums: sums over many elements or rows, cut into blocks whose results are added in block order.
#pragma once

#include "cpu/kernels/parallel.h"

namespace hr::HR_ISA_NAMESPACE {

// The sum of block_sum(begin, end), or block_sum(begin, end, scratch), over the blocks of `size` of 0 .. n
// - 1.
template <typename Fn>
HR_INLINE double sum_blocks(Context& ctx, int64_t n, int64_t size, Fn&& block_sum) {
  const int64_t num_blocks = ceil_div(n, size);
  Scratch::Frame frame(ctx.workspace);
  double* partial = ctx.workspace.take<double>(static_cast<size_t>(num_blocks));
  for_ranges(ctx, n, size, [&](int64_t begin, int64_t end, Scratch& scratch) {
    if constexpr (requires { block_sum(begin, end, scratch); }) {
      partial[begin / size] = block_sum(begin, end, scratch);
    } else {
      partial[begin / size] = block_sum(begin, end);
    }
  });
  double sum = 0;
  for (int64_t block = 0; block < num_blocks; ++block) sum += partial[block];
  return sum;
}

// out[j] (+)= Σ_block partial[block, j] for the width columns.
HR_INLINE void add_block_rows(Context& ctx, const Real* partial, int64_t num_blocks, int64_t stride,
                              int64_t width, Real* out, bool accumulate) {
  for_ranges(ctx, width, rows_per_task(num_blocks), [&](int64_t begin, int64_t end) {
    if (!accumulate) {
      for (int64_t j = begin; j < end; ++j) out[j] = 0;
    }
    for (int64_t block = 0; block < num_blocks; ++block) {
      const Real* row = partial + block * stride;
#pragma omp simd
      for (int64_t j = begin; j < end; ++j) out[j] += row[j];
    }
  });
}

}  // namespace hr::HR_ISA_NAMESPACE
