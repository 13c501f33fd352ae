// elements: loops over whole tensors, 16 bytes at a time where every pointer allows it.
#pragma once

#include "cuda/launch.h"

namespace hr::cuda {

inline constexpr int kElementThreads = 256;

inline bool is_aligned16(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// kWidth consecutive elements.
template <int kWidth>
struct Packet {
  float v[kWidth];
};

template <int kWidth>
HR_DEVICE Packet<kWidth> load(const float* from) {
  Packet<kWidth> x;
  if constexpr (kWidth == 4) {
    const Float4 four = load4(from);
    for (int i = 0; i < 4; ++i) x.v[i] = four.v[i];
  } else {
    x.v[0] = *from;
  }
  return x;
}

template <int kWidth>
HR_DEVICE void store(float* to, const Packet<kWidth>& x) {
  if constexpr (kWidth == 4) {
    store4(to, {x.v[0], x.v[1], x.v[2], x.v[3]});
  } else {
    *to = x.v[0];
  }
}

template <int kWidth>
struct Width {
  static constexpr int value = kWidth;
};

// Calls fn(i, Width<4>) for elements i .. i + 3, or fn(i, Width<1>), so that the grid covers 0 .. n - 1.
template <typename Fn>
HR_DEVICE void for_elements(int64_t n, bool aligned, Fn&& fn) {
  const int64_t first = int64_t{block_x()} * kElementThreads + thread_index();
  const int64_t step = int64_t{num_blocks_x()} * kElementThreads;
  const int64_t packets = aligned ? n / 4 : 0;
  for (int64_t packet = first; packet < packets; packet += step) fn(4 * packet, Width<4>{});
  for (int64_t i = 4 * packets + first; i < n; i += step) fn(i, Width<1>{});
}

inline Grid blocks_for_elements(const Context& ctx, int64_t n) {
  return blocks_for(ctx, n, 4 * kElementThreads);
}

}  // namespace hr::cuda
