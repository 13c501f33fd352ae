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
    apply_dropout(mask, begin, end - begin, x + begin, residual ? residual + begin : nullptr, y + begin);
  });
}

}  // namespace hr::HR_ISA_NAMESPACE
