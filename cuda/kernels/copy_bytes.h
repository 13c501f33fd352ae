// copy_bytes: a copy within the device that is skipped after a failed op, like every kernel.
#pragma once

#include "cuda/context.h"

namespace hr::cuda {

void copy_bytes(Context& ctx, void* to, const void* from, int64_t bytes);

}  // namespace hr::cuda
