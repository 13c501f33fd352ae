// convert: from any element type to any other, rounding once. The rules of the op `cast`.
#pragma once

#include <cstdint>

#include "ops/dtype.h"
#include "ops/math/half.h"

namespace hr::math {

// Exact.
HR_HD inline float widen(float x) { return x; }
HR_HD inline double widen(double x) { return x; }
HR_HD inline float widen(Bf16 x) { return to_float(x); }
HR_HD inline float widen(F16 x) { return to_float(x); }
HR_HD inline double widen(int32_t x) { return x; }

// Rounds to nearest even, once.
template <typename Wide>
HR_HD inline void narrow(Wide x, float& y) {
  y = static_cast<float>(x);
}
template <typename Wide>
HR_HD inline void narrow(Wide x, double& y) {
  y = x;
}
template <typename Wide>
HR_HD inline void narrow(Wide x, Bf16& y) {
  y = to_bf16(x);
}
template <typename Wide>
HR_HD inline void narrow(Wide x, F16& y) {
  y = to_f16(x);
}
template <typename Wide>
HR_HD inline void narrow(Wide x, int32_t& y) {  // truncates, saturates; NaN becomes 0
  const Wide limit = 2147483648.0f;
  const int32_t low_or_nan = x < 0 ? INT32_MIN : 0;
  const int32_t inside = static_cast<int32_t>(x > -limit && x < limit ? x : Wide(0));
  y = x >= limit ? INT32_MAX : (x > -limit ? inside : low_or_nan);
}

// Calls fn with a null pointer of the type that dtype names.
#ifdef __CUDACC__
#pragma nv_exec_check_disable  // fn may be for the host or for the device
#endif
template <typename Fn>
HR_HD inline void visit_dtype(DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::f32:
      return fn(static_cast<float*>(nullptr));
    case DType::f64:
      return fn(static_cast<double*>(nullptr));
    case DType::bf16:
      return fn(static_cast<Bf16*>(nullptr));
    case DType::f16:
      return fn(static_cast<F16*>(nullptr));
    case DType::i32:
      return fn(static_cast<int32_t*>(nullptr));
  }
}

}  // namespace hr::math
