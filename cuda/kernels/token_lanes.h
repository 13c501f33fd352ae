// token_lanes: how the lanes of a warp share tokens whose experts they go through, and what they do together.
#pragma once

#include "cuda/kernels/row_reduce.h"

namespace hr::cuda {

// A token is for 1, 2, 4 .. 32 lanes: as many as it has experts, or the whole warp.
struct TokenLanes {
  int num_lanes;

  static TokenLanes for_experts(int64_t num_experts) {
    TokenLanes lanes{1};
    while (lanes.num_lanes < num_experts && lanes.num_lanes < kWarpSize) lanes.num_lanes *= 2;
    return lanes;
  }
  int64_t tokens(int num_threads) const { return num_threads / num_lanes; }  // of a block

  HR_DEVICE int token() const { return thread_index() / num_lanes; }  // of the block's tokens
  HR_DEVICE int index() const { return thread_index() % num_lanes; }  // of the token's lanes
  HR_DEVICE int first_lane() const { return lane_index() - index(); }

  // All lanes of the warp call it; those of a token get the same bits.
  template <typename Op, typename T>
  HR_DEVICE T reduce(T x) const {
    for (int lanes = num_lanes / 2; lanes > 0; lanes /= 2) x = Op::combine(x, warp_shuffle_xor(x, lanes));
    return x;
  }
};

}  // namespace hr::cuda
