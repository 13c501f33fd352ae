// stable order by a radix sort: one pass for each byte of the largest key, the lowest first.
//
//   a pass   count    how many of each digit are in each tile of kTilePositions positions
//            offsets  exclusive sums over digits, then tiles: where each tile puts its first of each digit
//            scatter  every position behind those of its digit that come before it
//   bytes    keys read twice, order read and written once a pass: a few µs, bound by launches
//   exact    integers only; nothing depends on which thread comes first
#include "cuda/kernels/stable_order.h"
#include "cuda/kernels/warp_counts.h"
#include "cuda/launch.h"

namespace hr::cuda {

namespace {

constexpr int kDigits = 256, kDigitBits = 8;
constexpr int kOrderThreads = kDigits;
constexpr int kWarps = kOrderThreads / kWarpSize;
constexpr int kRounds = 4;  // positions of a thread
constexpr int kTilePositions = kOrderThreads * kRounds;
constexpr int kWarpPositions = kWarpSize * kRounds;

// One pass over positions in an order.
struct Pass {
  const int32_t* keys;   // [n]
  const int32_t* order;  // [n], or null: as they are
  int32_t n;
  int shift;

  HR_DEVICE int32_t position(int32_t i) const { return order ? order[i] : i; }
  HR_DEVICE int digit(int32_t position) const { return keys[position] >> shift & (kDigits - 1); }
};

struct CountDigitsKernel {
  static constexpr int kThreads = kOrderThreads;
  Pass pass;
  int32_t* counts;  // [num_tiles, kDigits]

  HR_DEVICE void operator()() const {
    int32_t* of_tile = shared_memory<int32_t>();  // [kDigits]
    of_tile[thread_index()] = 0;
    barrier();
    const int32_t first = block_x() * kTilePositions;
    for (int32_t i = first + thread_index(); i < first + kTilePositions && i < pass.n; i += kThreads) {
      atomic_add(&of_tile[pass.digit(pass.position(i))], 1);
    }
    barrier();
    counts[int64_t{block_x()} * kDigits + thread_index()] = of_tile[thread_index()];
  }
};

// One block, a digit a thread: counts become offsets.
struct DigitOffsetsKernel {
  static constexpr int kThreads = kOrderThreads;
  int32_t* counts;  // [num_tiles, kDigits]
  int32_t num_tiles;

  HR_DEVICE void operator()() const {
    int32_t* of_digit = counts + thread_index();
    int32_t total = 0;
    for (int32_t tile = 0; tile < num_tiles; ++tile) total += of_digit[int64_t{tile} * kDigits];
    int32_t offset = count_before(total);
    for (int32_t tile = 0; tile < num_tiles; ++tile) {
      const int32_t count = of_digit[int64_t{tile} * kDigits];
      of_digit[int64_t{tile} * kDigits] = offset;
      offset += count;
    }
  }

  // The sum of `total` of the threads before this one.
  HR_DEVICE int32_t count_before(int32_t total) const {
    const int32_t sum = sum_up_to_lane(total);
    int32_t* of_warps = shared_memory<int32_t>();
    if (lane_index() == kWarpSize - 1) of_warps[warp_index()] = sum;
    barrier();
    int32_t before = sum - total;
    for (int warp = 0; warp < warp_index(); ++warp) before += of_warps[warp];
    return before;
  }
};

struct ScatterKernel {
  static constexpr int kThreads = kOrderThreads;
  Pass pass;
  const int32_t* offsets;  // [num_tiles, kDigits]
  int32_t* sorted;         // [n]

  HR_DEVICE void operator()() const {
    int32_t* of_warps = shared_memory<int32_t>();  // [kWarps, kDigits] how many the warp has seen
    for (int warp = 0; warp < kWarps; ++warp) of_warps[warp * kDigits + thread_index()] = 0;
    barrier();

    // Ranks within the warp, whose positions are consecutive.
    int32_t* seen = of_warps + warp_index() * kDigits;
    const int32_t first = block_x() * kTilePositions + warp_index() * kWarpPositions + lane_index();
    int32_t positions[kRounds], ranks[kRounds];
    int digits[kRounds];
    HR_UNROLL
    for (int round = 0; round < kRounds; ++round) {
      const int32_t i = first + round * kWarpSize;
      const bool inside = i < pass.n;
      positions[round] = inside ? pass.position(i) : -1;
      digits[round] = inside ? pass.digit(positions[round]) : 0;
      const uint32_t same = lanes_with_key(digits[round], kDigitBits, inside);
      const int before = count_ones(same & lanes_before());
      ranks[round] = seen[digits[round]] + before;
      warp_barrier();
      if (inside && before == 0) seen[digits[round]] += count_ones(same);
      warp_barrier();
    }
    barrier();

    // Where each warp's first of a digit goes.
    int32_t offset = offsets[int64_t{block_x()} * kDigits + thread_index()];
    for (int warp = 0; warp < kWarps; ++warp) {
      int32_t& of_warp = of_warps[warp * kDigits + thread_index()];
      const int32_t count = of_warp;
      of_warp = offset;
      offset += count;
    }
    barrier();
    HR_UNROLL
    for (int round = 0; round < kRounds; ++round) {
      if (positions[round] >= 0) sorted[seen[digits[round]] + ranks[round]] = positions[round];
    }
  }
};

}  // namespace

const int32_t* stable_order(Context& ctx, const int32_t* keys, int64_t n, int64_t num_keys) {
  const int64_t num_tiles = ceil_div(n, kTilePositions);
  int32_t* counts = ctx.workspace<int32_t>(num_tiles * kDigits);
  int32_t* orders[] = {ctx.workspace<int32_t>(n), ctx.workspace<int32_t>(n)};
  Pass pass{keys, nullptr, static_cast<int32_t>(n), 0};
  for (int round = 0; round == 0 || (num_keys - 1) >> pass.shift > 0; ++round) {
    int32_t* sorted = orders[round % 2];
    launch(ctx, CountDigitsKernel{pass, counts}, {num_tiles}, kDigits * sizeof(int32_t));
    launch(ctx, DigitOffsetsKernel{counts, static_cast<int32_t>(num_tiles)}, {1}, kWarps * sizeof(int32_t));
    launch(ctx, ScatterKernel{pass, counts, sorted}, {num_tiles}, kWarps * kDigits * sizeof(int32_t));
    pass.order = sorted;
    pass.shift += kDigitBits;
  }
  return pass.order;
}

}  // namespace hr::cuda
