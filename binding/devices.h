// devices: the backends of this build. The only place in binding/ that knows them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ops/backend.h"
#include "ops/precision.h"

namespace hr::binding {

struct DeviceRequest {
  std::string kind;         // "cpu" or "cuda"
  std::string variant;      // cpu: an instruction set, or "" for the best one; cuda: the index of a GPU
  int num_threads = 0;      // of the cpu; 0: one per core
  size_t memory_limit = 0;  // bytes; 0: all the device has
  bool poison_memory = false;
  Precision precision = Precision::f32;
};

// Throws Error{device} for a kind that is not in this build, and for what the backend refuses.
std::unique_ptr<Backend> open_backend(const DeviceRequest& request);

std::vector<std::string> cpu_instruction_sets();  // best first

// How many GPUs can be opened; 0 where this build or machine has none.
int num_cuda_devices();

}  // namespace hr::binding
