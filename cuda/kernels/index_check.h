// index_check: refuses an index tensor with an entry out of range, before anything is read or written by it.
//
// These checks are launches of their own, in front of the kernels that use the indices: when one finds a bad
// entry, they and everything after them do nothing (cuda/failure.h). A first launch that writes only
// workspace checks the indices itself (index_failure.h, rising_entries.h).
#pragma once

#include <cstdint>

#include "cuda/context.h"
#include "cuda/kernels/rising_entries.h"

namespace hr::cuda {

// Fails for the first of the n entries outside low .. high.
void check_indices(Context& ctx, const char* op, const char* arg, const int32_t* indices, int64_t n,
                   int64_t low, int64_t high);

// The same for entries outside 0 .. *end - 1, where only the device knows `end`.
void check_indices_below(Context& ctx, const char* op, const char* arg, const int32_t* indices, int64_t n,
                         const int32_t* end);

// Fails for the first entry that does not rise as it has to.
void check_rising(Context& ctx, const char* op, const char* arg, const RisingEntries& entries);

}  // namespace hr::cuda
