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
  int64_t num_layers, num_networks, embed_dim, hyper_size, num_experts, d_model;

  template <typename Params>
  Sizes(const Params& p, const TensorView& router_weight)
      : num_layers(p.embedding.shape[0]),
        num_networks(p.w1.shape[0]),
        embed_dim(p.w1.shape[2]),
        hyper_size(p.w1.shape[1]),
        num_experts(router_weight.shape[1]),
        d_model(router_weight.shape[2]) {}

  int64_t num_outputs() const { return num_experts * (d_model + 1); }
  int64_t layers_per_network() const { return num_networks == 1 ? num_layers : 1; }
  int64_t network_of(int64_t layer) const { return num_networks == 1 ? 0 : layer; }

  // The number of `layer` that row r of W2 stands for.
  template <typename T>
  T& output(T* weight, T* bias, int64_t layer, int64_t r) const {
    const int64_t row = layer * num_experts + r / (d_model + 1), column = r % (d_model + 1);
    return column < d_model ? weight[row * d_model + column] : bias[row];
  }
};

}  // namespace

#if HR_IS_REFERENCE

void hyper_router_generate(Context&, const HyperRouterGenerateParams& p) {
  const Sizes s(p, p.router_weight);
  const Real *embedding = p.embedding.as<Real>(), *w1 = p.w1.as<Real>(), *b1 = p.b1.as<Real>();
  const Real *w2 = p.w2.as<Real>(), *b2 = p.b2.as<Real>();
  Real* hidden = p.hidden.as<Real>();
  for (int64_t layer = 0; layer < s.num_layers; ++layer) {
    const int64_t network = s.network_of(layer);
    for (int64_t h = 0; h < s.hyper_size; ++h) {
      const int64_t row = network * s.hyper_size + h;
      Real u = b1[row];
      for (int64_t i = 0; i < s.embed_dim; ++i)
        u += w1[row * s.embed_dim + i] * embedding[layer * s.embed_dim + i];
      hidden[layer * s.hyper_size + h] = u < 0 ? 0 : u;
    }
    for (int64_t r = 0; r < s.num_outputs(); ++r) {
      const int64_t row = network * s.num_outputs() + r;
      Real o = b2[row];
      for (int64_t h = 0; h < s.hyper_size; ++h)
        o += w2[row * s.hyper_size + h] * hidden[layer * s.hyper_size + h];
      s.output(p.router_weight.as<Real>(), p.router_bias.as<Real>(), layer, r) = o;
    }
  }
}

void hyper_router_backward(Context&, const HyperRouterBackwardParams& p) {
  const Sizes s(p, p.d_router_weight);
  const Real *embedding = p.embedding.as<Real>(), *w1 = p.w1.as<Real>(), *w2 = p.w2.as<Real>();
  const Real* hidden = p.hidden.as<Real>();
  Real *d_embedding = p.d_embedding.as<Real>(), *d_w1 = p.d_w1.as<Real>(), *d_b1 = p.d_b1.as<Real>();
  Real *d_w2 = p.d_w2.as<Real>(), *d_b2 = p.d_b2.as<Real>();
  for (int64_t layer = 0; layer < s.num_layers; ++layer) {
    const int64_t network = s.network_of(layer);
    const auto d_o = [&](int64_t r) {
      return s.output(p.d_router_weight.as<Real>(), p.d_router_bias.as<Real>(), layer, r);
    };
    for (int64_t r = 0; r < s.num_outputs(); ++r) {
      const int64_t row = network * s.num_outputs() + r;
      if (d_b2) d_b2[row] += d_o(r);
      for (int64_t h = 0; d_w2 && h < s.hyper_size; ++h) {
        d_w2[row * s.hyper_size + h] += d_o(r) * hidden[layer * s.hyper_size + h];
      }
    }
    for (int64_t h = 0; h < s.hyper_size; ++h) {
      Real d_u = 0;
      for (int64_t r = 0; r < s.num_outputs(); ++r)
        d_u += w2[(network * s.num_outputs() + r) * s.hyper_size + h] * d_o(r);
      if (!(hidden[layer * s.hyper_size + h] > 0)) d_u = 0;
      const int64_t row = network * s.hyper_size + h;
      if (d_b1) d_b1[row] += d_u;
      for (int64_t i = 0; i < s.embed_dim; ++i) {
        if (d_w1) d_w1[row * s.embed_dim + i] += d_u * embedding[layer * s.embed_dim + i];
        if (d_embedding) d_embedding[layer * s.embed_dim + i] += d_u * w1[row * s.embed_dim + i];
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

// Calls fn(network, first, last, block) for blocks of rows of W2, in parallel.
template <typename Fn>
void for_row_blocks(Context& ctx, const Sizes& s, int64_t block_rows, Fn&& fn) {
  const int64_t blocks = ceil_div(s.num_outputs(), block_rows);
  ctx.pool.run(s.num_networks * blocks, [&](int64_t task, Scratch&) {
    const int64_t block = task % blocks, first = block * block_rows, end = first + block_rows;
    fn(task / blocks, first, end < s.num_outputs() ? end : s.num_outputs(), block);
  });
}

}  // namespace

void hyper_router_generate(Context& ctx, const HyperRouterGenerateParams& p) {
  const Sizes s(p, p.router_weight);
  const int64_t per_network = s.layers_per_network();
  float* hidden = p.hidden.as<float>();
  ctx.pool.run(s.num_layers, [&](int64_t layer, Scratch&) {
    for (int64_t h = 0; h < s.hyper_size; ++h) {
      const int64_t row = s.network_of(layer) * s.hyper_size + h;
      const float* embedding = p.embedding.as<float>() + layer * s.embed_dim;
      const float u =
          dot(p.w1.as<float>() + row * s.embed_dim, embedding, s.embed_dim) + p.b1.as<float>()[row];
      hidden[layer * s.hyper_size + h] = u < 0 ? 0.0f : u;
    }
  });
  for_row_blocks(
      ctx, s, rows_per_task(s.hyper_size), [&](int64_t network, int64_t first, int64_t last, int64_t) {
        for (int64_t r = first; r < last; ++r) {
          const int64_t row = network * s.num_outputs() + r;
          const float* w2 = p.w2.as<float>() + row * s.hyper_size;
          for (int64_t layer = network * per_network; layer < (network + 1) * per_network; ++layer) {
            s.output(p.router_weight.as<float>(), p.router_bias.as<float>(), layer, r) =
                dot(w2, hidden + layer * s.hyper_size, s.hyper_size) + p.b2.as<float>()[row];
          }
        }
      });
}

void hyper_router_backward(Context& ctx, const HyperRouterBackwardParams& p) {
  const Sizes s(p, p.d_router_weight);
  const int64_t per_network = s.layers_per_network();
  const int64_t block_rows = rows_per_task(s.hyper_size), blocks = ceil_div(s.num_outputs(), block_rows);
  const float* hidden = p.hidden.as<float>();
  // da of each layer, one part per block of rows
  float* parts = ctx.workspace.take<float>(s.num_layers * blocks * s.hyper_size);
  for_row_blocks(ctx, s, block_rows, [&](int64_t network, int64_t first, int64_t last, int64_t block) {
    for (int64_t i = 0; i < per_network; ++i) {
      memset(parts + ((network * per_network + i) * blocks + block) * s.hyper_size, 0,
             s.hyper_size * sizeof(float));
    }
    for (int64_t r = first; r < last; ++r) {
      const int64_t row = network * s.num_outputs() + r;
      for (int64_t layer = network * per_network; layer < (network + 1) * per_network; ++layer) {
        const float d_o = s.output(p.d_router_weight.as<float>(), p.d_router_bias.as<float>(), layer, r);
        add_scaled(d_o, p.w2.as<float>() + row * s.hyper_size, s.hyper_size,
                   parts + (layer * blocks + block) * s.hyper_size);
        if (p.d_b2) p.d_b2.as<float>()[row] += d_o;
        if (p.d_w2) {
          add_scaled(d_o, hidden + layer * s.hyper_size, s.hyper_size,
                     p.d_w2.as<float>() + row * s.hyper_size);
        }
      }
    }
  });
  // Layers that share a network add to the same gradients: one task per network, layer after layer.
  ctx.pool.run(s.num_networks, [&](int64_t network, Scratch& scratch) {
    float* d_u = scratch.take<float>(s.hyper_size);
    for (int64_t layer = network * per_network; layer < (network + 1) * per_network; ++layer) {
      const float* embedding = p.embedding.as<float>() + layer * s.embed_dim;
      memset(d_u, 0, s.hyper_size * sizeof(float));
      for (int64_t block = 0; block < blocks; ++block) {
        add_scaled(1, parts + (layer * blocks + block) * s.hyper_size, s.hyper_size, d_u);
      }
      for (int64_t h = 0; h < s.hyper_size; ++h) {
        if (!(hidden[layer * s.hyper_size + h] > 0)) d_u[h] = 0;
        const int64_t row = network * s.hyper_size + h;
        if (p.d_b1) p.d_b1.as<float>()[row] += d_u[h];
        if (p.d_w1) add_scaled(d_u[h], embedding, s.embed_dim, p.d_w1.as<float>() + row * s.embed_dim);
        if (p.d_embedding) {
          add_scaled(d_u[h], p.w1.as<float>() + row * s.embed_dim, s.embed_dim,
                     p.d_embedding.as<float>() + layer * s.embed_dim);
        }
      }
    }
  });
}

#endif

}  // namespace hr::HR_ISA_NAMESPACE
