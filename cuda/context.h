// context: what an op of the CUDA backend runs with. Valid for one op.
//
// An op (cuda/kernels/<family>.cu) is a function of a Context and its checked parameters. It launches kernels
// on the context's stream, in order, and returns at once; nothing in it may wait for the device.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/failure.h"
#include "ops/op_table.h"
#include "ops/precision.h"

namespace hr::cuda {

class DeviceMemory;

class Context {
 public:
  Context(DeviceMemory& memory, cudaStream_t stream, FailureRecord* failure, int num_multiprocessors,
          Precision precision)
      : stream(stream),
        failure(failure),
        num_multiprocessors(num_multiprocessors),
        precision(precision),
        memory_(memory) {}

  const cudaStream_t stream;
  FailureRecord* const failure;  // in device memory
  const int num_multiprocessors;
  const Precision precision;  // of matrix products

  // Uninitialised device memory, given back when the op has been queued: the next op may get it.
  template <typename T>
  T* workspace(int64_t count) {
    return static_cast<T*>(workspace_bytes(static_cast<size_t>(count) * sizeof(T)));
  }
  // Workspace taken while a Frame lives is given back when it ends.
  class Frame {
   public:
    explicit Frame(Context& ctx) : ctx_(ctx), num_blocks_(ctx.num_blocks_) {}
    ~Frame() { ctx_.release_workspace(num_blocks_); }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Context& ctx_;
    const int num_blocks_;
  };

  // Launches are numbered; see failure.h.
  uint64_t next_ticket() { return ++ticket_; }
  void after_launch(const char* kernel);  // under HYPERROUTER_CUDA_SYNC=1: waits, throws if the kernel failed
  uint64_t last_ticket() const { return ticket_; }

 private:
  void* workspace_bytes(size_t bytes);
  void release_workspace(int num_left);

  DeviceMemory& memory_;
  static constexpr int kMostBlocks = 16;
  struct Block {
    void* data;
    size_t bytes;
  };
  Block blocks_[kMostBlocks];
  int num_blocks_ = 0;
  uint64_t ticket_ = 0;
};

// What a table entry points at.
struct KernelTable {
#define HR_KERNEL_FIELD(op, Params) void (*op)(Context&, const Params&) = nullptr;
  HR_ALL_OPS(HR_KERNEL_FIELD)
#undef HR_KERNEL_FIELD
};

extern const KernelTable kKernels;

}  // namespace hr::cuda
