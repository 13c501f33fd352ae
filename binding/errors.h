// errors: from C++ exceptions to JavaScript exceptions.
//
// The TypeScript layer registers one function that builds its error classes from plain data; calling it
// inside the failed call keeps the caller's stack. Nothing else in binding/ creates errors.
#pragma once

#include <napi.h>

#include <exception>
#include <new>

#include "ops/error.h"

namespace hr::binding {

// Thrown when a Node-API call failed: a JavaScript exception is already pending, or the environment is
// shutting down. Caught by guarded().
struct JsException : std::exception {};

inline void ok(napi_status status) {
  if (status != napi_ok) throw JsException();
}

// The JavaScript value for an error, built by the registered factory (a plain Error without one).
napi_value error_value(napi_env env, const Error& error);
void throw_error(napi_env env, const Error& error) noexcept;
void set_error_factory(napi_env env, napi_value factory);

// Runs the body of a native function; whatever it throws becomes a JavaScript exception.
template <typename Body>
napi_value guarded(napi_env env, Body&& body) noexcept {
  try {
    return body();
  } catch (const Error& error) {
    throw_error(env, error);
  } catch (const Napi::Error& error) {
    error.ThrowAsJavaScriptException();
  } catch (const JsException&) {
    bool pending = false;
    napi_is_exception_pending(env, &pending);
    if (!pending) napi_throw_error(env, nullptr, "hyperrouter: the JavaScript engine refused a call");
  } catch (const std::bad_alloc&) {
    throw_error(env, Error(ErrorKind::out_of_memory, "native", "", "the system has no memory left"));
  } catch (const std::exception& error) {
    throw_error(env, Error(ErrorKind::internal, "native", "", error.what()));
  }
  return nullptr;
}

}  // namespace hr::binding
