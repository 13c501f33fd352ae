// status: errors of the CUDA runtime as hr::Error.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "ops/error.h"

namespace hr::cuda {

// Kernels run after the call that queued them: an error may be reported by whatever asks next.
inline Error device_error(cudaError_t status, const std::string& what = "") {
  return Error(
      ErrorKind::internal, "cuda", "",
      what + cudaGetErrorString(status) +
          ". It may come from an earlier op; with HYPERROUTER_CUDA_SYNC=1 in the environment each op "
          "waits for its kernels, so that the op that fails is the one that is reported");
}

inline void check(cudaError_t status) {
  if (status != cudaSuccess) throw device_error(status);
}

}  // namespace hr::cuda
