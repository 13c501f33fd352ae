// rel_attention on the CPU. Formulas and shapes: ops/rel_attention.h.
#include "cpu/kernel.h"
#include "ops/math/philox.h"

#include "cpu/simd.h"
#if HR_IS_REFERENCE
#include "cpu/kernels/reference_product.h"
#else
#include "cpu/kernels/attention_backward.h"
#include "cpu/kernels/attention_forward.h"
#endif

namespace hr::HR_ISA_NAMESPACE {

using cpu::Context;
using cpu::Scratch;

#if HR_IS_REFERENCE

namespace {

template <typename Tensor>
auto as(const Tensor& t) {
  return t.template as<Real>();
}

// One (batch, head), one element at a time.
template <typename Params>
struct Head {
  const Context& ctx;
  const Params& p;
  int64_t b, h;
  int64_t q_len = p.q.shape[0], k_len = p.kv.shape[0], batch = p.q.shape[1];
  int64_t d_head = p.u.shape[1], width = p.q.shape[2];
  Real scale = 1 / __builtin_sqrt(static_cast<Real>(d_head));

  // Where element k of a row lies.
  int64_t query(int64_t i, int64_t k) const { return (i * batch + b) * width + bias(k); }
  int64_t key(int64_t j, int64_t k) const { return (j * batch + b) * 2 * width + bias(k); }
  int64_t value(int64_t j, int64_t k) const { return key(j, k) + width; }
  int64_t position(int64_t i, int64_t j, int64_t k) const { return (j + q_len - 1 - i) * width + bias(k); }
  int64_t bias(int64_t k) const { return h * d_head + k; }
  int64_t score_row(int64_t i) const { return (b * p.u.shape[0] + h) * q_len + i; }

  bool blocked(int64_t i, int64_t j) const { return j > i + (k_len - q_len) || j <= i - p.blocked_lag; }

  // Factors of products.
  Real with_u(int64_t i, int64_t k) const {
    return factor(ctx, scale * (as(p.q)[query(i, k)] + as(p.u)[bias(k)]));
  }
  Real with_v(int64_t i, int64_t k) const {
    return factor(ctx, scale * (as(p.q)[query(i, k)] + as(p.v)[bias(k)]));
  }
  Real key_factor(int64_t j, int64_t k) const { return factor(ctx, as(p.kv)[key(j, k)]); }
  Real value_factor(int64_t j, int64_t k) const { return factor(ctx, as(p.kv)[value(j, k)]); }
  Real position_factor(int64_t i, int64_t j, int64_t k) const {
    return factor(ctx, as(p.p)[position(i, j, k)]);
  }

  Real score(int64_t i, int64_t j) const {
    Real sum = 0;
    for (int64_t k = 0; k < d_head; ++k) {
      sum += with_u(i, k) * key_factor(j, k);
      sum += with_v(i, k) * position_factor(i, j, k);
    }
    return sum;
  }

  // The dropout factor of a probability.
  Real keep(int64_t i, int64_t j) const {
    if (p.dropout == 0) return 1;
    const uint32_t bits = math::philox_u32(p.seed, p.call, static_cast<uint64_t>(score_row(i) * k_len + j));
    return math::is_kept(bits, math::drop_threshold(p.dropout)) ? 1 / (1 - p.dropout) : 0;
  }
};

template <typename Params, typename Body>
void for_each_head(const Context& ctx, const Params& p, Body&& body) {
  for (int64_t b = 0; b < p.q.shape[1]; ++b) {
    for (int64_t h = 0; h < p.u.shape[0]; ++h) body(Head<Params>{ctx, p, b, h});
  }
}

void fill_zero(const Out& t) {
  for (int64_t n = 0; n < t.size(); ++n) as(t)[n] = 0;
}

}  // namespace

void rel_attention(Context& ctx, const RelAttentionParams& p) {
  fill_zero(p.out);
  for_each_head(ctx, p, [&](const auto& head) {
    for (int64_t i = 0; i < head.q_len; ++i) {
      Real largest = -__builtin_inf(), sum = 0;
      for (int64_t j = 0; j < head.k_len; ++j) {
        if (!head.blocked(i, j)) largest = __builtin_fmax(largest, head.score(i, j));
      }
      for (int64_t j = 0; j < head.k_len; ++j) {
        if (!head.blocked(i, j)) sum += exp(head.score(i, j) - largest);
      }
      as(p.lse)[head.score_row(i)] = largest + __builtin_log(sum);
      for (int64_t j = 0; j < head.k_len; ++j) {
        if (head.blocked(i, j)) continue;
        const Real weight = factor(ctx, exp(head.score(i, j) - largest) * head.keep(i, j));
        for (int64_t k = 0; k < head.d_head; ++k) {
          as(p.out)[head.query(i, k)] += weight * head.value_factor(j, k) / sum;
        }
      }
    }
  });
}

void rel_attention_backward(Context& ctx, const RelAttentionBackwardParams& p) {
  const Real* d_out = as(p.d_out);
  Real *d_q = as(p.d_q), *d_kv = as(p.d_kv), *d_p = as(p.d_p), *d_u = as(p.d_u), *d_v = as(p.d_v);
  fill_zero(p.d_q);
  fill_zero(p.d_kv);
  fill_zero(p.d_p);
  for_each_head(ctx, p, [&](const auto& head) {
    const auto d_out_factor = [&](int64_t i, int64_t k) { return factor(ctx, d_out[head.query(i, k)]); };
    for (int64_t i = 0; i < head.q_len; ++i) {
      Real mean = 0;  // Σ_j weight · d_weight
      for (int64_t k = 0; k < head.d_head; ++k) mean += d_out[head.query(i, k)] * as(p.out)[head.query(i, k)];
      for (int64_t j = 0; j < head.k_len; ++j) {
        if (head.blocked(i, j)) continue;
        const Real probability = exp(head.score(i, j) - as(p.lse)[head.score_row(i)]);
        const Real keep = head.keep(i, j);
        Real d_weight = 0;
        for (int64_t k = 0; k < head.d_head; ++k) d_weight += d_out_factor(i, k) * head.value_factor(j, k);
        const Real d_score = factor(ctx, probability * (d_weight * keep - mean));
        const Real weight = factor(ctx, probability * keep);
        for (int64_t k = 0; k < head.d_head; ++k) {
          const Real by_u = d_score * head.key_factor(j, k) * head.scale;
          const Real by_v = d_score * head.position_factor(i, j, k) * head.scale;
          d_q[head.query(i, k)] += by_u + by_v;
          d_u[head.bias(k)] += by_u;
          d_v[head.bias(k)] += by_v;
          d_kv[head.key(j, k)] += d_score * head.with_u(i, k);
          d_kv[head.value(j, k)] += weight * d_out_factor(i, k);
          d_p[head.position(i, j, k)] += d_score * head.with_v(i, k);
        }
      }
    }
  });
}

#else

namespace {

using namespace attention;

constexpr int64_t kTasks = 64;  // enough for the threads of a large machine

// Parts into which `size` is cut when there are `others` tasks for each of them.
int64_t num_parts(int64_t size, int64_t others) { return min(size, ceil_div(kTasks, others)); }

struct Range {
  int64_t begin, end;
};
// Part `index` of `count` nearly equal parts of 0 .. size - 1.
Range part(int64_t size, int64_t index, int64_t count) {
  return {size * index / count, size * (index + 1) / count};
}

// Tasks: a head, a part of the batch, and, where the batch is small, a part of the query blocks.
template <typename Arithmetic>
void run_forward(Context& context, const RelAttentionParams& p) {
  const Geometry g(p);
  const int64_t batch_parts = num_parts(g.batch, g.num_heads);
  const int64_t query_parts = num_parts(g.num_blocks, g.num_heads * batch_parts);
  context.pool.run(g.num_heads * batch_parts * query_parts, [&](int64_t task, Scratch& scratch) {
    const Range blocks = part(g.num_blocks, task % query_parts, query_parts);
    const Range batch = part(g.batch, task / query_parts % batch_parts, batch_parts);
    const int64_t num_keys = g.end_key(min(g.q_len, blocks.end * kBlockRows) - 1);
    Forward<Arithmetic> forward(p, g, task / query_parts / batch_parts, scratch);
    for (int64_t b = batch.begin; b < batch.end; ++b) {
      forward.load(b, num_keys);
      for (int64_t block = blocks.begin; block < blocks.end; ++block) forward.run(b, block);
    }
  });
}

// Tasks: a part of the batch and a head. Each has its SharedGradients in `shared`.
template <typename Arithmetic>
void run_backward(Context& context, const RelAttentionBackwardParams& p, const Geometry& g, int64_t parts,
                  float* shared) {
  const int64_t shared_size = SharedGradients::size(g);
  context.pool.run(parts * g.num_heads, [&](int64_t task, Scratch& scratch) {
    const Range batch = part(g.batch, task / g.num_heads, parts);
    float* sums = shared + task * shared_size;
    memset(sums, 0, shared_size * sizeof(float));
    Backward<Arithmetic> backward(p, g, task % g.num_heads, SharedGradients(g, sums), scratch);
    for (int64_t b = batch.begin; b < batch.end; ++b) backward.run(b);
  });
}

}  // namespace

void rel_attention(Context& context, const RelAttentionParams& p) {
  if (p.lse.size() == 0) return;
  packed::with_arithmetic(context.precision,
                          [&](auto arithmetic) { run_forward<decltype(arithmetic)>(context, p); });
}

// Sums over the batch are added in the order of its parts.
void rel_attention_backward(Context& context, const RelAttentionBackwardParams& p) {
  const Geometry g(p);
  const int64_t parts = g.num_heads > 0 ? num_parts(g.batch, g.num_heads) : 0;
  const int64_t shared_size = SharedGradients::size(g);
  float* shared = context.workspace.take<float>(parts * g.num_heads * shared_size);
  packed::with_arithmetic(context.precision, [&](auto arithmetic) {
    run_backward<decltype(arithmetic)>(context, p, g, parts, shared);
  });
  memset(p.d_p.data, 0, p.d_p.bytes());
  context.pool.run(g.num_heads, [&](int64_t h, Scratch&) {
    for (int64_t n = 0; n < parts; ++n) {
      const SharedGradients sums(g, shared + (n * g.num_heads + h) * shared_size);
      const auto add = [&](float* to, const float* from) {
        for (int64_t k = 0; k < g.d_head; ++k) to[k] += from[k];
      };
      for (int64_t c = 0; c < g.k_len; ++c) add(p.d_p.as<float>() + g.position(c, h), sums.d_p.row(c));
      add(p.d_u.as<float>() + h * g.d_head, sums.d_u);
      add(p.d_v.as<float>() + h * g.d_head, sums.d_v);
    }
  });
}

#endif

}  // namespace hr::HR_ISA_NAMESPACE
