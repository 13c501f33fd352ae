#include "cpu/index_error.h"

#include <string>

#include "ops/error.h"

namespace hr::cpu {

void throw_index_error(const char* op, const char* arg, int64_t position, int32_t value, int64_t low,
                       int64_t high) {
  throw Error(ErrorKind::value, op, arg,
              std::string(arg) + "[" + std::to_string(position) + "] is " + std::to_string(value) +
                  ", expected " + std::to_string(low) + " to " + std::to_string(high));
}

}  // namespace hr::cpu
