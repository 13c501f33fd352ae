// describe_ops: the op table as data, for the generator of the TypeScript types.
#pragma once

#include <node_api.h>

namespace hr::binding {

// [{ name, params: [{ name, kind, ... }] }] in wire order. `kind` is "tensor" (with access and optional),
// "integer", "number", "boolean" or "enum" (with type and values).
napi_value describe_ops(napi_env env);

}  // namespace hr::binding
