#include "cpu/thread_pool.h"

#include <string>
#include <system_error>
#include <utility>

#include "cpu/spin.h"
#include "ops/error.h"

namespace hr::cpu {

ThreadPool::ThreadPool(int num_threads) { start(num_threads - 1); }

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::resize(int num_threads) {
  stop();
  start(num_threads - 1);
}

void ThreadPool::start(int num_workers) {
  stopping_ = false;
  // Read here, not in the thread: a run() may start before the thread does.
  const uint64_t seen = generation_.load(std::memory_order_relaxed);
  try {
    for (int i = 0; i < num_workers; ++i) workers_.emplace_back([this, seen] { worker_loop(seen); });
  } catch (const std::system_error& error) {
    stop();
    throw Error(ErrorKind::device, "threads", "threads",
                "the system refused thread " + std::to_string(workers_.size() + 1) + " of " +
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
      busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
  }
  work(caller_scratch_);
  if (shared) {
    const auto idle = [this] { return busy_.load(std::memory_order_acquire) == 0; };
    if (!spin_until(idle)) {
      std::unique_lock lock(mutex_);
      done_.wait(lock, idle);
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
    const auto ready = [&] {
      return stopping_.load(std::memory_order_relaxed) || generation_.load(std::memory_order_acquire) != seen;
    };
    if (!spin_until(ready)) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, ready);
    }
    const uint64_t generation = generation_.load(std::memory_order_acquire);
    if (generation == seen) return;  // stopping
    seen = generation;
    work(scratch);
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      std::lock_guard lock(mutex_);
      done_.notify_one();
    }
  }
}

}  // namespace hr::cpu
