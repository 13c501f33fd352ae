// tile_loader: one operand's tiles, from global memory to a stage of shared memory.
//
// The layout of an operand says what its rows are:
//   by_row    rows are rows of the result (A) or columns of it (B), numbers run along k
//   by_k      rows are k, numbers run along the rows or columns of the result
// A tile is kRows x kNumbers elements, stored row by row in chunks of 16 bytes. Chunks are permuted within
// their row (swizzled), so that the reads of tile_fragments.h meet no bank twice. What lies outside of the
// operand is filled with zeros.
#pragma once

#include "cuda/kernels/operand.h"

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

// What a loader of bf16 tiles finds in an operand.
enum class Stored { f32, bf16, either };

// Loads tiles with kThreads threads. What is stored as Elements is copied asynchronously by start(); f32 for
// a bf16 tile goes through registers, and finish() rounds and stores it.
template <typename Element, Layout kLayout, int kLength, int kThreads, Stored kStored>
class TileLoader {
 public:
  using Storage = TileStorage<Element, kLayout, kLength>;
  static constexpr bool kRounds = sizeof(Element) < sizeof(float) && kStored != Stored::bf16;
  static constexpr int kChunks = Storage::kRows * Storage::kChunksPerRow / kThreads;  // of a thread
  static_assert(kChunks * kThreads == Storage::kRows * Storage::kChunksPerRow);

  HR_DEVICE explicit TileLoader(const Operand& operand) : operand_(operand) {}

  // The rows of `bounds` count from first_row of the operand on.
  HR_DEVICE void start(Element* tile, const TileBounds& bounds, int32_t first_row) {
    HR_UNROLL
    for (int i = 0; i < kChunks; ++i) {
      const int row = row_of(i), chunk = chunk_of(i);
      const int32_t number = bounds.number + chunk * Storage::kChunk;
      const bool inside = bounds.row + row < bounds.row_end && number < bounds.number_end;
      const int32_t left = bounds.number_end - number;
      const int valid = inside ? (left < Storage::kChunk ? left : Storage::kChunk) : 0;
      const int32_t r = first_row + bounds.row + row;
      Element* to = Storage::chunk_at(tile, row, chunk);
      if (has_elements()) {
        copy(to, inside ? operand_.row<Element>(r) + number : operand_.start<Element>(), valid);
      } else if constexpr (kRounds) {
        const float* from = inside ? operand_.row<float>(r) + number : operand_.start<float>();
        staged_[i] = load_octet(from, valid, operand_.aligned);
      }
    }
  }

  HR_DEVICE void finish(Element* tile) {
    if constexpr (kRounds) {
      if (has_elements()) return;
      HR_UNROLL
      for (int i = 0; i < kChunks; ++i) {
        store_rounded(Storage::chunk_at(tile, row_of(i), chunk_of(i)), staged_[i]);
      }
    }
  }

 private:
  HR_DEVICE static int row_of(int i) { return (thread_index() + i * kThreads) / Storage::kChunksPerRow; }
  HR_DEVICE static int chunk_of(int i) { return (thread_index() + i * kThreads) % Storage::kChunksPerRow; }

  HR_DEVICE bool has_elements() const { return !kRounds || (kStored == Stored::either && operand_.is_bf16); }

  HR_DEVICE void copy(Element* to, const Element* from, int valid) const {
    if (operand_.aligned) return copy_async16(to, from, valid * static_cast<int>(sizeof(Element)));
    if constexpr (sizeof(Element) == 4) {  // what was rounded is aligned
      HR_UNROLL
      for (int j = 0; j < 4; ++j) copy_async4(to + j, j < valid ? from + j : from, j < valid ? 4 : 0);
    }
  }

  const Operand& operand_;
  Octet staged_[kRounds ? kChunks : 1];
};

}  // namespace hr::cuda
