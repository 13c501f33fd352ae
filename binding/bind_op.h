// bind_op: makes a JavaScript function of any op, from its parameter struct alone.
//
// Arguments are positional, in the order of HR_FIELDS. A call decodes them, runs the op's check(), then the
// rules that hold for every op (one device, the device's float dtype, no output overlapping another tensor),
// and queues the op. Nothing is coerced and nothing here knows any op by name.
#pragma once

#include <node_api.h>

#include <limits>
#include <string>
#include <type_traits>

#include "binding/environment.h"
#include "binding/errors.h"
#include "binding/read_value.h"
#include "ops/op_table.h"

namespace hr::binding {

template <typename T>
inline constexpr bool is_tensor_arg = std::is_base_of_v<TensorView, T>;

// Ops that take tensors of any dtype say so; every other op takes the device's compute dtype and i32.
template <typename Params>
concept AnyDType = requires { Params::kAnyDType; };
// Ops that work when an output is exactly one of the inputs.
template <typename Params>
concept InPlace = requires { Params::kInPlace; };

template <typename Params>
constexpr size_t count_fields() {
  size_t count = 0;
  Params{}.visit([&](const char*, const auto&) { ++count; });
  return count;
}

class ArgDecoder {
 public:
  ArgDecoder(napi_env env, const char* op, const napi_value* args)
      : env_(env), environment_(Environment::of(env)), op_(op), next_(args) {}

  template <typename T>
  void operator()(const char* arg, T& field) {
    const napi_value value = *next_++;
    const ArgName name{op_, arg};
    if constexpr (is_tensor_arg<T>) {
      read_tensor(value, name, field);
    } else if constexpr (std::is_same_v<T, bool>) {
      field = read_boolean(env_, value, name);
    } else if constexpr (std::is_enum_v<T>) {
      field = read_enum<T>(env_, value, name);
    } else if constexpr (std::is_same_v<T, double>) {
      field = read_number(env_, value, name);
    } else {
      field = read_int<T>(value, name);
    }
  }

  // The device of the op's tensors. Every op has one tensor that is not optional.
  Backend& device() const { return *device_; }

 private:
  template <typename T>
  void read_tensor(napi_value value, ArgName name, T& field) {
    const napi_valuetype type = type_of(env_, value);
    if (type == napi_null || type == napi_undefined) {
      if constexpr (!T::kOptional) wrong_type(name, "a tensor");
      return;
    }
    if (type != napi_number) wrong_type(name, "a tensor");
    Tensor& tensor = environment_.tensor(read_integer(env_, value, name), name.op, name.arg);
    static_cast<TensorView&>(field) = tensor.view;
    Backend& device = tensor.storage->backend();
    if (device_ && device_ != &device) {
      throw Error(ErrorKind::device, name.op, name.arg,
                  "\"" + std::string(name.arg) + "\" is on device " + device.name() + " (" +
                      device.description() + "), but the tensors before it are on " + device_->name() + " (" +
                      device_->description() + ")");
    }
    device_ = &device;
  }

  template <typename T>
  T read_int(napi_value value, ArgName name) {
    const int64_t number = read_integer(env_, value, name);
    constexpr int64_t kLow = std::is_unsigned_v<T> ? 0 : std::numeric_limits<T>::min();
    constexpr int64_t kHigh = sizeof(T) < 8 ? static_cast<int64_t>(std::numeric_limits<T>::max())
                                            : std::numeric_limits<int64_t>::max();
    if (number < kLow || number > kHigh) {
      throw Error(ErrorKind::value, name.op, name.arg,
                  "\"" + std::string(name.arg) + "\" is " + std::to_string(number) + ", expected " +
                      std::to_string(kLow) + " to " + std::to_string(kHigh));
    }
    return static_cast<T>(number);
  }

  napi_env env_;
  Environment& environment_;
  const char* op_;
  const napi_value* next_;
  Backend* device_ = nullptr;
};

inline bool overlap(const TensorView& a, const TensorView& b) {
  const char* a_begin = static_cast<const char*>(a.data);
  const char* b_begin = static_cast<const char*>(b.data);
  return a_begin < b_begin + b.bytes() && b_begin < a_begin + a.bytes();
}

// No output may overlap any other tensor of the call, except an input it equals where the op allows that.
template <typename Params>
void check_overlap(const char* op, const Params& params) {
  params.visit([&](const char* out_name, const auto& out) {
    using Out = std::decay_t<decltype(out)>;
    if constexpr (is_tensor_arg<Out>) {
      if (Out::kAccess == Access::in || !out) return;
      params.visit([&](const char* other_name, const auto& other) {
        using Other = std::decay_t<decltype(other)>;
        if constexpr (is_tensor_arg<Other>) {
          if (static_cast<const void*>(&out) == static_cast<const void*>(&other) || !other) return;
          if (!overlap(out, other)) return;
          const bool same = out.data == other.data && out.bytes() == other.bytes();
          if (InPlace<Params> && same && Other::kAccess == Access::in) return;
          throw Error(ErrorKind::value, op, out_name,
                      "\"" + std::string(out_name) + "\" shares memory with \"" + other_name + "\"");
        }
      });
    }
  });
}

template <typename Params>
void check_float_dtype(const char* op, const Params& params, const Backend& device) {
  if constexpr (!AnyDType<Params>) {
    params.visit([&](const char* name, const auto& tensor) {
      if constexpr (is_tensor_arg<std::decay_t<decltype(tensor)>>) {
        if (!tensor || tensor.dtype == DType::i32 || tensor.dtype == device.compute_dtype()) return;
        throw Error(ErrorKind::dtype, op, name,
                    "\"" + std::string(name) + "\" is " + hr::name(tensor.dtype) + ", but device " +
                        device.name() + " computes in " + hr::name(device.compute_dtype()));
      }
    });
  }
}

template <typename Params>
napi_value call_op(napi_env env, napi_callback_info info, const char* op,
                   void (*OpTable::*entry)(Stream&, const Params&)) noexcept {
  return guarded(env, [&]() -> napi_value {
    const auto args = read_args<count_fields<Params>()>(env, info, op);
    Params params;
    ArgDecoder decode(env, op, args.data());
    params.visit(decode);
    params.check();
    check_float_dtype(op, params, decode.device());
    check_overlap(op, params);
    Backend& device = decode.device();
    (device.ops().*entry)(device.stream(), params);
    return nullptr;
  });
}

}  // namespace hr::binding
