// attention_inputs: what the kernels of rel_attention read, who sees whom, and how blocks share the work.
//
//   i query, j key, c = j + q_len - 1 - i position: the row of p;  m = k_len - q_len
//   Query i sees keys max(0, i - blocked_lag + 1) .. i + m. Its positions end at k_len - 1, whatever i is.
#pragma once

#include "cuda/kernels/attention_tile.h"
#include "cuda/kernels/dropout_mask.h"
#include "ops/rel_attention.h"

namespace hr::cuda {

// A block's share: a tile of one (batch, head), and kHeadColumns columns of the head. Where a head is wider,
// each of its blocks computes all scores.
struct AttentionShare {
  int32_t b, h, tile, chunk;
};

struct AttentionInputs {
  const float *q, *kv, *p, *u, *v;
  int32_t q_len, k_len, batch, num_heads, d_head, blocked_lag;
  int64_t width;
  float scale;
  bool aligned;  // every row of a head starts at a 16-byte boundary
  DropoutMask dropout;

  template <typename Params>
  explicit AttentionInputs(const Params& params)
      : q(params.q.template as<float>()),
        kv(params.kv.template as<float>()),
        p(params.p.template as<float>()),
        u(params.u.template as<float>()),
        v(params.v.template as<float>()),
        q_len(static_cast<int32_t>(params.q.shape[0])),
        k_len(static_cast<int32_t>(params.kv.shape[0])),
        batch(static_cast<int32_t>(params.q.shape[1])),
        num_heads(static_cast<int32_t>(params.u.shape[0])),
        d_head(static_cast<int32_t>(params.u.shape[1])),
        blocked_lag(static_cast<int32_t>(params.blocked_lag)),
        width(params.q.shape[2]),
        scale(1 / std::sqrt(static_cast<float>(d_head))),
        aligned(is_aligned16(q) && is_aligned16(kv) && is_aligned16(p) && d_head % 4 == 0),
        dropout(params.dropout, params.seed, params.call) {}

  int64_t num_chunks() const { return ceil_div(d_head, kHeadColumns); }
  int64_t num_heads_of_batch() const { return int64_t{batch} * num_heads; }

  HR_DEVICE AttentionShare share(int32_t block, int32_t num_tiles) const {
    const int32_t chunks = (d_head + kHeadColumns - 1) / kHeadColumns;
    const int32_t tile = block / chunks, head = tile / num_tiles;
    return {head / num_heads, head % num_heads, tile % num_tiles, block % chunks};
  }
  // A block goes through all chunks of the head; its own comes last, and stays in shared memory.
  HR_DEVICE int chunks() const { return (d_head + kHeadColumns - 1) / kHeadColumns; }
  HR_DEVICE int columns(int chunk) const {
    const int left = d_head - chunk * kHeadColumns;
    return left < kHeadColumns ? left : kHeadColumns;
  }

  // Where a chunk of a head lies in a row, and the rows.
  HR_DEVICE int64_t column(int32_t h, int chunk) const { return int64_t{h} * d_head + chunk * kHeadColumns; }
  HR_DEVICE int64_t query(int32_t b, int32_t h, int chunk) const { return b * width + column(h, chunk); }
  HR_DEVICE int64_t query_stride() const { return batch * width; }
  HR_DEVICE int64_t key(int32_t b, int32_t h, int chunk) const { return 2 * b * width + column(h, chunk); }
  HR_DEVICE int64_t key_stride() const { return 2 * batch * width; }

  HR_DEVICE HeadRows queries(const float* rows, int32_t b, int32_t h, int chunk) const {
    return {rows + query(b, h, chunk), query_stride(), q_len, aligned};
  }
  HR_DEVICE HeadRows keys(int32_t b, int32_t h, int chunk) const {
    return {kv + key(b, h, chunk), key_stride(), k_len, aligned};
  }
  HR_DEVICE HeadRows values(int32_t b, int32_t h, int chunk) const {
    return {kv + key(b, h, chunk) + width, key_stride(), k_len, aligned};
  }
  HR_DEVICE HeadRows positions(int32_t h, int chunk) const {
    return {p + column(h, chunk), width, k_len, aligned};
  }

  HR_DEVICE int64_t score_row(int32_t b, int32_t h, int32_t i) const {
    return (int64_t{b} * num_heads + h) * q_len + i;
  }
  HR_DEVICE int32_t first_key(int32_t i) const { return i < blocked_lag ? 0 : i - blocked_lag + 1; }
  HR_DEVICE int32_t last_key(int32_t i) const { return i + k_len - q_len; }
  HR_DEVICE bool sees(int32_t i, int32_t j) const {
    return i < q_len && j >= first_key(i) && j <= last_key(i);
  }

  // Blocks of kEdge positions that a tile of queries from i0 on sees, the first of them perhaps in row 0
  // only.
  template <int kEdge>
  HR_DEVICE int32_t first_block(int32_t i0) const {
    return (first_key(i0) + q_len - 1 - i0) / kEdge;
  }
  template <int kEdge>
  HR_DEVICE int32_t last_block(int32_t i0) const {
    const int32_t rows = q_len - i0 < kEdge ? q_len - i0 : kEdge;
    return (k_len - 1 + rows - 1) / kEdge;
  }

  // The dropout factors of probabilities (i, j) and (i, j + 1).
  HR_DEVICE void keep(int64_t score_row, int32_t j, float& keep0, float& keep1) const {
    keep0 = keep1 = 1;
    if (dropout.threshold == 0) return;
    const uint64_t element = static_cast<uint64_t>(score_row * k_len + j);
    const math::PhiloxBlock words = math::philox_block(dropout.seed, dropout.call, element >> 2);
    keep0 = dropout.apply(word(words, element), 1);
    keep1 = element % 4 < 3 ? dropout.apply(word(words, element + 1), 1) : keep_one(element + 1);
  }
  HR_DEVICE float keep(int64_t score_row, int32_t j) const {
    return dropout.threshold == 0 ? 1.0f : keep_one(static_cast<uint64_t>(score_row * k_len + j));
  }

 private:
  HR_DEVICE float keep_one(uint64_t element) const {
    return dropout.apply(word(math::philox_block(dropout.seed, dropout.call, element >> 2), element), 1);
  }
  // Not words[element % 4]: registers have no index.
  static HR_DEVICE uint32_t word(const math::PhiloxBlock& words, uint64_t element) {
    const uint32_t even = element & 2 ? words.word[2] : words.word[0];
    const uint32_t odd = element & 2 ? words.word[3] : words.word[1];
    return element & 1 ? odd : even;
  }
};

}  // namespace hr::cuda
