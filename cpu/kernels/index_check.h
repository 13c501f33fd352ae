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

}  // namespace hr::HR_ISA_NAMESPACE
