// attention_forward: rel_attention of one head, block by block.
#pragma once

#include "cpu/kernels/attention_block.h"

namespace hr::HR_ISA_NAMESPACE::attention {

// scores += positions, then e^(scores - max) in place. Returns the sum; `largest` gets the max.
HR_NOINLINE inline float exponentials(float* scores, float* positions, int64_t count, float* largest) {
  count = fill_vector(scores, positions, count);
  float top = -__builtin_inff();
#pragma omp simd reduction(max : top)
  for (int64_t j = 0; j < count; ++j) {
    scores[j] += positions[j];
    top = scores[j] > top ? scores[j] : top;
  }
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < count; ++j) {
    scores[j] = exp(scores[j] - top);
    sum += scores[j];
  }
  *largest = top;
  return sum;
}

template <typename Arithmetic>
class Forward {
 public:
  Forward(const RelAttentionParams& p, const Geometry& g, int64_t h, Scratch& scratch)
      : p_(p),
        g_(g),
        h_(h),
        scores_(p, g, h, false, scratch),
        keep_(p, g, scratch),
        values_(g, Slice<Arithmetic>::kSums, scratch),
        out_(g.take_rows(scratch, g.block_rows)) {}

  void load(int64_t b, int64_t num_keys) {
    const float* kv = p_.kv.as<float>();
    scores_.keys.pack(kv + g_.key(0, b, h_), g_.key_stride(), num_keys);
    values_.pack(kv + g_.value(0, b, h_), g_.key_stride(), num_keys);
  }

  void run(int64_t b, int64_t block) {
    const Window w(g_, block);
    scores_.multiply(b, w);
    float sums[kBlockRows];
    for (int64_t r = 0; r < w.rows; ++r) sums[r] = weigh(b, w, r);
    multiply_block<false, Arithmetic>(w.rows, g_.padded_head, units<Arithmetic>(w.keys), scores_.by_key.along,
                                      values_.for_sums(w.j0), out_, false);
    for (int64_t r = 0; r < w.rows; ++r) {
      float* out = p_.out.as<float>() + g_.query(w.i0 + r, b, h_);
      for (int64_t k = 0; k < g_.d_head; ++k) out[k] = out_.row(r)[k] / sums[r];
    }
  }

 private:
  // Turns row r of the scores into weights, up to the factor 1 / sum. Returns the sum.
  float weigh(int64_t b, const Window& w, int64_t r) {
    const Row row(g_, w, r);
    const int64_t score_row = g_.score_row(row.i, b, h_);
    float *by_key = scores_.by_key.along.row(r), *by_position = scores_.by_position.along.row(r);
    float* weights = by_key + row.key_at;
    float largest;
    const float sum = exponentials(weights, by_position + row.position_at, row.count, &largest);
    p_.lse.as<float>()[score_row] = largest + __builtin_logf(sum);
    if (keep_.active()) {
      const float* keep = keep_.row(score_row * g_.k_len + row.first_key, row.count);
      for (int64_t j = 0; j < round_up(row.count, Vec::kLanes); ++j) weights[j] *= keep[j];
    }
    clear_around(by_key, row.key_at, row.count, w.key_columns);
    scores_.by_key.join(r, 1, w.key_columns);
    return sum;
  }

  const RelAttentionParams& p_;
  const Geometry& g_;
  int64_t h_;
  Scores<Arithmetic> scores_;
  KeepFactors keep_;
  Slice<Arithmetic> values_;
  Block out_;
};

}  // namespace hr::HR_ISA_NAMESPACE::attention
