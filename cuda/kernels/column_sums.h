// column_sums: sums down the columns of a matrix, rows in a fixed order that depends on its shape alone.
#pragma once

#include <cstdint>

#include "cuda/context.h"

namespace hr::cuda {

// The rows that are summed.
struct SummedRows {
  const float* x;  // [num_rows, n]
  int64_t num_rows, n;
  int64_t stride;                       // between rows
  const int32_t* valid_rows = nullptr;  // [1] how many count, where only the device knows; null: all
};

// Where the sums go: column j to first[j], or from column `width` on to second[j - width].
struct ColumnSums {
  float* first;
  float* second = nullptr;
  int64_t width = INT64_MAX;
  bool accumulate = false;
};

// sums[j] (+)= Σ_i x[i, j]
void sum_columns(Context& ctx, const SummedRows& rows, const ColumnSums& sums);

}  // namespace hr::cuda
