// elementwise arithmetic, fills and casts on the CPU.
#include <type_traits>

#include "cpu/kernel.h"
#include "ops/math/convert.h"

#include "cpu/kernels/parallel.h"

namespace hr::HR_ISA_NAMESPACE {

using math::narrow;
using math::visit_dtype;
using math::widen;

namespace {

struct Add {
  static HR_INLINE Real value(Real a, Real b) { return a + b; }
};
struct Subtract {
  static HR_INLINE Real value(Real a, Real b) { return a - b; }
};
struct Multiply {
  static HR_INLINE Real value(Real a, Real b) { return a * b; }
};
struct Divide {
  static HR_INLINE Real value(Real a, Real b) { return a / b; }
};

// out[i] = op(a[i], b[i mod period]) for i = begin .. end - 1.
template <typename Op>
void binary_range(const Real* a, const Real* b, Real* out, int64_t period, int64_t begin, int64_t end) {
  if (period == 1) {
    const Real value = b[0];
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) out[i] = Op::value(a[i], value);
    return;
  }
  for (int64_t i = begin; i < end;) {
    const int64_t column = i % period;
    const int64_t n = period - column < end - i ? period - column : end - i;
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) out[i + j] = Op::value(a[i + j], b[column + j]);
    i += n;
  }
}

template <typename Op>
void binary_with(Context& ctx, const BinaryParams& p) {
  const Real* a = p.a.as<Real>();
  const Real* b = p.b.as<Real>();
  Real* out = p.out.as<Real>();
  const int64_t period = p.b.size();
  for_elements(ctx, p.a.size(),
               [&](int64_t begin, int64_t end) { binary_range<Op>(a, b, out, period, begin, end); });
}

}  // namespace

void binary(Context& ctx, const BinaryParams& p) {
  switch (p.kind) {
    case BinaryKind::add:
      return binary_with<Add>(ctx, p);
    case BinaryKind::sub:
      return binary_with<Subtract>(ctx, p);
    case BinaryKind::mul:
      return binary_with<Multiply>(ctx, p);
    case BinaryKind::div:
      return binary_with<Divide>(ctx, p);
  }
}

void axpby(Context& ctx, const AxpbyParams& p) {
  const Real* x = p.x.as<Real>();
  Real* out = p.out.as<Real>();
  const Real alpha = Real(p.alpha), beta = Real(p.beta);
  for_elements(ctx, p.x.size(), [&](int64_t begin, int64_t end) {
    if (beta == 0) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) out[i] = alpha * x[i];
    } else {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) out[i] = alpha * x[i] + beta * out[i];
    }
  });
}

void fill(Context& ctx, const FillParams& p) {
  visit_dtype(p.out.dtype, [&](auto* typed) {
    auto* out = static_cast<decltype(typed)>(p.out.data);
    std::remove_pointer_t<decltype(typed)> value;
    narrow(p.value, value);
    for_elements(ctx, p.out.size(), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = value;
    });
  });
}

void cast(Context& ctx, const CastParams& p) {
  if (p.x.dtype == p.y.dtype) {
    const char* x = p.x.as<char>();
    char* y = p.y.as<char>();
    const int64_t element = static_cast<int64_t>(size_of(p.x.dtype));
    for_elements(ctx, p.x.size(), [&](int64_t begin, int64_t end) {
      memcpy(y + begin * element, x + begin * element, static_cast<size_t>((end - begin) * element));
    });
    return;
  }
  visit_dtype(p.x.dtype, [&](auto* from) {
    visit_dtype(p.y.dtype, [&](auto* to) {
      auto* x = static_cast<decltype(from)>(p.x.data);
      auto* y = static_cast<decltype(to)>(p.y.data);
      for_elements(ctx, p.x.size(), [&](int64_t begin, int64_t end) {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) narrow(widen(x[i]), y[i]);
      });
    });
  });
}

}  // namespace hr::HR_ISA_NAMESPACE
