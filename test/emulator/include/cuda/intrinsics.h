// intrinsics: the functions of cuda/intrinsics.h (documented there) on the emulated device.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "ops/math/half.h"
#include "test/emulator/block.h"
#include "test/emulator/launch.h"
#include "test/emulator/tensor_cores.h"

#define HR_DEVICE inline
#define HR_UNROLL
#define HR_NO_UNROLL

namespace hr::cuda {

using emulator::Block;
using emulator::kWarpSize;
using emulator::Where;

inline int thread_index() { return Block::current().thread().index; }
inline int lane_index() { return Block::current().thread().lane; }
inline int warp_index() { return Block::current().thread().warp; }
inline int block_x() { return static_cast<int>(Block::current().index().x); }
inline int block_y() { return static_cast<int>(Block::current().index().y); }
inline int block_z() { return static_cast<int>(Block::current().index().z); }
inline int num_blocks_x() { return static_cast<int>(Block::current().launch().grid.x); }

template <typename T>
T* shared_memory(size_t offset = 0) {
  return reinterpret_cast<T*>(Block::current().shared_memory() + offset);
}

inline void barrier(Where where = Where::current()) { Block::current().barrier(where); }
inline void warp_barrier(Where where = Where::current()) {
  Block::current().collective(
      "warp_barrier", [](void* const*) {}, nullptr, where);
}

template <typename T>
struct Shuffle {
  T value, result;
  int source;
  static void execute(void* const* lanes) {
    for (int lane = 0; lane < kWarpSize; ++lane) {
      Shuffle& self = *static_cast<Shuffle*>(lanes[lane]);
      self.result = static_cast<Shuffle*>(lanes[self.source % kWarpSize])->value;
    }
  }
};
template <typename T>
T warp_shuffle(T value, int source_lane, Where where = Where::current()) {
  Shuffle<T> args{value, value, source_lane};
  Block::current().collective("warp_shuffle", Shuffle<T>::execute, &args, where);
  return args.result;
}
template <typename T>
T warp_shuffle_xor(T value, int lane_mask, Where where = Where::current()) {
  return warp_shuffle(value, lane_index() ^ lane_mask, where);
}

struct Ballot {
  bool predicate;
  uint32_t result;
  static void execute(void* const* lanes) {
    uint32_t bits = 0;
    for (int lane = 0; lane < kWarpSize; ++lane) {
      bits |= static_cast<uint32_t>(static_cast<Ballot*>(lanes[lane])->predicate) << lane;
    }
    for (int lane = 0; lane < kWarpSize; ++lane) static_cast<Ballot*>(lanes[lane])->result = bits;
  }
};
inline uint32_t warp_ballot(bool predicate, Where where = Where::current()) {
  Ballot args{predicate, 0};
  Block::current().collective("warp_ballot", Ballot::execute, &args, where);
  return args.result;
}

struct alignas(16) Float4 {
  float v[4];
};
inline void check_aligned(const void* pointer, int bytes, Where where) {
  if (reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(bytes) == 0) return;
  const std::string size = std::to_string(bytes);
  Block::current().fail("accesses " + size + " bytes at an address that is not a multiple of " + size, where);
}
inline Float4 load4(const float* from, Where where = Where::current()) {
  check_aligned(from, 16, where);
  return *reinterpret_cast<const Float4*>(from);
}
inline void store4(float* to, const Float4& x, Where where = Where::current()) {
  check_aligned(to, 16, where);
  *reinterpret_cast<Float4*>(to) = x;
}

inline void store_words4(uint32_t* to, uint32_t x0, uint32_t x1, uint32_t x2, uint32_t x3,
                         Where where = Where::current()) {
  check_aligned(to, 16, where);
  const uint32_t words[] = {x0, x1, x2, x3};
  std::memcpy(to, words, sizeof words);
}
inline void store2(float* to, float x0, float x1, Where where = Where::current()) {
  check_aligned(to, 8, where);
  to[0] = x0;
  to[1] = x1;
}

inline void copy_async16(void* to, const void* from, int valid_bytes, Where where = Where::current()) {
  Block::current().start_copy(to, from, 16, valid_bytes, where);
}
inline void copy_async4(void* to, const void* from, int valid_bytes, Where where = Where::current()) {
  Block::current().start_copy(to, from, 4, valid_bytes, where);
}
inline void copy_async_commit() { Block::current().commit_copies(); }
template <int kPending>
void copy_async_wait() {
  Block::current().wait_for_copies(kPending);
}

inline void atomic_min(uint64_t* to, uint64_t value) { *to = std::min(*to, value); }
inline int32_t atomic_add(int32_t* to, int32_t value) {
  const int32_t before = *to;
  *to += value;
  return before;
}

inline void warp_load_matrices(uint32_t (&r)[4], const void* row, Where where = Where::current()) {
  emulator::load_matrices(r, row, false, where);
}
inline void warp_load_matrices_transposed(uint32_t (&r)[4], const void* row, Where where = Where::current()) {
  emulator::load_matrices(r, row, true, where);
}

template <int kRows, int kColumns>
void warp_multiply_bf16(float (&sums)[kRows][kColumns][4], const uint32_t (&a)[kRows][4],
                        const uint32_t (&b)[kColumns][2], Where where = Where::current()) {
  emulator::multiply(emulator::Element::bf16, kRows, kColumns, sums[0][0], a[0], b[0], where);
}
template <int kRows, int kColumns>
void warp_multiply_tf32(float (&sums)[kRows][kColumns][4], const uint32_t (&a)[kRows][4],
                        const uint32_t (&b)[kColumns][2], Where where = Where::current()) {
  emulator::multiply(emulator::Element::tf32, kRows, kColumns, sums[0][0], a[0], b[0], where);
}

inline uint32_t to_tf32(float x) { return math::bits_of(math::to_tf32(x)); }
inline uint32_t to_bf16_pair(float low, float high) { return emulator::rounded_to_bf16_pair(low, high); }

inline float fma(float a, float b, float c) { return std::fma(a, b, c); }
inline float exp(float x) { return std::exp(x); }
inline float log(float x) { return std::log(x); }
inline float erfc(float x) { return std::erfc(x); }
inline float tanh(float x) { return std::tanh(x); }
inline float sqrt(float x) { return std::sqrt(x); }
inline float infinity() { return HUGE_VALF; }
inline int count_ones(uint32_t x) { return __builtin_popcount(x); }

struct LaunchGuard {
  const uint64_t* failed_ticket;
  uint64_t ticket;
};

template <typename Kernel>
cudaError_t start_kernel(const char* name, const Kernel& kernel, dim3 grid, size_t shared_bytes,
                         cudaStream_t stream, LaunchGuard guard) {
  emulator::Launch launch{name, {grid.x, grid.y, grid.z}, Kernel::kThreads, shared_bytes, {}};
  launch.body = [kernel, guard] {
    if (*guard.failed_ticket < guard.ticket) return;
    kernel();
  };
  emulator::enqueue(stream, std::move(launch));
  return cudaSuccess;
}

}  // namespace hr::cuda
