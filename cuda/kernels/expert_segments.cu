#include "cuda/kernels/expert_segments.h"
#include "cuda/kernels/rising_entries.h"

namespace hr::cuda {

namespace {

// Checks offsets and permutation, and prepares what products read of each row again and again.
struct RoutedRowsKernel {
  static constexpr int kThreads = kElementThreads;
  IndexFailure bad_offset, bad_flat_index;
  RisingEntries offsets;       // [num_experts + 1]
  const int32_t* permutation;  // [num_routed]
  const float* row_scale;      // [num_routed], by flat index, or null
  int32_t* tokens;             // [num_routed]
  float* scales;               // [num_routed], by row
  int32_t num_routed, top_k;

  HR_DEVICE void operator()() const {
    if (!offsets.check(bad_offset)) return;  // in all warps: none refuses the permutation as well
    const int32_t num_rows = offsets.data[offsets.n - 1];
    for_elements(num_rows, false, [&](int64_t row, auto) {
      const int32_t f = permutation[row];
      if (f < 0 || f >= num_routed) return bad_flat_index(row, f, 0, num_routed - 1);
      tokens[row] = f / top_k;
      if (row_scale) scales[row] = row_scale[f];
    });
  }
};

}  // namespace

Segments find_segments(Context& ctx, const char* op, const In& permutation, const In& expert_offsets,
                       int32_t top_k, const float* row_scale, int64_t least_rows) {
  const int32_t *offsets = expert_offsets.as<int32_t>(), *flat_indices = permutation.as<int32_t>();
  const int32_t num_experts = static_cast<int32_t>(expert_offsets.shape[0] - 1);
  const int32_t num_routed = static_cast<int32_t>(permutation.shape[0]);
  int32_t* tokens = ctx.workspace<int32_t>(num_routed);
  float* scales = row_scale ? ctx.workspace<float>(num_routed) : nullptr;
  launch(ctx,
         RoutedRowsKernel{IndexFailure::next_launch(ctx, op, "expert_offsets"),
                          IndexFailure::next_launch(ctx, op, "permutation"),
                          rising_offsets(offsets, num_experts, num_routed, least_rows), flat_indices,
                          row_scale, tokens, scales, num_routed, top_k},
         blocks_for(ctx, num_routed, kElementThreads));
  return {offsets, flat_indices, tokens, scales, num_experts, num_routed};
}

}  // namespace hr::cuda
