// host_device: marks an inline function that runs on the host and, compiled by nvcc, on the device too.
//
// On the host it is always inlined: no copy compiled for one instruction set can be linked into code for
// another (see cpu/isa.h).
#pragma once

#ifdef __CUDACC__
#define HR_HD __host__ __device__
#else
#define HR_HD __attribute__((always_inline))
#endif
