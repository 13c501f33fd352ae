#include "binding/errors.h"

#include "binding/environment.h"

namespace hr::binding {

namespace {

// In the order of ErrorKind.
constexpr const char* kKindNames[] = {"shape",       "dtype",         "device",   "value",
                                      "unsupported", "out_of_memory", "disposed", "internal"};

napi_value string_value(napi_env env, const std::string& text) {
  napi_value value;
  ok(napi_create_string_utf8(env, text.data(), text.size(), &value));
  return value;
}

}  // namespace

void set_error_factory(napi_env env, napi_value factory) {
  napi_valuetype type;
  ok(napi_typeof(env, factory, &type));
  if (type != napi_function) {
    throw Error(ErrorKind::value, "setErrorFactory", "factory", "\"factory\" must be a function");
  }
  napi_ref& current = Environment::of(env).error_factory;
  if (current) napi_delete_reference(env, current);
  current = nullptr;
  ok(napi_create_reference(env, factory, 1, &current));
}

napi_value error_value(napi_env env, const Error& error) {
  napi_value result = nullptr;
  if (napi_ref factory = Environment::of(env).error_factory) {
    napi_value function, undefined;
    ok(napi_get_reference_value(env, factory, &function));
    ok(napi_get_undefined(env, &undefined));
    napi_value args[] = {string_value(env, kKindNames[static_cast<int>(error.kind())]),
                         string_value(env, error.op()), string_value(env, error.arg()),
                         string_value(env, error.detail())};
    ok(napi_call_function(env, undefined, function, 4, args, &result));
  } else {
    ok(napi_create_error(env, nullptr, string_value(env, error.what()), &result));
  }
  return result;
}

void throw_error(napi_env env, const Error& error) noexcept {
  try {
    ok(napi_throw(env, error_value(env, error)));
  } catch (const std::exception&) {
    // The factory threw, or the environment is shutting down: that exception is the pending one.
  }
}

}  // namespace hr::binding
