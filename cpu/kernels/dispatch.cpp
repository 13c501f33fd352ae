// dispatch and combine on the CPU.
#include "cpu/index_error.h"
#include "cpu/kernel.h"

#include "cpu/kernels/index_check.h"
#include "cpu/kernels/parallel.h"
#include "cpu/kernels/routed_rows.h"

namespace hr::HR_ISA_NAMESPACE {

// A stable counting sort in two passes over blocks of pairs: how many of a block go to each expert, then,
// from the row where each block's share of each expert begins, where every pair goes.
void dispatch(Context& ctx, const DispatchParams& p) {
  const int32_t* experts = p.expert_indices.as<int32_t>();
  int32_t* offsets = p.expert_offsets.as<int32_t>();
  int32_t* permutation = p.permutation.as<int32_t>();
  int32_t* inverse_permutation = p.inverse_permutation.as<int32_t>();
  const int64_t num_routed = p.expert_indices.size(), num_experts = p.expert_offsets.shape[0] - 1;
  check_indices("dispatch", "expert_indices", experts, num_routed, -1, num_experts - 1);

  const int64_t block_pairs = num_experts < kTaskElements / 8 ? kTaskElements / 4 : 2 * num_experts;
  const int64_t num_blocks = ceil_div(num_routed, block_pairs);
  Scratch::Frame frame(ctx.workspace);
  int32_t* next = ctx.workspace.take<int32_t>(static_cast<size_t>(num_blocks * num_experts));
  for_ranges(ctx, num_routed, block_pairs, [&](int64_t begin, int64_t end) {
    int32_t* count = next + begin / block_pairs * num_experts;
    for (int64_t e = 0; e < num_experts; ++e) count[e] = 0;
    for (int64_t flat = begin; flat < end; ++flat) {
      if (experts[flat] >= 0) ++count[experts[flat]];
    }
  });

  int32_t row = 0;
  for (int64_t e = 0; e < num_experts; ++e) {
    offsets[e] = row;
    for (int64_t block = 0; block < num_blocks; ++block) {
      int32_t& entry = next[block * num_experts + e];
      const int32_t count = entry;
      entry = row;
      row += count;
    }
  }
  offsets[num_experts] = row;

  for_ranges(ctx, num_routed, block_pairs, [&](int64_t begin, int64_t end) {
    int32_t* next_row = next + begin / block_pairs * num_experts;
    for (int64_t flat = begin; flat < end; ++flat) {
      inverse_permutation[flat] = experts[flat] >= 0 ? next_row[experts[flat]]++ : -1;
      if (experts[flat] >= 0) permutation[inverse_permutation[flat]] = static_cast<int32_t>(flat);
    }
  });
  for (int64_t dropped = row; dropped < num_routed; ++dropped) permutation[dropped] = -1;
}

void combine(Context& ctx, const CombineParams& p) {
  const int32_t* inverse_permutation = p.inverse_permutation.as<int32_t>();
  Real* out = p.out.as<Real>();
  const int64_t num_routed = p.rows.shape[0], d_model = p.rows.shape[1], num_tokens = p.out.shape[0];
  check_indices("combine", "inverse_permutation", inverse_permutation, num_routed, -1, num_routed - 1);
  const RoutedRows routed{p.rows.as<Real>(), inverse_permutation, p.top_k, d_model};
  for_ranges(ctx, num_tokens, rows_per_task(d_model * p.top_k), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) routed.sum(t, p.accumulate, out + t * d_model);
  });
}

}  // namespace hr::HR_ISA_NAMESPACE
