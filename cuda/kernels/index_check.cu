#include "cuda/kernels/index_check.h"

#include "cuda/launch.h"

namespace hr::cuda {

namespace {

// Positions have 32 bits of the record's entry.
constexpr int64_t kMostEntries = int64_t{1} << 32;

struct Failing {
  FailureRecord* record;
  uint64_t ticket;  // of the launch that checks
  const char* op;
  const char* arg;

  static Failing next_launch(Context& ctx, const char* op, const char* arg) {
    return {ctx.failure, ctx.last_ticket() + 1, op, arg};
  }

  // Of several calls in one launch the one for the lowest position counts; low and high must be the same.
  HR_DEVICE void operator()(int64_t position, int32_t value, int64_t low, int64_t high) const {
    atomic_min(&record->entry, static_cast<uint64_t>(position) << 32 | static_cast<uint32_t>(value));
    record->op = op;
    record->arg = arg;
    record->low = low;
    record->high = high;
    record->ticket = ticket;
  }
};

struct IndexCheckKernel {
  static constexpr int kThreads = 256;
  Failing fail;
  const int32_t* indices;  // [n]
  int64_t n, low, high;

  HR_DEVICE void operator()() const {
    const int64_t step = int64_t{num_blocks_x()} * kThreads;
    for (int64_t i = int64_t{block_x()} * kThreads + thread_index(); i < n; i += step) {
      const int32_t value = indices[i];
      if (value < low || value > high) fail(i, value, low, high);
    }
  }
};

// One warp: which entries are right depends on the one before.
struct OffsetsCheckKernel {
  static constexpr int kThreads = kWarpSize;
  Failing fail;
  const int32_t* offsets;  // [num_experts + 1]
  int32_t num_experts, num_routed;

  HR_DEVICE void operator()() const {
    int32_t first_bad = num_experts + 1;
    for (int32_t i = num_experts - lane_index(); i >= 0; i -= kWarpSize) {
      if (is_bad(i)) first_bad = i;
    }
    for (int lanes = 1; lanes < kWarpSize; lanes *= 2) {
      const int32_t other = warp_shuffle_xor(first_bad, lanes);
      if (other < first_bad) first_bad = other;
    }
    if (first_bad <= num_experts && lane_index() == 0) {
      fail(first_bad, offsets[first_bad], low(first_bad), high(first_bad));
    }
  }

  HR_DEVICE int32_t low(int32_t i) const { return i > 0 ? offsets[i - 1] : 0; }
  HR_DEVICE int32_t high(int32_t i) const { return i > 0 ? num_routed : 0; }
  HR_DEVICE bool is_bad(int32_t i) const { return offsets[i] < low(i) || offsets[i] > high(i); }
};

}  // namespace

void check_indices(Context& ctx, const char* op, const char* arg, const int32_t* indices, int64_t n, int64_t low,
                   int64_t high) {
  if (n > kMostEntries) throw Error(ErrorKind::unsupported, op, arg, "more than 2^32 indices on a GPU");
  launch(ctx, IndexCheckKernel{Failing::next_launch(ctx, op, arg), indices, n, low, high},
         blocks_for(ctx, n, 4 * IndexCheckKernel::kThreads));
}

void check_offsets(Context& ctx, const char* op, const int32_t* offsets, int64_t num_experts,
                   int64_t num_routed) {
  launch(ctx,
         OffsetsCheckKernel{Failing::next_launch(ctx, op, "expert_offsets"), offsets,
                            static_cast<int32_t>(num_experts), static_cast<int32_t>(num_routed)},
         {1});
}

}  // namespace hr::cuda
