// block_sums: a sum over everything takes two launches. In the first, each block sums its part, in double;
// the second, here, adds those up and does something with the total.
#pragma once

#include "cuda/kernels/row_reduce.h"
#include "cuda/launch.h"

namespace hr::cuda {

inline constexpr int64_t kMostSumBlocks = 1024;
inline constexpr size_t kBlockSumBytes = kReduceWarps * sizeof(double);  // of shared memory, for reduce_block

// finish(Σ of_blocks), by one thread
template <typename Finish>
struct FinishSumKernel {
  static constexpr int kThreads = kReduceThreads;
  const double* of_blocks;  // [num_blocks]
  int64_t num_blocks;
  Finish finish;

  HR_DEVICE void operator()() const {
    double sum = 0;
    for (int64_t block = thread_index(); block < num_blocks; block += kThreads) sum += of_blocks[block];
    sum = reduce_block<SumOf>(sum);
    if (thread_index() == 0) finish(sum);
  }
};

template <typename Finish>
void finish_sum(Context& ctx, const double* of_blocks, int64_t num_blocks, const Finish& finish) {
  launch(ctx, FinishSumKernel<Finish>{of_blocks, num_blocks, finish}, {1}, kBlockSumBytes);
}

struct StoreScaled {
  float* out;
  double scale;
  HR_DEVICE void operator()(double sum) const { *out = static_cast<float>(scale * sum); }
};

}  // namespace hr::cuda
