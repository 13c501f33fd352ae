// stream: the CPU backend's queue. One producer (the thread of the JavaScript environment) pushes work, one
// thread of its own runs it in order and fans each kernel out over the pool.
//
//   push -> [ slot | slot | ... ] -> run        kCapacity slots, work stored in place: no allocation per op
//
// A failed op makes what follows it meaningless. Everything queued before JavaScript heard of the failure is
// skipped, parameter updates included, and every completion among it gets the error; acknowledge_error()
// starts a new epoch, whose work runs again.
//
// The queue is bounded: push waits when it is full. Training loops await a result every step and stay far
// below the bound; it is there so that a loop that never awaits cannot eat all memory.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>

#include "cpu/kernel.h"
#include "ops/backend.h"

namespace hr::cpu {

class CpuStream final : public Stream {
 public:
  CpuStream(const KernelTable& kernels, Precision precision, int num_threads);
  ~CpuStream() override;  // finishes the running op, drops the rest

  const KernelTable& kernels() const { return kernels_; }
  Precision precision() const { return precision_; }
  int num_threads() const { return pool_.num_threads(); }

  // Queues work(context). What it captures is destroyed on the stream's thread, right after it ran.
  template <typename Work>
  void push(Work&& work) {
    place(std::forward<Work>(work), [](auto& stored, Context& context, const Error* failure) {
      if (!failure) stored(context);
    });
  }
  // Queues work(failure), which runs even after a failed op: null, or the error of its epoch.
  template <typename Work>
  void push_always(Work&& work) {
    place(std::forward<Work>(work), [](auto& stored, Context&, const Error* failure) { stored(failure); });
  }

  void wait_idle();
  void set_num_threads(int num_threads);  // waits first; throws Error{device}
  // While the stream is idle: the error of the current epoch.
  std::optional<Error> error() const { return failed_epoch_ == epoch_ ? error_ : std::nullopt; }
  void acknowledge_error();

 private:
  static constexpr size_t kSlotBytes = 1152;  // the largest parameter struct and its kernel pointer
  static constexpr uint64_t kCapacity = 4096;
  struct Slot {
    alignas(std::max_align_t) std::byte bytes[kSlotBytes];
    void (*run)(void* bytes, Context* context, const Error* failure);  // null context: destroy only
    uint64_t epoch;
  };

  template <typename Work, typename Run>
  void place(Work&& work, Run) {
    using Stored = std::decay_t<Work>;
    static_assert(sizeof(Stored) <= kSlotBytes && std::is_empty_v<Run>);
    Slot& slot = acquire();
    new (slot.bytes) Stored(std::forward<Work>(work));
    slot.run = [](void* bytes, Context* context, const Error* failure) {
      Stored& stored = *std::launder(static_cast<Stored*>(bytes));
      struct Destroy {
        Stored& stored;
        ~Destroy() { stored.~Stored(); }
      } destroy{stored};
      if (context) Run{}(stored, *context, failure);
    };
    slot.epoch = epoch_;
    publish();
  }

  Slot& acquire();
  void publish();
  void loop();

  const KernelTable& kernels_;
  const Precision precision_;
  ThreadPool pool_;
  std::unique_ptr<Slot[]> slots_;
  std::atomic<uint64_t> pushed_{0}, finished_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> consumer_sleeps_{false}, producer_sleeps_{false};
  std::mutex mutex_;
  std::condition_variable work_, progress_;
  uint64_t epoch_ = 1;  // the producer's
  std::atomic<uint64_t> failed_epoch_{0};
  std::optional<Error> error_;  // of failed_epoch_; the stream's thread, or idle
  std::thread thread_;          // last: it uses everything above
};

}  // namespace hr::cpu
