// routed_rows: the sum of a token's routed rows in slot order, of combine and of what is fused with it.
#pragma once

#include "cuda/kernels/quads.h"

namespace hr::cuda {

struct RoutedRows {
  static constexpr int kSlots = 8;  // rows of a token under way

  const float* rows;                   // [num_tokens · top_k, d_model] in expert order
  const int32_t* inverse_permutation;  // [num_tokens, top_k]; -1: dropped
  int d_model, top_k;
  bool aligned;

  // sum += Σ_slot rows[inverse_permutation[token, slot]], of four columns.
  HR_DEVICE void add(int64_t token, int column, Quad& sum) const {
    for (int slot = 0; slot < top_k; slot += kSlots) add_slots(token, slot, column, sum);
  }

 private:
  HR_DEVICE void add_slots(int64_t token, int first, int column, Quad& sum) const {
    int32_t row[kSlots];
    Quad x[kSlots];
    HR_UNROLL
    for (int i = 0; i < kSlots; ++i) {
      row[i] = first + i < top_k ? inverse_permutation[token * top_k + first + i] : -1;
    }
    HR_UNROLL
    for (int i = 0; i < kSlots; ++i) {
      if (row[i] >= 0) x[i] = load_quad(rows + int64_t{row[i]} * d_model + column, d_model - column, aligned);
    }
    HR_UNROLL
    for (int i = 0; i < kSlots; ++i) {
      if (row[i] < 0) continue;
      HR_UNROLL
      for (int j = 0; j < 4; ++j) sum.v[j] += x[i].v[j];
    }
  }
};

}  // namespace hr::cuda
