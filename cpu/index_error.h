// index_error: the error for an index tensor whose content is out of range.
#pragma once

#include <cstdint>

namespace hr::cpu {

// Throws Error{value}, for example `embed: ids[7] is 99, expected 0 to 15`. Compiled for the baseline: kernel
// files build no strings (see isa.h).
[[noreturn]] void throw_index_error(const char* op, const char* arg, int64_t position, int32_t value,
                                    int64_t low, int64_t high);

}  // namespace hr::cpu
