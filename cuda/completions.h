// completions: tells the host when the stream has reached a point, from a thread of its own.
//
// Each point is an event and a block of pinned memory. The thread waits for the events in order, copies what
// was downloaded to where it belongs, reports, and reuses event and block. It also keeps uploads alive until
// they have left the host.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "cuda/failure.h"
#include "ops/backend.h"

namespace hr::cuda {

class Completions {
 public:
  Completions(int device, cudaStream_t stream, const FailureRecord* failure);
  ~Completions();  // waits for the stream; drops what was not reported

  void upload(void* to, const void* from, size_t bytes);
  // Reports when the stream gets here; copies `bytes` from the device before, unless an op failed.
  void download(void* to, const void* from, size_t bytes, std::unique_ptr<Completion> done);
  // `*seconds`: since the first timestamp, on the device's clock.
  void timestamp(double* seconds, std::unique_ptr<Completion> done);

  uint64_t last_failed_ticket() const { return last_failed_ticket_; }  // that a completion reported

 private:
  struct Point {
    cudaEvent_t event = nullptr;
    std::byte* pinned = nullptr;  // FailureRecord (when something is reported), then the bytes
    size_t pinned_bytes = 0;
    void* to = nullptr;
    size_t bytes = 0;
    double* seconds = nullptr;  // where a timestamp goes
    std::unique_ptr<Completion> done;
  };
  Point new_point(size_t pinned_bytes, double* seconds = nullptr);
  void queue(Point point);
  void loop(int device);
  void report(Point& point, cudaError_t status);
  cudaError_t read_clock(Point& point);
  void recycle(Point& point);

  const cudaStream_t stream_;
  const FailureRecord* const failure_;
  std::atomic<uint64_t> last_failed_ticket_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Point> queue_;
  std::vector<cudaEvent_t> events_;                  // unused, without timing
  std::multimap<size_t, std::byte*> pinned_blocks_;  // unused, by size
  bool stopping_ = false;
  cudaEvent_t last_timestamp_ = nullptr;  // what follows is the thread's alone
  double last_seconds_ = 0;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace hr::cuda
