// hyper_router on the CPU. Contract and formulas: ops/hyper_router.h.
//
// Row r = expert · (d_model + 1) + column of W2 makes one number of a router: a weight, or, in the last
// column, the bias. All the work is reading W2 (and writing its gradient): it is cut into blocks of rows, and
// a row is used for every layer of its network while it is in cache.
#include "cpu/kernel.h"

#include "cpu/kernels/parallel.h"
#include "cpu/simd.h"

namespace hr::HR_ISA_NAMESPACE {

namespace {

struct Sizes {
  int64_t num_layers, num_networks, embed_dim, hyper_size, num_experts, d_model, num_outputs;

  template <typename Params>
  Sizes(const Params& p, const TensorView& router_weight)
      : num_layers(p.embedding.shape[0]),
        num_networks(p.w1.shape[0]),
        embed_dim(p.w1.shape[2]),
        hyper_size(p.w1.shape[1]),
        num_experts(router_weight.shape[1]),
        d_model(router_weight.shape[2]),
        num_outputs(num_experts * (d_model + 1)) {}

  int64_t network_of(int64_t layer) const { return num_networks == 1 ? 0 : layer; }
  int64_t first_layer(int64_t network) const { return network; }
  int64_t last_layer(int64_t network) const { return num_networks == 1 ? num_layers - 1 : network; }

  // The number of `layer` that row r of W2 stands for.
  template <typename T>
  T& output(T* weight, T* bias, int64_t layer, int64_t r) const {
    const int64_t expert = layer * num_experts + r / (d_model + 1), column = r % (d_model + 1);
    return column < d_model ? weight[expert * d_model + column] : bias[expert];
  }
};

}  // namespace

#if HR_IS_REFERENCE

void hyper_router_generate(Context&, const HyperRouterGenerateParams& p) {
  const Sizes s(p, p.router_weight);
  for (int64_t layer = 0; layer < s.num_layers; ++layer) {
    const int64_t network = s.network_of(layer);
    const Real* e = p.embedding.as<Real>() + layer * s.embed_dim;
    const Real* w1 = p.w1.as<Real>() + network * s.hyper_size * s.embed_dim;
    const Real* b1 = p.b1.as<Real>() + network * s.hyper_size;
    const Real* w2 = p.w2.as<Real>() + network * s.num_outputs * s.hyper_size;
    const Real* b2 = p.b2.as<Real>() + network * s.num_outputs;
    Real* a = p.hidden.as<Real>() + layer * s.hyper_size;
    for (int64_t h = 0; h < s.hyper_size; ++h) {
      Real u = b1[h];
      for (int64_t i = 0; i < s.embed_dim; ++i) u += w1[h * s.embed_dim + i] * e[i];
      a[h] = u < 0 ? 0 : u;
    }
    for (int64_t r = 0; r < s.num_outputs; ++r) {
      Real o = b2[r];
      for (int64_t h = 0; h < s.hyper_size; ++h) o += w2[r * s.hyper_size + h] * a[h];
      s.output(p.router_weight.as<Real>(), p.router_bias.as<Real>(), layer, r) = o;
    }
  }
}

void hyper_router_backward(Context&, const HyperRouterBackwardParams& p) {
  const Sizes s(p, p.d_router_weight);
  Real *d_embedding = p.d_embedding.as<Real>(), *d_w1 = p.d_w1.as<Real>(), *d_b1 = p.d_b1.as<Real>();
  Real *d_w2 = p.d_w2.as<Real>(), *d_b2 = p.d_b2.as<Real>();
  for (int64_t layer = 0; layer < s.num_layers; ++layer) {
    const int64_t network = s.network_of(layer);
    const Real* e = p.embedding.as<Real>() + layer * s.embed_dim;
    const Real* a = p.hidden.as<Real>() + layer * s.hyper_size;
    const auto d_o = [&](int64_t r) {
      return s.output(p.d_router_weight.as<Real>(), p.d_router_bias.as<Real>(), layer, r);
    };
    for (int64_t r = 0; r < s.num_outputs; ++r) {
      const int64_t row = network * s.num_outputs + r;
      if (d_b2) d_b2[row] += d_o(r);
      for (int64_t h = 0; d_w2 && h < s.hyper_size; ++h) d_w2[row * s.hyper_size + h] += d_o(r) * a[h];
    }
    for (int64_t h = 0; h < s.hyper_size; ++h) {
      const Real* w2 = p.w2.as<Real>() + network * s.num_outputs * s.hyper_size;
      Real d_a = 0;
      for (int64_t r = 0; r < s.num_outputs; ++r) d_a += w2[r * s.hyper_size + h] * d_o(r);
      const Real d_u = a[h] > 0 ? d_a : 0;
      const int64_t row = network * s.hyper_size + h;
      if (d_b1) d_b1[row] += d_u;
      for (int64_t i = 0; i < s.embed_dim; ++i) {
        const int64_t at = row * s.embed_dim + i;
        if (d_w1) d_w1[at] += d_u * e[i];
        if (d_embedding) d_embedding[layer * s.embed_dim + i] += d_u * p.w1.as<Real>()[at];
      }
    }
  }
}

#else

namespace {

HR_INLINE float dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// y += scale · x
HR_INLINE void add_scaled(float scale, const float* x, int64_t n, float* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = mul_add(scale, x[i], y[i]);
}

// Blocks of rows of W2, whose size is part of the result of a sum over rows.
struct RowBlocks {
  const Sizes& s;
  int64_t size = rows_per_task(s.hyper_size);
  int64_t count = ceil_div(s.num_outputs, size);

  // Calls fn(network, block, r) for each row r, in parallel over networks and blocks.
  template <typename Fn>
  void for_rows(Context& ctx, Fn&& fn) const {
    ctx.pool.run(s.num_networks * count, [&](int64_t task, Scratch&) {
      const int64_t block = task % count, end = (block + 1) * size;
      for (int64_t r = block * size; r < end && r < s.num_outputs; ++r) fn(task / count, block, r);
    });
  }
};

}  // namespace

void hyper_router_generate(Context& ctx, const HyperRouterGenerateParams& p) {
  const Sizes s(p, p.router_weight);
  float* hidden = p.hidden.as<float>();
  ctx.pool.run(s.num_layers, [&](int64_t layer, Scratch&) {
    const float* embedding = p.embedding.as<float>() + layer * s.embed_dim;
    for (int64_t h = 0; h < s.hyper_size; ++h) {
      const int64_t row = s.network_of(layer) * s.hyper_size + h;
      const float u =
          dot(p.w1.as<float>() + row * s.embed_dim, embedding, s.embed_dim) + p.b1.as<float>()[row];
      hidden[layer * s.hyper_size + h] = u < 0 ? 0.0f : u;
    }
  });
  RowBlocks{s}.for_rows(ctx, [&](int64_t network, int64_t, int64_t r) {
    const int64_t row = network * s.num_outputs + r;
    const float* w2 = p.w2.as<float>() + row * s.hyper_size;
    for (int64_t layer = s.first_layer(network); layer <= s.last_layer(network); ++layer) {
      s.output(p.router_weight.as<float>(), p.router_bias.as<float>(), layer, r) =
          dot(w2, hidden + layer * s.hyper_size, s.hyper_size) + p.b2.as<float>()[row];
    }
  });
}

void hyper_router_backward(Context& ctx, const HyperRouterBackwardParams& p) {
  const Sizes s(p, p.d_router_weight);
  const RowBlocks blocks{s};
  const float* hidden = p.hidden.as<float>();
  float* d_w2 = p.d_w2.as<float>();
  // da of each layer, one part per block.
  const int64_t num_parts = s.num_layers * blocks.count;
  float* parts = ctx.workspace.take<float>(num_parts * s.hyper_size);
  memset(parts, 0, num_parts * s.hyper_size * sizeof(float));
  blocks.for_rows(ctx, [&](int64_t network, int64_t block, int64_t r) {
    const int64_t row = network * s.num_outputs + r;
    for (int64_t layer = s.first_layer(network); layer <= s.last_layer(network); ++layer) {
      const float d_o = s.output(p.d_router_weight.as<float>(), p.d_router_bias.as<float>(), layer, r);
      float* part = parts + (layer * blocks.count + block) * s.hyper_size;
      add_scaled(d_o, p.w2.as<float>() + row * s.hyper_size, s.hyper_size, part);
      if (p.d_b2) p.d_b2.as<float>()[row] += d_o;
      if (d_w2) add_scaled(d_o, hidden + layer * s.hyper_size, s.hyper_size, d_w2 + row * s.hyper_size);
    }
  });
  // Layers that share a network add to the same gradients: one task per network, layer after layer.
  ctx.pool.run(s.num_networks, [&](int64_t network, Scratch& scratch) {
    float* d_a = scratch.take<float>(s.hyper_size);
    for (int64_t layer = s.first_layer(network); layer <= s.last_layer(network); ++layer) {
      const float* embedding = p.embedding.as<float>() + layer * s.embed_dim;
      memset(d_a, 0, s.hyper_size * sizeof(float));
      for (int64_t block = 0; block < blocks.count; ++block) {
        add_scaled(1, parts + (layer * blocks.count + block) * s.hyper_size, s.hyper_size, d_a);
      }
      for (int64_t h = 0; h < s.hyper_size; ++h) {
        const float d_u = hidden[layer * s.hyper_size + h] > 0 ? d_a[h] : 0.0f;
        const int64_t row = network * s.hyper_size + h, first = row * s.embed_dim;
        if (p.d_b1) p.d_b1.as<float>()[row] += d_u;
        if (p.d_w1) add_scaled(d_u, embedding, s.embed_dim, p.d_w1.as<float>() + first);
        if (p.d_embedding) {
          add_scaled(d_u, p.w1.as<float>() + first, s.embed_dim,
                     p.d_embedding.as<float>() + layer * s.embed_dim);
        }
      }
    }
  });
}

#endif

}  // namespace hr::HR_ISA_NAMESPACE
