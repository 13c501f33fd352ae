// activation: elementwise non-linearities and their derivatives. Formulas: cuda/kernels/activation_math.h.
//
//   bytes  forward: x read, y written; backward: d_y and x read, d_x written. 16 bytes a thread and step.
#include "cuda/kernels/activation_math.h"
#include "cuda/kernels/elements.h"

namespace hr::cuda {

namespace {

struct ActivationKernel {
  static constexpr int kThreads = kElementThreads;
  const float* x;  // [n]
  float* y;        // [n]
  int64_t n;
  Activation kind;
  bool aligned;

  HR_DEVICE void operator()() const {
    for_elements(n, aligned, [&](int64_t i, auto width) {
      constexpr int kWidth = decltype(width)::value;
      Packet<kWidth> value = load<kWidth>(x + i);
      HR_UNROLL
      for (int j = 0; j < kWidth; ++j) value.v[j] = activate(kind, value.v[j]);
      store<kWidth>(y + i, value);
    });
  }
};

struct ActivationBackwardKernel {
  static constexpr int kThreads = kElementThreads;
  const float* d_y;  // [n]
  const float* x;    // [n]
  float* d_x;        // [n]
  int64_t n;
  Activation kind;
  bool aligned;

  HR_DEVICE void operator()() const {
    for_elements(n, aligned, [&](int64_t i, auto width) {
      constexpr int kWidth = decltype(width)::value;
      const Packet<kWidth> before = load<kWidth>(x + i);
      Packet<kWidth> gradient = load<kWidth>(d_y + i);
      HR_UNROLL
      for (int j = 0; j < kWidth; ++j) gradient.v[j] *= activation_slope(kind, before.v[j]);
      store<kWidth>(d_x + i, gradient);
    });
  }
};

}  // namespace

void activation(Context& ctx, const ActivationParams& p) {
  const float* x = p.x.as<float>();
  float* y = p.y.as<float>();
  const int64_t n = p.x.size();
  launch(ctx, ActivationKernel{x, y, n, p.kind, is_aligned16(x) && is_aligned16(y)},
         blocks_for_elements(ctx, n));
}

void activation_backward(Context& ctx, const ActivationBackwardParams& p) {
  const float *d_y = p.d_y.as<float>(), *x = p.x.as<float>();
  float* d_x = p.d_x.as<float>();
  const int64_t n = p.x.size();
  const bool aligned = is_aligned16(d_y) && is_aligned16(x) && is_aligned16(d_x);
  launch(ctx, ActivationBackwardKernel{d_y, x, d_x, n, p.kind, aligned}, blocks_for_elements(ctx, n));
}

}  // namespace hr::cuda
