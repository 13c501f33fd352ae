// intrinsics: all that kernels use of the GPU beyond C++. The only file with PTX or CUDA built-ins.
//
// test/emulator/include/cuda/intrinsics.h implements the same functions on the host; kernels compile with
// either, so nothing outside of this file may need a CUDA compiler. Threads of a block are numbered in one
// dimension; functions that say "warp" are collective: all 32 lanes call them, from the same place.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#define HR_DEVICE __device__ __forceinline__
#define HR_UNROLL _Pragma("unroll")
#define HR_NO_UNROLL _Pragma("unroll 1")

namespace hr::cuda {

inline constexpr int kWarpSize = 32;

// --- where am I ------------------------------------------------------------------------------------------

HR_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
HR_DEVICE int lane_index() { return thread_index() % kWarpSize; }
HR_DEVICE int warp_index() { return thread_index() / kWarpSize; }
HR_DEVICE int block_x() { return static_cast<int>(blockIdx.x); }
HR_DEVICE int block_y() { return static_cast<int>(blockIdx.y); }
HR_DEVICE int block_z() { return static_cast<int>(blockIdx.z); }
HR_DEVICE int num_blocks_x() { return static_cast<int>(gridDim.x); }

// --- block and warp --------------------------------------------------------------------------------------

// The block's shared memory from a byte offset on; its size is the launch's. Aligned to 1024 bytes at 0.
template <typename T>
HR_DEVICE T* shared_memory(size_t offset = 0) {
  extern __shared__ __align__(1024) unsigned char hr_shared_memory[];
  return reinterpret_cast<T*>(hr_shared_memory + offset);
}

HR_DEVICE void barrier() { __syncthreads(); }
HR_DEVICE void warp_barrier() { __syncwarp(); }

template <typename T>
HR_DEVICE T warp_shuffle(T value, int source_lane) {
  return __shfl_sync(0xFFFFFFFFu, value, source_lane);
}
template <typename T>
HR_DEVICE T warp_shuffle_xor(T value, int lane_mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, lane_mask);
}
HR_DEVICE uint32_t warp_ballot(bool predicate) { return __ballot_sync(0xFFFFFFFFu, predicate); }

// --- memory ----------------------------------------------------------------------------------------------

// 16 bytes at a 16-byte boundary.
struct alignas(16) Float4 {
  float v[4];
};
HR_DEVICE Float4 load4(const float* from) { return *reinterpret_cast<const Float4*>(from); }
HR_DEVICE void store4(float* to, const Float4& x) { *reinterpret_cast<Float4*>(to) = x; }

HR_DEVICE void store_words4(uint32_t* to, uint32_t x0, uint32_t x1, uint32_t x2, uint32_t x3) {
  *reinterpret_cast<uint4*>(to) = make_uint4(x0, x1, x2, x3);
}
// 8 bytes at an 8-byte boundary.
HR_DEVICE void store2(float* to, float x0, float x1) { *reinterpret_cast<float2*>(to) = make_float2(x0, x1); }

HR_DEVICE uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Starts copying 16 (4) bytes from global to shared memory: the first `valid_bytes`, then zeros. Both ends
// aligned to the size; with valid_bytes = 0 nothing is read, but `from` must be a global address.
HR_DEVICE void copy_async16(void* to, const void* from, int valid_bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(valid_bytes)
               : "memory");
}
HR_DEVICE void copy_async4(void* to, const void* from, int valid_bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(valid_bytes)
               : "memory");
}
// The copies this thread started since the last commit become one group.
HR_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most kPending of this thread's latest groups are under way. For other threads' copies a
// barrier is needed as well.
template <int kPending>
HR_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

HR_DEVICE void atomic_min(uint64_t* to, uint64_t value) {
  atomicMin(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
}
HR_DEVICE int32_t atomic_add(int32_t* to, int32_t value) { return atomicAdd(to, value); }

// --- tensor cores ----------------------------------------------------------------------------------------

// Warp: four 8 x 8 matrices of 16-bit elements from shared memory. Lane l gives the address of row l % 8 of
// matrix l / 8 (16 bytes, aligned) and gets, of each matrix, elements 2·(l % 4) and the next of row l / 4.
HR_DEVICE void warp_load_matrices(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
// The same of the transposed matrices.
HR_DEVICE void warp_load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// Warp: sums[i][j] += a[i] · b[j], 16 x 8 tiles, for each i and j. With g = lane / 4, t = lane % 4:
//   sums[i][j]  {g, 2t} {g, 2t + 1} {g + 8, 2t} {g + 8, 2t + 1}           (row, column)
//   bf16, k = 16, two elements a register, the lower k in the lower half:
//     a[i]  {g, 2t} {g + 8, 2t} {g, 2t + 8} {g + 8, 2t + 8}  (row, k)
//     b[j]  {2t, g} {2t + 8, g}                              (k, column)
//   tf32, k = 8, the upper 19 bits of an f32:
//     a[i]  {g, t} {g + 8, t} {g, t + 4} {g + 8, t + 4}      (row, k)
//     b[j]  {t, g} {t + 4, g}                                (k, column)
template <int kRows, int kColumns>
HR_DEVICE void warp_multiply_bf16(float (&sums)[kRows][kColumns][4], const uint32_t (&a)[kRows][4],
                                  const uint32_t (&b)[kColumns][2]) {
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      float(&c)[4] = sums[i][j];
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
          "{%8, %9}, {%0, %1, %2, %3};"
          : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
          : "r"(a[i][0]), "r"(a[i][1]), "r"(a[i][2]), "r"(a[i][3]), "r"(b[j][0]), "r"(b[j][1]));
    }
  }
}
template <int kRows, int kColumns>
HR_DEVICE void warp_multiply_tf32(float (&sums)[kRows][kColumns][4], const uint32_t (&a)[kRows][4],
                                  const uint32_t (&b)[kColumns][2]) {
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      float(&c)[4] = sums[i][j];
      asm volatile(
          "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
          "{%8, %9}, {%0, %1, %2, %3};"
          : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
          : "r"(a[i][0]), "r"(a[i][1]), "r"(a[i][2]), "r"(a[i][3]), "r"(b[j][0]), "r"(b[j][1]));
    }
  }
}

// x rounded to tf32 (nearest, ties away from zero), as the bits of an f32.
HR_DEVICE uint32_t to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits & 0xFFFFE000u;  // the instruction leaves them open
}
// Two numbers rounded to bf16 (nearest even), `low` in the lower half.
HR_DEVICE uint32_t to_bf16_pair(float low, float high) {
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

// --- arithmetic ------------------------------------------------------------------------------------------
// Nothing contracts a·b + c by itself (-fmad=false): write fma where one rounding is wanted.

HR_DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
HR_DEVICE float exp(float x) { return ::expf(x); }
HR_DEVICE float log(float x) { return ::logf(x); }
HR_DEVICE float erfc(float x) { return ::erfcf(x); }
HR_DEVICE float tanh(float x) { return ::tanhf(x); }
HR_DEVICE float sqrt(float x) { return ::sqrtf(x); }
HR_DEVICE float infinity() { return __int_as_float(0x7F800000); }
HR_DEVICE int count_ones(uint32_t x) { return __popc(x); }

// --- launching -------------------------------------------------------------------------------------------

// A kernel stops at once when a launch before it has failed: that launch's ticket is in *failed_ticket. All
// threads agree, because a launch can only write its own ticket.
struct LaunchGuard {
  const uint64_t* failed_ticket;
  uint64_t ticket;
};

template <typename Kernel>
constexpr int min_blocks() {
  if constexpr (requires { Kernel::kMinBlocks; }) return Kernel::kMinBlocks;
  return 1;
}

#ifdef __CUDACC__
// The one kernel. `Kernel` is a struct with its arguments as fields, kThreads, perhaps kMinBlocks (blocks per
// multiprocessor to leave registers for), and operator(), which is what a thread does.
template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, min_blocks<Kernel>())
    run_kernel(const __grid_constant__ Kernel kernel, const LaunchGuard guard) {
  if (*guard.failed_ticket < guard.ticket) return;
  kernel();
}

// Lets a kernel have all the shared memory that a block can get on the current device, once for each device.
// All, so that threads whose launches need different amounts do not undo each other's setting.
template <typename Kernel>
cudaError_t allow_shared_memory(const void* entry) {
  static std::atomic<uint64_t> allowed{0};  // one bit a device
  int device = 0, most = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status != cudaSuccess) return status;
  const uint64_t bit = device < 64 ? uint64_t{1} << device : 0;
  if (allowed & bit) return cudaSuccess;
  status = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (status != cudaSuccess) return status;
  status = cudaFuncSetAttribute(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
  if (status == cudaSuccess) allowed |= bit;
  return status;
}

template <typename Kernel>
cudaError_t start_kernel(const char*, const Kernel& kernel, dim3 grid, size_t shared_bytes,
                         cudaStream_t stream, LaunchGuard guard) {
  const void* entry = reinterpret_cast<const void*>(&run_kernel<Kernel>);
  if (shared_bytes > (size_t{48} << 10)) {
    const cudaError_t status = allow_shared_memory<Kernel>(entry);
    if (status != cudaSuccess) return status;
  }
  void* arguments[] = {const_cast<Kernel*>(&kernel), &guard};
  return cudaLaunchKernel(entry, grid, dim3(Kernel::kThreads), arguments, shared_bytes, stream);
}
#endif

}  // namespace hr::cuda
