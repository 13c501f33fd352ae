// operand: one side of a matrix product in global memory, as rows of contiguous numbers.
//
// Numbers are f32, as tensors are. bf16 products round them, on the way to shared memory or, where tiles read
// them often, once and for all before: half the bytes then come from the L2 cache.
#pragma once

#include "cuda/kernels/quads.h"
#include "ops/math/half.h"

namespace hr::cuda {

struct Operand {
  const void* data;         // [num_rows, width] f32, or bf16 where is_bf16
  const int32_t* gathered;  // the row of data that stands for row r, or null: r
  int64_t num_rows;
  int32_t width;
  bool is_bf16;
  bool aligned;  // rows start at 16-byte boundaries

  Operand(const float* data, int64_t num_rows, int64_t width, const int32_t* gathered = nullptr)
      : data(data),
        gathered(gathered),
        num_rows(num_rows),
        width(static_cast<int32_t>(width)),
        is_bf16(false),
        aligned(is_aligned16(data) && width % 4 == 0) {
    if (num_rows > INT32_MAX || width > INT32_MAX) {
      throw Error(ErrorKind::unsupported, "matrix product", "", "more than 2^31 rows or columns on a GPU");
    }
  }

  int64_t size() const { return num_rows * width; }

  template <typename Number>
  HR_DEVICE const Number* start() const {
    return static_cast<const Number*>(data);
  }
  // Where row r starts.
  template <typename Number>
  HR_DEVICE const Number* row(int32_t r) const {
    return start<Number>() + int64_t{gathered ? gathered[r] : r} * width;
  }
};

// Eight numbers on their way to bf16.
struct Octet {
  Quad low, high;
};
// Numbers 0 .. count - 1 at `from`, the others 0. aligned: `from` is a 16-byte boundary.
HR_DEVICE Octet load_octet(const float* from, int count, bool aligned) {
  return {load_quad(from, count, aligned), load_quad(from + 4, count - 4, aligned)};
}
HR_DEVICE void store_rounded(math::Bf16* to, const Octet& x) {  // at a 16-byte boundary
  store_words4(reinterpret_cast<uint32_t*>(to), to_bf16_pair(x.low.v[0], x.low.v[1]),
               to_bf16_pair(x.low.v[2], x.low.v[3]), to_bf16_pair(x.high.v[0], x.high.v[1]),
               to_bf16_pair(x.high.v[2], x.high.v[3]));
}

// Whether it saves time to round the operand where tiles read `numbers_read` of its numbers.
bool is_worth_rounding(const Context& ctx, const Operand& operand, int64_t numbers_read);

// The operand rounded to bf16, in workspace. Products have the same bits either way.
Operand rounded(Context& ctx, const Operand& operand);

}  // namespace hr::cuda
