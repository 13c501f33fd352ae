// warp_counts: counting among the lanes of a warp. For whole warps.
#pragma once

#include <cstdint>

#include "cuda/intrinsics.h"

namespace hr::cuda {

// The lanes below this one.
HR_DEVICE uint32_t lanes_before() { return (1u << lane_index()) - 1; }

// Is this the first lane of a set that it belongs to?
HR_DEVICE bool is_first(uint32_t lanes) { return (lanes & lanes_before()) == 0; }

// The lanes with `counts` whose key is this one's. Keys have `bits` bits.
HR_DEVICE uint32_t lanes_with_key(int32_t key, int bits, bool counts) {
  uint32_t same = warp_ballot(counts);
  for (int bit = 0; bit < bits; ++bit) {
    const bool set = key >> bit & 1;
    const uint32_t lanes = warp_ballot(set);
    same &= set ? lanes : ~lanes;
  }
  return same;
}

// The sum of x over the lanes up to this one.
HR_DEVICE int32_t sum_up_to_lane(int32_t x) {
  HR_UNROLL
  for (int lanes = 1; lanes < kWarpSize; lanes *= 2) {
    const int32_t before = warp_shuffle(x, (lane_index() + kWarpSize - lanes) % kWarpSize);
    if (lane_index() >= lanes) x += before;
  }
  return x;
}

}  // namespace hr::cuda
