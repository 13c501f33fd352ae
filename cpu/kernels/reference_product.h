// reference_product: what the reference multiplies in gemm and grouped_gemm.
#pragma once

#include "cpu/kernel.h"
#include "ops/math/half.h"

#include "cpu/simd.h"

namespace hr::HR_ISA_NAMESPACE {

// An element of an operand as the product's precision has it.
HR_INLINE Real factor(const cpu::Context& ctx, Real x) {
  switch (ctx.precision) {
    case Precision::f32:
      return x;
    case Precision::bf16:
      return math::to_float(math::to_bf16(x));
    case Precision::tf32:
      return math::to_tf32(static_cast<float>(x));
  }
  return x;
}

}  // namespace hr::HR_ISA_NAMESPACE
