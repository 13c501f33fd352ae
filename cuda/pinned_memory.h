// pinned_memory: host memory that the GPU copies to and from while the host goes on.
//
// Pinning is slow and takes memory from the whole machine: blocks are kept for reuse, and has_room() says
// when enough of them are in use. Blocks may be given back from any thread.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>

namespace hr::cuda {

class PinnedMemory {
 public:
  static constexpr size_t kLargestBlock = size_t{16} << 20;

  // Gives a block back. The GPU must be done with it.
  struct GiveBack {
    PinnedMemory* memory = nullptr;
    size_t bytes = 0;
    void operator()(std::byte* data) const { memory->give_back(data, bytes); }
  };
  using Block = std::unique_ptr<std::byte[], GiveBack>;

  PinnedMemory() = default;
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  // May a block of so many bytes be in use besides the others?
  bool has_room(size_t bytes);
  // At least `bytes`, at most kLargestBlock; even without room. Throws Error{out_of_memory}.
  Block take(size_t bytes);

 private:
  void give_back(std::byte* data, size_t bytes);
  void free_one();  // of the unused

  std::mutex mutex_;
  std::multimap<size_t, std::byte*> unused_;  // by size
  size_t used_bytes_ = 0, unused_bytes_ = 0;
};

}  // namespace hr::cuda
