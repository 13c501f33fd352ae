// tile_fragments: from a tile in shared memory to the registers of the warp's matrix instructions, and the
// products of one step along k. Layouts of the registers: cuda/intrinsics.h.
#pragma once

#include "cuda/kernels/tile_loader.h"
#include "ops/precision.h"

namespace hr::cuda {

// What a precision multiplies, and how far along k one instruction goes.
template <Precision kPrecision>
struct Arithmetic {
  using Element = float;
  static constexpr int kStep = 8;
};
template <>
struct Arithmetic<Precision::bf16> {
  using Element = math::Bf16;
  static constexpr int kStep = 16;
};

// The 16 x kStep blocks of A (kStep x 16 of B, as two of 8 columns) at rows or columns `first` .. first + 15.
// Both are four 8 x 8 matrices (8 x 4 of f32): `inner` numbers them along k, `outer` along rows or columns.
template <typename Element, Layout kLayout, int kLength>
HR_DEVICE void load_block(uint32_t (&r)[4], const Element* tile, int first, int k, int outer, int inner) {
  using Storage = TileStorage<Element, kLayout, kLength>;
  Element* at = const_cast<Element*>(tile);
  const int lane = lane_index();
  if constexpr (kLayout == Layout::by_row) {
    warp_load_matrices(r, Storage::chunk_at(at, first + outer * 8 + lane % 8, k / Storage::kChunk + inner));
  } else {
    warp_load_matrices_transposed(r, Storage::chunk_at(at, k + inner * 8 + lane % 8, first / 8 + outer));
  }
}

// f32 tiles by k cannot be transposed on the way: one number after another.
template <int kLength>
HR_DEVICE uint32_t load_number(const float* tile, int index, int k) {
  using Storage = TileStorage<float, Layout::by_k, kLength>;
  const float x = Storage::chunk_at(const_cast<float*>(tile), k, index / 4)[index % 4];
  return math::bits_of(x);
}

template <typename Element, Layout kLayout, int kLength, int kBlocks>
HR_DEVICE void load_a(uint32_t (&a)[kBlocks][4], const Element* tile, int first, int k) {
  const int lane = lane_index();
  HR_UNROLL
  for (int i = 0; i < kBlocks; ++i) {
    if constexpr (sizeof(Element) == 4 && kLayout == Layout::by_k) {
      HR_UNROLL
      for (int r = 0; r < 4; ++r) {
        a[i][r] = load_number<kLength>(tile, first + i * 16 + lane / 4 + r % 2 * 8, k + lane % 4 + r / 2 * 4);
      }
    } else {
      load_block<Element, kLayout, kLength>(a[i], tile, first + i * 16, k, lane / 8 % 2, lane / 16);
    }
  }
}

template <typename Element, Layout kLayout, int kLength, int kBlocks>
HR_DEVICE void load_b(uint32_t (&b)[kBlocks][2], const Element* tile, int first, int k) {
  const int lane = lane_index();
  HR_UNROLL
  for (int j = 0; j < kBlocks; j += 2) {
    if constexpr (sizeof(Element) == 4 && kLayout == Layout::by_k) {
      HR_UNROLL
      for (int r = 0; r < 4; ++r) {
        b[j + r / 2][r % 2] =
            load_number<kLength>(tile, first + (j + r / 2) * 8 + lane / 4, k + lane % 4 + r % 2 * 4);
      }
    } else {
      uint32_t r[4];
      load_block<Element, kLayout, kLength>(r, tile, first + j * 8, k, lane / 16, lane / 8 % 2);
      b[j][0] = r[0];
      b[j][1] = r[1];
      b[j + 1][0] = r[2];
      b[j + 1][1] = r[3];
    }
  }
}

// x = high + low, both tf32: together they hold 22 bits of an f32's 24.
template <int kBlocks, int kRegisters>
HR_DEVICE void split_tf32(uint32_t (&x)[kBlocks][kRegisters], uint32_t (&low)[kBlocks][kRegisters]) {
  HR_UNROLL
  for (int i = 0; i < kBlocks; ++i) {
    HR_UNROLL
    for (int r = 0; r < kRegisters; ++r) {
      const float number = math::float_of(x[i][r]);
      x[i][r] = to_tf32(number);
      low[i][r] = to_tf32(number - math::float_of(x[i][r]));
    }
  }
}

template <int kBlocks, int kRegisters>
HR_DEVICE void round_tf32(uint32_t (&x)[kBlocks][kRegisters]) {
  HR_UNROLL
  for (int i = 0; i < kBlocks; ++i) {
    HR_UNROLL
    for (int r = 0; r < kRegisters; ++r) x[i][r] = to_tf32(math::float_of(x[i][r]));
  }
}

// sums += a · b. f32 takes three tf32 products, the smallest first; low · low is below an f32's last bit.
template <Precision kPrecision, int kRows, int kColumns>
HR_DEVICE void multiply_fragments(float (&sums)[kRows][kColumns][4], uint32_t (&a)[kRows][4],
                                  uint32_t (&b)[kColumns][2]) {
  if constexpr (kPrecision == Precision::bf16) {
    warp_multiply_bf16(sums, a, b);
  } else if constexpr (kPrecision == Precision::tf32) {
    round_tf32(a);
    round_tf32(b);
    warp_multiply_tf32(sums, a, b);
  } else {
    uint32_t a_low[kRows][4], b_low[kColumns][2];
    split_tf32(a, a_low);
    split_tf32(b, b_low);
    warp_multiply_tf32(sums, a_low, b);
    warp_multiply_tf32(sums, a, b_low);
    warp_multiply_tf32(sums, a, b);
  }
}

// What a precision makes of a number in shared memory.
template <Precision kPrecision>
HR_DEVICE float factor(float x) {
  return kPrecision == Precision::tf32 ? math::to_tf32(x) : x;
}
template <Precision kPrecision>
HR_DEVICE float factor(math::Bf16 x) {
  return math::to_float(x);
}

// sum + Σ_k of row `index` of A times a vector, of which the lanes of the warp have number k = lane.
template <Precision kPrecision, Layout kLayout, int kLength, typename Element>
HR_DEVICE float add_vector_product(float sum, const Element* tile, int index, float numbers) {
  using Storage = TileStorage<Element, kLayout, kLength>;
  Element* at = const_cast<Element*>(tile);
  const auto add = [&](Element x, int k) { sum = fma(factor<kPrecision>(x), warp_shuffle(numbers, k), sum); };
  if constexpr (kLayout == Layout::by_row) {
    struct alignas(kChunkBytes) Chunk {
      Element v[Storage::kChunk];
    };
    HR_UNROLL
    for (int chunk = 0; chunk < Storage::kChunksPerRow; ++chunk) {
      const Chunk x = *reinterpret_cast<const Chunk*>(Storage::chunk_at(at, index, chunk));
      HR_UNROLL
      for (int i = 0; i < Storage::kChunk; ++i) add(x.v[i], chunk * Storage::kChunk + i);
    }
  } else {
    HR_UNROLL
    for (int k = 0; k < kTileK; ++k) {
      add(Storage::chunk_at(at, k, index / Storage::kChunk)[index % Storage::kChunk], k);
    }
  }
  return sum;
}

}  // namespace hr::cuda
