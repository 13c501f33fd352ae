// precision: what matrix products multiply.
//
//   f32   the numbers as they are
//   bf16  both operands rounded to bf16 (nearest even); products are exact, sums f32
//   tf32  both operands rounded to tf32 (an f32 with 10 mantissa bits); on GPUs only
// A device has one. It concerns gemm, grouped_gemm and rel_attention with their gradients; tensors stay in
// the compute dtype, so master weights and sums keep all their bits.
#pragma once

#include "ops/enum.h"

namespace hr {

HR_ENUM(Precision, f32, bf16, tf32)

}  // namespace hr
