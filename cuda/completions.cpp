#include "cuda/completions.h"

#include <cstring>
#include <utility>

#include "cuda/status.h"
#include "ops/index_error.h"

namespace hr::cuda {

namespace {

constexpr size_t kSmallestBlock = 4096, kLargestKept = size_t{64} << 20;  // of pinned memory
constexpr size_t kRecordBytes = 64;  // of a FailureRecord, keeping what follows aligned
static_assert(sizeof(FailureRecord) <= kRecordBytes);

size_t rounded(size_t bytes) {
  if (bytes > kLargestKept) return bytes;
  size_t size = kSmallestBlock;
  while (size < bytes) size *= 2;
  return size;
}

Error error_of(const FailureRecord& failure) {
  return index_error(failure.op, failure.arg, static_cast<int64_t>(failure.entry >> 32),
                     static_cast<int32_t>(failure.entry), failure.low, failure.high);
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
  for (const cudaEvent_t event : events_) cudaEventDestroy(event);
  if (last_timestamp_) cudaEventDestroy(last_timestamp_);
  for (const auto& [bytes, data] : pinned_blocks_) cudaFreeHost(data);
}

void Completions::upload(void* to, const void* from, size_t bytes) {
  Point point = new_point(bytes);
  std::memcpy(point.pinned, from, bytes);
  check(cudaMemcpyAsync(to, point.pinned, bytes, cudaMemcpyHostToDevice, stream_));
  queue(std::move(point));
}

void Completions::download(void* to, const void* from, size_t bytes, std::unique_ptr<Completion> done) {
  Point point = new_point(kRecordBytes + bytes);
  point.to = to;
  point.bytes = bytes;
  point.done = std::move(done);
  check(cudaMemcpyAsync(point.pinned, failure_, sizeof(FailureRecord), cudaMemcpyDeviceToHost, stream_));
  if (bytes)
    check(cudaMemcpyAsync(point.pinned + kRecordBytes, from, bytes, cudaMemcpyDeviceToHost, stream_));
  queue(std::move(point));
}

void Completions::timestamp(double* seconds, std::unique_ptr<Completion> done) {
  Point point = new_point(kRecordBytes, seconds);
  point.done = std::move(done);
  check(cudaMemcpyAsync(point.pinned, failure_, sizeof(FailureRecord), cudaMemcpyDeviceToHost, stream_));
  queue(std::move(point));
}

Completions::Point Completions::new_point(size_t pinned_bytes, double* seconds) {
  Point point;
  point.pinned_bytes = rounded(pinned_bytes);
  point.seconds = seconds;
  {
    const std::lock_guard lock(mutex_);
    if (!seconds && !events_.empty()) {
      point.event = events_.back();
      events_.pop_back();
    }
    const auto block = pinned_blocks_.find(point.pinned_bytes);
    if (block != pinned_blocks_.end()) {
      point.pinned = block->second;
      pinned_blocks_.erase(block);
    }
  }
  if (!point.event) {
    const unsigned timing = seconds ? 0 : cudaEventDisableTiming;
    check(cudaEventCreateWithFlags(&point.event, cudaEventBlockingSync | timing));
  }
  if (!point.pinned) {
    void* data = nullptr;
    if (cudaMallocHost(&data, point.pinned_bytes) != cudaSuccess) {
      cudaGetLastError();
      throw Error(ErrorKind::out_of_memory, "cuda", "",
                  "no pinned host memory for " + std::to_string(point.pinned_bytes) + " bytes");
    }
    point.pinned = static_cast<std::byte*>(data);
  }
  return point;
}

void Completions::queue(Point point) {
  check(cudaEventRecord(point.event, stream_));
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(point));
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
    const cudaError_t status = cudaEventSynchronize(point.event);
    if (point.done && !dropped) report(point, status);
    recycle(point);
  }
}

void Completions::report(Point& point, cudaError_t status) {
  std::optional<Error> error;
  if (status == cudaSuccess && point.seconds) status = read_clock(point);
  if (status != cudaSuccess) {
    error = device_error(status);
  } else {
    FailureRecord failure;
    std::memcpy(&failure, point.pinned, sizeof failure);
    if (failure.ticket != UINT64_MAX) {
      error = error_of(failure);
      last_failed_ticket_ = failure.ticket;
    } else if (point.bytes) {
      std::memcpy(point.to, point.pinned + kRecordBytes, point.bytes);
    }
  }
  point.done->done(std::move(error));
  point.done.reset();
}

// Adds up the times between timestamps: single precision is enough for each, but not for their sum.
cudaError_t Completions::read_clock(Point& point) {
  float milliseconds = 0;
  if (last_timestamp_) {
    const cudaError_t status = cudaEventElapsedTime(&milliseconds, last_timestamp_, point.event);
    if (status != cudaSuccess) return status;
  }
  last_seconds_ += static_cast<double>(milliseconds) / 1e3;
  std::swap(last_timestamp_, point.event);
  *point.seconds = last_seconds_;
  return cudaSuccess;
}

void Completions::recycle(Point& point) {
  const bool keep = point.pinned_bytes <= kLargestKept;
  if (!keep) cudaFreeHost(point.pinned);
  if (point.seconds && point.event) cudaEventDestroy(point.event);
  const std::lock_guard lock(mutex_);
  if (!point.seconds) events_.push_back(point.event);
  if (keep) pinned_blocks_.emplace(point.pinned_bytes, point.pinned);
}

}  // namespace hr::cuda
