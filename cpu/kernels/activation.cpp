// activation on the CPU. Formulas: cpu/kernels/activation_math.h.
#include "cpu/kernel.h"

#include "cpu/kernels/activation_math.h"
#include "cpu/kernels/parallel.h"

namespace hr::HR_ISA_NAMESPACE {

void activation(Context& ctx, const ActivationParams& p) {
  const Real* x = p.x.as<Real>();
  Real* y = p.y.as<Real>();
  visit_activation(p.kind, [&](auto act) {
    for_elements(ctx, p.x.size(), [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) y[i] = act.value(x[i]);
    });
  });
}

void activation_backward(Context& ctx, const ActivationBackwardParams& p) {
  const Real* d_y = p.d_y.as<Real>();
  const Real* x = p.x.as<Real>();
  Real* d_x = p.d_x.as<Real>();
  visit_activation(p.kind, [&](auto act) {
    for_elements(ctx, p.x.size(), [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) d_x[i] = d_y[i] * act.gradient(x[i]);
    });
  });
}

}  // namespace hr::HR_ISA_NAMESPACE
