// grouped_gemm and grouped_gemm_dgrad: one product per expert over ragged segments of rows. Contract and
// formulas: ops/grouped_gemm.h.
//
//   grid    offsets stay on the device: there are blocks for the most tiles there can be; a block finds its
//           expert by a scan of the offsets, those left over end at once
//   bytes   tokens are gathered on the way to shared memory; bias, activation, dropout and weight, in dgrad
//           their gradients, come on the way from it: only [num_routed, ffn] tensors are written
//   exact   row dots are parts of kQuadColumns columns, added in order
#include "cuda/kernels/activation_math.h"
#include "cuda/kernels/dropout_mask.h"
#include "cuda/kernels/expert_segments.h"

namespace hr::cuda {

namespace {

template <bool kTransposeWeight>
struct ExpertProduct {
  static constexpr Layout kLayoutA = Layout::by_row;
  static constexpr Layout kLayoutB = kTransposeWeight ? Layout::by_k : Layout::by_row;
  static constexpr TileChoice best_tiles(Precision precision) { return wide_in_bf16(precision); }

  Segments segments;
  Operand a, b;  // b: the weights, [num_experts · n, k], or [num_experts · k, n]
  int32_t n, k;
  Quads<const float> bias;           // [num_experts, n]
  Quads<float> out, pre_activation;  // [num_routed, n]
  RowScale scale;
  Activation activation;
  DropoutMask mask;

  HR_DEVICE bool find(int32_t block, int32_t tile_m, int32_t tile_n, Tile& tile) const {
    return segments.find_tile(block, tile_m, tile_n, n, k, tile);
  }
  HR_DEVICE int32_t first_row_a(const Tile&) const { return 0; }
  HR_DEVICE int32_t first_row_b(const Tile& tile) const { return tile.group * (kTransposeWeight ? k : n); }

  struct Operands {
    int32_t f;
    float s;
    Quad bias;
  };
  HR_DEVICE Operands read(const Tile& tile, int32_t row, int32_t column, int count) const {
    if (count == 0) return {};
    return {segments.permutation[row], segments.scale(row),
            bias ? bias.load(tile.group, column, count) : Quad{}};
  }
  HR_DEVICE void store(const Tile&, int32_t row, int32_t column, int count, Quad x,
                       const Operands& operands) const {
    if (count == 0) return;
    const float bias_scale = scale == RowScale::bias ? operands.s : 1.0f;
    HR_UNROLL
    for (int i = 0; i < 4; ++i) x.v[i] = fma(bias_scale, operands.bias.v[i], x.v[i]);
    if (pre_activation) pre_activation.store(row, column, x, count);
    HR_UNROLL
    for (int i = 0; i < 4; ++i) x.v[i] = activate(activation, x.v[i]);
    mask.apply(int64_t{operands.f} * n + column, x);
    const float out_scale = scale == RowScale::output ? operands.s : 1.0f;
    HR_UNROLL
    for (int i = 0; i < 4; ++i) x.v[i] *= out_scale;
    out.store(row, column, x, count);
  }
};

// d_h = d_out[token] · W2[e] becomes d_z, and leaves parts of Σ d_h · h and ⟨d_out[token], b2⟩ behind.
struct HiddenGradientProduct {
  static constexpr Layout kLayoutA = Layout::by_row, kLayoutB = Layout::by_k;
  static constexpr TileChoice best_tiles(Precision precision) { return wide_in_bf16(precision); }

  Segments segments;
  Operand a, b;  // d_out of the tokens; the weights, [num_experts · d_model, ffn]
  int32_t ffn, d_model;
  const float* bias;                          // [num_experts, d_model], or null
  Quads<const float> hidden, pre_activation;  // [num_routed, ffn]
  Quads<float> d_hidden;                      // [num_routed, ffn]
  float* hidden_dots;                         // [⌈ffn / kQuadColumns⌉, num_routed]
  float* bias_dots;                           // [num_routed]
  Activation activation;
  DropoutMask mask;

  HR_DEVICE bool find(int32_t block, int32_t tile_m, int32_t tile_n, Tile& tile) const {
    return segments.find_tile(block, tile_m, tile_n, ffn, d_model, tile);
  }
  HR_DEVICE int32_t first_row_a(const Tile&) const { return 0; }
  HR_DEVICE int32_t first_row_b(const Tile& tile) const { return tile.group * d_model; }

  HR_DEVICE bool has_vector(const Tile&) const { return bias != nullptr; }
  HR_DEVICE float vector(const Tile& tile, int32_t k) const {
    return bias[int64_t{tile.group} * d_model + k];
  }
  HR_DEVICE void store_vector(const Tile&, int32_t row, float sum) const { bias_dots[row] = sum; }

  struct Operands {
    int32_t f;
    float s;
    Quad h, z;
  };
  HR_DEVICE Operands read(const Tile&, int32_t row, int32_t column, int count) const {
    if (count == 0) return {};
    return {segments.permutation[row], segments.scale(row), hidden.load(row, column, count),
            pre_activation ? pre_activation.load(row, column, count) : Quad{}};
  }
  HR_DEVICE void store(const Tile&, int32_t row, int32_t column, int count, const Quad& d_h,
                       const Operands& operands) const {
    float dot = 0;
    HR_UNROLL
    for (int i = 0; i < 4; ++i) dot = i < count ? fma(d_h.v[i], operands.h.v[i], dot) : dot;
    HR_UNROLL
    for (int lanes = 1; lanes < kQuadLanes; lanes *= 2) dot += warp_shuffle_xor(dot, lanes);
    if (count == 0) return;
    if (column % kQuadColumns == 0) {
      hidden_dots[column / kQuadColumns * int64_t{segments.num_routed} + row] = dot;
    }
    d_hidden.store(row, column, d_z(column, d_h, operands), count);
  }

 private:
  HR_DEVICE Quad d_z(int32_t column, const Quad& d_h, const Operands& operands) const {
    Quad d;
    HR_UNROLL
    for (int i = 0; i < 4; ++i) d.v[i] = operands.s * d_h.v[i];
    if (activation == Activation::relu && !pre_activation) {  // h is 0 where z is not positive or was dropped
      HR_UNROLL
      for (int i = 0; i < 4; ++i) d.v[i] = operands.h.v[i] != 0 ? mask.scale * d.v[i] : 0.0f;
      return d;
    }
    if (pre_activation) {
      HR_UNROLL
      for (int i = 0; i < 4; ++i) d.v[i] *= activation_slope(activation, operands.z.v[i]);
    }
    mask.apply(int64_t{operands.f} * ffn + column, d);
    return d;
  }
};

struct ClearKernel {
  static constexpr int kThreads = kElementThreads;
  float* x;  // [n]
  int64_t n;

  HR_DEVICE void operator()() const {
    for_elements(n, false, [&](int64_t i, auto) { x[i] = 0; });
  }
};

// d_s = Σ hidden_dots / s + bias_dot, of each routed row.
struct RowScaleGradientKernel {
  static constexpr int kThreads = kElementThreads;
  Segments segments;
  const float* hidden_dots;  // [num_parts, num_routed]
  const float* bias_dots;    // [num_routed], or null
  float* d_row_scale;        // [num_routed]
  int32_t num_parts;

  HR_DEVICE void operator()() const {
    for_elements(segments.offsets[segments.num_experts], false, [&](int64_t row, auto) {
      float dot = 0;
      for (int64_t part = 0; part < num_parts; ++part) dot += hidden_dots[part * segments.num_routed + row];
      const float s = segments.scale(row);
      d_row_scale[segments.permutation[row]] =
          (s != 0 ? dot / s : 0.0f) + (bias_dots ? bias_dots[row] : 0.0f);
    });
  }
};

template <typename Product>
void multiply_segments(Context& ctx, const Product& product, int64_t n, int64_t k) {
  const Segments& segments = product.segments;
  multiply(ctx, product, {segments.num_routed, n, k}, [&](int64_t tile_m, int64_t tile_n) {
    return tile_m > SmallTile::kM && segments.are_short() ? 0 : segments.most_tiles(tile_m, tile_n, n);
  });
}

template <bool kTransposeWeight>
void multiply_experts(Context& ctx, const GroupedGemmParams& p) {
  const Segments segments =
      find_segments(ctx, "grouped_gemm", p.permutation, p.expert_offsets, p.top_k, p.row_scale.as<float>());
  const int64_t n = p.out.shape[1], k = p.a.shape[1];
  multiply_segments(ctx,
                    ExpertProduct<kTransposeWeight>{
                        .segments = segments,
                        .a = {p.a.as<float>(), p.a.shape[0], k, p.gather ? segments.tokens : nullptr},
                        .b = weights_of(p.weight),
                        .n = static_cast<int32_t>(n),
                        .k = static_cast<int32_t>(k),
                        .bias = {p.bias.as<float>(), n},
                        .out = {p.out.as<float>(), n},
                        .pre_activation = {p.pre_activation.as<float>(), n},
                        .scale = p.scale,
                        .activation = p.activation,
                        .mask = DropoutMask(p.dropout, p.seed, p.call)},
                    n, k);
}

}  // namespace

void grouped_gemm(Context& ctx, const GroupedGemmParams& p) {
  p.transpose_weight ? multiply_experts<true>(ctx, p) : multiply_experts<false>(ctx, p);
}

void grouped_gemm_dgrad(Context& ctx, const GroupedGemmDgradParams& p) {
  const Segments segments = find_segments(ctx, "grouped_gemm_dgrad", p.permutation, p.expert_offsets, p.top_k,
                                          p.row_scale.as<float>());
  const int64_t num_routed = segments.num_routed, d_model = p.d_out.shape[1], ffn = p.hidden.shape[1];
  const int64_t num_parts = ceil_div(ffn, kQuadColumns);
  float* hidden_dots = ctx.workspace<float>(num_parts * num_routed);
  float* bias_dots = p.bias ? ctx.workspace<float>(num_routed) : nullptr;
  multiply_segments(
      ctx,
      HiddenGradientProduct{.segments = segments,
                            .a = {p.d_out.as<float>(), p.d_out.shape[0], d_model, segments.tokens},
                            .b = weights_of(p.weight),
                            .ffn = static_cast<int32_t>(ffn),
                            .d_model = static_cast<int32_t>(d_model),
                            .bias = p.bias.as<float>(),
                            .hidden = {p.hidden.as<float>(), ffn},
                            .pre_activation = {p.pre_activation.as<float>(), ffn},
                            .d_hidden = {p.d_hidden.as<float>(), ffn},
                            .hidden_dots = hidden_dots,
                            .bias_dots = bias_dots,
                            .activation = p.activation,
                            .mask = DropoutMask(p.dropout, p.seed, p.call)},
      ffn, d_model);
  float* d_row_scale = p.d_row_scale.as<float>();
  const Grid blocks = blocks_for(ctx, num_routed, kElementThreads);
  launch(ctx, ClearKernel{d_row_scale, num_routed}, blocks);  // for dropped pairs
  launch(
      ctx,
      RowScaleGradientKernel{segments, hidden_dots, bias_dots, d_row_scale, static_cast<int32_t>(num_parts)},
      blocks);
}

}  // namespace hr::cuda
