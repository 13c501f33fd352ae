// read_value: strict conversion of JavaScript arguments. Every mismatch is an hr::Error that names the
// function and the argument; nothing is coerced.
#pragma once

#include <node_api.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "binding/errors.h"
#include "ops/enum.h"
#include "ops/tensor.h"

namespace hr::binding {

struct ArgName {
  const char* op;
  const char* arg;
};

// The arguments of a call that takes exactly kCount.
template <size_t kCount>
std::array<napi_value, kCount + 1> read_args(napi_env env, napi_callback_info info, const char* function) {
  std::array<napi_value, kCount + 1> values{};  // room for one too many
  size_t count = values.size();
  ok(napi_get_cb_info(env, info, &count, values.data(), nullptr, nullptr));
  if (count != kCount) {
    throw Error(ErrorKind::value, function, "arguments",
                "takes " + std::to_string(kCount) + " arguments, got " + std::to_string(count));
  }
  return values;
}

[[noreturn]] inline void wrong_type(ArgName name, const char* expected) {
  throw Error(ErrorKind::value, name.op, name.arg, "\"" + std::string(name.arg) + "\" must be " + expected);
}

inline napi_valuetype type_of(napi_env env, napi_value value) {
  napi_valuetype type;
  ok(napi_typeof(env, value, &type));
  return type;
}

inline double read_number(napi_env env, napi_value value, ArgName name) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok) wrong_type(name, "a number");
  return number;
}

// An integer that a double holds exactly.
inline int64_t read_integer(napi_env env, napi_value value, ArgName name) {
  const double number = read_number(env, value, name);
  if (!(std::abs(number) <= 9007199254740991.0) || number != std::trunc(number)) {
    wrong_type(name, "an integer");
  }
  return static_cast<int64_t>(number);
}

inline bool read_boolean(napi_env env, napi_value value, ArgName name) {
  bool flag;
  if (napi_get_value_bool(env, value, &flag) != napi_ok) wrong_type(name, "a boolean");
  return flag;
}

inline std::string read_string(napi_env env, napi_value value, ArgName name) {
  constexpr size_t kLongest = 256;
  char text[kLongest + 1];
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, text, sizeof text, &length) != napi_ok) {
    wrong_type(name, "a string");
  }
  return std::string(text, length);
}

// One of the names of an HR_ENUM.
template <typename E>
E read_enum(napi_env env, napi_value value, ArgName name) {
  const std::string text = read_string(env, value, name);
  std::string expected;
  for (int i = 0; i < EnumNames<E>::count; ++i) {
    if (text == EnumNames<E>::names[i]) return static_cast<E>(i);
    expected += std::string(i ? ", " : "") + EnumNames<E>::names[i];
  }
  throw Error(ErrorKind::value, name.op, name.arg,
              "\"" + std::string(name.arg) + "\" is \"" + text + "\", expected one of " + expected);
}

// A shape: an array of 1 to kMaxRank positive integers. A scalar has shape [1].
void read_shape(napi_env env, napi_value value, ArgName name, TensorView& view);

DType read_dtype(napi_env env, napi_value value, ArgName name);

}  // namespace hr::binding
