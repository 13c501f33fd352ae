#include "binding/describe_ops.h"

#include <string>
#include <type_traits>

#include "binding/bind_op.h"
#include "binding/errors.h"

namespace hr::binding {

namespace {

class Object {
 public:
  explicit Object(napi_env env) : env_(env) { ok(napi_create_object(env, &value_)); }
  void set(const char* key, const char* text) {
    napi_value string;
    ok(napi_create_string_utf8(env_, text, NAPI_AUTO_LENGTH, &string));
    set(key, string);
  }
  void set(const char* key, bool flag) {
    napi_value boolean;
    ok(napi_get_boolean(env_, flag, &boolean));
    set(key, boolean);
  }
  void set(const char* key, napi_value value) { ok(napi_set_named_property(env_, value_, key, value)); }
  napi_value value() const { return value_; }

 private:
  napi_env env_;
  napi_value value_;
};

class Array {
 public:
  explicit Array(napi_env env) : env_(env) { ok(napi_create_array(env, &value_)); }
  void add(napi_value element) { ok(napi_set_element(env_, value_, size_++, element)); }
  void add(const char* text) {
    napi_value string;
    ok(napi_create_string_utf8(env_, text, NAPI_AUTO_LENGTH, &string));
    add(string);
  }
  napi_value value() const { return value_; }

 private:
  napi_env env_;
  napi_value value_;
  uint32_t size_ = 0;
};

constexpr const char* access_name(Access access) {
  return access == Access::in ? "in" : access == Access::out ? "out" : "inout";
}

template <typename T>
void describe_kind(napi_env env, Object& param) {
  if constexpr (is_tensor_arg<T>) {
    param.set("kind", "tensor");
    param.set("access", access_name(T::kAccess));
    param.set("optional", T::kOptional);
  } else if constexpr (std::is_same_v<T, bool>) {
    param.set("kind", "boolean");
  } else if constexpr (std::is_enum_v<T>) {
    param.set("kind", "enum");
    param.set("type", EnumNames<T>::type);
    Array values(env);
    for (const char* name : EnumNames<T>::names) values.add(name);
    param.set("values", values.value());
  } else {
    param.set("kind", std::is_same_v<T, double> ? "number" : "integer");
  }
}

template <typename Params>
napi_value describe_op(napi_env env, const char* name) {
  Array params(env);
  Params{}.visit([&](const char* field_name, const auto& field) {
    Object param(env);
    param.set("name", field_name);
    describe_kind<std::decay_t<decltype(field)>>(env, param);
    params.add(param.value());
  });
  Object op(env);
  op.set("name", name);
  op.set("params", params.value());
  return op.value();
}

}  // namespace

napi_value describe_ops(napi_env env) {
  Array ops(env);
#define HR_DESCRIBE(op, Params) ops.add(describe_op<Params>(env, #op));
  HR_ALL_OPS(HR_DESCRIBE)
#undef HR_DESCRIBE
  return ops.value();
}

}  // namespace hr::binding
