#include "cpu/scratch.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "ops/error.h"

namespace hr::cpu {

namespace {
constexpr size_t kAlignment = 64;
constexpr size_t kSmallestBlock = size_t{1} << 20;
}  // namespace

void Scratch::Free::operator()(void* p) const { std::free(p); }

void* Scratch::take_bytes(size_t bytes) {
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].bytes) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    const size_t previous = blocks_.empty() ? 0 : blocks_.back().bytes;
    const size_t size = std::max({bytes, kSmallestBlock, 2 * previous});
    std::unique_ptr<void, Free> data(std::aligned_alloc(kAlignment, size));
    if (!data) {
      throw Error(ErrorKind::out_of_memory, "scratch", "",
                  "no memory for " + std::to_string(size) + " bytes of workspace");
    }
    blocks_.push_back({std::move(data), size});
    used_ = 0;
  }
  void* result = static_cast<char*>(blocks_[block_].data.get()) + used_;
  used_ += bytes;
  return result;
}

}  // namespace hr::cpu
