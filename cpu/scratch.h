// scratch: temporary memory of one thread, taken and given back like a stack.
//
// Blocks are kept until the thread's owner is destroyed, so a kernel that runs again allocates nothing.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace hr::cpu {

class Scratch {
 public:
  // Everything taken while a Frame lives is given back when it ends.
  class Frame {
   public:
    explicit Frame(Scratch& scratch) : scratch_(scratch), block_(scratch.block_), used_(scratch.used_) {}
    ~Frame() {
      scratch_.block_ = block_;
      scratch_.used_ = used_;
    }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Scratch& scratch_;
    size_t block_, used_;
  };

  // `count` uninitialised elements, aligned to 64 bytes. Throws hr::Error{out_of_memory}.
  template <typename T>
  T* take(size_t count) {
    return static_cast<T*>(take_bytes(count * sizeof(T)));
  }

 private:
  struct Free {
    void operator()(void* p) const;
  };
  struct Block {
    std::unique_ptr<void, Free> data;
    size_t bytes;
  };
  void* take_bytes(size_t bytes);

  std::vector<Block> blocks_;
  size_t block_ = 0;  // the block in use; those after it are empty
  size_t used_ = 0;   // bytes used of it
};

}  // namespace hr::cpu
