// backend: an NVIDIA GPU as a device.
#pragma once

#include <memory>
#include <string>

#include "ops/backend.h"
#include "ops/precision.h"

namespace hr::cuda {

struct Config {
  int device = 0;           // index among the GPUs that the driver shows
  size_t memory_limit = 0;  // bytes of tensors; 0: the GPU's memory
  Precision precision = Precision::f32;
  bool poison_memory = false;  // fill new tensors with NaN, so that a kernel that forgets an output shows
};

// GPUs that open_backend() takes; 0 where there is no GPU or no usable driver.
int num_devices();

// Throws Error{device} with cause and fix when there is no usable GPU.
std::unique_ptr<Backend> open_backend(const Config& config);

}  // namespace hr::cuda
