// device_memory: tensors and workspace of one device, from a stream-ordered pool of the CUDA runtime.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "ops/backend.h"

namespace hr::cuda {

class DeviceMemory {
 public:
  DeviceMemory(int device, cudaStream_t stream, size_t limit_bytes);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // Aligned to 256 bytes, uninitialised. Throws Error{out_of_memory}.
  void* allocate(size_t bytes);
  void release(void* data, size_t bytes);

  Backend::MemoryStats stats() const;
  void reset_peak() { peak_bytes_ = live_bytes_; }

 private:
  cudaError_t try_allocate(void** data, size_t bytes);

  const cudaStream_t stream_;
  const size_t limit_bytes_;
  cudaMemPool_t pool_ = nullptr;
  size_t live_bytes_ = 0, peak_bytes_ = 0;
};

}  // namespace hr::cuda
