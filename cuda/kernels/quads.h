// quads: four neighbouring numbers at a time, of tensors and rows of any alignment and length.
//
// Which thread gets which numbers does not depend on alignment, so sums do not either.
#pragma once

#include "cuda/kernels/elements.h"

namespace hr::cuda {

using Quad = Packet<4>;

// Numbers 0 .. count - 1 at `from`, the others 0. aligned: `from` is a 16-byte boundary.
HR_DEVICE Quad load_quad(const float* from, int count, bool aligned) {
  if (aligned && count >= 4) return load<4>(from);
  Quad x;
  HR_UNROLL
  for (int i = 0; i < 4; ++i) x.v[i] = i < count ? from[i] : 0.0f;
  return x;
}

HR_DEVICE void store_quad(float* to, const Quad& x, int count, bool aligned) {
  if (aligned && count >= 4) return store<4>(to, x);
  HR_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (i < count) to[i] = x.v[i];
  }
}

HR_DEVICE int quad_count(int64_t left) { return left < 4 ? static_cast<int>(left) : 4; }

// Calls fn(first, count) for numbers first .. first + count - 1, count at most 4, so that the grid covers
// 0 .. n - 1.
template <typename Fn>
HR_DEVICE void for_quads(int64_t n, Fn&& fn) {
  const int64_t step = int64_t{4} * num_blocks_x() * kElementThreads;
  for (int64_t first = 4 * (int64_t{block_x()} * kElementThreads + thread_index()); first < n;
       first += step) {
    fn(first, quad_count(n - first));
  }
}

// A matrix that is read or written four neighbouring numbers of a row at a time.
template <typename Number>
struct Quads {
  Number* data;  // or null
  int32_t width;
  bool aligned;

  Quads(Number* data, int64_t width)
      : data(data), width(static_cast<int32_t>(width)), aligned(is_aligned16(data) && width % 4 == 0) {}

  HR_DEVICE explicit operator bool() const { return data != nullptr; }
  HR_DEVICE Quad load(int64_t row, int32_t column, int count) const {
    return load_quad(data + row * width + column, count, aligned);
  }
  HR_DEVICE void store(int64_t row, int32_t column, const Quad& x, int count) const {
    store_quad(data + row * width + column, x, count, aligned);
  }
};

}  // namespace hr::cuda
