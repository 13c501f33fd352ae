// block: runs one block of a kernel, a fiber per thread, and finds what a GPU would silently get wrong.
//
//   launch -> for each block, in random order: start all threads -> switch from fiber to fiber at barriers
//   and warp collectives, warps in random order -> check what the block left behind
//
// Within a warp the lanes run one after another, in an order that the block draws; a collective is carried
// out by the lane that arrives last. Every collective takes all 32 lanes, from one line of source.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

#include "test/emulator/fiber.h"

namespace hr::emulator {

inline constexpr int kWarpSize = 32;
inline constexpr int kMostThreads = 1024;

// When an asynchronous copy arrives: at the wait for it, at once, or either, drawn for each copy.
enum class CopyTiming { late, early, random };

struct Dim3 {
  int64_t x = 1, y = 1, z = 1;
};

struct Launch {
  std::string kernel;
  Dim3 grid;
  int num_threads = 0;
  size_t shared_bytes = 0;
  std::function<void()> body;  // what one thread does
  CopyTiming copies = CopyTiming::random;
  uint64_t seed = 0;
};

// A defect of a kernel. The text names the kernel, the block and the thread.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Where = std::source_location;

struct AsyncCopy {
  char* to;
  const char* from;
  int bytes, valid_bytes;
  int group;
};

struct Thread {
  Fiber fiber;
  int index = 0, warp = 0, lane = 0;
  void* collective_args = nullptr;
  Where where;                  // of the barrier or collective it waits at
  const char* waits = nullptr;  // for what; null: it does not
  std::vector<AsyncCopy> copies;
  int copy_groups = 0;  // committed so far
};

struct Warp {
  uint32_t ready = 0;  // bit i: the lane that is i-th in `order` can go on
  uint8_t order[kWarpSize], rank[kWarpSize];
  int arrived = 0;                // lanes at the running collective
  const Thread* first = nullptr;  // to arrive there
  void (*execute)(void* const* lane_args) = nullptr;
};

class Block {
 public:
  static Block& current();  // the one this OS thread is running

  Block();
  void run(const Launch& launch, Dim3 index);  // throws Fault

  const Launch& launch() const { return *launch_; }
  Dim3 index() const { return index_; }
  Thread& thread() { return *thread_; }
  char* shared_memory() { return shared_; }

  // Waits for all threads of the block, or for all lanes of the warp; the last lane calls execute(lane_args).
  void barrier(Where where);
  void collective(const char* name, void (*execute)(void* const* lane_args), void* args, Where where);

  void start_copy(void* to, const void* from, int bytes, int valid_bytes, Where where);
  void commit_copies() { ++thread_->copy_groups; }
  void wait_for_copies(int pending_groups);

  // Throws Fault unless [pointer, pointer + bytes) lies in the shared memory of this block, aligned.
  void check_shared(const void* pointer, size_t bytes, size_t alignment, Where where) const;
  [[noreturn]] void fail(const std::string& what, Where where) const;

 private:
  static void thread_main(void* block);
  void prepare_shared();
  void check_shared_guard();
  void start_threads();
  void switch_away(bool finished = false);
  Thread& next_thread();
  void release_barrier();
  [[noreturn]] void deadlock();
  std::string describe(const Thread& thread) const;
  int random_warp();
  uint64_t random();

  Stacks stacks_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<char> shared_storage_;
  char* shared_ = nullptr;
  const Launch* launch_ = nullptr;
  Dim3 index_;
  Thread* thread_ = nullptr;  // the one that runs
  Fiber main_;
  int num_warps_ = 0, running_warp_ = 0, running_ = 0, at_barrier_ = 0;
  uint64_t random_state_ = 0;
  std::string fault_;
};

// All blocks of a launch. Throws Fault.
void run_grid(const Launch& launch);

}  // namespace hr::emulator
