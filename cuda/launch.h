// launch: starts kernels. Included by cuda/kernels/*.cu.
//
// A kernel is a struct: its arguments are its fields, operator() is what one thread does.
//   struct ScaleKernel {
//     static constexpr int kThreads = 256;  // of a block
//     const float* x;                       // [n]
//     float* y;                             // [n]
//     int64_t n;
//     HR_DEVICE void operator()() const { ... }
//   };
//   launch(ctx, ScaleKernel{x, y, n}, blocks_for(ctx, n, ScaleKernel::kThreads));
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "cuda/context.h"
#include "cuda/intrinsics.h"
#include "cuda/status.h"

namespace hr::cuda {

inline constexpr int64_t kMostBlocksX = 0x7FFFFFFF, kMostBlocksY = 65535;

struct Grid {
  int64_t x = 1, y = 1, z = 1;
};

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Enough blocks for `work` items, but no more than keep the device busy: kernels loop over what is left.
inline Grid blocks_for(const Context& ctx, int64_t work, int64_t per_block) {
  constexpr int64_t kWaves = 8;
  return {std::min(ceil_div(work, per_block), kWaves * ctx.num_multiprocessors)};
}

// "BinaryKernel<Add>", from the compiler's name of a function of it: "... [with Kernel = ...]".
inline std::string plain_kernel_name(std::string_view function) {
  function.remove_prefix(function.find("Kernel = ") + 9);
  std::string name(function.substr(0, function.find_first_of("];")));
  for (const std::string_view noise : {"hr::cuda::", "{anonymous}::", "(anonymous namespace)::"}) {
    for (size_t at; (at = name.find(noise)) != std::string::npos;) name.erase(at, noise.size());
  }
  return name;
}
template <typename Kernel>
const char* kernel_name() {
  static const std::string name = plain_kernel_name(__PRETTY_FUNCTION__);
  return name.c_str();
}

template <typename Kernel>
void launch(Context& ctx, const Kernel& kernel, Grid grid, size_t shared_bytes = 0) {
  if (grid.x <= 0 || grid.y <= 0 || grid.z <= 0) return;
  if (grid.x > kMostBlocksX || grid.y > kMostBlocksY || grid.z > kMostBlocksY) {
    throw Error(ErrorKind::unsupported, kernel_name<Kernel>(), "",
                "the tensors are too large for one launch on a GPU");
  }
  const dim3 blocks{static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                    static_cast<unsigned>(grid.z)};
  const LaunchGuard guard{&ctx.failure->ticket, ctx.next_ticket()};
  const cudaError_t status =
      start_kernel(kernel_name<Kernel>(), kernel, blocks, shared_bytes, ctx.stream, guard);
  if (status != cudaSuccess) {
    throw device_error(status, std::string(kernel_name<Kernel>()) + " could not be started: ");
  }
  ctx.after_launch(kernel_name<Kernel>());
}

}  // namespace hr::cuda
