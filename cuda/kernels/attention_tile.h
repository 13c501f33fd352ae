// attention_tile: tiles of attention in shared memory, and the products that a warp makes of them.
//
// A tile is kEdge rows (queries, keys or positions) of kHeadColumns columns of a head. Rows are padded by 16
// bytes, so that eight of them start in different banks, whether a product runs along rows or across them.
// Wherever it runs across rows, the left operand comes from registers that hold sums of a product before.
#pragma once

#include "cuda/kernels/quads.h"
#include "cuda/kernels/tile_fragments.h"

namespace hr::cuda {

inline constexpr int kHeadColumns = 64;

template <Precision kPrecision>
struct AttentionTile {
  using Element = typename Arithmetic<kPrecision>::Element;
  static constexpr int kEdge = kPrecision == Precision::bf16 ? 64 : 32;
  static constexpr int kPairs = kEdge / 16;                // of blocks of 8 columns, in a strip of scores
  static constexpr int kThreads = kEdge / 16 * kWarpSize;  // a warp has 16 rows
  static constexpr int kChunk = kChunkBytes / static_cast<int>(sizeof(Element));
  static constexpr int kPitch = kHeadColumns + kChunk;
  static constexpr size_t kBytes = kEdge * kPitch * sizeof(Element);
};

// Two neighbouring numbers of a strip that a lane has: where they are in its registers, and in the strip.
struct Place {
  int pair, block, half;
  int row, column;
};

// A warp's 16 x 16·kPairs sums. Registers: cuda/intrinsics.h.
template <int kPairs>
struct Strip {
  float v[kPairs][1][2][4];

  HR_DEVICE float* at(const Place& place) { return &v[place.pair][0][place.block][2 * place.half]; }

  template <typename Fn>
  static HR_DEVICE void for_each_place(Fn&& fn) {
    HR_UNROLL
    for (int pair = 0; pair < kPairs; ++pair) {
      HR_UNROLL
      for (int block = 0; block < 2; ++block) {
        HR_UNROLL
        for (int half = 0; half < 2; ++half) {
          fn(Place{pair, block, half, lane_index() / 4 + 8 * half,
                   16 * pair + 8 * block + lane_index() % 4 * 2});
        }
      }
    }
  }
};

// Rows of one head in global memory: number 0 of row r is at data + r·stride.
struct HeadRows {
  const float* data;
  int64_t stride;
  int32_t num_rows;
  bool aligned;  // rows start at 16-byte boundaries
};

HR_DEVICE void store_elements(float* to, const Quad& x) { store<4>(to, x); }
HR_DEVICE void store_elements(math::Bf16* to, const Quad& x) {
  store2(reinterpret_cast<float*>(to), math::float_of(to_bf16_pair(x.v[0], x.v[1])),
         math::float_of(to_bf16_pair(x.v[2], x.v[3])));
}
HR_DEVICE void store_pair(float* to, float x0, float x1) { store2(to, x0, x1); }
HR_DEVICE void store_pair(math::Bf16* to, float x0, float x1) {
  *reinterpret_cast<uint32_t*>(to) = to_bf16_pair(x0, x1);
}

// A thread's part of a tile on its way to shared memory. What is outside of the rows and columns is 0.
template <Precision kPrecision>
class LoadedRows {
 public:
  using Tile = AttentionTile<kPrecision>;
  using Element = typename Tile::Element;

  // Rows first .. of `rows`. Loads start here: several tiles are best loaded before the first is stored.
  HR_DEVICE void load(const HeadRows& rows, int32_t first, int columns) {
    HR_UNROLL
    for (int n = 0; n < kCount; ++n) {
      const int32_t r = first + row(n);
      const bool inside = r >= 0 && r < rows.num_rows;
      x_[n] = load_quad(rows.data + r * rows.stride + column(), inside ? quad_count(columns - column()) : 0,
                        rows.aligned);
    }
  }
  HR_DEVICE void store(Element* tile) const {
    HR_UNROLL
    for (int n = 0; n < kCount; ++n) store_elements(at(tile, n), x_[n]);
  }
  // scale · (rows + bias)
  HR_DEVICE void store(Element* tile, const float* bias, float scale, int columns) const {
    const Quad added = load_quad(bias + column(), quad_count(columns - column()), false);
    HR_UNROLL
    for (int n = 0; n < kCount; ++n) {
      Quad sum;
      HR_UNROLL
      for (int i = 0; i < 4; ++i) sum.v[i] = (x_[n].v[i] + added.v[i]) * scale;
      store_elements(at(tile, n), sum);
    }
  }

 private:
  static constexpr int kQuadsOfRow = kHeadColumns / 4, kRowsAtOnce = Tile::kThreads / kQuadsOfRow;
  static constexpr int kCount = Tile::kEdge / kRowsAtOnce;
  HR_DEVICE static int column() { return thread_index() % kQuadsOfRow * 4; }
  HR_DEVICE static int row(int n) { return thread_index() / kQuadsOfRow + n * kRowsAtOnce; }
  HR_DEVICE static Element* at(Element* tile, int n) { return tile + row(n) * Tile::kPitch + column(); }

  Quad x_[kCount];
};

// sums += rows a_first .. a_first + 15 of a · (rows of b)ᵀ, along the columns. Only for rows 16·first_pair ..
// 16·end_pair - 1 of b.
template <Precision kPrecision>
HR_DEVICE void multiply_rows(Strip<AttentionTile<kPrecision>::kPairs>& sums,
                             const typename AttentionTile<kPrecision>::Element* a, int a_first,
                             const typename AttentionTile<kPrecision>::Element* b, int columns,
                             int first_pair = 0, int end_pair = AttentionTile<kPrecision>::kPairs) {
  using Tile = AttentionTile<kPrecision>;
  const int lane = lane_index();
  const auto* a_row = a + (a_first + lane % 16) * Tile::kPitch + lane / 16 * Tile::kChunk;
  const auto* b_row = b + (lane / 16 * 8 + lane % 8) * Tile::kPitch + lane / 8 % 2 * Tile::kChunk;
  for (int k = 0; k < columns; k += Arithmetic<kPrecision>::kStep) {
    uint32_t left[1][4];
    warp_load_matrices(left[0], a_row + k);
    HR_UNROLL
    for (int pair = 0; pair < Tile::kPairs; ++pair) {
      if (pair < first_pair || pair >= end_pair) continue;
      uint32_t r[4];
      warp_load_matrices(r, b_row + 16 * pair * Tile::kPitch + k);
      uint32_t a_block[1][4] = {{left[0][0], left[0][1], left[0][2], left[0][3]}};
      uint32_t b_blocks[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
      multiply_fragments<kPrecision>(sums.v[pair], a_block, b_blocks);
    }
  }
}

// Across rows: the kStep rows from k on, as the right operand of columns first .. first + 15, and as the
// left one. f32 pairs row 2t with register t and row 2t + 1 with register t + 4, like the sums of a Strip.
template <typename Element, int kPitch>
HR_DEVICE void load_right(uint32_t (&b)[2][2], const Element* tile, int k, int first) {
  const int lane = lane_index();
  if constexpr (sizeof(Element) == 2) {
    uint32_t r[4];
    warp_load_matrices_transposed(r, tile + (k + lane % 16) * kPitch + first + lane / 16 * 8);
    b[0][0] = r[0];
    b[0][1] = r[1];
    b[1][0] = r[2];
    b[1][1] = r[3];
  } else {
    const Element* at = tile + (k + lane % 4 * 2) * kPitch + first + lane / 4;
    HR_UNROLL
    for (int i = 0; i < 4; ++i) b[i / 2][i % 2] = math::bits_of(at[i % 2 * kPitch + i / 2 * 8]);
  }
}
template <typename Element, int kPitch>
HR_DEVICE void load_left(uint32_t (&a)[1][4], const Element* tile, int k, int first) {
  const int lane = lane_index();
  if constexpr (sizeof(Element) == 2) {
    warp_load_matrices_transposed(a[0],
                                  tile + (k + lane / 16 * 8 + lane % 8) * kPitch + first + lane / 8 % 2 * 8);
  } else {
    const Element* at = tile + (k + lane % 4 * 2) * kPitch + first + lane / 4;
    HR_UNROLL
    for (int i = 0; i < 4; ++i) a[0][i] = math::bits_of(at[i / 2 * kPitch + i % 2 * 8]);
  }
}

// sums += a · rows k .. of the tile
template <Precision kPrecision>
HR_DEVICE void multiply_step(Strip<kHeadColumns / 16>& sums, const uint32_t (&a)[1][4],
                             const typename AttentionTile<kPrecision>::Element* tile, int k, int columns) {
  using Tile = AttentionTile<kPrecision>;
  HR_UNROLL
  for (int pair = 0; pair < kHeadColumns / 16; ++pair) {
    if (16 * pair >= columns) continue;
    uint32_t a_block[1][4] = {{a[0][0], a[0][1], a[0][2], a[0][3]}}, b_blocks[2][2];
    load_right<typename Tile::Element, Tile::kPitch>(b_blocks, tile, k, 16 * pair);
    multiply_fragments<kPrecision>(sums.v[pair], a_block, b_blocks);
  }
}

// sums += weights · rows of the tile
template <Precision kPrecision>
HR_DEVICE void multiply_weights(Strip<kHeadColumns / 16>& sums,
                                const Strip<AttentionTile<kPrecision>::kPairs>& weights,
                                const typename AttentionTile<kPrecision>::Element* tile, int columns) {
  HR_UNROLL
  for (int pair = 0; pair < AttentionTile<kPrecision>::kPairs; ++pair) {
    const float(&low)[4] = weights.v[pair][0][0];
    const float(&high)[4] = weights.v[pair][0][1];
    if constexpr (kPrecision == Precision::bf16) {
      const uint32_t a[1][4] = {{to_bf16_pair(low[0], low[1]), to_bf16_pair(low[2], low[3]),
                                 to_bf16_pair(high[0], high[1]), to_bf16_pair(high[2], high[3])}};
      multiply_step<kPrecision>(sums, a, tile, 16 * pair, columns);
    } else {
      HR_UNROLL
      for (int block = 0; block < 2; ++block) {
        const float(&x)[4] = weights.v[pair][0][block];
        const uint32_t a[1][4] = {
            {math::bits_of(x[0]), math::bits_of(x[2]), math::bits_of(x[1]), math::bits_of(x[3])}};
        multiply_step<kPrecision>(sums, a, tile, 16 * pair + 8 * block, columns);
      }
    }
  }
}

// Rows first .. end - 1 of a strip to global memory, row r at to + r·stride, times `scale`. even: pairs of
// columns are aligned to 8 bytes.
HR_DEVICE void store_strip(Strip<kHeadColumns / 16>& strip, float* to, int64_t stride, int32_t first,
                           int32_t end, int columns, bool even, float scale = 1) {
  strip.for_each_place([&](const Place& place) {
    const int32_t r = first + place.row;
    if (r >= end || place.column >= columns) return;
    float* at = to + r * stride + place.column;
    const float x0 = strip.at(place)[0] * scale, x1 = strip.at(place)[1] * scale;
    if (even) return store2(at, x0, x1);
    at[0] = x0;
    if (place.column + 1 < columns) at[1] = x1;
  });
}

}  // namespace hr::cuda
