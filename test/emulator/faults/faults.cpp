// faults: kernels that are wrong in the ways the emulator finds. Prints "name: what the emulator says" for
// each; faults.test.ts compares. The last one is right.
#include <cstdio>

#include "cuda/intrinsics.h"

namespace hr::cuda {

namespace {

struct Buffers {
  float* data;  // [64] in device memory
};

struct ReturnBeforeBarrier : Buffers {
  static constexpr int kThreads = 64;
  void operator()() const {
    if (thread_index() == 37) return;
    barrier();
  }
};

struct TwoBarriers : Buffers {
  static constexpr int kThreads = 64;
  void operator()() const {
    if (warp_index() == 0) {
      barrier();
    } else {
      barrier();
    }
  }
};

struct BarrierOfOneWarp : Buffers {
  static constexpr int kThreads = 64;
  void operator()() const {
    if (warp_index() == 0) {
      barrier();
    } else {
      warp_barrier();
      if (lane_index() < 16) warp_barrier();
    }
  }
};

struct DivergentWarp : Buffers {
  static constexpr int kThreads = 32;
  void operator()() const {
    if (lane_index() < 16) {
      warp_shuffle(1, 0);
    } else {
      warp_ballot(true);
    }
  }
};

struct SharedMemoryOverrun : Buffers {
  static constexpr int kThreads = 32;
  void operator()() const { shared_memory<float>()[thread_index() + 1] = 1; }  // of 32 floats
};

struct SharedMatrixOverrun : Buffers {
  static constexpr int kThreads = 32;
  void operator()() const {
    uint32_t r[4];
    warp_load_matrices(r, shared_memory<float>() + 4 * thread_index());
  }
};

struct GlobalOverrun : Buffers {
  static constexpr int kThreads = 96;
  void operator()() const { data[thread_index()] = 1; }
};

struct Misaligned : Buffers {
  static constexpr int kThreads = 32;
  void operator()() const { store4(data + thread_index(), {}); }
};

struct MisalignedCopy : Buffers {
  static constexpr int kThreads = 32;
  void operator()() const {
    copy_async16(shared_memory<float>(), data + 1, 16);
    copy_async_commit();
    copy_async_wait<0>();
  }
};

struct TooManyBytes : Buffers {
  static constexpr int kThreads = 32;
  void operator()() const { copy_async4(shared_memory<float>(), data, 8); }
};

struct CopyWithoutWait : Buffers {
  static constexpr int kThreads = 32;
  void operator()() const {
    copy_async4(shared_memory<float>() + thread_index(), data + thread_index(), 4);
    copy_async_commit();
  }
};

struct HalfAWarp : Buffers {
  static constexpr int kThreads = 48;
  void operator()() const {}
};

struct Right : Buffers {
  static constexpr int kThreads = 64;
  void operator()() const {
    copy_async4(shared_memory<float>() + thread_index() % 32, data + thread_index(), 4);
    copy_async_commit();
    copy_async_wait<0>();
    barrier();
    data[thread_index()] = warp_shuffle_xor(shared_memory<float>()[lane_index()], 1);
  }
};

template <typename Kernel>
void report(const char* name) {
  cudaStream_t stream;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  void *data, *failed_ticket;
  cudaMallocFromPoolAsync(&data, 64 * sizeof(float), nullptr, stream);
  cudaMallocFromPoolAsync(&failed_ticket, sizeof(uint64_t), nullptr, stream);
  const LaunchGuard guard{static_cast<const uint64_t*>(failed_ticket), 1};
  start_kernel(name, Kernel{{static_cast<float*>(data)}}, {2}, 32 * sizeof(float), stream, guard);
  std::printf("%s\n", cudaGetErrorString(cudaStreamSynchronize(stream)));
  cudaFreeAsync(data, stream);
  cudaFreeAsync(failed_ticket, stream);
  cudaStreamDestroy(stream);
}

}  // namespace

}  // namespace hr::cuda

int main() {
  using namespace hr::cuda;
#define HR_REPORT(Kernel) report<Kernel>(#Kernel);
  HR_REPORT(ReturnBeforeBarrier)
  HR_REPORT(TwoBarriers)
  HR_REPORT(BarrierOfOneWarp)
  HR_REPORT(DivergentWarp)
  HR_REPORT(SharedMemoryOverrun)
  HR_REPORT(SharedMatrixOverrun)
  HR_REPORT(GlobalOverrun)
  HR_REPORT(Misaligned)
  HR_REPORT(MisalignedCopy)
  HR_REPORT(TooManyBytes)
  HR_REPORT(CopyWithoutWait)
  HR_REPORT(HalfAWarp)
  HR_REPORT(Right)
}
