#include "cuda/device_memory.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "cuda/status.h"

namespace hr::cuda {

namespace {

std::string mib(size_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

}  // namespace

DeviceMemory::DeviceMemory(int device, cudaStream_t stream, size_t limit_bytes)
    : stream_(stream), limit_bytes_(limit_bytes) {
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;  // the name for ordinary device memory
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = device;
  check(cudaMemPoolCreate(&pool_, &properties));
  uint64_t keep = UINT64_MAX;  // keep what is released: a training step asks for the same sizes again
  check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep));
}

DeviceMemory::~DeviceMemory() { cudaMemPoolDestroy(pool_); }

cudaError_t DeviceMemory::try_allocate(void** data, size_t bytes) {
  if (live_bytes_ + bytes > limit_bytes_) return cudaErrorMemoryAllocation;
  return cudaMallocFromPoolAsync(data, std::max<size_t>(bytes, 1), pool_, stream_);
}

void* DeviceMemory::allocate(size_t bytes) {
  void* data = nullptr;
  cudaError_t status = try_allocate(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // forgets it
    check(cudaStreamSynchronize(stream_));
    check(cudaMemPoolTrimTo(pool_, 0));
    status = try_allocate(&data, bytes);
  }
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw Error(ErrorKind::out_of_memory, "allocate", "",
                "a tensor needs " + mib(bytes) + ", but " + mib(live_bytes_) + " of " + mib(limit_bytes_) +
                    " of the GPU are in use here");
  }
  check(status);
  live_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, live_bytes_);
  return data;
}

void DeviceMemory::release(void* data, size_t bytes) {
  cudaFreeAsync(data, stream_);  // after an error of the device there is nothing to be done about another
  live_bytes_ -= bytes;
}

Backend::MemoryStats DeviceMemory::stats() const {
  uint64_t reserved = 0;
  cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrReservedMemCurrent, &reserved);
  const size_t pooled = reserved > live_bytes_ ? static_cast<size_t>(reserved) - live_bytes_ : 0;
  return {live_bytes_, peak_bytes_, pooled};
}

}  // namespace hr::cuda
