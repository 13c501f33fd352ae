// random: tensors filled from Philox counters, the same bits as on the CPU (ops/math/random_math.h).
//
//   bytes  out written once. A thread makes four numbers, which are one Philox block; normal numbers are
//          bound by their double arithmetic
#include "cuda/kernels/quads.h"
#include "ops/math/random_math.h"

namespace hr::cuda {

namespace {

struct UniformNumbers {
  double low, high;
  HR_DEVICE void operator()(const math::PhiloxBlock& words, Quad& x) const {
    HR_UNROLL
    for (int i = 0; i < 4; ++i) x.v[i] = math::uniform_between(low, high, words.word[i]);
  }
};

struct NormalNumbers {
  double mean, std;
  HR_DEVICE void operator()(const math::PhiloxBlock& words, Quad& x) const {
    HR_UNROLL
    for (int i = 0; i < 4; i += 2) {
      const math::NormalPair pair = math::normal_pair(words.word[i], words.word[i + 1]);
      x.v[i] = pair.z0;
      x.v[i + 1] = pair.z1;
    }
    // A loop of its own: in one with the above, GCC 12 drops the rounding of z to f32.
    for (int i = 0; i < 4; ++i) x.v[i] = math::normal_with(mean, std, x.v[i]);
  }
};

template <typename Numbers>
struct RandomKernel {
  static constexpr int kThreads = kElementThreads;
  float* out;  // [n]
  int64_t n;
  uint64_t seed, call;
  Numbers numbers;
  bool aligned;

  HR_DEVICE void operator()() const {
    for_quads(n, [&](int64_t first, int count) {
      Quad x;
      numbers(math::philox_block(seed, call, static_cast<uint64_t>(first) / 4), x);
      store_quad(out + first, x, count, aligned);
    });
  }
};

template <typename Params, typename Numbers>
void fill_randomly(Context& ctx, const Params& p, Numbers numbers) {
  float* out = p.out.template as<float>();
  const int64_t n = p.out.size();
  launch(ctx, RandomKernel<Numbers>{out, n, p.seed, p.call, numbers, is_aligned16(out)},
         blocks_for_elements(ctx, n));
}

}  // namespace

void random_uniform(Context& ctx, const RandomUniformParams& p) {
  fill_randomly(ctx, p, UniformNumbers{p.low, p.high});
}

void random_normal(Context& ctx, const RandomNormalParams& p) {
  fill_randomly(ctx, p, NormalNumbers{p.mean, p.std});
}

}  // namespace hr::cuda
