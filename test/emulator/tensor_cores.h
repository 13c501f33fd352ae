// tensor_cores: the warp's matrix instructions on the host. Layouts: cuda/intrinsics.h.
#pragma once

#include <cstdint>

#include "test/emulator/block.h"

namespace hr::emulator {

enum class Element { bf16, tf32 };

void load_matrices(uint32_t (&r)[4], const void* row, bool transposed, Where where);

// All rows x columns tiles in one rendezvous of the warp, which is what makes it fast.
void multiply(Element element, int rows, int columns, float* sums, const uint32_t* a, const uint32_t* b,
              Where where);

uint32_t rounded_to_bf16_pair(float low, float high);

}  // namespace hr::emulator
