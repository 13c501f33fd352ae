// launch: hands a kernel to an emulated stream.
#pragma once

#include <cuda_runtime.h>

#include "test/emulator/block.h"

namespace hr::emulator {

// Queues all blocks of the launch; the stream decides when copies arrive and in which order threads run.
void enqueue(cudaStream_t stream, Launch launch);

}  // namespace hr::emulator
