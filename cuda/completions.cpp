#include "cuda/completions.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "cuda/status.h"
#include "ops/index_error.h"

namespace hr::cuda {

namespace {

constexpr size_t kPieceBytes = PinnedMemory::kLargestBlock;
constexpr size_t kRecordBytes = 64;  // of a FailureRecord, keeping what follows aligned
static_assert(sizeof(FailureRecord) <= kRecordBytes);

Error error_of(const FailureRecord& failure) {
  return index_error(failure.op, failure.arg, static_cast<int64_t>(failure.entry >> 32),
                     static_cast<int32_t>(failure.entry), failure.low, failure.high);
}

// Calls piece(offset, bytes) for one piece after the other.
template <typename Piece>
void for_each_piece(size_t bytes, Piece&& piece) {
  for (size_t offset = 0; offset < bytes; offset += kPieceBytes)
    piece(offset, std::min(kPieceBytes, bytes - offset));
}

}  // namespace

Completions::Completions(int device, cudaStream_t stream, const FailureRecord* failure)
    : stream_(stream), failure_(failure), thread_([this, device] { loop(device); }) {}

Completions::~Completions() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Completions::upload(void* to, const void* from, size_t bytes) {
  const bool has_room = pinned_.has_room(bytes);
  Point point = new_point(has_room ? bytes : 0);
  if (has_room) {
    std::memcpy(point.pinned.get(), from, bytes);
    check(cudaMemcpyAsync(to, point.pinned.get(), bytes, cudaMemcpyHostToDevice, stream_));
  } else {
    std::byte* const block = shared_block();
    point.uploaded.reset(new std::byte[bytes]);
    std::memcpy(point.uploaded.get(), from, bytes);
    for_each_piece(bytes, [&](size_t offset, size_t size) {
      copy_on_host(point, {block, point.uploaded.get() + offset, size});
      check(cudaMemcpyAsync(static_cast<std::byte*>(to) + offset, block, size, cudaMemcpyHostToDevice,
                            stream_));
    });
  }
  queue(std::move(point));
}

void Completions::download(void* to, const void* from, size_t bytes, std::unique_ptr<Completion> done) {
  const bool has_room = pinned_.has_room(kRecordBytes + bytes);
  Point point = new_point(kRecordBytes + (has_room ? bytes : 0));
  point.done = std::move(done);
  std::byte* const pinned = point.pinned.get();
  check(cudaMemcpyAsync(pinned, failure_, sizeof(FailureRecord), cudaMemcpyDeviceToHost, stream_));
  if (has_room) {
    point.to = to;
    point.bytes = bytes;
    if (bytes) check(cudaMemcpyAsync(pinned + kRecordBytes, from, bytes, cudaMemcpyDeviceToHost, stream_));
  } else {
    std::byte* const block = shared_block();
    for_each_piece(bytes, [&](size_t offset, size_t size) {
      check(cudaMemcpyAsync(block, static_cast<const std::byte*>(from) + offset, size, cudaMemcpyDeviceToHost,
                            stream_));
      copy_on_host(point, {static_cast<std::byte*>(to) + offset, block, size});
    });
  }
  queue(std::move(point));
}

void Completions::timestamp(double* seconds, std::unique_ptr<Completion> done) {
  Point point = new_point(kRecordBytes, true);
  point.seconds = seconds;
  point.done = std::move(done);
  check(
      cudaMemcpyAsync(point.pinned.get(), failure_, sizeof(FailureRecord), cudaMemcpyDeviceToHost, stream_));
  queue(std::move(point));
}

Completions::Point Completions::new_point(size_t pinned_bytes, bool timed) {
  Point point;
  point.pinned = pinned_.take(pinned_bytes);
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventBlockingSync | (timed ? 0 : cudaEventDisableTiming)));
  point.event.reset(event);
  point.pending.reset(stream_);
  return point;
}

void Completions::copy_on_host(Point& point, const HostCopy& copy) {
  const auto run = [](void* argument) {
    const auto& [to, from, bytes] = *static_cast<const HostCopy*>(argument);
    std::memcpy(to, from, bytes);
  };
  check(cudaLaunchHostFunc(stream_, run, &point.copies.emplace_back(copy)));
}

std::byte* Completions::shared_block() {
  if (!shared_block_) shared_block_ = pinned_.take(kPieceBytes);
  return shared_block_.get();
}

void Completions::queue(Point point) {
  check(cudaEventRecord(point.event.get(), stream_));
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(point));
    queue_.back().pending.release();  // the thread waits for the event
  }
  changed_.notify_one();
}

void Completions::loop(int device) {
  cudaSetDevice(device);
  for (;;) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Point point = std::move(queue_.front());
    queue_.pop_front();
    const bool dropped = stopping_;
    lock.unlock();
    const cudaError_t status = cudaEventSynchronize(point.event.get());
    if (point.done && !dropped) report(point, status);
  }
}

void Completions::report(Point& point, cudaError_t status) {
  std::optional<Error> error;
  if (status == cudaSuccess && point.seconds) status = read_clock(point);
  if (status != cudaSuccess) {
    error = device_error(status);
  } else {
    FailureRecord failure;
    std::memcpy(&failure, point.pinned.get(), sizeof failure);
    if (failure.ticket != UINT64_MAX) {
      error = error_of(failure);
      last_failed_ticket_ = failure.ticket;
    } else if (point.bytes) {
      std::memcpy(point.to, point.pinned.get() + kRecordBytes, point.bytes);
    }
  }
  point.done->done(std::move(error));
}

// Adds up the times between timestamps: single precision is enough for each, but not for their sum.
cudaError_t Completions::read_clock(Point& point) {
  float milliseconds = 0;
  if (last_timestamp_) {
    const cudaError_t status = cudaEventElapsedTime(&milliseconds, last_timestamp_.get(), point.event.get());
    if (status != cudaSuccess) return status;
  }
  last_seconds_ += static_cast<double>(milliseconds) / 1e3;
  last_timestamp_ = std::move(point.event);
  *point.seconds = last_seconds_;
  return cudaSuccess;
}

}  // namespace hr::cuda
