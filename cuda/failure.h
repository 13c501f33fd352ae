// failure: what a kernel leaves behind when it meets content it must refuse.
//
// One record in device memory. A launch that finds a bad index writes its ticket and the entry here; every
// later launch sees a smaller ticket than its own and does nothing, so what follows a failed op is skipped,
// parameter updates included. The record is copied to the host with every completion.
#pragma once

#include <cstdint>

namespace hr::cuda {

struct FailureRecord {
  uint64_t ticket;  // of the launch that failed; all bits set: none did
  uint64_t entry;   // position << 32 | value of the first bad entry of the index tensor
  const char* op;   // host strings: the device only carries them
  const char* arg;
  int64_t low, high;  // what the entry may be
};

}  // namespace hr::cuda
