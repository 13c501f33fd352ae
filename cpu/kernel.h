// kernel: what a CPU kernel is, a function of a Context and an op's checked parameters.
//
// Kernels run one at a time, in call order, on the stream's thread, and fan out over its pool. Each file
// in kernels/ is compiled once per instruction set into its own namespace (see isa.h); `reference` is one of
// them: plain loops in double over f64 tensors, the oracle of the tests.
//
// Rules. Arguments were checked at the call (ops/*.h); contents were not: a kernel validates every index it
// reads from an i32 tensor and throws hr::Error{value} for a bad one. A result may depend neither on the
// number of threads nor on which thread ran which task: tasks are cut by size alone, and partial sums are
// added in task order.
#pragma once

#include "cpu/thread_pool.h"
#include "ops/op_table.h"
#include "ops/precision.h"

namespace hr::cpu {

struct Context {
  ThreadPool& pool;
  Scratch& workspace;  // of the stream's thread, shared with all tasks of the running kernel
  Precision precision;
};

struct KernelTable {
#define HR_KERNEL_FIELD(op, Params) void (*op)(Context&, const Params&) = nullptr;
  HR_ALL_OPS(HR_KERNEL_FIELD)
#undef HR_KERNEL_FIELD
};

}  // namespace hr::cpu
