// attention_queries: a block of threads with a tile of queries, going through the keys that they see.
//
//   step t      keys     j = t·kEdge - (q_len - 1) + i0 ..    so that the query of row r meets
//               positions c = t·kEdge + (j - first key) - r   positions of the blocks t and t - 1
//
// Each step multiplies the queries with the positions of one block, t; the products of two blocks are kept in
// a ring in shared memory, and every row reads its own part of them. It starts one step early, with the block
// before the first. A ring's row belongs to the warp that has the query.
#pragma once

#include "cuda/kernels/attention_inputs.h"

namespace hr::cuda {

// kGradient: with the products of d_out and values, and the last two blocks of p instead of one.
template <Precision kPrecision, bool kGradient>
class AttentionQueries {
 public:
  using Tile = AttentionTile<kPrecision>;
  using Element = typename Tile::Element;
  using Scores = Strip<Tile::kPairs>;
  static constexpr int kEdge = Tile::kEdge;
  static constexpr int kRing = 2 * kEdge, kRingPitch = kRing + 6;  // few bank conflicts along the diagonals
  static constexpr int kTiles = kGradient ? 7 : 5;
  static constexpr size_t kSharedBytes = kTiles * Tile::kBytes + kEdge * kRingPitch * sizeof(float);

  HR_DEVICE AttentionQueries(const AttentionInputs& inputs, const float* d_out, const AttentionShare& share)
      : in_(inputs),
        d_out_(d_out),
        share_(share),
        i0(share.tile * kEdge),
        first(inputs.first_block<kEdge>(i0)),
        last(inputs.last_block<kEdge>(i0)) {}

  // Scores of the step but for their position part, and d_out · values. Step first - 1 has positions alone.
  HR_DEVICE void multiply(int32_t t, Scores& scores, Scores& d_weights) const {
    const int32_t b = share_.b, h = share_.h;
    const int chunks = in_.chunks();
    for (int n = 1; n <= chunks; ++n) {
      const int chunk = (share_.chunk + n) % chunks, columns = in_.columns(chunk);
      const HeadRows all_keys = in_.keys(b, h, chunk);
      LoadedRows<kPrecision> rows, of_keys;
      rows.load(in_.positions(h, chunk), t * kEdge, columns);
      constexpr bool kEarly = !kGradient;  // there are registers for two tiles
      if (kEarly && t >= first) of_keys.load(all_keys, first_key(t), columns);
      barrier();  // nobody reads the tiles any more
      rows.store(positions(t));
      if (t >= first) {
        if (!kEarly) of_keys.load(all_keys, first_key(t), columns);
        of_keys.store(keys());
        rows.load(in_.values(b, h, chunk), first_key(t), columns);
        rows.store(values());
      }
      if (chunks > 1 || t == first - 1) load_queries(chunk, columns);
      barrier();
      add_positions(t, n == 1, columns);
      if (t < first) continue;
      multiply_rows<kPrecision>(scores, with_u(), first_row(), keys(), columns);
      if constexpr (kGradient) {
        multiply_rows<kPrecision>(d_weights, d_out(), first_row(), values(), columns);
      }
    }
    warp_barrier();  // the warp's rows of the ring are there
  }

  // fn(place, i, j, position0, position1) for keys j and j + 1 of query i: references to numbers of the ring.
  template <typename Fn>
  HR_DEVICE void for_each(int32_t t, Fn&& fn) const {
    Scores::for_each_place([&](const Place& place) {
      const int r = first_row() + place.row;
      const int32_t c = t * kEdge + place.column - r;
      fn(place, i0 + r, first_key(t) + place.column, *ring_at(r, c), *ring_at(r, c + 1));
    });
  }

  // The ring's numbers of block t.
  HR_DEVICE Scores ring_block(int32_t t) const {
    Scores block;
    Scores::for_each_place([&](const Place& place) {
      const float* at = ring_at(first_row() + place.row, t * kEdge + place.column);
      block.at(place)[0] = at[0];
      block.at(place)[1] = at[1];
    });
    return block;
  }

  HR_DEVICE int first_row() const { return warp_index() * 16; }
  HR_DEVICE Element* keys() const { return tile(2); }
  HR_DEVICE Element* values() const { return tile(3); }
  HR_DEVICE Element* positions(int32_t t) const { return tile(kGradient ? 4 + (t & 1) : 4); }

 private:
  HR_DEVICE static Element* tile(int number) { return shared_memory<Element>(number * Tile::kBytes); }
  HR_DEVICE static Element* with_u() { return tile(0); }
  HR_DEVICE static Element* with_v() { return tile(1); }
  HR_DEVICE static Element* d_out() { return tile(6); }
  HR_DEVICE static float* ring_at(int row, int32_t c) {
    return shared_memory<float>(kTiles * Tile::kBytes) + row * kRingPitch + (c & (kRing - 1));
  }
  HR_DEVICE int32_t first_key(int32_t t) const { return t * kEdge - (in_.q_len - 1) + i0; }

  HR_DEVICE void load_queries(int chunk, int columns) const {
    const int64_t bias = in_.column(share_.h, chunk);
    LoadedRows<kPrecision> rows;
    rows.load(in_.queries(in_.q, share_.b, share_.h, chunk), i0, columns);
    rows.store(with_u(), in_.u + bias, in_.scale, columns);
    rows.store(with_v(), in_.v + bias, in_.scale, columns);
    if constexpr (kGradient) {
      rows.load(in_.queries(d_out_, share_.b, share_.h, chunk), i0, columns);
      rows.store(d_out());
    }
  }

  HR_DEVICE void add_positions(int32_t t, bool clear, int columns) const {
    Scores sums = {};
    if (!clear) sums = ring_block(t);
    multiply_rows<kPrecision>(sums, with_v(), first_row(), positions(t), columns);
    Scores::for_each_place([&](const Place& place) {
      const float* x = sums.at(place);
      store2(ring_at(first_row() + place.row, t * kEdge + place.column), x[0], x[1]);
    });
  }

  const AttentionInputs& in_;
  const float* const d_out_;
  const AttentionShare share_;

 public:
  const int32_t i0, first, last;  // the first query; the steps
};

}  // namespace hr::cuda
