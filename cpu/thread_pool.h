// thread_pool: runs numbered tasks on a few threads. The caller is one of them.
//
// Tasks are claimed in any order by any thread. A kernel's result must therefore not depend on who runs
// what: tasks write disjoint outputs, or partial results that the caller adds up in task order.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "cpu/scratch.h"

namespace hr::cpu {

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);  // throws Error{device} when the system refuses a thread
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }
  void resize(int num_threads);  // not while run() is active; as the constructor, and then has one thread

  // Calls fn(task, scratch) for task = 0 .. count - 1 and returns when all have ended. Each call gets a
  // fresh Frame of its thread's scratch. The first exception is rethrown once all threads have stopped.
  template <typename Fn>
  void run(int64_t count, Fn&& fn) {
    using Body = std::remove_reference_t<Fn>;
    run_tasks(
        count, [](void* body, int64_t task, Scratch& scratch) { (*static_cast<Body*>(body))(task, scratch); },
        const_cast<void*>(static_cast<const void*>(std::addressof(fn))));
  }

  Scratch& scratch() { return caller_scratch_; }  // the calling thread's

 private:
  using Task = void (*)(void* body, int64_t task, Scratch& scratch);
  void run_tasks(int64_t count, Task task, void* body);
  void work(Scratch& scratch);
  void worker_loop(uint64_t seen);
  void start(int num_workers);
  void stop();

  Scratch caller_scratch_;
  Task task_ = nullptr;
  void* body_ = nullptr;
  int64_t count_ = 0;
  std::atomic<int64_t> next_{0};
  std::atomic<uint64_t> gate_{0};  // see thread_pool.cpp
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::exception_ptr error_;
  std::vector<std::thread> workers_;  // last: the threads use everything above
};

}  // namespace hr::cpu
