// optim_math: one parameter's update for every optimiser. Formulas: ops/optim.h.
//
// An update object is built once per call, in double, and applied to each element in Real. Always inlined:
// each caller compiles it for its own instruction set.
#pragma once

#include <cmath>

#include "ops/math/host_device.h"
#include "ops/optim.h"

#define HR_UPDATE HR_HD inline __attribute__((always_inline))

namespace hr::math {

template <typename Real>
struct AdamUpdate {
  Real beta1, one_minus_beta1, beta2, one_minus_beta2;
  Real l2;                  // weight decay added to the gradient
  Real shrink;              // decoupled weight decay: 1 - lr · weight_decay
  Real step_size;           // lr / (1 - β1^t)
  Real inverse_correction;  // 1 / √(1 - β2^t)
  Real eps;

  HR_UPDATE explicit AdamUpdate(const AdamParams& p)
      : beta1(Real(p.beta1)),
        one_minus_beta1(Real(1 - p.beta1)),
        beta2(Real(p.beta2)),
        one_minus_beta2(Real(1 - p.beta2)),
        l2(Real(p.decoupled ? 0 : p.weight_decay)),
        shrink(Real(p.decoupled ? 1 - p.lr * p.weight_decay : 1)),
        step_size(Real(p.lr / (1 - std::pow(p.beta1, static_cast<double>(p.step))))),
        inverse_correction(Real(1 / std::sqrt(1 - std::pow(p.beta2, static_cast<double>(p.step))))),
        eps(Real(p.eps)) {}

  HR_UPDATE void apply(Real& param, Real g, Real& m, Real& v) const {
    g = g + l2 * param;
    m = beta1 * m + one_minus_beta1 * g;
    v = beta2 * v + one_minus_beta2 * g * g;
    param = shrink * param - step_size * (m / (std::sqrt(v) * inverse_correction + eps));
  }
};

template <typename Real>
struct SgdUpdate {
  Real lr, momentum, l2;
  bool nesterov;

  HR_UPDATE explicit SgdUpdate(const SgdParams& p)
      : lr(Real(p.lr)), momentum(Real(p.momentum)), l2(Real(p.weight_decay)), nesterov(p.nesterov) {}

  HR_UPDATE void apply(Real& param, Real g) const { param -= lr * (g + l2 * param); }

  HR_UPDATE void apply(Real& param, Real g, Real& buffer) const {
    g = g + l2 * param;
    buffer = momentum * buffer + g;
    param -= lr * (nesterov ? g + momentum * buffer : buffer);
  }
};

template <typename Real>
struct AdagradUpdate {
  Real lr, eps, l2;

  HR_UPDATE explicit AdagradUpdate(const AdagradParams& p)
      : lr(Real(p.lr)), eps(Real(p.eps)), l2(Real(p.weight_decay)) {}

  HR_UPDATE void apply(Real& param, Real g, Real& sum) const {
    g = g + l2 * param;
    sum += g * g;
    param -= lr * (g / (std::sqrt(sum) + eps));
  }
};

}  // namespace hr::math

#undef HR_UPDATE
