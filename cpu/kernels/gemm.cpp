// gemm on the CPU. Contract: ops/gemm.h.
#include "cpu/kernel.h"

#include "cpu/kernels/activation_math.h"
#include "cpu/simd.h"
#if HR_IS_REFERENCE
#include "cpu/kernels/reference_product.h"
#else
#include "cpu/kernels/packed_product.h"
#endif

namespace hr::HR_ISA_NAMESPACE {

using cpu::Context;

#if HR_IS_REFERENCE

void gemm(Context& ctx, const GemmParams& p) {
  const int64_t m = p.c.shape[0], n = p.c.shape[1], k = p.a.shape[p.transpose_a ? 0 : 1];
  const Real *a = p.a.as<Real>(), *b = p.b.as<Real>(), *bias = p.bias.as<Real>();
  Real* c = p.c.as<Real>();
  visit_activation(p.activation, [&](auto act) {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        Real sum = 0;
        for (int64_t l = 0; l < k; ++l) {
          sum += factor(ctx, p.transpose_a ? a[l * m + i] : a[i * k + l]) *
                 factor(ctx, p.transpose_b ? b[j * k + l] : b[l * n + j]);
        }
        Real& out = c[i * n + j];
        out = p.accumulate ? out + sum : act.value(sum + (bias ? bias[j] : 0));
      }
    }
  });
}

#else

namespace {

// c = act(sums + bias), or c += sums.
void store_tile(const packed::Tile& tile, const GemmParams& p) {
  const int64_t n = p.c.shape[1];
  float* c = p.c.as<float>() + tile.row * n + tile.column;
  const float* bias = p.bias ? p.bias.as<float>() + tile.column : nullptr;
  visit_activation(p.activation, [&](auto act) {
    tile.for_rows([&](int row, int columns) {
      const float* sums = tile[row];
      float* out = c + row * n;
      if (p.accumulate) {
#pragma omp simd
        for (int j = 0; j < columns; ++j) out[j] += sums[j];
      } else if (bias) {
#pragma omp simd
        for (int j = 0; j < columns; ++j) out[j] = act.value(sums[j] + bias[j]);
      } else {
#pragma omp simd
        for (int j = 0; j < columns; ++j) out[j] = act.value(sums[j]);
      }
    });
  });
}

}  // namespace

void gemm(Context& ctx, const GemmParams& p) {
  const int64_t m = p.c.shape[0], n = p.c.shape[1], k = p.a.shape[p.transpose_a ? 0 : 1];
  packed::Product product{packed::method_of(ctx.precision),
                          {p.a.as<float>(), p.a.shape[1], p.transpose_a},
                          {p.b.as<float>(), p.b.shape[1], !p.transpose_b},
                          k,
                          {n, p.c.as<float>()}};
  const packed::Grid grid = packed::choose_grid(m, n, packed::enough_blocks(m, n, k));
  if (grid.num_row_blocks() > 1) product.packed_b = packed::pack_ahead(ctx, product, 1, n);
  ctx.pool.run(grid.num_blocks(), [&](int64_t task, Scratch& scratch) {
    packed::multiply_block(product, grid.block(task), scratch,
                           [&](const packed::Tile& tile) { store_tile(tile, p); });
  });
}

#endif

}  // namespace hr::HR_ISA_NAMESPACE
