#include "cuda/kernels/index_check.h"

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

// One warp, as every warp reads all entries.
struct RisingCheckKernel {
  static constexpr int kThreads = kWarpSize;
  IndexFailure fail;
  RisingEntries entries;

  HR_DEVICE void operator()() const { entries.check(fail); }
};

void launch_index_check(Context& ctx, const char* op, const char* arg, const int32_t* indices, int64_t n,
                        int64_t low, int64_t high, const int32_t* end) {
  if (n > kMostEntries) throw Error(ErrorKind::unsupported, op, arg, "more than 2^32 indices on a GPU");
  launch(ctx, IndexCheckKernel{IndexFailure::next_launch(ctx, op, arg), indices, n, low, high, end},
         blocks_for(ctx, n, 4 * IndexCheckKernel::kThreads));
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

void check_rising(Context& ctx, const char* op, const char* arg, const RisingEntries& entries) {
  launch(ctx, RisingCheckKernel{IndexFailure::next_launch(ctx, op, arg), entries}, {1});
}

}  // namespace hr::cuda
