// grouped_gemm_sum: the products of all experts, summed per token. Contract and formulas: ops/grouped_gemm.h.
//
//   grid    a tile of out for each block, which walks along k of one expert after another
//   bytes   a and weight read, out written once: the product of each expert exists in registers only, as part
//           of the sum
//   exact   one chain of sums along k of expert 0, 1, ...; then the biases in the same order
#include "cuda/kernels/expert_segments.h"

namespace hr::cuda {

namespace {

template <bool kTransposeWeight>
struct ExpertSumProduct {
  static constexpr Layout kLayoutA = Layout::by_row;
  static constexpr Layout kLayoutB = kTransposeWeight ? Layout::by_k : Layout::by_row;
  static constexpr TileChoice best_tiles(Precision precision) {
    return small_in_f32(precision, wide_in_bf16(precision));
  }

  Segments segments;
  Operand a, b;  // b: the weights, [num_experts · n, k], or [num_experts · k, n]
  int32_t num_tokens, n, k;
  Quads<const float> bias;  // [num_experts, n]
  Quads<float> out;         // [num_tokens, n]
  bool accumulate;

  HR_DEVICE bool find(int32_t block, int32_t tile_m, int32_t tile_n, Tile& tile) const {
    int32_t i, j;
    Raster{(num_tokens + tile_m - 1) / tile_m, (n + tile_n - 1) / tile_n}.tile_at(block, i, j);
    tile = {i * tile_m, num_tokens, j * tile_n, n, 0, k, 0};
    return true;
  }
  HR_DEVICE int32_t num_groups() const { return segments.num_experts; }
  HR_DEVICE int32_t first_row_a(const Tile& tile) const { return tile.group * num_tokens; }
  HR_DEVICE int32_t first_row_b(const Tile& tile) const { return tile.group * (kTransposeWeight ? k : n); }

  struct Operands {
    Quad added;
  };
  HR_DEVICE Operands read(const Tile&, int32_t row, int32_t column, int count) const {
    Quad sum{};
    if (count == 0) return {sum};
    if (accumulate) sum = out.load(row, column, count);
    for (int32_t expert = 0; bias && expert < segments.num_experts; ++expert) {
      const float s = segments.scale(expert * num_tokens + row);
      const Quad b = bias.load(expert, column, count);
      HR_UNROLL
      for (int i = 0; i < 4; ++i) sum.v[i] = fma(s, b.v[i], sum.v[i]);
    }
    return {sum};
  }
  HR_DEVICE void store(const Tile&, int32_t row, int32_t column, int count, Quad x,
                       const Operands& operands) const {
    if (count == 0) return;
    HR_UNROLL
    for (int i = 0; i < 4; ++i) x.v[i] += operands.added.v[i];
    out.store(row, column, x, count);
  }
};

template <bool kTransposeWeight>
void sum_experts(Context& ctx, const GroupedGemmSumParams& p) {
  const int64_t num_tokens = p.out.shape[0], n = p.out.shape[1], k = p.a.shape[1];
  const Segments segments =
      find_segments(ctx, "grouped_gemm_sum", p.permutation, p.expert_offsets,
                    static_cast<int32_t>(p.weight.shape[0]), p.row_scale.as<float>(), num_tokens);
  multiply(ctx,
           ExpertSumProduct<kTransposeWeight>{.segments = segments,
                                              .a = {p.a.as<float>(), p.a.shape[0], k},
                                              .b = weights_of(p.weight),
                                              .num_tokens = static_cast<int32_t>(num_tokens),
                                              .n = static_cast<int32_t>(n),
                                              .k = static_cast<int32_t>(k),
                                              .bias = {p.bias.as<float>(), n},
                                              .out = {p.out.as<float>(), n},
                                              .accumulate = p.accumulate},
           {num_tokens, n, segments.num_experts * k}, [&](int64_t tile_m, int64_t tile_n) {
             return ceil_div(num_tokens, tile_m) * ceil_div(n, tile_n);
           });
}

}  // namespace

void grouped_gemm_sum(Context& ctx, const GroupedGemmSumParams& p) {
  p.transpose_weight ? sum_experts<true>(ctx, p) : sum_experts<false>(ctx, p);
}

}  // namespace hr::cuda
