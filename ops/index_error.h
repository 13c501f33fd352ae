// index_error: the error for an index tensor whose content is out of range, found when the op runs.
#pragma once

#include <cstdint>
#include <string>

#include "ops/error.h"

namespace hr {

// Error{value}, for example `embed: ids[7] is 99, expected 0 to 15`.
inline Error index_error(const char* op, const char* arg, int64_t position, int32_t value, int64_t low,
                         int64_t high) {
  return Error(ErrorKind::value, op, arg,
               std::string(arg) + "[" + std::to_string(position) + "] is " + std::to_string(value) +
                   ", expected " + std::to_string(low) + " to " + std::to_string(high));
}

}  // namespace hr
