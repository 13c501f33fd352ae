// row_reduce: sums and maxima over the threads of a row, in one order, the same bits in all of them.
#pragma once

#include "cuda/launch.h"

namespace hr::cuda {

inline constexpr int kReduceThreads = 256;  // of a block
inline constexpr int kReduceWarps = kReduceThreads / kWarpSize;

struct SumOf {
  template <typename T>
  static HR_DEVICE T combine(T a, T b) {
    return a + b;
  }
};
struct MaximumOf {  // of numbers: NaN is passed over
  template <typename T>
  static HR_DEVICE T combine(T a, T b) {
    return b > a ? b : a;
  }
};

template <typename Op, typename T>
HR_DEVICE T reduce_warp(T x) {
  HR_UNROLL
  for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2) x = Op::combine(x, warp_shuffle_xor(x, lanes));
  return x;
}

// All threads of the block. Uses shared memory 0 .. kReduceWarps · sizeof(T).
template <typename Op, typename T>
HR_DEVICE T reduce_block(T x) {
  T* of_warps = shared_memory<T>();
  x = reduce_warp<Op>(x);
  if (lane_index() == 0) of_warps[warp_index()] = x;
  barrier();
  x = of_warps[0];
  HR_UNROLL
  for (int warp = 1; warp < kReduceWarps; ++warp) x = Op::combine(x, of_warps[warp]);
  barrier();  // before the memory is used again
  return x;
}

// How a block divides rows among its threads: a row is for a warp, or for the whole block.
template <int kRowThreads>
struct RowThreads {
  static_assert(kRowThreads == kWarpSize || kRowThreads == kReduceThreads);
  static constexpr int kRows = kReduceThreads / kRowThreads;  // that a block works on at a time
  static constexpr size_t kSharedBytes = kRows == 1 ? kReduceWarps * sizeof(double) : 0;

  static HR_DEVICE int row() { return thread_index() / kRowThreads; }    // of the block's rows
  static HR_DEVICE int index() { return thread_index() % kRowThreads; }  // of the row's threads

  template <typename Op, typename T>
  static HR_DEVICE T reduce(T x) {
    if constexpr (kRows == 1) {
      return reduce_block<Op>(x);
    } else {
      return reduce_warp<Op>(x);
    }
  }
  template <typename T>
  static HR_DEVICE T sum(T x) {
    return reduce<SumOf>(x);
  }
};

}  // namespace hr::cuda
