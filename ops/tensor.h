// tensor: what an op sees of a tensor. Plain data; owns nothing.
//
// Tensors are contiguous and row-major, so a view is a pointer, a dtype and a shape. An op's parameter
// struct names each tensor's role in its type: In is read, Out is overwritten, InOut is read and written
// (gradients that accumulate, optimiser state). Opt- variants may be absent.
#pragma once

#include <cstdint>
#include <string>

#include "ops/dtype.h"

namespace hr {

inline constexpr int kMaxRank = 6;

struct TensorView {
  void* data = nullptr;  // null: absent (optional arguments only)
  DType dtype = DType::f32;
  int32_t rank = 0;
  int64_t shape[kMaxRank] = {};

  explicit operator bool() const { return data != nullptr; }
  int64_t size() const {
    int64_t count = 1;
    for (int axis = 0; axis < rank; ++axis) count *= shape[axis];
    return count;
  }
  size_t bytes() const { return static_cast<size_t>(size()) * size_of(dtype); }
};

enum class Access : uint8_t { in, out, inout };

template <Access kAccessOf, bool kOptionalArg>
struct Arg : TensorView {
  static constexpr Access kAccess = kAccessOf;
  static constexpr bool kOptional = kOptionalArg;

  // Typed pointer to the first element; the op's check() has established the dtype.
  template <typename T>
  auto as() const {
    if constexpr (kAccess == Access::in) {
      return static_cast<const T*>(data);
    } else {
      return static_cast<T*>(data);
    }
  }
};

using In = Arg<Access::in, false>;
using Out = Arg<Access::out, false>;
using InOut = Arg<Access::inout, false>;
using OptIn = Arg<Access::in, true>;
using OptOut = Arg<Access::out, true>;
using OptInOut = Arg<Access::inout, true>;

// "[2, 3]"
std::string shape_text(const TensorView& t);

}  // namespace hr
