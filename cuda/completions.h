// completions: tells the host when the stream has reached a point, from a thread of its own.
//
// Each point is an event and a block of pinned memory. The thread waits for the events in order, copies what
// was downloaded to where it belongs, reports, and gives back what the point held. It also keeps uploads
// alive until they have left the host.
//
// What has no room in pinned memory passes through one more block of it, piece by piece: the stream calls the
// host to copy a piece into the block or out of it. The stream waits for these copies, the caller does not.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>

#include "cuda/failure.h"
#include "cuda/pinned_memory.h"
#include "ops/backend.h"

namespace hr::cuda {

class Completions {
 public:
  Completions(int device, cudaStream_t stream, const FailureRecord* failure);
  ~Completions();  // waits for the stream; drops what was not reported

  void upload(void* to, const void* from, size_t bytes);
  // Reports when the stream gets here. Unless an op failed, the bytes are in `to` then.
  void download(void* to, const void* from, size_t bytes, std::unique_ptr<Completion> done);
  // `*seconds`: since the first timestamp, on the device's clock.
  void timestamp(double* seconds, std::unique_ptr<Completion> done);

  uint64_t last_failed_ticket() const { return last_failed_ticket_; }  // that a completion reported

 private:
  struct Destroy {
    void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
  };
  using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, Destroy>;

  struct WaitFor {
    void operator()(cudaStream_t stream) const { cudaStreamSynchronize(stream); }
  };
  using PendingCopies = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, WaitFor>;

  // A copy between the shared block and other memory of the host, made when the stream gets there.
  struct HostCopy {
    void* to;
    const void* from;
    size_t bytes;
  };

  struct Point {
    Event event;
    PinnedMemory::Block pinned;  // FailureRecord (when something is reported), then the bytes
    void* to = nullptr;
    size_t bytes = 0;
    std::unique_ptr<std::byte[]> uploaded;  // in pieces
    std::list<HostCopy> copies;             // the stream holds their addresses
    double* seconds = nullptr;              // where a timestamp goes
    std::unique_ptr<Completion> done;
    PendingCopies pending;  // until it is queued. Last: waits before what the copies use is given back
  };
  Point new_point(size_t pinned_bytes, bool timed = false);
  void copy_on_host(Point& point, const HostCopy& copy);
  std::byte* shared_block();
  void queue(Point point);
  void loop(int device);
  void report(Point& point, cudaError_t status);
  cudaError_t read_clock(Point& point);

  const cudaStream_t stream_;
  const FailureRecord* const failure_;
  std::atomic<uint64_t> last_failed_ticket_{0};
  PinnedMemory pinned_;
  PinnedMemory::Block shared_block_;  // used in the order of the stream
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Point> queue_;
  bool stopping_ = false;
  Event last_timestamp_;  // what follows is the thread's alone
  double last_seconds_ = 0;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace hr::cuda
