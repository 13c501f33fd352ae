// packed_panels: copies of an operand in the order in which the register tile reads it.
//
// A product sums over k. An operand gives, for each k, one number per index: rows of A or columns of B. A
// panel is made of units, 32 bits each, which hold one or more neighbouring k of one index, as the Arithmetic
// wants them. It has kWidth neighbouring indices, unit after unit:
//   panel[unit · kWidth + i] = operand(first + i, the k of the unit); past the last k: 0
// Transposition, the gather of rows and rounding happen here and nowhere else.
#pragma once

#include "cpu/kernels/arithmetic.h"
#include "cpu/kernels/parallel.h"
#include "cpu/simd.h"

namespace hr::HR_ISA_NAMESPACE::packed {

HR_INLINE int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

// A row-major matrix whose stored rows run along the index, or along k when k_major.
struct Operand {
  const float* data;
  int64_t stride;  // of a stored row
  bool k_major;
  const int32_t* rows = nullptr;  // which stored row stands for row r; null: r itself

  const float* row(int64_t r) const { return data + (rows ? rows[r] : r) * stride; }

  // The matrix that starts `count` numbers later.
  Operand skip_numbers(int64_t count) const { return {data + count, stride, k_major, rows}; }

  // The same matrix without its first `count` rows.
  Operand skip_rows(int64_t count) const {
    if (rows) return {data, stride, k_major, rows + count};
    return {data + count * stride, stride, k_major};
  }
};

// to[j · to_stride + i] = from[i][j] for i < kRows <= kLanes and j < kLanes.
template <int kRows>
HR_INLINE void transpose(const float* const from[kRows], float* to, int64_t to_stride) {
  constexpr int kLanes = Vec::kLanes;
  Vec rows[kLanes], zipped[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) rows[i] = Vec::load(from[i < kRows ? i : kRows - 1]);
    // Zipping the rows of the first half with those of the second rotates the bits of (row, lane) by one.
#pragma GCC unroll 4
  for (int step = 1; step < kLanes; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      zipped[2 * i] = zip_low(rows[i], rows[i + kLanes / 2]);
      zipped[2 * i + 1] = zip_high(rows[i], rows[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = zipped[i];
  }
#pragma GCC unroll 16
  for (int j = 0; j < kLanes; ++j) {
    if constexpr (kRows == kLanes) {
      rows[j].store(to + j * to_stride);
    } else {
      rows[j].template store_first<kRows>(to + j * to_stride);
    }
  }
}

// One panel from rows that run along k: a transposition. Each line read is used up before the next.
template <int kWidth, typename Arithmetic>
HR_INLINE void pack_rows(const Operand& operand, int64_t first, int64_t count, int64_t first_k, int64_t num_k,
                         float* panel) {
  constexpr int64_t kPerUnit = Arithmetic::kPerUnit;
  constexpr int kLanes = Vec::kLanes;
  const float* source[kWidth];  // missing rows repeat the last one; nobody reads their sums
  for (int i = 0; i < kWidth; ++i) source[i] = operand.row(first + min(i, count - 1)) + first_k;
  int64_t k = 0;
  for (; k + kLine * kPerUnit <= num_k; k += kLine * kPerUnit, panel += kLine * kWidth) {
    float buffer[kWidth][kLine];
    const float* line[kWidth];
    for (int i = 0; i < kWidth; ++i) {
      line[i] = Arithmetic::line(source[i] + k, buffer[i]);
    }
    for (int64_t l = 0; l < kLine; l += kLanes) {
      const float* from[kWidth];
      for (int i = 0; i < kWidth; ++i) from[i] = line[i] + l;
      float* to = panel + l * kWidth;
      int i = 0;
      for (; i + kLanes <= kWidth; i += kLanes) transpose<kLanes>(from + i, to + i, kWidth);
      if constexpr (kWidth % kLanes != 0) transpose<kWidth % kLanes>(from + i, to + i, kWidth);
    }
  }
  for (; k < num_k; k += kPerUnit, panel += kWidth) {
    for (int i = 0; i < kWidth; ++i) panel[i] = Arithmetic::unit(source[i] + k, min(kPerUnit, num_k - k));
  }
}

// Panels from rows of one k each: a few rows at a time, so that their lines are used up while in cache.
template <int kWidth, typename Arithmetic>
HR_INLINE void pack_columns(const Operand& operand, int64_t first, int64_t count, int64_t first_k,
                            int64_t num_k, float* panels) {
  constexpr int64_t kPerUnit = Arithmetic::kPerUnit, kRowsAtOnce = 8;
  const int64_t panel_size = ceil_div(num_k, kPerUnit) * kWidth;
  const float zeros[kWidth] = {};
  for (int64_t k = 0; k < num_k; k += kRowsAtOnce, panels += kRowsAtOnce / kPerUnit * kWidth) {
    const int64_t rows = min(kRowsAtOnce, num_k - k);
    const float* source[kRowsAtOnce];
    for (int64_t r = 0; r < rows; ++r) source[r] = operand.row(first_k + k + r) + first;
    float* panel = panels;
    for (int64_t i = 0; i < count; i += kWidth, panel += panel_size) {
      const bool whole = i + kWidth <= count;
      for (int64_t r = 0; r < rows; r += kPerUnit) {
        float staged[kPerUnit][kWidth] = {};
        const float* of_unit[kPerUnit];
        for (int64_t n = 0; n < kPerUnit; ++n) {
          of_unit[n] = r + n < rows ? source[r + n] + i : zeros;
          if (whole) continue;
          if (r + n < rows) memcpy(staged[n], of_unit[n], (count - i) * sizeof(float));
          of_unit[n] = staged[n];
        }
        Arithmetic::template merge<kWidth>(of_unit, panel + r / kPerUnit * kWidth);
      }
    }
  }
}

// Packs indices first .. first + count - 1 into ceil(count / kWidth) panels, for num_k values of k.
template <int kWidth, typename Arithmetic>
HR_NOINLINE void pack(const Operand& operand, int64_t first, int64_t count, int64_t first_k, int64_t num_k,
                      float* panels) {
  if (operand.k_major) {
    pack_columns<kWidth, Arithmetic>(operand, first, count, first_k, num_k, panels);
    return;
  }
  const int64_t panel_size = ceil_div(num_k, Arithmetic::kPerUnit) * kWidth;
  for (int64_t i = 0; i < count; i += kWidth, panels += panel_size) {
    pack_rows<kWidth, Arithmetic>(operand, first + i, min(kWidth, count - i), first_k, num_k, panels);
  }
}

}  // namespace hr::HR_ISA_NAMESPACE::packed
