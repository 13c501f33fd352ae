// column_sums: sums down the columns of a matrix, rows in a fixed order that depends on its shape alone.
#pragma once

#include <cstdint>

#include "cuda/context.h"

namespace hr::cuda {

// Where the sums go: column j to first[j], or from column `width` on to second[j - width].
struct ColumnSums {
  float* first;
  float* second = nullptr;
  int64_t width = INT64_MAX;
  bool accumulate = false;
};

// sums[j] (+)= Σ_i x[i, j],  x [num_rows, n]. valid_rows [1]: how many rows count, where only the device
// knows.
void sum_columns(Context& ctx, const float* x, int64_t num_rows, int64_t n, const ColumnSums& sums,
                 const int32_t* valid_rows = nullptr);

}  // namespace hr::cuda
