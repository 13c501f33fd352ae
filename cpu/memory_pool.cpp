#include "cpu/memory_pool.h"

#include <algorithm>
#include <cstdlib>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace hr::cpu {

namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

size_t rounded(size_t bytes) {
  size_t step = kAlignment;
  while (step * 8 < bytes) step *= 2;
  return std::max(kAlignment, (bytes + step - 1) / step * step);
}

void* system_allocate(size_t bytes) {
  if (bytes < kHugePage) return std::aligned_alloc(kAlignment, bytes);
  // Matrix products walk large tensors: huge pages spare them most TLB misses.
  const size_t whole_pages = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  void* data = std::aligned_alloc(kHugePage, whole_pages);
#if defined(__linux__)
  if (data) madvise(data, whole_pages, MADV_HUGEPAGE);
#endif
  return data;
}

}  // namespace

void* MemoryPool::allocate(size_t bytes) {
  const size_t size = rounded(bytes);
  void* data = nullptr;
  auto found = free_.find(size);
  if (found != free_.end() && !found->second.empty()) {
    data = found->second.back();
    found->second.pop_back();
    stats_.pooled_bytes -= size;
  } else {
    if (stats_.live_bytes + stats_.pooled_bytes + size > limit_bytes_) return nullptr;
    data = system_allocate(size);
    if (!data) return nullptr;
  }
  stats_.live_bytes += size;
  stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.live_bytes);
  return data;
}

void MemoryPool::release(void* data, size_t bytes) {
  const size_t size = rounded(bytes);
  free_[size].push_back(data);
  stats_.live_bytes -= size;
  stats_.pooled_bytes += size;
}

void MemoryPool::trim() {
  for (auto& [size, blocks] : free_) {
    for (void* block : blocks) std::free(block);
  }
  free_.clear();
  stats_.pooled_bytes = 0;
}

}  // namespace hr::cpu
