// elementwise arithmetic, fills and casts. Memory-bound: each element is read and written once.
#include <type_traits>

#include "cuda/kernels/copy_bytes.h"
#include "cuda/kernels/elements.h"
#include "ops/math/convert.h"

namespace hr::cuda {

namespace {

struct Add {
  static HR_DEVICE float value(float a, float b) { return a + b; }
};
struct Subtract {
  static HR_DEVICE float value(float a, float b) { return a - b; }
};
struct Multiply {
  static HR_DEVICE float value(float a, float b) { return a * b; }
};
struct Divide {
  static HR_DEVICE float value(float a, float b) { return a / b; }
};

// out[i] = op(a[i], b[i mod period])
template <typename Op>
struct BinaryKernel {
  static constexpr int kThreads = kElementThreads;
  const float* a;  // [n]
  const float* b;  // [period]
  float* out;      // [n]
  int64_t n, period;
  bool aligned;

  HR_DEVICE void operator()() const {
    const bool repeats = period < n;
    for_elements(n, aligned, [&](int64_t i, auto width) {
      constexpr int kWidth = decltype(width)::value;
      Packet<kWidth> x = load<kWidth>(a + i), y;
      if (period == 1) {
        for (int j = 0; j < kWidth; ++j) y.v[j] = *b;
      } else {
        y = load<kWidth>(b + (repeats ? i % period : i));
      }
      for (int j = 0; j < kWidth; ++j) x.v[j] = Op::value(x.v[j], y.v[j]);
      store<kWidth>(out + i, x);
    });
  }
};

template <typename Op>
void binary_with(Context& ctx, const BinaryParams& p) {
  const float *a = p.a.as<float>(), *b = p.b.as<float>();
  float* out = p.out.as<float>();
  const int64_t n = p.a.size(), period = p.b.size();
  const bool whole_packets = period == 1 || period == n || period % 4 == 0;
  const bool aligned =
      is_aligned16(a) && is_aligned16(out) && (period == 1 || is_aligned16(b)) && whole_packets;
  launch(ctx, BinaryKernel<Op>{a, b, out, n, period, aligned}, blocks_for_elements(ctx, n));
}

// out = alpha·x + beta·out; out is not read with beta = 0
struct AxpbyKernel {
  static constexpr int kThreads = kElementThreads;
  const float* x;  // [n]
  float* out;      // [n]
  int64_t n;
  float alpha, beta;
  bool aligned;

  HR_DEVICE void operator()() const {
    for_elements(n, aligned, [&](int64_t i, auto width) {
      constexpr int kWidth = decltype(width)::value;
      Packet<kWidth> sum = load<kWidth>(x + i);
      for (int j = 0; j < kWidth; ++j) sum.v[j] *= alpha;
      if (beta != 0) {
        const Packet<kWidth> old = load<kWidth>(out + i);
        for (int j = 0; j < kWidth; ++j) sum.v[j] += beta * old.v[j];
      }
      store<kWidth>(out + i, sum);
    });
  }
};

template <typename T>
struct FillKernel {
  static constexpr int kThreads = kElementThreads;
  T* out;  // [n]
  int64_t n;
  T value;

  HR_DEVICE void operator()() const {
    for_elements(n, false, [&](int64_t i, auto) { out[i] = value; });
  }
};

struct CastKernel {
  static constexpr int kThreads = kElementThreads;
  const void* x;  // [n]
  void* y;        // [n]
  int64_t n;
  DType from, to;

  HR_DEVICE void operator()() const {
    math::visit_dtype(from, [&](auto* x_type) {
      math::visit_dtype(to, [&](auto* y_type) {
        auto* typed_x = static_cast<const std::remove_pointer_t<decltype(x_type)>*>(x);
        auto* typed_y = static_cast<decltype(y_type)>(y);
        for_elements(n, false, [&](int64_t i, auto) { math::narrow(math::widen(typed_x[i]), typed_y[i]); });
      });
    });
  }
};

// Units of 16, 4 or 1 bytes.
template <typename Unit>
struct CopyKernel {
  static constexpr int kThreads = kElementThreads;
  const Unit* from;  // [n]
  Unit* to;          // [n]
  int64_t n;

  HR_DEVICE void operator()() const {
    for_elements(n, false, [&](int64_t i, auto) { to[i] = from[i]; });
  }
};

template <typename Unit>
void copy_units(Context& ctx, void* to, const void* from, int64_t bytes) {
  const int64_t n = bytes / static_cast<int64_t>(sizeof(Unit));
  launch(ctx, CopyKernel<Unit>{static_cast<const Unit*>(from), static_cast<Unit*>(to), n},
         blocks_for_elements(ctx, n));
}

}  // namespace

void copy_bytes(Context& ctx, void* to, const void* from, int64_t bytes) {
  const uintptr_t ends = reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from);
  const uintptr_t all = ends | static_cast<uintptr_t>(bytes);
  if (all % 16 == 0) return copy_units<Float4>(ctx, to, from, bytes);
  if (all % 4 == 0) return copy_units<uint32_t>(ctx, to, from, bytes);
  copy_units<uint16_t>(ctx, to, from, bytes);  // no dtype is smaller
}

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
  const float* x = p.x.as<float>();
  float* out = p.out.as<float>();
  const int64_t n = p.x.size();
  launch(ctx,
         AxpbyKernel{x, out, n, static_cast<float>(p.alpha), static_cast<float>(p.beta),
                     is_aligned16(x) && is_aligned16(out)},
         blocks_for_elements(ctx, n));
}

void fill(Context& ctx, const FillParams& p) {
  math::visit_dtype(p.out.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (sizeof(T) >= 4) {  // the contract has no 16-bit fill
      T value;
      math::narrow(p.value, value);
      launch(ctx, FillKernel<T>{p.out.as<T>(), p.out.size(), value}, blocks_for_elements(ctx, p.out.size()));
    }
  });
}

void cast(Context& ctx, const CastParams& p) {
  if (p.x.dtype == p.y.dtype) return copy_bytes(ctx, p.y.data, p.x.data, static_cast<int64_t>(p.x.bytes()));
  launch(ctx, CastKernel{p.x.data, p.y.data, p.x.size(), p.x.dtype, p.y.dtype},
         blocks_for_elements(ctx, p.x.size()));
}

}  // namespace hr::cuda
