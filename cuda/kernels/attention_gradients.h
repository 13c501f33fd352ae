// attention_gradients: the kernels of rel_attention_backward, which recompute probabilities from `lse`:
//
//   RowMeansKernel           Σ_j weight · d_weight = ⟨d_out, out⟩ of each query
//   QueryGradientsKernel     a tile of queries through all keys: d_q, and d_scores by position, in the
//                            workspace of a group of the batch
//   KeyGradientsKernel       a tile of keys through all queries: d_kv
//   PositionGradientsKernel  a tile of positions through the d_scores of a part of the group: d_p
//
// With s = 1/√d_head, everything is a product of d_score = weight · (d_weight · keep - mean), unscaled:
//   d_q = s·(d_scores · keys + d_scores by position · p),   d_keys = d_scoresᵀ · s·(q + u),   d_p likewise
#pragma once

#include "cuda/kernels/attention_queries.h"
#include "cuda/kernels/row_reduce.h"

namespace hr::cuda {

// One warp per row.
struct RowMeansKernel {
  static constexpr int kThreads = kReduceThreads;
  const float* d_out;  // [q_len, batch, width]
  const float* out;    // as d_out
  float* means;        // [batch, num_heads, q_len]
  int64_t q_len, batch, num_heads, d_head;

  HR_DEVICE void operator()() const {
    const int64_t row = int64_t{block_x()} * kReduceWarps + warp_index();
    if (row >= batch * num_heads * q_len) return;  // the whole warp
    const int64_t head = row / q_len, i = row % q_len;
    const int64_t at = ((i * batch + head / num_heads) * num_heads + head % num_heads) * d_head;
    float sum = 0;
    for (int64_t k = lane_index(); k < d_head; k += kWarpSize) sum = fma(d_out[at + k], out[at + k], sum);
    sum = reduce_warp<SumOf>(sum);
    if (lane_index() == 0) means[row] = sum;
  }
};

// d_scores by position, as tiles of kEdge queries x all positions, of a group of the batch: what is not seen
// is 0, but for blocks of positions before first_block() - 1, which are not there.
template <typename Element>
struct ScoreGradients {
  Element* data;  // [group, num_heads, num_tiles, kEdge, stride]
  int32_t num_heads, num_tiles;
  int64_t stride;       // a multiple of kEdge
  int32_t first_b = 0;  // of the group

  template <int kEdge>
  HR_DEVICE Element* row(int32_t b, int32_t h, int32_t tile, int r) const {
    const int64_t head = int64_t{b - first_b} * num_heads + h;
    return data + ((head * num_tiles + tile) * kEdge + r) * stride;
  }
};

template <Precision kPrecision>
struct QueryGradientsKernel {
  using Queries = AttentionQueries<kPrecision, true>;
  using Tile = typename Queries::Tile;
  using Scores = typename Queries::Scores;
  using Columns = Strip<kHeadColumns / 16>;
  static constexpr int kThreads = Tile::kThreads, kEdge = Tile::kEdge;
  static constexpr size_t kSharedBytes = Queries::kSharedBytes;

  AttentionInputs in;
  const float* d_out;  // [q_len, batch, width]
  const float* lse;    // [batch, num_heads, q_len]
  const float* means;  // as lse
  float* d_q;          // [q_len, batch, width]
  float* d_biases;     // [num_tiles, batch, 2, width]: of u and of v, summed over the tile
  ScoreGradients<typename Tile::Element> d_scores;
  bool even;

  HR_DEVICE void operator()() const {
    AttentionShare share = in.share(block_x(), d_scores.num_tiles);
    share.b += d_scores.first_b;
    const Queries queries(in, d_out, share);
    const int columns = in.columns(share.chunk);
    float row_lse[2] = {}, row_mean[2] = {};
    HR_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int32_t i = queries.i0 + queries.first_row() + lane_index() / 4 + 8 * half;
      if (i < in.q_len) row_lse[half] = lse[in.score_row(share.b, share.h, i)];
      if (i < in.q_len) row_mean[half] = means[in.score_row(share.b, share.h, i)];
    }
    Columns d_with_u = {}, d_with_v = {};
    // In each step the position scores in the ring become d_scores; the block before is complete then.
    for (int32_t t = queries.first - 1; t <= queries.last + 1; ++t) {
      Scores scores = {}, d_weights = {};
      if (t <= queries.last) {
        queries.multiply(t, scores, d_weights);
      } else {
        warp_barrier();  // no lane reads the part of the ring that is written over
      }
      differentiate(queries, share, t, scores, d_weights, row_lse, row_mean);
      warp_barrier();
      if (t < queries.first) continue;
      if (t <= queries.last) multiply_weights<kPrecision>(d_with_u, scores, queries.keys(), columns);
      const bool has_positions = t > 0 && (t - 1) * kEdge < in.k_len;
      if (has_positions) finish_block(queries, share, t - 1, d_with_v, columns);
    }
    store_biases(share, d_with_u, d_with_v, columns);
    Columns::for_each_place([&](const Place& place) {
      HR_UNROLL
      for (int n = 0; n < 2; ++n) d_with_u.at(place)[n] += d_with_v.at(place)[n];
    });
    store_strip(d_with_u, d_q + in.query(share.b, share.h, share.chunk), in.query_stride(),
                queries.i0 + queries.first_row(), in.q_len, columns, even, in.scale);
  }

 private:
  HR_DEVICE void differentiate(const Queries& queries, const AttentionShare& share, int32_t t, Scores& scores,
                               Scores& d_weights, const float (&row_lse)[2],
                               const float (&row_mean)[2]) const {
    queries.for_each(t, [&](const Place& place, int32_t i, int32_t j, float& position0, float& position1) {
      float *x = scores.at(place), *positions[2] = {&position0, &position1};
      const float* d_weight = d_weights.at(place);
      float keep[2];
      in.keep(in.score_row(share.b, share.h, i), j, keep[0], keep[1]);
      HR_UNROLL
      for (int n = 0; n < 2; ++n) {
        const float probability = exp(x[n] + *positions[n] - row_lse[place.half]);
        const float d_score = probability * (d_weight[n] * keep[n] - row_mean[place.half]);
        x[n] = *positions[n] = in.sees(i, j + n) ? d_score : 0.0f;
      }
    });
  }

  HR_DEVICE void finish_block(const Queries& queries, const AttentionShare& share, int32_t t,
                              Columns& d_with_v, int columns) const {
    Scores block = queries.ring_block(t);
    multiply_weights<kPrecision>(d_with_v, block, queries.positions(t), columns);
    if (share.chunk > 0) return;
    Scores::for_each_place([&](const Place& place) {
      const int r = queries.first_row() + place.row;
      auto* row = d_scores.template row<kEdge>(share.b, share.h, share.tile, r);
      store_pair(row + t * kEdge + place.column, block.at(place)[0], block.at(place)[1]);
    });
  }

  // Sums over the rows of the tile: within each warp, then over the warps.
  HR_DEVICE void store_biases(const AttentionShare& share, Columns& d_with_u, Columns& d_with_v,
                              int columns) const {
    float* of_warps = shared_memory<float>();  // [warps, 2, kHeadColumns]
    barrier();
    sum_rows(d_with_u, of_warps + warp_index() * 2 * kHeadColumns);
    sum_rows(d_with_v, of_warps + (warp_index() * 2 + 1) * kHeadColumns);
    barrier();
    float* to = d_biases + (int64_t{share.tile} * in.batch + share.b) * 2 * in.width +
                in.column(share.h, share.chunk);
    for (int n = thread_index(); n < 2 * kHeadColumns; n += kThreads) {
      if (n % kHeadColumns >= columns) continue;
      float sum = 0;
      for (int warp = 0; warp < kThreads / kWarpSize; ++warp) sum += of_warps[warp * 2 * kHeadColumns + n];
      to[n / kHeadColumns * in.width + n % kHeadColumns] = sum * in.scale;
    }
  }
  HR_DEVICE static void sum_rows(Columns& strip, float* to) {
    Columns::for_each_place([&](const Place& place) {
      if (place.half == 1) return;
      const float *upper = strip.at(place), *lower = upper + 2;
      HR_UNROLL
      for (int n = 0; n < 2; ++n) {
        float sum = upper[n] + lower[n];
        HR_UNROLL
        for (int lanes = 4; lanes < kWarpSize; lanes *= 2) sum += warp_shuffle_xor(sum, lanes);
        if (lane_index() < 4) to[place.column + n] = sum;
      }
    });
  }
};

template <Precision kPrecision>
struct KeyGradientsKernel {
  using Tile = AttentionTile<kPrecision>;
  using Element = typename Tile::Element;
  using Scores = Strip<Tile::kPairs>;
  using Columns = Strip<kHeadColumns / 16>;
  static constexpr int kThreads = Tile::kThreads, kEdge = Tile::kEdge;
  static constexpr int kPitch = kEdge + 4;  // of position_scores()
  static constexpr size_t kScoreBytes = 2 * kEdge * kPitch * sizeof(float);
  static constexpr size_t kSharedBytes = 7 * Tile::kBytes + kScoreBytes + 2 * kEdge * sizeof(float);

  AttentionInputs in;
  const float* d_out;  // [q_len, batch, width]
  const float* lse;    // [batch, num_heads, q_len]
  const float* means;  // as lse
  float* d_kv;         // [k_len, batch, 2·width]
  int32_t num_tiles;
  bool even;

  HR_DEVICE void operator()() const {
    const AttentionShare share = in.share(block_x(), num_tiles);
    const int32_t j0 = share.tile * kEdge;
    const int columns = in.columns(share.chunk);
    Columns d_keys = {}, d_values = {};
    int32_t first, end;
    see(j0, first, end);
    for (int32_t n = first; n < end; ++n) {
      Scores scores = {}, weights = {};
      multiply(share, n, n == first, scores, weights);
      differentiate(share, n * kEdge, scores, weights);
      multiply_weights<kPrecision>(d_values, weights, d_out_rows(), columns);
      multiply_weights<kPrecision>(d_keys, scores, with_u(), columns);
    }
    float* to = d_kv + in.key(share.b, share.h, share.chunk);
    const int32_t row = j0 + first_row();
    store_strip(d_keys, to, in.key_stride(), row, in.k_len, columns, even);
    store_strip(d_values, to + in.width, in.key_stride(), row, in.k_len, columns, even);
  }

 private:
  HR_DEVICE static Element* tile(int number) { return shared_memory<Element>(number * Tile::kBytes); }
  HR_DEVICE static Element* keys() { return tile(0); }
  HR_DEVICE static Element* values() { return tile(1); }
  HR_DEVICE static Element* with_u() { return tile(2); }
  HR_DEVICE static Element* with_v() { return tile(3); }
  HR_DEVICE static Element* d_out_rows() { return tile(4); }
  // Rows of p that tiles n of queries meet: those of n - 1 are the upper half of those of n.
  HR_DEVICE static Element* positions(int32_t n) { return tile(5 + (n & 1)); }
  HR_DEVICE static float* position_scores() { return shared_memory<float>(7 * Tile::kBytes); }
  HR_DEVICE static float* row_lse() { return shared_memory<float>(7 * Tile::kBytes + kScoreBytes); }
  HR_DEVICE static float* row_means() { return row_lse() + kEdge; }
  HR_DEVICE static int first_row() { return warp_index() * 16; }

  // The tiles of queries that see one of the keys.
  HR_DEVICE void see(int32_t j0, int32_t& first, int32_t& end) const {
    const int32_t memory = in.k_len - in.q_len;
    const int64_t last = int64_t{j0} + kEdge - 1 + in.blocked_lag - 1;
    first = j0 > memory ? (j0 - memory) / kEdge : 0;
    end = ((last < in.q_len ? static_cast<int32_t>(last) : in.q_len - 1) + kEdge) / kEdge;
  }

  // Scores and d_out · values of the keys (rows) and tile n of queries; position scores go to shared memory.
  HR_DEVICE void multiply(const AttentionShare& share, int32_t n, bool is_first, Scores& scores,
                          Scores& d_weights) const {
    const int32_t j0 = share.tile * kEdge, i0 = n * kEdge, b = share.b, h = share.h;
    const int32_t first_position = j0 + in.q_len - 1 - i0 - (kEdge - 1);
    const int chunks = in.chunks();
    for (int number = 1; number <= chunks; ++number) {
      const int chunk = (share.chunk + number) % chunks, columns = in.columns(chunk);
      const int64_t bias = in.column(h, chunk);
      LoadedRows<kPrecision> rows, of_q;
      rows.load(in.positions(h, chunk), first_position, columns);
      of_q.load(in.queries(in.q, b, h, chunk), i0, columns);
      barrier();  // nobody reads the tiles any more
      rows.store(positions(n));
      rows.load(in.queries(d_out, b, h, chunk), i0, columns);
      of_q.store(with_u(), in.u + bias, in.scale, columns);
      of_q.store(with_v(), in.v + bias, in.scale, columns);
      rows.store(d_out_rows());
      load_statistics(b, h, i0);
      if (chunks > 1 || is_first) {
        rows.load(in.positions(h, chunk), first_position + kEdge, columns);
        rows.store(positions(n - 1));
        load_keys(share, chunk, columns);
      }
      barrier();
      // A key of row r and a query of column c meet in row kEdge - 1 + r - c of the positions.
      add_positions(0, positions(n), number == 1, columns, Tile::kPairs - 1 - warp_index(), Tile::kPairs);
      add_positions(kEdge, positions(n - 1), number == 1, columns, 0, Tile::kPairs - warp_index());
      multiply_rows<kPrecision>(scores, keys(), first_row(), with_u(), columns);
      multiply_rows<kPrecision>(d_weights, values(), first_row(), d_out_rows(), columns);
    }
    barrier();  // position scores are there
  }

  HR_DEVICE void load_keys(const AttentionShare& share, int chunk, int columns) const {
    LoadedRows<kPrecision> rows;
    rows.load(in.keys(share.b, share.h, chunk), share.tile * kEdge, columns);
    rows.store(keys());
    rows.load(in.values(share.b, share.h, chunk), share.tile * kEdge, columns);
    rows.store(values());
  }

  HR_DEVICE void load_statistics(int32_t b, int32_t h, int32_t i0) const {
    const int r = thread_index();
    if (r >= kEdge || i0 + r >= in.q_len) return;
    row_lse()[r] = lse[in.score_row(b, h, i0 + r)];
    row_means()[r] = means[in.score_row(b, h, i0 + r)];
  }

  // Rows `first` .. of the positions that the tile meets, with queries 16·first_pair .. 16·end_pair - 1.
  HR_DEVICE void add_positions(int first, const Element* rows, bool clear, int columns, int first_pair,
                               int end_pair) const {
    const auto at = [&](const Place& place) {
      return position_scores() + (first + first_row() + place.row) * kPitch + place.column;
    };
    Scores sums = {};
    if (!clear) {
      Scores::for_each_place([&](const Place& place) {
        sums.at(place)[0] = at(place)[0];
        sums.at(place)[1] = at(place)[1];
      });
    }
    multiply_rows<kPrecision>(sums, rows, first_row(), with_v(), columns, first_pair, end_pair);
    Scores::for_each_place(
        [&](const Place& place) { store2(at(place), sums.at(place)[0], sums.at(place)[1]); });
  }

  // scores becomes d_scores; weights, which is d_weights, the probabilities after dropout.
  HR_DEVICE void differentiate(const AttentionShare& share, int32_t i0, Scores& scores,
                               Scores& weights) const {
    Scores::for_each_place([&](const Place& place) {
      float *x = scores.at(place), *weight = weights.at(place);
      const int row = first_row() + place.row;
      const int32_t j = share.tile * kEdge + row;
      HR_UNROLL
      for (int n = 0; n < 2; ++n) {
        const int column = place.column + n;
        const int32_t i = i0 + column;
        const bool seen = in.sees(i, j);
        const float keep = in.keep(in.score_row(share.b, share.h, i), j);
        const float position = position_scores()[(row - column + kEdge - 1) * kPitch + column];
        const float probability = exp(x[n] + position - row_lse()[column]);
        x[n] = seen ? probability * (weight[n] * keep - row_means()[column]) : 0.0f;
        weight[n] = seen ? probability * keep : 0.0f;
      }
    });
  }
};

template <Precision kPrecision>
struct PositionGradientsKernel {
  using Tile = AttentionTile<kPrecision>;
  using Element = typename Tile::Element;
  static constexpr int kThreads = Tile::kThreads, kEdge = Tile::kEdge;
  static constexpr size_t kSharedBytes = 2 * Tile::kBytes;

  AttentionInputs in;
  ScoreGradients<Element> d_scores;
  float* d_p;  // [parts of the group, k_len, width]
  int32_t part_length;
  bool even;

  HR_DEVICE void operator()() const {
    // A part of the group takes the place of b.
    const AttentionShare share = in.share(block_x(), static_cast<int32_t>(d_scores.stride / kEdge));
    const int columns = in.columns(share.chunk);
    const int32_t begin = d_scores.first_b + share.b * part_length;
    const int32_t end = in.batch - begin < part_length ? in.batch : begin + part_length;
    Strip<kHeadColumns / 16> sums = {};
    for (int32_t b = begin; b < end; ++b) {
      for (int32_t n = 0; n < d_scores.num_tiles; ++n) {
        if (share.tile < in.first_block<kEdge>(n * kEdge) - 1) continue;
        LoadedRows<kPrecision> of_q;
        of_q.load(in.queries(in.q, b, share.h, share.chunk), n * kEdge, columns);
        barrier();  // nobody reads the tiles any more
        load_scores(b, share.h, n, share.tile);
        of_q.store(with_v(), in.v + in.column(share.h, share.chunk), in.scale, columns);
        copy_async_wait<0>();
        barrier();
        HR_UNROLL
        for (int k = 0; k < kEdge; k += Arithmetic<kPrecision>::kStep) {
          uint32_t a[1][4];
          load_left<Element, Tile::kPitch>(a, scores(), k, warp_index() * 16);
          multiply_step<kPrecision>(sums, a, with_v(), k, columns);
        }
      }
    }
    float* to = d_p + share.b * in.k_len * in.width + in.column(share.h, share.chunk);
    store_strip(sums, to, in.width, share.tile * kEdge + warp_index() * 16, in.k_len, columns, even);
  }

 private:
  HR_DEVICE static Element* scores() { return shared_memory<Element>(); }
  HR_DEVICE static Element* with_v() { return shared_memory<Element>(Tile::kBytes); }

  HR_DEVICE void load_scores(int32_t b, int32_t h, int32_t n, int32_t block) const {
    constexpr int kChunks = kEdge / Tile::kChunk;  // of a row
    for (int at = thread_index(); at < kEdge * kChunks; at += kThreads) {
      const int row = at / kChunks, column = at % kChunks * Tile::kChunk;
      const Element* from = d_scores.template row<kEdge>(b, h, n, row) + block * kEdge + column;
      copy_async16(scores() + row * Tile::kPitch + column, from, kChunkBytes);
    }
    copy_async_commit();
  }
};

}  // namespace hr::cuda
