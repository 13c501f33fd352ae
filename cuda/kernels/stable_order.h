// stable_order: positions in ascending order of their keys, equal keys in ascending order of position.
#pragma once

#include <cstdint>

#include "cuda/context.h"

namespace hr::cuda {

// order[0 .. n - 1]: the positions 0 .. n - 1 sorted by keys[position], each in 0 .. num_keys - 1. order and
// what it is made of are workspace of the op.
const int32_t* stable_order(Context& ctx, const int32_t* keys, int64_t n, int64_t num_keys);

}  // namespace hr::cuda
