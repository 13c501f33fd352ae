// packed_panels: copies of an operand in the order in which the register tile reads it.
//
// A product sums over k. An operand gives, for each k, one number per index: rows of A or columns of B. A
// panel holds kWidth neighbouring indices, k after k:
//   panel[k · kWidth + i] = operand(first + i, k)
// Transposition and the gather of rows happen here and nowhere else.
#pragma once

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

// to[j · to_stride + i] = from[i][j] for i, j in 0 .. 3
HR_INLINE void transpose_4x4(const float* const from[4], float* to, int64_t to_stride) {
#if defined(__x86_64__)
  __m128 r0 = _mm_loadu_ps(from[0]), r1 = _mm_loadu_ps(from[1]);
  __m128 r2 = _mm_loadu_ps(from[2]), r3 = _mm_loadu_ps(from[3]);
  _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
  _mm_storeu_ps(to, r0);
  _mm_storeu_ps(to + to_stride, r1);
  _mm_storeu_ps(to + 2 * to_stride, r2);
  _mm_storeu_ps(to + 3 * to_stride, r3);
#else
  for (int j = 0; j < 4; ++j) {
    for (int i = 0; i < 4; ++i) to[j * to_stride + i] = from[i][j];
  }
#endif
}

inline constexpr int64_t kLine = 16;  // numbers in a cache line

// One panel from rows that run along k: a transposition. Each line read is used up before the next.
template <int kWidth>
HR_INLINE void pack_rows(const Operand& operand, int64_t first, int64_t count, int64_t first_k, int64_t num_k,
                         float* panel) {
  const float* source[kWidth];  // missing rows repeat the last one; nobody reads their sums
  for (int i = 0; i < kWidth; ++i) source[i] = operand.row(first + min(i, count - 1)) + first_k;
  int64_t k = 0;
  for (; k + kLine <= num_k; k += kLine) {
    for (int i = 0; i < kWidth; i += 4) {
      const int group = i + 4 <= kWidth ? i : kWidth - 4;  // the last group may overlap the one before
      for (int64_t l = k; l < k + kLine; l += 4) {
        const float* const from[4] = {source[group] + l, source[group + 1] + l, source[group + 2] + l,
                                      source[group + 3] + l};
        transpose_4x4(from, panel + l * kWidth + group, kWidth);
      }
    }
  }
  for (; k < num_k; ++k) {
    for (int i = 0; i < kWidth; ++i) panel[k * kWidth + i] = source[i][k];
  }
}

// Panels from rows of one k each: pieces of a few rows at a time are copied.
template <int kWidth>
HR_INLINE void pack_columns(const Operand& operand, int64_t first, int64_t count, int64_t first_k,
                            int64_t num_k, float* panels) {
  constexpr int64_t kRowsAtOnce = 8;
  for (int64_t k = 0; k < num_k; k += kRowsAtOnce) {
    const int64_t rows = min(kRowsAtOnce, num_k - k);
    const float* source[kRowsAtOnce];
    for (int64_t r = 0; r < rows; ++r) source[r] = operand.row(first_k + k + r) + first;
    float* panel = panels + k * kWidth;
    int64_t i = 0;
    for (; i + kWidth <= count; i += kWidth, panel += num_k * kWidth) {
      for (int64_t r = 0; r < rows; ++r) memcpy(panel + r * kWidth, source[r] + i, kWidth * sizeof(float));
    }
    for (int64_t r = 0; i < count && r < rows; ++r) {
      for (int64_t j = 0; j < kWidth; ++j) panel[r * kWidth + j] = i + j < count ? source[r][i + j] : 0.0f;
    }
  }
}

// Packs indices first .. first + count - 1 into ceil(count / kWidth) panels of num_k · kWidth numbers.
template <int kWidth>
HR_NOINLINE void pack(const Operand& operand, int64_t first, int64_t count, int64_t first_k, int64_t num_k,
                      float* panels) {
  if (operand.k_major) {
    pack_columns<kWidth>(operand, first, count, first_k, num_k, panels);
    return;
  }
  for (int64_t i = 0; i < count; i += kWidth, panels += num_k * kWidth) {
    pack_rows<kWidth>(operand, first + i, min(kWidth, count - i), first_k, num_k, panels);
  }
}

}  // namespace hr::HR_ISA_NAMESPACE::packed
