// grouped_gemm and its gradients on the CPU. Contract and formulas: ops/grouped_gemm.h.
// Long because it holds the four ops twice: plain for the reference, packed for the rest.
//
//   row  a routed row, in expert order     f = permutation[row]  its flat index     token = f / top_k
#include "cpu/kernel.h"

#include "cpu/kernels/activation_math.h"
#include "cpu/kernels/index_check.h"
#include "cpu/kernels/philox_words.h"
#include "cpu/simd.h"
#if HR_IS_REFERENCE
#include "cpu/kernels/reference_product.h"
#else
#include "cpu/kernels/packed_product.h"
#endif

namespace hr::HR_ISA_NAMESPACE {

using cpu::Context;

namespace {

// Which routed rows belong to which expert; checked.
struct Segments {
  const int32_t* offsets;
  const int32_t* permutation;
  int64_t num_experts, num_routed;

  template <typename Params>
  Segments(const char* op, const Params& p, int64_t least_rows = 0)
      : offsets(p.expert_offsets.template as<int32_t>()),
        permutation(p.permutation.template as<int32_t>()),
        num_experts(p.expert_offsets.shape[0] - 1),
        num_routed(p.permutation.shape[0]) {
    check_offsets(op, offsets, num_experts, num_routed, least_rows);
    check_indices(op, "permutation", permutation, num_rows(), 0, num_routed - 1);
  }

  int64_t num_rows() const { return offsets[num_experts]; }
  int64_t first(int64_t expert) const { return offsets[expert]; }
  int64_t length(int64_t expert) const { return offsets[expert + 1] - offsets[expert]; }
};

}  // namespace

#if HR_IS_REFERENCE

namespace {

// What dropout multiplies element (f, column) of a [num_routed, width] tensor by.
template <typename Params>
Real dropout_factor(const Params& p, int64_t f, int64_t width, int64_t column) {
  const uint32_t word = math::philox_u32(p.seed, p.call, static_cast<uint64_t>(f * width + column));
  return math::is_kept(word, math::drop_threshold(p.dropout)) ? 1 / (1 - p.dropout) : 0;
}

}  // namespace

void grouped_gemm(Context& ctx, const GroupedGemmParams& p) {
  const Segments segments("grouped_gemm", p);
  const int64_t n = p.out.shape[1], k = p.a.shape[1];
  const Real *a = p.a.as<Real>(), *weight = p.weight.as<Real>(), *bias = p.bias.as<Real>();
  const Real* row_scale = p.row_scale.as<Real>();
  Real *out = p.out.as<Real>(), *pre_activation = p.pre_activation.as<Real>();
  visit_activation(p.activation, [&](auto act) {
    for (int64_t e = 0; e < segments.num_experts; ++e) {
      for (int64_t row = segments.first(e); row < segments.first(e + 1); ++row) {
        const int64_t f = segments.permutation[row];
        const Real* a_row = a + (p.gather ? f / p.top_k : row) * k;
        for (int64_t j = 0; j < n; ++j) {
          Real z = 0;
          for (int64_t l = 0; l < k; ++l) {
            z += factor(ctx, a_row[l]) *
                 factor(ctx, weight[p.transpose_weight ? (e * k + l) * n + j : (e * n + j) * k + l]);
          }
          if (bias) z += bias[e * n + j] * (p.scale == RowScale::bias ? row_scale[f] : 1);
          if (pre_activation) pre_activation[row * n + j] = z;
          out[row * n + j] =
              act.value(z) * dropout_factor(p, f, n, j) * (p.scale == RowScale::output ? row_scale[f] : 1);
        }
      }
    }
  });
}

void grouped_gemm_sum(Context& ctx, const GroupedGemmSumParams& p) {
  const int64_t num_tokens = p.out.shape[0], n = p.out.shape[1], k = p.a.shape[1];
  const Segments segments("grouped_gemm_sum", p, num_tokens);
  const Real *a = p.a.as<Real>(), *weight = p.weight.as<Real>(), *bias = p.bias.as<Real>();
  const Real* row_scale = p.row_scale.as<Real>();
  Real* out = p.out.as<Real>();
  for (int64_t t = 0; t < num_tokens; ++t) {
    for (int64_t j = 0; j < n; ++j) {
      Real sum = p.accumulate ? out[t * n + j] : 0;
      for (int64_t e = 0; e < segments.num_experts; ++e) {
        const int64_t row = segments.first(e) + t;
        for (int64_t l = 0; l < k; ++l) {
          sum += factor(ctx, a[row * k + l]) *
                 factor(ctx, weight[p.transpose_weight ? (e * k + l) * n + j : (e * n + j) * k + l]);
        }
        if (bias) sum += bias[e * n + j] * (row_scale ? row_scale[segments.permutation[row]] : 1);
      }
      out[t * n + j] = sum;
    }
  }
}

void grouped_gemm_dgrad(Context& ctx, const GroupedGemmDgradParams& p) {
  const Segments segments("grouped_gemm_dgrad", p);
  const int64_t d_model = p.d_out.shape[1], ffn = p.hidden.shape[1];
  const Real *d_out = p.d_out.as<Real>(), *weight = p.weight.as<Real>(), *bias = p.bias.as<Real>();
  const Real *row_scale = p.row_scale.as<Real>(), *hidden = p.hidden.as<Real>();
  const Real* pre_activation = p.pre_activation.as<Real>();
  Real *d_hidden = p.d_hidden.as<Real>(), *d_row_scale = p.d_row_scale.as<Real>();
  for (int64_t f = 0; f < segments.num_routed; ++f) d_row_scale[f] = 0;
  visit_activation(p.activation, [&](auto act) {
    for (int64_t e = 0; e < segments.num_experts; ++e) {
      for (int64_t row = segments.first(e); row < segments.first(e + 1); ++row) {
        const int64_t f = segments.permutation[row];
        const Real* d_y = d_out + f / p.top_k * d_model;
        const Real s = row_scale[f];
        Real d_s = 0;
        for (int64_t j = 0; j < ffn; ++j) {
          Real d_h = 0;
          for (int64_t l = 0; l < d_model; ++l) {
            d_h += factor(ctx, d_y[l]) * factor(ctx, weight[(e * d_model + l) * ffn + j]);
          }
          const Real h = hidden[row * ffn + j];
          // relu: z > 0 and kept, exactly where h is not 0.
          const Real d_act = pre_activation                     ? act.gradient(pre_activation[row * ffn + j])
                             : p.activation == Activation::relu ? Real(h != 0)
                                                                : 1;
          d_hidden[row * ffn + j] = s * d_h * dropout_factor(p, f, ffn, j) * d_act;
          if (s != 0) d_s += d_h * h / s;
        }
        for (int64_t l = 0; bias && l < d_model; ++l) d_s += factor(ctx, d_y[l]) * bias[e * d_model + l];
        d_row_scale[f] = d_s;
      }
    }
  });
}

void grouped_gemm_wgrad(Context& ctx, const GroupedGemmWgradParams& p) {
  const Segments segments("grouped_gemm_wgrad", p);
  const int64_t m = p.d_weight.shape[1], n = p.d_weight.shape[2];
  const Real *a = p.a.as<Real>(), *b = p.b.as<Real>(), *row_scale = p.row_scale.as<Real>();
  Real *d_weight = p.d_weight.as<Real>(), *d_bias = p.d_bias.as<Real>();
  const auto a_at = [&](int64_t row, int64_t i) {
    return factor(ctx, a[(p.gather_a ? segments.permutation[row] / p.top_k : row) * m + i]);
  };
  const auto b_at = [&](int64_t row, int64_t j) {
    return factor(ctx, b[(p.gather_b ? segments.permutation[row] / p.top_k : row) * n + j]);
  };
  for (int64_t e = 0; e < segments.num_experts; ++e) {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        Real sum = 0;
        for (int64_t row = segments.first(e); row < segments.first(e + 1); ++row) {
          sum += a_at(row, i) * b_at(row, j);
        }
        Real& out = d_weight[(e * m + i) * n + j];
        out = p.accumulate ? out + sum : sum;
      }
      if (!d_bias) continue;
      Real sum = 0;
      for (int64_t row = segments.first(e); row < segments.first(e + 1); ++row) {
        sum += a_at(row, i) * (row_scale ? row_scale[segments.permutation[row]] : 1);
      }
      Real& out = d_bias[e * m + i];
      out = p.accumulate ? out + sum : sum;
    }
  }
}

#else

namespace {

using packed::Block;
using packed::BlockLimit;
using packed::Grid;
using packed::Operand;
using packed::Product;
using packed::Tile;

// The token of each routed row: what a gather reads.
const int32_t* tokens_of_rows(Context& ctx, const Segments& segments, int32_t top_k) {
  int32_t* tokens = ctx.workspace.take<int32_t>(segments.num_rows());
  for (int64_t row = 0; row < segments.num_rows(); ++row) tokens[row] = segments.permutation[row] / top_k;
  return tokens;
}

// The blocks of all experts' results, one task each.
class ExpertBlocks {
 public:
  // grid_of(expert) cuts the result of one expert.
  template <typename GridOf>
  ExpertBlocks(Context& ctx, int64_t num_experts, GridOf&& grid_of) {
    for (int64_t e = 0; e < num_experts; ++e) count_ += grid_of(e).num_blocks();
    blocks_ = ctx.workspace.take<ExpertBlock>(count_);
    ExpertBlock* next = blocks_;
    for (int64_t e = 0; e < num_experts; ++e) {
      const Grid grid = grid_of(e);
      for (int64_t i = 0; i < grid.num_blocks(); ++i) *next++ = {e, grid.block(i)};
    }
  }

  // Calls fn(expert, block, scratch) for every block, in parallel.
  template <typename Fn>
  void run(Context& ctx, Fn&& fn) const {
    ctx.pool.run(count_, [&](int64_t task, Scratch& scratch) {
      fn(blocks_[task].expert, blocks_[task].block, scratch);
    });
  }

 private:
  struct ExpertBlock {
    int64_t expert;
    Block block;
  };
  ExpertBlock* blocks_;
  int64_t count_ = 0;
};

// For a result [num_routed, num_columns] = a[row] · weight[expert of the row]: calls
// fn(expert, block, product, scratch) for its blocks, in parallel. `product` is that of the first expert.
template <typename Fn>
void for_segment_blocks(Context& ctx, const Segments& segments, const Product& product, int64_t num_columns,
                        Fn&& fn) {
  const int64_t num_experts = segments.num_experts, k = product.k;
  const auto grid_of = [&](int64_t e, BlockLimit limit) {
    return Grid(segments.first(e), segments.length(e), num_columns, limit);
  };
  const int64_t enough = packed::enough_blocks(segments.num_rows(), num_columns, k);
  const BlockLimit limit = packed::choose_limit(enough, [&](BlockLimit l) {
    int64_t count = 0;
    for (int64_t e = 0; e < num_experts; ++e) count += grid_of(e, l).num_blocks();
    return count;
  });
  bool shared = false;
  for (int64_t e = 0; e < num_experts; ++e) shared |= grid_of(e, limit).num_row_blocks() > 1;
  const float* packed_b = shared ? packed::pack_ahead(ctx, product, num_experts, num_columns) : nullptr;

  const ExpertBlocks blocks(ctx, num_experts, [&](int64_t e) { return grid_of(e, limit); });
  blocks.run(ctx, [&](int64_t expert, const Block& block, Scratch& scratch) {
    Product of_expert = product;
    of_expert.b = product.b.skip_numbers(expert * k * num_columns);
    if (packed_b)
      of_expert.packed_b = packed_b + expert * packed::packed_size(product.method, k, num_columns);
    fn(expert, block, of_expert, scratch);
  });
}

// x = dropout(x) on a block of a [num_routed, width] tensor, while it is in cache.
void drop_block(const DropoutMask& mask, const Segments& segments, const Block& block, int64_t width,
                float* x) {
  for (int64_t row = block.row; row < block.row + block.rows; ++row) {
    float* piece = x + row * width + block.column;
    const uint64_t first = static_cast<uint64_t>(segments.permutation[row]) * width + block.column;
    apply_dropout(mask, first, block.columns, piece, nullptr, piece);
  }
}

// out = s · act(sums + bias), or sums + s · bias; z goes to pre_activation.
void store_tile(const Tile& tile, int64_t expert, const Segments& segments, const GroupedGemmParams& p) {
  const int64_t n = p.out.shape[1];
  const float* bias = p.bias ? p.bias.as<float>() + expert * n + tile.column : nullptr;
  visit_activation(p.activation, [&](auto act) {
    tile.for_rows([&](int r, int columns) {
      const int64_t row = tile.row + r, first = row * n + tile.column;
      const float s = p.row_scale ? p.row_scale.as<float>()[segments.permutation[row]] : 1.0f;
      const float bias_scale = p.scale == RowScale::bias ? s : 1.0f;
      const float out_scale = p.scale == RowScale::output ? s : 1.0f;
      float z[packed::kTileColumns];
      if (bias) {
#pragma omp simd
        for (int j = 0; j < columns; ++j) z[j] = mul_add(bias_scale, bias[j], tile[r][j]);
      } else {
        memcpy(z, tile[r], columns * sizeof(float));
      }
      if (p.pre_activation) memcpy(p.pre_activation.as<float>() + first, z, columns * sizeof(float));
      float* out = p.out.as<float>() + first;
#pragma omp simd
      for (int j = 0; j < columns; ++j) out[j] = act.value(z[j]) * out_scale;
    });
  });
}

// out (+)= sums + Σ_e s · bias[e].
void store_sum_tile(const Tile& tile, const Segments& segments, const GroupedGemmSumParams& p) {
  const int64_t n = p.out.shape[1];
  tile.for_rows([&](int r, int columns) {
    const int64_t t = tile.row + r;
    float* out = p.out.as<float>() + t * n + tile.column;
    float sums[packed::kTileColumns];
    memcpy(sums, tile[r], columns * sizeof(float));
    for (int64_t e = 0; p.bias && e < segments.num_experts; ++e) {
      const float* bias = p.bias.as<float>() + e * n + tile.column;
      const int64_t f = segments.permutation[segments.first(e) + t];
      const float s = p.row_scale ? p.row_scale.as<float>()[f] : 1.0f;
#pragma omp simd
      for (int j = 0; j < columns; ++j) sums[j] = mul_add(s, bias[j], sums[j]);
    }
#pragma omp simd
    for (int j = 0; j < columns; ++j) out[j] = (p.accumulate ? out[j] : 0.0f) + sums[j];
  });
}

// d_z = s · d_h · act'(z) / (1 - p), and dots[row of the tile] = Σ d_h · h.
void store_gradient_tile(const Tile& tile, const Segments& segments, const GroupedGemmDgradParams& p,
                         float keep_scale, float* dots) {
  const int64_t ffn = p.hidden.shape[1];
  const bool mask_from_hidden = p.activation == Activation::relu && !p.pre_activation;
  visit_activation(p.activation, [&](auto act) {
    tile.for_rows([&](int r, int columns) {
      const int64_t row = tile.row + r, first = row * ffn + tile.column;
      const float s = p.row_scale.as<float>()[segments.permutation[row]];
      const float* d_h = tile[r];
      const float* h = p.hidden.as<float>() + first;
      float* d_z = p.d_hidden.as<float>() + first;
      float dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int j = 0; j < columns; ++j) dot += d_h[j] * h[j];
      dots[r] = dot;
      if (mask_from_hidden) {
        const float scale = s * keep_scale;
#pragma omp simd
        for (int j = 0; j < columns; ++j) d_z[j] = h[j] != 0 ? scale * d_h[j] : 0.0f;
      } else if (p.pre_activation) {
        const float* z = p.pre_activation.as<float>() + first;
#pragma omp simd
        for (int j = 0; j < columns; ++j) d_z[j] = s * d_h[j] * act.gradient(z[j]);
      } else {
#pragma omp simd
        for (int j = 0; j < columns; ++j) d_z[j] = s * d_h[j];
      }
    });
  });
}

}  // namespace

void grouped_gemm(Context& ctx, const GroupedGemmParams& p) {
  const Segments segments("grouped_gemm", p);
  const int64_t n = p.out.shape[1], k = p.a.shape[1];
  const Product product{
      packed::method_of(ctx.precision),
      {p.a.as<float>(), k, false, p.gather ? tokens_of_rows(ctx, segments, p.top_k) : nullptr},
      {p.weight.as<float>(), p.weight.shape[2], p.transpose_weight},
      k,
      {n, p.out.as<float>(), p.pre_activation.as<float>()}};
  const DropoutMask mask(p.dropout, p.seed, p.call);
  const auto compute = [&](int64_t expert, const Block& block, const Product& of_expert, Scratch& scratch) {
    packed::multiply_block(of_expert, block, scratch,
                           [&](const Tile& tile) { store_tile(tile, expert, segments, p); });
    if (p.dropout > 0) drop_block(mask, segments, block, n, p.out.as<float>());
  };
  for_segment_blocks(ctx, segments, product, n, compute);
}

void grouped_gemm_sum(Context& ctx, const GroupedGemmSumParams& p) {
  const int64_t num_tokens = p.out.shape[0], n = p.out.shape[1], k = p.a.shape[1];
  const Segments segments("grouped_gemm_sum", p, num_tokens);
  const packed::Method& method = packed::method_of(ctx.precision);
  Product product{method,
                  {p.a.as<float>(), k, false},
                  {p.weight.as<float>(), p.weight.shape[2], p.transpose_weight},
                  k,
                  {n, p.out.as<float>()},
                  {segments.num_experts, num_tokens * k, n * k, packed::packed_size(method, k, n)}};
  // Every block reads all of its columns' weights: no more of them than keep the threads busy.
  const int64_t enough = packed::min(packed::enough_blocks(num_tokens, n, segments.num_experts * k),
                                     4 * int64_t{ctx.pool.num_threads()});
  const Grid grid = packed::choose_grid(num_tokens, n, enough);
  if (grid.num_row_blocks() > 1) product.packed_b = packed::pack_ahead(ctx, product, segments.num_experts, n);
  ctx.pool.run(grid.num_blocks(), [&](int64_t task, Scratch& scratch) {
    packed::multiply_block(product, grid.block(task), scratch,
                           [&](const Tile& tile) { store_sum_tile(tile, segments, p); });
  });
}

void grouped_gemm_dgrad(Context& ctx, const GroupedGemmDgradParams& p) {
  const Segments segments("grouped_gemm_dgrad", p);
  const int64_t num_rows = segments.num_rows(), d_model = p.d_out.shape[1], ffn = p.hidden.shape[1];
  const Product product{packed::method_of(ctx.precision),
                        {p.d_out.as<float>(), d_model, false, tokens_of_rows(ctx, segments, p.top_k)},
                        {p.weight.as<float>(), ffn, true},
                        d_model,
                        {ffn, p.hidden.as<float>(), p.d_hidden.as<float>(), p.pre_activation.as<float>()}};
  const DropoutMask mask(p.dropout, p.seed, p.call);
  const bool mask_from_hidden = p.activation == Activation::relu && !p.pre_activation;
  const int64_t num_parts = ceil_div(ffn, packed::kTileColumns);
  float* bias_dots = ctx.workspace.take<float>(num_rows);                // ⟨d_out[token], b2⟩
  float* hidden_dots = ctx.workspace.take<float>(num_parts * num_rows);  // parts of Σ d_h · h
  const auto compute = [&](int64_t expert, const Block& block, Product of_expert, Scratch& scratch) {
    if (p.bias && block.column == 0) {
      of_expert.vector = p.bias.as<float>() + expert * d_model;
      of_expert.vector_sums = bias_dots + block.row;
    }
    packed::multiply_block(of_expert, block, scratch, [&](const Tile& tile) {
      float* dots = hidden_dots + tile.column / packed::kTileColumns * num_rows + tile.row;
      store_gradient_tile(tile, segments, p, mask.scale, dots);
    });
    if (p.dropout > 0 && !mask_from_hidden) {
      drop_block(mask, segments, block, ffn, p.d_hidden.as<float>());
    }
  };
  for_segment_blocks(ctx, segments, product, ffn, compute);

  float* d_row_scale = p.d_row_scale.as<float>();
  memset(d_row_scale, 0, p.d_row_scale.bytes());
  for (int64_t row = 0; row < num_rows; ++row) {
    const int64_t f = segments.permutation[row];
    const float s = p.row_scale.as<float>()[f];
    float dot = 0;
    for (int64_t part = 0; part < num_parts; ++part) dot += hidden_dots[part * num_rows + row];
    d_row_scale[f] = (s != 0 ? dot / s : 0.0f) + (p.bias ? bias_dots[row] : 0.0f);
  }
}

void grouped_gemm_wgrad(Context& ctx, const GroupedGemmWgradParams& p) {
  const Segments segments("grouped_gemm_wgrad", p);
  const int64_t m = p.d_weight.shape[1], n = p.d_weight.shape[2];
  const int32_t* tokens = p.gather_a || p.gather_b ? tokens_of_rows(ctx, segments, p.top_k) : nullptr;
  const packed::Method& method = packed::method_of(ctx.precision);
  const Operand a{p.a.as<float>(), m, true, p.gather_a ? tokens : nullptr};
  const Operand b{p.b.as<float>(), n, true, p.gather_b ? tokens : nullptr};
  const int64_t num_rows = segments.num_rows();
  float* scales = ctx.workspace.take<float>(num_rows);
  for (int64_t row = 0; p.d_bias && row < num_rows; ++row) {
    scales[row] = p.row_scale ? p.row_scale.as<float>()[segments.permutation[row]] : 1.0f;
  }
  // An expert's share of the blocks is its share of the rows.
  const int64_t enough = packed::enough_blocks(num_rows, n, m);
  const ExpertBlocks blocks(ctx, segments.num_experts, [&](int64_t e) {
    return packed::choose_grid(m, n, num_rows > 0 ? enough * segments.length(e) / num_rows : 0);
  });
  blocks.run(ctx, [&](int64_t expert, const Block& block, Scratch& scratch) {
    const int64_t first = segments.first(expert);
    float* d_weight = p.d_weight.as<float>() + expert * m * n;
    Product product{method, a.skip_rows(first), b.skip_rows(first), segments.length(expert), {n, d_weight}};
    if (product.k == 0 && p.accumulate) return;
    const bool with_bias = p.d_bias && block.column == 0;
    if (with_bias) {
      product.vector = scales + first;
      product.vector_sums = scratch.take<float>(block.rows);
    }
    packed::multiply_block(product, block, scratch, [&](const Tile& tile) {
      tile.for_rows([&](int r, int columns) {
        float* out = d_weight + (tile.row + r) * n + tile.column;
        const float* sums = tile[r];
#pragma omp simd
        for (int j = 0; j < columns; ++j) out[j] = (p.accumulate ? out[j] : 0.0f) + sums[j];
      });
    });
    if (!with_bias) return;
    float* d_bias = p.d_bias.as<float>() + expert * m + block.row;
    for (int64_t i = 0; i < block.rows; ++i) {
      d_bias[i] = (p.accumulate ? d_bias[i] : 0.0f) + product.vector_sums[i];
    }
  });
}

#endif

}  // namespace hr::HR_ISA_NAMESPACE
