#include "cuda/kernels/operand.h"

namespace hr::cuda {

namespace {

// Rows of the result are filled up with zeros to whole octets.
struct RoundKernel {
  static constexpr int kThreads = kElementThreads;
  const float* from;  // [num_rows, width]
  math::Bf16* to;     // [num_rows, 8·octets]
  int64_t num_rows;
  int32_t width, octets;
  bool aligned;

  HR_DEVICE void operator()() const {
    for_elements(num_rows * octets, false, [&](int64_t i, auto) {
      const int64_t row = i / octets;
      const int32_t first = static_cast<int32_t>(i - row * octets) * 8;
      store_rounded(to + 8 * i, load_octet(from + row * width + first, width - first, aligned));
    });
  }
};

// Rounding moves 6 bytes of memory a number, and each read saves 2 of the L2 cache, which is about twice as
// fast: from 6 reads on it pays, if they are so many that a launch is worth it. (docs/kernels/products.md)
constexpr int64_t kFewestReads = 8;
constexpr int64_t kFewestNumbersRead = 1 << 16;  // for each multiprocessor

}  // namespace

bool is_worth_rounding(const Context& ctx, const Operand& operand, int64_t numbers_read) {
  return numbers_read >= kFewestReads * operand.size() &&
         numbers_read >= kFewestNumbersRead * ctx.num_multiprocessors;
}

Operand rounded(Context& ctx, const Operand& operand) {
  const int64_t octets = ceil_div(operand.width, 8);
  math::Bf16* data = ctx.workspace<math::Bf16>(operand.num_rows * octets * 8);
  launch(ctx,
         RoundKernel{static_cast<const float*>(operand.data), data, operand.num_rows, operand.width,
                     static_cast<int32_t>(octets), operand.aligned},
         blocks_for(ctx, operand.num_rows * octets, kElementThreads));
  Operand result = operand;
  result.data = data;
  result.width = static_cast<int32_t>(8 * octets);
  result.is_bf16 = result.aligned = true;
  return result;
}

}  // namespace hr::cuda
