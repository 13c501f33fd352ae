// index_check: refuses an index tensor with an entry out of range, before anything is read or written by it.
#pragma once

#include "cpu/index_error.h"

#include "cpu/isa.h"

namespace hr::HR_ISA_NAMESPACE {

// Throws for the first of the n entries outside low .. high.
HR_INLINE void check_indices(const char* op, const char* arg, const int32_t* indices, int64_t n, int64_t low,
                             int64_t high) {
  const int32_t lowest = static_cast<int32_t>(low), highest = static_cast<int32_t>(high);
  int32_t bad = 0;
#pragma omp simd reduction(| : bad)
  for (int64_t i = 0; i < n; ++i) bad |= (indices[i] < lowest) | (indices[i] > highest);
  for (int64_t i = 0; bad && i < n; ++i) {
    if (indices[i] < lowest || indices[i] > highest) {
      cpu::throw_index_error(op, arg, i, indices[i], low, high);
    }
  }
}

// Throws unless offsets[0] is 0, the num_experts entries after it rise by least_rows or more each, and none
// exceeds num_routed.
HR_INLINE void check_offsets(const char* op, const int32_t* offsets, int64_t num_experts, int64_t num_routed,
                             int64_t least_rows = 0) {
  for (int64_t i = 0; i <= num_experts; ++i) {
    const int64_t low = i > 0 ? offsets[i - 1] + least_rows : 0, high = i > 0 ? num_routed : 0;
    if (offsets[i] < low || offsets[i] > high) {
      cpu::throw_index_error(op, "expert_offsets", i, offsets[i], low, high);
    }
  }
}

}  // namespace hr::HR_ISA_NAMESPACE
