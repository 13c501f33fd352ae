#include "cpu/thread_pool.h"

#include <string>
#include <system_error>
#include <utility>

#include "cpu/spin.h"
#include "ops/error.h"

namespace hr::cpu {

namespace {

// gate_: the number of the run, whether workers may still join it, and how many are inside.
constexpr uint64_t kInside = 0xFFFF;
constexpr uint64_t kOpen = kInside + 1;
constexpr uint64_t kRun = kOpen << 1;

}  // namespace

ThreadPool::ThreadPool(int num_threads) { start(num_threads - 1); }

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::resize(int num_threads) {
  stop();
  start(num_threads - 1);
}

void ThreadPool::start(int num_workers) {
  stopping_ = false;
  // Read here, not in the thread: a run() may start before the thread does.
  const uint64_t seen = gate_.load() / kRun;
  try {
    for (int i = 0; i < num_workers; ++i) workers_.emplace_back([this, seen] { worker_loop(seen); });
  } catch (const std::system_error& error) {
    const size_t started = workers_.size();
    stop();
    throw Error(ErrorKind::device, "threads", "threads",
                "the system refused thread " + std::to_string(started + 2) + " of " +
                    std::to_string(num_workers + 1) + ": " + error.what());
  }
}

void ThreadPool::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void ThreadPool::run_tasks(int64_t count, Task task, void* body) {
  task_ = task;
  body_ = body;
  count_ = count;
  next_.store(0, std::memory_order_relaxed);
  const bool shared = count > 1 && !workers_.empty();
  if (shared) {
    {
      std::lock_guard lock(mutex_);
      gate_.store((gate_.load() / kRun + 1) * kRun + kOpen);
    }
    wake_.notify_all();
  }
  work(caller_scratch_);
  if (shared) {
    // Waits for workers that joined, not for those that another process keeps from running.
    gate_.fetch_and(~kOpen);
    const auto left = [this] { return (gate_.load() & kInside) == 0; };
    if (!spin_until(left)) {
      std::unique_lock lock(mutex_);
      done_.wait(lock, left);
    }
  }
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::work(Scratch& scratch) {
  for (;;) {
    const int64_t task = next_.fetch_add(1, std::memory_order_relaxed);
    if (task >= count_) return;
    try {
      Scratch::Frame frame(scratch);
      task_(body_, task, scratch);
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      next_.store(count_, std::memory_order_relaxed);
    }
  }
}

void ThreadPool::worker_loop(uint64_t seen) {
  Scratch scratch;
  for (;;) {
    uint64_t gate = 0;
    const auto ready = [&] {
      gate = gate_.load();
      return stopping_.load() || ((gate & kOpen) != 0 && gate / kRun != seen);
    };
    if (!spin_until(ready)) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, ready);
    }
    if (stopping_.load()) return;
    if (!gate_.compare_exchange_strong(gate, gate + 1)) continue;  // another joined, or it closed: look again
    seen = gate / kRun;
    work(scratch);
    if ((gate_.fetch_sub(1) & (kOpen | kInside)) == 1) {
      std::lock_guard lock(mutex_);
      done_.notify_one();
    }
  }
}

}  // namespace hr::cpu
