#include "cpu/index_error.h"

#include "ops/index_error.h"

namespace hr::cpu {

void throw_index_error(const char* op, const char* arg, int64_t position, int32_t value, int64_t low,
                       int64_t high) {
  throw index_error(op, arg, position, value, low, high);
}

}  // namespace hr::cpu
