#include "binding/describe_ops.h"

#include <napi.h>

#include <type_traits>

#include "binding/bind_op.h"
#include "binding/errors.h"

namespace hr::binding {

namespace {

constexpr const char* access_name(Access access) {
  return access == Access::in ? "in" : access == Access::out ? "out" : "inout";
}

template <typename T>
void describe_kind(napi_env env, Napi::Object& param) {
  if constexpr (is_tensor_arg<T>) {
    param.Set("kind", "tensor");
    param.Set("access", access_name(T::kAccess));
    param.Set("optional", T::kOptional);
  } else if constexpr (std::is_same_v<T, bool>) {
    param.Set("kind", "boolean");
  } else if constexpr (std::is_enum_v<T>) {
    param.Set("kind", "enum");
    param.Set("type", EnumNames<T>::type);
    Napi::Array values = Napi::Array::New(env);
    for (const char* name : EnumNames<T>::names) values.Set(values.Length(), name);
    param.Set("values", values);
  } else {
    param.Set("kind", std::is_same_v<T, double> ? "number" : "integer");
  }
}

template <typename Params>
Napi::Object describe_op(napi_env env, const char* name) {
  Napi::Array params = Napi::Array::New(env);
  Params{}.visit([&](const char* field_name, const auto& field) {
    Napi::Object param = Napi::Object::New(env);
    param.Set("name", field_name);
    describe_kind<std::decay_t<decltype(field)>>(env, param);
    params.Set(params.Length(), param);
  });
  Napi::Object op = Napi::Object::New(env);
  op.Set("name", name);
  op.Set("params", params);
  return op;
}

}  // namespace

napi_value describe_ops(napi_env env) {
  Napi::Array ops = Napi::Array::New(env);
#define HR_DESCRIBE(op, Params) ops.Set(ops.Length(), describe_op<Params>(env, #op));
  HR_ALL_OPS(HR_DESCRIBE)
#undef HR_DESCRIBE
  return ops;
}

}  // namespace hr::binding
