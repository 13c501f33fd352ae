// promise: a JavaScript promise that a backend's stream settles.
#pragma once

#include <node_api.h>

#include <memory>

#include "ops/backend.h"

namespace hr::binding {

// Creates a promise (stored in *promise) and the completion that settles it: with `value` when the stream
// gets there without an error, else with that error. `value` stays referenced until then.
std::unique_ptr<Completion> make_promise(napi_env env, Backend& backend, napi_value value,
                                         napi_value* promise);

}  // namespace hr::binding
