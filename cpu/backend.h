// backend: the CPU as a device, and the reference device that tests compare against.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/backend.h"
#include "ops/precision.h"

namespace hr::cpu {

struct Config {
  std::string isa;          // "", or one of available_isas(); "" picks the best one
  int num_threads = 0;      // 0: one per core
  size_t memory_limit = 0;  // bytes of tensors; 0: the machine's memory
  Precision precision = Precision::f32;
  bool poison_memory = false;  // fill new tensors with NaN, so that a kernel that forgets an output shows
};

// Instruction sets this build has and this machine runs, best first: "avx512", "avx2", "neon", "plain".
// The last is "reference": plain loops in double over f64 tensors.
std::vector<std::string> available_isas();

// Throws Error{device} for an instruction set that is not available.
std::unique_ptr<Backend> open_backend(const Config& config);

}  // namespace hr::cpu
