// The functions of include/cuda_runtime.h, and launch() of include/cuda/intrinsics.h.
#include <cuda_runtime.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "test/emulator/block.h"
#include "test/emulator/device_memory.h"
#include "test/emulator/launch.h"
#include "test/emulator/resources.h"

using hr::emulator::CopyTiming;
using hr::emulator::DeviceMemory;
using hr::emulator::Resources;

namespace {

constexpr CopyTiming kDevices[] = {CopyTiming::random, CopyTiming::late, CopyTiming::early};
// So many that the second device takes small tiles where the others take large ones.
constexpr int kNumMultiprocessors[] = {4, 1000, 4};
constexpr const char* kDeviceNames[] = {"emulator", "emulator, late copies", "emulator, early copies"};
constexpr int kNumDevices = 3;
constexpr int kRuntimeVersion = 13000;

thread_local int current_device = 0;

bool is_refused(const char* function) { return Resources::instance().is_refused(function); }

// Texts of faults, kept for cudaGetErrorString.
std::mutex fault_mutex;
std::string last_fault;

}  // namespace

struct EmulatedEvent {
  std::mutex mutex;
  std::condition_variable changed;
  bool reached = true;
  bool timed = false;
  std::chrono::steady_clock::time_point time;
  cudaError_t status = cudaSuccess;
};

// Work runs in order on a thread. After a fault nothing but events and releases does anything, like on a GPU.
struct EmulatedStream {
  using Work = std::function<void(EmulatedStream&)>;

  explicit EmulatedStream(int device) : copies(kDevices[device]), thread([this] { loop(); }) {}
  ~EmulatedStream() {
    push([](EmulatedStream& stream) { stream.stopping = true; });
    thread.join();
  }

  void push(Work work) {
    {
      const std::lock_guard lock(mutex);
      queue.push_back(std::move(work));
    }
    changed.notify_one();
  }

  void loop() {
    while (!stopping) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [this] { return !queue.empty(); });
      const Work work = std::move(queue.front());
      queue.pop_front();
      lock.unlock();
      work(*this);
    }
  }

  void fault(const std::string& text) {
    status = cudaErrorLaunchFailure;
    const std::lock_guard lock(fault_mutex);
    last_fault = text;
  }

  const CopyTiming copies;
  uint64_t launches = 0;
  bool stopping = false;
  cudaError_t status = cudaSuccess;  // of the stream's thread
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Work> queue;
  std::thread thread;  // last: it uses everything above
};

namespace {

void record(cudaEvent_t event, cudaStream_t stream) {
  {
    const std::lock_guard lock(event->mutex);
    event->reached = false;
  }
  stream->push([event](EmulatedStream& self) {
    // Under the lock: whoever waits may destroy the event as soon as it is released.
    const std::lock_guard lock(event->mutex);
    event->reached = true;
    event->time = std::chrono::steady_clock::now();
    event->status = self.status;
    event->changed.notify_all();
  });
}

}  // namespace

namespace hr::emulator {

namespace {

uint64_t base_seed() {
  const char* text = std::getenv("HYPERROUTER_EMULATOR_SEED");
  return text ? std::strtoull(text, nullptr, 10) : 1;
}

}  // namespace

void enqueue(cudaStream_t stream, Launch launch) {
  launch.copies = stream->copies;
  static const uint64_t seed = base_seed();
  launch.seed = seed * 1000003 + ++stream->launches;
  stream->push([launch = std::move(launch)](EmulatedStream& self) {
    if (self.status != cudaSuccess) return;
    try {
      run_grid(launch);
      const std::string damage = DeviceMemory::instance().damage();
      if (!damage.empty()) self.fault("kernel " + launch.kernel + " " + damage);
    } catch (const Fault& fault) {
      self.fault(fault.what());
    }
  });
}

}  // namespace hr::emulator

// HYPERROUTER_EMULATOR_DRIVER=12040 is a driver for CUDA 12.4, 0 is none.
cudaError_t cudaDriverGetVersion(int* version) {
  const char* text = std::getenv("HYPERROUTER_EMULATOR_DRIVER");
  *version = text ? std::atoi(text) : kRuntimeVersion;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kRuntimeVersion;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (driver < kRuntimeVersion) return cudaErrorInsufficientDriver;
  *count = kNumDevices;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= kNumDevices) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  std::memset(properties, 0, sizeof *properties);
  std::strcpy(properties->name, kDeviceNames[device]);
  properties->totalGlobalMem = size_t{4} << 30;
  properties->major = 8;
  properties->multiProcessorCount = kNumMultiprocessors[device];
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t error) {
  static thread_local std::string text;
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorLaunchFailure: {
      const std::lock_guard lock(fault_mutex);
      text = last_fault;
      return text.c_str();
    }
    default:
      return "invalid argument";
  }
}
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new EmulatedStream(current_device);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  EmulatedEvent event;
  record(&event, stream);
  return cudaEventSynchronize(&event);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (is_refused(__func__)) return cudaErrorInvalidValue;
  Resources::instance().count_events(1);
  *event = new EmulatedEvent;
  (*event)->timed = !(flags & cudaEventDisableTiming);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Resources::instance().count_events(-1);
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (is_refused(__func__)) return cudaErrorInvalidValue;
  record(event, stream);
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  std::unique_lock lock(event->mutex);
  event->changed.wait(lock, [event] { return event->reached; });
  return event->status;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  for (const cudaEvent_t event : {from, to}) {
    const std::lock_guard lock(event->mutex);
    if (!event->timed || !event->reached) return cudaErrorInvalidValue;
  }
  *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** data, size_t bytes) {
  if (is_refused(__func__)) return cudaErrorMemoryAllocation;
  *data = Resources::instance().pin(bytes);
  return *data ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* data) {
  Resources::instance().unpin(data);
  return cudaSuccess;
}

// Nothing is pooled: every allocation is new, so that its bytes are undefined and its bounds exact.
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  *pool = nullptr;
  return cudaSuccess;
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t) { return cudaSuccess; }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void* value) {
  *static_cast<uint64_t*>(value) = 0;
  return cudaSuccess;
}
cudaError_t cudaMallocFromPoolAsync(void** data, size_t bytes, cudaMemPool_t, cudaStream_t) {
  *data = DeviceMemory::instance().allocate(bytes);
  return *data ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  stream->push([data](EmulatedStream&) { DeviceMemory::instance().release(data); });
  return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  if (is_refused(__func__)) return cudaErrorInvalidValue;
  stream->push([=](EmulatedStream& self) {
    if (self.status == cudaSuccess) std::memcpy(to, from, bytes);
  });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  stream->push([=](EmulatedStream& self) {
    if (self.status == cudaSuccess) std::memset(data, value, bytes);
  });
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument) {
  if (is_refused(__func__)) return cudaErrorInvalidValue;
  stream->push([=](EmulatedStream& self) {
    if (self.status == cudaSuccess) function(argument);
  });
  return cudaSuccess;
}
