// attention_backward: gradients of rel_attention of one head, block by block.
#pragma once

#include "cpu/kernels/attention_block.h"

namespace hr::HR_ISA_NAMESPACE::attention {

// One row of backward. In: scores, positions and d_weights = d_out · value; mean = Σ weight · d_weight.
// Out: the weights (probabilities after dropout) in d_weights, d_score in the other two.
HR_NOINLINE inline void score_gradients(float* scores, float* positions, float* d_weights, const float* keep,
                                        int64_t count, float lse, float mean) {
  memset(d_weights + count, 0, Vec::kLanes * sizeof(float));
  count = fill_vector(scores, positions, count);
#pragma omp simd
  for (int64_t j = 0; j < count; ++j) {
    const float probability = exp(scores[j] + positions[j] - lse);
    const float d_score = probability * (d_weights[j] * keep[j] - mean);
    d_weights[j] = probability * keep[j];
    scores[j] = d_score;
    positions[j] = d_score;
  }
}

// Sums over the batch elements of one task: gradients of a head's positions and biases.
struct SharedGradients {
  Block d_p;         // [k_len, padded_head]
  float *d_u, *d_v;  // [padded_head]

  static int64_t size(const Geometry& g) { return (g.k_len + 2) * g.padded_head; }
  SharedGradients(const Geometry& g, float* data)
      : d_p{data, g.padded_head}, d_u(d_p.row(g.k_len)), d_v(d_p.row(g.k_len + 1)) {}
};

template <typename Arithmetic>
class Backward {
 public:
  Backward(const RelAttentionBackwardParams& p, const Geometry& g, int64_t h, SharedGradients shared,
           Scratch& scratch)
      : p_(p),
        g_(g),
        h_(h),
        shared_(shared),
        scores_(p, g, h, true, scratch),
        keep_(p, g, scratch),
        values_(g, Slice<Arithmetic>::kScores, scratch),
        d_out_(g.take_rows(scratch, g.block_rows), true, scratch, g.block_rows),
        d_keys_(g.take_rows(scratch, g.k_len)),
        d_values_(g.take_rows(scratch, g.k_len)),
        d_with_u_(g.take_rows(scratch, g.block_rows)),
        d_with_v_(g.take_rows(scratch, g.block_rows)),
        d_weights_(g.take_scores(scratch)) {}

  void run(int64_t b) {
    const float* kv = p_.kv.as<float>();
    scores_.keys.pack(kv + g_.key(0, b, h_), g_.key_stride(), g_.k_len);
    values_.pack(kv + g_.value(0, b, h_), g_.key_stride(), g_.k_len);
    memset(d_keys_.data, 0, g_.k_len * g_.padded_head * sizeof(float));
    memset(d_values_.data, 0, g_.k_len * g_.padded_head * sizeof(float));
    for (int64_t block = 0; block < g_.num_blocks; ++block) run_block(b, Window(g_, block));
    for (int64_t j = 0; j < g_.k_len; ++j) {
      float* d_kv = p_.d_kv.as<float>();
      memcpy(d_kv + g_.key(j, b, h_), d_keys_.row(j), g_.d_head * sizeof(float));
      memcpy(d_kv + g_.value(j, b, h_), d_values_.row(j), g_.d_head * sizeof(float));
    }
  }

 private:
  static constexpr int64_t kPerUnit = Arithmetic::kPerUnit;

  void run_block(int64_t b, const Window& w) {
    scores_.multiply(b, w);
    multiply_d_out(b, w);
    for (int64_t r = 0; r < w.rows; r += kPerUnit) {
      const int64_t count = min(kPerUnit, w.rows - r);
      for (int64_t n = 0; n < count; ++n) differentiate(b, w, r + n);
      scores_.by_key.join(r, count, w.key_columns);
      scores_.by_position.join(r, count, w.position_columns);
      join_rows<Arithmetic>(d_weights_.from(r), count, w.key_columns, d_weights_.from(r));
    }
    sum_over_keys(b, w);
    sum_over_queries(w);
  }

  // Fills d_out and d_weights, the latter with numbers.
  void multiply_d_out(int64_t b, const Window& w) {
    pack_rows(p_.d_out.as<float>() + g_.query(w.i0, b, h_), g_.query_stride(), w.rows, g_.d_head,
              d_out_.along);
    for (int64_t r = 0; r < w.rows; ++r) means_[r] = mean(b, w, r);
    d_out_.join(0, w.rows, g_.padded_head);
    multiply_block<false, Arithmetic>(w.rows, w.key_columns, units<Arithmetic>(g_.d_head), d_out_.along,
                                      values_.for_scores(w.j0), d_weights_, false);
  }

  void sum_over_keys(int64_t b, const Window& w) {
    multiply_block<false, Arithmetic>(w.rows, g_.padded_head, units<Arithmetic>(w.keys), scores_.by_key.along,
                                      scores_.keys.for_sums(w.j0), d_with_u_, false);
    multiply_block<false, Arithmetic>(w.rows, g_.padded_head, units<Arithmetic>(w.positions),
                                      scores_.by_position.along, scores_.positions.for_sums(w.c0), d_with_v_,
                                      false);
    for (int64_t r = 0; r < w.rows; ++r) {
      float* d_q = p_.d_q.as<float>() + g_.query(w.i0 + r, b, h_);
#pragma omp simd
      for (int64_t k = 0; k < g_.d_head; ++k) {
        const float by_u = d_with_u_.row(r)[k] * g_.scale, by_v = d_with_v_.row(r)[k] * g_.scale;
        d_q[k] = by_u + by_v;
        shared_.d_u[k] += by_u;
        shared_.d_v[k] += by_v;
      }
    }
  }

  void sum_over_queries(const Window& w) {
    const int64_t inner = units<Arithmetic>(w.rows);
    const Block weights{d_weights_.data, d_weights_.stride * kPerUnit};
    multiply_block<true, Arithmetic>(w.keys, g_.padded_head, inner, scores_.by_key.across,
                                     scores_.with_u.across, d_keys_.from(w.j0), true);
    multiply_block<true, Arithmetic>(w.keys, g_.padded_head, inner, weights, d_out_.across,
                                     d_values_.from(w.j0), true);
    multiply_block<true, Arithmetic>(w.positions, g_.padded_head, inner, scores_.by_position.across,
                                     scores_.with_v.across, shared_.d_p.from(w.c0), true);
  }

  // Σ weight · d_weight of row r. d_out holds numbers.
  float mean(int64_t b, const Window& w, int64_t r) const {
    const float *out = p_.out.as<float>() + g_.query(w.i0 + r, b, h_), *d_out = d_out_.along.row(r);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < g_.d_head; ++k) sum += d_out[k] * out[k];
    return sum;
  }

  // Row r: scores to their gradients, in both places, and d_weights to weights.
  void differentiate(int64_t b, const Window& w, int64_t r) {
    const Row row(g_, w, r);
    const int64_t score_row = g_.score_row(row.i, b, h_);
    float *by_key = scores_.by_key.along.row(r), *by_position = scores_.by_position.along.row(r);
    float* d_weights = d_weights_.row(r);
    score_gradients(by_key + row.key_at, by_position + row.position_at, d_weights + row.key_at,
                    keep_.row(score_row * g_.k_len + row.first_key, row.count), row.count,
                    p_.lse.as<float>()[score_row], means_[r]);
    clear_around(by_key, row.key_at, row.count, w.key_columns);
    clear_around(by_position, row.position_at, row.count, w.position_columns);
    clear_around(d_weights, row.key_at, row.count, w.key_columns);
  }

  const RelAttentionBackwardParams& p_;
  const Geometry& g_;
  int64_t h_;
  SharedGradients shared_;
  Scores<Arithmetic> scores_;
  KeepFactors keep_;
  Slice<Arithmetic> values_;
  Joined<Arithmetic> d_out_;   // [rows, padded_head]
  Block d_keys_, d_values_;    // [k_len, padded_head]
  Block d_with_u_, d_with_v_;  // [rows, padded_head]
  Block d_weights_;            // [rows, score_stride]
  float means_[kBlockRows];    // mean() of each row
};

}  // namespace hr::HR_ISA_NAMESPACE::attention
