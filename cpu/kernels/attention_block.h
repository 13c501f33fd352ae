// attention_block: what both directions of rel_attention do with a block of queries of one (batch, head).
//
//   i query, j key, c = j + q_len - 1 - i position: the row of p;  m = k_len - q_len
//   Query i sees keys max(0, i - blocked_lag + 1) .. i + m. Its positions end at k_len - 1, whatever i is.
//
// Scores are held twice: by key (content) and by position (where a row of the matrix product
// (q + v)·pᵀ is right for every query). Row r of one is row r of the other, moved by shift(i) columns.
#pragma once

#include "ops/rel_attention.h"

#include "cpu/kernels/block_product.h"
#include "cpu/kernels/parallel.h"
#include "cpu/kernels/philox_words.h"

namespace hr::HR_ISA_NAMESPACE::attention {

// Queries of a block: few, since all of them are multiplied with what the last one sees.
inline constexpr int64_t kBlockRows = 4 * kTileRows;

struct Geometry {
  int64_t q_len, k_len, batch, num_heads, d_head, blocked_lag;
  int64_t width, padded_head, padded_keys, score_stride;
  int64_t num_blocks, block_rows;
  float scale;

  template <typename Params>
  explicit Geometry(const Params& p)
      : q_len(p.q.shape[0]),
        k_len(p.kv.shape[0]),
        batch(p.q.shape[1]),
        num_heads(p.u.shape[0]),
        d_head(p.u.shape[1]),
        blocked_lag(p.blocked_lag),
        width(num_heads * d_head),
        padded_head(round_up(d_head, Vec::kLanes)),
        padded_keys(round_up(k_len, kPanel)),
        score_stride(padded_keys + Vec::kLanes),  // off the powers of two, whose rows share cache sets
        num_blocks(ceil_div(q_len, kBlockRows)),
        block_rows(min(q_len, kBlockRows)),
        scale(1 / __builtin_sqrtf(static_cast<float>(d_head))) {}

  // Offsets of a head's slice.
  int64_t query(int64_t i, int64_t b, int64_t h) const { return (i * batch + b) * width + h * d_head; }
  int64_t key(int64_t j, int64_t b, int64_t h) const { return (j * batch + b) * 2 * width + h * d_head; }
  int64_t value(int64_t j, int64_t b, int64_t h) const { return key(j, b, h) + width; }
  int64_t position(int64_t c, int64_t h) const { return c * width + h * d_head; }
  int64_t score_row(int64_t i, int64_t b, int64_t h) const { return (b * num_heads + h) * q_len + i; }
  int64_t query_stride() const { return batch * width; }
  int64_t key_stride() const { return 2 * batch * width; }

  int64_t first_key(int64_t i) const { return i < blocked_lag ? 0 : i - blocked_lag + 1; }
  int64_t end_key(int64_t i) const { return i + k_len - q_len + 1; }
  int64_t shift(int64_t i) const { return q_len - 1 - i; }  // c - j

  Block take_rows(Scratch& scratch, int64_t rows) const {
    return {scratch.take<float>(rows * padded_head), padded_head};
  }
  Block take_scores(Scratch& scratch) const {
    return {scratch.take<float>(block_rows * score_stride), score_stride};
  }
};

// A head's slice of keys, positions or values as the right side of products, in panels.
template <typename Arithmetic>
class Slice {
 public:
  enum Use { kScores = 1, kSums = 2 };  // products with its transpose; with itself

  Slice(const Geometry& g, int uses, Scratch& scratch)
      : d_head_(g.d_head),
        scores_panel_(units<Arithmetic>(g.d_head) * kPanel),
        sums_panel_(units<Arithmetic>(g.padded_keys) * kPanel),
        staged_(g.take_rows(scratch, kPanel)) {
    if (uses & kScores) scores_ = scratch.take<float>(g.padded_keys / kPanel * scores_panel_);
    if (uses & kSums) sums_ = scratch.take<float>(ceil_div(g.d_head, kPanel) * sums_panel_);
  }

  // The slice's rows lie pages apart, so a panel of them is brought together first.
  void pack(const float* slice, int64_t stride, int64_t rows) {
    for (int64_t first = 0; first < rows; first += kPanel) {
      const int64_t count = min(kPanel, rows - first);
      pack_rows(slice + first * stride, stride, count, d_head_, staged_);
      prefetch_rows(slice + (first + kPanel) * stride, stride, min(kRowsAhead, rows - first - kPanel),
                    d_head_);
      if (scores_) {
        packed::pack<kPanel, Arithmetic>({staged_.data, staged_.stride, false}, 0, count, 0, d_head_,
                                         scores_ + first / kPanel * scores_panel_);
      }
      for (int64_t k = 0; sums_ && k < d_head_; k += kPanel) {
        packed::pack<kPanel, Arithmetic>(
            {staged_.data, staged_.stride, true}, k, min(kPanel, d_head_ - k), 0, count,
            sums_ + k / kPanel * sums_panel_ + units<Arithmetic>(first) * kPanel);
      }
    }
  }

  // From a row on that starts a panel.
  RightBlock for_scores(int64_t row) const {
    return {scores_ + row / kPanel * scores_panel_, kPanel, scores_panel_};
  }
  RightBlock for_sums(int64_t row) const {
    return {sums_ + units<Arithmetic>(row) * kPanel, kPanel, sums_panel_};
  }

 private:
  int64_t d_head_, scores_panel_, sums_panel_;
  Block staged_;  // [kPanel, d_head]
  float *scores_ = nullptr, *sums_ = nullptr;
};

// Numbers of a block of queries, then the same as units: along the rows, where the numbers were, and, where
// a product sums over queries, across them.
template <typename Arithmetic>
struct Joined {
  Block along, across;

  Joined(Block numbers, bool has_across, Scratch& scratch, int64_t rows) : along(numbers), across(numbers) {
    if (Arithmetic::kPerUnit == 1) return;
    across.data = has_across ? scratch.take<float>(units<Arithmetic>(rows) * numbers.stride) : nullptr;
  }

  // Rows r .. r + count - 1; r starts a unit.
  void join(int64_t r, int64_t count, int64_t columns) {
    if (across.data) {
      join_rows<Arithmetic>(along.from(r), count, columns, across.from(r / Arithmetic::kPerUnit));
    }
    for (int64_t n = r; n < r + count; ++n) join_columns<Arithmetic>(along.row(n), columns);
  }
};

// What a block of queries sees: whole panels of keys and positions, then a ragged end.
struct Window {
  int64_t i0, rows;
  int64_t j0, keys;
  int64_t c0, positions;
  int64_t key_columns, position_columns;  // with the rest of the last panel

  Window(const Geometry& g, int64_t block) {
    i0 = block * kBlockRows;
    rows = min(kBlockRows, g.q_len - i0);
    const int64_t last = i0 + rows - 1;
    j0 = round_down(g.first_key(i0), kPanel);
    keys = g.end_key(last) - j0;
    c0 = round_down(g.first_key(last) + g.shift(last), kPanel);
    positions = g.k_len - c0;
    key_columns = round_up(keys, kPanel);
    position_columns = round_up(positions, kPanel);
  }
};

// The part of row r of a window that is not blocked.
struct Row {
  int64_t i, first_key, count;
  int64_t key_at, position_at;  // where it starts in the scores by key and by position

  Row(const Geometry& g, const Window& w, int64_t r)
      : i(w.i0 + r),
        first_key(g.first_key(i)),
        count(g.end_key(i) - first_key),
        key_at(first_key - w.j0),
        position_at(first_key + g.shift(i) - w.c0) {}
};

// A row of scores is worked on in whole vectors: blocked scores fill its last one.
HR_INLINE int64_t fill_vector(float* scores, float* positions, int64_t count) {
  for (int n = 0; n < Vec::kLanes; ++n) {
    scores[count + n] = -__builtin_inff();
    positions[count + n] = 0;
  }
  return round_up(count, Vec::kLanes);
}

// Zeroes row[0 .. size - 1] outside at .. at + count - 1.
HR_INLINE void clear_around(float* row, int64_t at, int64_t count, int64_t size) {
  memset(row, 0, at * sizeof(float));
  memset(row + at + count, 0, (size - at - count) * sizeof(float));
}

// One head: its positions, the keys of one batch element, and the scores of one block of queries.
template <typename Arithmetic>
struct Scores {
  const Geometry& g;
  const float *q, *u, *v;
  int64_t h;
  Slice<Arithmetic> keys, positions;
  Joined<Arithmetic> with_u, with_v;       // [rows, padded_head] scale · (q + u), scale · (q + v)
  Joined<Arithmetic> by_key, by_position;  // [rows, score_stride]

  template <typename Params>
  Scores(const Params& p, const Geometry& geometry, int64_t head, bool backward, Scratch& scratch)
      : g(geometry),
        q(p.q.template as<float>()),
        u(p.u.template as<float>() + head * g.d_head),
        v(p.v.template as<float>() + head * g.d_head),
        h(head),
        keys(g, uses(backward), scratch),
        positions(g, uses(backward), scratch),
        with_u(g.take_rows(scratch, g.block_rows), backward, scratch, g.block_rows),
        with_v(g.take_rows(scratch, g.block_rows), backward, scratch, g.block_rows),
        by_key(g.take_scores(scratch), backward, scratch, g.block_rows),
        by_position(g.take_scores(scratch), backward, scratch, g.block_rows) {
    positions.pack(p.p.template as<float>() + g.position(0, h), g.width, g.k_len);
  }

  // Fills with_u, with_v, by_key and by_position, the last two with numbers. `keys` is packed.
  void multiply(int64_t b, const Window& w) {
    const float* slice = q + g.query(w.i0, b, h);
    pack_rows(slice, g.query_stride(), w.rows, g.d_head, with_u.along, u, g.scale);
    pack_rows(slice, g.query_stride(), w.rows, g.d_head, with_v.along, v, g.scale);
    with_u.join(0, w.rows, g.padded_head);
    with_v.join(0, w.rows, g.padded_head);
    const int64_t inner = units<Arithmetic>(g.d_head);
    multiply_block<false, Arithmetic>(w.rows, w.key_columns, inner, with_u.along, keys.for_scores(w.j0),
                                      by_key.along, false);
    multiply_block<false, Arithmetic>(w.rows, w.position_columns, inner, with_v.along,
                                      positions.for_scores(w.c0), by_position.along, false);
  }

 private:
  static int uses(bool backward) {
    return Slice<Arithmetic>::kScores | (backward ? Slice<Arithmetic>::kSums : 0);
  }
};

// The dropout factors of one row of probabilities: 0 or 1 / (1 - p); all 1 without dropout.
class KeepFactors {
 public:
  template <typename Params>
  KeepFactors(const Params& p, const Geometry& g, Scratch& scratch)
      : mask_(p.dropout, p.seed, p.call),
        active_(p.dropout > 0),
        factors_(scratch.take<float>(g.score_stride + kPhiloxChunk)) {
    for (int64_t j = 0; j < g.score_stride; ++j) factors_[j] = 1;
  }

  bool active() const { return active_; }

  // Of elements first .. first + count - 1, then any finite numbers up to whole vectors; valid until the next
  // call.
  const float* row(uint64_t first, int64_t count) {
    if (!active_) return factors_;
    const int64_t skipped = first % 4;  // whole Philox blocks and whole vectors leave no ragged loop
    const DropoutMask mask = mask_;
    float* factors = factors_;
    mask.for_words(first - skipped, round_up(skipped + count, Vec::kLanes),
                   [&](int64_t offset, int n, const uint32_t* words) {
                     for (int word = 0; word < n; ++word) factors[offset + word] = mask.apply(words[word], 1);
                   });
    return factors_ + skipped;
  }

 private:
  DropoutMask mask_;
  bool active_;
  float* factors_;
};

}  // namespace hr::HR_ISA_NAMESPACE::attention
