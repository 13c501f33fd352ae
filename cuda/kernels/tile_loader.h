// tile_loader: one operand's tiles, from global memory to a stage of shared memory.
//
// An operand is rows of contiguous numbers. Its layout says what the rows are:
//   by_row    rows are rows of the result (A) or columns of it (B), numbers run along k
//   by_k      rows are k, numbers run along the rows or columns of the result
// A tile is kRows x kNumbers elements, stored row by row in chunks of 16 bytes. Chunks are permuted within
// their row (swizzled), so that the reads of tile_fragments.h meet no bank twice. What lies outside of the
// operand is filled with zeros.
#pragma once

#include "cuda/kernels/elements.h"
#include "ops/math/half.h"

namespace hr::cuda {

enum class Layout { by_row, by_k };

inline constexpr int kTileK = 32;  // k of a stage
inline constexpr int kChunkBytes = 16;

// A tile in shared memory. kLength: rows or columns of the result.
template <typename Element, Layout kLayout, int kLength>
struct TileStorage {
  static constexpr int kRows = kLayout == Layout::by_row ? kLength : kTileK;
  static constexpr int kNumbers = kLayout == Layout::by_row ? kTileK : kLength;
  static constexpr int kChunk = kChunkBytes / static_cast<int>(sizeof(Element));  // elements
  static constexpr int kChunksPerRow = kNumbers / kChunk;
  static constexpr int kBytes = kRows * kNumbers * static_cast<int>(sizeof(Element));

  // Where the permuted order puts a chunk of a row.
  static HR_DEVICE int swizzled(int row, int chunk) {
    if constexpr (kLayout == Layout::by_row) {
      // Eight rows, the same chunk: spread over the eight 16-byte columns of the banks.
      constexpr int kRowsPerLine = 128 / (kChunksPerRow * kChunkBytes);
      return chunk ^ (row / kRowsPerLine % kChunksPerRow);
    } else if constexpr (sizeof(Element) == 2) {
      return chunk ^ (row % 8);  // eight k, the same chunk
    } else {
      return chunk ^ (row % 4 * 2);  // four k, two neighbouring chunks
    }
  }
  static HR_DEVICE Element* chunk_at(Element* tile, int row, int chunk) {
    return tile + row * kNumbers + swizzled(row, chunk) * kChunk;
  }
};

// Which part of an operand a tile is: rows row .. row_end - 1, numbers number .. number_end - 1 of them.
struct TileBounds {
  int32_t row, row_end, number, number_end;
};

// Loads tiles with kThreads threads. `rows(r)` gives the address of number 0 of row r. f32 tiles are copied
// asynchronously by start(); bf16 tiles go through registers, and finish() rounds and stores them.
template <typename Element, Layout kLayout, int kLength, int kThreads>
class TileLoader {
 public:
  using Storage = TileStorage<Element, kLayout, kLength>;
  static constexpr bool kAsync = sizeof(Element) == sizeof(float);
  static constexpr int kChunks = Storage::kRows * Storage::kChunksPerRow / kThreads;  // of a thread
  static_assert(kChunks * kThreads == Storage::kRows * Storage::kChunksPerRow);

  // aligned: every row starts at a 16-byte boundary. anywhere: some address in global memory.
  HR_DEVICE TileLoader(bool aligned, const float* anywhere) : aligned_(aligned), anywhere_(anywhere) {}

  template <typename Rows>
  HR_DEVICE void start(Element* tile, const TileBounds& bounds, const Rows& rows) {
    HR_UNROLL
    for (int i = 0; i < kChunks; ++i) {
      const int row = row_of(i), chunk = chunk_of(i);
      const int32_t number = bounds.number + chunk * Storage::kChunk;
      const bool inside = bounds.row + row < bounds.row_end && number < bounds.number_end;
      const int32_t left = bounds.number_end - number;
      const int valid = inside ? (left < Storage::kChunk ? left : Storage::kChunk) : 0;
      const float* from = inside ? rows(bounds.row + row) + number : anywhere_;
      if constexpr (kAsync) {
        copy(Storage::chunk_at(tile, row, chunk), from, valid);
      } else {
        read(staged_[i], from, valid);
      }
    }
  }

  HR_DEVICE void finish(Element* tile) {
    if constexpr (!kAsync) {
      HR_UNROLL
      for (int i = 0; i < kChunks; ++i) {
        const float(&x)[8] = staged_[i];
        uint32_t* to = reinterpret_cast<uint32_t*>(Storage::chunk_at(tile, row_of(i), chunk_of(i)));
        store_words4(to, to_bf16_pair(x[0], x[1]), to_bf16_pair(x[2], x[3]), to_bf16_pair(x[4], x[5]),
                     to_bf16_pair(x[6], x[7]));
      }
    }
  }

 private:
  HR_DEVICE static int row_of(int i) { return (thread_index() + i * kThreads) / Storage::kChunksPerRow; }
  HR_DEVICE static int chunk_of(int i) { return (thread_index() + i * kThreads) % Storage::kChunksPerRow; }

  HR_DEVICE void copy(Element* to, const float* from, int valid) const {
    if (aligned_) {
      copy_async16(to, from, valid * 4);
      return;
    }
    HR_UNROLL
    for (int j = 0; j < 4; ++j) copy_async4(to + j, j < valid ? from + j : anywhere_, j < valid ? 4 : 0);
  }

  HR_DEVICE void read(float (&x)[8], const float* from, int valid) const {
    if (aligned_ && valid == 8) {
      const Float4 low = load4(from), high = load4(from + 4);
      HR_UNROLL
      for (int j = 0; j < 4; ++j) {
        x[j] = low.v[j];
        x[j + 4] = high.v[j];
      }
      return;
    }
    HR_UNROLL
    for (int j = 0; j < 8; ++j) x[j] = j < valid ? from[j] : 0.0f;
  }

  const bool aligned_;
  const float* const anywhere_;
  float staged_[kAsync ? 1 : kChunks][8];
};

}  // namespace hr::cuda
