#include "cuda/context.h"

#include <cstdlib>
#include <string>

#include "cuda/device_memory.h"
#include "cuda/status.h"

namespace hr::cuda {

void* Context::workspace_bytes(size_t bytes) {
  if (num_blocks_ == kMostBlocks) {
    throw Error(ErrorKind::internal, "cuda", "", "an op asked for more than 16 blocks of workspace");
  }
  void* data = memory_.allocate(bytes);
  blocks_[num_blocks_++] = {data, bytes};
  return data;
}

void Context::release_workspace(int num_left) {
  while (num_blocks_ > num_left) {
    --num_blocks_;
    memory_.release(blocks_[num_blocks_].data, blocks_[num_blocks_].bytes);
  }
}

void Context::after_launch(const char* kernel) {
  static const char* const wanted = std::getenv("HYPERROUTER_CUDA_SYNC");
  if (!wanted || *wanted == '\0' || *wanted == '0') return;
  const cudaError_t status = cudaStreamSynchronize(stream);
  if (status == cudaSuccess) return;
  throw Error(ErrorKind::internal, "cuda", "",
              std::string(kernel) + " failed: " + cudaGetErrorString(status));
}

}  // namespace hr::cuda
