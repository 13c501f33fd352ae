// dropout: y = mask(x) + residual. A thread takes four elements, which are one Philox block.
//
//   bytes  x and residual read, y written; masks are computed, never stored
#include "cuda/kernels/dropout_mask.h"

namespace hr::cuda {

namespace {

struct DropoutKernel {
  static constexpr int kThreads = kElementThreads;
  const float* x;         // [n]
  const float* residual;  // [n], or null
  float* y;               // [n]
  int64_t n;
  DropoutMask mask;
  bool aligned;

  HR_DEVICE void operator()() const {
    for_quads(n, [&](int64_t first, int count) {
      Quad value = load_quad(x + first, count, aligned);
      mask.apply(first, value);
      if (residual) {
        const Quad other = load_quad(residual + first, count, aligned);
        HR_UNROLL
        for (int i = 0; i < 4; ++i) value.v[i] += other.v[i];
      }
      store_quad(y + first, value, count, aligned);
    });
  }
};

}  // namespace

void dropout(Context& ctx, const DropoutParams& p) {
  const float *x = p.x.as<float>(), *residual = p.residual.as<float>();
  float* y = p.y.as<float>();
  const int64_t n = p.x.size();
  const bool aligned = is_aligned16(x) && is_aligned16(y) && is_aligned16(residual);
  launch(ctx, DropoutKernel{x, residual, y, n, DropoutMask(p.dropout, p.seed, p.call), aligned},
         blocks_for_elements(ctx, n));
}

}  // namespace hr::cuda
