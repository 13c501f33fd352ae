// routed_rows: the sum of a token's routed rows in slot order, of combine and of what is fused with it.
#pragma once

#include "cpu/simd.h"

namespace hr::HR_ISA_NAMESPACE {

struct RoutedRows {
  const Real* rows;                    // [num_tokens·top_k, d_model] in expert order
  const int32_t* inverse_permutation;  // [num_tokens, top_k]; -1: dropped
  int64_t top_k, d_model;

  // out (+)= Σ_slot rows[inverse_permutation[token, slot]]
  void sum(int64_t token, bool accumulate, Real* out) const {
    if (!accumulate) {
      for (int64_t j = 0; j < d_model; ++j) out[j] = 0;
    }
    const int32_t* row_of_slot = inverse_permutation + token * top_k;
    const Real* pending[kSlots] = {};
    int count = 0;
    for (int64_t slot = 0; slot < top_k; ++slot) {
      if (row_of_slot[slot] >= 0) pending[count++] = rows + row_of_slot[slot] * d_model;
      if (count < kSlots && slot + 1 < top_k) continue;
      if (count == 1) add<1>(pending, d_model, out);
      if (count == 2) add<2>(pending, d_model, out);
      if (count == 3) add<3>(pending, d_model, out);
      if (count == 4) add<4>(pending, d_model, out);
      count = 0;
    }
  }

 private:
  static constexpr int kSlots = 4;  // rows read at once

  // out += rows[0] + rows[1] + ..., added one after the other.
  template <int kCount>
  static void add(const Real* const (&rows)[kSlots], int64_t n, Real* out) {
    const Real *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3];
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
      Real sum = out[j] + r0[j];
      if constexpr (kCount > 1) sum += r1[j];
      if constexpr (kCount > 2) sum += r2[j];
      if constexpr (kCount > 3) sum += r3[j];
      out[j] = sum;
    }
  }
};

}  // namespace hr::HR_ISA_NAMESPACE
