// grouped_gemm_wgrad: the gradients of each expert's weight and bias, sums over its rows. Contract and
// formulas: ops/grouped_gemm.h.
//
//   grid    a tile of one expert's weight and a part of its rows for each block, which finds them by a scan
//           of the offsets. Tiles of the first columns sum up the bias as well
//   exact   segments are cut by a length that depends on sizes alone, and parts are added in order
#include "cuda/kernels/expert_segments.h"

namespace hr::cuda {

namespace {

// The gradients of an expert's weight, row by row, and after them those of its bias.
struct WeightGradients {
  float* d_weight;  // [num_experts, m, n]
  float* d_bias;    // [num_experts, m], or null
  int32_t m, n;
  bool accumulate;

  HR_HD int64_t size() const { return int64_t{m} * n + (d_bias ? m : 0); }
  HR_DEVICE float* bias_of(int32_t expert) const { return d_bias + int64_t{expert} * m; }
  HR_DEVICE float* weight_of(int32_t expert) const { return d_weight + int64_t{expert} * m * n; }
  HR_DEVICE void finish(float& to, float sum) const { to = accumulate ? to + sum : sum; }
};

// Cuts the rows of long segments into parts, whose sums are added in a second step. The parts of all of them
// have their slots: twice as far along as their rows, so that what is rounded up finds room.
struct SegmentParts {
  int32_t length;     // of a part
  int32_t num_slots;  // 0: no segment can be that long
  int64_t slot_size;
  float* slots;  // [num_slots, slot_size]

  HR_DEVICE int32_t count(int32_t rows) const { return (rows + length - 1) / length; }
  HR_DEVICE int32_t first_slot(int32_t offset) const {
    return static_cast<int32_t>(int64_t{2} * offset / length);
  }
};

struct WeightGradientProduct {
  static constexpr Layout kLayoutA = Layout::by_k, kLayoutB = Layout::by_k;
  static constexpr TileChoice best_tiles(Precision precision) {
    return small_in_f32(precision, TileChoice::large);
  }

  Segments segments;
  Operand a, b;
  WeightGradients gradients;
  SegmentParts parts;
  bool aligned_gradients;

  // Tile.group is an expert, or num_experts and a slot.
  HR_DEVICE bool find(int32_t block, int32_t tile_m, int32_t tile_n, Tile& tile) const {
    const Raster raster{(gradients.m + tile_m - 1) / tile_m, (gradients.n + tile_n - 1) / tile_n};
    const int32_t tiles = raster.tiles_m * raster.tiles_n;
    const int32_t expert = segments.find_expert(block, [&](int32_t candidate) {
      const int32_t count = parts.count(segments.length(candidate));
      return (count > 0 || gradients.accumulate ? count : 1) * tiles;  // 1: of zeros
    });
    if (expert < 0) return false;
    int32_t i, j;
    raster.tile_at(block % tiles, i, j);
    const int32_t offset = segments.offsets[expert], end = segments.offsets[expert + 1];
    const int32_t part = block / tiles, first = offset + part * parts.length;
    const bool whole = end - offset <= parts.length;
    const int32_t group = whole ? expert : segments.num_experts + parts.first_slot(offset) + part;
    tile = {i * tile_m,  gradients.m, j * tile_n,
            gradients.n, first,       end - first < parts.length ? end : first + parts.length,
            group};
    return true;
  }
  HR_DEVICE int32_t first_row_a(const Tile&) const { return 0; }
  HR_DEVICE int32_t first_row_b(const Tile&) const { return 0; }

  HR_DEVICE bool has_vector(const Tile&) const { return gradients.d_bias != nullptr; }
  HR_DEVICE float vector(const Tile&, int32_t row) const { return segments.scale(row); }
  HR_DEVICE void store_vector(const Tile& tile, int32_t i, float sum) const {
    if (tile.group < segments.num_experts) return gradients.finish(gradients.bias_of(tile.group)[i], sum);
    slot(tile)[int64_t{gradients.m} * gradients.n + i] = sum;
  }

  struct Operands {
    float* to;
    Quad before;
  };
  HR_DEVICE Operands read(const Tile& tile, int32_t i, int32_t column, int count) const {
    const bool whole = tile.group < segments.num_experts;
    float* to = (whole ? gradients.weight_of(tile.group) : slot(tile)) + int64_t{i} * gradients.n + column;
    return {to, whole && gradients.accumulate ? load_quad(to, count, aligned_gradients) : Quad{}};
  }
  HR_DEVICE void store(const Tile&, int32_t, int32_t, int count, Quad x, const Operands& operands) const {
    HR_UNROLL
    for (int i = 0; i < 4; ++i) x.v[i] += operands.before.v[i];
    store_quad(operands.to, x, count, aligned_gradients);
  }

 private:
  HR_DEVICE float* slot(const Tile& tile) const {
    return parts.slots + (tile.group - segments.num_experts) * parts.slot_size;
  }
};

// Adds up the parts of the segments that are cut. Grid: y is the expert.
struct SumPartsKernel {
  static constexpr int kThreads = kElementThreads;
  Segments segments;
  WeightGradients gradients;
  SegmentParts parts;

  HR_DEVICE void operator()() const {
    const int32_t expert = block_y(), rows = segments.length(expert);
    if (rows <= parts.length) return;
    const float* slot = parts.slots + parts.first_slot(segments.offsets[expert]) * parts.slot_size;
    const int64_t weight_size = int64_t{gradients.m} * gradients.n;
    for_elements(gradients.size(), false, [&](int64_t i, auto) {
      float sum = 0;
      for (int32_t part = 0; part < parts.count(rows); ++part) sum += slot[part * parts.slot_size + i];
      gradients.finish(
          i < weight_size ? gradients.weight_of(expert)[i] : gradients.bias_of(expert)[i - weight_size], sum);
    });
  }
};

constexpr int64_t kShortestPart = 512;
constexpr int64_t kEnoughTiles = 256;
constexpr int64_t kMostPartNumbers = int64_t{1} << 24;

// Segments of more than twice their share are cut, or of less where there are few tiles; as sizes alone say.
SegmentParts choose_parts(Context& ctx, const Segments& segments, const WeightGradients& gradients) {
  const int64_t num_routed = segments.num_routed, slot_size = ceil_div(gradients.size(), 4) * 4;
  const int64_t tiles = ceil_div(gradients.m, SmallTile::kM) * ceil_div(gradients.n, SmallTile::kN);
  const int64_t shares = std::max<int64_t>(segments.num_experts, ceil_div(kEnoughTiles, tiles));
  const int64_t least = std::max(kShortestPart, 2 * ceil_div(num_routed, shares));
  const int64_t length = std::max(least, 2 * ceil_div(num_routed * slot_size, kMostPartNumbers));
  const int64_t rounded = std::min(ceil_div(length, kTileK) * kTileK, std::max<int64_t>(num_routed, 1));
  const int64_t num_slots = rounded < num_routed ? 2 * num_routed / rounded : 0;
  return {static_cast<int32_t>(rounded), static_cast<int32_t>(num_slots), slot_size,
          num_slots > 0 ? ctx.workspace<float>(num_slots * slot_size) : nullptr};
}

}  // namespace

void grouped_gemm_wgrad(Context& ctx, const GroupedGemmWgradParams& p) {
  const int64_t m = p.d_weight.shape[1], n = p.d_weight.shape[2];
  const Segments segments = find_segments(ctx, "grouped_gemm_wgrad", p.permutation, p.expert_offsets, p.top_k,
                                          p.row_scale.as<float>());
  const WeightGradients gradients{p.d_weight.as<float>(), p.d_bias.as<float>(), static_cast<int32_t>(m),
                                  static_cast<int32_t>(n), p.accumulate};
  const SegmentParts parts = choose_parts(ctx, segments, gradients);
  const auto operand = [&](const In& t, bool gather) {
    return Operand(t.as<float>(), t.shape[0], t.shape[1], gather ? segments.tokens : nullptr);
  };
  const WeightGradientProduct product{.segments = segments,
                                      .a = operand(p.a, p.gather_a),
                                      .b = operand(p.b, p.gather_b),
                                      .gradients = gradients,
                                      .parts = parts,
                                      .aligned_gradients = is_aligned16(gradients.d_weight) && n % 4 == 0};
  const int64_t most_parts = segments.num_experts + segments.num_routed / parts.length;
  multiply(ctx, product, {m, n, segments.num_routed}, [&](int64_t tile_m, int64_t tile_n) {
    return most_parts * ceil_div(m, tile_m) * ceil_div(n, tile_n);
  });
  if (parts.num_slots > 0) {
    const Grid blocks = blocks_for(ctx, gradients.size(), kElementThreads);
    launch(ctx, SumPartsKernel{segments, gradients, parts}, {blocks.x, segments.num_experts});
  }
}

}  // namespace hr::cuda
