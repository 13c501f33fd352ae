// dropout on the CPU.
#include "cpu/kernel.h"
#include "ops/math/philox.h"

#include "cpu/kernels/parallel.h"
#include "cpu/kernels/philox_words.h"

namespace hr::HR_ISA_NAMESPACE {

void dropout(Context& ctx, const DropoutParams& p) {
  const Real* x = p.x.as<Real>();
  const Real* residual = p.residual.as<Real>();
  Real* y = p.y.as<Real>();
  const DropoutMask mask(p.dropout, p.seed, p.call);
  for_elements(ctx, p.x.size(), [&](int64_t begin, int64_t end) {
    mask.for_words(begin, end - begin, [&](int64_t offset, int n, const uint32_t* words) {
      const int64_t i = begin + offset;
      if (residual) {
#pragma omp simd
        for (int j = 0; j < n; ++j) y[i + j] = mask.apply(words[j], x[i + j]) + residual[i + j];
      } else {
#pragma omp simd
        for (int j = 0; j < n; ++j) y[i + j] = mask.apply(words[j], x[i + j]);
      }
    });
  });
}

}  // namespace hr::HR_ISA_NAMESPACE
