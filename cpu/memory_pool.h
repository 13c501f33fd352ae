// memory_pool: tensor memory of the CPU backend. One thread only; blocks are reused, not returned.
//
// A released block may be handed out again at once, even while an op that uses it is still queued: ops run
// in call order, so whatever the next owner does is queued behind it. Sizes are rounded up to eighths of a
// power of two (at most 12.5 % waste), because a training step asks for the same sizes again and again.
#pragma once

#include <cstddef>
#include <map>
#include <vector>

#include "ops/backend.h"

namespace hr::cpu {

class MemoryPool {
 public:
  explicit MemoryPool(size_t limit_bytes) : limit_bytes_(limit_bytes) {}
  ~MemoryPool() { trim(); }
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  // 64-byte aligned, uninitialised; null when `bytes` more would pass the limit or the system refuses.
  void* allocate(size_t bytes);
  void release(void* data, size_t bytes);
  // Gives unused blocks back to the system. The stream must be idle: queued ops may still use them.
  void trim();

  size_t limit_bytes() const { return limit_bytes_; }
  const Backend::MemoryStats& stats() const { return stats_; }
  void reset_peak() { stats_.peak_bytes = stats_.live_bytes; }

 private:
  size_t limit_bytes_;
  Backend::MemoryStats stats_{};
  std::map<size_t, std::vector<void*>> free_;  // rounded size -> blocks
};

}  // namespace hr::cpu
