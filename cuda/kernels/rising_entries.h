// rising_entries: offsets and cutoffs, each some steps above the one before.
#pragma once

#include "cuda/kernels/index_failure.h"

namespace hr::cuda {

struct RisingEntries {
  const int32_t* data;  // [n]
  int32_t n;
  int32_t first;     // what data[0] has to be
  int32_t min_step;  // from each to the next, at least
  int32_t highest;

  // Are all of them right? If not, the first that is wrong is refused. For whole warps: each reads all
  // entries, because which are right depends on those before.
  HR_DEVICE bool check(const IndexFailure& fail) const {
    int32_t bad = n;
    for (int32_t i = n - 1 - lane_index(); i >= 0; i -= kWarpSize) {
      if (data[i] < low(i) || data[i] > high(i)) bad = i;
    }
    for (int lanes = 1; lanes < kWarpSize; lanes *= 2) {
      const int32_t other = warp_shuffle_xor(bad, lanes);
      if (other < bad) bad = other;
    }
    if (bad < n && lane_index() == 0) fail(bad, data[bad], low(bad), high(bad));
    return bad == n;
  }

 private:
  HR_DEVICE int64_t low(int32_t i) const { return i > 0 ? int64_t{data[i - 1]} + min_step : first; }
  HR_DEVICE int64_t high(int32_t i) const { return i > 0 ? highest : first; }
};

// From the first row of an expert to that of the next: least_rows or more, num_routed in all at most.
inline RisingEntries rising_offsets(const int32_t* offsets, int64_t num_experts, int64_t num_routed,
                                    int64_t least_rows = 0) {
  return {offsets, static_cast<int32_t>(num_experts + 1), 0, static_cast<int32_t>(least_rows),
          static_cast<int32_t>(num_routed)};
}

// From the first column of a cluster to that of the next; the first ends at `first`.
inline RisingEntries rising_cutoffs(const int32_t* cutoffs, int64_t n, int64_t first) {
  return {cutoffs, static_cast<int32_t>(n), static_cast<int32_t>(first), 1, INT32_MAX};
}

}  // namespace hr::cuda
