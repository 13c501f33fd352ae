// packed_product: C = A · B for matrices of any size: gemm and the expert products. Kernels that keep their
// operands in cache from block to block use block_product.h.
//
// C is cut into blocks, one task each. A task walks k in pieces of kPieceUnits units. For each piece it packs
// its rows of A and its columns of B (together they fit the second-level cache) and multiplies every panel of
// A, which then sits in the first-level cache, with all panels of B, tile by tile in registers. [after Goto
// and van de Geijn 2008, and BLIS: Van Zee and van de Geijn 2015] Finished tiles go to the caller, who stores
// them: the epilogue.
//
// Each element is one chain of multiply-adds over ascending units of k, term after term, whatever the blocks:
// results depend on neither their cut nor the threads.
#pragma once

#include "cpu/kernels/packed_panels.h"
#include "cpu/simd.h"

namespace hr::HR_ISA_NAMESPACE::packed {

// The register tile: rows · vectors sums, as many as leave registers for two vectors of B and one of A.
inline constexpr int kTileRows = kIsAvx512 ? 14 : kIsNeon ? 8 : kIsAvx2 ? 6 : 4;
inline constexpr int kTileVectors = 2;
inline constexpr int kTileColumns = kTileVectors * Vec::kLanes;
inline constexpr int kTileSize = kTileRows * kTileColumns;
inline constexpr int64_t kPieceUnits = 256;

// Up to four matrices of C's shape that the caller reads or writes when a tile is finished. The kernel
// fetches their lines while it computes the tile: a burst of misses afterwards would cost a tenth of the
// time.
struct Touched {
  static constexpr int kCount = 4;
  const float* data[kCount];
  int64_t stride;

  Touched(int64_t stride_, const float* first, const float* second = nullptr, const float* third = nullptr)
      : data{first, second ? second : first, third ? third : first, second ? second : first},
        stride(stride_) {}
  Touched at(int64_t row, int64_t column) const {
    Touched tile = *this;
    for (const float*& start : tile.data) start += row * stride + column;
    return tile;
  }
  // One line of the tile per step: row after row, then the next line of the rows, then the next matrix.
  HR_INLINE void prefetch(int64_t step) const {
    constexpr int kLines = (kTileColumns + kLine - 1) / kLine;
    const float* start = data[step / (16 * kLines) % kCount];
    __builtin_prefetch(start + step % 16 * stride + step / 16 % kLines * kLine, 1);
  }
};

// What depends on the arithmetic of a product (arithmetic.h): compiled once, in packed_product.cpp.
struct Method {
  int64_t per_unit;  // numbers
  // See pack() in packed_panels.h.
  void (*pack_a)(const Operand&, int64_t first, int64_t count, int64_t first_k, int64_t num_k, float* panels);
  void (*pack_b)(const Operand&, int64_t first, int64_t count, int64_t first_k, int64_t num_k, float* panels);
  // [r - 1]: sums[r, kTileColumns] = a · b, or += when resuming after an earlier piece of k.
  void (*multiply[kTileRows])(const float* a, const float* b, int64_t units, bool resume, float* sums,
                              const Touched&);
  // sums[r] (+)= Σ_k a[r, k] · vector[k] for the rows of one panel of A.
  void (*multiply_vector)(const float* a, const float* vector, int64_t num_k, int rows, bool resume,
                          float* sums);

  int64_t units(int64_t num_k) const { return ceil_div(num_k, per_unit); }
};

const Method& method_of(Precision precision);

// C is the sum of `count` products, each of the matrices that lie so many numbers behind those before.
struct Terms {
  int64_t count = 1;
  int64_t a_step = 0, b_step = 0, packed_b_step = 0;
};

struct Product {
  const Method& method;
  Operand a;  // indices: rows of C
  Operand b;  // indices: columns of C
  int64_t k;
  Touched touched;
  Terms terms = {};
  const float* packed_b = nullptr;  // b from pack_ahead; null: each block packs what it needs
  // With a vector v of k numbers, A · v comes along, for the rows of the block.
  const float* vector = nullptr;
  float* vector_sums = nullptr;
};

// A rectangle of C.
struct Block {
  int64_t row, rows;
  int64_t column, columns;
};

// A finished piece of C.
struct Tile {
  int64_t row, column;
  int rows, columns;
  const float* sums;

  const float* operator[](int r) const { return sums + r * kTileColumns; }

  // Calls fn(r, columns) for each row; `columns` is a constant where the tile is full.
  template <typename Fn>
  HR_INLINE void for_rows(Fn&& fn) const {
    if (columns == kTileColumns) {
      for (int r = 0; r < rows; ++r) fn(r, kTileColumns);
    } else {
      for (int r = 0; r < rows; ++r) fn(r, columns);
    }
  }
};

// Computes one block of C and calls finish(tile) for each of its tiles, row panel after row panel, columns in
// order. Blocks start at multiples of the tile.
template <typename Finish>
void multiply_block(const Product& product, const Block& block, Scratch& scratch, const Finish& finish) {
  const Method& method = product.method;
  const int64_t row_panels = ceil_div(block.rows, kTileRows);
  const int64_t column_panels = ceil_div(block.columns, kTileColumns);
  const int64_t all_units = method.units(product.k), most_units = min(all_units, kPieceUnits);
  const int64_t piece_k = kPieceUnits * method.per_unit;
  const int64_t pieces = product.k > piece_k ? ceil_div(product.k, piece_k) : 1;
  float* a = scratch.take<float>(row_panels * kTileRows * most_units);
  float* own_b = product.packed_b ? nullptr : scratch.take<float>(column_panels * kTileColumns * most_units);
  // Unfinished sums wait here for the next piece of k; with a single piece one slot serves all tiles.
  const int64_t all_pieces = product.terms.count * pieces;
  const int64_t slots = all_pieces > 1 ? row_panels * column_panels : 1;
  float* sums = scratch.take<float>(slots * kTileSize);

  for (int64_t step = 0; step < all_pieces; ++step) {
    const int64_t term = step / pieces, piece = step % pieces;
    const int64_t first_k = piece * piece_k, num_k = min(piece_k, product.k - first_k);
    const int64_t units = method.units(num_k);
    const bool resume = step > 0, last = step == all_pieces - 1;
    if (own_b) {
      method.pack_b(product.b.skip_numbers(term * product.terms.b_step), block.column, block.columns, first_k,
                    num_k, own_b);
    }
    const float* b = own_b ? own_b
                           : product.packed_b + term * product.terms.packed_b_step +
                                 block.column * all_units + piece * kPieceUnits * kTileColumns;
    const int64_t b_panel = kTileColumns * (own_b ? units : all_units);
    method.pack_a(product.a.skip_numbers(term * product.terms.a_step), block.row, block.rows, first_k, num_k,
                  a);
    for (int64_t i = 0; i < row_panels; ++i) {
      const int64_t row = block.row + i * kTileRows;
      const int rows = static_cast<int>(min(kTileRows, block.row + block.rows - row));
      const float* a_panel = a + i * kTileRows * units;
      if (product.vector) {
        method.multiply_vector(a_panel, product.vector + first_k, num_k, rows, resume,
                               product.vector_sums + i * kTileRows);
      }
      for (int64_t j = 0; j < column_panels; ++j) {
        const int64_t column = block.column + j * kTileColumns;
        const int columns = static_cast<int>(min(kTileColumns, block.column + block.columns - column));
        float* tile = sums + (all_pieces > 1 ? (i * column_panels + j) * kTileSize : 0);
        method.multiply[rows - 1](a_panel, b + j * b_panel, units, resume, tile,
                                  product.touched.at(row, column));
        if (last) finish(Tile{row, column, rows, columns, tile});
      }
    }
  }
}

// What one packed B [k, num_columns] takes.
HR_INLINE int64_t packed_size(const Method& method, int64_t k, int64_t num_columns) {
  return ceil_div(num_columns, kTileColumns) * kTileColumns * method.units(k);
}

// Packs `count` matrices B [k, num_columns], one after the other in memory, for products in which several
// blocks read the same columns. Returns null when the copies would not stay in the third-level cache: then
// packing again in each block costs less.
HR_INLINE const float* pack_ahead(Context& ctx, const Product& product, int64_t count, int64_t num_columns) {
  constexpr int64_t kMostUnits = int64_t{8} << 20;
  const int64_t k = product.k, size = packed_size(product.method, k, num_columns);
  if (count * size > kMostUnits) return nullptr;
  float* packed_b = ctx.workspace.take<float>(count * size);
  const int64_t panels = ceil_div(num_columns, kTileColumns);
  ctx.pool.run(count * panels, [&](int64_t task, Scratch&) {
    const int64_t column = task % panels * kTileColumns;
    product.method.pack_b(product.b.skip_numbers(task / panels * k * num_columns), column,
                          min(kTileColumns, num_columns - column), 0, k,
                          packed_b + task * kTileColumns * product.method.units(k));
  });
  return packed_b;
}

// The largest block of a cut, up to rounding to whole tiles.
struct BlockLimit {
  int64_t rows, columns;
};

// Rows first_row .. first_row + num_rows - 1 of C cut into blocks of equal size.
class Grid {
 public:
  Grid(int64_t first_row, int64_t num_rows, int64_t num_columns, BlockLimit limit)
      : first_row_(first_row),
        num_rows_(num_rows),
        num_columns_(num_columns),
        block_rows_(block_size(num_rows, limit.rows, kTileRows)),
        block_columns_(block_size(num_columns, limit.columns, kTileColumns)) {}

  int64_t num_row_blocks() const { return ceil_div(num_rows_, block_rows_); }
  int64_t num_column_blocks() const { return ceil_div(num_columns_, block_columns_); }
  int64_t num_blocks() const { return num_row_blocks() * num_column_blocks(); }

  Block block(int64_t i) const {
    const int64_t row = i / num_column_blocks() * block_rows_;
    const int64_t column = i % num_column_blocks() * block_columns_;
    return {first_row_ + row, min(block_rows_, num_rows_ - row), column,
            min(block_columns_, num_columns_ - column)};
  }

 private:
  static int64_t block_size(int64_t extent, int64_t most, int64_t unit) {
    const int64_t blocks = extent > most ? ceil_div(extent, most) : 1;
    const int64_t units = ceil_div(ceil_div(extent, blocks), unit);
    return (units > 0 ? units : 1) * unit;
  }

  int64_t first_row_, num_rows_, num_columns_, block_rows_, block_columns_;
};

// How many blocks a product deserves: enough for 16 threads, none with less than some 20 µs of work.
HR_INLINE int64_t enough_blocks(int64_t num_rows, int64_t num_columns, int64_t k) {
  constexpr int64_t kMostBlocks = 32, kBlockWork = int64_t{1} << 20;
  return min(kMostBlocks, (num_rows + kTileRows) * num_columns * k / kBlockWork);
}

// The first limit, from large to small, that makes enough blocks. High blocks pack less of B twice, wide ones
// less of A; 512 columns of a piece of k fill half of a 1 MB second-level cache.
template <typename CountBlocks>
HR_INLINE BlockLimit choose_limit(int64_t enough, CountBlocks&& count_blocks) {
  constexpr BlockLimit kLimits[] = {{256, 512}, {128, 512}, {64, 512}};
  for (const BlockLimit limit : kLimits) {
    if (count_blocks(limit) >= enough) return limit;
  }
  return {64, 128};
}

HR_INLINE Grid choose_grid(int64_t num_rows, int64_t num_columns, int64_t enough) {
  const auto grid = [&](BlockLimit limit) { return Grid(0, num_rows, num_columns, limit); };
  return grid(choose_limit(enough, [&](BlockLimit limit) { return grid(limit).num_blocks(); }));
}

}  // namespace hr::HR_ISA_NAMESPACE::packed
