// reference_product: what the reference multiplies in gemm and grouped_gemm.
#pragma once

#include "cpu/kernel.h"
#include "ops/math/half.h"

#include "cpu/simd.h"

namespace hr::HR_ISA_NAMESPACE {

// An element of an operand as the product's precision has it.
HR_INLINE Real factor(const cpu::Context& ctx, Real x) {
  return ctx.precision == Precision::bf16 ? math::to_float(math::to_bf16(x)) : x;
}

}  // namespace hr::HR_ISA_NAMESPACE
