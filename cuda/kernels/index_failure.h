// index_failure: how a kernel refuses an index tensor for an entry out of range. Where a kernel that writes
// only workspace reads the indices anyway, it saves the launch of index_check.h.
#pragma once

#include "cuda/launch.h"

namespace hr::cuda {

struct IndexFailure {
  FailureRecord* record;
  uint64_t ticket;  // of the launch that checks
  const char* op;
  const char* arg;

  static IndexFailure next_launch(Context& ctx, const char* op, const char* arg) {
    return {ctx.failure, ctx.last_ticket() + 1, op, arg};
  }

  // That launch may write nothing but workspace: it is the last to run. Of several calls the one for the
  // lowest position counts; op, arg, low and high must be the same.
  HR_DEVICE void operator()(int64_t position, int32_t value, int64_t low, int64_t high) const {
    atomic_min(&record->entry, static_cast<uint64_t>(position) << 32 | static_cast<uint32_t>(value));
    record->op = op;
    record->arg = arg;
    record->low = low;
    record->high = high;
    record->ticket = ticket;
  }
};

}  // namespace hr::cuda
