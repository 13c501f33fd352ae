// index_check: refuses an index tensor with an entry out of range, before anything is read or written by it.
//
// A check is a launch of its own, in front of the kernels that use the indices: when it finds a bad entry,
// they and everything after them do nothing (cuda/failure.h).
#pragma once

#include <cstdint>

#include "cuda/context.h"

namespace hr::cuda {

// Fails for the first of the n entries outside low .. high.
void check_indices(Context& ctx, const char* op, const char* arg, const int32_t* indices, int64_t n,
                   int64_t low, int64_t high);

// The same for entries outside 0 .. *end - 1, where only the device knows `end`.
void check_indices_below(Context& ctx, const char* op, const char* arg, const int32_t* indices, int64_t n,
                         const int32_t* end);

// Fails unless offsets[0] is 0, the num_experts entries after it rise by least_rows or more each, and none
// exceeds num_routed.
void check_offsets(Context& ctx, const char* op, const int32_t* offsets, int64_t num_experts,
                   int64_t num_routed, int64_t least_rows = 0);

// Fails unless cutoffs[0] is `first` and each of the n cutoffs is above the one before.
void check_cutoffs(Context& ctx, const char* op, const int32_t* cutoffs, int64_t n, int64_t first);

}  // namespace hr::cuda
