// expert_segments: the rows of each expert, for products over them.
//
//   row  a routed row, in expert order     f = permutation[row]  its flat index     token = f / top_k
#pragma once

#include "cuda/kernels/tiled_product.h"
#include "cuda/kernels/warp_counts.h"
#include "ops/tensor.h"

namespace hr::cuda {

// Which rows belong to which expert.
struct Segments {
  const int32_t* offsets;      // [num_experts + 1]
  const int32_t* permutation;  // [num_routed]
  const int32_t* tokens;       // [num_routed] token of each row
  const float* scales;         // [num_routed] row_scale of each row, or null: 1
  int32_t num_experts, num_routed;

  HR_DEVICE float scale(int32_t row) const { return scales ? scales[row] : 1.0f; }
  HR_DEVICE int32_t length(int32_t expert) const { return offsets[expert + 1] - offsets[expert]; }

  // The expert that item `index` belongs to, where each has count(expert) items; `index` becomes the number
  // among its own. -1: there are not so many. For whole warps.
  template <typename Count>
  HR_DEVICE int32_t find_expert(int32_t& index, const Count& count) const {
    for (int32_t first = 0; first < num_experts; first += kWarpSize) {
      const int32_t expert = first + lane_index();
      const int32_t own = expert < num_experts ? count(expert) : 0;
      const int32_t end = sum_up_to_lane(own);  // of its items, when those of `first` start at 0
      const int found = kWarpSize - count_ones(warp_ballot(end > index));
      if (found < kWarpSize) {
        index -= warp_shuffle(end - own, found);
        return first + found;
      }
      index -= warp_shuffle(end, kWarpSize - 1);
    }
    return -1;
  }

  // The tile of a block in a result with a row for each routed row.
  HR_DEVICE bool find_tile(int32_t block, int32_t tile_m, int32_t tile_n, int32_t columns, int32_t k,
                           Tile& tile) const {
    const int32_t tiles_n = (columns + tile_n - 1) / tile_n;
    const auto tiles_m = [&](int32_t expert) { return (length(expert) + tile_m - 1) / tile_m; };
    const int32_t expert =
        find_expert(block, [&](int32_t candidate) { return tiles_m(candidate) * tiles_n; });
    if (expert < 0) return false;
    int32_t i, j;
    Raster{tiles_m(expert), tiles_n}.tile_at(block, i, j);
    tile = {offsets[expert] + i * tile_m, offsets[expert + 1], j * tile_n, columns, 0, k, expert};
    return true;
  }
  // How many of those there are at most.
  int64_t most_tiles(int64_t tile_m, int64_t tile_n, int64_t columns) const {
    const int64_t used = std::min(num_experts, num_routed);
    return (num_routed + used * (tile_m - 1)) / tile_m * ceil_div(columns, tile_n);
  }

  // Large tiles would be half empty where segments are short.
  bool are_short() const { return num_routed <= SmallTile::kM * int64_t{num_experts}; }
};

// Checks offsets and permutation: the first launch of an op. `row_scale` is by flat index, or null. No
// segment may be shorter than least_rows.
Segments find_segments(Context& ctx, const char* op, const In& permutation, const In& expert_offsets,
                       int32_t top_k, const float* row_scale, int64_t least_rows = 0);

// The weights of all experts, one below the other.
inline Operand weights_of(const In& weight) {
  return {weight.as<float>(), weight.shape[0] * weight.shape[1], weight.shape[2]};
}

}  // namespace hr::cuda
