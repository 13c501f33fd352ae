// parallel: cuts a range of elements or rows into tasks of a fixed size.
//
// A range of one task runs on the caller without waking the pool. Where the cut decides the order of a sum,
// the sizes below are part of the result: they may not depend on the machine.
#pragma once

#include "cpu/kernel.h"

#include "cpu/simd.h"

namespace hr::HR_ISA_NAMESPACE {

using cpu::Context;
using cpu::Scratch;

inline constexpr int64_t kTaskElements = 32768;  // some 10 µs of memory-bound work; a multiple of 64

HR_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows of `width` elements that make one task.
HR_INLINE int64_t rows_per_task(int64_t width) {
  return width < kTaskElements ? kTaskElements / (width < 1 ? 1 : width) : 1;
}

// Calls fn(begin, end), or fn(begin, end, scratch) with the thread's scratch memory, for consecutive pieces
// of 0 .. n - 1, each of `size` (the last may be smaller).
template <typename Fn>
HR_INLINE void for_ranges(Context& ctx, int64_t n, int64_t size, Fn&& fn) {
  ctx.pool.run(ceil_div(n, size), [&](int64_t task, Scratch& scratch) {
    const int64_t begin = task * size, end = begin + size < n ? begin + size : n;
    if constexpr (requires { fn(begin, end, scratch); }) {
      fn(begin, end, scratch);
    } else {
      fn(begin, end);
    }
  });
}

// Calls fn(begin, end) for pieces of n elements.
template <typename Fn>
HR_INLINE void for_elements(Context& ctx, int64_t n, Fn&& fn) {
  for_ranges(ctx, n, kTaskElements, fn);
}

}  // namespace hr::HR_ISA_NAMESPACE
