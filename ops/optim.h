// optim: optimiser updates, one pass over a flat range of parameters.
//
// g is grad · grad_scale[0] (the clip factor, read on the device; absent means 1). All tensors have the
// same element count.
#pragma once

#include "ops/check.h"

namespace hr {

// adam: m = β1·m + (1-β1)·g;  v = β2·v + (1-β2)·g²
//       θ -= lr / (1-β1^t) · m / (√v / √(1-β2^t) + eps)                      [Kingma and Ba 2015]
// weight_decay: added to g (L2), or θ -= lr · weight_decay · θ first when decoupled [AdamW, Loshchilov 2019].
struct AdamParams {
  InOut param;
  In grad;
  InOut m;
  InOut v;
  OptIn grad_scale;  // [1]
  double lr = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  bool decoupled = false;
  int64_t step = 1;  // t, counted from 1
  HR_FIELDS(param, grad, m, v, grad_scale, lr, beta1, beta2, eps, weight_decay, decoupled, step)
  void check() const {
    Check c("adam");
    c.floats({{"param", param}, {"grad", grad}, {"m", m}, {"v", v}, {"grad_scale", grad_scale}});
    c.same_size("grad", grad, "param", param);
    c.same_size("m", m, "param", param);
    c.same_size("v", v, "param", param);
    c.shape("grad_scale", grad_scale, {{"", 1}});
    c.finite("lr", lr);
    c.probability("beta1", beta1);
    c.probability("beta2", beta2);
    c.require(eps >= 0, "eps", "\"eps\" must not be negative");
    c.finite("weight_decay", weight_decay);
    c.range("step", static_cast<double>(step), 1, 9007199254740991.0);
  }
};

// sgd: b = momentum·b + g;  θ -= lr·b, or lr·(g + momentum·b) with nesterov. L2 weight decay.
struct SgdParams {
  InOut param;
  In grad;
  OptInOut momentum_buffer;  // b; required when momentum is not 0
  OptIn grad_scale;          // [1]
  double lr = 0;
  double momentum = 0;
  double weight_decay = 0;
  bool nesterov = false;
  HR_FIELDS(param, grad, momentum_buffer, grad_scale, lr, momentum, weight_decay, nesterov)
  void check() const {
    Check c("sgd");
    c.floats(
        {{"param", param}, {"grad", grad}, {"momentum_buffer", momentum_buffer}, {"grad_scale", grad_scale}});
    c.same_size("grad", grad, "param", param);
    if (momentum_buffer) c.same_size("momentum_buffer", momentum_buffer, "param", param);
    c.shape("grad_scale", grad_scale, {{"", 1}});
    c.finite("lr", lr);
    c.probability("momentum", momentum);
    c.require(momentum == 0 || momentum_buffer, "momentum_buffer", "momentum needs \"momentum_buffer\"");
    c.finite("weight_decay", weight_decay);
  }
};

// adagrad: s += g²;  θ -= lr · g / (√s + eps)                                     [Duchi et al. 2011]
struct AdagradParams {
  InOut param;
  In grad;
  InOut sum;         // s
  OptIn grad_scale;  // [1]
  double lr = 0;
  double eps = 1e-10;
  double weight_decay = 0;
  HR_FIELDS(param, grad, sum, grad_scale, lr, eps, weight_decay)
  void check() const {
    Check c("adagrad");
    c.floats({{"param", param}, {"grad", grad}, {"sum", sum}, {"grad_scale", grad_scale}});
    c.same_size("grad", grad, "param", param);
    c.same_size("sum", sum, "param", param);
    c.shape("grad_scale", grad_scale, {{"", 1}});
    c.finite("lr", lr);
    c.require(eps >= 0, "eps", "\"eps\" must not be negative");
    c.finite("weight_decay", weight_decay);
  }
};

#define OPS_OPTIM(OP)  \
  OP(adam, AdamParams) \
  OP(sgd, SgdParams)   \
  OP(adagrad, AdagradParams)

}  // namespace hr
