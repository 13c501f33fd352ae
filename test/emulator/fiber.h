// fiber: a thread of execution with a stack of its own that is switched to by hand. One OS thread runs all
// fibers of an emulated block.
#pragma once

#include <cstddef>

namespace hr::emulator {

// Memory for the stacks of up to `count` fibers, with an unreadable page below each. Reused by every block.
class Stacks {
 public:
  explicit Stacks(int count);
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  char* bottom(int index) const;
  static size_t bytes();

 private:
  char* memory_;
  size_t total_bytes_;
};

class Fiber {
 public:
  using Entry = void (*)(void* argument);  // must never return: it switches away for good

  // Prepares `entry(argument)` to run on the given stack.
  void prepare(char* stack_bottom, Entry entry, void* argument);

  // Leaves the running fiber (saved in `from`) and continues `to`. A finished fiber is never continued.
  static void switch_to(Fiber& from, Fiber& to, bool from_finished = false);

 private:
  static void start(Fiber* self);
  void find_thread_stack();

  void* stack_pointer_ = nullptr;
  char* stack_bottom_ = nullptr;  // null: the stack of the OS thread
  size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;  // AddressSanitizer's
  Entry entry_ = nullptr;
  void* argument_ = nullptr;
};

}  // namespace hr::emulator
