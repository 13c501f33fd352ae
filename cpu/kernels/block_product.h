// block_product: products of small matrices that stay in cache, for kernels that work block by block.
//
// Operands are scratch copies whose columns are padded to whole vectors, so no tile has a ragged edge. Along
// the inner dimension they consist of units (arithmetic.h):
//   a  row-major, or its transpose; any number of rows; read one unit at a time
//   b  panels of kPanel columns, each panel row-major; a plain row-major matrix is the case panel = kPanel
//   c  row-major numbers
#pragma once

#include <type_traits>

#include "cpu/kernels/packed_panels.h"
#include "cpu/simd.h"

namespace hr::HR_ISA_NAMESPACE {

// Register tile: kTileRows · kTileVectors accumulators.
inline constexpr int kTileRows = kIsAvx512 || kIsNeon ? 8 : kIsAvx2 ? 6 : 4;
inline constexpr int kTileVectors = 2;
inline constexpr int64_t kPanel = kTileVectors * Vec::kLanes;

HR_INLINE int64_t round_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }
HR_INLINE int64_t round_down(int64_t count, int64_t unit) { return count / unit * unit; }

using packed::min;

// Units that hold `count` neighbouring numbers, the first of which starts one.
template <typename Arithmetic>
HR_INLINE int64_t units(int64_t count) {
  return ceil_div(count, Arithmetic::kPerUnit);
}

struct LeftBlock {
  const float* data;
  int64_t stride;
};

struct RightBlock {
  const float* data;
  int64_t stride;  // between rows of a panel
  int64_t panel;   // between panels
};

struct OutBlock {
  float* data;
  int64_t stride;
};

// c[kRows, kVectors · kLanes] (+)= a[kRows, units] · b[units, kVectors · kLanes]
template <bool kTransposeA, typename Arithmetic, int kRows, int kVectors>
HR_INLINE void multiply_tile(int64_t units, LeftBlock a, const float* b, int64_t b_stride, OutBlock c,
                             bool accumulate) {
  Vec sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = accumulate ? Vec::load(c.data + r * c.stride + v * Vec::kLanes) : Vec::broadcast(0);
    }
  }
  for (int64_t k = 0; k < units; ++k) {
    Vec right[kVectors];
    for (int v = 0; v < kVectors; ++v) right[v] = Vec::load(b + k * b_stride + v * Vec::kLanes);
    for (int r = 0; r < kRows; ++r) {
      const Vec left = Vec::broadcast(kTransposeA ? a.data[k * a.stride + r] : a.data[r * a.stride + k]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = Arithmetic::mul_add(left, right[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v].store(c.data + r * c.stride + v * Vec::kLanes);
  }
}

template <bool kTransposeA, typename Arithmetic, int kVectors>
HR_NOINLINE void multiply_panel(int64_t rows, int64_t units, LeftBlock a, const float* b, int64_t b_stride,
                                OutBlock c, bool accumulate) {
  const int64_t a_step = kTransposeA ? 1 : a.stride;
  int64_t row = 0;
  for (; row + kTileRows <= rows; row += kTileRows) {
    multiply_tile<kTransposeA, Arithmetic, kTileRows, kVectors>(units, {a.data + row * a_step, a.stride}, b,
                                                                b_stride, {c.data + row * c.stride, c.stride},
                                                                accumulate);
  }
  for (; row < rows; ++row) {
    multiply_tile<kTransposeA, Arithmetic, 1, kVectors>(units, {a.data + row * a_step, a.stride}, b, b_stride,
                                                        {c.data + row * c.stride, c.stride}, accumulate);
  }
}

// c[rows, columns] = a[rows, units] · b[units, columns], or c += with accumulate; `columns` is a whole number
// of vectors. With kTransposeA, a is stored as [units, rows].
template <bool kTransposeA, typename Arithmetic = packed::F32>
void multiply_block(int64_t rows, int64_t columns, int64_t units, LeftBlock a, RightBlock b, OutBlock c,
                    bool accumulate) {
  const float* panel = b.data;
  int64_t column = 0;
  for (; column + kPanel <= columns; column += kPanel, panel += b.panel) {
    multiply_panel<kTransposeA, Arithmetic, kTileVectors>(rows, units, a, panel, b.stride,
                                                          {c.data + column, c.stride}, accumulate);
  }
  for (; column < columns; column += Vec::kLanes, panel += Vec::kLanes) {
    multiply_panel<kTransposeA, Arithmetic, 1>(rows, units, a, panel, b.stride, {c.data + column, c.stride},
                                               accumulate);
  }
}

// A row-major matrix in scratch; `stride` columns of storage.
struct Block {
  float* data;
  int64_t stride;
  float* row(int64_t r) const { return data + r * stride; }
  Block from(int64_t r) const { return {row(r), stride}; }
  operator LeftBlock() const { return {data, stride}; }
  operator RightBlock() const { return {data, stride, kPanel}; }
  operator OutBlock() const { return {data, stride}; }
};

// The numbers of one row as units, in place.
template <typename Arithmetic>
HR_INLINE void join_columns(float* row, int64_t count) {
  constexpr int64_t kPerUnit = Arithmetic::kPerUnit, kStep = packed::kLine * kPerUnit;
  if constexpr (std::is_same_v<Arithmetic, packed::F32>) return;
  float* unit = row;
  int64_t k = 0;
  for (; k + kStep <= count; k += kStep, unit += packed::kLine) Arithmetic::line(row + k, unit);
  for (; k < count; k += kPerUnit) *unit++ = Arithmetic::unit(row + k, min(kPerUnit, count - k));
}

// Neighbouring rows as one row of units each, to[ceil(rows / kPerUnit), columns]; `columns` is a whole number
// of vectors. In place if kPerUnit is 1.
template <typename Arithmetic>
HR_INLINE void join_rows(Block from, int64_t rows, int64_t columns, Block to) {
  constexpr int64_t kPerUnit = Arithmetic::kPerUnit;
  if constexpr (std::is_same_v<Arithmetic, packed::F32>) return;
  const float zeros[Vec::kLanes] = {};
  for (int64_t r = 0; r < rows; r += kPerUnit) {
    float* units = to.row(r / kPerUnit);
    for (int64_t k = 0; k < columns; k += Vec::kLanes) {
      const float* unit_rows[kPerUnit];
      for (int64_t n = 0; n < kPerUnit; ++n) unit_rows[n] = r + n < rows ? from.row(r + n) + k : zeros;
      Arithmetic::template merge<Vec::kLanes>(unit_rows, units + k);
    }
  }
}

// Rows that lie pages apart are fetched this many ahead of their use.
inline constexpr int64_t kRowsAhead = 12;

HR_INLINE void prefetch_rows(const float* from, int64_t stride, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < columns; k += packed::kLine) __builtin_prefetch(from + r * stride + k);
  }
}

// to = scale · (from + bias), row by row, the columns past `columns` zero. No bias: null.
inline void pack_rows(const float* from, int64_t from_stride, int64_t rows, int64_t columns, Block to,
                      const float* bias = nullptr, float scale = 1) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* source = from + r * from_stride;
    prefetch_rows(from + (r + kRowsAhead) * from_stride, from_stride, r + kRowsAhead < rows, columns);
    float* target = to.row(r);
    for (int64_t k = 0; k < columns; ++k) target[k] = scale * (source[k] + (bias ? bias[k] : 0.0f));
    for (int64_t k = columns; k < to.stride; ++k) target[k] = 0;
  }
}

}  // namespace hr::HR_ISA_NAMESPACE
