// optimiser updates on the CPU. Formulas: ops/math/optim_math.h.
#include "cpu/kernel.h"
#include "ops/math/optim_math.h"

#include "cpu/kernels/parallel.h"

namespace hr::HR_ISA_NAMESPACE {

namespace {

Real read_scale(const OptIn& grad_scale) { return grad_scale ? *grad_scale.as<Real>() : Real(1); }

}  // namespace

void adam(Context& ctx, const AdamParams& p) {
  Real* param = p.param.as<Real>();
  const Real* grad = p.grad.as<Real>();
  Real* m = p.m.as<Real>();
  Real* v = p.v.as<Real>();
  const Real scale = read_scale(p.grad_scale);
  const math::AdamUpdate<Real> update(p);
  for_elements(ctx, p.param.size(), [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) update.apply(param[i], grad[i] * scale, m[i], v[i]);
  });
}

void sgd(Context& ctx, const SgdParams& p) {
  Real* param = p.param.as<Real>();
  const Real* grad = p.grad.as<Real>();
  Real* buffer = p.momentum_buffer.as<Real>();
  const Real scale = read_scale(p.grad_scale);
  const math::SgdUpdate<Real> update(p);
  for_elements(ctx, p.param.size(), [&](int64_t begin, int64_t end) {
    if (buffer) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) update.apply(param[i], grad[i] * scale, buffer[i]);
    } else {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) update.apply(param[i], grad[i] * scale);
    }
  });
}

void adagrad(Context& ctx, const AdagradParams& p) {
  Real* param = p.param.as<Real>();
  const Real* grad = p.grad.as<Real>();
  Real* sum = p.sum.as<Real>();
  const Real scale = read_scale(p.grad_scale);
  const math::AdagradUpdate<Real> update(p);
  for_elements(ctx, p.param.size(), [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) update.apply(param[i], grad[i] * scale, sum[i]);
  });
}

}  // namespace hr::HR_ISA_NAMESPACE
