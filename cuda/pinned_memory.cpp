#include "cuda/pinned_memory.h"

#include <cuda_runtime.h>

#include <string>

#include "ops/error.h"

namespace hr::cuda {

namespace {

constexpr size_t kSmallestBlock = 4096;  // always has room
constexpr size_t kMostPinned = size_t{64} << 20;

size_t rounded(size_t bytes) {
  size_t size = kSmallestBlock;
  while (size < bytes) size *= 2;
  return size;
}

}  // namespace

PinnedMemory::~PinnedMemory() {
  for (const auto& [bytes, data] : unused_) cudaFreeHost(data);
}

bool PinnedMemory::has_room(size_t bytes) {
  if (bytes > kLargestBlock) return false;
  const size_t size = rounded(bytes);
  const std::lock_guard lock(mutex_);
  return size == kSmallestBlock || unused_.contains(size) || pinned_bytes_ + size <= kMostPinned;
}

PinnedMemory::Block PinnedMemory::take(size_t bytes) {
  const size_t size = rounded(bytes);
  const std::lock_guard lock(mutex_);
  if (const auto node = unused_.extract(size)) return Block(node.mapped(), {this, size});
  void* data = nullptr;
  if (cudaMallocHost(&data, size) != cudaSuccess) {
    cudaGetLastError();  // forgets it
    throw Error(ErrorKind::out_of_memory, "cuda", "",
                "no pinned host memory for " + std::to_string(size) + " bytes");
  }
  pinned_bytes_ += size;
  return Block(static_cast<std::byte*>(data), {this, size});
}

void PinnedMemory::give_back(std::byte* data, size_t bytes) {
  const std::lock_guard lock(mutex_);
  unused_.emplace(bytes, data);
}

}  // namespace hr::cuda
