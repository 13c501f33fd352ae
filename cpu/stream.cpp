#include "cpu/stream.h"

#include "cpu/spin.h"

namespace hr::cpu {

CpuStream::CpuStream(const KernelTable& kernels, Precision precision, int num_threads)
    : kernels_(kernels),
      precision_(precision),
      pool_(num_threads),
      slots_(new Slot[kCapacity]),
      thread_([this] { loop(); }) {}

CpuStream::~CpuStream() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  thread_.join();
}

// Sleeping and waking follow one pattern on both sides: the sleeper announces itself under the mutex, then
// checks again; the waker publishes first, then looks for the announcement. Sequential consistency of these
// four accesses rules out a lost wake-up, and nobody takes the mutex while both sides are busy.
CpuStream::Slot& CpuStream::acquire() {
  const uint64_t index = pushed_.load(std::memory_order_relaxed);
  const auto has_room = [&] { return index - finished_.load() < kCapacity; };
  if (!has_room() && !spin_until(has_room)) {
    std::unique_lock lock(mutex_);
    producer_sleeps_ = true;
    progress_.wait(lock, has_room);
    producer_sleeps_ = false;
  }
  return slots_[index % kCapacity];
}

void CpuStream::publish() {
  pushed_.fetch_add(1);
  if (consumer_sleeps_.load()) {
    { std::lock_guard lock(mutex_); }
    work_.notify_one();
  }
}

void CpuStream::wait_idle() {
  const uint64_t target = pushed_.load(std::memory_order_relaxed);
  const auto reached = [&] { return finished_.load() >= target; };
  if (spin_until(reached)) return;
  std::unique_lock lock(mutex_);
  producer_sleeps_ = true;
  progress_.wait(lock, reached);
  producer_sleeps_ = false;
}

void CpuStream::set_num_threads(int num_threads) {
  wait_idle();  // nobody else uses the pool now
  pool_.resize(num_threads);
}

void CpuStream::acknowledge_error() {
  if (epoch_ <= failed_epoch_.load()) epoch_ = failed_epoch_.load() + 1;
}

void CpuStream::loop() {
  Context context{pool_, pool_.scratch(), precision_};
  uint64_t index = 0;
  const auto ready = [&] { return stopping_.load() || pushed_.load() != index; };
  for (;;) {
    if (!spin_until(ready)) {
      std::unique_lock lock(mutex_);
      consumer_sleeps_ = true;
      work_.wait(lock, ready);
      consumer_sleeps_ = false;
    }
    const bool stop = stopping_.load();
    if (pushed_.load() == index) return;  // stopping, and nothing is left to destroy
    Slot& slot = slots_[index % kCapacity];
    const bool failed = slot.epoch == failed_epoch_.load(std::memory_order_relaxed);
    const auto fail = [&](Error error) {
      if (failed) return;
      error_ = std::move(error);
      failed_epoch_ = slot.epoch;
    };
    try {
      Scratch::Frame frame(context.workspace);
      slot.run(slot.bytes, stop ? nullptr : &context, failed ? &*error_ : nullptr);
    } catch (const Error& error) {
      fail(error);
    } catch (const std::bad_alloc&) {
      fail(Error(ErrorKind::out_of_memory, "stream", "", "no memory for workspace"));
    } catch (const std::exception& error) {
      fail(Error(ErrorKind::internal, "stream", "", error.what()));
    }
    ++index;
    finished_.store(index);
    if (producer_sleeps_.load()) {
      { std::lock_guard lock(mutex_); }
      progress_.notify_one();
    }
  }
}

}  // namespace hr::cpu
