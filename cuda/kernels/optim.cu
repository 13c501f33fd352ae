// optimiser updates: one pass over the flat range of parameters. Formulas: ops/math/optim_math.h.
//
//   bytes  per parameter: grad read; param and each state read and written (adam: 28 bytes)
//   The clip factor is read from device memory by every thread.
#include "cuda/kernels/elements.h"
#include "ops/math/optim_math.h"

namespace hr::cuda {

namespace {

constexpr int kMostStates = 2;

// update.apply(param, gradient, states...) for each element.
template <typename Update, int kStates>
struct UpdateKernel {
  static constexpr int kThreads = kElementThreads;
  float* param;                // [n]
  const float* grad;           // [n]
  float* states[kMostStates];  // [n] each
  const float* grad_scale;     // [1], or null
  int64_t n;
  Update update;
  bool aligned;

  HR_DEVICE void operator()() const {
    const float scale = grad_scale ? *grad_scale : 1.0f;
    for_elements(n, aligned, [&](int64_t i, auto width) {
      constexpr int kWidth = decltype(width)::value;
      Packet<kWidth> x = load<kWidth>(param + i), state[kMostStates];
      const Packet<kWidth> g = load<kWidth>(grad + i);
      HR_UNROLL
      for (int s = 0; s < kStates; ++s) state[s] = load<kWidth>(states[s] + i);
      HR_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        if constexpr (kStates == 0) update.apply(x.v[j], g.v[j] * scale);
        if constexpr (kStates == 1) update.apply(x.v[j], g.v[j] * scale, state[0].v[j]);
        if constexpr (kStates == 2) update.apply(x.v[j], g.v[j] * scale, state[0].v[j], state[1].v[j]);
      }
      store<kWidth>(param + i, x);
      HR_UNROLL
      for (int s = 0; s < kStates; ++s) store<kWidth>(states[s] + i, state[s]);
    });
  }
};

template <int kStates, typename Params, typename Update>
void apply_update(Context& ctx, const Params& p, const Update& update, float* state = nullptr,
                  float* other_state = nullptr) {
  float* param = p.param.template as<float>();
  const float* grad = p.grad.template as<float>();
  const int64_t n = p.param.size();
  const bool aligned =
      is_aligned16(param) && is_aligned16(grad) && is_aligned16(state) && is_aligned16(other_state);
  launch(ctx,
         UpdateKernel<Update, kStates>{
             param, grad, {state, other_state}, p.grad_scale.template as<float>(), n, update, aligned},
         blocks_for_elements(ctx, n));
}

}  // namespace

void adam(Context& ctx, const AdamParams& p) {
  apply_update<2>(ctx, p, math::AdamUpdate<float>(p), p.m.as<float>(), p.v.as<float>());
}

void sgd(Context& ctx, const SgdParams& p) {
  const math::SgdUpdate<float> update(p);
  if (p.momentum_buffer) {
    apply_update<1>(ctx, p, update, p.momentum_buffer.as<float>());
  } else {
    apply_update<0>(ctx, p, update);
  }
}

void adagrad(Context& ctx, const AdagradParams& p) {
  apply_update<1>(ctx, p, math::AdagradUpdate<float>(p), p.sum.as<float>());
}

}  // namespace hr::cuda
