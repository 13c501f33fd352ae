#include "test/emulator/block.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace hr::emulator {

namespace {

constexpr size_t kGuardBytes = 1024;
constexpr char kGuard = '\xA5';
constexpr const char* kReturned = "returned";  // what a thread "waits" for that has

thread_local Block* current_block = nullptr;

std::string text_of(Dim3 index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) +
         ")";
}

std::string text_of(Where where) {
  std::string file = where.file_name();
  file.erase(0, file.find_last_of('/') + 1);
  return file + ":" + std::to_string(where.line());
}

bool same(Where a, Where b) {
  return a.line() == b.line() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

uint64_t mixed(uint64_t x) {  // splitmix64
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace

Block& Block::current() { return *current_block; }

Block::Block() : stacks_(kMostThreads), threads_(kMostThreads), warps_(kMostThreads / kWarpSize) {}

int Block::random_warp() { return static_cast<int>(random() % static_cast<uint64_t>(num_warps_)); }

uint64_t Block::random() { return random_state_ = mixed(random_state_); }

void Block::run(const Launch& launch, Dim3 index) {
  launch_ = &launch;
  index_ = index;
  random_state_ =
      mixed(launch.seed ^ mixed(static_cast<uint64_t>(index.x + index.y * 7919 + index.z * 104729)));
  fault_.clear();
  prepare_shared();
  start_threads();
  current_block = this;
  thread_ = &next_thread();
  Fiber::switch_to(main_, thread_->fiber);
  current_block = nullptr;
  if (!fault_.empty()) throw Fault(fault_);
  check_shared_guard();
}

void Block::prepare_shared() {
  const size_t bytes = launch_->shared_bytes;
#if defined(__SANITIZE_ADDRESS__)
  if (!shared_storage_.empty()) {
    __asan_unpoison_memory_region(shared_storage_.data(), shared_storage_.size());
  }
#endif
  shared_storage_.assign(bytes + 3 * kGuardBytes, kGuard);
  const uintptr_t base = reinterpret_cast<uintptr_t>(shared_storage_.data());
  shared_ = reinterpret_cast<char*>((base + 2 * kGuardBytes - 1) / kGuardBytes * kGuardBytes);
  std::memset(shared_, 0xFF, bytes);  // NaN: nothing may rely on what a block before left
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(shared_ - kGuardBytes, kGuardBytes);
  __asan_poison_memory_region(shared_ + bytes, kGuardBytes);
#endif
}

void Block::check_shared_guard() {
#if !defined(__SANITIZE_ADDRESS__)
  const char* end = shared_ + launch_->shared_bytes;
  const auto damaged = [](char byte) { return byte != kGuard; };
  const char* above = std::find_if(end, end + kGuardBytes, damaged);
  const bool below = std::any_of(shared_ - kGuardBytes, shared_, damaged);
  if (above == end + kGuardBytes && !below) return;
  const std::string at =
      below ? "before its start" : std::to_string(above - shared_) + " bytes from its start";
  throw Fault("kernel " + launch_->kernel + ", block " + text_of(index_) + ": wrote outside of its " +
              std::to_string(launch_->shared_bytes) + " bytes of shared memory, " + at);
#endif
}

void Block::start_threads() {
  const int n = launch_->num_threads;
  if (n < 1 || n > kMostThreads || n % kWarpSize) {
    throw Fault("kernel " + launch_->kernel + ": a block of " + std::to_string(n) +
                " threads; expected a multiple of 32 up to 1024");
  }
  num_warps_ = n / kWarpSize;
  running_warp_ = random_warp();
  running_ = n;
  at_barrier_ = 0;
  for (int w = 0; w < num_warps_; ++w) {
    Warp& warp = warps_[w];
    warp.ready = 0xFFFFFFFFu;
    warp.arrived = 0;
    std::iota(warp.order, warp.order + kWarpSize, uint8_t{0});
    for (int i = kWarpSize - 1; i > 0; --i) std::swap(warp.order[i], warp.order[random() % (i + 1)]);
    for (int i = 0; i < kWarpSize; ++i) warp.rank[warp.order[i]] = static_cast<uint8_t>(i);
  }
  for (int i = 0; i < n; ++i) {
    Thread& thread = threads_[i];
    thread.index = i;
    thread.warp = i / kWarpSize;
    thread.lane = i % kWarpSize;
    thread.waits = nullptr;
    thread.copies.clear();
    thread.copy_groups = 0;
    thread.fiber.prepare(stacks_.bottom(i), thread_main, this);
  }
}

void Block::thread_main(void* self) {
  Block& block = *static_cast<Block*>(self);
  Thread& thread = *block.thread_;
  try {
    block.launch_->body();
    if (!thread.copies.empty()) block.fail("returned before its asynchronous copies arrived", Where());
    thread.waits = kReturned;
    --block.running_;
    if (block.at_barrier_ > 0) block.deadlock();
  } catch (const std::exception& fault) {
    block.fault_ = fault.what();
  }
  if (block.fault_.empty()) block.switch_away(true);
  Fiber::switch_to(thread.fiber, block.main_, true);
}

// Runs the next thread, on its own stack; returns when this one's turn has come again. A finished thread
// comes back only to end the block.
void Block::switch_away(bool finished) {
  Thread& self = *thread_;
  if (running_ == 0) return;
  Thread* next = nullptr;
  try {
    next = &next_thread();
  } catch (const Fault& fault) {
    if (!finished) throw;
    fault_ = fault.what();
    return;
  }
  thread_ = next;
  if (next != &self) Fiber::switch_to(self.fiber, next->fiber, finished);
}

// Stays in the running warp while it has a lane to run, so that a collective costs one switch per lane.
Thread& Block::next_thread() {
  if (!warps_[running_warp_].ready) {
    int tried = 0;
    const int first = random_warp();
    while (tried < num_warps_ && !warps_[(first + tried) % num_warps_].ready) ++tried;
    if (tried == num_warps_) deadlock();
    running_warp_ = (first + tried) % num_warps_;
  }
  Warp& warp = warps_[running_warp_];
  const int position = __builtin_ctz(warp.ready);
  warp.ready &= warp.ready - 1;
  return threads_[running_warp_ * kWarpSize + warp.order[position]];
}

void Block::barrier(Where where) {
  Thread& self = *thread_;
  self.waits = "barrier";
  self.where = where;
  if (running_ < launch_->num_threads) deadlock();
  if (++at_barrier_ == running_) release_barrier();
  switch_away();
  self.waits = nullptr;
}

void Block::release_barrier() {
  const Where where = thread_->where;
  for (int i = 0; i < launch_->num_threads; ++i) {
    if (!same(threads_[i].where, where)) {
      fail("reached another barrier than thread " + std::to_string(i) + " (" + text_of(threads_[i].where) +
               ")",
           where);
    }
  }
  at_barrier_ = 0;
  for (int w = 0; w < num_warps_; ++w) warps_[w].ready = 0xFFFFFFFFu;
  running_warp_ = random_warp();
}

void Block::collective(const char* name, void (*execute)(void* const*), void* args, Where where) {
  Thread& self = *thread_;
  Warp& warp = warps_[self.warp];
  self.collective_args = args;
  self.where = where;
  self.waits = name;
  Thread* lanes = &threads_[self.warp * kWarpSize];
  if (warp.arrived == 0) {
    warp.execute = execute;
    warp.first = &self;
  } else if (warp.execute != execute || !same(warp.first->where, where)) {
    fail("calls " + std::string(name) + ", but " + describe(*warp.first), where);
  }
  if (++warp.arrived < kWarpSize) {
    switch_away();
  } else {
    void* lane_args[kWarpSize];
    for (int lane = 0; lane < kWarpSize; ++lane) lane_args[lane] = lanes[lane].collective_args;
    warp.arrived = 0;
    execute(lane_args);
    warp.ready = 0xFFFFFFFFu & ~(1u << warp.rank[self.lane]);
  }
  self.waits = nullptr;
}

void Block::start_copy(void* to, const void* from, int bytes, int valid_bytes, Where where) {
  check_shared(to, static_cast<size_t>(bytes), static_cast<size_t>(bytes), where);
  if (valid_bytes < 0 || valid_bytes > bytes) {
    fail("copies " + std::to_string(valid_bytes) + " of " + std::to_string(bytes) + " bytes", where);
  }
  if (valid_bytes > 0 && reinterpret_cast<uintptr_t>(from) % static_cast<uintptr_t>(bytes)) {
    fail("copies " + std::to_string(bytes) + " bytes from an address that is not a multiple of them", where);
  }
  const bool early =
      launch_->copies == CopyTiming::early || (launch_->copies == CopyTiming::random && random() % 2);
  AsyncCopy copy{static_cast<char*>(to), static_cast<const char*>(from), bytes, valid_bytes,
                 thread_->copy_groups};
  std::memset(to, 0xFF, static_cast<size_t>(bytes));
  if (early) {
    std::memset(copy.to, 0, static_cast<size_t>(bytes));
    if (valid_bytes > 0) std::memcpy(copy.to, copy.from, static_cast<size_t>(valid_bytes));
    copy.bytes = 0;  // arrived; it still has to be waited for
  }
  thread_->copies.push_back(copy);
}

void Block::wait_for_copies(int pending_groups) {
  Thread& self = *thread_;
  const int last = self.copy_groups - pending_groups;  // groups before it have arrived
  const auto arrives = [&](const AsyncCopy& copy) {
    if (copy.group >= last) return false;
    if (copy.bytes) {
      std::memset(copy.to, 0, static_cast<size_t>(copy.bytes));
      if (copy.valid_bytes > 0) std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.valid_bytes));
    }
    return true;
  };
  self.copies.erase(std::remove_if(self.copies.begin(), self.copies.end(), arrives), self.copies.end());
}

void Block::check_shared(const void* pointer, size_t bytes, size_t alignment, Where where) const {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const auto begin = reinterpret_cast<uintptr_t>(shared_);
  if (address < begin || address + bytes > begin + launch_->shared_bytes) {
    fail("touches shared memory " + std::to_string(static_cast<int64_t>(address - begin)) +
             " bytes from its start, of " + std::to_string(launch_->shared_bytes),
         where);
  }
  if (address % alignment) {
    fail("needs shared memory aligned to " + std::to_string(alignment) + " bytes, not at " +
             std::to_string(address - begin),
         where);
  }
}

void Block::deadlock() {
  std::string text = "kernel " + launch_->kernel + ", block " + text_of(index_) + ": deadlock. ";
  std::string last;
  int listed = 0;
  for (int i = 0; i < launch_->num_threads && listed < 4; ++i) {
    if (!threads_[i].waits) continue;
    const std::string state = threads_[i].waits + (running_ ? text_of(threads_[i].where) : "");
    if (state == last) continue;
    text += (listed++ ? "; " : "") + describe(threads_[i]);
    last = state;
  }
  throw Fault(text);
}

void Block::fail(const std::string& what, Where where) const {
  std::string text = "kernel " + launch_->kernel + ", block " + text_of(index_) + ", thread " +
                     std::to_string(thread_->index) + " (warp " + std::to_string(thread_->warp) + ", lane " +
                     std::to_string(thread_->lane) + ")";
  if (where.line()) text += " at " + text_of(where);
  throw Fault(text + ": " + what);
}

std::string Block::describe(const Thread& thread) const {
  const std::string name = "thread " + std::to_string(thread.index) + " (warp " +
                           std::to_string(thread.warp) + ", lane " + std::to_string(thread.lane) + ")";
  if (thread.waits == kReturned) return name + " has returned";
  return name + " waits in " + thread.waits + " at " + text_of(thread.where);
}

void run_grid(const Launch& launch) {
  static thread_local Block block;
  const int64_t count = launch.grid.x * launch.grid.y * launch.grid.z;
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  uint64_t state = launch.seed;
  for (size_t i = order.size(); i > 1; --i) {
    state = mixed(state);
    std::swap(order[i - 1], order[state % i]);
  }
  for (const int64_t number : order) {
    const Dim3& grid = launch.grid;
    block.run(launch, {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y});
  }
}

}  // namespace hr::emulator
