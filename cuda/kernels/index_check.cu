#include "cuda/kernels/index_check.h"
#include "cuda/kernels/index_failure.h"
#include "cuda/launch.h"

namespace hr::cuda {

namespace {

// Positions have 32 bits of the record's entry.
constexpr int64_t kMostEntries = int64_t{1} << 32;

struct IndexCheckKernel {
  static constexpr int kThreads = 256;
  IndexFailure fail;
  const int32_t* indices;  // [n]
  int64_t n, low, high;
  const int32_t* end;  // [1] one past the highest, or null: it is `high`

  HR_DEVICE void operator()() const {
    const int64_t highest = end ? *end - int64_t{1} : high;
    const int64_t step = int64_t{num_blocks_x()} * kThreads;
    for (int64_t i = int64_t{block_x()} * kThreads + thread_index(); i < n; i += step) {
      const int32_t value = indices[i];
      if (value < low || value > highest) fail(i, value, low, highest);
    }
  }
};

// Entries that rise: each is at least the one before + min_step, and the first is `first`.
// One warp: which entries are right depends on the one before.
struct RisingCheckKernel {
  static constexpr int kThreads = kWarpSize;
  IndexFailure fail;
  const int32_t* entries;  // [n]
  int32_t n, first, min_step, highest;

  HR_DEVICE void operator()() const {
    int32_t first_bad = n;
    for (int32_t i = n - 1 - lane_index(); i >= 0; i -= kWarpSize) {
      if (entries[i] < low(i) || entries[i] > high(i)) first_bad = i;
    }
    for (int lanes = 1; lanes < kWarpSize; lanes *= 2) {
      const int32_t other = warp_shuffle_xor(first_bad, lanes);
      if (other < first_bad) first_bad = other;
    }
    if (first_bad < n && lane_index() == 0)
      fail(first_bad, entries[first_bad], low(first_bad), high(first_bad));
  }

  HR_DEVICE int64_t low(int32_t i) const { return i > 0 ? int64_t{entries[i - 1]} + min_step : first; }
  HR_DEVICE int64_t high(int32_t i) const { return i > 0 ? highest : first; }
};

void launch_index_check(Context& ctx, const char* op, const char* arg, const int32_t* indices, int64_t n,
                        int64_t low, int64_t high, const int32_t* end) {
  if (n > kMostEntries) throw Error(ErrorKind::unsupported, op, arg, "more than 2^32 indices on a GPU");
  launch(ctx, IndexCheckKernel{IndexFailure::next_launch(ctx, op, arg), indices, n, low, high, end},
         blocks_for(ctx, n, 4 * IndexCheckKernel::kThreads));
}

void launch_rising_check(Context& ctx, const char* op, const char* arg, const int32_t* entries, int64_t n,
                         int64_t first, int64_t min_step, int64_t highest) {
  launch(ctx,
         RisingCheckKernel{IndexFailure::next_launch(ctx, op, arg), entries, static_cast<int32_t>(n),
                           static_cast<int32_t>(first), static_cast<int32_t>(min_step),
                           static_cast<int32_t>(highest)},
         {1});
}

}  // namespace

void check_indices(Context& ctx, const char* op, const char* arg, const int32_t* indices, int64_t n,
                   int64_t low, int64_t high) {
  launch_index_check(ctx, op, arg, indices, n, low, high, nullptr);
}

void check_indices_below(Context& ctx, const char* op, const char* arg, const int32_t* indices, int64_t n,
                         const int32_t* end) {
  launch_index_check(ctx, op, arg, indices, n, 0, 0, end);
}

void check_offsets(Context& ctx, const char* op, const int32_t* offsets, int64_t num_experts,
                   int64_t num_routed, int64_t least_rows) {
  launch_rising_check(ctx, op, "expert_offsets", offsets, num_experts + 1, 0, least_rows, num_routed);
}

void check_cutoffs(Context& ctx, const char* op, const int32_t* cutoffs, int64_t n, int64_t first) {
  launch_rising_check(ctx, op, "cutoffs", cutoffs, n, first, 1, INT32_MAX);
}

}  // namespace hr::cuda
