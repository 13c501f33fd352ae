// elementwise: arithmetic over whole tensors, fills, and conversion between dtypes.
#pragma once

#include "ops/check.h"
#include "ops/enum.h"

namespace hr {

HR_ENUM(BinaryKind, add, sub, mul, div)

// binary: out = a (kind) b. b has the shape of a, or a suffix of it, and is then repeated over the front.
struct BinaryParams {
  In a;     // any shape
  In b;     // the shape of a, or a suffix of it ([1] counts as a suffix)
  Out out;  // as a; may be a itself
  BinaryKind kind = BinaryKind::add;
  HR_FIELDS(a, b, out, kind)
  static constexpr bool kInPlace = true;
  void check() const {
    Check c("binary");
    c.floats({{"a", a}, {"b", b}, {"out", out}});
    c.same_size("out", out, "a", a);
    bool suffix = b.rank <= a.rank;
    for (int axis = 1; suffix && axis <= b.rank; ++axis) {
      suffix = b.shape[b.rank - axis] == a.shape[a.rank - axis];
    }
    if (!suffix && b.size() != 1) {
      throw Error(ErrorKind::shape, "binary", "b",
                  "\"b\" has shape " + shape_text(b) + ", expected " + shape_text(a) + " or a suffix of it");
    }
  }
};

// axpby: out = alpha·x + beta·out. With beta = 0 out is not read, so this also scales and copies.
struct AxpbyParams {
  In x;       // any shape
  InOut out;  // as x; may be x itself
  double alpha = 1;
  double beta = 0;
  HR_FIELDS(x, out, alpha, beta)
  static constexpr bool kInPlace = true;
  void check() const {
    Check c("axpby");
    c.floats({{"x", x}, {"out", out}});
    c.same_size("out", out, "x", x);
    c.finite("alpha", alpha);
    c.finite("beta", beta);
  }
};

// fill: every element of out = value. i32 tensors take integers.
struct FillParams {
  Out out;  // any shape, f32, f64 or i32
  double value = 0;
  HR_FIELDS(out, value)
  static constexpr bool kAnyDType = true;
  void check() const {
    Check c("fill");
    if (out.dtype == DType::i32) {
      c.range("value", value, -2147483648.0, 2147483647.0);
      c.require(value == static_cast<double>(static_cast<int64_t>(value)), "value",
                "\"value\" must be an integer for an i32 tensor");
    } else {
      c.floats({{"out", out}});
    }
  }
};

// cast: y = x converted, round to nearest even; equal dtypes copy. Float to i32 truncates and saturates.
struct CastParams {
  In x;   // any shape and dtype
  Out y;  // as many elements, any dtype
  HR_FIELDS(x, y)
  static constexpr bool kAnyDType = true;
  void check() const {
    Check c("cast");
    c.same_size("y", y, "x", x);
  }
};

#define OPS_ELEMENTWISE(OP) \
  OP(binary, BinaryParams)  \
  OP(axpby, AxpbyParams)    \
  OP(fill, FillParams)      \
  OP(cast, CastParams)

}  // namespace hr
