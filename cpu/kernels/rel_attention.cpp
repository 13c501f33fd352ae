// rel_attention on the CPU. Formulas and shapes: ops/rel_attention.h.
//
//   i query, j key, c = j + q_len - 1 - i position: row c of p; m = k_len - q_len
//   Query i sees keys max(0, i - blocked_lag + 1) .. i + m, whose positions end at k_len - 1 for every i.
#include "cpu/kernel.h"
#include "ops/math/philox.h"
//
#include "cpu/simd.h"
#if !HR_IS_REFERENCE
#include "cpu/kernels/block_product.h"
#include "cpu/kernels/philox_words.h"
#endif

namespace hr::HR_ISA_NAMESPACE {

using cpu::Context;
using cpu::Scratch;

namespace {

struct Sizes {
  int64_t q_len, k_len, batch, num_heads, d_head;

  template <typename Params>
  explicit Sizes(const Params& p)
      : q_len(p.q.shape[0]),
        k_len(p.kv.shape[0]),
        batch(p.q.shape[1]),
        num_heads(p.u.shape[0]),
        d_head(p.u.shape[1]) {}

  int64_t width() const { return num_heads * d_head; }
  int64_t query(int64_t i, int64_t b, int64_t h) const { return (i * batch + b) * width() + h * d_head; }
  int64_t key(int64_t j, int64_t b, int64_t h) const { return (j * batch + b) * 2 * width() + h * d_head; }
  int64_t value(int64_t j, int64_t b, int64_t h) const { return key(j, b, h) + width(); }
  int64_t position(int64_t c, int64_t h) const { return c * width() + h * d_head; }
  int64_t score_row(int64_t i, int64_t b, int64_t h) const { return (b * num_heads + h) * q_len + i; }
};

}  // namespace

#if HR_IS_REFERENCE

namespace {

// Everything about one (batch, head): scores, dropout factors and gradients, one element at a time.
template <typename Params>
struct Head {
  const Params& p;
  Sizes s;
  int64_t b, h;

  Real q(int64_t i, int64_t k) const { return p.q.template as<Real>()[s.query(i, b, h) + k]; }
  Real key(int64_t j, int64_t k) const { return p.kv.template as<Real>()[s.key(j, b, h) + k]; }
  Real value(int64_t j, int64_t k) const { return p.kv.template as<Real>()[s.value(j, b, h) + k]; }
  Real pos(int64_t i, int64_t j, int64_t k) const {
    return p.p.template as<Real>()[s.position(j + s.q_len - 1 - i, h) + k];
  }
  Real u(int64_t k) const { return p.u.template as<Real>()[h * s.d_head + k]; }
  Real v(int64_t k) const { return p.v.template as<Real>()[h * s.d_head + k]; }
  Real scale() const { return 1 / __builtin_sqrt(static_cast<Real>(s.d_head)); }

  bool blocked(int64_t i, int64_t j) const {
    return j > i + (s.k_len - s.q_len) || j <= i - p.blocked_lag;
  }
  Real score(int64_t i, int64_t j) const {
    Real sum = 0;
    for (int64_t k = 0; k < s.d_head; ++k) {
      sum += (q(i, k) + u(k)) * key(j, k) + (q(i, k) + v(k)) * pos(i, j, k);
    }
    return sum * scale();
  }
  Real keep(int64_t i, int64_t j) const {
    if (p.dropout == 0) return 1;
    const uint64_t element = static_cast<uint64_t>(s.score_row(i, b, h) * s.k_len + j);
    const uint32_t bits = math::philox_u32(p.seed, p.call, element);
    return math::is_kept(bits, math::drop_threshold(p.dropout)) ? 1 / (1 - p.dropout) : 0;
  }
};

template <typename Params, typename Body>
void for_each_head(const Params& p, Body&& body) {
  const Sizes s(p);
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.num_heads; ++h) body(Head<Params>{p, s, b, h});
  }
}

}  // namespace

void rel_attention(Context&, const RelAttentionParams& p) {
  for_each_head(p, [&](const auto& head) {
    const Sizes& s = head.s;
    for (int64_t i = 0; i < s.q_len; ++i) {
      Real largest = -__builtin_inf(), sum = 0;
      for (int64_t j = 0; j < s.k_len; ++j) {
        if (!head.blocked(i, j)) largest = __builtin_fmax(largest, head.score(i, j));
      }
      Real* out = p.out.as<Real>() + s.query(i, head.b, head.h);
      for (int64_t k = 0; k < s.d_head; ++k) out[k] = 0;
      for (int64_t j = 0; j < s.k_len; ++j) {
        if (head.blocked(i, j)) continue;
        const Real weight = exp(head.score(i, j) - largest);
        sum += weight;
        for (int64_t k = 0; k < s.d_head; ++k) out[k] += weight * head.keep(i, j) * head.value(j, k);
      }
      for (int64_t k = 0; k < s.d_head; ++k) out[k] /= sum;
      p.lse.as<Real>()[s.score_row(i, head.b, head.h)] = largest + __builtin_log(sum);
    }
  });
}

void rel_attention_backward(Context&, const RelAttentionBackwardParams& p) {
  const Sizes sizes(p);
  Real* d_q = p.d_q.as<Real>();
  Real* d_kv = p.d_kv.as<Real>();
  Real* d_p = p.d_p.as<Real>();
  for (int64_t n = 0; n < p.d_q.size(); ++n) d_q[n] = 0;
  for (int64_t n = 0; n < p.d_kv.size(); ++n) d_kv[n] = 0;
  for (int64_t n = 0; n < p.d_p.size(); ++n) d_p[n] = 0;
  for_each_head(p, [&](const auto& head) {
    const Sizes& s = head.s;
    const int64_t b = head.b, h = head.h;
    for (int64_t i = 0; i < s.q_len; ++i) {
      const Real* d_out = p.d_out.as<Real>() + s.query(i, b, h);
      const Real* out = p.out.as<Real>() + s.query(i, b, h);
      Real mean = 0;  // Σ_j probability · d_probability
      for (int64_t k = 0; k < s.d_head; ++k) mean += d_out[k] * out[k];
      for (int64_t j = 0; j < s.k_len; ++j) {
        if (head.blocked(i, j)) continue;
        const Real probability = exp(head.score(i, j) - p.lse.as<Real>()[s.score_row(i, b, h)]);
        Real d_probability = 0;
        for (int64_t k = 0; k < s.d_head; ++k) d_probability += d_out[k] * head.keep(i, j) * head.value(j, k);
        const Real d_score = probability * (d_probability - mean) * head.scale();
        for (int64_t k = 0; k < s.d_head; ++k) {
          const Real with_u = head.q(i, k) + head.u(k), with_v = head.q(i, k) + head.v(k);
          d_q[s.query(i, b, h) + k] += d_score * (head.key(j, k) + head.pos(i, j, k));
          d_kv[s.key(j, b, h) + k] += d_score * with_u;
          d_kv[s.value(j, b, h) + k] += probability * head.keep(i, j) * d_out[k];
          d_p[s.position(j + s.q_len - 1 - i, h) + k] += d_score * with_v;
          p.d_u.as<Real>()[h * s.d_head + k] += d_score * head.key(j, k);
          p.d_v.as<Real>()[h * s.d_head + k] += d_score * head.pos(i, j, k);
        }
      }
    }
  });
}

#else

namespace {

constexpr int64_t kQueryRows = 48;  // queries of a block; a multiple of kTileRows
static_assert(kQueryRows % kTileRows == 0);
constexpr int64_t kTasks = 64;  // enough for the threads of a large machine

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};
// Part `index` of `count` nearly equal parts of 0 .. size - 1.
HR_INLINE Range part(int64_t size, int64_t index, int64_t count) {
  return {size * index / count, size * (index + 1) / count};
}

// What a block of queries sees.
struct Window {
  int64_t i0, rows;
  int64_t j0, keys;       // from a panel's first key, so that panels of keys can be used whole
  int64_t c0, positions;  // likewise
};

struct Geometry : Sizes {
  int64_t lag, padded_keys, padded_head, score_stride;
  float scale;

  template <typename Params>
  explicit Geometry(const Params& p)
      : Sizes(p),
        lag(p.blocked_lag),
        padded_keys(round_up(k_len, kPanel)),
        padded_head(round_up(d_head, Vec::kLanes)),
        score_stride(padded_keys + Vec::kLanes),  // off the powers of two that share cache sets
        scale(1 / __builtin_sqrtf(static_cast<float>(d_head))) {}

  int64_t first_key(int64_t i) const { return larger(0, i - lag + 1); }
  int64_t end_key(int64_t i) const { return i + k_len - q_len + 1; }
  int64_t shift(int64_t i) const { return q_len - 1 - i; }  // c - j
  int64_t num_blocks() const { return div_up(q_len, kQueryRows); }
  int64_t block_rows() const { return smaller(q_len, kQueryRows); }

  Window window(int64_t block) const {
    const int64_t i0 = block * kQueryRows, end = smaller(q_len, i0 + kQueryRows), last = end - 1;
    const int64_t j0 = round_down(first_key(i0), kPanel);
    const int64_t c0 = round_down(first_key(last) + shift(last), kPanel);
    return {i0, end - i0, j0, end_key(last) - j0, c0, k_len - c0};
  }

  Block take_rows(Scratch& scratch, int64_t rows) const {
    return {scratch.take<float>(rows * padded_head), padded_head};
  }
  Block take_scores(Scratch& scratch) const {
    return {scratch.take<float>(block_rows() * score_stride), score_stride};
  }
  float* take_panels(Scratch& scratch) const { return scratch.take<float>(padded_keys * d_head); }
  RightBlock panels(const float* data, int64_t first_row) const {
    return {data + first_row * d_head, kPanel, kPanel * d_head};
  }
};

void fill_zero(float* data, int64_t count) { memset(data, 0, static_cast<size_t>(count) * sizeof(float)); }

// The dropout factors of one row of scores; all 1 without dropout.
class KeepFactors {
 public:
  template <typename Params>
  KeepFactors(const Params& p, int64_t row_length, Scratch& scratch)
      : mask_(p.dropout, p.seed, p.call),
        active_(p.dropout > 0),
        factors_(scratch.take<float>(row_length)) {
    for (int64_t n = 0; n < row_length; ++n) factors_[n] = 1;
  }

  bool active() const { return active_; }

  // Of elements first .. first + count - 1; valid until the next call.
  const float* row(uint64_t first, int64_t count) {
    if (!active_) return factors_;
    mask_.for_words(first, count, [&](int64_t offset, int n, const uint32_t* words) {
      for (int i = 0; i < n; ++i) factors_[offset + i] = mask_.apply(words[i], 1);
    });
    return factors_;
  }

 private:
  DropoutMask mask_;
  bool active_;
  float* factors_;
};

// scores += positions, then e^(scores - max) in place. Returns the sum; `largest` gets the max.
HR_NOINLINE float exponentials(float* scores, const float* positions, int64_t count, float* largest) {
  float top = -__builtin_inff();
#pragma omp simd reduction(max : top)
  for (int64_t x = 0; x < count; ++x) {
    scores[x] += positions[x];
    top = scores[x] > top ? scores[x] : top;
  }
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t x = 0; x < count; ++x) {
    scores[x] = exp(scores[x] - top);
    sum += scores[x];
  }
  *largest = top;
  return sum;
}

// One row of backward. In: scores, positions and d_weights (d_out · value). Out: weights (probabilities
// after dropout) in d_weights, d_score in the other two.
HR_NOINLINE void score_gradients(float* scores, float* positions, float* d_weights, const float* keep,
                                 int64_t count, float lse, float mean) {
#pragma omp simd
  for (int64_t x = 0; x < count; ++x) {
    const float probability = exp(scores[x] + positions[x] - lse);
    const float d_score = probability * (d_weights[x] * keep[x] - mean);
    d_weights[x] = probability * keep[x];
    scores[x] = d_score;
    positions[x] = d_score;
  }
}

// Zeroes row[0 .. size - 1] outside [begin, end).
HR_INLINE void keep_only(float* row, int64_t begin, int64_t end, int64_t size) {
  fill_zero(row, begin);
  fill_zero(row + end, size - end);
}

}  // namespace

void rel_attention(Context& context, const RelAttentionParams& p) {
  const Geometry g(p);
  const int64_t batches = smaller(g.batch, div_up(kTasks, g.num_heads));
  const int64_t groups = smaller(g.num_blocks(), div_up(kTasks, g.num_heads * batches));
  context.pool.run(g.num_heads * batches * groups, [&](int64_t task, Scratch& scratch) {
    const int64_t h = task / groups / batches;
    const Range batch = part(g.batch, task / groups % batches, batches);
    const Range blocks = part(g.num_blocks(), task % groups, groups);
    const float* u = p.u.as<float>() + h * g.d_head;
    const float* v = p.v.as<float>() + h * g.d_head;
    const int64_t end_key = g.end_key(smaller(g.q_len, blocks.end * kQueryRows) - 1);
    float* keys = g.take_panels(scratch);
    float* positions = g.take_panels(scratch);
    const Block values = g.take_rows(scratch, g.k_len), out = g.take_rows(scratch, g.block_rows());
    const Block with_u = g.take_rows(scratch, g.block_rows()), with_v = g.take_rows(scratch, g.block_rows());
    const Block scores = g.take_scores(scratch), by_position = g.take_scores(scratch);
    KeepFactors keep(p, g.k_len, scratch);
    pack_transposed(p.p.as<float>() + g.position(0, h), g.width(), g.k_len, g.d_head, positions);
    for (int64_t b = batch.begin; b < batch.end; ++b) {
      const float* kv = p.kv.as<float>();
      const int64_t kv_stride = g.key(1, 0, 0), q_stride = g.query(1, 0, 0);
      pack_transposed(kv + g.key(0, b, h), kv_stride, end_key, g.d_head, keys);
      pack_rows(kv + g.value(0, b, h), kv_stride, end_key, g.d_head, values);
      for (int64_t block = blocks.begin; block < blocks.end; ++block) {
        const Window w = g.window(block);
        const float* q = p.q.as<float>() + g.query(w.i0, b, h);
        pack_rows(q, q_stride, w.rows, g.d_head, with_u, u, g.scale);
        pack_rows(q, q_stride, w.rows, g.d_head, with_v, v, g.scale);
        multiply_block<false>(w.rows, round_up(w.keys, kPanel), g.d_head, with_u, g.panels(keys, w.j0),
                              scores, false);
        multiply_block<false>(w.rows, round_up(w.positions, kPanel), g.d_head, with_v,
                              g.panels(positions, w.c0), by_position, false);
        float sums[kQueryRows];
        for (int64_t r = 0; r < w.rows; ++r) {
          const int64_t i = w.i0 + r, first = g.first_key(i), count = g.end_key(i) - first;
          float* row = scores.row(r) + (first - w.j0);
          float largest;
          sums[r] = exponentials(row, by_position.row(r) + (first + g.shift(i) - w.c0), count, &largest);
          p.lse.as<float>()[g.score_row(i, b, h)] = largest + __builtin_logf(sums[r]);
          if (keep.active()) {
            const float* factors = keep.row(g.score_row(i, b, h) * g.k_len + first, count);
            for (int64_t x = 0; x < count; ++x) row[x] *= factors[x];
          }
          keep_only(scores.row(r), first - w.j0, first - w.j0 + count, w.keys);
        }
        multiply_block<false>(w.rows, g.padded_head, w.keys, scores,
                              Block{values.row(w.j0), values.stride}, out, false);
        for (int64_t r = 0; r < w.rows; ++r) {
          float* target = p.out.as<float>() + g.query(w.i0 + r, b, h);
          for (int64_t k = 0; k < g.d_head; ++k) target[k] = out.row(r)[k] / sums[r];
        }
      }
    }
  });
}

void rel_attention_backward(Context& context, const RelAttentionBackwardParams& p) {
  const Geometry g(p);
  const int64_t parts = smaller(g.batch, div_up(kTasks, g.num_heads));
  // Partial sums over the batch elements of one part, in the order (part, head).
  const int64_t d_p_size = g.k_len * g.padded_head;
  float* d_p_parts = context.workspace.take<float>(parts * g.num_heads * d_p_size);
  float* d_bias_parts = context.workspace.take<float>(parts * g.num_heads * 2 * g.padded_head);
  context.pool.run(g.num_heads * parts, [&](int64_t task, Scratch& scratch) {
    const int64_t h = task % g.num_heads;
    const Range batch = part(g.batch, task / g.num_heads, parts);
    const float* u = p.u.as<float>() + h * g.d_head;
    const float* v = p.v.as<float>() + h * g.d_head;
    const Block d_p{d_p_parts + task * d_p_size, g.padded_head};
    float* d_u = d_bias_parts + task * 2 * g.padded_head;
    float* d_v = d_u + g.padded_head;
    fill_zero(d_p.data, d_p_size);
    fill_zero(d_u, 2 * g.padded_head);

    float* key_panels = g.take_panels(scratch);
    float* value_panels = g.take_panels(scratch);
    float* position_panels = g.take_panels(scratch);
    const Block keys = g.take_rows(scratch, g.k_len), positions = g.take_rows(scratch, g.k_len);
    const Block d_keys = g.take_rows(scratch, g.k_len), d_values = g.take_rows(scratch, g.k_len);
    const Block with_u = g.take_rows(scratch, g.block_rows()), with_v = g.take_rows(scratch, g.block_rows());
    const Block d_out = g.take_rows(scratch, g.block_rows());
    const Block d_with_u = g.take_rows(scratch, g.block_rows());
    const Block d_with_v = g.take_rows(scratch, g.block_rows());
    const Block scores = g.take_scores(scratch), by_position = g.take_scores(scratch);
    const Block weights = g.take_scores(scratch);
    KeepFactors keep(p, g.k_len, scratch);

    const float* p_rows = p.p.as<float>() + g.position(0, h);
    pack_transposed(p_rows, g.width(), g.k_len, g.d_head, position_panels);
    pack_rows(p_rows, g.width(), g.k_len, g.d_head, positions);
    const int64_t kv_stride = g.key(1, 0, 0), q_stride = g.query(1, 0, 0);
    for (int64_t b = batch.begin; b < batch.end; ++b) {
      const float* kv = p.kv.as<float>();
      pack_transposed(kv + g.key(0, b, h), kv_stride, g.k_len, g.d_head, key_panels);
      pack_transposed(kv + g.value(0, b, h), kv_stride, g.k_len, g.d_head, value_panels);
      pack_rows(kv + g.key(0, b, h), kv_stride, g.k_len, g.d_head, keys);
      fill_zero(d_keys.data, g.k_len * g.padded_head);
      fill_zero(d_values.data, g.k_len * g.padded_head);
      for (int64_t block = 0; block < g.num_blocks(); ++block) {
        const Window w = g.window(block);
        const float* q = p.q.as<float>() + g.query(w.i0, b, h);
        pack_rows(q, q_stride, w.rows, g.d_head, with_u, u, g.scale);
        pack_rows(q, q_stride, w.rows, g.d_head, with_v, v, g.scale);
        pack_rows(p.d_out.as<float>() + g.query(w.i0, b, h), q_stride, w.rows, g.d_head, d_out);
        multiply_block<false>(w.rows, round_up(w.keys, kPanel), g.d_head, with_u,
                              g.panels(key_panels, w.j0), scores, false);
        multiply_block<false>(w.rows, round_up(w.positions, kPanel), g.d_head, with_v,
                              g.panels(position_panels, w.c0), by_position, false);
        multiply_block<false>(w.rows, round_up(w.keys, kPanel), g.d_head, d_out,
                              g.panels(value_panels, w.j0), weights, false);
        for (int64_t r = 0; r < w.rows; ++r) {
          const int64_t i = w.i0 + r, first = g.first_key(i), count = g.end_key(i) - first;
          const int64_t key_at = first - w.j0, position_at = first + g.shift(i) - w.c0;
          const float* out = p.out.as<float>() + g.query(i, b, h);
          float mean = 0;
#pragma omp simd reduction(+ : mean)
          for (int64_t k = 0; k < g.d_head; ++k) mean += d_out.row(r)[k] * out[k];
          score_gradients(scores.row(r) + key_at, by_position.row(r) + position_at, weights.row(r) + key_at,
                          keep.row(g.score_row(i, b, h) * g.k_len + first, count), count,
                          p.lse.as<float>()[g.score_row(i, b, h)], mean);
          keep_only(scores.row(r), key_at, key_at + count, w.keys);
          keep_only(weights.row(r), key_at, key_at + count, w.keys);
          keep_only(by_position.row(r), position_at, position_at + count, w.positions);
        }
        const Block window_keys{keys.row(w.j0), keys.stride};
        const Block window_positions{positions.row(w.c0), positions.stride};
        multiply_block<false>(w.rows, g.padded_head, w.keys, scores, window_keys, d_with_u, false);
        multiply_block<false>(w.rows, g.padded_head, w.positions, by_position, window_positions, d_with_v,
                              false);
        multiply_block<true>(w.keys, g.padded_head, w.rows, scores, with_u,
                             Block{d_keys.row(w.j0), d_keys.stride}, true);
        multiply_block<true>(w.keys, g.padded_head, w.rows, weights, d_out,
                             Block{d_values.row(w.j0), d_values.stride}, true);
        multiply_block<true>(w.positions, g.padded_head, w.rows, by_position, with_v,
                             Block{d_p.row(w.c0), d_p.stride}, true);
        for (int64_t r = 0; r < w.rows; ++r) {
          float* d_q = p.d_q.as<float>() + g.query(w.i0 + r, b, h);
          for (int64_t k = 0; k < g.d_head; ++k) {
            const float by_u = d_with_u.row(r)[k] * g.scale, by_v = d_with_v.row(r)[k] * g.scale;
            d_q[k] = by_u + by_v;
            d_u[k] += by_u;
            d_v[k] += by_v;
          }
        }
      }
      for (int64_t j = 0; j < g.k_len; ++j) {
        memcpy(p.d_kv.as<float>() + g.key(j, b, h), d_keys.row(j), g.d_head * sizeof(float));
        memcpy(p.d_kv.as<float>() + g.value(j, b, h), d_values.row(j), g.d_head * sizeof(float));
      }
    }
  });
  context.pool.run(g.num_heads, [&](int64_t h, Scratch&) {
    for (int64_t c = 0; c < g.k_len; ++c) {
      float* d_p = p.d_p.as<float>() + g.position(c, h);
      fill_zero(d_p, g.d_head);
      for (int64_t n = 0; n < parts; ++n) {
        const float* from = d_p_parts + (n * g.num_heads + h) * d_p_size + c * g.padded_head;
        for (int64_t k = 0; k < g.d_head; ++k) d_p[k] += from[k];
      }
    }
    float* d_u = p.d_u.as<float>() + h * g.d_head;
    float* d_v = p.d_v.as<float>() + h * g.d_head;
    for (int64_t n = 0; n < parts; ++n) {
      const float* from = d_bias_parts + (n * g.num_heads + h) * 2 * g.padded_head;
      for (int64_t k = 0; k < g.d_head; ++k) {
        d_u[k] += from[k];
        d_v[k] += from[g.padded_head + k];
      }
    }
  });
}

#endif

}  // namespace hr::HR_ISA_NAMESPACE
