#include "cuda/pinned_memory.h"

#include <cuda_runtime.h>

#include <iterator>
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
  return size == kSmallestBlock || used_bytes_ + size <= kMostPinned;
}

PinnedMemory::Block PinnedMemory::take(size_t bytes) {
  const size_t size = rounded(bytes);
  const std::lock_guard lock(mutex_);
  void* data = nullptr;
  if (const auto node = unused_.extract(size)) {
    data = node.mapped();
    unused_bytes_ -= size;
  } else {
    while (!unused_.empty() && used_bytes_ + unused_bytes_ + size > kMostPinned) free_one();
    if (cudaMallocHost(&data, size) != cudaSuccess) {
      cudaGetLastError();  // forgets it
      throw Error(ErrorKind::out_of_memory, "cuda", "",
                  "no pinned host memory for " + std::to_string(size) + " bytes");
    }
  }
  used_bytes_ += size;
  return Block(static_cast<std::byte*>(data), {this, size});
}

void PinnedMemory::free_one() {
  const auto largest = std::prev(unused_.end());
  cudaFreeHost(largest->second);
  unused_bytes_ -= largest->first;
  unused_.erase(largest);
}

void PinnedMemory::give_back(std::byte* data, size_t bytes) {
  const std::lock_guard lock(mutex_);
  unused_.emplace(bytes, data);
  used_bytes_ -= bytes;
  unused_bytes_ += bytes;
}

}  // namespace hr::cuda
