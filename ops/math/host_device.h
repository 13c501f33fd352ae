// host_device: marks a function that runs on the host and, compiled by nvcc, on the device too.
#pragma once

#ifdef __CUDACC__
#define HR_HD __host__ __device__
#else
#define HR_HD
#endif
